#!/usr/bin/env python3
"""A state directory that somebody or something has damaged: the next daemon
starts, waits for nothing in it, keeps the VMs it can, says what was wrong with
which of the others, and touches nothing that is not its own.

usage: test_damage.py MAYFLYD FAKE_VMM
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

from heirs import Line, has_ended, is_alive
from mayflyd import skip_unless_possible

EXE, FAKE = sys.argv[1:3]

PRECIOUS = b"precious"
RANDOM = random.Random(1)


# ---- what may become of a file ----

def missing(path, _):
    os.unlink(path)


def empty(path, _):
    os.truncate(path, 0)


def noise(path, _):
    size = os.path.getsize(path)
    with open(path, "wb") as f:
        f.write(RANDOM.randbytes(min(size, 1 << 16)))
        f.truncate(size)


def longer(path, _):
    with open(path, "ab") as f:
        f.write(b"x")


def directory(path, _):
    os.unlink(path)
    os.mkdir(path)


def fifo(path, _):
    os.unlink(path)
    os.mkfifo(path)


def a_socket(path, _):
    os.unlink(path)
    where = os.getcwd()
    os.chdir(os.path.dirname(path))  # for paths longer than one may be
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.basename(path))
    os.chdir(where)


def endless(path, _):
    os.unlink(path)
    os.symlink("/dev/zero", path)


def circle(path, _):
    os.unlink(path)
    os.symlink(os.path.basename(path), path)


def elsewhere(path, precious):
    """What it leads to is as good as what was there."""
    os.replace(path, precious + "-copy")
    os.symlink(precious + "-copy", path)


def huge(path, _):
    os.truncate(path, 1 << 40)


KINDS = (missing, empty, noise, longer, directory, fifo, a_socket, endless,
         circle, elsewhere, huge)


def cut(at):
    def damage(path, _):
        size = os.path.getsize(path)
        os.truncate(path, at if at >= 0 else max(size + at, 0))
    damage.__name__ = f"cut at {at}"
    return damage


CUTS = tuple(cut(at) for at in (1, 2, 10, -10, -2, -1))


class Damage(unittest.TestCase):
    def setUp(self):
        self.line = Line(EXE, FAKE)
        self.addCleanup(self.line.close)
        self.other = subprocess.Popen(["sleep", "600"])
        self.addCleanup(self.end, self.other)
        self.precious = self.line.path("precious")
        os.mkdir(self.precious)
        for name in ("process", "config.json", "exit", "proc", "shared",
                     "control", "mmds.json"):
            with open(os.path.join(self.precious, name), "wb") as f:
                f.write(PRECIOUS)
        self.keep = self.line.run("keep")

    def tearDown(self):
        self.assertEqual(self.line.daemon.delete("/v1/vms/keep").status, 204)
        self.line.check_uids()

    @staticmethod
    def end(process):
        process.kill()
        process.wait()

    # ---- the VMs ----

    MMDS = {"mmds-config": {"network_interfaces": []}}

    def make(self):
        """One of each kind: pids of those that have a process."""
        line = self.line
        pids = {vm: line.run(vm) for vm in ("runs", "paused", "ended")}
        self.assertEqual(line.pause("paused").status, 204)
        line.daemon.put("/v1/vms/ended/console", b"b")
        self.assertEqual(line.exit_of("ended")["reason"], "shutdown")
        r = line.daemon.put("/v1/vms/idle", line.body(start=False))
        self.assertEqual(r.status, 201)
        r = line.daemon.put("/v1/vms/idle/mmds", {"a": "b"})
        self.assertEqual(r.status, 204, r.body)
        return pids

    def check_rest(self, pids):
        """Whatever happened to one of them, the others are whole; then all
        go, and leave nothing."""
        line = self.line
        self.assertEqual(line.show("keep")["pid"], self.keep)
        self.assertTrue(line.obeys("keep"))
        self.assertIsNone(self.other.poll(), "another process was killed")
        for name in os.listdir(self.precious):
            with open(os.path.join(self.precious, name), "rb") as f:
                self.assertEqual(f.read(), PRECIOUS)
        for vm in line.states():
            if vm != "keep":
                self.assertEqual(line.daemon.delete("/v1/vms/" + vm).status,
                                 204, vm)
        for vm, pid in pids.items():
            self.assertTrue(has_ended(pid), f"{vm} still runs")
        # A VM nobody could show cannot be deleted either.
        for vm in os.listdir(line.path("state", "vms")):
            if vm != "keep":
                self.strays.add(vm)
                shutil.rmtree(line.path("state", "vms", vm))
        kept = ("vms/keep",
                "procs/" + os.path.basename(line.proc_dir("keep")))
        uid = "-" + self.uid_of("keep")
        self.assertEqual([], line.leftovers(
            lambda x: x in kept or x.endswith(uid)))

    def uid_of(self, vm):
        with open(os.path.join(self.line.proc_dir(vm), "process"),
                  encoding="ascii") as f:
            return re.search(r"uid (\d+)", f.read()).group(1)

    def each(self, files, kinds, check):
        """files: {vm: function to the path} of those damaged at once."""
        self.strays = set()
        for kind in kinds:
            with self.subTest(kind.__name__):
                pids = self.make()
                paths = {vm: path(self.line, vm) for vm, path in files.items()}
                self.line.kill()
                for vm, path in paths.items():
                    kind(path, os.path.join(self.line.dir, "moved-" + vm))
                self.line.succeed()
                check(kind, pids)
                self.check_rest(pids)

    def assert_logged(self, event, vm):
        self.assertRegex(self.line.daemon.read_log(),
                         rf"event={event} vm={vm}\b")

    def assert_damaged(self, vm, pid):
        """It runs, but cannot be talked to."""
        vm_shown = self.line.show(vm)
        self.assertEqual(vm_shown["state"], "Running")
        self.assertEqual(vm_shown["pid"], pid)
        r = self.line.pause(vm)
        self.assertEqual(r.status, 409)
        self.assertIn("damaged", r.fault())

    # ---- a file at a time ----

    @staticmethod
    def vm_file(name):
        return lambda line, vm: line.vm_file(vm, name)

    @staticmethod
    def proc_file(name):
        return lambda line, vm: os.path.join(line.proc_dir(vm), name)

    def test_configurations(self):
        def check(kind, pids):
            line = self.line
            states = line.states()
            if kind is missing:
                # Half removed, then.
                self.assertEqual(set(states), {"keep"})
                for vm in ("runs", "paused", "ended", "idle"):
                    self.assert_logged("vm_half_made", vm)
                return
            self.assert_damaged("runs", pids["runs"])
            self.assert_damaged("paused", pids["paused"])
            self.assertEqual(line.exit_of("ended")["reason"], "shutdown")
            self.assertNotIn("idle", states)
            self.assert_logged("vm_not_adopted", "idle")
            for vm in ("runs", "paused", "ended", "idle"):
                self.assert_logged("vm_unreadable", vm)
        self.each({vm: self.vm_file("config.json") for vm in (
            "runs", "paused", "ended", "idle")}, KINDS + CUTS, check)
        # What could not be read is left for somebody who can.
        self.assertEqual(self.strays, {"idle"})

    def test_metadata(self):
        def check(kind, _):
            r = self.line.daemon.get("/v1/vms/idle/mmds")
            self.assertEqual(r.json(), {} if r.status == 200 else r.json())
            self.assertEqual(self.line.states()["idle"], "Not started")
            if kind is not missing:
                self.assert_logged("vm_mmds_lost", "idle")
        self.each({"idle": self.vm_file("mmds.json")}, KINDS + CUTS, check)
        self.assertEqual(self.strays, set())

    def test_ends(self):
        def check(kind, _):
            self.assertEqual(self.line.exit_of("ended"),
                             {"reason": "shutdown", "status": 0})
            if kind is not missing:
                self.assert_logged("vm_exit_unreadable", "ended")
        # It can be read without its very last words.
        self.each({"ended": self.vm_file("exit")},
                  tuple(k for k in KINDS if k not in (longer, a_socket)),
                  check)
        self.assertEqual(self.strays, set())

    def test_processes(self):
        """The kernel still knows who listens."""
        def check(_, pids):
            self.assert_damaged("runs", pids["runs"])
            self.assert_damaged("paused", pids["paused"])
            self.assertEqual(self.line.exit_of("ended"),
                             {"reason": "shutdown", "status": 0})
            for vm in ("runs", "paused"):
                self.assert_logged("vm_process_unreadable", vm)
        self.each({vm: self.proc_file("process") for vm in (
            "runs", "paused", "ended")}, KINDS + CUTS, check)

    def test_memories(self):
        def check(_, pids):
            self.assert_damaged("runs", pids["runs"])
            self.assert_damaged("paused", pids["paused"])
            self.assertEqual(self.line.exit_of("ended"),
                             {"reason": "shutdown", "status": 0})
            for vm in ("runs", "paused", "ended"):
                self.assert_logged("vm_memory_unreadable", vm)
        self.each({vm: self.proc_file("shared") for vm in (
            "runs", "paused", "ended")}, KINDS + CUTS, check)

    def test_sockets(self):
        """Whoever cannot be reached is ended."""
        def check(*_):
            for vm in ("runs", "paused"):
                self.assertEqual(self.line.exit_of(vm)["reason"], "crashed")
                self.assertEqual(self.line.states()[vm], "Exited")
        self.each({vm: self.proc_file("control") for vm in (
            "runs", "paused")}, (missing, directory, fifo, a_socket, endless,
                                 circle), check)

    # ---- links and directories ----

    def relink(self, target):
        def damage(path, _):
            os.unlink(path)
            os.symlink(target, path)
        damage.__name__ = "to " + os.path.basename(target)
        return damage

    def test_links(self):
        other = "../../procs/" + os.path.basename(self.line.proc_dir("keep"))
        kinds = [self.relink(t) for t in (
            self.precious, "../../procs/..", "../../procs/0123456789abcdef",
            "../../procs/" + "a" * 200)]

        def check(_, pids):
            states = self.line.states()
            # Nothing leads to it any more: it was ended, and is not forgotten.
            for vm in ("runs", "paused"):
                self.assertEqual(states[vm], "Exited")
                self.assertEqual(self.line.exit_of(vm)["reason"], "crashed")
                self.assertTrue(has_ended(pids[vm]))
                self.assert_logged("vm_process_unreadable", vm)
            self.assertEqual(self.line.exit_of("ended")["reason"], "shutdown")
        files = {vm: self.vm_file("proc") for vm in (
            "runs", "paused", "ended")}
        self.each(files, kinds + [directory, fifo, a_socket], check)

        def check_shared(_, pids):
            log = self.line.daemon.read_log()
            self.assertRegex(log, r'event=vm_not_adopted vm=\w+ error="its '
                                  r'process is that of the VM')
            self.assertTrue(has_ended(pids["runs"]))
        self.strays = set()
        pids = self.make()
        self.line.kill()
        # Whose it is by name, and who comes first, is for the directory.
        self.relink(other)(self.line.vm_file("runs", "proc"), None)
        self.line.succeed()
        check_shared(None, pids)
        first = "keep" if "keep" in self.line.states() else "runs"
        self.assertEqual(self.line.show(first)["pid"], self.keep)
        self.line.kill()
        shutil.rmtree(self.line.path("state", "vms", "runs"))
        self.line.succeed()
        self.check_rest(pids)

    def test_directories_that_lead_elsewhere(self):
        pids = self.make()
        self.strays = set()
        line = self.line
        proc = line.proc_dir("paused")
        line.kill()
        os.symlink(self.precious, line.path("state", "vms", "link"))
        os.symlink(self.precious, line.path("state", "procs", "abc"))
        os.rename(proc, line.path("moved-proc"))
        os.symlink(line.path("moved-proc"), proc)
        for name in ("x" * 65, "x y", "a.b", ".hidden"):
            os.makedirs(line.path("state", "vms", name))
        for name in ("f" * 24, "0123x", "ABC"):
            os.makedirs(line.path("state", "procs", name))
        with open(line.path("state", "vms", "file"), "wb"):
            pass
        line.succeed()
        log = line.daemon.read_log()
        for name in ("link", "abc", "x y", ".hidden", "0123x", "file",
                     os.path.basename(proc)):
            self.assertIn(f'event=state_not_ours entry="{name}"', log)
        self.assertEqual(line.states()["runs"], "Running")
        self.assertEqual(line.exit_of("paused")["reason"], "crashed")
        self.assertEqual(len(os.listdir(line.path("moved-proc"))), 3)
        # Nobody's, as far as can be seen.
        self.assertTrue(is_alive(pids["paused"]))
        os.kill(pids.pop("paused"), 9)
        for path in (line.path("state", "vms", "link"),
                     line.path("state", "vms", "file"),
                     line.path("state", "procs", "abc"), proc):
            os.unlink(path)
        for name in ("x" * 65, "x y", "a.b", ".hidden"):
            os.rmdir(line.path("state", "vms", name))
        for name in ("f" * 24, "0123x", "ABC"):
            os.rmdir(line.path("state", "procs", name))
        line.kill()
        line.succeed()
        self.check_rest(pids)

    # ---- numbers ----

    def forge(self, **values):
        """In the process file."""
        def damage(path, _):
            with open(path, encoding="ascii") as f:
                text = f.read()
            for key, value in values.items():
                text = re.sub(rf"{key} \S+", f"{key} {value}", text)
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
        damage.__name__ = " ".join(f"{k}={v}" for k, v in values.items())
        return damage

    @staticmethod
    def ended(damage):
        """The same, of one that has ended without a daemon."""
        def both(path, precious):
            with open(path, encoding="ascii") as f:
                pid = int(re.search(r"pid (\d+)", f.read()).group(1))
            os.kill(pid, 9)
            while is_alive(pid):
                time.sleep(0.001)
            damage(path, precious)
        both.__name__ = damage.__name__ + ", ended"
        return both

    @staticmethod
    def start_of(pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[19]

    def test_numbers_that_are_not_its_own(self):
        """Nobody else is signalled, and it is found."""
        def check(_, pids):
            self.assert_damaged("runs", pids["runs"])
            self.assert_logged("vm_process_unreadable", "runs")
        other = self.other.pid
        self.each({"runs": self.proc_file("process")}, [
            self.forge(pid=0), self.forge(pid=1), self.forge(pid=-1),
            self.forge(pid="99999999999"), self.forge(pid="4294967298"),
            self.forge(start=0), self.forge(start="9" * 30),
            self.forge(uid=0), self.forge(uid=-1), self.forge(uid="1e3"),
            self.forge(protocol=-1), self.forge(protocol=0),
            self.forge(cgroup="x" * 90), self.forge(cgroup="vm"),
            self.forge(pid=other), self.forge(start=1),
            self.forge(pid=other, start=self.start_of(other)),
            self.forge(pid=other, start=self.start_of(other), uid=0),
            self.forge(uid=self.uid_of("keep")), self.forge(uid=12345)],
            check)

    def test_numbers_of_others_that_nobody_contradicts(self):
        """It has ended: so has whoever has its number, for all that is done
        about it."""
        def check(*_):
            self.assertEqual(self.line.exit_of("runs")["reason"], "crashed")
        other = self.other.pid
        self.each({"runs": self.proc_file("process")}, [
            self.ended(self.forge(**values)) for values in (
                {"pid": 1}, {"pid": other}, {"uid": self.uid_of("keep")},
                {"pid": other, "start": self.start_of(other)},
                {"pid": other, "start": self.start_of(other), "uid": 0})],
            check)

    def test_a_cgroup_of_others(self):
        """Neither its members nor itself are touched."""
        top = next((t for t in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
                    if os.path.isdir(t)))
        uid = self.uid_of("keep")
        group = os.path.join(top, f"mayfly-test-{os.getpid()}")
        for path in (group, f"{group}-{uid}"):
            os.mkdir(path)
            self.addCleanup(self.line.daemon.wait_for, path, lambda p=path: (
                self.try_rmdir(p)))
        member = subprocess.Popen(["sleep", "600"])
        try:
            with open(os.path.join(group, "cgroup.procs"), "w",
                      encoding="ascii") as f:
                f.write(str(member.pid))

            def check(*_):
                self.assertEqual(self.line.states()["runs"], "Exited")
                self.assertEqual(
                    self.line.daemon.delete("/v1/vms/runs").status, 204)
                self.assertIsNone(member.poll())
                self.assertTrue(os.path.isdir(group))
            self.each({"runs": self.proc_file("process")}, [
                self.ended(self.forge(cgroup=name)) for name in (
                    "../" + os.path.basename(group),
                    f"../{os.path.basename(group)}-{uid}", "..", ".", "vm",
                    f"vm-{uid}")], check)
        finally:
            member.kill()
            member.wait()

    @staticmethod
    def try_rmdir(path):
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True

if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
