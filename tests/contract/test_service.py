#!/usr/bin/env python3
"""mayflyd as a service: what it tells the manager that started it, the socket
it is handed, the socket's group, its words for the journal. The manager here is
this test; tests/integration has one with systemd itself.

usage: test_service.py MAYFLYD FAKE_VMM
"""

import fcntl
import grp
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from mayflyd import TIMEOUT_S, Mayflyd, head, read_response, \
    skip_unless_possible

EXE, FAKE = sys.argv[1:3]
# Becomes the rest of its arguments, with those descriptors where
# sd_listen_fds(3) looks for them.
HAND_OVER = """
import os, sys
fds = [int(x) for x in sys.argv[1].split(",")]
for place, fd in enumerate(fds, 3):
    os.dup2(fd, place)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(fds))
os.execv(sys.argv[2], sys.argv[2:])
"""
# The same with one that becomes its standard error.
TO_STDERR = """
import os, sys
os.dup2(int(sys.argv[1]), 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """The socket on which a service's manager hears of it."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="mayfly-test-")
        path = os.path.join(self.dir.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(TIMEOUT_S)
        self.env = {**os.environ, "NOTIFY_SOCKET": path}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()
        self.dir.cleanup()

    def hear(self):
        return self.socket.recv(4096).decode()

    def hear_until(self, word):
        """Everything up to the word, which is the last."""
        heard = [self.hear()]
        while heard[-1] != word:
            heard.append(self.hear())
        return heard


class Notify(unittest.TestCase):
    """sd_notify(3)"""

    def test_it_tells_that_it_is_ready_how_many_vms_and_that_it_stops(self):
        with Manager() as m, Mayflyd(EXE, "--vmm", FAKE, env=m.env) as d:
            self.assertEqual([m.hear(), m.hear()], ["READY=1", "STATUS=0 VMs"])
            self.assertEqual(d.get("/v1/vms").json(), {"vms": []})
            d.put("/v1/vms/a", {})
            self.assertEqual(m.hear(), "STATUS=1 VM")
            d.put("/v1/vms/b", {})
            self.assertEqual(m.hear(), "STATUS=2 VMs")
            d.delete("/v1/vms/a")
            self.assertEqual(m.hear(), "STATUS=1 VM")
            self.assertEqual(d.stop(), 0)
            self.assertEqual(m.hear(), "STOPPING=1")

    def test_a_burst_of_vms_is_told_in_few_words(self):
        with Manager() as m, Mayflyd(EXE, "--vmm", FAKE, env=m.env) as d:
            start = time.monotonic()
            for i in range(200):
                self.assertEqual(d.put(f"/v1/vms/a{i}", {}).status, 201)
            heard = m.hear_until("STATUS=200 VMs")
            spent = time.monotonic() - start
            self.assertLessEqual(len(heard), 4 + spent / 0.25)

    def test_it_shows_a_watchdog_that_it_is_alive(self):
        with Manager() as m:
            m.env["WATCHDOG_USEC"] = "2000000"
            with Mayflyd(EXE, "--vmm", FAKE, env=m.env):
                m.hear_until("WATCHDOG=1")
                for _ in range(3):
                    before = time.monotonic()
                    self.assertEqual(m.hear(), "WATCHDOG=1")
                    self.assertLess(time.monotonic() - before, 2)

    def test_nobody_is_told_that_it_is_alive_unasked(self):
        with Manager() as m, Mayflyd(EXE, "--vmm", FAKE, env=m.env):
            m.hear_until("STATUS=0 VMs")
            m.socket.settimeout(1.5)
            with self.assertRaises(TimeoutError):
                m.hear()

    def test_one_that_cannot_start_is_never_ready(self):
        with Manager() as m:
            r = subprocess.run([EXE, "--socket", "/proc/none/s"], env=m.env,
                               timeout=20, capture_output=True, check=False)
            self.assertEqual(r.returncode, 1)
            m.socket.settimeout(0.1)
            with self.assertRaises(TimeoutError):
                m.hear()


class HandedOver(unittest.TestCase):
    """sd_listen_fds(3)"""

    def setUp(self):
        tmp = tempfile.TemporaryDirectory(prefix="mayfly-test-")
        self.addCleanup(tmp.cleanup)
        self.path = os.path.join(tmp.name, "s")
        self.socket = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)

    def ask(self):
        """A client that is connected, and has asked for the version."""
        c = socket.socket(socket.AF_UNIX)
        self.addCleanup(c.close)
        c.settimeout(TIMEOUT_S)
        c.connect(self.path)
        c.sendall(head("GET", "/v1/version"))
        return c

    def start(self, *sockets):
        # Not in each other's places.
        high = [fcntl.fcntl(x, fcntl.F_DUPFD, 100) for x in sockets]
        try:
            return Mayflyd(EXE, "--vmm", FAKE, serves=self.path, pass_fds=high,
                           prefix=[sys.executable, "-c", HAND_OVER,
                                   ",".join(map(str, high))])
        finally:
            for fd in high:
                os.close(fd)

    def test_a_socket_that_is_handed_over_is_served(self):
        self.socket.listen(16)
        early = self.ask()
        with self.start(self.socket) as d:
            for c in (early, self.ask()):
                self.assertEqual(read_response(c.makefile("rb")).status, 200)
            self.assertFalse(os.path.exists(os.path.join(d.dir, "s")))
            self.assertIn(f"event=listening socket={self.path}", d.read_log())
        # It is still there, and so is who connects while nobody serves it.
        late = self.ask()
        with self.start(self.socket):
            self.assertEqual(read_response(late.makefile("rb")).status, 200)

    def refused(self, why, *sockets):
        d = self.start(*sockets)
        try:
            self.assertEqual(d.process.wait(TIMEOUT_S), 1)
            self.assertIn(why, d.read_log())
        finally:
            d.stop()
            shutil.rmtree(d.dir)

    def test_what_is_no_listening_stream_socket_is_refused(self):
        self.refused("no listening Unix stream socket", self.socket)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            self.refused("no listening Unix stream socket", s)
        with socket.socket(socket.AF_INET) as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            self.refused("no listening Unix stream socket", s)
        with open("/dev/null", "rb") as f:
            self.refused("no listening Unix stream socket", f)

    def test_two_sockets_are_refused(self):
        self.socket.listen(16)
        self.refused("2 sockets were handed over", self.socket,
                     self.socket)


class Group(unittest.TestCase):
    """--socket-group"""

    def test_the_socket_is_for_the_group(self):
        name = "nogroup"
        with Mayflyd(EXE, "--vmm", FAKE, "--socket-group", name) as d:
            st = os.stat(d.socket)
            self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o777),
                             (0, grp.getgrnam(name).gr_gid, 0o660))
            # Who is in it gets to a socket in the state directory too.
            st = os.stat(os.path.join(d.dir, "state"))
            self.assertEqual(st.st_mode & 0o777, 0o711)

    def test_a_group_that_is_not_there_is_refused_by_name(self):
        r = subprocess.run([EXE, "--socket-group", "no-such-group"],
                           capture_output=True, text=True, timeout=20,
                           check=False)
        self.assertEqual(r.returncode, 2)
        self.assertIn('--socket-group must be a group of this host, and '
                      '"no-such-group" is none', r.stderr)


class Journal(unittest.TestCase):
    """The log, where it goes to the journal."""

    def test_lines_have_a_priority_and_the_vm(self):
        with tempfile.TemporaryFile() as journal:
            st = os.fstat(journal.fileno())
            env = {**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"}
            with Mayflyd(EXE, "--vmm", FAKE, env=env, prefix=[
                    sys.executable, "-c", TO_STDERR, str(journal.fileno())],
                    pass_fds=[journal.fileno()]) as d:
                d.put("/v1/vms/a", {})
            journal.seek(0)
            lines = journal.read().decode().splitlines()
        self.assertTrue(any(x.startswith("<6>info event=vm_created vm=a")
                            for x in lines), lines)
        self.assertEqual([x for x in lines if x[0] != "<"], [])


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
