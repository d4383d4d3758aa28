"""Daemons that come one after the other to one directory, and what each must
find and leave."""

import os
import shutil
import time

from mayflyd import Mayflyd

# A daemon that waits for nothing has started by then.
START_S = 5

UIDS = 24


def is_alive(pid):
    """And no zombie: whose child it has become may not have reaped it yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii",
                  errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def has_ended(pid):
    """Soon: a daemon that starts does not wait for those it ends."""
    deadline = time.monotonic() + START_S
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.002)
    return not is_alive(pid)


def fnv1a(text):
    h = 0x811c9dc5
    for c in text.encode():
        h = ((h ^ c) * 0x01000193) & 0xffffffff
    return h


class Line:
    """A directory, and the daemon that has it at the moment. Each is a session
    of its own: one that signals its process group must not take the test
    along."""

    def __init__(self, exe, vmm, *options):
        self.exe = exe
        self.options = ("--vmm", vmm, "--start-timeout", "2",
                        "--request-timeout", "1", "--memory-reserve", "0",
                        "--uid-base", str(2000000 + os.getpid() % 4000 * UIDS),
                        "--uid-count", str(UIDS), *options)
        self.daemon = Mayflyd(exe, *self.options, start_new_session=True)
        self.dir = self.daemon.dir
        self.logs = ""  # of those that were killed
        self.kernel = self.path("kernel")
        with open(self.kernel, "wb") as f:
            f.write(b"kernel")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def vm_file(self, vm, name):
        return self.path("state", "vms", vm, name)

    def proc_dir(self, vm):
        return os.path.realpath(self.vm_file(vm, "proc"))

    def kill(self):
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.logs += self.daemon.read_log()

    def succeed(self):
        """The next daemon; the one before has been killed. How long it took."""
        start = time.monotonic()
        self.daemon = Mayflyd(self.exe, *self.options, directory=self.dir,
                              start_new_session=True)
        took = time.monotonic() - start
        assert took < START_S, f"it took {took:.1f} s to start"

    def close(self):
        try:
            assert self.daemon.process.poll() is None, self.daemon.read_log()
            status = self.daemon.stop()
            assert status == 0, f"it ended with {status}: " + (
                self.daemon.read_log())
        finally:
            shutil.rmtree(self.dir)

    def body(self, args="", start=True, **more):
        return {"boot-source": {"kernel_image_path": self.kernel,
                                "boot_args": args}, "start": start, **more}

    def run(self, vm, args="outlive=ok", **more):
        r = self.daemon.put("/v1/vms/" + vm, self.body(args, **more))
        assert r.status == 201, r.body
        return r.json()["pid"]

    def show(self, vm):
        r = self.daemon.get("/v1/vms/" + vm)
        return r.json() if r.status == 200 else None

    def states(self):
        vms = self.daemon.get("/v1/vms").json()["vms"]
        return {vm["id"]: vm["state"] for vm in vms}

    def pause(self, vm, state="Paused"):
        return self.daemon.patch(f"/v1/vms/{vm}/vm", {"state": state})

    def obeys(self, vm):
        return (self.pause(vm).status, self.pause(vm, "Resumed").status) == (
            204, 204)

    def exit_of(self, vm):
        """In a moment, if not yet: its reason and what else there is."""
        return self.daemon.get(
            f"/v1/vms/{vm}/wait?timeout_ms=5000").json()["exit"]

    def leftovers(self, but=lambda name: False):
        """What is there of VMs that are no more: of a daemon without any, when
        it has had the time for those it found."""
        deadline = time.monotonic() + START_S
        while True:
            left = [x for x in self.look_for_leftovers() if not but(x)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.01)

    def look_for_leftovers(self):
        left = []
        for name in ("vms", "procs"):
            left += [f"{name}/{x}" for x in os.listdir(
                self.path("state", name))]
        group = f"mayfly-{fnv1a(os.path.realpath(self.path('state'))):08x}"
        for top in ("", "memory", "pids", "unified"):
            parent = os.path.join("/sys/fs/cgroup", top, group)
            if os.path.isdir(parent):
                left += [os.path.join(parent, x) for x in os.listdir(parent)
                         if os.path.isdir(os.path.join(parent, x))]
        return left

    def check_uids(self):
        """None is lost: so many VMs run at a time."""
        for n in range(UIDS):
            self.run(f"uid{n}")
        for n in range(UIDS):
            assert self.daemon.delete(f"/v1/vms/uid{n}").status == 204
