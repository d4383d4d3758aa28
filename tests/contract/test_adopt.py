#!/usr/bin/env python3
"""Whatever a VM's process did while there was no daemon, and whatever it does
to the next one, that one starts, says what became of it, and can be rid of it.

usage: test_adopt.py MAYFLYD FAKE_VMM
"""

import os
import signal
import sys
import threading
import time
import unittest

from heirs import Line, has_ended, is_alive
from mayflyd import skip_unless_possible

EXE, FAKE = sys.argv[1:3]

# How long another request may take while a VM misbehaves.
PROMPT_S = 1.0


class Case(unittest.TestCase):
    def line(self, *options):
        line = Line(EXE, FAKE, *options)
        self.addCleanup(line.close)
        return line

    def check_clean(self, line, pids=()):
        """Once all VMs have been deleted."""
        self.delete_all(line)
        for pid in pids:
            self.assertTrue(has_ended(pid), pid)
        self.assertEqual(line.leftovers(), [])
        line.check_uids()

    def delete_all(self, line):
        for vm in line.states():
            # But for one that is starting.
            line.daemon.wait_for(vm, lambda v=vm: line.daemon.delete(
                "/v1/vms/" + v).status in (204, 404))

    def prompt(self, line):
        start = time.monotonic()
        self.assertEqual(line.daemon.get("/v1/version").status, 200)
        self.assertLess(time.monotonic() - start, PROMPT_S)


# What a VM does when its daemon is gone, or as the answer to the next one: the
# state that one shows, and how it ended or what it answers to PATCH.
OUTLIVE = {
    "ok": ("Running", 204),
    "twice": ("Running", 204),
    "deaf": ("Running", 504),
    "hang": ("Running", 504),
    "refuse": ("Running", 504),
    "ends": ("Exited", {"reason": "panic", "status": 0, "detail": "alone"}),
    "crashes": ("Exited", {"reason": "crashed"}),
    "unreachable": ("Exited", {"reason": "crashed", "signal": 9,
                               "detail": "no daemon could connect to its "
                                         "VMM"}),
    "die": ("Exited", {"reason": "crashed"}),
    "trap": ("Exited", {"reason": "crashed"}),
    "garbage": ("Exited", {"reason": "crashed", "signal": 9,
                           "detail": "the VMM sent what is not a message"}),
    "close": ("Exited", {"reason": "crashed", "signal": 9,
                         "detail": "the VMM closed its socket and did not "
                                   "exit"}),
    "failed": ("Exited", {"reason": "crashed", "signal": 9,
                          "detail": "the VMM said it did not start when it "
                                    "had"}),
    "started": ("Exited", {"reason": "crashed", "signal": 9,
                           "detail": "the VMM said twice it started"}),
    "flood": ("Exited", {"reason": "crashed", "signal": 9,
                         "detail": "the VMM floods its daemon"}),
    "exits": ("Exited", {"reason": "shutdown", "status": 0}),
    "and_gone": ("Exited", {"reason": "reset", "status": 0}),
}

# ... of which these do it before there is another daemon.
ALONE = ("ends", "crashes")


class Outliving(Case):
    def check_vm(self, line, vm, words=True):
        state, more = OUTLIVE[vm]
        if state == "Running":
            self.assertEqual(line.show(vm)["state"], "Running")
            self.assertEqual(line.pause(vm).status, more)
            self.assertEqual(line.show(vm)["state"],
                             "Paused" if more == 204 else "Running")
            return
        exit_ = line.exit_of(vm)
        if "detail" not in more:
            self.assertIn("without a reason" if more["reason"] == "crashed"
                          else "", exit_.pop("detail", ""))
        self.assertEqual(exit_, more)
        self.assertEqual(line.show(vm)["state"], "Exited")

    def test_whatever_outlives_its_daemon_is_known_to_the_next(self):
        line = self.line()
        pids = {vm: line.run(vm, "outlive=" + vm) for vm in OUTLIVE}
        line.kill()
        line.daemon.wait_for("those that end alone", lambda: not any(
            is_alive(pids[vm]) for vm in ALONE))
        time.sleep(0.1)  # all have seen it
        line.succeed()
        for vm in OUTLIVE:
            with self.subTest(vm):
                self.prompt(line)
                self.check_vm(line, vm)
        ended = {vm: line.exit_of(vm) for vm, (state, _) in OUTLIVE.items()
                 if state == "Exited"}
        # The one after that knows the same; who did not listen to the first
        # has not heard of it.
        line.kill()
        line.succeed()
        self.assertEqual({vm: line.exit_of(vm) for vm in ended}, ended)
        self.assertTrue(line.obeys("ok"))
        self.check_clean(line, pids.values())

    def test_a_guest_that_is_killed_between_two_daemons_has_crashed(self):
        line = self.line()
        pids = [line.run(vm, "outlive=ok") for vm in "ab"]
        self.assertEqual(line.pause("b").status, 204)
        line.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        line.succeed()
        for vm in "ab":
            self.assertEqual(line.exit_of(vm)["reason"], "crashed")
        self.check_clean(line, pids)

    def test_a_start_the_daemon_died_in_is_finished_or_undone(self):
        """In each the VMM had been asked to start, and has not answered."""
        line = self.line()
        answers = []
        for vm, start in (("hangs", True), ("held", False)):
            r = line.daemon.put("/v1/vms/" + vm, line.body(
                "fake=hang outlive=ok", start=False))
            self.assertEqual(r.status, 201)
            line.daemon.delete("/v1/vms/" + vm)
            body = line.body("fake=hang outlive=ok", start=start)
            answers.append(threading.Thread(
                target=self.ask, args=(line.daemon, vm, body, start)))
            answers[-1].start()
        line.daemon.wait_for("both VMMs", lambda: len(os.listdir(
            line.path("state", "procs"))) == 2 and all(
                os.path.islink(line.vm_file(vm, "proc"))
                for vm in ("hangs", "held")))
        line.kill()
        for thread in answers:
            thread.join()
        line.succeed()
        # They hang on, and then their time is up.
        line.daemon.wait_for("the end of the starts", lambda: not os.listdir(
            line.path("state", "procs")))
        self.assertEqual(line.states(), {"held": "Not started"})
        # As one may start it again.
        r = line.daemon.put("/v1/vms/held/actions",
                            {"action_type": "InstanceStart"})
        self.assertIn("did not start within", r.fault())
        self.check_clean(line)

    def test_an_adopted_start_that_dies_is_a_start_that_failed(self):
        line = self.line()
        threads = [threading.Thread(target=self.ask, args=(
            line.daemon, vm, line.body("fake=hang outlive=ok", start=start),
            start)) for vm, start in (("gone", True), ("held", False))]
        for thread in threads:
            thread.start()
        line.daemon.wait_for("both VMMs", lambda: all(
            os.path.islink(line.vm_file(vm, "proc"))
            for vm in ("gone", "held")))
        line.kill()
        for thread in threads:
            thread.join()
        line.succeed()
        for vm in ("gone", "held"):
            os.kill(line.show(vm)["pid"], signal.SIGKILL)
        line.daemon.wait_for("their ends", lambda: line.states() == {
            "held": "Not started"} and "pid" not in line.show("held"))
        # Longer than an answer to the daemon would be waited for.
        time.sleep(1.2)
        r = line.daemon.put("/v1/vms/held/boot-source",
                            line.body()["boot-source"])
        self.assertEqual(r.status, 204)
        r = line.daemon.put("/v1/vms/held/actions",
                            {"action_type": "InstanceStart"})
        self.assertEqual(r.status, 204, r.body)
        self.assertTrue(line.obeys("held"))
        self.check_clean(line)

    @staticmethod
    def ask(daemon, vm, body, start):
        try:
            daemon.put("/v1/vms/" + vm, body)
            if not start:
                daemon.put(f"/v1/vms/{vm}/actions",
                           {"action_type": "InstanceStart"})
        except OSError:
            pass
        except EOFError:
            pass


class Lies(Case):
    """In the memory a VM shares with its daemons."""

    READS = ("", "/console", "/config", "/balloon", "/balloon/statistics",
             "/hotplug/memory", "/mmds")
    DEVICES = {"balloon": {"amount_mib": 1, "deflate_on_oom": False,
                           "stats_polling_interval_s": 1},
               "memory-hotplug": {"total_size_mib": 1024}}

    def look(self, line, vm):
        for path in self.READS:
            r = line.daemon.get(f"/v1/vms/{vm}{path}")
            self.assertIn(r.status, (200, 204, 400, 404, 409), (path, r.body))
        self.assertEqual(line.daemon.get("/metrics").status, 200)
        return line.show(vm)

    def test_they_harm_no_daemon_before_or_after(self):
        line = self.line()
        pids = [line.run(f"l{how}", **self.DEVICES) for how in range(12)]
        for how in range(12):
            r = line.daemon.put(f"/v1/vms/l{how}/console", b"L" + bytes([how]))
            self.assertEqual(r.status, 204)
            self.look(line, f"l{how}")
        line.kill()
        line.succeed()
        for how in range(12):
            vm = f"l{how}"
            with self.subTest(how):
                self.assertEqual(self.look(line, vm)["state"], "Running")
                # All but the first say they are of another version.
                r = line.pause(vm)
                self.assertEqual(r.status, 204 if how == 0 else 409)
                if how:
                    self.assertIn("damaged", r.fault())
                    self.assertIn(f"vm_memory_unreadable vm={vm}",
                                  line.daemon.read_log())
        # And as the last words of the dead.
        line.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        line.succeed()
        for how in range(12):
            exit_ = line.exit_of(f"l{how}")
            self.assertEqual(exit_["reason"], "crashed")
            self.assertNotIn("AAAA", exit_["detail"])
            self.look(line, f"l{how}")
        self.check_clean(line, pids)

    def test_what_it_says_of_its_state_is_all_it_can_change(self):
        line = self.line()
        said = {0: "Running", 1: "Running", 2: "Paused", 3: "Running",
                4: "Running", 255: "Running"}
        pids = [line.run(f"s{n}") for n in said]
        for n in said:
            r = line.daemon.put(f"/v1/vms/s{n}/console", b"S" + bytes([n]))
            self.assertEqual(r.status, 204)
        line.kill()
        line.succeed()
        for n, state in said.items():
            vm = f"s{n}"
            line.daemon.wait_for("the state", lambda v=vm, want=state:
                                 line.show(v)["state"] == want)
            self.assertTrue(line.obeys(vm))
        self.check_clean(line, pids)


# How a start ends whose VMM answers MSG_PREPARE so, by its memory: the answer's
# status, and a part of its words.
PREPARE = {
    1001: (500, "did not start within 2 s"),
    1002: (500, "died while starting: crashed, status 3"),
    1003: (500, "died while starting: crashed, signal 4"),
    1004: (500, "died while starting"),
    1005: (500, "not a message"),
    1006: (400, "machine-config.mem_size_mib: is bad??"),
    1007: (500, "is bad"),
    1008: (500, "is bad"),
    1009: (201, ""),  # as good as a VM that hangs once it runs
    1010: (500, "died while starting: shutdown"),
    1011: (500, "floods its daemon"),
    1012: (500, "did not start"),
    1013: (500, "died while starting: crashed, status 0"),
    1014: (500, "died while starting: crashed, status 0"),
    1015: (500, "not a message"),
    1016: (201, ""),
    1017: (201, ""),
}


class Preparing(Case):
    """A VMM that is asked for a machine, and misbehaves."""

    def start_all(self, line):
        answers = {}

        def start(mib):
            answers[mib] = line.daemon.put(f"/v1/vms/m{mib}", line.body(
                **{"machine-config": {"vcpu_count": 1, "mem_size_mib": mib}}))
        threads = [threading.Thread(target=start, args=(mib,))
                   for mib in PREPARE]
        for thread in threads:
            thread.start()
        self.prompt(line)
        for thread in threads:
            thread.join()
        return answers

    def check_all(self, line):
        answers = self.start_all(line)
        for mib, (status, words) in PREPARE.items():
            with self.subTest(mib):
                r = answers[mib]
                self.assertEqual(r.status, status, r.body)
                self.assertEqual(line.show(f"m{mib}") is not None,
                                 status == 201)
                if status != 201:
                    self.assertIn(words, r.fault())

    def test_a_start_that_needs_it_at_once_is_answered(self):
        line = self.line()
        self.check_all(line)
        self.check_clean(line)

    def test_in_the_pool_it_is_replaced_or_ended_with_it(self):
        line = self.line("--pool", "2")
        for mib in PREPARE:
            # Each becomes what the pool is to have.
            line.daemon.put(f"/v1/vms/m{mib}", line.body(
                **{"machine-config": {"vcpu_count": 1, "mem_size_mib": mib}}))
            self.prompt(line)
            if mib % 4 == 0:
                line.kill()
                line.succeed()
            line.run("other")
            self.assertTrue(line.obeys("other"))
            self.assertEqual(
                line.daemon.delete("/v1/vms/other").status, 204)
        self.assertIn("pool_vmm_lost", line.logs)
        self.delete_all(line)
        line.kill()
        line.options += ("--pool", "0")
        line.succeed()
        self.check_clean(line)


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
