#!/usr/bin/env python3
"""The server does what openapi/mayfly.yaml says, and the yaml says all that the
server does.

usage: test_contract.py MAYFLYD OPENAPI GUESTS_DIR FAKE_VMM
"""

import json
import os
import subprocess
import sys
import unittest

from contract import Contract
from devices import DeviceTests, RealDeviceTests
from mayflyd import Mayflyd, head, skip_unless_possible
from metadata import MetadataTests

EXE, OPENAPI, GUESTS, FAKE = sys.argv[1:5]
CONTRACT = Contract(OPENAPI)  # one, which remembers what was seen
METHODS = {"GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "OPTIONS"}

# Documented, and provoked by test_faults.py, where the VMM misbehaves.
NOT_HERE = {429, 500, 503, 504}
ONLY_WHILE_STARTING = ("DELETE", "/v1/vms/{id}", "409")


class Devices(DeviceTests, unittest.TestCase):
    exe, fake, contract = EXE, FAKE, CONTRACT


class Metadata(MetadataTests, unittest.TestCase):
    exe, fake, contract = EXE, FAKE, CONTRACT


class DevicesOfARealVmm(RealDeviceTests, unittest.TestCase):
    exe, contract = EXE, CONTRACT
    guest = os.path.join(GUESTS, "puppet.elf")


class Document(unittest.TestCase):
    """What can be checked without a running server."""

    def test_yaml_and_server_know_the_same_routes(self):
        out = subprocess.run([EXE, "--list-routes"], check=True,
                             capture_output=True, text=True).stdout
        written = {f"{m} {p}" for m, p, _ in CONTRACT.operations()}
        self.assertEqual(set(out.splitlines()), written)

    def test_examples_validate(self):
        for where, schema, value in CONTRACT.examples():
            with self.subTest(where):
                self.assertEqual(CONTRACT.errors(schema, value), [])

    def test_schemas_are_schemas(self):
        import jsonschema
        for name, s in CONTRACT.doc["components"]["schemas"].items():
            with self.subTest(name):
                jsonschema.Draft202012Validator.check_schema(s)


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Mayflyd(EXE)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.contract = CONTRACT
        cls.disk = os.path.join(cls.daemon.dir, "disk")
        with open(cls.disk, "wb") as f:
            f.truncate(1 << 20)

    def call(self, method, path, body=None, expect=None, vm="a", query="",
             sub=None):
        url = self.contract.url(path, vm, sub)
        r = self.daemon.request(method, url + query, body)
        self.contract.check(method, path, r)
        if expect:
            self.assertEqual(r.status, expect, r.body)
        return r

    def guest(self, name):
        return {"kernel_image_path": os.path.join(GUESTS, name + ".elf")}

    def state(self, vm="a"):
        return self.call("GET", "/v1/vms/{id}", vm=vm).json()["state"]

    def test_1_what_the_host_is(self):
        self.call("GET", "/v1/version", expect=200)
        self.call("GET", "/v1/host", expect=200)
        for path in ("/v1/version", "/v1/host", "/v1/vms"):
            self.call("GET", path, query="?x=1", expect=400)

    def test_2_a_whole_life_by_small_steps(self):
        call = self.call
        call("PUT", "/v1/vms/{id}", {}, expect=201)
        call("PUT", "/v1/vms/{id}", {}, expect=409)
        call("GET", "/v1/vms", expect=200)
        call("PUT", "/v1/vms/{id}/boot-source", self.guest("puppet"),
             expect=204)
        call("GET", "/v1/vms/{id}/machine-config", expect=200)
        call("PUT", "/v1/vms/{id}/machine-config",
             {"vcpu_count": 1, "mem_size_mib": 64}, expect=204)
        call("PATCH", "/v1/vms/{id}/machine-config", {"mem_size_mib": 32},
             expect=204)
        mc = call("GET", "/v1/vms/{id}/machine-config").json()
        self.assertEqual((mc["vcpu_count"], mc["mem_size_mib"]), (1, 32))
        call("PUT", "/v1/vms/{id}/drives/{drive_id}",
             {"drive_id": "rootfs", "path_on_host": self.disk,
              "is_root_device": True}, expect=204)
        call("PUT", "/v1/vms/{id}/logger",
             {"log_path": os.path.join(self.daemon.dir, "vm.log")}, expect=204)
        metrics = {"metrics_path": os.path.join(self.daemon.dir, "vm.metrics")}
        call("PUT", "/v1/vms/{id}/metrics", metrics, expect=204)
        call("PUT", "/v1/vms/{id}/metrics", metrics, expect=400)
        config = call("GET", "/v1/vms/{id}/vm/config", expect=200).json()
        self.assertEqual(config["metrics"], metrics)
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "FlushMetrics"},
             expect=409)
        call("PUT", "/v1/vms/{id}/console", b"x", expect=409)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Paused"}, expect=409)
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "SendCtrlAltDel"},
             expect=409)
        call("GET", "/v1/vms/{id}/wait", query="?timeout_ms=0", expect=200)
        self.assertEqual(self.state(), "Not started")
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "InstanceStart"},
             expect=204)
        self.running()
        self.ending()

    def running(self):
        call = self.call
        self.assertEqual(self.state(), "Running")
        for method, path, body in (
                ("PUT", "/v1/vms/{id}/boot-source", self.guest("puppet")),
                ("PUT", "/v1/vms/{id}/machine-config",
                 {"vcpu_count": 1, "mem_size_mib": 64}),
                ("PATCH", "/v1/vms/{id}/machine-config", {"smt": False}),
                ("PUT", "/v1/vms/{id}/logger", {"level": "Debug"}),
                ("PUT", "/v1/vms/{id}/drives/{drive_id}",
                 {"drive_id": "rootfs", "path_on_host": self.disk,
                  "is_root_device": True}),
                ("PUT", "/v1/vms/{id}/actions",
                 {"action_type": "InstanceStart"})):
            with self.subTest(f"{method} {path} of a running VM"):
                call(method, path, body, expect=409)
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "FlushMetrics"},
             expect=204)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Resumed"}, expect=204)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Paused"}, expect=204)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Paused"}, expect=204)
        self.assertEqual(self.state(), "Paused")
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "SendCtrlAltDel"},
             expect=409)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Resumed"}, expect=204)
        self.assertEqual(self.state(), "Running")
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "SendCtrlAltDel"},
             expect=204)
        call("PUT", "/v1/vms/{id}/console", b"ZYWS", expect=204)
        self.daemon.wait_for("the guest's echo", lambda: b"ZYWS" in call(
            "GET", "/v1/vms/{id}/console", expect=200).body)
        r = call("GET", "/v1/vms/{id}/console", query="?follow=false")
        self.assertEqual(r.headers["x-mayfly-console-dropped"], "0")
        r = call("GET", "/v1/vms/{id}/wait", query="?timeout_ms=20").json()
        self.assertTrue(r["timed_out"])
        self.assertNotIn("exit", r)

    def ending(self):
        call = self.call
        call("PUT", "/v1/vms/{id}/console", b"b", expect=204)
        r = call("GET", "/v1/vms/{id}/wait", expect=200).json()
        self.assertFalse(r["timed_out"])
        self.assertEqual(r["exit"]["reason"], "shutdown")
        vm = call("GET", "/v1/vms/{id}", expect=200).json()
        self.assertEqual(vm["state"], "Exited")
        self.assertNotIn("pid", vm)
        r = call("GET", "/v1/vms/{id}/console", query="?follow=true",
                 expect=200)
        self.assertIn(b"ZYWS", r.body)
        call("PATCH", "/v1/vms/{id}/vm", {"state": "Resumed"}, expect=409)
        call("PUT", "/v1/vms/{id}/actions", {"action_type": "InstanceStart"},
             expect=409)
        call("GET", "/v1/vms", expect=200)
        call("DELETE", "/v1/vms/{id}", expect=204)
        call("GET", "/v1/vms/{id}", expect=404)

    def test_3_one_request_creates_and_starts(self):
        vm = self.call("PUT", "/v1/vms/{id}", vm="b", expect=201, body={
            "boot-source": self.guest("puppet"),
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 16},
            "drives": [{"drive_id": "d", "path_on_host": self.disk,
                        "is_root_device": False, "is_read_only": True,
                        "rate_limiter": None}],
            "labels": {"app": "web"}, "network-interfaces": [],
            "balloon": None, "start": True}).json()
        self.assertEqual(vm["state"], "Running")
        self.assertEqual(vm["labels"], {"app": "web"})
        # The answer and the guest set out at the same time.
        self.daemon.wait_for("the guest", lambda: "guest_ready" in self.call(
            "GET", "/v1/vms/{id}", vm="b").json()["timeline"])
        timeline = self.call("GET", "/v1/vms/{id}", vm="b").json()["timeline"]
        # process_ready is there only if the pool had none.
        moments = ["request_received", "configured", "loaded",
                   "first_instruction", "guest_ready"]
        self.assertEqual(sorted(moments, key=timeline.get), moments)
        self.call("PUT", "/v1/vms/{id}/metrics", {"metrics_path": "/x"},
                  vm="b", expect=409)
        self.call("DELETE", "/v1/vms/{id}", vm="b", expect=204)
        self.call("DELETE", "/v1/vms/{id}", vm="b", expect=404)

    def pages(self, query, after=None):
        """The ids on each page."""
        pages = []
        while True:
            words = [query] if query else []
            words += ["after=" + after] if after else []
            r = self.call("GET", "/v1/vms", expect=200,
                          query=f"?{'&'.join(words)}" if words else "").json()
            pages.append([vm["id"] for vm in r["vms"]])
            if "next" not in r:
                return pages
            after = r["next"]

    def test_3_lists_page_by_page(self):
        for n in range(5):
            self.call("PUT", "/v1/vms/{id}", vm=f"page-{n}", expect=201, body={
                "labels": {"odd": str(n % 2), "a.b/c": "1 & 2"}})
        self.assertEqual(self.pages("limit=2"), [
            ["page-0", "page-1"], ["page-2", "page-3"], ["page-4"]])
        self.assertEqual(self.pages("limit=5"), [[
            f"page-{n}" for n in range(5)]])
        self.assertEqual(self.pages("limit=1000"), self.pages(""))
        # A page is full of what matches, and the last one says so.
        self.assertEqual(self.pages("limit=2&label=odd=0"), [
            ["page-0", "page-2"], ["page-4"]])
        self.assertEqual(self.pages("limit=2&label=odd%3D1"), [
            ["page-1", "page-3"]])
        self.assertEqual(self.pages("limit=9&label=a.b/c=1%20%26%202"),
                         self.pages(""))
        self.assertEqual(self.pages("label=od"), [[]])
        self.assertEqual(self.pages("state=Not%20started"), self.pages(""))
        self.assertEqual(self.pages("state=Running"), [[]])
        # The VM that a page ended with goes, and comes again: as a new one.
        after = self.call("GET", "/v1/vms", query="?limit=2").json()["next"]
        self.call("DELETE", "/v1/vms/{id}", vm="page-1", expect=204)
        self.assertEqual(self.pages("limit=2", after), [
            ["page-2", "page-3"], ["page-4"]])
        self.call("PUT", "/v1/vms/{id}", {}, vm="page-1", expect=201)
        self.assertEqual(self.pages("limit=2", after), [
            ["page-2", "page-3"], ["page-4", "page-1"]])
        for n in range(5):
            self.call("DELETE", "/v1/vms/{id}", vm=f"page-{n}", expect=204)
        self.assertEqual(self.pages("limit=1"), [[]])

    def test_4_unknown_vms_are_404_and_bad_ids_400_everywhere(self):
        for method, path, op in self.contract.operations():
            if "{id}" not in path or (method, path) == ("PUT", "/v1/vms/{id}"):
                continue
            body = None
            if "requestBody" in op:
                content = op["requestBody"]["content"]
                if "application/json" in content:
                    body = content["application/json"]["example"]
                else:
                    body = b"x"
            with self.subTest(f"{method} {path}"):
                self.call(method, path, body, 404, vm="none")
                self.call(method, path, body, 400, vm="a.b")
                self.call(method, path, body, 400, vm="x" * 65)
                if path.count("{") > 1:
                    self.call(method, path, body, 400, vm="none", sub="a-b")
                    self.call(method, path, body, 400, vm="none", sub="x" * 65)

    def test_5_bodies_that_are_too_long_missing_or_unasked_for(self):
        for method, path, op in self.contract.operations():
            with self.subTest(f"{method} {path}"):
                if "requestBody" in op:
                    self.call(method, path, b" " * 51201, 413)
                    needed = 400 if op["requestBody"]["required"] else 404
                    self.call(method, path, None, needed)
                    self.call(method, path, b"", needed)
                else:
                    self.call(method, path, b"{}", expect=400)

    def test_6_other_methods_are_405_and_say_which(self):
        for path, item in self.contract.doc["paths"].items():
            has = {m.upper() for m in item if m != "parameters"}
            url = self.contract.url(path, "a")
            for method in METHODS - has - {"HEAD"}:
                with self.subTest(f"{method} {path}"):
                    r = self.daemon.request(method, url)
                    self.assertEqual(r.status, 405)
                    allow = set(r.headers["allow"].split(", "))
                    self.assertEqual(allow, has)
                    self.assertTrue(r.fault())

    def test_7_other_paths_are_404(self):
        for path in ("/", "/v1", "/v1/", "/v2/vms", "/v1/vms/", "/v1/vms/a/",
                     "/v1/vms/a/nothing", "/v1/vms/a/drives",
                     "/v1/vms/a/drives/b/c", "/v1//vms", "/v1/vms/../version",
                     "//v1/version", "/v1/version/"):
            with self.subTest(path):
                r = self.daemon.get(path)
                self.assertEqual(r.status, 404)
                self.assertTrue(r.fault())

    def test_8_metrics_are_text(self):
        r = self.call("GET", "/metrics", expect=200)
        self.assertIn(b"# TYPE mayfly_vm_state gauge\n", r.body)

    def events(self, query, until, headers=()):
        """The events of a stream as (id, data), up to the one for which
        until(data) holds."""
        got, number = [], None
        with self.daemon.connect() as s, s.makefile("rb") as stream:
            s.sendall(head("GET", "/v1/events" + query, extra=headers))
            for line in stream:
                name, _, value = line.decode().strip().partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    got.append((number, json.loads(value)))
                    if until(got[-1][1]):
                        return got
        raise AssertionError(f"{query}: it ended after {got}")

    def test_8_events_tell_what_happened(self):
        for vm, labels in (("e1", {"tier": "gold"}), ("e2", {})):
            self.call("PUT", "/v1/vms/{id}", vm=vm, expect=201, body={
                "boot-source": self.guest("puppet"), "labels": labels,
                "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
                "start": True})
            for state in ("Paused", "Resumed"):
                self.call("PATCH", "/v1/vms/{id}/vm", {"state": state}, vm=vm,
                          expect=204)
        self.daemon.wait_for("the guest's word", lambda: b"ready" in self.call(
            "GET", "/v1/vms/{id}/console", vm="e1").body)
        self.call("DELETE", "/v1/vms/{id}", vm="e1", expect=204)
        self.call("DELETE", "/v1/vms/{id}", vm="e2", expect=204)

        def last(e):
            return e["vm"] == "e2" and e["type"] == "deleted"
        everything = self.events("?after=0", last)
        for _, event in everything:
            self.assertEqual(self.contract.errors(
                {"$ref": "#/components/schemas/Event"}, event), [], event)
        numbers = [n for n, _ in everything]
        self.assertEqual(numbers, sorted(set(numbers)))
        e1 = [e for _, e in everything if e["vm"] == "e1"]
        types = [e["type"] for e in e1]
        # The guest says that it is ready at a moment of its own.
        self.assertEqual(types.count("guest_ready"), 1)
        types.remove("guest_ready")
        self.assertEqual(types, ["created", "started", "paused", "resumed",
                                 "exited", "deleted"])
        self.assertEqual({json.dumps(e["labels"]) for e in e1},
                         {'{"tier": "gold"}'})
        exited = next(e for e in e1 if e["type"] == "exited")
        self.assertEqual((exited["reason"], exited["detail"]),
                         ("killed", "deleted"))
        # Filters, and coming back.
        for query in ("?after=0&vm=e1", "?after=0&label=tier",
                      "?after=0&label=tier=gold"):
            got = self.events(query, lambda e: e["type"] == "deleted")
            self.assertEqual([e for _, e in got], e1, query)
        middle = everything[len(everything) // 2][0]
        rest = [x for x in everything if x[0] > middle]
        self.assertEqual(self.events(f"?after={middle}", last), rest)
        self.assertEqual(self.events(
            "", last, [f"Last-Event-ID: {middle}"]), rest)
        self.contract.seen.add(("GET", "/v1/events", 200))

    def test_9_all_that_is_documented_was_seen(self):
        missing = []
        for method, path, op in self.contract.operations():
            for status in op["responses"]:
                if int(status) not in NOT_HERE and \
                        (method, path, status) != ONLY_WHILE_STARTING and \
                        (method, path, int(status)) not in self.contract.seen:
                    missing.append(f"{method} {path} {status}")
        self.assertEqual(missing, [])


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1], failfast=True)
