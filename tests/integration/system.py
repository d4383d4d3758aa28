"""A Debian with systemd of its own, for tests that install the package: booted
in namespaces by tools/lib/system-boot."""

import functools
import itertools
import os
import shutil
import subprocess

import mayfly
from harness import eventually, scaled

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                   "..", "..", "tools", "lib")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
HERE = "/srv/test"  # where it has its directory `shared`


@functools.cache
def made(name, *command):
    """What MAYFLY_NAME says, where somebody has made it already, else the path
    that the command prints."""
    path = os.environ.get("MAYFLY_" + name)
    return path or subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        encoding="utf-8").stdout.strip()


def package():
    build = os.environ["MAYFLY_BUILD"]
    return made("PACKAGE", os.path.join(LIB, "..", "package"),
                "--output", build)


def root():
    return made("SYSTEM", os.path.join(LIB, "system-root"), package())


class System:
    """Also the `daemon` of a mayfly.Vm: its mayflyd is reached from outside."""

    def __init__(self, directory):
        self.shared = os.path.join(directory, "shared")
        self._process = subprocess.Popen(
            [os.path.join(LIB, "system-boot"), root(), directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8")
        pid = self._process.stdout.readline().strip()
        assert pid.isdigit(), "the system does not boot, see above"
        self.pid = int(pid)
        self.api = mayfly.Api(f"/proc/{pid}/root/run/mayfly/mayfly.sock")
        try:
            # Before its D-Bus is there, nothing can wait for it.
            state = eventually("the system is up", self._state, scaled(60),
                               0.2)
            assert state == "running", (
                state + ": " + self.run("systemctl", "--failed"))
        except BaseException:
            self.close()
            raise

    def _state(self):
        state = self.call("systemctl", "is-system-running").stdout.strip()
        return state if state in ("running", "degraded") else None

    def alive(self):
        return self._process.poll() is None

    def close(self):
        self._process.terminate()
        self._process.wait(30)

    def put(self, path, name=None):
        """Copies a file into it; returns its path there."""
        name = name or os.path.basename(path)
        shutil.copy(path, os.path.join(self.shared, name))
        return f"{HERE}/{name}"

    def call(self, *command, user="root", timeout=30, stdin=""):
        """Runs a command as this user, with all the user's groups."""
        become = () if user == "root" else (
            "setpriv", "--reuid", user, "--regid", user, "--init-groups")
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "env", "-i",
             f"PATH={PATH}", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
             *become, *command],
            input=stdin, capture_output=True, encoding="utf-8",
            errors="replace", timeout=scaled(timeout), check=False)

    def run(self, *command, **more):
        """One that has to succeed; what it prints."""
        done = self.call(*command, **more)
        assert done.returncode == 0, done
        return done.stdout

    def show(self, unit, what):
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", what,
                        unit).strip()

    def is_active(self, unit):
        return self.show(unit, "ActiveState") == "active"

    def processes(self, word):
        """Those in it whose command's name holds the word: {pid: name}."""
        lines = self.run("sh", "-c", "grep -H . /proc/[0-9]*/comm || true")
        names = (line.split(":", 1) for line in lines.splitlines())
        return {int(path.split("/")[2]): name for path, name in names
                if word in name}

    def files(self):
        """Every path in it, and for what is in /etc its content's hash, but for
        what systemd and dpkg note down all the time."""
        noted = ("/run/systemd/", "/run/log/", "/run/dbus/", "/var/log/",
                 "/var/lib/dpkg/", "/var/lib/systemd/", "/var/tmp/systemd-",
                 "/tmp/systemd-", "/etc/subuid-", "/etc/subgid-")
        out = self.run("sh", "-c", "find / /run /dev -xdev; "
                       "find /etc -type f ! -name '*-' -exec sha256sum {} +",
                       timeout=60)
        return {line for line in out.splitlines()
                if not line.startswith(noted)}

    def cgroups(self, word):
        return self.run("find", "/sys/fs/cgroup", "-name",
                        f"*{word}*").splitlines()


class Vm(mayfly.Vm):
    """One that was made otherwise, on a System."""

    def __init__(self, system, vm_id):
        # pylint: disable=super-init-not-called
        self.daemon, self.id = system, vm_id
        self.console = None
        self._commands = itertools.count(1)

    def reconnect(self):
        """Its daemon is another one now."""
        if self.console:
            self.console.close()
        self.console = None
