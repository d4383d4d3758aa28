"""What a test is given, and how it says which kind it is.

    @native()
    def test_sentence(t):
        vm = t.vm(images.puppet(), start=True)

A test is a function test_* in a file test_*.py, marked @native (a guest of our
own is enough; runs on any /dev/kvm), @linux (a real Linux has to run at a
bearable speed) or @package (the Debian package is installed, with whatever
guest KVM can run). What `t` hands out is taken back when the test ends; what
t.shared() made stays for the file's other tests.
"""

import os
import re
import shutil
import tempfile
import time

import mayfly

NATIVE_LIMIT = 60
LINUX_LIMIT = 120
PACKAGE_LIMIT = 150


def program(build):
    """The daemon, in a build directory."""
    return os.path.join(build, "daemon", "mayflyd")


class Skip(Exception):
    """Raised by a test that cannot run here; says why."""


class TimeLimit(BaseException):
    """Raised into a test that runs too long."""


def _mark(kind, limit):
    def decorate(f):
        f.kind = kind
        f.limit = limit
        return f
    return decorate


def native(limit=NATIVE_LIMIT):
    return _mark("native", limit)


def linux(limit=LINUX_LIMIT):
    return _mark("linux", limit)


def package(limit=PACKAGE_LIMIT):
    return _mark("package", limit)


def eventually(what, check, timeout=10, interval=0.01):
    """Waits until check() gives something true; returns it. For what has no
    event to wait for; `what` is said when it never comes."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(interval)


def scaled(seconds):
    """A time limit for what a Linux guest does: in the test bed, where it is
    emulated, it takes longer. MAYFLY_SLOW says how many times."""
    slow = "4" if "MAYFLY_TESTBED" in os.environ else "1"
    return seconds * float(os.environ.get("MAYFLY_SLOW", slow))


class File:
    """What the tests of one file have in common: a daemon, shared guests."""

    def __init__(self, build):
        self.build = build
        # Short, since a socket's path has to fit in 108 bytes.
        self.dir = tempfile.mkdtemp(prefix="mayfly-")
        self._daemon = None
        self._shared = {}
        self.daemons = []  # all there ever were
        self._at_close = []

    def new_daemon(self, extra_args=(), **popen):
        directory = tempfile.mkdtemp(prefix="d", dir=self.dir)
        daemon = mayfly.Daemon(
            program(self.build), directory, extra_args, **popen)
        self.daemons.append(daemon)
        return daemon

    @property
    def daemon(self):
        if not self._daemon or not self._daemon.alive():
            self._shared = {}
            self._daemon = self.new_daemon()
        return self._daemon

    @property
    def running_daemon(self):
        """The shared daemon if there is one, dead or alive."""
        return self._daemon

    def shared(self, key, make):
        daemon = self.daemon
        if key not in self._shared:
            self._shared[key] = make(daemon)
        return self._shared[key]

    def shared_vms(self):
        return [v for v in self._shared.values() if isinstance(v, mayfly.Vm)]

    def drop_shared(self, vm):
        self._shared = {k: v for k, v in self._shared.items() if v is not vm}

    def at_close(self, f, *args):
        """Called when the file's tests are over and its daemon has ended."""
        self._at_close.append((f, args))

    def close(self):
        if self._daemon:
            self._daemon.close()
        for f, args in reversed(self._at_close):
            f(*args)
        shutil.rmtree(self.dir, ignore_errors=True)


class Context:
    """One test's."""

    def __init__(self, file):
        self.file = file
        self.build = file.build
        self.vms = []
        self._cleanups = []
        self._explanations = []
        self._dir = None
        running = file.running_daemon
        self._log_start = running.log_size() if running else 0

    @property
    def daemon(self):
        return self.file.daemon

    @property
    def api(self):
        return self.daemon.api

    @property
    def dir(self):
        """A directory which the test may fill."""
        if not self._dir:
            self._dir = tempfile.mkdtemp(prefix="t-", dir=self.file.dir)
        return self._dir

    def path(self, name):
        return os.path.join(self.dir, name)

    def explain(self, f):
        """f() -> text that a person wants to see when the test failed."""
        self._explanations.append(f)

    def cleanup(self, f, *args):
        self._cleanups.append((f, args))

    def own_daemon(self, *extra_args, **popen):
        """A daemon for this test alone; popen: as subprocess.Popen takes."""
        daemon = self.file.new_daemon(extra_args, **popen)
        self.cleanup(daemon.close)
        return daemon

    def vm(self, config=None, vm_id=None, start=False, daemon=None):
        vm = mayfly.Vm(daemon or self.daemon, config, vm_id, start)
        self.vms.append(vm)
        return vm

    def shared(self, key, make):
        """make(daemon) -> Vm, called once for all tests of the file."""
        vm = self.file.shared(key, make)
        self.vms.append(vm)
        return vm

    def tails(self):
        """What a person wants to see when the test failed."""
        out = []
        for vm in self.vms:
            try:
                text = vm.console.text() if vm.console else (
                    vm.output().decode(errors="replace"))
            except Exception as e:
                text = f"(no console: {e})"
            out.append(f"--- console of {vm.id}")
            out.extend(text.splitlines()[-25:])
        daemons = {vm.daemon for vm in self.vms}
        if self.file.running_daemon:
            daemons.add(self.file.running_daemon)
        for daemon in daemons:
            shared = daemon is self.file.running_daemon
            out.append(f"--- log of mayflyd, pid {daemon.pid}")
            out.append(daemon.log_tail(
                40, self._log_start if shared else 0))
        for f in self._explanations:
            try:
                out.append(f())
            except Exception as e:
                out.append(f"(no more to see: {e})")
        return "\n".join(out)

    def close(self):
        """Deletes the test's VMs and runs its cleanups. Raises what went
        wrong there last: a VM that cannot be deleted is a failure."""
        problem = None
        keep = self.file.shared_vms()
        for vm in self.vms:
            if vm in keep:
                continue
            try:
                if vm.console:
                    vm.console.close()
                if vm.daemon.alive():
                    vm.daemon.api.request("DELETE", vm.url())
            except Exception as e:
                problem = e
        for f, args in reversed(self._cleanups):
            try:
                f(*args)
            except Exception as e:
                problem = e
        if self._dir:
            shutil.rmtree(self._dir, ignore_errors=True)
        if problem:
            raise problem


# Checks in more than one file.

def words(text):
    """The words of a fault message or reason, lower case."""
    return set(re.findall(r"[a-z0-9_]+", text.lower()))


def check_exit(vm, reason, timeout=30):
    """Waits for the end and checks that wait and GET agree on why."""
    ended = vm.wait(timeout)
    assert ended["reason"] == reason, f"exit is {ended}, wanted {reason}"
    info = vm.get()
    assert info["state"] == "Exited", info
    assert info["exit"]["reason"] == reason, info
    return info


def check_usable(t, vm):
    """Another VM still answers: whatever the test did harmed only its own."""
    assert vm.state == "Running"
    vm.type("?")
    vm.expect(r"\?", 10)
