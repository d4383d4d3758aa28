"""What the process around a guest can and cannot do, seen from the host."""

import errno
import os
import signal
import stat
import time

import images
import inject
import proc
from guests import puppet, puppet_with_disk, shared_puppet
from harness import Skip, check_usable, eventually, native


@native()
def test_every_thread_is_filtered_and_powerless(t):
    pid = shared_puppet(t).pid
    threads = proc.threads(pid)
    # Control, two vCPUs, at least one worker.
    assert len(threads) >= 4, threads
    for tid, name in threads.items():
        s = proc.status(pid, tid)
        assert s["Seccomp"] == "2", f"{name}: Seccomp {s['Seccomp']}"
        assert s["NoNewPrivs"] == "1", f"{name}: NoNewPrivs"
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(s[caps], 16) == 0, f"{name}: {caps} {s[caps]}"
        for ids in ("Uid", "Gid"):
            assert len(set(s[ids].split())) == 1, f"{name}: {ids} {s[ids]}"
            assert s[ids].split()[0] != "0", f"{name}: {ids} 0"
        assert s["Groups"] == "", f"{name}: groups {s['Groups']}"


@native()
def test_what_waits_in_the_pool_is_filtered_but_for_its_starter(t):
    daemon = t.own_daemon("--pool", "1")
    found = {}

    def waits():
        for pid in proc.children(daemon.pid):
            found.update({name: proc.status(pid, tid)["Seccomp"]
                          for tid, name in proc.threads(pid).items()})
        return found.get("mayfly-vmm") == "2"
    eventually("one in the pool", waits)
    assert found == {"mayfly-vmm": "2", "vcpu0": "2", "starter": "0"}, found


@native()
def test_no_two_vms_have_one_uid(t):
    vms = [puppet_with_disk(t) for _ in range(4)]
    uids = [proc.status(vm.pid)["Uid"].split()[0] for vm in vms]
    gids = [proc.status(vm.pid)["Gid"].split()[0] for vm in vms]
    assert len(set(uids)) == 4 and len(set(gids)) == 4, (uids, gids)
    # Not one that a person or service of this host has.
    with open("/etc/passwd", encoding="utf-8") as f:
        taken = {line.split(":")[2] for line in f}
    assert not taken & set(uids), uids


@native()
def test_root_is_an_empty_directory_that_stays_empty(t):
    pid = shared_puppet(t).pid
    assert os.listdir(f"/proc/{pid}/root/") == []
    assert os.listdir(f"/proc/{pid}/cwd/") == []
    assert os.readlink(f"/proc/{pid}/root") == "/"
    mounts = proc.mounts(pid)
    assert len(mounts) == 1, f"it can still see mounts: {mounts}"
    point, options, _ = mounts[0]
    assert point == "/" and "ro" in options, mounts
    mode = os.stat(f"/proc/{pid}/root/")
    assert mode.st_uid != int(proc.status(pid)["Uid"].split()[0])
    assert not mode.st_mode & stat.S_IWOTH, oct(mode.st_mode)


@native()
def test_namespaces_are_its_own(t):
    pid = shared_puppet(t).pid
    ours = proc.namespaces(t.daemon.pid)
    theirs = proc.namespaces(pid)
    for name in ("ipc", "mnt", "net", "pid", "uts"):
        assert ours[name] != theirs[name], f"{name} is the daemon's"
    other = proc.namespaces(puppet_with_disk(t).pid)
    for name in ("ipc", "mnt", "pid", "uts"):
        assert theirs[name] != other[name], f"{name} is another VM's"


@native()
def test_network_is_empty(t):
    pid = shared_puppet(t).pid
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as f:
        names = [line.split(":")[0].strip() for line in f if ":" in line]
    assert names in ([], ["lo"]), names
    with open(f"/proc/{pid}/net/route", encoding="ascii") as f:
        assert len(f.readlines()) <= 1, "it has a route"


# What a running VMM has open, and how many of it, with two vCPUs and one drive,
# whose file the ring alone has.
# Sockets: the daemon's, and where the next daemon would connect. Eventfds: interrupts of serial port, keyboard, generation and drive; the
# drive's kicks, one a CPU; the daemon's wake-up, the worker's, the control thread's.
NEEDED_FDS = {
    "socket": 2,
    "anon_inode:kvm-vm": 1,
    "anon_inode:kvm-vcpu": 2,
    "anon_inode:[io_uring]": 1,
    "anon_inode:[eventfd]": 9,
}


@native()
def test_no_descriptor_beyond_those_it_needs(t):
    vm = shared_puppet(t)
    pid = vm.pid
    counts = {}
    for fd, target in proc.fds(pid).items():
        if target.startswith("anon_inode:kvm-vcpu:"):
            kind = "anon_inode:kvm-vcpu"
        else:
            kind = target
        counts[kind] = counts.get(kind, 0) + 1
        assert kind in NEEDED_FDS, f"fd {fd} is {target}"
    assert counts == NEEDED_FDS, counts


@native()
def test_limits_hold_it(t):
    limits = proc.limits(shared_puppet(t).pid)
    assert limits["Max core file size"][1] == "0", limits
    assert limits["Max open files"][1] != "unlimited", limits
    # Room for thousands of vsock connections.
    assert int(limits["Max open files"][1]) <= 8192, limits


@native()
def test_it_lives_in_a_cgroup_of_its_own_with_limits(t):
    vm = shared_puppet(t)
    cgroup = t.api.ok("GET", "/v1/host")["cgroup_version"]
    if not cgroup:
        raise Skip("this host has no cgroups that can be used")
    mine = {path for _, path in proc.cgroups(vm.pid)}
    assert mine - {path for _, path in proc.cgroups(t.daemon.pid)}
    found = {}
    for directory in proc.vm_cgroups(vm.pid):
        with open(os.path.join(directory, "cgroup.procs"),
                  encoding="ascii") as f:
            members = [int(pid) for pid in f.read().split()]
        # KVM may have put a kernel thread of its own there.
        assert [pid for pid in members if proc.is_program(pid)] == [vm.pid], (
            directory, members)
        for name in ("memory.max", "memory.limit_in_bytes", "pids.max"):
            try:
                with open(os.path.join(directory, name),
                          encoding="ascii") as f:
                    found[name.split(".")[0]] = f.read().strip()
            except FileNotFoundError:
                pass
    guest = vm.config()["machine-config"]["mem_size_mib"] * images.MIB
    assert guest < int(found["memory"]) < guest + 128 * images.MIB, found
    assert len(proc.threads(vm.pid)) < int(found["pids"]) <= 256, found


@native()
def test_nothing_of_the_daemons_is_inherited(t):
    r, w = os.pipe()
    t.cleanup(os.close, r)
    t.cleanup(os.close, w)

    def make_peculiar():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        os.umask(0)

    daemon = t.own_daemon(
        extra_groups=[4, 6, 27], pass_fds=[w], preexec_fn=make_peculiar,
        env={**os.environ, "SECRET": "of the daemon"})
    vm = puppet(t, daemon=daemon)
    pid = vm.pid
    s = proc.status(pid)
    assert s["Groups"] == "", s["Groups"]
    for signals in ("SigIgn", "SigBlk"):
        assert int(s[signals], 16) == 0, f"{signals} {s[signals]}"
    assert "pipe" not in proc.fds(pid).values(), proc.fds(pid)
    assert int(s["Umask"], 8) & 0o077 == 0o077, s["Umask"]
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert f.read() == b""
    assert os.getsid(pid) == pid, "it is in the daemon's session"
    assert os.readlink(f"/proc/{pid}/exe").endswith("mayfly-vmm")


def thread_of(pid, role):
    """One of its threads of that role. io_uring's own workers, which run no
    code of the process, are none."""
    if role == "control":
        return pid
    for tid, name in proc.threads(pid).items():
        if tid != pid and not name.startswith("iou-") and (
                (name == "io") == (role == "worker")):
            return tid
    raise AssertionError(f"no {role} thread in {proc.threads(pid)}")


# None of these is any thread's to make, whatever its arguments.
FORBIDDEN = ("open", "openat", "openat2", "socket", "connect", "execve",
             "execveat", "fork", "clone3", "ptrace", "setuid", "mount",
             "chroot", "unshare", "bpf", "perf_event_open",
             "process_vm_readv", "pidfd_getfd", "io_uring_setup",
             "io_uring_register")


def forbid(t, role, calls):
    other = puppet_with_disk(t)
    for call in calls:
        vm = puppet_with_disk(t)
        pid = vm.pid
        inject.make_syscall(pid, thread_of(pid, role), call)
        ended = vm.wait(10)
        assert ended["reason"] == "violation", f"{role}: {call}: {ended}"
        info = vm.get()
        assert info["state"] == "Exited", info
        assert not proc.exists(pid), f"{call} did not kill it"
        vm.console.wait_end()
        vm.delete()
        t.vms.remove(vm)
    check_usable(t, other)


@native(limit=90)
def test_forbidden_call_by_the_control_thread_kills(t):
    forbid(t, "control", FORBIDDEN)


@native(limit=90)
def test_forbidden_call_by_a_vcpu_thread_kills(t):
    forbid(t, "vcpu", FORBIDDEN)


@native(limit=90)
def test_forbidden_call_by_a_worker_thread_kills(t):
    forbid(t, "worker", FORBIDDEN)


@native()
def test_executable_memory_cannot_be_made(t):
    prot_all = 7  # read, write, execute
    for role in ("control", "vcpu", "worker"):
        for call, args in (
                ("mmap", (0, 4096, prot_all, 0x22, -1, 0)),
                ("mprotect", (0x400000, 4096, prot_all))):
            vm = puppet_with_disk(t)
            inject.make_syscall(vm.pid, thread_of(vm.pid, role), call, args)
            ended = vm.wait(10)
            assert ended["reason"] == "violation", (role, call, ended)


@native()
def test_other_processes_cannot_be_signalled(t):
    other = puppet_with_disk(t)
    for role in ("control", "vcpu", "worker"):
        vm = puppet_with_disk(t)
        inject.make_syscall(vm.pid, thread_of(vm.pid, role), "kill",
                            (-1, signal.SIGKILL))
        ended = vm.wait(10)
        assert ended["reason"] in ("violation", "killed"), ended
    check_usable(t, other)


# The numbers of enum io_uring_op and of the flags of an entry.
READV, WRITEV = 1, 2
FIXED_FILE, LINK, ASYNC, BUFFER_SELECT = 1, 4, 16, 32
FORBIDDEN_OPCODES = {
    "nop": 0, "timeout": 11, "accept": 13,
    "connect": 16, "openat": 18, "close": 19, "files_update": 20,
    "statx": 21, "read": 22, "write": 23, "send": 26, "recv": 27,
    "openat2": 28, "splice": 30, "provide_buffers": 31, "tee": 33,
    "renameat": 35, "unlinkat": 36, "mkdirat": 37, "symlinkat": 38,
    "linkat": 39, "msg_ring": 40, "setxattr": 42, "socket": 45,
    "uring_cmd": 46, "send_zc": 47,
}


def submit_forged(t, entries, vm=None):
    """Puts entries into a worker's ring, one after the other, and makes the
    worker submit each, as code that took the worker over would: yields the
    results."""
    vm = vm or puppet_with_disk(t)
    pid = vm.pid
    (ring_fd,) = [fd for fd, what in proc.fds(pid).items()
                  if what == "anon_inode:[io_uring]"]
    ring = inject.ForeignRing(pid, ring_fd)
    tracee = inject.Tracee(pid, thread_of(pid, "worker"))
    try:
        for n, (opcode, fd, flags) in enumerate(entries):
            mark = 0x5afe000000000000 + n
            ring.push(inject.sqe(opcode, fd=fd, flags=flags, user_data=mark))
            # Submit one, and see to completions that wait for a visit.
            submitted = tracee.step(inject.NR["io_uring_enter"],
                                    (ring_fd, 1, 0, 1, 0, 8))
            done = ring.completions()
            assert submitted == 1 and mark in done, (submitted, done)
            yield done[mark]
    finally:
        tracee.kill()
        vm.wait(10)


@native()
def test_forbidden_io_uring_opcodes_are_refused(t):
    names = list(FORBIDDEN_OPCODES)
    results = submit_forged(
        t, [(FORBIDDEN_OPCODES[name], 0, FIXED_FILE) for name in names])
    refused = dict(zip(names, results))
    assert set(refused.values()) == {-errno.EACCES}, refused


@native()
def test_read_only_drive_is_open_for_reading_only(t):
    for read_only, result in ((True, -errno.EBADF), (False, 0)):
        name = f"read_only_{read_only}"
        disk = images.blank(t.path(name), images.MIB)
        vm = t.vm(images.puppet(
            drives=[images.drive(disk, is_read_only=read_only)]), start=True)
        vm.expect("puppet ready")
        files = proc.registered_files(vm.pid)
        (index,) = [i for i, f in enumerate(files) if f.endswith(name)]
        got = list(submit_forged(t, [(WRITEV, index, FIXED_FILE)], vm))
        assert got == [result], (name, got)


@native()
def test_io_uring_takes_registered_files_only(t):
    # 3 is the control socket's number.
    assert list(submit_forged(t, [(READV, 3, 0)])) == [-errno.EACCES]


@native()
def test_io_uring_takes_no_other_flags(t):
    flags = (FIXED_FILE | LINK, FIXED_FILE | ASYNC, FIXED_FILE | BUFFER_SELECT)
    assert list(submit_forged(t, [(READV, 0, f) for f in flags])) == (
        [-errno.EACCES] * 3)


@native()
def test_forged_io_uring_request_passes_where_it_is_allowed(t):
    # The proof that the three tests above look at the right thing: a readv
    # of no bytes of a registered file is not refused.
    (res,) = submit_forged(t, [(READV, 0, FIXED_FILE)])
    assert res != -errno.EACCES, res


@native()
def test_a_stopped_vmm_does_not_stop_the_daemon(t):
    stopped, other = puppet_with_disk(t), puppet_with_disk(t)
    pid = stopped.pid
    os.kill(pid, signal.SIGSTOP)
    t.cleanup(lambda: proc.exists(pid) and os.kill(pid, signal.SIGCONT))
    slow = 0
    # Asks it for something it cannot answer, on a connection left open.
    conn = stopped.daemon.api.raw()
    t.cleanup(conn.close)
    body = b'{"state": "Paused"}'
    conn.sendall(b"PATCH " + stopped.url("vm").encode()
                 + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                 % len(body) + body)
    for _ in range(50):
        start = time.monotonic()
        assert other.state == "Running"
        t.api.ok("GET", "/v1/vms")
        slow = max(slow, time.monotonic() - start)
    assert slow < 1, f"a request to another VM took {slow:.2f} s"
    check_usable(t, other)
    started = time.monotonic()
    new = puppet_with_disk(t)
    assert time.monotonic() - started < 5
    new.delete()
    # It can be deleted although it does not listen.
    start = time.monotonic()
    stopped.delete()
    assert time.monotonic() - start < 10
    assert not proc.exists(pid)
