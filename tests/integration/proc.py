"""What /proc says about a process, for checks from the host's side."""

import ctypes
import os
import re


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def status(pid, tid=None):
    """/proc/PID/task/TID/status as a dict of strings."""
    path = f"/proc/{pid}/task/{tid}/status" if tid else f"/proc/{pid}/status"
    fields = (line.split(":", 1) for line in _read(path).splitlines())
    return {key: value.strip() for key, value in fields}


def exists(pid):
    """Whether the process is there and is no zombie."""
    try:
        return not status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_program(pid):
    """Whether it is no kernel thread."""
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except FileNotFoundError:
        return False


def threads(pid):
    """{tid: name}"""
    ret = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            ret[int(tid)] = _read(f"/proc/{pid}/task/{tid}/comm").strip()
        except (FileNotFoundError, ProcessLookupError):
            pass
    return ret


def children(pid):
    """Pids of its children, zombies too."""
    ret = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if int(status(entry)["PPid"]) == pid:
                ret.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sorted(ret)


def registered_files(pid):
    """The files of its one io_uring, by their index there."""
    (ring,) = [fd for fd, what in fds(pid).items()
               if what == "anon_inode:[io_uring]"]
    ret, inside = [], False
    for line in _read(f"/proc/{pid}/fdinfo/{ring}").splitlines():
        if inside and not line.startswith(" "):
            break
        if inside:
            ret.append(line.split(":", 1)[1].strip())
        inside = inside or line.startswith("UserFiles:")
    return ret


def fds(pid):
    """{fd: what it is}, numbers of sockets and pipes taken off."""
    ret = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue  # closed meanwhile
        ret[int(fd)] = re.sub(r"^(socket|pipe):\[\d+\]$", r"\1", target)
    return ret


def namespaces(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}")
            for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts")}


def mounts(pid):
    """[(mount point, options, file system type)]"""
    ret = []
    for line in _read(f"/proc/{pid}/mountinfo").splitlines():
        left, right = line.split(" - ", 1)
        words = left.split()
        ret.append((words[4], words[5].split(","), right.split()[0]))
    return ret


def limits(pid):
    """{name: (soft, hard)} as printed."""
    ret = {}
    for line in _read(f"/proc/{pid}/limits").splitlines()[1:]:
        m = re.match(r"(.{26})(\S+)\s+(\S+)", line)
        ret[m.group(1).strip()] = (m.group(2), m.group(3))
    return ret


def cgroups(pid):
    """[(controllers, path)]: "" as controllers is version 2's."""
    ret = []
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        ret.append((controllers, path))
    return ret


def cgroup_mounts():
    """{controllers or "": mount point}"""
    ret = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ", 1)
        fstype, _, options = right.split()[:3]
        if fstype == "cgroup2":
            ret[""] = left.split()[4]
        elif fstype == "cgroup":
            for option in options.split(","):
                ret[option] = left.split()[4]
    return ret


def vmm_title(pid):
    """The VM whose VMM the process is; "" if it waits in the pool for one."""
    return _read(f"/proc/{pid}/cmdline").split("\0")[1].strip()


def vmms(daemon_pid):
    """{id: pid} of the VMs among its children; the pool's are none."""
    ret = {}
    for pid in children(daemon_pid):
        try:
            title = vmm_title(pid)
        except (OSError, IndexError):
            continue
        if title:
            ret[title] = pid
    return ret


def cgroup_dirs(name):
    """Every cgroup directory of that name, in all hierarchies."""
    found = set()
    for mount in set(cgroup_mounts().values()):
        for parent, dirs, _ in os.walk(mount):
            found.update(os.path.join(parent, d) for d in dirs if d == name)
    return found


def vm_cgroups(pid):
    """The cgroups a VMM has for itself."""
    return {d for d in cgroup_dirs("vm-" + status(pid)["Uid"].split()[0])
            if str(pid) in _read(os.path.join(d, "cgroup.procs")).split()}


def kernel_stacks(pid):
    """Where its threads are in the kernel, as text: for one that hangs."""
    out = []
    for tid in sorted(threads(pid)):
        try:
            where = _read(f"/proc/{pid}/task/{tid}/stack").split("\n")
            out.append(f"{tid} {status(pid, tid)['State']}")
            out.extend("    " + line.split("] ")[-1] for line in where if line)
        except OSError as e:
            out.append(f"{tid}: {e}")
    return "\n".join(out)


def cpu_seconds(pid):
    """User and system time of the whole process."""
    stat = _read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid, what):
    """A sum over all of the process's memory: Rss, Pss, ... in KiB."""
    m = re.search(rf"^{what}:\s+(\d+) kB", _read(f"/proc/{pid}/smaps_rollup"),
                  re.M)
    return int(m.group(1))


def steal_fd(pid, fd):
    """A duplicate of another process's descriptor."""
    pidfd = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        got = libc.syscall(438, pidfd, fd, 0)  # pidfd_getfd
        if got < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return got
    finally:
        os.close(pidfd)


def thread_cpu_seconds(pid, name):
    """User and system time of the thread of that name."""
    tid = next(t for t, n in threads(pid).items() if n == name)
    stat = _read(f"/proc/{pid}/task/{tid}/stat").rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
