#!/usr/bin/env python3
"""A VM's own API socket: Firecracker's API for that VM, and nothing else.

usage: test_port.py MAYFLYD GUESTS_DIR
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

from mayflyd import Mayflyd, head, read_response, skip_unless_possible

EXE, GUESTS = sys.argv[1:3]
MAX_CLIENTS = 10


class Port:
    """A client of a VM's own socket."""

    request = Mayflyd.request
    raw = Mayflyd.raw
    connect = Mayflyd.connect
    get, put, patch, delete = (Mayflyd.get, Mayflyd.put, Mayflyd.patch,
                               Mayflyd.delete)

    def __init__(self, path):
        self.socket = path


class Ports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Mayflyd(EXE, "--pool", "0")
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.kernel = os.path.join(GUESTS, "puppet.elf")
        cls.path = os.path.join(cls.daemon.dir, "a.sock")

    def setUp(self):
        self.port = Port(self.path)

    def tearDown(self):
        for vm in self.daemon.get("/v1/vms").json()["vms"]:
            self.daemon.delete("/v1/vms/" + vm["id"])
        self.assertFalse(os.path.exists(self.path))

    def make(self, vm="a", status=201, **document):
        document.setdefault("api_socket", self.path)
        r = self.daemon.put("/v1/vms/" + vm, document)
        self.assertEqual(r.status, status, r.body)
        return r

    def ok(self, method, path, body=None):
        r = self.port.request(method, path, body)
        self.assertEqual(r.status, 200 if method == "GET" else 204, r.body)
        return r.json() if r.body else None

    def refused(self, method, path, body=None, says=""):
        r = self.port.request(method, path, body)
        self.assertEqual(r.status, 400, r.body)
        self.assertIn(says, r.fault())

    def start(self, **document):
        self.make(**{"boot-source": {"kernel_image_path": self.kernel},
                     "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
                     "start": True, **document})

    # The API.

    def test_a_life_as_firecrackers_clients_live_it(self):
        self.make()
        self.assertEqual(self.ok("GET", "/"), {
            "app_name": "Firecracker", "id": "a", "state": "Not started",
            "vmm_version": self.ok("GET", "/version")["firecracker_version"]})
        self.ok("PUT", "/boot-source", {"kernel_image_path": self.kernel})
        self.ok("PUT", "/machine-config",
                {"vcpu_count": 1, "mem_size_mib": 32})
        self.assertEqual(
            self.ok("GET", "/machine-config")["mem_size_mib"], 32)
        self.ok("PUT", "/entropy", {})
        self.ok("PUT", "/mmds", {"a": {"b": "c"}})
        self.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.assertEqual(self.ok("GET", "/")["state"], "Running")
        self.ok("PATCH", "/vm", {"state": "Paused"})
        self.assertEqual(self.ok("GET", "/")["state"], "Paused")
        self.ok("PATCH", "/vm", {"state": "Resumed"})
        config = self.ok("GET", "/vm/config")
        self.assertEqual(config["boot-source"]["kernel_image_path"],
                         self.kernel)
        self.assertNotIn("api_socket", config)
        self.assertNotIn("host", config)

    def test_what_is_409_or_404_elsewhere_is_400_here(self):
        self.make()
        self.refused("PATCH", "/vm", {"state": "Paused"}, "not been started")
        self.refused("GET", "/balloon", says="no balloon")
        for path in ("/snapshot/create", "/snapshot/load"):
            self.refused("PUT", path, {}, "snapshot: is not supported yet")
        self.refused("PUT", "/drives", {}, "no such resource")
        self.refused("POST", "/actions", {}, "does not take this method")
        self.refused("PUT", "/actions", b"", "needs a body")
        self.refused("PUT", "/actions", b"{", "")
        self.refused("GET", "/machine-config", {"x": 1}, "takes no body")
        self.refused("PUT", "/actions", {"action_type": "FlushMetrics"},
                     "does not run")
        r = self.port.put("/boot-source", b" " * 51201)
        self.assertEqual(r.status, 413, r.body)

    def test_no_path_leads_to_another_vm_or_out(self):
        self.make()
        self.daemon.put("/v1/vms/b", {})
        for path in ("/v1/vms", "/v1/vms/a", "/v1/vms/b", "/v1/vms/b/logger",
                     "/../b/boot-source", "/..", "//", "/a", "", "*",
                     "/./machine-config", "/machine-config/", "/console",
                     "/wait", "/v1/host", "/v1/events", "/vm/config/x",
                     "/%2e%2e/b/machine-config", "/machine-config%00",
                     "http://localhost/v1/vms/b", "/{id}/boot-source",
                     "/drives/../../b/boot-source", "/drives/b%2fx"):
            for method in ("GET", "PUT", "PATCH", "DELETE"):
                with self.subTest(f"{method} {path}"):
                    body = {"kernel_image_path": self.kernel}
                    try:
                        r = self.port.request(
                            method, path, None if method == "GET" else body)
                    except EOFError:
                        continue
                    self.assertIn(r.status, (400, 404, 505), r.body)
        self.assertNotIn("boot-source",
                         self.daemon.get("/v1/vms/b").json())
        self.assertNotIn("boot-source",
                         self.daemon.get("/v1/vms/a").json())
        self.assertEqual(self.daemon.get("/v1/vms/b").status, 200)

    def test_our_ways_to_make_links_are_not_for_it(self):
        self.make()
        for more in ({"create": True}, {"bridge": "br0"}, {"netns": "x"}):
            self.refused("PUT", "/network-interfaces/e",
                         {"iface_id": "e", "host_dev_name": "tap-x", **more},
                         "is not a known field here")
        self.refused("PUT", "/network-interfaces/e",
                     {"iface_id": "e", "host_dev_name": "no-such-tap"},
                     "no-such-tap")

    def test_its_clients_are_counted(self):
        self.make()
        clients = []
        for _ in range(MAX_CLIENTS):
            s = self.port.connect()
            s.sendall(head("GET", "/"))
            self.assertEqual(read_response(s.makefile("rb")).status, 200)
            clients.append(s)
        self.assertEqual(self.port.get("/").status, 503)
        clients.pop().close()
        self.daemon.wait_for("room for one more", lambda: self.port.get(
            "/").status == 200)
        # Nor do they stand in anybody else's way.
        self.assertEqual(self.daemon.get("/v1/vms").status, 200)
        for s in clients:
            s.close()

    # The file.

    def test_its_mode_and_owner_are_as_asked(self):
        self.make(api_socket={"path": self.path, "mode": "0620", "uid": 5,
                              "gid": 7})
        st = os.stat(self.path)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid),
                         (0o620, 5, 7))
        shown = self.daemon.get("/v1/vms/a").json()["api_socket"]
        self.assertEqual(shown, {"path": self.path, "mode": "0620", "uid": 5,
                                 "gid": 7})

    def test_it_replaces_a_dead_socket_and_nothing_else(self):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        self.make()
        self.assertEqual(self.ok("GET", "/")["id"], "a")
        self.assertIn(b"somebody listens", self.make("b", status=400).body)
        self.assertEqual(self.ok("GET", "/")["id"], "a")
        self.daemon.delete("/v1/vms/a")
        with open(self.path, "w", encoding="ascii") as f:
            f.write("precious")
        self.assertIn(b"not a dead socket", self.make(status=400).body)
        with open(self.path, encoding="ascii") as f:
            self.assertEqual(f.read(), "precious")
        os.unlink(self.path)
        self.assertEqual(
            [n for n in os.listdir(self.daemon.dir) if "a.sock" in n], [])

    def test_a_file_that_took_its_place_stays(self):
        self.make()
        os.unlink(self.path)
        with open(self.path, "w", encoding="ascii"):
            pass
        self.daemon.delete("/v1/vms/a")
        self.assertTrue(os.path.exists(self.path))
        os.unlink(self.path)

    def test_it_goes_with_the_guest_and_takes_its_clients_along(self):
        self.start()
        fds = len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))
        s = self.port.connect()
        stream = s.makefile("rb")
        s.sendall(head("GET", "/"))
        self.assertEqual(read_response(stream).status, 200)
        self.daemon.put("/v1/vms/a/console", b"b")
        exited = self.daemon.get("/v1/vms/a/wait").json()
        self.assertEqual(exited["state"], "Exited")
        self.assertFalse(os.path.exists(self.path))
        try:
            s.sendall(head("GET", "/"))
            self.assertEqual(stream.read(), b"")
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.close()
        # Another of its name gets nothing of what the first was sent.
        self.daemon.delete("/v1/vms/a")
        self.make()
        self.assertEqual(self.ok("GET", "/")["state"], "Not started")
        self.daemon.wait_for("closed connections", lambda: len(os.listdir(
            f"/proc/{self.daemon.process.pid}/fd")) < fds)

    def test_a_request_on_its_way_does_not_reach_the_next_of_its_name(self):
        self.make()
        body = json.dumps({"kernel_image_path": self.kernel}).encode()
        with self.port.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("PUT", "/boot-source", len(body)) + body[:5])
            # It has been read when another's answer is there.
            self.ok("GET", "/")
            self.daemon.delete("/v1/vms/a")
            self.make()
            s.sendall(body[5:])
            self.assertEqual(stream.read(), b"")
        self.assertNotIn("boot-source", self.daemon.get("/v1/vms/a").json())

    def test_a_failed_start_leaves_it(self):
        empty = os.path.join(self.daemon.dir, "empty")
        with open(empty, "wb") as f:
            f.write(b"no kernel")
        self.make()
        self.ok("PUT", "/boot-source", {"kernel_image_path": empty})
        self.refused("PUT", "/actions", {"action_type": "InstanceStart"})
        self.assertEqual(self.ok("GET", "/")["state"], "Not started")
        r = self.daemon.put("/v1/vms/b", {
            "api_socket": self.path + "2", "start": True,
            "boot-source": {"kernel_image_path": empty}})
        self.assertEqual(r.status, 400)
        self.assertFalse(os.path.exists(self.path + "2"))

    # Paths.

    def test_relative_paths_begin_where_the_document_says(self):
        self.make(host={"path_base": GUESTS})
        self.ok("PUT", "/boot-source", {"kernel_image_path": "./puppet.elf"})
        self.refused("PUT", "/boot-source", {"kernel_image_path": "./none"},
                     "is not there")

    def test_no_path_leads_out_of_a_root(self):
        root = os.path.join(self.daemon.dir, "root")
        os.makedirs(os.path.join(root, "sub"))
        secret = os.path.join(self.daemon.dir, "secret")
        for name in (secret, os.path.join(root, "disk")):
            with open(name, "wb") as f:
                f.truncate(1 << 20)
        os.symlink(secret, os.path.join(root, "absolute"))
        os.symlink("../../secret", os.path.join(root, "sub", "up"))
        os.symlink("/disk", os.path.join(root, "good"))
        os.symlink(self.daemon.dir, os.path.join(root, "run"))
        self.make(host={"path_root": root, "uid": 5, "gid": 7},
                  api_socket="/api.sock")
        self.port = Port(os.path.join(root, "api.sock"))

        def drive(path):
            return {"drive_id": "d", "path_on_host": path,
                    "is_root_device": False}
        for path in ("/disk", "disk", "/good", "sub/../disk",
                     "../../../disk"):
            self.ok("PUT", "/drives/d", drive(path))
        for path in (secret, "../secret", "absolute", "sub/up", "run/secret",
                     "/proc/self/exe"):
            self.refused("PUT", "/drives/d", drive(path), "is not there")
        self.refused("PUT", "/vsock",
                     {"guest_cid": 3, "uds_path": "run/v"}, "directory")
        self.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/v"})
        self.assertEqual(os.stat(os.path.join(root, "v")).st_uid, 5)
        self.assertEqual(os.stat(os.path.join(root, "api.sock")).st_gid, 7)
        self.assertTrue(os.path.exists(os.path.join(root, "v")))
        self.refused("PUT", "/logger", {"log_path": "run/log"}, "log_path")
        self.ok("PUT", "/logger", {"log_path": "/log"})
        self.assertTrue(os.path.exists(os.path.join(root, "log")))
        self.daemon.delete("/v1/vms/a")
        self.assertEqual(
            sorted(os.listdir(root)),
            ["absolute", "disk", "good", "log", "run", "sub"])

    # Its log and metrics.

    def test_it_writes_a_log(self):
        log = os.path.join(self.daemon.dir, "vm.log")
        self.make(host={"uid": 5, "gid": 7}, **{
                      "machine-config": {"vcpu_count": 1, "mem_size_mib": 16}})
        self.ok("PUT", "/logger", {"log_path": log, "level": "info",
                                   "show_level": True})
        st = os.stat(log)
        self.assertEqual((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)),
                         (5, 7, 0o600))
        self.ok("PUT", "/boot-source", {"kernel_image_path": self.kernel})
        self.refused("PUT", "/boot-source", {"kernel_image_path": "/none"})
        self.refused("PUT", "/no\x7f/such", {"x": 1})
        self.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.daemon.delete("/v1/vms/a")
        with open(log, encoding="ascii") as f:
            lines = f.read().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} "
                             r"\[a:(main|fc_api):(INFO|ERROR)\] .+")
        text = "\n".join(lines)
        self.assertRegex(text, r"a:fc_api:INFO\] PUT /boot-source: 204 in")
        self.assertRegex(text, r"a:fc_api:ERROR\] PUT /boot-source: 400 in .*"
                         "is not there")
        self.assertRegex(text, r"a:main:INFO\] the guest runs")
        self.assertRegex(lines[-1], "the VM has ended: killed")
        os.unlink(log)

    def test_a_logs_level_and_module_are_heard(self):
        log = os.path.join(self.daemon.dir, "vm.log")
        for more, wants, lacks in (
                ({"level": "Error"}, "ERROR", "INFO"),
                ({"module": "api_server"}, "fc_api", "main"),
                ({"level": "Off"}, "", "]"),
                ({"show_log_origin": True}, ".c:", "?")):
            self.start(logger={"log_path": log, "show_level": True, **more})
            self.refused("PUT", "/boot-source", {"kernel_image_path": "x"})
            self.ok("GET", "/")
            self.daemon.delete("/v1/vms/a")
            with open(log, encoding="ascii") as f:
                text = f.read()
            self.assertIn(wants, text, more)
            self.assertNotIn(lacks, text, more)
            os.unlink(log)

    def test_it_writes_metrics(self):
        path = os.path.join(self.daemon.dir, "metrics")
        self.make()
        self.ok("PUT", "/metrics", {"metrics_path": path})
        self.refused("PUT", "/metrics", {"metrics_path": path}, "once")
        self.ok("PUT", "/boot-source", {"kernel_image_path": self.kernel})
        self.ok("PUT", "/machine-config",
                {"vcpu_count": 1, "mem_size_mib": 16})
        self.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.daemon.put("/v1/vms/a/console", b"ZYWS")
        self.daemon.wait_for("its words", lambda: b"ZYWS" in self.daemon.get(
            "/v1/vms/a/console").body)
        self.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
        self.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
        self.daemon.delete("/v1/vms/a")
        with open(path, encoding="ascii") as f:
            first, second, last = [json.loads(line) for line in f]
        self.assertGreater(first["vcpu"]["exit_io"], 0)
        self.assertEqual(first["put_api_requests"]["metrics_count"], 2)
        self.assertEqual(first["put_api_requests"]["metrics_fails"], 1)
        self.assertEqual(first["put_api_requests"]["actions_count"], 1)
        # Each counts from the one before.
        self.assertEqual(second["put_api_requests"]["actions_count"], 1)
        self.assertEqual(second["put_api_requests"]["metrics_count"], 0)
        self.assertEqual(last["put_api_requests"]["actions_count"], 1)
        self.assertLess(abs(last["utc_timestamp_ms"] / 1000 - time.time()),
                        30)
        os.unlink(path)

    def test_a_fifo_that_nobody_reads_holds_nobody_up(self):
        path = os.path.join(self.daemon.dir, "fifo")
        os.mkfifo(path)
        self.make(logger={"log_path": path})
        for _ in range(1500):
            self.ok("GET", "/")
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.assertIn(b"GET /: 200", os.read(fd, 65536))
        os.close(fd)
        os.unlink(path)

    # Its owner.

    def test_a_vm_ends_with_its_owner(self):
        with subprocess.Popen(["sleep", "60"]) as owner:
            self.start(host={"owner_pid": owner.pid})
            host = self.daemon.get("/v1/vms/a").json()["host"]
            self.assertGreater(host["owner_start_time"], 0)
            self.assertEqual(self.ok("GET", "/")["state"], "Running")
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            self.daemon.wait_for("the VM's end", lambda: self.daemon.get(
                "/v1/vms/a").status == 404)
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
