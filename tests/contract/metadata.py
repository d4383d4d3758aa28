"""The metadata of a VM over the API: what is kept, merged, refused."""

import json
import os
import re

from devices import VM, DeviceCase

PATH = VM + "/mmds"
CONFIG = VM + "/mmds/config"
MAX = 51200


def nested(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


class MetadataTests(DeviceCase):
    """To be mixed into a TestCase."""

    ETH0 = {"iface_id": "eth0", "host_dev_name": "mfmeta0", "create": True}

    def metadata(self, vm="a"):
        return self.call("GET", PATH, vm=vm, expect=200).json()

    def test_metadata_is_kept_replaced_and_merged(self):
        self.call("PUT", VM, {}, 201)
        self.assertEqual(self.metadata(), {})
        r = self.call("PATCH", PATH, {"a": 1}, 400)
        self.assertIn("there is no metadata to change", r.fault())
        for method, body, want in (
                ("PUT", {"a": {"b": 1, "c": [1, None]}, "d": "\u20ac/"},
                 {"a": {"b": 1, "c": [1, None]}, "d": "\u20ac/"}),
                ("PATCH", {"a": {"b": None, "e": {"f": None}}},
                 {"a": {"c": [1, None], "e": {}}, "d": "\u20ac/"}),
                ("PATCH", {"a": [2]}, {"a": [2], "d": "\u20ac/"}),
                ("PATCH", {}, {"a": [2], "d": "\u20ac/"}),
                ("PUT", {"x": True}, {"x": True}),
                ("PUT", {}, {}),
                ("PATCH", {"y": 0.10}, {"y": 0.1})):
            self.call(method, PATH, body, 204)
            self.assertEqual(self.metadata(), want)
        # Of one VM alone, and gone with it.
        self.call("PUT", VM, {}, 201, vm="b")
        self.assertEqual(self.metadata("b"), {})
        self.call("DELETE", VM, expect=204)
        self.call("PUT", VM, {}, 201)
        self.assertEqual(self.metadata(), {})

    def test_metadata_has_a_size_limit(self):
        self.call("PUT", VM, {}, 201)
        body = b'{"a":"' + b"x" * (MAX - 8) + b'"}'
        self.call("PUT", PATH, body, 204)
        r = self.call("PATCH", PATH, {"b": 1}, 413)
        self.assertEqual(r.fault(), "the metadata would be 51206 bytes of "
                                    "JSON, 51200 are the most")
        self.call("PUT", PATH, b" " + body, 413)
        self.assertEqual(self.metadata(), json.loads(body))
        self.call("PATCH", PATH, {"a": None, "b": 1}, 204)
        self.assertEqual(self.metadata(), {"b": 1})

    BAD = [
        (b"", "this request needs a body"),
        (b"x", "a value is missing at byte 0"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":1,"a":2}', "a: appears twice"),
        (b'{"a":01}', "a number starts with 0"),
        (b'{"a":"\xff"}', "invalid UTF-8"),
        (b'{"a":"\\u0000"}', "a NUL in a string"),
        (nested(33), "nested deeper than 32 levels"),
        (b"[" * MAX, "nested deeper than 32 levels"),
        (b'{"a":18446744073709551616}', "the integer at byte 5 does not fit"),
        (b'{"a":-9223372036854775809}', "the integer at byte 5 does not fit"),
    ]

    def test_what_is_no_metadata_changes_nothing(self):
        self.call("PUT", VM, {}, 201)
        self.call("PUT", PATH, nested(32), 204)
        want = self.metadata()
        for body, words in self.BAD:
            for method in ("PUT", "PATCH"):
                with self.subTest(f"{method} {body[:40]}"):
                    r = self.call(method, PATH, body, 400)
                    self.assertIn(words, r.fault())
                    self.assertEqual(self.metadata(), want)

    def test_the_service_is_configured_and_shown(self):
        self.call("PUT", VM, {"network-interfaces": [self.ETH0]}, 201)
        self.assertNotIn("mmds-config", self.show())
        defaults = {"version": "V1", "ipv4_address": "169.254.169.254",
                    "network_interfaces": ["eth0"], "imds_compat": False}
        for given in ({}, {"version": "V2"}, {"imds_compat": True},
                      {"ipv4_address": "169.254.1.0"},
                      {"ipv4_address": "169.254.254.255"}, defaults,
                      {"version": None, "ipv4_address": None,
                       "imds_compat": None}):
            with self.subTest(given):
                self.call("PUT", CONFIG, given | {
                    "network_interfaces": ["eth0"]}, 204)
                want = {k: v for k, v in given.items() if v is not None}
                self.assertEqual(self.show()["mmds-config"], defaults | want)
        document = {k: v for k, v in self.show().items()
                    if k in ("network-interfaces", "mmds-config")}
        self.call("DELETE", VM, expect=204)
        self.call("PUT", VM, document, 201, vm="b")
        self.assertEqual(self.show("b")["mmds-config"], defaults)

    def test_a_vm_is_told_at_its_start_and_of_every_change(self):
        tap = f"mfmd{os.getpid()}"
        self.call("PUT", VM, {
            "boot-source": {"kernel_image_path": self.kernel,
                            "boot_args": "tell"},
            "network-interfaces": [
                {"iface_id": "eth0", "host_dev_name": tap + "a",
                 "create": True},
                {"iface_id": "eth1", "host_dev_name": tap + "b",
                 "create": True}],
            "mmds-config": {"version": "V2", "ipv4_address": "169.254.1.2",
                            "imds_compat": True,
                            "network_interfaces": ["eth1"]}}, 201)
        self.call("PUT", PATH, {"a": 1}, 204)
        self.call("PUT", VM + "/actions", {"action_type": "InstanceStart"},
                  204)
        told = self.lines()
        nets = [line for line in told if line.startswith("net ")]
        self.assertEqual([" mmds=1 " in line for line in nets],
                         [False, True])
        size = re.fullmatch(
            r"mmds version=1 ipv4=a9fe0102 imds=1 data=(\d+) file=\1",
            told[-1])
        self.assertTrue(size, told[-1])
        for method, body in (("PUT", {"a": {"b": "c"}}), ("PATCH", {"d": 1})):
            self.call(method, PATH, body, 204)
            told += self.lines()[len(told):]
            self.assertRegex(told[-1], r"^mmds data=(\d+) file=\1$")
        self.assertEqual(self.metadata(), {"a": {"b": "c"}, "d": 1})
        self.call("PATCH", PATH, {"x": "y" * MAX}, 413)
        self.assertEqual(self.lines(), told)
        # The daemon keeps nothing open for it.
        fds = f"/proc/{self.daemon.process.pid}/fd"
        before = len(os.listdir(fds))
        for i in range(5):
            self.call("PUT", PATH, {"i": i}, 204)
        self.daemon.wait_for("closing", lambda: len(os.listdir(fds)) <= before)

    def test_without_a_service_metadata_stays_with_the_daemon(self):
        self.call("PUT", VM, {}, 201)
        self.call("PUT", PATH, {"a": 1}, 204)
        self.call("DELETE", VM, expect=204)
        told = self.start()
        for state in ("Paused", "Resumed"):
            self.call("PATCH", VM + "/vm", {"state": state}, 204)
            self.call("PUT", PATH, {"b": state}, 204)
            self.call("PATCH", PATH, {"c": 1}, 204)
            self.assertEqual(self.metadata(), {"b": state, "c": 1})
        self.call("PUT", CONFIG, {"network_interfaces": ["eth0"]}, 409)
        self.assertEqual(self.lines(), told)
        self.call("PUT", VM + "/console", b"b")
        self.call("GET", VM + "/wait", expect=200)
        for method in ("PUT", "PATCH"):
            self.call(method, PATH, {"b": 1}, 409)
        self.assertEqual(self.metadata(), {"b": "Resumed", "c": 1})
