#!/usr/bin/env python3
"""Where a VM's vsock is on the host, and whom the daemon connects it to.

usage: test_vsock.py MAYFLYD FAKE_VMM
"""

import os
import socket
import stat
import sys
import threading
import time
import unittest

from mayflyd import Mayflyd, skip_unless_possible

EXE, FAKE = sys.argv[1:3]

VM = "/v1/vms/a"


class Vsock(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Mayflyd(EXE, "--vmm", FAKE, "--start-timeout", "2",
                             "--request-timeout", "1")
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.kernel = os.path.join(cls.daemon.dir, "kernel")
        with open(cls.kernel, "wb") as f:
            f.write(b"kernel")
        cls.uds = os.path.join(cls.daemon.dir, "v")

    def tearDown(self):
        for vm in self.daemon.get("/v1/vms").json()["vms"]:
            self.daemon.delete("/v1/vms/" + vm["id"])
        self.assertFalse(os.path.exists(self.uds))

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def expect_fds(self, n):
        """Of a client that goes the daemon hears a little later."""
        deadline = time.monotonic() + 5
        while self.fd_count() > n and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertLessEqual(self.fd_count(), n)

    def document(self, mode="ok", **more):
        return {"boot-source": {"kernel_image_path": self.kernel,
                                "boot_args": f"fake={mode} tell"},
                "vsock": {"guest_cid": 3, "uds_path": self.uds}, **more}

    def run_vm(self, vm=VM, **more):
        return self.daemon.put(vm, self.document(start=True, **more))

    def put_vsock(self, path):
        return self.daemon.put(VM + "/vsock",
                               {"guest_cid": 3, "uds_path": path})

    def type(self, data):
        return self.daemon.put(VM + "/console", data)

    def listen(self, port, backlog=4096):
        s = socket.socket(socket.AF_UNIX)
        s.bind(f"{self.uds}_{port}")
        s.listen(backlog)
        self.addCleanup(os.unlink, f"{self.uds}_{port}")
        self.addCleanup(s.close)
        return s

    @staticmethod
    def leave_dead_socket(path):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)

    def expect_console(self, line):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            got = self.daemon.get(VM + "/console").body
            if line in got:
                return
            time.sleep(0.02)
        self.fail(f"no {line} in {got}")

    # ---- the path ----

    def test_the_socket_is_there_as_long_as_the_vm(self):
        self.assertEqual(self.daemon.put(VM, self.document()).status, 201)
        self.assertTrue(stat.S_ISSOCK(os.stat(self.uds).st_mode))
        with open(f"/proc/{self.daemon.process.pid}/status",
                  encoding="ascii") as f:
            umask = int(next(line.split()[1] for line in f
                             if line.startswith("Umask:")), 8)
        self.assertEqual(stat.S_IMODE(os.stat(self.uds).st_mode),
                         0o777 & ~umask)
        self.assertEqual(self.daemon.delete(VM).status, 204)
        self.assertFalse(os.path.exists(self.uds))

    def test_the_socket_goes_when_the_guest_ends(self):
        before = self.fd_count()
        self.assertEqual(self.run_vm().status, 201)
        self.expect_console(b"vsock cid=3 socket")
        self.type(b"b")
        self.daemon.get(VM + "/wait")
        self.assertFalse(os.path.exists(self.uds))
        # Another may have it, while the first one is still listed.
        self.assertEqual(self.daemon.put("/v1/vms/b",
                                         self.document()).status, 201)
        self.assertEqual(self.daemon.delete(VM).status, 204)
        self.assertTrue(os.path.exists(self.uds))
        self.daemon.delete("/v1/vms/b")
        self.expect_fds(before)

    def test_what_is_there_is_left_alone(self):
        for make in (lambda: open(self.uds, "w", encoding="ascii").close(),
                     lambda: os.mkdir(self.uds),
                     lambda: os.symlink("/nowhere", self.uds)):
            make()
            before = os.lstat(self.uds)
            r = self.daemon.put(VM, self.document())
            self.assertEqual(r.status, 400, r.body)
            self.assertIn("vsock.uds_path: ", r.fault())
            self.assertIn("is there already", r.fault())
            self.assertEqual(os.lstat(self.uds), before)
            self.assertEqual(self.daemon.get(VM).status, 404)
            (os.rmdir if stat.S_ISDIR(before.st_mode) else os.unlink)(
                self.uds)

    def test_a_socket_of_nobody_is_replaced(self):
        self.leave_dead_socket(self.uds)
        self.assertEqual(self.daemon.put(VM, self.document()).status, 201)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.uds)
        self.assertEqual(self.daemon.delete(VM).status, 204)
        self.assertFalse(os.path.exists(self.uds))

    def test_two_vms_cannot_have_one_socket(self):
        self.assertEqual(self.daemon.put(VM, self.document()).status, 201)
        r = self.daemon.put("/v1/vms/b", self.document())
        self.assertEqual(r.status, 400, r.body)
        self.assertIn("vsock.uds_path: ", r.fault())

    def test_a_directory_that_is_not_there_is_named(self):
        for path in ("/no/such/directory/v", self.kernel + "/v"):
            r = self.daemon.put(VM, self.document(
                vsock={"guest_cid": 3, "uds_path": path}))
            self.assertEqual(r.status, 400, r.body)
            self.assertIn("vsock.uds_path: the directory of", r.fault())

    def test_another_vsock_takes_the_first_ones_place(self):
        other = self.uds + "2"
        self.assertEqual(self.daemon.put(VM, self.document()).status, 201)
        inode = os.stat(self.uds).st_ino
        # The same again is the same socket.
        self.assertEqual(self.put_vsock(self.uds).status, 204)
        self.assertEqual(os.stat(self.uds).st_ino, inode)
        self.assertEqual(self.put_vsock(other).status, 204)
        self.assertFalse(os.path.exists(self.uds))
        self.assertTrue(os.path.exists(other))
        # One that fails changes nothing.
        self.assertEqual(self.put_vsock("/no/such/v").status, 400)
        self.assertTrue(os.path.exists(other))
        self.assertEqual(
            self.daemon.get(VM).json()["vsock"]["uds_path"], other)
        self.daemon.delete(VM)
        self.assertFalse(os.path.exists(other))

    def test_what_took_the_sockets_place_is_not_removed(self):
        self.assertEqual(self.daemon.put(VM, self.document()).status, 201)
        os.unlink(self.uds)
        with open(self.uds, "w", encoding="ascii") as f:
            f.write("mine")
        self.daemon.delete(VM)
        self.assertTrue(os.path.exists(self.uds))
        os.unlink(self.uds)

    def test_a_start_that_fails_keeps_the_socket(self):
        before = self.fd_count()
        self.assertEqual(self.daemon.put(
            VM, self.document("die")).status, 201)
        inode = os.stat(self.uds).st_ino
        start = {"action_type": "InstanceStart"}
        self.assertEqual(self.daemon.put(VM + "/actions", start).status, 500)
        self.assertEqual(os.stat(self.uds).st_ino, inode)
        self.daemon.put(VM + "/boot-source", {
            "kernel_image_path": self.kernel, "boot_args": "fake=ok tell"})
        self.assertEqual(self.daemon.put(VM + "/actions", start).status, 204)
        self.expect_console(b"vsock cid=3 socket")
        self.daemon.delete(VM)
        self.expect_fds(before)

    # ---- connections ----

    def test_guests_are_connected_to_who_listens(self):
        self.run_vm()
        server = self.listen(7)
        server.settimeout(10)
        self.type(bytes([ord("v"), 7, 0, 3]))
        for _ in range(3):
            c, _ = server.accept()
            self.assertEqual(c.recv(10), b"hello")
            c.close()
        self.expect_console(b"vsock yes=3 no=0 tokens=3\n")

    def test_a_guest_that_is_ready_needs_nobody_there(self):
        self.run_vm()
        before = self.fd_count()
        self.type(bytes([ord("v"), 0, 0, 20]))
        self.expect_console(b"vsock yes=20 no=0 tokens=190\n")
        self.expect_fds(before)
        # Who wants to hear of it can.
        server = self.listen(28006)
        server.settimeout(10)
        self.type(bytes([ord("v"), 0, 0, 1]))
        c, _ = server.accept()
        self.assertEqual(c.recv(10), b"hello")
        c.close()
        self.expect_console(b"vsock yes=1 no=0 tokens=0\n")

    def test_nobody_there_is_a_refusal(self):
        self.run_vm()
        self.leave_dead_socket(self.uds + "_8")
        self.addCleanup(os.unlink, self.uds + "_8")
        with open(self.uds + "_9", "w", encoding="ascii"):
            self.addCleanup(os.unlink, self.uds + "_9")
        for port in (6, 8, 9):
            self.type(bytes([ord("v"), port, 0, 1]))
        self.expect_console(b"vsock yes=0 no=1 tokens=0\n" * 3)

    def test_a_full_backlog_is_a_refusal(self):
        self.run_vm()
        self.listen(7, backlog=1)
        self.type(bytes([ord("v"), 7, 0, 10]))
        self.expect_console(b"vsock yes=2 no=8 tokens=45\n")

    def test_a_thousand_connections_at_once_are_no_flood(self):
        before = self.fd_count()
        self.run_vm()
        server = self.listen(7)

        def serve():
            for _ in range(5000):
                server.accept()[0].close()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        # More than are answered in a second, too.
        n = 5000
        self.type(bytes([ord("v"), 7, n >> 8, n & 255]))
        self.expect_console(b"vsock yes=5000 no=0 tokens=%d\n"
                            % (n * (n - 1) // 2))
        thread.join()
        self.assertEqual(self.daemon.get(VM).json()["state"], "Running")
        self.daemon.delete(VM)
        self.expect_fds(before)

    def test_asking_without_end_is_the_end(self):
        before = self.fd_count()
        self.run_vm()
        server = self.listen(1)
        server.setblocking(False)
        threading.Thread(target=self.type, args=(b"V",), daemon=True).start()
        deadline = time.monotonic() + 20
        while self.daemon.get(VM).json()["state"] != "Exited":
            self.assertLess(time.monotonic(), deadline)
            start = time.monotonic()
            self.daemon.get("/v1/version")
            self.assertLess(time.monotonic() - start, 1)
            try:
                while True:
                    server.accept()[0].close()
            except BlockingIOError:
                pass
        self.assertEqual(self.daemon.get(VM).json()["exit"], {
            "reason": "crashed", "signal": 9, "detail":
            "the VMM asked for more vsock connections than it may"})
        self.daemon.delete(VM)
        self.expect_fds(before)

    def test_asking_without_a_vsock_is_the_end(self):
        self.daemon.put(VM, {"boot-source": {
            "kernel_image_path": self.kernel, "boot_args": "fake=ok"},
            "start": True})
        threading.Thread(target=self.type, args=(b"V",), daemon=True).start()
        self.assertEqual(self.daemon.get(VM + "/wait").json()["exit"]
                         ["reason"], "crashed")


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
