#!/usr/bin/env python3
"""A daemon ends or forgets of the VMs before it what it is certain of: never
one that it cannot look at for want of files, that has an older one's user id,
or that does not move at the moment.

usage: test_certain.py MAYFLYD FAKE_VMM
"""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import sys
import unittest

from heirs import Line, has_ended, is_alive
from mayflyd import Mayflyd, skip_unless_possible

EXE, FAKE = sys.argv[1:3]

PR_SET_CHILD_SUBREAPER = 36
FREEZER = "/sys/fs/cgroup/freezer"


class Certain(unittest.TestCase):
    def line(self, *options):
        line = Line(EXE, FAKE, *options)
        self.addCleanup(line.close)
        return line

    def delete_all(self, line):
        for vm in line.states():
            self.assertEqual(line.daemon.delete("/v1/vms/" + vm).status, 204)
        self.assertEqual(line.leftovers(), [])

    @staticmethod
    def uid_of(line, vm):
        with open(os.path.join(line.proc_dir(vm), "process"),
                  encoding="ascii") as f:
            words = f.read().split()
        return words[words.index("uid") + 1]

    def end(self, line, vm):
        """By itself, as its daemon sees."""
        line.daemon.put(f"/v1/vms/{vm}/console", b"b")
        self.assertEqual(line.exit_of(vm)["reason"], "shutdown")

    def test_an_exited_vm_has_no_claim_to_what_its_user_id_runs_now(self):
        line = self.line()
        line.run("old", "outlive=ok")
        self.end(line, "old")
        line.kill()
        line.succeed()
        pids = [line.run("new" + str(n)) for n in range(4)]
        self.assertIn(self.uid_of(line, "old"),
                      [self.uid_of(line, f"new{n}") for n in range(4)])
        for _ in range(2):
            line.kill()
            line.succeed()
            for n, pid in enumerate(pids):
                self.assertTrue(is_alive(pid))
                self.assertTrue(line.obeys(f"new{n}"))
            self.assertEqual(line.states()["old"], "Exited")
        # Nor when it goes.
        self.assertEqual(line.daemon.delete("/v1/vms/old").status, 204)
        self.assertTrue(all(is_alive(pid) for pid in pids))
        self.delete_all(line)

    def test_nor_has_one_that_nobody_has_reaped(self):
        """As where process 1 does not: they are ours, and stay zombies."""
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        self.assertEqual(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0)
        self.addCleanup(prctl, PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        line = self.line()
        old = [line.run(f"old{n}") for n in range(4)]
        uids = [self.uid_of(line, f"old{n}") for n in range(4)]
        line.kill()
        line.succeed()
        for n in range(4):
            self.end(line, f"old{n}")
        line.kill()
        line.succeed()
        new = [line.run(f"new{n}") for n in range(6)]
        self.assertTrue(set(uids) & {
            self.uid_of(line, f"new{n}") for n in range(6)})
        for _ in range(2):
            line.kill()
            line.succeed()
            for n, pid in enumerate(new):
                self.assertTrue(is_alive(pid))
                self.assertTrue(line.obeys(f"new{n}"))
        for pid in old:
            self.assertEqual(os.waitpid(pid, os.WNOHANG)[0], pid)
        self.delete_all(line)
        for pid in new:
            os.waitpid(pid, 0)

    def start_with_files(self, line, n):
        """Whether a daemon that may open so many files serves."""
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
        try:
            line.daemon = Mayflyd(EXE, *line.options, directory=line.dir,
                                  preexec_fn=limit, start_new_session=True)
        except RuntimeError as e:
            return str(e)
        return None

    def test_who_may_open_too_few_files_leaves_all_as_it_is(self):
        line = self.line()
        pids = [line.run(f"r{n}") for n in range(4)]
        line.run("ended")
        self.end(line, "ended")
        for n in range(2):
            r = line.daemon.put(f"/v1/vms/n{n}", line.body(start=False))
            self.assertEqual(r.status, 201)
        states = line.states()
        refused = served = 0
        line.kill()
        for n in range(14, 60):
            said = self.start_with_files(line, n)
            if said is None:
                served += 1
                self.assertEqual(line.states(), states, n)
                line.kill()
            elif "cannot be adopted" in said or "of no VM" in said:
                refused += 1
                self.assertIn("Too many open files", said)
            for pid in pids:
                self.assertTrue(is_alive(pid), n)
        # It was tried at many steps of an adoption.
        self.assertGreater(refused, 5)
        self.assertGreater(served, 5)
        line.succeed()
        self.assertEqual(line.states(), states)
        for n in range(4):
            self.assertTrue(line.obeys(f"r{n}"))
        self.delete_all(line)

    def test_a_vm_that_does_not_move_outlives_many_daemons(self):
        line = self.line()
        pid = line.run("stopped")
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(5):
                line.kill()
                line.succeed()
                self.assertTrue(is_alive(pid))
                self.assertEqual(line.states(), {"stopped": "Running"})
        finally:
            os.kill(pid, signal.SIGCONT)
        line.daemon.wait_for("its answer", lambda: line.obeys("stopped"))
        self.delete_all(line)

    def test_a_vm_that_takes_no_more_connections_is_left_alone(self):
        line = self.line()
        pid = line.run("full")
        os.kill(pid, signal.SIGSTOP)
        line.kill()
        waiting = []
        try:
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET |
                                      socket.SOCK_NONBLOCK)
                    self.addCleanup(s.close)
                    s.connect(os.path.join(line.proc_dir("full"), "control"))
                    waiting.append(s)
            self.assertLess(len(waiting), 1000)
            line.succeed()
            self.assertTrue(is_alive(pid))
            self.assertEqual(line.states(), {"full": "Running"})
            r = line.pause("full")
            self.assertEqual(r.status, 409)
            self.assertIn("does not listen", r.fault())
        finally:
            for s in waiting:
                s.close()
            os.kill(pid, signal.SIGCONT)
        line.kill()
        line.succeed()
        line.daemon.wait_for("its answer", lambda: line.obeys("full"))
        self.delete_all(line)

    def test_metadata_that_cannot_be_kept_is_refused(self):
        line = self.line()
        for vm, start in (("idle", False), ("runs", True)):
            r = line.daemon.put("/v1/vms/" + vm, line.body(
                "outlive=ok", start=start))
            self.assertEqual(r.status, 201)
            url = f"/v1/vms/{vm}/mmds"
            self.assertEqual(line.daemon.put(url, {"a": "1"}).status, 204)
            in_the_way = line.vm_file(vm, "mmds.json.new")
            os.mkdir(in_the_way)
            for change in line.daemon.put, line.daemon.patch:
                r = change(url, {"a": "2"})
                self.assertEqual(r.status, 500, r.body)
                self.assertIn("the state directory", r.fault())
                self.assertEqual(line.daemon.get(url).json(), {"a": "1"})
            os.rmdir(in_the_way)
            self.assertEqual(line.daemon.put(url, {"a": "3"}).status, 204)
            line.kill()
            line.succeed()
            self.assertEqual(line.daemon.get(url).json(), {"a": "3"})
        self.delete_all(line)

    def test_user_ids_of_what_is_known_to_nobody_are_passed_over(self):
        line = self.line()
        pid = line.run("lost")
        uid = self.uid_of(line, "lost")
        line.kill()
        shutil.rmtree(line.path("state", "vms", "lost"))
        for key in os.listdir(line.path("state", "procs")):
            shutil.rmtree(line.path("state", "procs", key))
        line.succeed()
        self.assertEqual(line.states(), {})
        for n in range(3):
            line.run(f"new{n}")
            self.assertNotEqual(self.uid_of(line, f"new{n}"), uid)
        self.assertTrue(is_alive(pid))
        self.assertIn(f"uid_in_use uid={uid}", line.daemon.read_log())
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(has_ended(pid))
        line.kill()
        line.succeed()
        self.delete_all(line)

    @unittest.skipUnless(os.path.isdir(FREEZER), "needs version 1's freezer")
    def test_nobody_waits_for_an_orphan_that_cannot_die(self):
        line = self.line()
        pid = line.run("frozen")
        other = line.run("other")
        group = os.path.join(FREEZER, f"mayfly-test-{os.getpid()}")
        os.mkdir(group)

        def write(name, what):
            with open(os.path.join(group, name), "w", encoding="ascii") as f:
                f.write(what)

        def thaw():
            write("freezer.state", "THAWED")
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)
                has_ended(pid)
            os.rmdir(group)
        self.addCleanup(thaw)
        write("cgroup.procs", str(pid))
        write("freezer.state", "FROZEN")
        line.kill()
        # As if it had died while it was deleting that one.
        os.unlink(line.vm_file("frozen", "config.json"))
        line.succeed()
        self.assertEqual(line.states(), {"other": "Running"})
        self.assertTrue(line.obeys("other"))
        self.assertTrue(is_alive(pid) and is_alive(other))
        # The one after that finds it again.
        line.kill()
        line.succeed()
        self.assertTrue(line.obeys("other"))
        write("freezer.state", "THAWED")
        self.assertTrue(has_ended(pid))
        self.delete_all(line)

    def test_a_start_somebody_was_told_of_cannot_be_taken_back(self):
        """Whatever a VMM writes of its state; 0 is that it has not run."""
        line = self.line()
        for vm, start in (("a", True), ("b", False)):
            r = line.daemon.put("/v1/vms/" + vm, line.body(
                "outlive=ok", start=start))
            self.assertEqual(r.status, 201)
            if not start:
                r = line.daemon.put(f"/v1/vms/{vm}/actions",
                                    {"action_type": "InstanceStart"})
                self.assertEqual(r.status, 204)
            r = line.daemon.put(f"/v1/vms/{vm}/console", b"S\0")
            self.assertEqual(r.status, 204)
        line.kill()
        line.succeed()
        self.assertEqual(line.states(), {"a": "Running", "b": "Running"})
        pids = [line.show(vm)["pid"] for vm in "ab"]
        for vm in "ab":
            r = line.daemon.put(f"/v1/vms/{vm}/console", b"S\0")
            self.assertEqual(r.status, 204)
        line.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            self.assertTrue(has_ended(pid))
        line.succeed()
        for vm in "ab":
            self.assertEqual(line.show(vm)["state"], "Exited")
            self.assertEqual(line.exit_of(vm)["reason"], "crashed")
        self.delete_all(line)


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
