"""The firecracker and jailer programs with tiny guests, as their clients use
them."""

import json
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import termios
import time

import images
import mayfly
from harness import Skip, eventually, native
from harness import program as daemon_program


CAP_SYS_RESOURCE = 1 << 24


def program(t, name="firecracker"):
    return os.path.join(t.build, "api", "firecracker", name)


def guest(name):
    return os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                        name + ".elf")


def environment(t, daemon=None):
    return {**os.environ, "MAYFLY_SOCKET": (daemon or t.daemon).socket}


def launch(t, *words, name="firecracker", daemon=None, **more):
    """Starts it; ended with the test."""
    more = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE, "cwd": t.dir,
            "env": environment(t, daemon), **more}
    p = subprocess.Popen([program(t, name), *words], **more)

    def end():
        if p.poll() is None:
            p.kill()
        p.communicate(timeout=10)
    t.cleanup(end)
    return p


def done(t, *words, name="firecracker", **more):
    """Runs it to its end: (status, standard output, standard error)."""
    p = subprocess.run(
        [program(t, name), *words], capture_output=True, text=True,
        timeout=30, check=False, cwd=t.dir, env=environment(t),
        stdin=subprocess.DEVNULL, **more)
    return p.returncode, p.stdout, p.stderr


def api_at(path):
    """The API at a socket that is about to be there."""
    eventually(path, lambda: os.path.exists(path))
    return mayfly.Api(path)


def configure(api, kernel):
    api.ok("PUT", "/boot-source", {"kernel_image_path": kernel})
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 16})


def start(api):
    api.ok("PUT", "/actions", {"action_type": "InstanceStart"})


def config_file(t, kernel, **more):
    path = t.path("config.json")
    with open(path, "w", encoding="ascii") as f:
        json.dump({"boot-source": {"kernel_image_path": guest(kernel)},
                   "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
                   "drives": [], **more}, f)
    return path


def vm_ids(t):
    return {vm["id"] for vm in t.api.ok("GET", "/v1/vms")["vms"]}


def no_vms(t):
    eventually("no VM left", lambda: not vm_ids(t))


@native()
def test_firecracker_lives_as_its_guest_does(t):
    sock = t.path("fc.sock")
    p = launch(t, "--api-sock", sock, "--id", "own-1")
    api = api_at(sock)
    assert api.ok("GET", "/")["id"] == "own-1"
    configure(api, guest("echo"))
    start(api)
    p.stdin.write(b"parrot")
    p.stdin.flush()
    seen = b""
    while b"parrot" not in seen:
        piece = os.read(p.stdout.fileno(), 4096)
        assert piece, seen
        seen += piece
    assert api.ok("GET", "/")["state"] == "Running"
    p.stdin.write(b"q")
    p.stdin.flush()
    assert p.wait(10) == 0
    assert not os.path.exists(sock)
    assert "own-1" not in vm_ids(t)


@native()
def test_firecracker_with_a_configuration_file(t):
    path = config_file(t, "strings")
    status, out, err = done(t, "--no-api", "--config-file", path)
    assert (status, err) == (0, ""), (status, err)
    assert out, "nothing was printed"
    # Its API is there as well, unless it is not wanted.
    sock = t.path("s")
    p = launch(t, "--api-sock", sock, "--config-file",
               config_file(t, "puppet"))
    api = api_at(sock)
    eventually("a start", lambda: api.ok("GET", "/")["state"] == "Running")
    assert api.ok("GET", "/vm/config")["machine-config"]["mem_size_mib"] == 16
    p.stdin.write(b"b")
    p.stdin.flush()
    assert p.wait(10) == 0
    no_vms(t)


@native()
def test_firecracker_returns_firecrackers_statuses(t):
    # A guest's end is one, however it came to it.
    for kernel, says in (("shutdown", ""), ("reset", ""), ("panic", "panic"),
                         ("triple", "triple_fault")):
        status, _, err = done(t, "--no-api", "--config-file",
                              config_file(t, kernel))
        assert (status, says in err) == (0, True), (kernel, status, err)
    bad = (
        ("config file: a kernel that is none", 152, "kernel",
         ["--no-api", "--config-file", config_file(
             t, "puppet", **{"boot-source": {"kernel_image_path":
                                             "/etc/passwd"}})]),
        ("unknown option", 153, "--wrong", ["--wrong"]),
        ("a word", 153, "word", ["word"]),
        ("twice", 153, "twice", ["--id", "a", "--id", "b"]),
        ("no value", 153, "needs a value", ["--id"]),
        ("no-api alone", 153, "--config-file", ["--no-api"]),
        ("filter", 153, "no filters", ["--seccomp-filter", "/x"]),
        ("pci", 153, "virtio-mmio", ["--enable-pci"]),
        ("snapshots", 153, "snapshots", ["--describe-snapshot", "/x"]),
        ("payload", 153, "51200",
         ["--http-api-max-payload-size", "51201"]),
        ("level", 152, "loud", ["--level", "loud"]),
        ("id", 1, "id", ["--id", "a/b", "--api-sock", t.path("x")]),
        ("socket", 1, "api_socket.path",
         ["--api-sock", "/no/such/directory/s"]),
    )
    for what, want, says, words in bad:
        status, _, err = done(t, *words)
        assert (status, says in err) == (want, True), (what, status, err)
    for text, says in (("{", "config.json"), ("[]", "no JSON object"),
                       ('{"start": true}', "start"),
                       ('{"nonsense": {}}', "nonsense"),
                       ('{"cpu-config": "/none"}', "/none")):
        with open(t.path("config.json"), "w", encoding="ascii") as f:
            f.write(text)
        status, _, err = done(t, "--no-api", "--config-file",
                              t.path("config.json"))
        assert (status, says in err) == (152, True), (text, status, err)
    no_vms(t)


@native()
def test_firecracker_says_what_it_is(t):
    status, out, _ = done(t, "--version")
    assert status == 0
    first = out.splitlines()[0].split(" ")
    assert first[0] == "Firecracker" and first[1].startswith("v1."), out
    assert done(t, "--version", name="jailer")[1].startswith("Jailer v1.")
    for name in ("firecracker", "jailer"):
        assert "Usage: " + name in done(t, "--help", name=name)[1]


@native()
def test_firecracker_accepts_what_is_harmless(t):
    path = config_file(t, "shutdown")
    status, _, err = done(
        t, "--no-api", "--config-file", path, "--no-seccomp", "--boot-timer",
        "--start-time-us", "1", "--start-time-cpu-us", "2",
        "--parent-cpu-time-us=3", "--http-api-max-payload-size", "51200",
        "--mmds-size-limit", "1000")
    assert status == 0, err
    assert "--no-seccomp" in err and "--boot-timer" in err, err


@native(limit=180)
def test_firecrackers_come_in_bursts(t):
    """A socket that can be seen can be talked to, however many come at once."""
    socks = [t.path(f"b{i}") for i in range(24)]
    programs = [launch(t, "--api-sock", s, "--id", f"burst-{i}")
                for i, s in enumerate(socks)]
    for i, sock in enumerate(socks):
        eventually(sock, lambda s=sock: os.path.exists(s), interval=0)
        api = mayfly.Api(sock)
        assert api.ok("GET", "/")["id"] == f"burst-{i}"
        configure(api, guest("shutdown"))
        start(api)
    assert [p.wait(20) for p in programs] == [0] * len(programs)
    no_vms(t)


@native()
def test_firecracker_finds_a_name_unless_it_has_one(t):
    a = launch(t, "--api-sock", t.path("a"))
    first = api_at(t.path("a")).ok("GET", "/")["id"]
    b = launch(t, "--api-sock", t.path("b"))
    second = api_at(t.path("b")).ok("GET", "/")["id"]
    assert first == "anonymous-instance" != second, (first, second)
    assert second.startswith(first), second
    c = launch(t, "--api-sock", t.path("c"), "--id", second)
    assert c.wait(10) == 1
    assert b"already" in c.stderr.read()
    assert vm_ids(t) == {first, second}
    for p in (a, b):
        p.send_signal(signal.SIGTERM)
        assert p.wait(10) == -signal.SIGTERM
    no_vms(t)


@native()
def test_firecracker_takes_its_vm_along(t):
    for number, status in ((signal.SIGTERM, -signal.SIGTERM),
                           (signal.SIGINT, -signal.SIGINT),
                           (signal.SIGHUP, 156),
                           (signal.SIGKILL, -signal.SIGKILL)):
        for running in (False, True):
            sock = t.path(f"s{number}{running}")
            p = launch(t, "--api-sock", sock, "--id", "taken")
            api = api_at(sock)
            configure(api, guest("puppet"))
            if running:
                start(api)
                pid = t.api.ok("GET", "/v1/vms/taken")["pid"]
            p.send_signal(number)
            assert p.wait(10) == status, (number, running, p.returncode)
            no_vms(t)
            assert not os.path.exists(sock)
            if running:
                assert not os.path.exists(f"/proc/{pid}")


@native()
def test_firecracker_has_its_paths_where_it_was_started(t):
    os.symlink(guest("puppet"), t.path("kernel"))
    p = launch(t, "--api-sock", "fc.sock", "--log-path", "vm.log", "--level",
               "Debug", "--show-level", "--metrics-path", "vm.metrics")
    api = api_at(t.path("fc.sock"))
    configure(api, "./kernel")
    start(api)
    p.stdin.write(b"b")
    p.stdin.flush()
    assert p.wait(10) == 0
    with open(t.path("vm.log"), encoding="ascii") as f:
        log = f.read()
    assert "INFO] PUT /actions: 204" in log and "ended: shutdown" in log, log
    with open(t.path("vm.metrics"), encoding="ascii") as f:
        lines = [json.loads(line) for line in f]
    assert sum(line["put_api_requests"]["actions_count"]
               for line in lines) == 1, lines


@native()
def test_firecracker_logs_to_its_own_output(t):
    p = launch(t, "--no-api", "--log-path", "/dev/stderr", "--config-file",
               config_file(t, "shutdown"))
    assert p.wait(10) == 0
    assert b"ended: shutdown" in p.stderr.read()


@native()
def test_firecracker_brings_metadata(t):
    with open(t.path("m.json"), "w", encoding="ascii") as f:
        json.dump({"latest": {"id": "x1"}}, f)
    sock = t.path("s")
    launch(t, "--api-sock", sock, "--metadata", "m.json")
    api = api_at(sock)
    eventually("metadata", lambda: api.ok("GET", "/mmds") == {
        "latest": {"id": "x1"}})
    status, _, err = done(t, "--api-sock", t.path("t"), "--metadata", "none")
    assert status == 1 and "none" in err, (status, err)


@native()
def test_firecracker_survives_that_nobody_reads(t):
    p = launch(t, "--no-api", "--config-file", config_file(t, "strings"))
    p.stdout.close()
    assert p.wait(10) == 0
    p.stdout = None


@native()
def test_firecracker_may_be_started_without_any_descriptor(t):
    program_and_words = [program(t), "--no-api", "--config-file",
                         config_file(t, "shutdown")]
    done_so = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *program_and_words],
        env=environment(t), timeout=20, check=False, cwd=t.dir)
    assert done_so.returncode == 0
    no_vms(t)


@native()
def test_firecracker_is_for_everybody_the_daemon_lets_in(t):
    nobody = 65534
    os.chmod(t.daemon.socket, 0o666)
    for path in (t.dir, t.file.dir, os.path.dirname(t.daemon.socket)):
        os.chmod(path, 0o755)
    os.chown(t.dir, nobody, nobody)
    # The tree may be nobody's to read.
    copy = shutil.copy(program(t), t.path("firecracker"))
    os.chmod(copy, 0o755)
    p = subprocess.Popen(
        [copy, "--api-sock", "s", "--log-path", "log"], cwd=t.dir,
        env=environment(t), stdin=subprocess.DEVNULL, user=nobody,
        group=nobody, extra_groups=[])
    t.cleanup(lambda: (p.kill(), p.wait()))
    api = api_at(t.path("s"))
    configure(api, guest("puppet"))
    api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v"})
    start(api)
    for name in ("s", "log", "v"):
        assert os.stat(t.path(name)).st_uid == nobody, name
    p.terminate()
    assert p.wait(10) == -signal.SIGTERM
    no_vms(t)


@native()
def test_firecracker_gives_its_terminal_to_the_guest(t):
    sock = t.path("s")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["MAYFLY_SOCKET"] = t.daemon.socket
        os.execv(program(t), ["firecracker", "--api-sock", sock])
    try:
        before = termios.tcgetattr(terminal)[3]
        api = api_at(sock)
        configure(api, guest("echo"))
        assert before & termios.ECHO
        start(api)
        eventually("a raw terminal", lambda: not (
            termios.tcgetattr(terminal)[3] & termios.ECHO))
        # Ctrl-C is the guest's.
        os.write(terminal, b"\x03parrot")
        seen = b""
        while b"parrot" not in seen:
            seen += os.read(terminal, 4096)
        os.write(terminal, b"q")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
    finally:
        os.close(terminal)


# jailer.

def jailer_words(t, vm_id="j1"):
    os.makedirs(t.path("base"), exist_ok=True)
    return ["--id", vm_id, "--exec-file", program(t), "--uid", "123", "--gid",
            "100", "--chroot-base-dir", t.path("base")]


def root_of(t, vm_id="j1"):
    return os.path.join(t.path("base"), "firecracker", vm_id, "root")


def put_kernel(root, name="puppet"):
    with open(guest(name), "rb") as f, \
            open(os.path.join(root, "kernel"), "wb") as to:
        to.write(f.read())


@native()
def test_jailer_has_its_own_root(t):
    root = root_of(t)
    p = launch(t, *jailer_words(t), "--", "--log-path", "vm.log",
               name="jailer")
    sock = os.path.join(root, "run", "firecracker.socket")
    api = api_at(sock)
    for path in (root, os.path.join(root, "run"), sock,
                 os.path.join(root, "vm.log")):
        st = os.stat(path)
        assert (st.st_uid, st.st_gid) == (123, 100), path
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o700
    put_kernel(root)
    os.symlink("/etc/passwd", os.path.join(root, "leak"))
    images.blank(t.path("base/outside"), 1 << 20)
    for path in ("/etc/passwd", "leak", "../../../outside",
                 t.path("base/outside")):
        api.refused("PUT", "/drives/d", {
            "drive_id": "d", "path_on_host": path, "is_root_device": False},
            "is not there", 400)
    configure(api, "/kernel")
    start(api)
    p.stdin.write(b"b")
    p.stdin.flush()
    assert p.wait(10) == 0
    assert not os.path.exists(sock)
    no_vms(t)


def is_dead(pid):
    """Or about to be reaped by whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@native()
def test_jailer_finds_a_configuration_file_in_its_root(t):
    root = root_of(t)
    os.makedirs(root)
    put_kernel(root, "strings")
    images.blank(os.path.join(root, "drive"), 1 << 20)
    with open(os.path.join(root, "vm.json"), "w", encoding="ascii") as f:
        json.dump({
            "boot-source": {"kernel_image_path": "/kernel"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
            "drives": [{"drive_id": f"drive{i}", "path_on_host": "drive",
                        "is_root_device": False, "is_read_only": True}
                       for i in range(8)],
            "logger": {"log_path": "/run/log"}}, f)
    status, out, err = done(t, *jailer_words(t), "--", "--no-api",
                            "--config-file", "/vm.json", name="jailer")
    assert (status, err) == (0, "") and out, (status, err)
    assert os.stat(os.path.join(root, "run", "log")).st_uid == 123
    # What is outside is not there.
    os.symlink("/etc/hostname", os.path.join(root, "out.json"))
    for name in ("/etc/hostname", "out.json", "../../../config.json"):
        status, _, err = done(t, *jailer_words(t), "--", "--no-api",
                              "--config-file", name, name="jailer")
        assert status == 152 and "No such file" in err, (name, status, err)


@native()
def test_taps_are_those_of_the_namespace(t):
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    netns, tap = "mayfly-fc-ns", "mf-fc-ns"

    def ip(*words, check=True):
        return subprocess.run(["ip", *words], check=check,
                              capture_output=True).returncode
    ip("netns", "add", netns)
    t.cleanup(lambda: ip("netns", "del", netns, check=False))
    ip("-n", netns, "tuntap", "add", tap, "mode", "tap")

    def try_tap(api):
        return api.request("PUT", "/network-interfaces/e", {
            "iface_id": "e", "host_dev_name": tap}).status
    cases = (
        (t.path("a"), 400, launch(t, "--api-sock", t.path("a"))),
        (os.path.join(root_of(t), "run", "firecracker.socket"), 204,
         launch(t, *jailer_words(t), "--netns", "/var/run/netns/" + netns,
                name="jailer")),
    )
    for sock, status, p in cases:
        assert try_tap(api_at(sock)) == status, sock
        p.terminate()
        p.wait(10)
    no_vms(t)
    # As whoever knows no --netns does it.
    p = subprocess.Popen(
        ["ip", "netns", "exec", netns, program(t), "--api-sock", t.path("c")],
        env=environment(t), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL)
    t.cleanup(lambda: (p.kill(), p.wait()))
    assert try_tap(api_at(t.path("c"))) == 204


@native()
def test_jailer_goes_into_the_background(t):
    for vm_id, more in (("d1", ["--daemonize"]), ("d2", ["--new-pid-ns"]),
                        ("d3", ["--daemonize", "--new-pid-ns"])):
        root = root_of(t, vm_id)
        p = launch(t, *jailer_words(t, vm_id), *more, "--", name="jailer",
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   start_new_session=True)
        api = api_at(os.path.join(root, "run", "firecracker.socket"))
        # It was the leader of its group, so another went on.
        assert p.wait(10) == 0
        with open(os.path.join(root, "firecracker.pid"),
                  encoding="ascii") as f:
            pid = int(f.read())
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            assert f.read() == "firecracker\n"
        assert os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"
        put_kernel(root)
        configure(api, "kernel")
        start(api)
        os.kill(pid, signal.SIGTERM)
        no_vms(t)
        eventually("its end", lambda: is_dead(pid))


def limits_of(pid):
    """Soft limits, by what /proc calls them."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        return {line[:25].strip(): line[26:].split()[0]
                for line in f.read().splitlines()[1:]}


def start_jailed(t, *words):
    """A puppet under jailer: its program."""
    p = launch(t, *jailer_words(t), *words, "--", name="jailer")
    api = api_at(os.path.join(root_of(t), "run", "firecracker.socket"))
    put_kernel(root_of(t))
    configure(api, "kernel")
    start(api)
    return p


def jailed_pid(t):
    return t.api.ok("GET", "/v1/vms/j1")["pid"]


@native()
def test_jailer_sets_control_groups(t):
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    p = start_jailed(
        t, "--cgroup", "pids.max=77", "--cgroup", "cpuset.cpus=0",
        "--cgroup-version", "2" if v2 else "1")
    pid = jailed_pid(t)

    def group(controller):
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
            lines = [line.strip().split(":") for line in f]
        mount = "/sys/fs/cgroup" + ("" if v2 else "/" + controller)
        return mount + next(
            line[2] for line in lines
            if controller in line[1].split(",") or (v2 and not line[1]))

    def setting(controller, file):
        with open(f"{group(controller)}/{controller}.{file}",
                  encoding="ascii") as f:
            return f.read().strip()
    eventually("a limit", lambda: setting("pids", "max") == "77")
    eventually("its CPUs", lambda: setting("cpuset", "cpus") == "0")
    cpuset = group("cpuset")
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == -signal.SIGTERM
    assert not os.path.exists(cpuset)


@native()
def test_jailer_sets_resource_limits(t):
    with open("/proc/self/status", encoding="ascii") as f:
        caps = int(next(line.split()[1] for line in f
                        if line.startswith("CapEff")), 16)
    p = start_jailed(t, "--resource-limit", "fsize=1048576",
                     "--resource-limit", "no-file=333")
    if not caps & CAP_SYS_RESOURCE:
        # Then it may not, says so, and there is no VM without its limits.
        assert p.wait(10) == 1
        assert b"--resource-limit" in p.stderr.read()
        no_vms(t)
        return
    pid = jailed_pid(t)
    eventually("limits", lambda: limits_of(pid)["Max open files"] == "333")
    assert limits_of(pid)["Max file size"] == "1048576", limits_of(pid)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == -signal.SIGTERM


@native()
def test_jailer_says_what_cannot_be(t):
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    good = jailer_words(t)
    cases = [
        ([], "--id, --exec-file, --uid and --gid"),
        (good[:4], "--uid"),
        (["--id", "a_b", *good[2:]], "--id"),
        (["--id", "../x", *good[2:]], "--id"),
        ([*good[:2], "--exec-file", "/none", *good[4:]], "--exec-file"),
        ([*good[:2], "--exec-file", "/bin/sh", *good[4:]], "firecracker"),
        ([*good[:4], "--uid", "root", *good[6:]], "--uid"),
        ([*good, "--netns", "/proc/1/ns/net"], "/run/netns"),
        ([*good, "--cgroup", "x"], "FILE=VALUE"),
        ([*good, "--cgroup", "../x.y=1"], "FILE=VALUE"),
        ([*good, "--cgroup-version", "3"], "must be 1 or 2"),
        ([*good, "--cgroup-version", "1" if v2 else "2"], "are of version"),
        ([*good, "--resource-limit", "cpu=1"], "--resource-limit"),
        ([*good, "--resource-limit", "fsize=x"], "--resource-limit"),
        ([*good, "--node", "999"], "no node"),
        ([*good, "--parent-cgroup", "../x"], "--parent-cgroup"),
        ([*good, "--", "--enable-pci"], "--enable-pci"),
        ([*good, "--", "--id", "z"], "--id"),
        ([*good, "--nonsense"], "--nonsense"),
    ]
    for words, says in cases:
        status, _, err = done(t, *words, name="jailer")
        assert status == 1 and says in err, (words, status, err)
    assert not os.listdir(t.path("base"))


@native()
def test_jailer_ends_a_vm_it_cannot_limit(t):
    root = root_of(t)
    p = launch(t, *jailer_words(t), "--cgroup", "nonsense.max=1", "--",
               name="jailer")
    api = api_at(os.path.join(root, "run", "firecracker.socket"))
    put_kernel(root)
    configure(api, "kernel")
    start(api)
    assert p.wait(10) == 1
    assert b"nonsense.max" in p.stderr.read()
    no_vms(t)


@native()
def test_firecracker_waits_for_its_daemon_no_longer_than_its_owner(t):
    daemon = t.own_daemon()
    sock = t.path("s")
    p = launch(t, "--api-sock", sock, daemon=daemon)
    api_at(sock)
    assert daemon.stop() == 0
    deadline = time.monotonic() + 1
    while p.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) in (1, -signal.SIGTERM), p.returncode


# Without a daemon.

def replace_daemon(t, daemon, between=lambda: None):
    """Killed, and another in its place."""
    daemon.process.kill()
    daemon.process.wait()
    between()
    heir = mayfly.Daemon(daemon_program(t.build), daemon.dir)
    t.cleanup(heir.close)
    return heir


@native()
def test_firecracker_outlives_its_daemon(t):
    daemon = t.own_daemon()
    sock = t.path("s")
    p = launch(t, "--api-sock", sock, "--id", "stays", "--log-path", "vm.log",
               "--metrics-path", "vm.metrics", daemon=daemon)
    api = api_at(sock)
    configure(api, guest("echo"))
    start(api)
    seen = b""

    def type_and_see(text):
        nonlocal seen
        p.stdin.write(text)
        p.stdin.flush()
        while not seen.endswith(text):
            piece = os.read(p.stdout.fileno(), 4096)
            assert piece, seen
            seen += piece
    type_and_see(b"before")
    flush = {"action_type": "FlushMetrics"}
    api.ok("PUT", "/actions", flush)
    pid = daemon.api.ok("GET", "/v1/vms/stays")["pid"]
    heir = replace_daemon(t, daemon)
    assert heir.api.ok("GET", "/v1/vms/stays")["pid"] == pid
    assert api.ok("GET", "/")["state"] == "Running"
    # What is typed while nobody carries it is lost; what was printed is not,
    # and nothing comes twice.
    while b"." not in seen:
        p.stdin.write(b".")
        p.stdin.flush()
        if select.select([p.stdout], [], [], 0.1)[0]:
            seen += os.read(p.stdout.fileno(), 4096)
    assert seen.strip(b".") == b"before", seen
    api.ok("PATCH", "/vm", {"state": "Paused"})
    api.ok("PUT", "/actions", flush)
    counters = heir.api.ok("GET", "/v1/vms/stays")["counters"]
    with open(t.path("vm.metrics"), encoding="ascii") as f:
        counted = [json.loads(line)["vcpu"]["exit_io"] for line in f]
    assert len(counted) == 2 and counted[0] > 0, counted
    assert sum(counted) <= counters["exits_pio"], (counted, counters)
    api.ok("PATCH", "/vm", {"state": "Resumed"})
    p.stdin.write(b"q")
    p.stdin.flush()
    assert p.wait(10) == 0
    assert not os.path.exists(sock)
    with open(t.path("vm.log"), encoding="ascii") as f:
        log = f.read()
    assert "the guest is paused" in log and "ended: shutdown" in log, log


@native()
def test_a_vm_whose_owner_went_while_there_was_no_daemon_ends(t):
    daemon = t.own_daemon()
    pids, owners = [], []
    for number, running in enumerate((False, True)):
        sock = t.path(f"s{number}")
        p = launch(t, "--api-sock", sock, "--id", f"goes{number}",
                   daemon=daemon)
        api = api_at(sock)
        configure(api, guest("puppet"))
        if running:
            start(api)
            pids.append(daemon.api.ok(
                "GET", f"/v1/vms/goes{number}")["pid"])
        owners.append(p)

    def kill_owners():
        for p in owners:
            p.kill()
            p.wait()
    heir = replace_daemon(t, daemon, kill_owners)
    eventually("no VM", lambda: not heir.api.ok("GET", "/v1/vms")["vms"])
    eventually("no process", lambda: all(is_dead(pid) for pid in pids))
