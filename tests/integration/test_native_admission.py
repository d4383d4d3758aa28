"""A host without room: who asks for a VM is sent away, told when to come again,
and nothing is half made."""

import collections
import json
import os
import queue
import resource
import signal
import subprocess
import threading
import time

import images
import mayfly
import proc
from harness import eventually, native


def body(mem_mib=16):
    """A guest that halts: many of them leave the host its CPUs."""
    kernel = os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                          "ready.elf")
    return {"boot-source": {"kernel_image_path": kernel},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": mem_mib},
            "start": True}


class Left:
    """What a daemon has and its VMs might leave behind."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.pid = daemon.pid
        # What it opens once, for the first VM or the first request.
        daemon.api.ok("PUT", "/v1/vms/first", body())
        daemon.api.ok("DELETE", "/v1/vms/first")
        self.before = self.count()

    def count(self):
        return (len(os.listdir(f"/proc/{self.pid}/fd")),
                len(proc.children(self.pid)), self.cgroups())

    def cgroups(self):
        """Groups below those that the daemon has open."""
        n = 0
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                path = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            if path.startswith("/sys/fs/cgroup/"):
                n += sum(e.is_dir() for e in os.scandir(path))
        return n

    def check(self):
        eventually(f"as before: {self.before}", lambda: all(
            now <= was for now, was in zip(self.count(), self.before)))


def put_all(daemon, names, connections, config):
    """PUTs VMs that start, over so many connections: {name: reply}."""
    todo, replies = queue.SimpleQueue(), {}
    for name in names:
        todo.put(name)

    def work():
        while True:
            try:
                name = todo.get_nowait()
            except queue.Empty:
                return
            replies[name] = daemon.api.request(
                "PUT", "/v1/vms/" + name, config)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def check_burst(daemon, replies, refusal, says):
    """All of them whole or not at all. Returns the names of those there."""
    counts = collections.Counter(r.status for r in replies.values())
    assert set(counts) == {201, refusal}, counts
    for reply in replies.values():
        if reply.status == refusal:
            assert reply.headers["Retry-After"] == "1", reply.headers
            assert says in reply.fault, reply
    there = {name for name, r in replies.items() if r.status == 201}
    vms = daemon.api.ok("GET", "/v1/vms")["vms"]
    assert {vm["id"] for vm in vms} == there
    assert {vm["state"] for vm in vms} == {"Running"}, vms
    return there


def burst(t, daemon, refusal, says, connections=16):
    left = Left(daemon)
    names = [f"vm-{n}" for n in range(100)]
    there = check_burst(daemon, put_all(daemon, names, connections, body()),
                        refusal, says)
    # As soon as there is room somebody gets it.
    for name in there:
        daemon.api.ok("DELETE", "/v1/vms/" + name)
    left.check()
    daemon.api.ok("PUT", "/v1/vms/again", body())
    daemon.api.ok("DELETE", "/v1/vms/again")
    left.check()
    return len(there)


@native()
def test_burst_beyond_max_vms_is_429(t):
    daemon = t.own_daemon("--max-vms", "20", "--pool", "0")
    assert burst(t, daemon, 429, "the most this daemon runs") == 20


def limited(what, value):
    return {"preexec_fn": lambda: resource.setrlimit(what, (value, value))}


@native()
def test_burst_beyond_the_files_it_may_open_is_503(t):
    daemon = t.own_daemon("--pool", "0", **limited(resource.RLIMIT_NOFILE, 256))
    n = burst(t, daemon, 503, "more files")
    assert 5 < n < 100, n


@native()
def test_pool_leaves_files_for_vms(t):
    """What waits for a start is not in the way of one."""
    daemon = t.own_daemon("--pool", "1000",
                          **limited(resource.RLIMIT_NOFILE, 512))
    counts = []

    def settled():
        counts.append(len(proc.children(daemon.pid)))
        time.sleep(0.1)
        return counts[-1] > 3 and counts[-3:] == counts[-1:] * 3
    eventually("a pool as large as there are files", settled)
    assert counts[-1] < 120, counts
    names = [f"vm-{n}" for n in range(150)]
    # The kind of machine that waits.
    there = check_burst(daemon, put_all(daemon, names, 16, body(mem_mib=128)),
                        503, "more files")
    assert len(there) >= counts[-1], (len(there), counts)
    for name in there:
        daemon.api.ok("DELETE", "/v1/vms/" + name)
    daemon.api.ok("PUT", "/v1/vms/again", body())


@native()
def test_few_files_leave_the_daemon_with_its_wits(t):
    """Too few for any VM: it says so, and serves what needs none."""
    daemon = t.own_daemon("--pool", "0", **limited(resource.RLIMIT_NOFILE, 40))
    reply = daemon.api.request("PUT", "/v1/vms/a", body())
    assert reply.status == 503, reply
    assert "more files" in reply.fault, reply
    assert daemon.api.ok("GET", "/v1/vms") == {"vms": []}


@native()
def test_connections_leave_files_for_vms(t):
    """Of too many the latest wait until there are fewer."""
    daemon = t.own_daemon("--pool", "0", **limited(resource.RLIMIT_NOFILE, 256))
    ask = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"
    first = mayfly.UnixConnection(daemon.socket, 10)
    first.request("GET", "/v1/version")
    assert first.getresponse().read()
    more = [daemon.api.raw() for _ in range(200)]
    t.cleanup(lambda: [s.close() for s in more])
    for s in more:
        s.sendall(ask)
    for s in more[:100]:
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    first.request("PUT", "/v1/vms/a", json.dumps(body()))
    answer = first.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    # Half of 256, the first among them.
    more[127].settimeout(0.2)
    try:
        assert not more[127].recv(1), "it was not to be served yet"
    except TimeoutError:
        pass
    for s in more[:100]:
        s.close()
    more[127].settimeout(10)
    assert more[127].recv(4096).startswith(b"HTTP/1.1 200")
    first.request("DELETE", "/v1/vms/a")
    assert first.getresponse().status == 204


@native()
def test_memory_reserve_is_kept(t):
    daemon = t.own_daemon("--memory-reserve", "16777216")
    reply = daemon.api.request("PUT", "/v1/vms/a", body())
    assert reply.status == 503, reply
    assert "--memory-reserve" in reply.fault, reply
    assert reply.headers["Retry-After"] == "1"
    assert daemon.api.request("GET", "/v1/vms/a").status == 404
    # A VM that is only configured needs no memory; its start does.
    vm = t.vm(images.puppet(), daemon=daemon)
    reply = daemon.api.request("PUT", vm.url("actions"),
                               {"action_type": "InstanceStart"})
    assert reply.status == 503, reply
    assert vm.state == "Not started"
    generous = t.own_daemon("--memory-reserve", "0")
    t.vm(images.puppet(), daemon=generous, start=True)


def pids_group(t, name):
    """A new group that the pids controller limits."""
    mounts = proc.cgroup_mounts()
    path = os.path.join(mounts.get("pids") or mounts[""], name)
    os.mkdir(path)
    t.cleanup(os.rmdir, path)
    return path


@native()
def test_full_pids_cgroup_is_503(t):
    group = pids_group(t, f"mayfly-admission-{os.getpid()}")
    with open(os.path.join(group, "cgroup.procs"), "w",
              encoding="ascii") as procs:
        def join():
            procs.write("0\n")
            procs.flush()
        daemon = t.own_daemon("--pool", "0", preexec_fn=join)
    with open(os.path.join(group, "pids.max"), "w", encoding="ascii") as f:
        f.write("1\n")
    reply = daemon.api.request("PUT", "/v1/vms/a", body())
    assert reply.status == 503, reply
    assert "cgroup" in reply.fault, reply
    with open(os.path.join(group, "pids.max"), "w", encoding="ascii") as f:
        f.write("max\n")
    eventually("room again", lambda: daemon.api.request(
        "PUT", "/v1/vms/a", body()).status == 201)
    daemon.api.ok("DELETE", "/v1/vms/a")


# What a start asks of the kernel, and what that may say when it has none.
# In the loop's thread ("mayflyd"), and in the one that makes processes.
FAULTS = [(thread, call, errno) for thread, call, errnos in (
    ("maker", "eventfd2", ("EMFILE",)), ("maker", "fallocate", ("ENOSPC",)),
    ("maker", "ftruncate", ("ENOMEM",)), ("maker", "bind", ("ENOSPC",)),
    ("maker", "pwrite64", ("ENOSPC",)), ("maker", "mmap", ("ENOMEM",)),
    ("maker", "socketpair", ("EMFILE",)), ("maker", "sendmsg", ("ENOMEM",)),
    ("maker", "mkdirat", ("ENOMEM", "EAGAIN", "ENOSPC")),
    ("maker", "clone3", ("EAGAIN", "ENOMEM")),
    ("maker", "openat", ("EMFILE", "ENFILE")),
    ("mayflyd", "renameat", ("ENOSPC",)), ("mayflyd", "symlinkat", ("ENOSPC",)),
    ("mayflyd", "pwrite64", ("ENOSPC",)), ("mayflyd", "mkdirat", ("ENOSPC",)),
    ("mayflyd", "openat", ("EMFILE", "ENFILE")),
    ("mayflyd", "epoll_ctl", ("ENOSPC", "ENOMEM")),
    ("mayflyd", "sendmsg", ("ENOMEM",))) for errno in errnos]


# Where it is not one of the first eleven: descriptors are taken out of epoll, too
# (which never fails), and an answer is sent.
WHEN = {"epoll_ctl": (3, 4, 7, 8), "sendmsg": (1,)}


def put_or_none(daemon):
    try:
        return daemon.api.request("PUT", "/v1/vms/a", body())
    except (ConnectionResetError, BrokenPipeError):
        return None


@native(120)
def test_want_of_room_in_the_middle_of_a_start_is_503(t):
    daemon = t.own_daemon("--pool", "0")
    left = Left(daemon)
    for thread, call, errno in FAULTS:
        refused = 0
        for when in WHEN.get(call, range(1, 12)):
            with tracing(t, daemon, thread, call, errno, when):
                reply = put_or_none(daemon)
            what = f"{thread}: {call} {when}: {errno}"
            if not reply:
                # Not even for the connection: it is closed at once.
                assert call in ("mmap", "epoll_ctl"), what
            elif reply.status == 201:
                daemon.api.ok("DELETE", "/v1/vms/a")
            else:
                assert reply.status == 503, (what, reply)
                assert reply.headers["Retry-After"] == "1", what
                refused += 1
            assert daemon.alive(), (what, daemon.log_tail())
            assert daemon.api.request("GET", "/v1/vms/a").status == 404, what
            left.check()
            if reply and reply.status == 201 and refused:
                break
        assert refused, f"no {call} of {thread} in a start"


class tracing:
    """The n-th such system call of one of the daemon's threads fails."""

    def __init__(self, t, daemon, thread, call, errno, when):
        self.log = t.path("strace")
        (self.tid,) = [tid for tid, name in proc.threads(daemon.pid).items()
                       if name == thread]
        self.argv = ["strace", "-q", "-p", str(self.tid), "-o", self.log,
                     "-e", f"trace={call}",
                     "-e", f"inject={call}:error={errno}:when={when}"]
        self.pid = daemon.pid
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.argv)
        eventually("strace", lambda: proc.status(self.pid, self.tid)[
            "TracerPid"] != "0")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)


@native()
def test_user_ids_of_another_daemon_are_not_to_be_had(t):
    options = ("--uid-base", "1950000000", "--uid-count", "3", "--pool", "0")
    first, second = t.own_daemon(*options), t.own_daemon(*options)
    vms = [t.vm(images.puppet(), daemon=first, start=True) for _ in range(3)]
    reply = second.api.request("PUT", "/v1/vms/a", body())
    assert reply.status == 503, reply
    assert "user ids" in reply.fault, reply
    assert reply.headers["Retry-After"] == "1"
    vms[0].delete()
    second.api.ok("PUT", "/v1/vms/a", body())
    second.api.ok("DELETE", "/v1/vms/a")
