#!/usr/bin/env python3
"""Whatever a VM's process does, the daemon answers, in time, and says what
became of it; whatever a client does, the VMs do not suffer.

usage: test_faults.py MAYFLYD FAKE_VMM OPENAPI
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from contract import Contract
from mayflyd import (TIMEOUT_S, Mayflyd, head, read_response,
                     skip_unless_possible)

EXE, FAKE, OPENAPI = sys.argv[1:4]

# Long enough for an answer on a busy machine, and shorter than any time limit
# that would let a blocked daemon pass.
PROMPT_S = 1.0


def descendants(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)],
                         capture_output=True, text=True, check=False).stdout
    return out.split()


class Background(threading.Thread):
    """A request whose answer is looked at later."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args, self.result = function, args, None
        self.start()

    def run(self):
        self.result = self.function(*self.args)

    def get(self):
        self.join(20)
        if self.is_alive():
            raise TimeoutError("no answer")
        return self.result


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Mayflyd(EXE, "--vmm", FAKE, "--start-timeout", "2",
                             "--request-timeout", "1")
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.contract = Contract(OPENAPI)
        cls.kernel = os.path.join(cls.daemon.dir, "kernel")
        with open(cls.kernel, "wb") as f:
            f.write(b"kernel")

    def tearDown(self):
        for vm in self.daemon.get("/v1/vms").json()["vms"]:
            self.daemon.delete("/v1/vms/" + vm["id"])
        self.assertEqual(descendants(self.daemon.process.pid), [])

    def boot(self, mode):
        return {"kernel_image_path": self.kernel, "boot_args": "fake=" + mode}

    def run_vm(self, vm="a", mode="ok"):
        r = self.daemon.put("/v1/vms/" + vm, {
            "boot-source": self.boot(mode), "start": True})
        self.contract.check("PUT", "/v1/vms/{id}", r)
        return r

    def show(self, vm="a"):
        r = self.daemon.get("/v1/vms/" + vm)
        self.contract.check("GET", "/v1/vms/{id}", r)
        return r.json()

    def type(self, data, vm="a"):
        r = self.daemon.put(f"/v1/vms/{vm}/console", data)
        self.contract.check("PUT", "/v1/vms/{id}/console", r)
        return r

    def prompt(self):
        """The daemon is not busy with anything else."""
        start = time.monotonic()
        self.daemon.get("/v1/version")
        self.assertLess(time.monotonic() - start, PROMPT_S)

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    START_FAULTS = {
        "hang": (500, "did not start within 2 s"),
        "die": (500, "died while starting: crashed, status 3"),
        "trap": (500, "died while starting: crashed, signal 4"),
        "close": (500, "died while starting"),
        "garbage": (500, "not a message"),
        "failed": (400, "boot-source.kernel_image_path: is bad??"),
        "failed_host": (500, "is bad"),
        "failed_room": (503, "is bad"),
        "failed_hang": (500, "is bad"),
        "exits": (500, "died while starting: shutdown"),
        "done_instead": (500, "did not start"),
        "flood": (500, "floods its daemon"),
    }

    def test_a_start_that_fails_is_answered_and_leaves_no_vm(self):
        for mode, (status, words) in self.START_FAULTS.items():
            with self.subTest(mode):
                answer = Background(self.run_vm, "a", mode)
                self.prompt()
                r = answer.get()
                self.assertEqual(r.status, status, r.body)
                self.assertEqual(r.headers.get("retry-after"),
                                 "1" if status == 503 else None)
                self.assertIn(words, r.fault())
                self.assertEqual(self.daemon.get("/v1/vms/a").status, 404)

    def test_a_start_that_fails_leaves_the_vm_as_it_was(self):
        for mode in ("die", "failed", "close"):
            with self.subTest(mode):
                self.daemon.put("/v1/vms/a",
                                {"boot-source": self.boot(mode)})
                before = self.show()
                start = {"action_type": "InstanceStart"}
                r = self.daemon.put("/v1/vms/a/actions", start)
                self.contract.check("PUT", "/v1/vms/{id}/actions", r)
                self.assertIn(r.status, (400, 500))
                self.assertEqual(self.show(), before)
                # It can be mended, and started.
                r = self.daemon.put("/v1/vms/a/boot-source", self.boot("ok"))
                self.assertEqual(r.status, 204)
                r = self.daemon.put("/v1/vms/a/actions", start)
                self.assertEqual(r.status, 204)
                self.assertEqual(self.show()["state"], "Running")
                self.type(b"b")
                exit_ = self.daemon.get("/v1/vms/a/wait").json()["exit"]
                self.assertEqual(exit_, {"reason": "shutdown", "status": 0})
                self.daemon.delete("/v1/vms/a")

    def test_while_it_starts_a_vm_is_left_alone(self):
        answer = Background(self.run_vm, "a", "hang")
        self.daemon.wait_for("the VM", lambda: self.daemon.get(
            "/v1/vms/a").status == 200)
        self.assertEqual(self.show()["state"], "Not started")
        for r in (self.daemon.delete("/v1/vms/a"),
                  self.daemon.put("/v1/vms/a", {}),
                  self.daemon.put("/v1/vms/a/actions",
                                  {"action_type": "InstanceStart"}),
                  self.daemon.put("/v1/vms/a/boot-source", self.boot("ok")),
                  self.daemon.patch("/v1/vms/a/vm", {"state": "Paused"})):
            self.assertEqual(r.status, 409, r.body)
        self.assertEqual(self.run_vm("b").status, 201)
        self.assertEqual(answer.get().status, 500)

    def test_a_client_that_leaves_during_the_start_leaves_no_wreck(self):
        body = b'{"boot-source": {"kernel_image_path": "%s", ' \
               b'"boot_args": "fake=hang"}, "start": true}' \
               % self.kernel.encode()
        s = self.daemon.connect()
        s.sendall(head("PUT", "/v1/vms/a", len(body)) + body)
        self.daemon.wait_for("the VM", lambda: self.daemon.get(
            "/v1/vms/a").status == 200)
        s.close()
        self.daemon.wait_for("its end", lambda: self.daemon.get(
            "/v1/vms/a").status == 404)

    def test_an_exit_right_after_the_start_is_seen(self):
        self.assertEqual(self.run_vm(mode="and_gone").status, 201)
        r = self.daemon.get("/v1/vms/a/wait").json()
        self.assertEqual(r["exit"]["reason"], "reset")

    def test_last_words_count_when_the_end_is_seen_first(self):
        self.run_vm()
        self.assertEqual(self.type(b"d").status, 204)
        self.daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        self.daemon.process.send_signal(signal.SIGCONT)
        r = self.daemon.get("/v1/vms/a/wait").json()
        self.assertEqual(r["exit"], {"reason": "reset", "status": 0})

    def test_saying_started_twice_is_a_crash(self):
        self.run_vm(mode="twice")
        r = self.daemon.get("/v1/vms/a/wait").json()
        self.assertEqual(r["exit"]["reason"], "crashed")

    ENDS = {
        b"b": {"reason": "shutdown", "status": 0},
        b"B": {"reason": "shutdown", "signal": 9},
        b"R": {"reason": "crashed", "signal": 9},
        b"x": {"reason": "crashed", "status": 0},
        b"t": {"reason": "crashed", "signal": 4},
        b"y": {"reason": "violation", "signal": 31},
        b"c": {"reason": "crashed", "signal": 9},
        b"g": {"reason": "crashed", "signal": 9},
        b"s": {"reason": "crashed", "signal": 9},
        b"F": {"reason": "crashed", "signal": 9},
        b"T": {"reason": "panic", "status": 0},
    }

    def test_each_end_is_a_state_with_a_reason_and_wakes_all(self):
        for key, want in self.ENDS.items():
            with self.subTest(key):
                self.run_vm()
                waiter = Background(self.daemon.get, "/v1/vms/a/wait")
                follower = Background(
                    self.daemon.get, "/v1/vms/a/console?follow=true")
                self.type(b"phello")
                r = self.type(key)
                self.assertIn(r.status, (204, 409, 504))
                got = waiter.get().json()
                self.contract.check("GET", "/v1/vms/{id}/wait",
                                    waiter.result)
                exit_ = got["exit"]
                exit_.pop("detail", None)
                self.assertEqual(exit_, want)
                self.assertEqual(follower.get().body, b"hello")
                vm = self.show()
                self.assertEqual(vm["state"], "Exited")
                self.assertNotIn("pid", vm)
                self.daemon.delete("/v1/vms/a")

    def test_being_killed_is_told_apart(self):
        # Of signals from outside, only this one reaches the first process of
        # a pid namespace.
        self.run_vm()
        os.kill(self.show()["pid"], 9)
        exit_ = self.daemon.get("/v1/vms/a/wait").json()["exit"]
        self.assertEqual(exit_, {"reason": "killed", "signal": 9})

    def test_a_request_without_an_answer_ends_in_time(self):
        self.run_vm()
        self.run_vm("b")
        answer = Background(self.type, b"n")
        self.prompt()
        self.assertEqual(self.type(b".", "b").status, 204)
        self.assertEqual(answer.get().status, 504)
        self.assertEqual(self.type(b".").status, 204)

    def test_a_late_answer_still_tells_the_state(self):
        self.run_vm()
        self.assertEqual(self.type(b"l").status, 504)
        r = self.daemon.patch("/v1/vms/a/vm", {"state": "Paused"})
        self.assertIn(r.status, (204, 504))
        self.daemon.wait_for("the late answer",
                             lambda: self.show()["state"] == "Paused")

    BUCKET = {"size": 5, "one_time_burst": 0, "refill_time": 1}

    def run_drive(self):
        """A VM with a drive, and a change of two messages for it."""
        paths = [os.path.join(self.daemon.dir, n) for n in ("disk", "other")]
        for path in paths:
            with open(path, "wb") as f:
                f.truncate(1 << 20)
        r = self.daemon.put("/v1/vms/a", {
            "boot-source": self.boot("ok"), "start": True, "drives": [
                {"drive_id": "d", "path_on_host": paths[0],
                 "is_root_device": False}]})
        self.assertEqual(r.status, 201)
        return {"drive_id": "d", "path_on_host": paths[1],
                "rate_limiter": {"ops": self.BUCKET}}

    def change(self, body):
        r = self.daemon.patch("/v1/vms/a/drives/d", body)
        self.contract.check("PATCH", "/v1/vms/{id}/drives/{drive_id}", r)
        return r

    def test_a_change_that_is_done_late_is_done_whole(self):
        change = self.run_drive()
        before = self.show()["drives"][0]
        late = Background(self.type, b"l")
        self.prompt()
        self.assertEqual(self.change(change).status, 504)
        self.assertEqual(self.show()["drives"][0], before)
        self.daemon.wait_for("the late answer", lambda: self.show()[
            "drives"][0] == before | change)
        late.get()

    def test_a_vm_that_ends_in_a_change_ends_it(self):
        for dies_at, done in ((1, {}), (2, {"path_on_host"})):
            with self.subTest(dies_at):
                change = self.run_drive()
                before = self.show()["drives"][0]
                fds = self.fd_count()
                self.type(bytes([ord("k"), dies_at]))
                r = self.change(change)
                self.assertEqual(r.status, 409)
                self.assertIn("the VM", r.fault())
                self.daemon.wait_for("the end", lambda: self.show()[
                    "state"] == "Exited")
                self.assertEqual(self.show()["drives"][0], before | {
                    k: change[k] for k in done})
                self.assertLessEqual(self.fd_count(), fds)
                self.daemon.delete("/v1/vms/a")

    def test_changes_at_once_are_done_one_after_the_other(self):
        change = self.run_drive()
        answers = [Background(self.change, change | {"rate_limiter": {
            "ops": self.BUCKET | {"size": n + 1}}}) for n in range(40)]
        self.assertEqual({a.get().status for a in answers}, {204})
        self.assertEqual(self.show()["drives"][0]["path_on_host"],
                         change["path_on_host"])
        # A VM that does not answer is asked for so much, and no more.
        self.assertEqual(self.type(b"h").status, 504)
        answers = [Background(self.change, change) for _ in range(80)]
        self.prompt()
        self.assertEqual({a.get().status for a in answers}, {429, 504})

    def test_a_vm_that_does_not_read_holds_nobody_up(self):
        self.run_vm()
        self.assertEqual(self.type(b"h").status, 504)
        seen = set()
        answers = [Background(self.type, b"." * 4096) for _ in range(80)]
        self.prompt()
        for a in answers:
            seen.add(a.get().status)
        self.assertLessEqual(seen, {429, 504})
        # What is small fills no socket: then their number is limited.
        self.run_vm("b")
        self.assertEqual(self.type(b"h", "b").status, 504)
        answers = [Background(self.daemon.patch, "/v1/vms/b/vm",
                              {"state": "Paused"}) for _ in range(80)]
        self.prompt()
        self.assertIn(429, {a.get().status for a in answers})
        self.assertEqual(self.daemon.delete("/v1/vms/a").status, 204)

    def test_errors_of_the_vm_are_passed_on(self):
        self.run_vm()
        self.assertEqual(self.type(b"e").status, 429)
        self.assertEqual(self.type(b"E").status, 500)
        self.assertEqual(self.type(b"u").status, 204)
        # Answered requests do not count towards the limit.
        for _ in range(80):
            self.assertEqual(self.type(b".").status, 204)

    def test_a_flood_of_messages_holds_nobody_up_and_fills_no_log(self):
        self.run_vm()
        self.run_vm("b")
        Background(self.type, b"f")
        before = len(self.daemon.read_log())
        for _ in range(20):
            self.prompt()
            self.assertEqual(self.type(b".", "b").status, 204)
        self.assertLess(len(self.daemon.read_log()) - before, 20000)
        self.assertEqual(self.daemon.get("/v1/vms/a/wait").json()["exit"],
                         {"reason": "crashed", "signal": 9,
                          "detail": "the VMM floods its daemon"})

    def test_a_body_with_two_ends_is_refused(self):
        for headers, name in (
                ("Content-Length: 2\r\nContent-Length: 60",
                 "Content-Length"),
                ("Content-Length: 2\r\nTransfer-Encoding: chunked",
                 "Content-Length"),
                ("Transfer-Encoding: gzip", "Transfer-Encoding")):
            with self.subTest(headers):
                c = self.daemon.connect()
                c.settimeout(10)
                c.sendall(f"PUT /v1/vms/a HTTP/1.1\r\nHost: x\r\n{headers}"
                          "\r\n\r\n2\r\n{}\r\n0\r\n\r\n".encode())
                answer = c.recv(4096).decode()
                c.close()
                self.assertIn(" 400 ", answer)
                self.assertIn(f'"fault_message":"{name}:', answer)
                self.assertEqual(self.daemon.get("/v1/vms/a").status, 404)

    def test_a_descriptor_from_a_vm_ends_it(self):
        self.run_vm()
        self.type(b"X")
        exit_ = self.daemon.get("/v1/vms/a/wait").json()["exit"]
        self.assertEqual(exit_["detail"], "the VMM sent what is not a message")

    def test_a_vm_that_wakes_without_end_costs_the_daemon_little(self):
        def ticks():
            with open(f"/proc/{self.daemon.process.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        self.run_vm()
        follower = self.daemon.connect()
        follower.sendall(head("GET", "/v1/vms/a/console?follow=true"))
        Background(self.type, b"w")
        time.sleep(0.2)
        before, start = ticks(), time.monotonic()
        time.sleep(1)
        share = (ticks() - before) / os.sysconf("SC_CLK_TCK") \
            / (time.monotonic() - start)
        follower.close()
        self.assertLess(share, 0.10)

    def test_a_vm_that_does_not_see_its_daemon_die_is_the_next_ones(self):
        with self.assertRaisesRegex(RuntimeError, "status -9"), \
                Mayflyd(EXE, "--vmm", FAKE) as daemon:
            r = daemon.put("/v1/vms/a", {
                "boot-source": self.boot("ok"), "start": True})
            pid = r.json()["pid"]
            Background(daemon.put, "/v1/vms/a/console", b"h")
            time.sleep(0.2)
            daemon.process.kill()
            daemon.process.wait()
            heir = Mayflyd(EXE, "--vmm", FAKE, "--request-timeout", "1",
                           directory=daemon.dir)
            try:
                self.assertEqual(heir.get("/v1/vms/a").json()["pid"], pid)
                # It answers nobody, and that holds nobody up.
                self.assertEqual(heir.patch(
                    "/v1/vms/a/vm", {"state": "Paused"}).status, 504)
                self.assertEqual(heir.delete("/v1/vms/a").status, 204)
                # Whose child it has become may not have reaped it yet.
                if os.path.exists(f"/proc/{pid}"):
                    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                        self.assertEqual(f.read().split()[2], "Z")
            finally:
                self.assertEqual(heir.stop(), 0)

    def test_a_page_full_of_lies_harms_nobody(self):
        self.run_vm()
        for how in range(12):
            follower = self.daemon.connect()
            follower.sendall(head("GET", "/v1/vms/a/console?follow=true"))
            self.assertEqual(self.type(b"L" + bytes([how])).status, 204)
            r = self.daemon.get("/v1/vms/a/console")
            self.assertLessEqual(len(r.body), 1 << 20)
            vm = self.show()
            self.assertNotIn("first_instruction", vm["timeline"])
            follower.close()
        self.assertEqual(self.type(b"b").status in (204, 409), True)

    def test_lies_are_metrics_of_the_liar_alone(self):
        disk = os.path.join(self.daemon.dir, "lies")
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        for vm in ("a", "honest"):
            self.daemon.put("/v1/vms/" + vm, {
                "boot-source": self.boot("ok"), "start": True,
                "drives": [{"drive_id": "d", "path_on_host": disk,
                            "is_root_device": False,
                            "is_read_only": True}]})
        before = self.numbers("honest")
        self.assertEqual(self.type(b"L1").status, 204)
        after = self.numbers("a")
        # Of each op: the buckets, sum and count.
        name = 'mayfly_vm_drive_request_duration_seconds_bucket{vm="a"'
        self.assertEqual(sum(n.startswith(name) for n in after), 3 * 15)
        self.assertEqual(after['mayfly_vm_drive_reads_total{vm="a",drive="d"}'],
                         str((1 << 64) - 1))
        for n, value in self.numbers("honest").items():
            if "console" not in n and "memory" not in n:
                self.assertEqual(value, before[n], n)
        # A linter of Prometheus' own reads all of it.
        done = subprocess.run(["promtool", "check", "metrics"],
                              input=self.daemon.get("/metrics").body,
                              capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.daemon.delete("/v1/vms/honest")

    def numbers(self, vm):
        """What /metrics says of it: {sample: value}."""
        text = self.daemon.get("/metrics").body.decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines()
                    if f'vm="{vm}"' in line)

    def test_the_console_keeps_the_last_mib_and_counts_the_rest(self):
        self.run_vm()
        self.type(b"pfirst")
        self.type(b"P")
        self.type(b"plast")
        r = self.daemon.get("/v1/vms/a/console")
        dropped = int(r.headers["x-mayfly-console-dropped"])
        self.assertEqual(dropped + len(r.body), 5 + (2 << 20) + 4)
        self.assertTrue(r.body.endswith(b"zlast"))
        self.assertNotIn(b"first", r.body)
        self.assertEqual(self.show()["console"]["dropped"], dropped)

    def test_many_follow_one_console(self):
        self.run_vm()
        followers = []
        for _ in range(100):
            s = self.daemon.connect()
            s.sendall(head("GET", "/v1/vms/a/console?follow=true"))
            followers.append(s)
        for word in (b"one ", b"two ", b"three"):
            self.type(b"p" + word)
            time.sleep(0.02)
        self.type(b"b")
        for s in followers:
            with s, s.makefile("rb") as stream:
                self.assertEqual(read_response(stream).body, b"one two three")

    def test_following_starts_before_the_vm_does(self):
        self.daemon.put("/v1/vms/a", {"boot-source": self.boot("ok")})
        follower = self.daemon.connect()
        stream = follower.makefile("rb")
        follower.sendall(head("GET", "/v1/vms/a/console?follow=true"))
        while stream.readline() != b"\r\n":
            pass
        self.daemon.put("/v1/vms/a/actions",
                        {"action_type": "InstanceStart"})
        self.type(b"pearly")
        # It comes while the VM runs, not only with its end.
        self.assertEqual(stream.readline(), b"5\r\n")
        self.assertEqual(stream.readline(), b"early\r\n")
        self.daemon.delete("/v1/vms/a")
        self.assertEqual(stream.readline(), b"0\r\n")
        stream.close()
        follower.close()

    def test_clients_that_hang_up_while_they_wait_are_let_go(self):
        self.run_vm()
        before = self.fd_count()
        waiting = []
        for path in ("wait", "console?follow=true"):
            for _ in range(20):
                s = self.daemon.connect()
                s.sendall(head("GET", "/v1/vms/a/" + path))
                waiting.append(s)
        self.daemon.wait_for("the connections", lambda:
                             self.fd_count() >= before + 38)
        for s in waiting:
            s.close()
        self.daemon.wait_for("their end", lambda: self.fd_count() < before + 10)
        self.assertEqual(self.type(b"phello").status, 204)

    def test_a_half_closed_client_still_gets_its_answer(self):
        self.run_vm()
        with self.daemon.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("GET", "/v1/vms/a/wait?timeout_ms=200"))
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(read_response(stream).status, 200)

    def test_deleting_answers_everybody(self):
        self.run_vm()
        self.daemon.put("/v1/vms/b", {})
        waiters = [Background(self.daemon.get, f"/v1/vms/{vm}/wait")
                   for vm in ("a", "b")]
        follower = Background(self.daemon.get,
                              "/v1/vms/b/console?follow=true")
        time.sleep(0.1)
        deletes = [Background(self.daemon.delete, "/v1/vms/a")
                   for _ in range(3)]
        self.assertEqual(self.daemon.delete("/v1/vms/b").status, 204)
        self.assertLessEqual({d.get().status for d in deletes}, {204, 404})
        exit_ = waiters[0].get().json()["exit"]
        self.assertEqual(exit_["reason"], "killed")
        self.assertEqual(waiters[1].get().status, 404)
        self.assertEqual(follower.get().body, b"")

    def test_half_a_request_changes_nothing(self):
        body = b'{"boot-source": {"kernel_image_path": "/x"}}'
        s = self.daemon.connect()
        s.sendall(head("PUT", "/v1/vms/a", len(body)) + body[:-1])
        time.sleep(0.05)
        self.assertEqual(self.daemon.get("/v1/vms/a").status, 404)
        self.prompt()
        s.close()
        s = self.daemon.connect()
        s.sendall(b"PUT /v1/vms/a HTTP/1.1\r\nHost: ")
        s.close()
        self.prompt()
        self.assertEqual(self.daemon.get("/v1/vms/a").status, 404)

    def test_lengths_that_lie(self):
        d = self.daemon
        # Shorter than the body: the rest is no request.
        with d.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("PUT", "/v1/vms/a", 2) + b"{}garbage\r\n\r\n")
            self.assertEqual(read_response(stream).status, 201)
            try:
                self.assertEqual(read_response(stream).status, 400)
            except EOFError:
                pass
        for length, status in ((51201, 413), (10 ** 7, 413), (10 ** 18, 413)):
            r = d.raw(head("PUT", "/v1/vms/b", length)
                      + b" " * min(length, 51201))
            self.assertEqual(r.status, status)
        for length in ("-1", "1x", "99999999999999999999999"):
            r = d.raw(head("PUT", "/v1/vms/b", length) + b"{}")
            self.assertIn(r.status, (400, 413))
        self.assertEqual(d.get("/v1/vms/b").status, 404)

    def test_chunks_and_continue(self):
        d = self.daemon
        chunked = ["Transfer-Encoding: chunked"]
        r = d.raw(head("PUT", "/v1/vms/a", None, chunked)
                  + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
        self.assertEqual(r.status, 201)
        r = d.raw(head("PUT", "/v1/vms/b", None, chunked)
                  + b"c801\r\n" + b" " * 51201 + b"\r\n0\r\n\r\n")
        self.assertEqual(r.status, 413)
        expect = ["Expect: 100-continue"]
        with d.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("PUT", "/v1/vms/b", 2, expect))
            self.assertEqual(read_response(stream).status, 100)
            s.sendall(b"{}")
            self.assertEqual(read_response(stream).status, 201)
        with d.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("PUT", "/v1/vms/c", 60000, expect))
            self.assertEqual(read_response(stream).status, 413)

    def test_one_connection_carries_many_requests(self):
        with self.daemon.connect() as s, s.makefile("rb") as stream:
            # Pipelined, too.
            s.sendall(head("PUT", "/v1/vms/a", 2) + b"{}"
                      + head("GET", "/v1/vms/a") + head("DELETE", "/v1/vms/a"))
            statuses = [read_response(stream).status for _ in range(3)]
            self.assertEqual(statuses, [201, 200, 204])

    def test_thousands_of_idle_connections_hold_nobody_up(self):
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        idle = [self.daemon.connect() for _ in range(min(4200, hard - 100))]
        self.prompt()
        self.assertEqual(self.run_vm().status, 201)
        for s in idle:
            s.close()


class Stopping(unittest.TestCase):
    """What SIGINT finds, and leaves."""

    def test_everybody_is_answered_and_nothing_stays(self):
        d = Mayflyd(EXE, "--vmm", FAKE)
        try:
            kernel = os.path.join(d.dir, "kernel")
            with open(kernel, "wb") as f:
                f.write(b"kernel")

            def start(vm, mode):
                return d.put("/v1/vms/" + vm, {"boot-source": {
                    "kernel_image_path": kernel,
                    "boot_args": "fake=" + mode}, "start": True})

            self.assertEqual(start("run", "ok").status, 201)
            d.put("/v1/vms/idle", {})
            starting = Background(start, "starts", "hang")
            waits = [Background(d.get, f"/v1/vms/{vm}/wait")
                     for vm in ("run", "idle")]
            follower = Background(d.get, "/v1/vms/run/console?follow=true")
            d.wait_for("the VM", lambda: d.get("/v1/vms/starts").status == 200)
            time.sleep(0.1)
            children = descendants(d.process.pid)
            self.assertEqual(len(children), 2)
            self.assertEqual(d.stop(), 0)
            self.assertEqual(starting.get().status, 503)
            self.assertEqual(waits[0].get().json()["exit"]["reason"],
                             "killed")
            self.assertEqual(waits[1].get().status, 404)
            self.assertEqual(follower.get().status, 200)
            self.assertFalse(os.path.exists(d.socket))
            for pid in children:
                self.assertFalse(os.path.exists("/proc/" + pid))
        finally:
            d.__exit__(None, None, None)


    def test_a_client_that_does_not_read_does_not_hold_it_up(self):
        d = Mayflyd(EXE, "--vmm", FAKE)
        try:
            kernel = os.path.join(d.dir, "kernel")
            with open(kernel, "wb") as f:
                f.write(b"kernel")
            d.put("/v1/vms/a", {"boot-source": {"kernel_image_path": kernel},
                                "start": True})
            d.put("/v1/vms/a/console", b"P")
            with d.connect() as s:
                s.sendall(head("GET", "/v1/vms/a/console?follow=true"))
                self.assertEqual(s.recv(12, socket.MSG_WAITALL),
                                 b"HTTP/1.1 200")
                start = time.monotonic()
                self.assertEqual(d.stop(), 0)
                self.assertLess(time.monotonic() - start, 10)
        finally:
            d.__exit__(None, None, None)


class Idle(unittest.TestCase):
    """Connections on which nothing moves."""

    def test_they_are_closed_unless_their_request_is_worked_on(self):
        with Mayflyd(EXE, "--vmm", FAKE, "--idle-timeout", "1") as d:
            d.put("/v1/vms/a", {})
            worked_on = [Background(d.get, "/v1/vms/a/" + what) for what in
                         ("wait?timeout_ms=3500", "console?follow=true")]
            idle = d.connect()
            half = d.connect()
            half.sendall(head("PUT", "/v1/vms/b", 100) + b"{")
            start = time.monotonic()
            for s in (idle, half):
                self.assertEqual(s.recv(1), b"")
                s.close()
            self.assertLess(time.monotonic() - start, 3)
            self.assertEqual(d.get("/v1/vms/b").status, 404)
            self.assertTrue(worked_on[0].get().json()["timed_out"])
            d.delete("/v1/vms/a")
            self.assertEqual(worked_on[1].get().status, 200)


class Logs(unittest.TestCase):
    """What stands in the log."""

    def test_changes_are_logged_with_who_asked_for_them(self):
        with Mayflyd(EXE, "--vmm", FAKE, "--log-format", "json") as d:
            d.put("/v1/vms/a", {})
            d.get("/v1/vms/a")
            d.put("/v1/vms/a/machine-config", {"vcpu_count": -1})
            d.request("DELETE", "/v1/vms/a\x7f\"x?y=%22")
            d.delete("/v1/vms/a")
            lines = [json.loads(x) for x in d.read_log().splitlines()]
            changes = [x for x in lines if x["event"] == "api_change"]
            self.assertEqual(
                [(x["method"], x["vm"], x["path"], x["status"])
                 for x in changes],
                [("PUT", "a", "/v1/vms/a", "201"),
                 ("PUT", "a", "/v1/vms/a/machine-config", "400"),
                 ("DELETE", "a", "/v1/vms/a", "204")])
            for x in changes:
                self.assertEqual(
                    (x["uid"], x["gid"], x["pid"], x["level"]),
                    (str(os.getuid()), str(os.getgid()), str(os.getpid()),
                     "info"))
                self.assertLess(0, int(x["us"]))
                self.assertLess(int(x["us"]), TIMEOUT_S * 1000000)
            events = [x["event"] for x in lines if x.get("vm") == "a"]
            self.assertEqual(events, ["vm_created", "api_change", "api_change",
                                      "vm_removed", "api_change"])

    def test_a_change_is_logged_for_the_one_who_connected(self):
        with Mayflyd(EXE, "--vmm", FAKE, "--log-format", "json") as d:
            os.chmod(d.dir, 0o711)
            os.chown(d.socket, -1, 4243)
            child = os.fork()
            if child == 0:
                os.setgroups([])
                os.setgid(4243)
                os.setuid(4242)
                os._exit(d.put("/v1/vms/b", {}).status != 201)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            x, = [json.loads(x) for x in d.read_log().splitlines()
                  if '"api_change"' in x]
            self.assertEqual((x["uid"], x["gid"], x["pid"]),
                             ("4242", "4243", str(child)))


class Sockets(unittest.TestCase):
    """Where the daemon listens."""

    def test_a_second_daemon_on_the_socket_is_refused(self):
        with Mayflyd(EXE, "--vmm", FAKE) as d:
            r = subprocess.run(
                [EXE, "--vmm", FAKE, "--socket", d.socket, "--state-dir",
                 os.path.join(d.dir, "other")], capture_output=True, text=True,
                timeout=20, check=False)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("another daemon serves", r.stderr)
            r = subprocess.run(
                [EXE, "--vmm", FAKE, "--socket", d.socket + "2",
                 "--state-dir", os.path.join(d.dir, "state")],
                capture_output=True, text=True, timeout=20, check=False)
            self.assertIn("another daemon uses", r.stderr)
            self.assertEqual(d.get("/v1/version").status, 200)
            self.assertEqual(os.stat(d.socket).st_mode & 0o777, 0o660)

    def test_a_dead_daemons_socket_is_replaced(self):
        with Mayflyd(EXE, "--vmm", FAKE) as d:
            other = os.path.join(d.dir, "stale")
            s = socket.socket(socket.AF_UNIX)
            s.bind(other)
            s.close()
            p = subprocess.Popen(
                [EXE, "--vmm", FAKE, "--socket", other, "--state-dir",
                 os.path.join(d.dir, "other")], stderr=subprocess.DEVNULL)

            def answers():
                try:
                    with socket.socket(socket.AF_UNIX) as c:
                        c.connect(other)
                        return True
                except OSError:
                    return False
            d.wait_for("the new daemon", answers)
            p.terminate()
            self.assertEqual(p.wait(20), 0)
            self.assertFalse(os.path.exists(other))

    def test_a_busy_daemons_socket_is_left_alone(self):
        with Mayflyd(EXE, "--vmm", FAKE) as d, \
                socket.socket(socket.AF_UNIX) as busy:
            path = os.path.join(d.dir, "busy")
            busy.bind(path)
            busy.listen(0)
            waiting = []
            with self.assertRaises(BlockingIOError):
                while True:
                    s = socket.socket(socket.AF_UNIX)
                    waiting.append(s)
                    s.setblocking(False)
                    s.connect(path)
            r = subprocess.run(
                [EXE, "--vmm", FAKE, "--socket", path, "--state-dir",
                 os.path.join(d.dir, "other")], capture_output=True, text=True,
                timeout=20, check=False)
            self.assertIn("another daemon serves", r.stderr)
            for s in waiting:
                s.close()

    def test_a_file_that_is_no_socket_stays(self):
        with Mayflyd(EXE, "--vmm", FAKE) as d:
            path = os.path.join(d.dir, "precious")
            with open(path, "w", encoding="ascii") as f:
                f.write("data")
            r = subprocess.run(
                [EXE, "--vmm", FAKE, "--socket", path, "--state-dir",
                 os.path.join(d.dir, "other")], capture_output=True, text=True,
                timeout=20, check=False)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("not a socket", r.stderr)
            with open(path, encoding="ascii") as f:
                self.assertEqual(f.read(), "data")


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
