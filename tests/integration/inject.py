"""Makes a thread of another process do what its own code never would.

A jailed process that a guest has taken over can make any system call it likes;
this plays that attacker, from outside, with ptrace. Needs root. All calls have
to come from one thread, as ptrace demands.
"""

import ctypes
import mmap
import os
import re
import signal
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                         ctypes.c_void_p]

PTRACE_SINGLESTEP = 9
PTRACE_GETREGS = 12
PTRACE_SETREGS = 13
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WALL = 0x40000000

# x86-64 system calls.
NR = {
    "read": 0, "write": 1, "open": 2, "close": 3, "mmap": 9, "mprotect": 10,
    "ioctl": 16, "dup": 32, "socket": 41, "connect": 42, "clone": 56,
    "fork": 57, "execve": 59, "kill": 62, "ptrace": 101, "setuid": 105,
    "prctl": 157, "chroot": 161, "mount": 165, "tgkill": 234, "openat": 257,
    "unshare": 272, "perf_event_open": 298, "process_vm_readv": 310,
    "execveat": 322, "bpf": 321, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "clone3": 435, "openat2": 437,
    "pidfd_getfd": 438,
}


class Regs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax "
        "rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()]


def _ptrace(request, tid, addr=0, data=0):
    ctypes.set_errno(0)
    ret = _libc.ptrace(request, tid, addr, data)
    if ret == -1 and ctypes.get_errno():
        err = ctypes.get_errno()
        raise OSError(err, f"ptrace({request:#x}, {tid}): {os.strerror(err)}")
    return ret


def _syscall(nr, *args):
    ctypes.set_errno(0)
    ret = _libc.syscall(ctypes.c_long(nr), *(ctypes.c_long(a) for a in args))
    if ret == -1:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))
    return ret


def find_syscall_instruction(pid):
    """The address of a `syscall` in the process's executable."""
    exe = os.readlink(f"/proc/{pid}/exe")
    with open(f"/proc/{pid}/maps", encoding="ascii",
              errors="replace") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .* (\S+)", line)
            if not m or os.path.basename(exe) not in line:
                continue
            start, end = int(m.group(1), 16), int(m.group(2), 16)
            mem.seek(start)
            at = mem.read(end - start).find(b"\x0f\x05")
            if at >= 0:
                return start + at
    raise AssertionError(f"no syscall instruction found in {exe}")


class Tracee:
    """One thread, stopped for as long as the object lives."""

    def __init__(self, pid, tid):
        self.pid = pid
        self.tid = tid
        self.syscall_at = find_syscall_instruction(pid)
        self.regs = None
        _ptrace(PTRACE_SEIZE, tid)
        _ptrace(PTRACE_INTERRUPT, tid)
        self._wait_stop()
        self.regs = self.getregs()

    def _wait_stop(self):
        _, wstatus = os.waitpid(self.tid, WALL)
        assert os.WIFSTOPPED(wstatus), f"thread {self.tid}: {wstatus:#x}"
        return os.WSTOPSIG(wstatus)

    def getregs(self):
        regs = Regs()
        _ptrace(PTRACE_GETREGS, self.tid, 0, ctypes.addressof(regs))
        return regs

    def prepare(self, nr, args=()):
        """Points the thread at a system call, to be made when it runs."""
        regs = Regs.from_buffer_copy(bytes(self.regs))
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"),
                               tuple(args) + (0,) * (6 - len(args))):
            setattr(regs, name, value & (2**64 - 1))
        regs.rax = nr
        regs.orig_rax = 2**64 - 1  # no restart of what was interrupted
        regs.rip = self.syscall_at
        _ptrace(PTRACE_SETREGS, self.tid, 0, ctypes.addressof(regs))

    def step(self, nr, args=()):
        """Makes the call and stops behind it: its result, -errno if failed."""
        self.prepare(nr, args)
        _ptrace(PTRACE_SINGLESTEP, self.tid)
        sig = self._wait_stop()
        assert sig == signal.SIGTRAP, f"stopped by signal {sig}"
        return ctypes.c_int64(self.getregs().rax).value

    def kill(self):
        """Kills its process. A traced thread is there until its tracer has
        seen it die, and so is the process."""
        os.kill(self.pid, signal.SIGKILL)
        while True:
            try:
                _, wstatus = os.waitpid(self.tid, WALL)
            except ChildProcessError:
                return
            if os.WIFSIGNALED(wstatus) or os.WIFEXITED(wstatus):
                return

    def detach(self):
        _ptrace(PTRACE_DETACH, self.tid)


def make_syscall(pid, tid, name, args=()):
    """The thread makes the call and goes on from there, as it may."""
    tracee = Tracee(pid, tid)
    tracee.prepare(NR[name], args)
    tracee.detach()


def steal_fd(pid, fd):
    """Our own descriptor of another process's open file."""
    pidfd = os.pidfd_open(pid)
    try:
        return _syscall(NR["pidfd_getfd"], pidfd, fd, 0)
    finally:
        os.close(pidfd)


class ForeignRing:
    """The shared memory of another process's io_uring.

    Where the fields lie is what the kernel tells whoever sets a ring up; a
    ring of ours with the same number of entries has the same layout.
    """

    SQES_OFFSET = 0x10000000
    CQSIZE = 1 << 3

    def __init__(self, pid, fd):
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
            info = dict(re.findall(r"^(\w+):\s*(\S+)", f.read(), re.M))
        self.sq_mask = int(info["SqMask"], 16)
        self.cq_mask = int(info["CqMask"], 16)
        params = bytearray(120)
        struct.pack_into("<III", params, 0, self.sq_mask + 1,
                         self.cq_mask + 1, self.CQSIZE)
        buf = (ctypes.c_char * 120).from_buffer(params)
        os.close(_syscall(NR["io_uring_setup"], self.sq_mask + 1,
                          ctypes.addressof(buf)))
        sq = struct.unpack_from("<7I", params, 40)
        cq = struct.unpack_from("<7I", params, 80)
        self.sq_tail, self.sq_array = sq[1], sq[6]
        self.cq_head, self.cq_tail, self.cqes = cq[0], cq[1], cq[5]
        ours = steal_fd(pid, fd)
        try:
            size = max(self.sq_array + 4 * (self.sq_mask + 1),
                       self.cqes + 16 * (self.cq_mask + 1))
            self.rings = mmap.mmap(ours, size, mmap.MAP_SHARED)
            self.sqes = mmap.mmap(ours, 64 * (self.sq_mask + 1),
                                  mmap.MAP_SHARED, offset=self.SQES_OFFSET)
        finally:
            os.close(ours)

    def _u32(self, off):
        return struct.unpack_from("<I", self.rings, off)[0]

    def push(self, sqe):
        """Queues one 64-byte entry; the owner's thread must be stopped."""
        tail = self._u32(self.sq_tail)
        slot = tail & self.sq_mask
        self.sqes[slot * 64:slot * 64 + 64] = sqe
        struct.pack_into("<I", self.rings, self.sq_array + 4 * slot, slot)
        struct.pack_into("<I", self.rings, self.sq_tail,
                         (tail + 1) & 0xffffffff)

    def completions(self):
        """{user_data: res} of what nobody has consumed yet."""
        ret = {}
        head, tail = self._u32(self.cq_head), self._u32(self.cq_tail)
        while head != tail:
            user_data, res, _ = struct.unpack_from(
                "<QiI", self.rings, self.cqes + 16 * (head & self.cq_mask))
            ret[user_data] = res
            head = (head + 1) & 0xffffffff
        return ret


def sqe(opcode, fd=-1, addr=0, length=0, off=0, flags=0, user_data=0):
    """A struct io_uring_sqe."""
    return struct.pack("<BBHiQQIIQ", opcode, flags, 0, fd, off, addr, length,
                       0, user_data).ljust(64, b"\0")
