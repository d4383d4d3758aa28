#!/usr/bin/env python3
"""What is refused, by a message that names the field, and changes nothing: one
row a case.

usage: test_bad_input.py MAYFLYD OPENAPI GUESTS_DIR
"""

import json
import os
import socket
import shutil
import subprocess
import sys
import unittest

import bad_cpu
import bad_devices
from bad_devices import SEMANTIC, limiter_rows
from contract import Contract
from mayflyd import Mayflyd, skip_unless_possible

EXE, OPENAPI, GUESTS = sys.argv[1:4]

GOOD = {"path_on_host": "{disk}", "is_root_device": False, "drive_id": "d"}
KERNEL = {"kernel_image_path": "{kernel}"}
MACHINE = {"vcpu_count": 1, "mem_size_mib": 16}

# (body, what the message must hold, [SEMANTIC])
BOOT_SOURCE = [
    ({}, "boot-source.kernel_image_path: is missing"),
    ({"kernel_image_path": None}, "boot-source.kernel_image_path: is missing"),
    ({"kernel_image_path": ""}, "boot-source.kernel_image_path: must be 1 to"),
    ({"kernel_image_path": 7}, "boot-source.kernel_image_path: must be a str"),
    ({"kernel_image_path": ["{kernel}"]}, "boot-source.kernel_image_path"),
    ({"kernel_image_path": "x" * 4096}, "boot-source.kernel_image_path: must"),
    ({"kernel_image_path": "/no/such"},
     "boot-source.kernel_image_path: \"/no/such\" is not there", SEMANTIC),
    # Cut within a character, and still UTF-8.
    ({"kernel_image_path": "/" + "\u20ac" * 90}, "cannot be opened",
     SEMANTIC),
    ({"kernel_image_path": "/x" + "\u20ac" * 90}, "cannot be opened",
     SEMANTIC),
    ({"kernel_image_path": "/xy" + "\u20ac" * 90}, "cannot be opened",
     SEMANTIC),
    ({"kernel_image_path": "/"}, "is a directory", SEMANTIC),
    ({"kernel_image_path": "{fifo}"}, "is not a regular file", SEMANTIC),
    ({"kernel_image_path": "{socket}"}, "is not a regular file", SEMANTIC),
    ({"kernel_image_path": "/dev/null"}, "is not a regular file", SEMANTIC),
    ({"kernel_image_path": "/dev/kvm"}, "is not a regular file", SEMANTIC),
    ({"kernel_image_path": "{kernel}/x"}, "boot-source.kernel_image_path",
     SEMANTIC),
    ({"kernel_image_path": "{loop}"}, "boot-source.kernel_image_path",
     SEMANTIC),
    (KERNEL | {"initrd_path": "/no/such"}, "boot-source.initrd_path",
     SEMANTIC),
    (KERNEL | {"initrd_path": "/"}, "boot-source.initrd_path", SEMANTIC),
    (KERNEL | {"initrd_path": ""}, "boot-source.initrd_path"),
    (KERNEL | {"boot_args": "x" * 2048}, "boot-source.boot_args: must be 0 to"),
    (KERNEL | {"boot_args": "a\nb"}, "boot-source.boot_args: may only hold",
     SEMANTIC),
    (KERNEL | {"boot_args": "caf\u00e9"}, "boot-source.boot_args", SEMANTIC),
    (KERNEL | {"boot_args": 1}, "boot-source.boot_args"),
    (KERNEL | {"kernel": "x"}, "boot-source.kernel: is not a known field"),
    (KERNEL | {"Initrd_path": "x"}, "boot-source.Initrd_path: is not a known"),
    (KERNEL | {"\u00e9\n": 1}, "boot-source.???: is not a known field"),
    (KERNEL | {"x" * 500: 1}, "is not a known field"),
]

MACHINE_CONFIG = [
    ({}, "machine-config.vcpu_count: is missing"),
    ({"vcpu_count": 1}, "machine-config.mem_size_mib: is missing"),
    ({"mem_size_mib": 16}, "machine-config.vcpu_count: is missing"),
    (MACHINE | {"vcpu_count": 0}, "vcpu_count: must be between 1 and 32"),
    (MACHINE | {"vcpu_count": 33}, "vcpu_count: must be between 1 and 32"),
    (MACHINE | {"vcpu_count": -1}, "vcpu_count: must be between 1 and 32"),
    (MACHINE | {"vcpu_count": 2 ** 32 + 1}, "vcpu_count: must be between"),
    (MACHINE | {"vcpu_count": 2 ** 64 + 1}, "vcpu_count: must be between"),
    (MACHINE | {"vcpu_count": -2 ** 70}, "vcpu_count: must be between"),
    (MACHINE | {"vcpu_count": 1.5}, "vcpu_count: must be an integer"),
    (MACHINE | {"vcpu_count": "1"}, "vcpu_count: must be an integer"),
    (MACHINE | {"vcpu_count": True}, "vcpu_count: must be an integer"),
    (MACHINE | {"vcpu_count": None}, "vcpu_count: is missing"),
    (MACHINE | {"mem_size_mib": 0}, "mem_size_mib: must be between 1 and"),
    (MACHINE | {"mem_size_mib": -16}, "mem_size_mib: must be between 1 and"),
    (MACHINE | {"mem_size_mib": 2 ** 31}, "{host_mib}, the memory of this",
     SEMANTIC),
    (MACHINE | {"mem_size_mib": 2 ** 32}, "mem_size_mib: must be between",
     SEMANTIC),
    (MACHINE | {"mem_size_mib": 2 ** 44}, "mem_size_mib: must be between",
     SEMANTIC),
    (MACHINE | {"smt": 1}, "machine-config.smt: must be true or false"),
    (MACHINE | {"smt": "true"}, "machine-config.smt: must be true or false"),
    (MACHINE | {"smt": True, "vcpu_count": 3},
     "vcpu_count: must be 1 or even with smt", SEMANTIC),
    (MACHINE | {"track_dirty_pages": True},
     "track_dirty_pages: is not supported yet"),
    (MACHINE | {"huge_pages": "1G"}, "machine-config.huge_pages: must be"),
    (MACHINE | {"huge_pages": "2M", "mem_size_mib": 33},
     "machine-config.mem_size_mib: must be even with huge_pages 2M", SEMANTIC),
    (MACHINE | {"console": "ttyS0"},
     "machine-config.console: must be \"serial\" or \"virtio\""),
    (MACHINE | {"console": 1}, "machine-config.console: must be"),
    (MACHINE | {"cpu_template": "T3"}, "machine-config.cpu_template: must be"),
    *((MACHINE | body, *rest) for body, *rest in bad_cpu.CPU_TEMPLATE),
    (MACHINE | {"cpus": 1}, "machine-config.cpus: is not a known field"),
]

PATCH = [
    ({}, "machine-config: nothing to change"),
    ({"smt": None}, "machine-config: nothing to change", SEMANTIC),
    ({"vcpu_count": 0}, "machine-config.vcpu_count: must be between"),
    ({"vcpu_count": 3, "smt": True}, "vcpu_count: must be 1 or even",
     SEMANTIC),
    ({"x": 1}, "machine-config.x: is not a known field"),
    ({"mem_size_mib": 2, "x": 1}, "machine-config.x: is not a known field"),
]

DRIVE = [
    ({}, "drives.drive_id: is missing"),
    ({"drive_id": "d"}, "drives.path_on_host: is missing"),
    ({"drive_id": "d", "path_on_host": "{disk}"},
     "drives.is_root_device: is missing"),
    (GOOD | {"drive_id": "other"}, "drives.drive_id: must equal", SEMANTIC),
    (GOOD | {"drive_id": ""}, "drives.drive_id: must be 1 to 64"),
    (GOOD | {"drive_id": "a/b"}, "drives.drive_id: may only hold"),
    (GOOD | {"drive_id": "a-b"}, "drives.drive_id: may only hold"),
    (GOOD | {"drive_id": "x" * 65}, "drives.drive_id: must be 1 to 64"),
    (GOOD | {"path_on_host": "/no/such"}, "drives.path_on_host: \"/no/such\"",
     SEMANTIC),
    (GOOD | {"path_on_host": "/"}, "drives.path_on_host", SEMANTIC),
    (GOOD | {"path_on_host": "{fifo}"}, "not a regular file or block device",
     SEMANTIC),
    (GOOD | {"path_on_host": "/dev/null"},
     "not a regular file or block device", SEMANTIC),
    (GOOD | {"path_on_host": "{empty}"}, "smaller than one sector", SEMANTIC),
    (GOOD | {"path_on_host": "{small}"}, "smaller than one sector", SEMANTIC),
    (GOOD | {"path_on_host": ""}, "drives.path_on_host: must be 1 to"),
    (GOOD | {"path_on_host": 1}, "drives.path_on_host: must be a string"),
    (GOOD | {"is_root_device": True}, "drives.is_root_device: drive \"root\"",
     SEMANTIC),
    (GOOD | {"is_root_device": "yes"}, "drives.is_root_device: must be true"),
    (GOOD | {"is_read_only": 0}, "drives.is_read_only: must be true or false"),
    (GOOD | {"cache_type": "unsafe"}, "drives.cache_type: must be \"Unsafe\""),
    (GOOD | {"cache_type": 0}, "drives.cache_type: must be \"Unsafe\""),
    (GOOD | {"io_engine": "Threads"}, "drives.io_engine: must be \"Sync\""),
    (GOOD | {"partuuid": "not hex"}, "drives.partuuid: may only hold"),
    *limiter_rows(GOOD, "rate_limiter", "drives"),
    (GOOD | {"socket": "/x"}, "drives.socket: is not supported yet"),
    (GOOD | {"read_only": True}, "drives.read_only: is not a known field"),
]

ACTIONS = [
    ({}, "action_type: is missing"),
    ({"action_type": "Start"}, "action_type: must be \"InstanceStart\" or"),
    ({"action_type": "instancestart"}, "action_type: must be"),
    ({"action_type": "FlushLogs"}, "action_type: must be"),
    ({"action_type": 1}, "action_type: must be"),
    ({"action_type": None}, "action_type: is missing"),
    ({"action_type": "InstanceStart", "payload": ""}, "payload: is not a"),
    ({"action_type": "InstanceStart"}, "boot-source: is missing", SEMANTIC),
]

STATE = [
    ({}, "state: is missing"),
    ({"state": "paused"}, "state: must be \"Paused\" or \"Resumed\""),
    ({"state": "Running"}, "state: must be \"Paused\" or \"Resumed\""),
    ({"state": ["Paused"]}, "state: must be"),
]

# Each of these as PUT /v1/vms/new, after which there must be no VM "new".
DOCUMENT = [
    ({"boot_source": {}}, "boot_source: is not a known field"),
    ({"boot-source": []}, "boot-source: must be an object"),
    ({"boot-source": {}}, "boot-source.kernel_image_path: is missing"),
    ({"boot-source": {"kernel_image_path": "/no/such"}},
     "boot-source.kernel_image_path", SEMANTIC),
    ({"machine-config": {"vcpu_count": 33, "mem_size_mib": 1}},
     "machine-config.vcpu_count: must be between 1 and 32"),
    ({"machine-config": {"vcpu_count": 1}},
     "machine-config.mem_size_mib: is missing"),
    ({"machine-config": 1}, "machine-config: must be an object"),
    ({"drives": {}}, "drives: must be an array"),
    ({"drives": [1]}, "drives[0]: must be an object"),
    ({"drives": [GOOD, {"drive_id": "x"}]}, "drives[1].path_on_host: is miss"),
    ({"drives": [GOOD, GOOD]}, "the same id", SEMANTIC),
    ({"drives": [GOOD | {"is_root_device": True},
                 GOOD | {"is_root_device": True, "drive_id": "e"}]},
     "drives.is_root_device: drive \"d\" is the root device", SEMANTIC),
    ({"drives": [GOOD | {"drive_id": f"d{i}"} for i in range(17)]},
     "drives: a VM has at most 16 drives"),
    ({"drives": [GOOD | {"path_on_host": "/no/such"}]}, "drives.path_on_host",
     SEMANTIC),
    ({"labels": []}, "labels: must be an object"),
    ({"labels": {"a b": "x"}}, "labels.a b: a label's key must be"),
    ({"labels": {"": "x"}}, "a label's key must be"),
    ({"labels": {"k" * 64: "x"}}, "a label's key must be"),
    ({"labels": {"a": 1}}, "labels.a: must be a string of at most 255"),
    ({"labels": {"a": "x" * 256}}, "labels.a: must be a string of at most"),
    ({"labels": {f"k{i}": "" for i in range(65)}}, "at most 64 labels"),
    ({"start": 1}, "start: must be true or false"),
    ({"start": True}, "boot-source: is missing", SEMANTIC),
    ({"logger": {"level": "Loud"}}, "logger.level: must be \"Off\" or"),
    ({"logger": {"level": 3}}, "logger.level: must be \"Off\" or"),
    ({"logger": {"log_path": ""}}, "logger.log_path: must be 1 to"),
    ({"logger": {"show_level": "yes"}}, "logger.show_level: must be true"),
    ({"logger": {"path": "/x"}}, "logger.path: is not a known field"),
    ({"logger": {"log_path": "/no/such/file"}}, "logger.log_path: ", SEMANTIC),
    ({"logger": {"log_path": "/"}}, "logger.log_path: ", SEMANTIC),
    ({"logger": {"log_path": "{socket}"}},
     "is neither a file nor a FIFO", SEMANTIC),
    ({"logger": {"log_path": "/dev/kvm"}},
     "is neither a file nor a FIFO", SEMANTIC),
    ({"metrics": {}}, "metrics.metrics_path: is missing"),
    ({"metrics": {"metrics_path": "/no/such/file"}}, "metrics.metrics_path: ",
     SEMANTIC),
    ({"metrics": {"metrics_path": "{disk}", "properties": {"a": "b"}}},
     "metrics.properties: is not supported yet"),
    ({"host": {"path_root": "relative"}}, "host.path_root: must be an abs"),
    ({"host": {"path_base": "."}}, "host.path_base: must be an absolute"),
    ({"host": {"path_root": "/no/such"}, "boot-source": KERNEL},
     "boot-source.kernel_image_path: ", SEMANTIC),
    ({"host": {"netns": "a/b"}}, "host.netns: may only hold"),
    ({"host": {"netns": ".."}}, "host.netns: must not be", SEMANTIC),
    ({"host": {"uid": 0}}, "host.uid: must be between 1 and"),
    ({"host": {"gid": 2 ** 32 - 1}}, "host.gid: must be between 1 and"),
    ({"host": {"owner_pid": 0}}, "host.owner_pid: must be between 1 and"),
    ({"host": {"owner_pid": 2 ** 31}}, "host.owner_pid: must be between"),
    ({"host": {"owner_pid": 2 ** 31 - 1}}, "host.owner_pid: there is no",
     SEMANTIC),
    ({"host": {"owner_pid": os.getpid(), "owner_start_time": 1}},
     "is not the one that was meant", SEMANTIC),
    ({"host": {"pid": 1}}, "host.pid: is not a known field"),
    ({"api_socket": ""}, "api_socket.path: must be 1 to"),
    ({"api_socket": 7}, "api_socket: must be an object"),
    ({"api_socket": {}}, "api_socket.path: is missing"),
    ({"api_socket": {"path": "/tmp/x", "mode": "0888"}},
     "api_socket.mode: may only hold 0-7"),
    ({"api_socket": {"path": "/tmp/x", "mode": "1777"}},
     "api_socket.mode: must be permissions"),
    ({"api_socket": {"path": "/tmp/x", "mode": 384}},
     "api_socket.mode: must be a string"),
    ({"api_socket": {"path": "/tmp/x", "uid": 2 ** 32 - 1}},
     "api_socket.uid: must be between"),
    ({"api_socket": {"path": "/tmp/x", "gid": -1}},
     "api_socket.gid: must be between"),
    ({"api_socket": "/no/such/s"},
     "api_socket.path: the directory of \"/no/such/s\" is not", SEMANTIC),
    ({"api_socket": "/"}, "api_socket.path: ", SEMANTIC),
    ({"api_socket": "{disk}"}, "is there, and not a dead socket", SEMANTIC),
    ({"api_socket": "/tmp/" + "x" * 100}, "is too long for a socket",
     SEMANTIC),
    *bad_devices.DOCUMENT,
    *bad_cpu.DOCUMENT,
    ({"boot-source": KERNEL | {"boot_args": "x" * 2040}, "start": True,
      "drives": [GOOD | {"is_root_device": True}]},
     "boot-source.boot_args: the command line", SEMANTIC),
    ({"boot-source": {"kernel_image_path": "{text}"}, "start": True},
     "boot-source.kernel_image_path", SEMANTIC),
    ({"boot-source": {"kernel_image_path": "{empty}"}, "start": True},
     "boot-source.kernel_image_path", SEMANTIC),
    ({"boot-source": {"kernel_image_path": "{arm}"}, "start": True},
     "boot-source.kernel_image_path", SEMANTIC),
    ({"boot-source": {"kernel_image_path": "{cut}"}, "start": True},
     "boot-source.kernel_image_path", SEMANTIC),
    ({"boot-source": KERNEL | {"initrd_path": "{disk}"}, "start": True,
      "machine-config": {"vcpu_count": 1, "mem_size_mib": 2}},
     "boot-source.initrd_path", SEMANTIC),
]

# Bodies as bytes; the message must hold the words.
NOT_JSON = [
    (b"x", "a value is missing at byte 0"),
    (b"{", "it ends too early"),
    (b'{"a"', "it ends too early"),
    (b'{"start": tru', "an unknown word"),
    (b'{"start": true', "it ends too early"),
    (b"{}x", "something follows the end"),
    (b"{}{}", "something follows the end"),
    (b"{}\0", "something follows the end"),
    (b"\0{}", "a value is missing"),
    (b"[]", "must be a JSON object"),
    (b"null", "must be a JSON object"),
    (b"1", "must be a JSON object"),
    (b'"x"', "must be a JSON object"),
    (b"{'start': true}", "a string is missing"),
    (b"{start: true}", "a string is missing"),
    (b'{"start": True}', "a value is missing"),
    (b'{"start": true,}', "a string is missing"),
    (b'{"start" true}', "a colon is missing"),
    (b'{"start": true "labels": {}}', "a comma or bracket is missing"),
    (b'{"start": 01}', "a number starts with 0"),
    (b'{"start": +1}', "a value is missing"),
    (b'{"start": .5}', "a value is missing"),
    (b'{"start": 1.}', "a digit is missing"),
    (b'{"start": 1e}', "a digit is missing"),
    (b'{"start": -}', "a digit is missing"),
    (b'{"start": NaN}', "a value is missing"),
    (b'{"start": -Infinity}', "a digit is missing"),
    (b'{"start": nul}', "an unknown word"),
    (b'{"labels": {"a": "\t"}}', "a control character"),
    (b'{"labels": {"a": "\\x41"}}', "an unknown escape"),
    (b'{"labels": {"a": "\\u12G4"}}', "a \\u escape is malformed"),
    (b'{"labels": {"a": "\\u0000"}}', "a NUL in a string"),
    (b'{"labels": {"a": "\\ud800"}}', "half a surrogate pair"),
    (b'{"labels": {"a": "\\udc00\\ud800"}}', "half a surrogate pair"),
    (b'{"labels": {"a": "\xff"}}', "invalid UTF-8"),
    (b'{"labels": {"a": "\xc0\xaf"}}', "invalid UTF-8"),
    (b'{"labels": {"a": "\xed\xa0\x80"}}', "invalid UTF-8"),
    (b'{"labels": {"a": "\xf4\x90\x80\x80"}}', "invalid UTF-8"),
    (b'{"labels": {"a": "\xe2\x82"}}', "invalid UTF-8"),
    (b"\xef\xbb\xbf{}", "a value is missing"),
    (b"/* */ {}", "a value is missing"),
    (b'{"start": false, "start": true}', "start: appears twice"),
    (b'{"labels": {"a": "1", "\\u0061": "2"}}', "a: appears twice"),
    (b'{"drives": [{"drive_id": "x", "drive_id": "y"}]}',
     "drive_id: appears twice"),
    (b'{"labels":' * 9 + b"1" + b"}" * 9, "nested deeper than 8"),
    (b"[" * 51200, "nested deeper than 8"),
    (b"{" + b" " * 51199, "it ends too early"),
]

PARAMETERS = [
    ("/v1/events?vm=", "vm: must be 1 to 64 characters"),
    ("/v1/events?vm=a/b", "vm: must be 1 to 64 characters"),
    ("/v1/events?vm=" + 65 * "a", "vm: must be 1 to 64 characters"),
    ("/v1/events?label=", "label: must be KEY or KEY=VALUE"),
    ("/v1/events?label==x", "label: must be KEY or KEY=VALUE"),
    ("/v1/events?after=x", "after: must be the number of an event"),
    ("/v1/events?after=-1", "after: must be the number of an event"),
    ("/v1/events?after=18446744073709551616", "after: must be the number"),
    ("/v1/events?since=1", "since: is not a known parameter"),
    ("/v1/vms/a?x=1", "x: is not a known parameter"),
    ("/v1/vms/a/console?follow", "follow: needs a value"),
    ("/v1/vms/a/console?follow=", "follow: must be true or false"),
    ("/v1/vms/a/console?follow=1", "follow: must be true or false"),
    ("/v1/vms/a/console?follow=true%00", "follow: must not contain a NUL"),
    ("/v1/vms?limit=0", "limit: must be an integer from 1 to 1000"),
    ("/v1/vms?limit=1001", "limit: must be an integer from 1 to 1000"),
    ("/v1/vms?limit=", "limit: must be an integer from 1 to 1000"),
    ("/v1/vms?limit=-1", "limit: must be an integer from 1 to 1000"),
    ("/v1/vms?limit=1x", "limit: must be an integer from 1 to 1000"),
    ("/v1/vms?limit=18446744073709551617", "limit: must be an integer"),
    ("/v1/vms?limit=1&limit=2", "limit: is given twice"),
    ("/v1/vms?after=web-1", "after: must be what \"next\" was"),
    ("/v1/vms?after=", "after: must be what \"next\" was"),
    ("/v1/vms?after=18446744073709551616", "after: must be what \"next\""),
    ("/v1/vms?label=", "label: must be KEY or KEY=VALUE"),
    ("/v1/vms?label==x", "label: must be KEY or KEY=VALUE"),
    ("/v1/vms?state=running", "state: must be Not started, Running,"),
    ("/v1/vms?state=", "state: must be Not started, Running,"),
    ("/v1/vms/a/console?follow=true&follow=true", "follow: is given twice"),
    ("/v1/vms/a/console?Follow=true", "Follow: is not a known parameter"),
    ("/v1/vms/a/wait?timeout_ms=", "timeout_ms: must be an integer from 0"),
    ("/v1/vms/a/wait?timeout_ms=-1", "timeout_ms: must be an integer from 0"),
    ("/v1/vms/a/wait?timeout_ms=+1", "timeout_ms: must be an integer from 0"),
    ("/v1/vms/a/wait?timeout_ms=1.5", "timeout_ms: must be an integer from"),
    ("/v1/vms/a/wait?timeout_ms=0x1", "timeout_ms: must be an integer from"),
    ("/v1/vms/a/wait?timeout_ms=86400001", "timeout_ms: must be an integer"),
    ("/v1/vms/a/wait?timeout_ms=99999999999999999999", "timeout_ms: must be"),
    ("/v1/vms/a/wait?follow=true", "follow: is not a known parameter"),
]

IDS = ["", "x" * 65, "a b", "a.b", "..", "%61", "a%2Fb", "a%00", "caf\u00e9",
       "a;b", "a~", "a:b", "*", "a\\b"]


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = d = Mayflyd(EXE)
        cls.addClassCleanup(d.__exit__, None, None, None)
        cls.contract = Contract(OPENAPI)
        host = d.get("/v1/host").json()
        cls.names = {"tap": f"mfbad{os.getpid()}",
                     "kernel": os.path.join(GUESTS, "puppet.elf"),
                     "host_mib": str(host["memory"]["total_bytes"] >> 20)}
        for name, content in (("disk", bytes(4 << 20)), ("empty", b""),
                              ("small", bytes(511)),
                              ("text", b"this is no kernel\n" * 1000)):
            cls.make_file(name, content)
        with open(cls.names["kernel"], "rb") as f:
            elf = f.read()
        cls.make_file("cut", elf[:len(elf) // 2])
        cls.make_file("arm", elf[:18] + b"\xb7\x00" + elf[20:])
        for name, make in (("fifo", os.mkfifo),
                           ("loop", lambda p: os.symlink(p, p))):
            cls.names[name] = os.path.join(d.dir, name)
            make(cls.names[name])
        cls.names["socket"] = os.path.join(d.dir, "sock")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(cls.names["socket"])
        r = d.put("/v1/vms/a", {
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 32},
            "drives": [GOOD | {"drive_id": "root", "is_root_device": True,
                               "path_on_host": cls.names["disk"]}],
            "network-interfaces": [{
                "iface_id": "eth9", "host_dev_name": cls.names["tap"],
                "create": True, "guest_mac": bad_devices.MAC}],
            "labels": {"keep": "me"}})
        assert r.status == 201, r.body

    @classmethod
    def make_file(cls, name, content):
        cls.names[name] = os.path.join(cls.daemon.dir, name)
        with open(cls.names[name], "wb") as f:
            f.write(content)

    def fill(self, value):
        """Replaces {disk} and its like in the strings of a document."""
        text = json.dumps(value)
        for name, path in self.names.items():
            text = text.replace("{" + name + "}", path)
        return json.loads(text)

    def check_table(self, table, method, path, url):
        before = self.daemon.get("/v1/vms/a").json()
        schema = self.contract.request_schema(method, path)
        for body, words, *semantic in table:
            with self.subTest(f"{method} {url} {str(body)[:100]}"):
                body = self.fill(body)
                r = self.daemon.request(method, url, body)
                self.contract.check(method, path, r)
                self.assertEqual(r.status, 400, r.body)
                self.assertIn(self.fill(words), r.fault())
                self.assertLess(len(r.body), 600)
                self.assertEqual(self.daemon.get("/v1/vms/a").json(), before)
                self.assertEqual(self.daemon.get("/v1/vms/new").status, 404)
                # The schema is as strict as the server.
                if semantic:
                    continue
                self.assertNotEqual(self.contract.errors(schema, body), [])

    def test_boot_source(self):
        self.check_table(BOOT_SOURCE, "PUT", "/v1/vms/{id}/boot-source",
                         "/v1/vms/a/boot-source")

    def test_machine_config(self):
        self.check_table(MACHINE_CONFIG, "PUT", "/v1/vms/{id}/machine-config",
                         "/v1/vms/a/machine-config")

    def test_machine_config_patch(self):
        self.check_table(PATCH, "PATCH", "/v1/vms/{id}/machine-config",
                         "/v1/vms/a/machine-config")

    def test_drive(self):
        self.check_table(DRIVE, "PUT", "/v1/vms/{id}/drives/{drive_id}",
                         "/v1/vms/a/drives/d")

    def test_devices(self):
        for table, path, url in (
                (bad_devices.NETWORK_INTERFACE,
                 "network-interfaces/{iface_id}", "network-interfaces/eth0"),
                (bad_devices.PMEM_DEVICE, "pmem/{pmem_id}", "pmem/p0"),
                (bad_devices.VSOCK_DEVICE, "vsock", "vsock"),
                (bad_devices.ENTROPY, "entropy", "entropy"),
                (bad_devices.SERIAL, "serial", "serial"),
                (bad_cpu.CPU_CONFIG, "cpu-config", "cpu-config"),
                (bad_devices.BALLOON_DEVICE, "balloon", "balloon"),
                (bad_devices.MEMORY_HOTPLUG, "hotplug/memory",
                 "hotplug/memory"),
                (bad_devices.MMDS_CONFIG, "mmds/config", "mmds/config")):
            self.check_table(table, "PUT", "/v1/vms/{id}/" + path,
                             "/v1/vms/a/" + url)

    def test_actions(self):
        self.check_table(ACTIONS, "PUT", "/v1/vms/{id}/actions",
                         "/v1/vms/a/actions")

    def test_state(self):
        self.check_table(STATE, "PATCH", "/v1/vms/{id}/vm", "/v1/vms/a/vm")

    def test_document(self):
        self.check_table(DOCUMENT, "PUT", "/v1/vms/{id}", "/v1/vms/new")

    def test_what_is_not_json(self):
        before = self.daemon.get("/v1/vms/a").json()
        for body, words in NOT_JSON:
            with self.subTest(body[:60]):
                for method, path in (("PUT", "/v1/vms/new"),
                                     ("PATCH", "/v1/vms/a/machine-config")):
                    r = self.daemon.request(method, path, body)
                    self.assertEqual(r.status, 400, r.body)
                    self.assertIn(words, r.fault())
                self.assertEqual(self.daemon.get("/v1/vms/new").status, 404)
        self.assertEqual(self.daemon.get("/v1/vms/a").json(), before)

    def test_parameters(self):
        for url, words in PARAMETERS:
            with self.subTest(url):
                r = self.daemon.get(url)
                self.assertEqual(r.status, 400)
                self.assertIn(words, r.fault())

    def test_ids(self):
        for vm in IDS:
            with self.subTest(vm):
                r = self.daemon.put("/v1/vms/" + vm, {})
                self.assertIn(r.status, (400, 404))
        vms = self.daemon.get("/v1/vms").json()["vms"]
        self.assertEqual([vm["id"] for vm in vms], ["a"])
        longest = "x" * 64
        self.assertEqual(self.daemon.put("/v1/vms/" + longest, {}).status, 201)
        self.assertEqual(self.daemon.delete("/v1/vms/" + longest).status, 204)

    def test_the_console_takes_4096_bytes(self):
        r = self.daemon.put("/v1/vms/a/console", b"x" * 4097)
        self.assertEqual(r.status, 413)
        self.assertEqual(r.fault(), "the body is longer than 4096 bytes")

    def test_an_odd_size_is_rounded_down_with_a_warning(self):
        path = os.path.join(self.daemon.dir, "odd")
        with open(path, "wb") as f:
            f.write(bytes(1025))
        drive = GOOD | {"path_on_host": path}
        self.assertEqual(self.daemon.put("/v1/vms/odd", {"drives": [drive]})
                         .status, 201)
        self.assertIn("event=drive_rounded_down vm=odd drive=d",
                      self.daemon.read_log())
        self.daemon.delete("/v1/vms/odd")

    def test_max_vms(self):
        with Mayflyd(EXE, "--max-vms", "2") as d:
            statuses = [d.put(f"/v1/vms/{i}", {}).status for i in range(3)]
            self.assertEqual(statuses, [201, 201, 429])
            r = d.put("/v1/vms/2", {})
            self.assertEqual(r.headers["retry-after"], "1")
            d.delete("/v1/vms/0")
            self.assertEqual(d.put("/v1/vms/2", {}).status, 201)


class Options(unittest.TestCase):
    """The command line."""

    def run_with(self, *options):
        return subprocess.run([EXE, *options], capture_output=True, text=True,
                              timeout=20, check=False)

    def test_what_is_wrong_is_said(self):
        for options, words in (
                (["--uid-base", "0"], "--uid-base must be a number from 1000"),
                (["--uid-count", "x"], "--uid-count must be a number"),
                (["--max-vms", "-1"], "--max-vms must be a number"),
                (["--max-vms", "1x"], "--max-vms must be a number"),
                (["--memory-reserve", "-1"], "--memory-reserve must be a"),
                (["--memory-reserve", "16777217"],
                 "--memory-reserve must be a number from 0 to 16777216"),
                (["--pool", "4097"],
                 "--pool must be a number from 0 to 4096"),
                (["--start-timeout", "0"], "--start-timeout must be a number"),
                (["--log-level", "loud"], "--log-level knows no \"loud\""),
                (["--log-format", "xml"], "--log-format knows no \"xml\""),
                (["extra"], "\"extra\" is not an option"),
                (["--nonsense"], "try --help"),
                (["--socket", "/x" * 60], "is not a path of 1 to"),
                (["--socket", "/no/such/dir/s"], "/no/such/dir"),
                (["--vmm", "/no/such/vmm"], "/no/such/vmm")):
            with self.subTest(options):
                state = ["--state-dir", f"/tmp/mayfly-test-{os.getpid()}"]
                r = self.run_with(*state, *options)
                self.assertNotEqual(r.returncode, 0)
                self.assertIn(words, r.stderr)
        shutil.rmtree(state[1])

    def test_help_names_every_option(self):
        r = self.run_with("--help")
        self.assertEqual(r.returncode, 0)
        for option in ("--socket", "--state-dir", "--vmm", "--log-format",
                       "--log-level", "--uid-base", "--uid-count", "--max-vms",
                       "--start-timeout", "--request-timeout", "--idle-timeout",
                       "--probe", "--version"):
            self.assertIn(option, r.stdout)

    def test_probe_prints_the_hosts_document(self):
        r = self.run_with("--probe")
        self.assertIn(r.returncode, (0, 3, 4))
        contract = Contract(OPENAPI)
        host = json.loads(r.stdout)
        self.assertEqual(contract.errors(
            {"$ref": "#/components/schemas/Host"}, host), [])
        self.assertEqual(r.returncode, {"linux": 0, "tiny_guests": 3,
                                        "none": 4}[host["probe"]["verdict"]])
        self.assertIn(host["probe"]["reason"], r.stderr)


if __name__ == "__main__":
    skip_unless_possible()
    unittest.main(argv=sys.argv[:1])
