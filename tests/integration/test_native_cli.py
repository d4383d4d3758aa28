"""The mayfly command against a daemon with tiny guests."""

import json
import os
import pty
import subprocess
import tempfile
import termios
import time

import images
from harness import eventually, native


def guest(name):
    return os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                        name + ".elf")


def argv(t, *words):
    program = os.path.join(t.build, "api", "cli", "mayfly")
    return [program, "--socket", t.daemon.socket, *words]


def mayfly(t, *words, status=0, stdin=""):
    """Runs a command that has to end so; (standard output, error)."""
    done = subprocess.run(argv(t, *words), input=stdin, capture_output=True,
                          text=True, timeout=30, check=False)
    assert done.returncode == status, (words, done)
    return done.stdout, done.stderr


def listed(t):
    return {vm["id"]: vm for vm in json.loads(mayfly(t, "ps")[0])}


@native()
def test_cli_takes_a_vm_through_its_life(t):
    mayfly(t, "create", "life", "--kernel", guest("puppet"), "--memory", "16",
           "--cpus", "2", "--label", "tier=a", "--label", "zone=b")
    vm = listed(t)["life"]
    assert vm["state"] == "Not started", vm
    assert vm["labels"] == {"tier": "a", "zone": "b"}, vm
    config = json.loads(mayfly(t, "inspect", "life")[0])["machine-config"]
    assert (config["vcpu_count"], config["mem_size_mib"]) == (2, 16), config
    mayfly(t, "start", "life")
    eventually("the guest's words", lambda: "puppet ready" in
               mayfly(t, "logs", "life")[0])
    mayfly(t, "pause", "life")
    assert listed(t)["life"]["state"] == "Paused"
    mayfly(t, "resume", "life")
    assert json.loads(mayfly(t, "stats", "life")[0])["exits_pio"] > 0
    _, err = mayfly(t, "wait", "--timeout", "0", "life", status=1)
    assert "has not exited in 0 s" in err, err
    _, err = mayfly(t, "rm", "life", status=1)
    assert "has not exited" in err, err
    mayfly(t, "rm", "--force", "life")
    assert "life" not in listed(t)


@native()
def test_cli_run_ends_as_its_guest_does(t):
    # Several times: what is typed meets the guest's end at any moment.
    for _ in range(5):
        mayfly(t, "run", "--kernel", guest("shutdown"), "-m", "16", stdin="x\n")
    _, err = mayfly(t, "run", "-k", guest("panic"), "-m", "16", status=1)
    assert "panic" in err, err
    assert not any(name.startswith("run-") for name in listed(t))
    # With a name it stays to be looked at.
    mayfly(t, "run", "-k", guest("triple"), "-m", "16", "gone", status=1)
    out, _ = mayfly(t, "wait", "gone", status=1)
    assert json.loads(out)["reason"] == "triple_fault", out
    mayfly(t, "rm", "gone")


@native()
def test_cli_run_prints_what_the_guest_says(t):
    out, _ = mayfly(t, "run", "-k", guest("strings"), "-m", "16", status=0)
    assert out, "nothing was printed"


@native()
def test_cli_documents_and_options_meet(t):
    disk = images.blank(t.path("disk"), images.MIB)
    document = {"boot-source": {"kernel_image_path": guest("puppet")},
                "machine-config": {"vcpu_count": 1, "mem_size_mib": 32}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(document, f)
        f.flush()
        mayfly(t, "create", "doc", "--config", f.name, "--memory", "64",
               "--disk", disk + ":ro", "--disk", disk)
    mayfly(t, "create", "doc2", "--config", "-", stdin=json.dumps(document))
    vm = json.loads(mayfly(t, "inspect", "doc")[0])
    assert vm["machine-config"]["mem_size_mib"] == 64, vm
    assert [(d["drive_id"], d["is_read_only"]) for d in vm["drives"]] == [
        ("disk1", True), ("disk2", False)], vm
    mayfly(t, "rm", "doc", "doc2")


@native()
def test_cli_says_what_is_wrong(t):
    cases = [
        (("nonsense",), 2, "no command"),
        ((), 2, "Usage"),
        (("start",), 2, "missing"),
        (("start", "nobody"), 1, 'no VM "nobody"'),
        (("create", "../x"), 1, "id"),
        (("create", "x", "--cpus", "many"), 2, "--cpus"),
        (("create", "x", "--cpus", "99"), 1, "vcpu_count"),
        (("create", "x", "--kernel", "/no/such/file"), 2, "/no/such/file"),
        (("create", "x", "--net", "tap0,mtu"), 2, "KEY=VALUE"),
        (("create", "x", "--net", "tap0,mtu=big"), 2, "mtu"),
        (("create", "x", "--net", "tap0,netns=42"), 1, "netns: "),
        (("create", "x", "--net", "tap0,create=maybe"), 1, "create: must be"),
        (("create", "x", "--vsock", "3"), 2, "CID:PATH"),
        (("create", "x", "--label", "y"), 2, "KEY=VALUE"),
        (("wait", "--timeout", "-1", "x"), 2, "--timeout"),
        (("top", "--delay", "0"), 2, "--delay"),
        (("ps", "--wrong"), 2, "ps --help"),
    ]
    for words, status, says in cases:
        _, err = mayfly(t, *words, status=status)
        assert says in err, (words, err)
    assert listed(t).keys() == set(), listed(t)
    nobody = subprocess.run(
        [argv(t)[0], "--socket", t.path("none"), "ps"], capture_output=True,
        text=True, timeout=30, check=False)
    assert nobody.returncode == 1 and "is it running" in nobody.stderr, nobody


def on_terminal(t, *words):
    """Starts it on a terminal of its own: (pid, the terminal's other end)."""
    command = argv(t, *words)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    return pid, terminal


@native()
def test_cli_console_joins_a_terminal(t):
    mayfly(t, "run", "--detach", "-k", guest("echo"), "-m", "16", "talk")
    pid, terminal = on_terminal(t, "console", "talk")
    try:
        # Before it is raw, the terminal itself would echo.
        eventually("a raw terminal", lambda: not (
            termios.tcgetattr(terminal)[3] & termios.ECHO))
        seen = b""
        deadline = time.monotonic() + 20
        os.write(terminal, b"parrot")
        while b"parrot" not in seen and time.monotonic() < deadline:
            seen += os.read(terminal, 4096)
        assert b"parrot" in seen, seen
        os.write(terminal, b"\x1d")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
    finally:
        os.close(terminal)
    assert listed(t)["talk"]["state"] == "Running"
    mayfly(t, "rm", "-f", "talk")


@native()
def test_cli_events_follow_until_the_daemon_ends(t):
    daemon = t.file.new_daemon()
    program = argv(t)[0]

    def run(*words):
        subprocess.run([program, "--socket", daemon.socket, *words],
                       check=True, timeout=30, stdin=subprocess.DEVNULL)
    run("create", "seen", "-k", guest("puppet"), "-m", "16")
    with subprocess.Popen(
            [program, "--socket", daemon.socket, "events", "--all"],
            stdout=subprocess.PIPE, text=True) as follower:
        first = json.loads(follower.stdout.readline())
        assert (first["type"], first["vm"]) == ("created", "seen"), first
        run("start", "seen")
        assert json.loads(follower.stdout.readline())["type"] == "started"
        assert daemon.stop() == 0
        rest = [json.loads(line)["type"] for line in follower.stdout]
        assert rest[-1] == "deleted", rest
        assert follower.wait(10) == 0


@native()
def test_cli_tables_are_for_terminals(t):
    mayfly(t, "create", "seen", "-k", guest("puppet"), "-m", "16")
    for words, says in ((("ps",), b"NAME"), (("host",), b"KVM"),
                        (("top", "-n", "1"), b"EXITS/s")):
        pid, terminal = on_terminal(t, *words)
        out = b""
        try:
            while True:
                piece = os.read(terminal, 4096)
                out += piece
                if not piece:
                    break
        except OSError:
            pass  # its end, as Linux tells it
        os.waitpid(pid, 0)
        os.close(terminal)
        assert says in out, (words, out)
    mayfly(t, "rm", "seen")


@native()
def test_cli_lists_page_by_page_and_by_label_and_state(t):
    names = [f"page-{n}" for n in range(1101)]
    for n, name in enumerate(names):
        t.api.ok("PUT", "/v1/vms/" + name, {"labels": {"third": f"a={n % 3}"}})
    # The daemon sends 500 at a time.
    assert [vm for vm in listed(t) if vm in names] == names
    assert len(t.api.ok("GET", "/v1/vms?limit=500")["vms"]) == 500
    out, _ = mayfly(t, "ps", "-q", "--label", "third=a=1")
    assert out.split() == names[1::3], out
    out, _ = mayfly(t, "ps", "-q", "-l", "third", "-s", "Not started")
    assert out.split() == names, out
    assert mayfly(t, "ps", "-q", "-l", "third", "-s", "Running")[0] == ""
    _, err = mayfly(t, "ps", "--state", "running", status=1)
    assert "state: must be Not started" in err, err
    top, _ = mayfly(t, "top", "-n", "1")
    assert f"{len(listed(t))} VMs" in top, top[:200]
    for name in names:
        t.api.ok("DELETE", "/v1/vms/" + name)
