"""The Debian package, on a clean system with systemd: from its installation to
its purge, in this order. The guest is Linux where KVM can run that."""

import json
import os
import subprocess
import tempfile

import images
import proc
from guests import GREETING
from harness import eventually, package, program, scaled
from system import HERE, System, Vm
from system import package as package_file


class Tiny:
    """tests/guests/puppet.S: it echoes."""

    def __init__(self, system):
        self.options = ["--kernel", system.put(images.puppet_kernel()),
                        "--memory", "16"]

    def greet(self, vm):
        vm.expect("puppet ready", 10)

    def check(self, vm):
        vm.type("?")
        vm.expect(r"\?", 10)


class Linux:
    """Debian's kernel, with a shell."""

    def __init__(self, system):
        self.options = [
            "--kernel", system.put(images.bzimage(), "vmlinuz"),
            "--initrd", system.put(images.initrd(), "initrd"),
            "--root", system.put(images.rootfs(), "root.ext4"),
            "--append", "console=ttyS0 quiet mayfly.shell=plain",
            "--memory", "128"]

    def greet(self, vm):
        vm.expect(GREETING, scaled(20))

    def check(self, vm):
        # What the console said before may come first.
        said = vm.sh("uname -s", scaled(10))
        assert said.splitlines()[-1] == "Linux", said


def runs_linux(build):
    return subprocess.run([program(build), "--probe"], check=False,
                          stdin=subprocess.DEVNULL,
                          capture_output=True).returncode == 0


class Installed:
    """The one system of this file, with the package."""

    def __init__(self, t):
        directory = tempfile.mkdtemp(prefix="system", dir=t.file.dir)
        self.system = System(directory)
        t.file.at_close(self.system.close)
        self.before = self.system.files()
        self.deb = self.system.put(package_file())
        self.system.run("dpkg", "--install", self.deb, timeout=60)
        self.system.run("useradd", "--groups", "mayfly", "member")
        self.system.run("useradd", "stranger")
        kind = Linux if runs_linux(t.build) else Tiny
        self.guest = kind(self.system)
        self.vms = []

    def mayfly(self, *words, user="member"):
        return self.system.run("mayfly", *words, user=user)

    def boot(self, name):
        """A running guest, the group's work."""
        self.mayfly("create", name, *self.guest.options)
        self.mayfly("start", name)
        vm = Vm(self.system, name)
        self.vms.append(vm)
        self.guest.greet(vm)
        return vm

    def some_vm(self):
        return self.vms[0] if self.vms else self.boot("first")

    def daemon_pid(self):
        return int(self.system.show("mayfly.service", "MainPID"))

    def check_kept(self, vm, pid):
        """The guest runs on in the same process, for whoever serves it now."""
        now = vm.get()
        assert (now["state"], now["pid"]) == ("Running", pid), now
        vm.reconnect()
        self.guest.check(vm)

    def check_nothing_runs(self):
        left = self.system.processes("mayfly")
        assert left == {}, left
        left = self.system.cgroups("mayfly")
        assert left == [], left

    def journal(self, *more):
        return self.system.run("journalctl", "--unit", "mayfly.service",
                               "--no-pager", *more)


def installed(t):
    it = getattr(t.file, "installed", None)
    if not it:
        it = t.file.installed = Installed(t)
    t.explain(lambda: it.journal("--lines", "40"))
    return it


@package()
def test_package_starts_its_service_on_a_clean_system(t):
    it = installed(t)
    system = it.system
    for unit in "mayfly.service", "mayfly.socket":
        assert system.is_active(unit), system.run("systemctl", "status", unit)
        assert system.show(unit, "UnitFileState") == "enabled"
    assert system.show("mayfly.service", "StatusText") == "0 VMs"
    stat = system.run("stat", "--format", "%A %U %G", "/run/mayfly",
                      "/run/mayfly/mayfly.sock").splitlines()
    assert stat == ["drwx--x--x root root", "srw-rw---- root mayfly"], stat
    # Its documentation and all it is made of.
    listed = system.run("dpkg", "--listfiles", "mayfly").split()
    for path in ("/usr/sbin/mayflyd", "/usr/bin/mayfly",
                 "/usr/libexec/mayfly/mayfly-vmm",
                 "/usr/libexec/mayfly/firecracker",
                 "/usr/libexec/mayfly/jailer",
                 "/usr/share/man/man1/mayfly-jailer.1.gz",
                 "/usr/share/man/man1/mayfly.1.gz",
                 "/usr/share/man/man8/mayflyd.8.gz",
                 "/usr/share/bash-completion/completions/mayfly",
                 "/usr/share/zsh/vendor-completions/_mayfly",
                 "/usr/share/doc/mayfly/copyright"):
        assert path in listed, path
    assert system.call("dpkg", "--verify", "mayfly").stdout == ""


@package()
def test_package_lets_its_group_boot_a_guest_and_nobody_else(t):
    it = installed(t)
    system = it.system
    refused = system.call("mayfly", "ps", user="stranger")
    assert refused.returncode != 0 and "may you write" in refused.stderr, (
        refused)
    vm = it.some_vm()
    it.guest.check(vm)
    answer = system.run("curl", "--silent", "--unix-socket",
                        "/run/mayfly/mayfly.sock", "http://localhost/v1/vms",
                        user="member")
    assert [x["id"] for x in json.loads(answer)["vms"]] == [vm.id], answer
    # When memory is short, the daemon goes last and its guest does not; if this
    # system may do that.
    lowered = system.call("sh", "-c", "echo -900 >/proc/self/oom_score_adj")
    scores = [system.run("cat", f"/proc/{pid}/oom_score_adj").strip()
              for pid in (it.daemon_pid(), vm.pid)]
    assert scores == ["0" if lowered.returncode else "-900", "0"], scores
    # Who did it stands in the journal, and how grave it is.
    uid = system.run("id", "--user", "member").strip()
    lines = [json.loads(x) for x in
             it.journal("--output", "json").splitlines()]
    made, = [x for x in lines if "event=api_change" in x["MESSAGE"]
             and f"path=\"/v1/vms/{vm.id}\"" in x["MESSAGE"]]
    assert f" uid={uid} " in made["MESSAGE"], made
    assert "status=201" in made["MESSAGE"], made
    assert made["PRIORITY"] == "6", made
    eventually("the service's status", lambda: system.show(
        "mayfly.service", "StatusText") == "1 VM")


@package()
def test_package_keeps_guests_over_a_restart_of_the_service(t):
    it = installed(t)
    vm = it.some_vm()
    pid, daemon = vm.pid, it.daemon_pid()
    it.system.run("systemctl", "restart", "mayfly.service")
    assert it.daemon_pid() != daemon
    it.check_kept(vm, pid)
    assert it.system.show("mayfly.service", "StatusText") == "1 VM"


@package()
def test_package_restarts_a_daemon_that_dies_and_keeps_guests(t):
    it = installed(t)
    vm = it.some_vm()
    pid, daemon = vm.pid, it.daemon_pid()
    it.system.run("systemctl", "kill", "--kill-whom=main",
                  "--signal=SIGKILL", "mayfly.service")
    eventually("another daemon", lambda: it.daemon_pid() not in (0, daemon)
               and it.system.is_active("mayfly.service"), scaled(20))
    it.check_kept(vm, pid)


@package()
def test_package_starts_its_service_when_somebody_connects(t):
    it = installed(t)
    vm = it.some_vm()
    pid = vm.pid
    it.system.run("systemctl", "stop", "mayfly.service")
    assert not it.system.is_active("mayfly.service")
    assert it.system.processes("mayflyd") == {}
    answer = json.loads(it.mayfly("ps"))
    assert [x["id"] for x in answer] == [vm.id], answer
    assert it.system.is_active("mayfly.service")
    it.check_kept(vm, pid)


@package()
def test_package_keeps_guests_over_an_upgrade(t):
    it = installed(t)
    vm = it.some_vm()
    pid, daemon = vm.pid, it.daemon_pid()
    # dpkg does for the same version what it does for another.
    it.system.run("dpkg", "--install", it.deb, timeout=60)
    assert it.daemon_pid() != daemon
    it.check_kept(vm, pid)


@package()
def test_package_can_be_removed_and_purged_without_a_trace(t):
    it = installed(t)
    system = it.system
    vm = it.some_vm()
    outer = proc.children(system.pid)
    assert outer
    it.system.run("dpkg", "--remove", "mayfly", timeout=60)
    # The guest went with it, and so did whatever is called Mayfly.
    it.check_nothing_runs()
    vm.reconnect()
    system.run("dpkg", "--purge", "mayfly", timeout=60)
    for user in "member", "stranger":
        system.run("userdel", user)
    after = system.files()
    new = {x for x in after - it.before if HERE not in x}
    gone = it.before - after
    assert (new, gone) == (set(), set()), (sorted(new), sorted(gone))
    assert system.call("getent", "group", "mayfly").returncode == 2
    units = system.run("systemctl", "list-units", "--all", "--plain",
                       "--no-legend", "mayfly*")
    assert units == "", units
    assert os.path.exists(f"/proc/{system.pid}")
    t.file.installed = None


def daemon_is_away(it):
    it.system.run("systemctl", "stop", "mayfly.service", "mayfly.socket")


def daemon_cannot_come_back(it):
    daemon_is_away(it)
    it.system.run("chmod", "a-x", "/usr/sbin/mayflyd")


@package()
def test_package_ends_its_guests_whatever_became_of_the_daemon(t):
    it = t.file.second = Installed(t)
    t.explain(lambda: it.journal("--lines", "40"))
    for became in daemon_is_away, daemon_cannot_come_back:
        it.boot(became.__name__)
        became(it)
        assert list(it.system.processes("mayfly").values()) == ["mayfly-vmm"]
        it.system.run("dpkg", "--remove", "mayfly", timeout=60)
        it.check_nothing_runs()
        it.system.run("dpkg", "--install", it.deb, timeout=60)
        assert json.loads(it.mayfly("ps")) == []


@package()
def test_package_ends_its_guests_when_the_host_shuts_down(t):
    it = getattr(t.file, "second", None) or Installed(t)
    t.explain(lambda: it.journal("--lines", "40"))
    it.boot("last")
    it.system.run("systemctl", "poweroff")
    # systemd would wait 90 s for what is left.
    eventually("the system is down", lambda: not it.system.alive(), 60)
