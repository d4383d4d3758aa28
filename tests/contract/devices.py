"""The devices of a VM over the API, before the start and after it. A fake VMM
prints what it is told, so that a test sees what became of a request."""

import os

from mayflyd import Mayflyd

VM = "/v1/vms/{id}"
BUCKET = {"size": 1000, "one_time_burst": 50, "refill_time": 100}
LIMITER = {"bandwidth": BUCKET, "ops": {"size": 7, "refill_time": 1}}
# As the VM is told of it: ns.
TOLD = "bytes=1000/50/100000000 ops=7/0/1000000"
NO_LIMIT = "bytes=0/0/0 ops=0/0/0"
ONE = {"bandwidth": {"size": 5, "refill_time": 1}}
ONE_TOLD = "bytes=5/0/1000000 ops=0/0/0"
MIB = 1 << 20


class DeviceCase:
    """A daemon for a TestCase with exe, contract and, unless its VMM is to be
    the real one, fake."""
    fake = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = Mayflyd(cls.exe,
                             *(["--vmm", cls.fake] if cls.fake else []))
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.kernel = cls.file("kernel", 6)
        cls.disk = cls.file("disk", MIB)
        cls.data = cls.file("data", 3 * MIB + 5)
        cls.vsock = os.path.join(cls.daemon.dir, "v")

    @classmethod
    def file(cls, name, size):
        path = os.path.join(cls.daemon.dir, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def tearDown(self):
        for vm in self.daemon.get("/v1/vms").json()["vms"]:
            self.daemon.delete("/v1/vms/" + vm["id"])

    def call(self, method, path, body=None, expect=None, vm="a", sub=None):
        r = self.daemon.request(method, self.contract.url(path, vm, sub), body)
        self.contract.check(method, path, r)
        if expect:
            self.assertEqual(r.status, expect, r.body)
        return r

    def show(self, vm="a"):
        return self.call("GET", VM, vm=vm, expect=200).json()

    def lines(self, vm="a"):
        """What the VM has been told so far."""
        r = self.call("GET", VM + "/console", vm=vm, expect=200)
        return r.body.decode().splitlines()

    def sections(self):
        """Every device there is, as the API takes and shows it."""
        return {
            "machine-config": {
                "vcpu_count": 2, "mem_size_mib": 256, "smt": True,
                "huge_pages": "2M", "console": "virtio"},
            "cpu-config": {
                "kvm_capabilities": ["!1", "0"],
                "cpuid_modifiers": [
                    {"leaf": "0x1", "subleaf": "0x0", "flags": 0,
                     "modifiers": [
                         {"register": "eax", "bitmap": "0b" + "x01x" * 8},
                         {"register": "edx", "bitmap": "0b" + "1" * 32}]},
                    {"leaf": "0x0", "subleaf": "0x0", "flags": 0,
                     "modifiers": [
                         {"register": "ebx", "bitmap": "0b" + "x" * 32}]}],
                "msr_modifiers": [
                    {"addr": "0x10a", "bitmap": "0b" + "01xx" * 16}]},
            "drives": [
                {"drive_id": "rootfs", "path_on_host": self.disk,
                 "is_root_device": True, "is_read_only": False,
                 "cache_type": "Writeback", "rate_limiter": LIMITER},
                {"drive_id": "d2", "path_on_host": self.disk,
                 "is_root_device": False, "is_read_only": True}],
            "network-interfaces": [{
                "iface_id": "eth0", "host_dev_name": f"mfct{os.getpid()}",
                "create": True, "guest_mac": "06:00:ac:10:00:02", "mtu": 1400,
                "rx_rate_limiter": LIMITER}],
            "vsock": {"guest_cid": 5, "uds_path": self.vsock},
            "entropy": {"rate_limiter": LIMITER},
            "balloon": {
                "amount_mib": 16, "deflate_on_oom": True,
                "stats_polling_interval_s": 3, "free_page_hinting": True,
                "free_page_reporting": True},
            "memory-hotplug": {
                "total_size_mib": 1024, "block_size_mib": 4,
                "slot_size_mib": 256, "requested_size_mib": 8},
            "pmem": [{"id": "pmem0", "path_on_host": self.data,
                      "root_device": False, "read_only": True,
                      "rate_limiter": LIMITER}],
            "serial": {"rate_limiter": LIMITER}}

    def start(self, **without):
        """A VM with all of it; a section given as None is left out."""
        document = self.sections() | {
            k.replace("_", "-"): v for k, v in without.items()}
        document |= {"start": True, "boot-source": {
            "kernel_image_path": self.kernel, "boot_args": "tell"}}
        self.call("PUT", VM, document, 201)
        return self.lines()

    # (path, body, sub, what the VM is told)
    UPDATES = [
        ("/drives/{drive_id}", {"drive_id": "d2", "rate_limiter": ONE}, "d2",
         [f"limit kind=0 index=1 has=1,0 {ONE_TOLD}"]),
        ("/drives/{drive_id}", {"drive_id": "d2"}, "d2",
         [f"drive index=1 size={MIB} align=0 file={MIB},ro"]),
        ("/network-interfaces/{iface_id}", {
            "iface_id": "eth0", "rx_rate_limiter": ONE,
            "tx_rate_limiter": LIMITER}, None,
         [f"limit kind=1 index=0 has=1,0 {ONE_TOLD}",
          f"limit kind=2 index=0 has=1,1 {TOLD}"]),
        ("/pmem/{pmem_id}", {"id": "pmem0", "rate_limiter": {
            "ops": {"size": 0, "refill_time": 0}}}, None,
         [f"limit kind=3 index=0 has=0,1 {NO_LIMIT}"]),
        ("/serial", {"rate_limiter": LIMITER}, None,
         [f"limit kind=4 index=0 has=1,1 {TOLD}"]),
        ("/balloon", {"amount_mib": 32}, None, ["balloon what=0 value=8192"]),
        ("/balloon/statistics", {"stats_polling_interval_s": 9}, None,
         ["balloon what=1 value=9"]),
        ("/balloon/hinting/start", {"acknowledge_on_stop": False}, None,
         ["balloon what=2 value=0"]),
        ("/balloon/hinting/start", {}, None, ["balloon what=2 value=1"]),
        ("/balloon/hinting/start", None, None, ["balloon what=2 value=1"]),
        ("/balloon/hinting/stop", None, None, ["balloon what=3 value=0"]),
        ("/balloon/hinting/stop", {}, None, ["balloon what=3 value=0"]),
        ("/hotplug/memory", {"requested_size_mib": 512}, None,
         [f"memory requested={512 * MIB}"]),
        ("/console", {"columns": 132, "rows": 43}, None, ["size 132x43"]),
    ]


class DeviceTests(DeviceCase):
    """To be mixed into a TestCase."""

    def assert_holds(self, shown, given):
        """All that was given is shown; what was not has its default."""
        for name, value in given.items():
            if isinstance(value, list):
                self.assertEqual(len(shown[name]), len(value))
                for have, want in zip(shown[name], value):
                    self.assertLessEqual(want.items(), have.items())
            else:
                self.assertLessEqual(value.items(), shown[name].items())

    def assert_limiter(self, shown, given):
        """Buckets are shown with all of their fields."""
        self.assertEqual(shown, {
            name: {"one_time_burst": 0} | b for name, b in given.items()})

    def test_a_document_with_every_device_is_shown_as_it_was_given(self):
        full = {name: {"one_time_burst": 0} | b for name, b in LIMITER.items()}
        document = self.sections()
        for holder in (document["drives"][0], document["entropy"],
                       document["pmem"][0], document["serial"]):
            holder["rate_limiter"] = full
        document["network-interfaces"][0]["rx_rate_limiter"] = full
        self.call("PUT", VM, document, 201)
        self.assert_holds(self.show(), document)
        # And can be created again from what is shown.
        again = {k: v for k, v in self.show().items() if k in document}
        self.call("DELETE", VM, expect=204)
        self.call("PUT", VM, again, 201)
        self.assertEqual({k: self.show()[k] for k in again}, again)

    def test_sections_one_by_one_are_the_same_as_a_document(self):
        s = self.sections()
        self.call("PUT", VM, s, 201, vm="whole")
        self.call("DELETE", VM, vm="whole", expect=204)
        self.call("PUT", VM, s, 201, vm="whole")
        want = self.show("whole")
        self.call("DELETE", VM, vm="whole", expect=204)
        self.call("PUT", VM, {}, 201)
        self.put_all(204)
        have = self.show()
        self.assertEqual({k: have[k] for k in s}, {k: want[k] for k in s})

    def put_all(self, expect):
        s = self.sections()
        call = self.call
        call("PUT", VM + "/machine-config", s["machine-config"], expect)
        for d in s["drives"]:
            call("PUT", VM + "/drives/{drive_id}", d, expect,
                 sub=d["drive_id"])
        for p in s["pmem"]:
            call("PUT", VM + "/pmem/{pmem_id}", p, expect)
        for name in ("vsock", "entropy", "balloon", "serial"):
            call("PUT", f"{VM}/{name}", s[name], expect)
        for n in s["network-interfaces"]:
            call("PUT", VM + "/network-interfaces/{iface_id}", n, expect)
        call("PUT", VM + "/hotplug/memory", s["memory-hotplug"], expect)
        call("PUT", VM + "/cpu-config", s["cpu-config"], expect)

    def test_the_vm_is_told_of_every_device_at_its_start(self):
        self.assertEqual(self.start(), [
            f"machine vcpus=2 mem={256 * MIB} smt=1 huge=1 console=1 {TOLD}",
            "cpuid 1.0 flags=0 reg=0 keep=99999999 set=22222222",
            "cpuid 1.0 flags=0 reg=3 keep=0 set=ffffffff",
            "cpuid 0.0 flags=0 reg=1 keep=ffffffff set=0",
            f"msr 10a keep={'3' * 16} set={'4' * 16}",
            f"drive rootfs size={MIB} ro=0 writeback=1 {TOLD} "
            f"file={MIB}{self.direct()}",
            f"drive d2 size={MIB} ro=1 writeback=0 {NO_LIMIT} file={MIB},ro",
            "net mac=1:0600ac100002 mtu=1400 pairs=1 mmds=0 "
            f"rx {TOLD} tx {NO_LIMIT}",
            f"pmem size={4 * MIB} used={3 * MIB + 5} ro=1 {TOLD} "
            f"file={3 * MIB + 5},ro",
            "vsock cid=5 socket",
            f"entropy {TOLD}",
            "balloon target=4096 interval=3 oom=1 hinting=1 reporting=1",
            f"memory region={1024 * MIB} block={4 * MIB} slot={256 * MIB} "
            f"requested={8 * MIB}"])

    def direct(self):
        """Whether the file system of the test's files has direct I/O."""
        try:
            os.close(os.open(self.disk, os.O_RDWR | os.O_DIRECT))
            return ",direct"
        except OSError:
            return ""

    def test_a_guest_that_runs_or_is_paused_is_changed(self):
        told = self.start()
        for state in ("Resumed", "Paused"):
            self.call("PATCH", VM + "/vm", {"state": state}, 204)
            for path, body, sub, want in self.UPDATES:
                with self.subTest(f"{state} {path} {body}"):
                    self.call("PATCH", VM + path, body, 204, sub=sub)
                    told += want
                    self.assertEqual(self.lines(), told)
        vm = self.show()
        self.assert_limiter(vm["drives"][1]["rate_limiter"], ONE)
        net = vm["network-interfaces"][0]
        self.assert_limiter(net["rx_rate_limiter"], LIMITER | ONE)
        self.assert_limiter(net["tx_rate_limiter"], LIMITER)
        self.assertEqual(vm["pmem"][0]["rate_limiter"], {
            "bandwidth": BUCKET})
        self.assertEqual(vm["balloon"]["amount_mib"], 32)
        self.assertEqual(vm["balloon"]["stats_polling_interval_s"], 9)
        self.assertEqual(vm["memory-hotplug"]["requested_size_mib"], 512)

    def test_a_drive_gets_another_file_and_its_limits_as_one(self):
        self.start()
        other = self.file("other", 2 * MIB)
        told = self.lines()
        self.call("PATCH", VM + "/drives/{drive_id}", {
            "drive_id": "rootfs", "path_on_host": other,
            "rate_limiter": ONE}, 204)
        self.assertEqual(self.lines()[len(told):], [
            f"drive index=0 size={2 * MIB} "
            f"align={'some' if self.direct() else '0'} "
            f"file={2 * MIB}{self.direct()}",
            f"limit kind=0 index=0 has=1,0 {ONE_TOLD}"])
        drive = self.show()["drives"][0]
        self.assertEqual(drive["path_on_host"], other)
        self.assert_limiter(drive["rate_limiter"],
                            LIMITER | ONE)
        # The same one, now that it has grown.
        self.file("other", 3 * MIB)
        self.call("PATCH", VM + "/drives/{drive_id}", {"drive_id": "rootfs"},
                  204)
        self.assertIn(f"size={3 * MIB} ", self.lines()[-1])

    def test_what_fails_is_not_shown_as_if_it_were_so(self):
        self.start()
        before = self.show()
        other = self.file("other", 2 * MIB)
        both = {"drive_id": "rootfs", "path_on_host": other,
                "rate_limiter": ONE}
        for fails, path, body, sub in (
                (b"q\1", "/drives/{drive_id}", both, None),
                (b"q\1", "/balloon", {"amount_mib": 1}, None),
                (b"q\1", "/hotplug/memory", {"requested_size_mib": 16}, None)):
            with self.subTest(path):
                self.call("PUT", VM + "/console", fails, 204)
                r = self.call("PATCH", VM + path, body, 500, sub=sub)
                self.assertIn("the VM failed", r.fault())
                for key in ("drives", "balloon", "memory-hotplug"):
                    self.assertEqual(self.show()[key], before[key])
        # The second of two: the first is so.
        self.call("PUT", VM + "/console", b"q\2", 204)
        self.call("PATCH", VM + "/drives/{drive_id}", both, 500)
        self.assertEqual(self.show()["drives"][0],
                         before["drives"][0] | {"path_on_host": other})

    def test_a_failed_change_keeps_no_descriptor(self):
        self.start()
        fds = f"/proc/{self.daemon.process.pid}/fd"
        before = len(os.listdir(fds))
        for body, status in (({"path_on_host": self.disk}, 204),
                             ({"path_on_host": "/no/such"}, 400),
                             ({}, 204)):
            for _ in range(8):
                self.call("PATCH", VM + "/drives/{drive_id}",
                          body | {"drive_id": "d2"}, status, sub="d2")
        self.call("PUT", VM + "/console", b"q\1", 204)
        self.call("PATCH", VM + "/drives/{drive_id}", {"drive_id": "d2"}, 500,
                  sub="d2")
        self.daemon.wait_for("closing", lambda: len(os.listdir(fds)) <= before)

    def test_what_devices_are_at_is_shown(self):
        self.start()
        call = self.call
        call("PATCH", VM + "/balloon", {"amount_mib": 3}, 204)
        stats = call("GET", VM + "/balloon/statistics", expect=200).json()
        self.assertEqual([stats[k] for k in (
            "target_pages", "actual_pages", "target_mib", "actual_mib")],
            [768, 768, 3, 3])
        self.assertEqual(call("GET", VM + "/balloon", expect=200)
                         .json()["amount_mib"], 3)
        call("GET", VM + "/balloon/hinting/status", expect=200)
        call("PATCH", VM + "/hotplug/memory", {"requested_size_mib": 64}, 204)
        memory = call("GET", VM + "/hotplug/memory", expect=200).json()
        self.assertEqual(memory, {
            "total_size_mib": 1024, "block_size_mib": 4, "slot_size_mib": 256,
            "requested_size_mib": 64, "plugged_size_mib": 64})
        counters = self.show()["counters"]
        self.assertEqual([d["drive_id"] for d in counters["drives"]],
                         ["rootfs", "d2"])
        self.assertEqual([p["id"] for p in counters["pmem"]], ["pmem0"])
        for name in ("vsock", "entropy", "balloon", "memory-hotplug"):
            self.assertIn(name, counters)

    def test_a_vm_that_lies_about_its_devices_is_bounded(self):
        self.start()
        self.call("PUT", VM + "/console", b"L\1", 204)
        stats = self.call("GET", VM + "/balloon/statistics",
                          expect=200).json()
        # The memory it has, and all it could have plugged.
        self.assertEqual(stats, {
            "target_pages": 327680, "actual_pages": 327680,
            "target_mib": 1280, "actual_mib": 1280})
        memory = self.call("GET", VM + "/hotplug/memory", expect=200).json()
        self.assertEqual(memory["plugged_size_mib"], 1024)
        status = self.call("GET", VM + "/balloon/hinting/status",
                           expect=200).json()
        self.assertEqual(status, {"host_cmd": 2 ** 32 - 1,
                                  "guest_cmd": 2 ** 32 - 1})

    def test_what_needs_a_guest_is_refused_before_it_runs_and_after(self):
        self.call("PUT", VM, self.sections(), 201)
        self.refuse_all_updates()
        self.call("DELETE", VM, expect=204)
        self.start()
        self.call("PUT", VM + "/console", b"b")
        self.call("GET", VM + "/wait", expect=200)
        self.refuse_all_updates()

    def refuse_all_updates(self):
        before = self.show()
        for path, body, sub, _ in self.UPDATES:
            with self.subTest(f"{before['state']} {path}"):
                self.call("PATCH", VM + path, body, 409, sub=sub)
        for path in ("/balloon/statistics", "/balloon/hinting/status",
                     "/hotplug/memory"):
            self.call("GET", VM + path, expect=409)
        self.assertEqual(self.show(), before)

    def test_devices_cannot_be_configured_once_it_runs(self):
        self.start()
        before = self.show()
        self.put_all(409)
        self.assertEqual(self.show(), before)

    # With no device of the kind, or none of the id.
    NONE = [
        ("PATCH", "/drives/{drive_id}", {"drive_id": "x"}, "x",
         'the VM has no drive "x"'),
        ("PATCH", "/network-interfaces/{iface_id}",
         {"iface_id": "x", "rx_rate_limiter": ONE}, "x",
         'the VM has no network interface "x"'),
        ("PATCH", "/pmem/{pmem_id}", {"id": "x", "rate_limiter": ONE}, "x",
         'the VM has no pmem device "x"'),
        ("GET", "/balloon", None, None, "the VM has no balloon"),
        ("PATCH", "/balloon", {"amount_mib": 1}, None, "has no balloon"),
        ("GET", "/balloon/statistics", None, None, "has no balloon"),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1}, None,
         "has no balloon"),
        ("PATCH", "/balloon/hinting/start", {}, None, "has no balloon"),
        ("GET", "/balloon/hinting/status", None, None, "has no balloon"),
        ("PATCH", "/balloon/hinting/stop", None, None, "has no balloon"),
        ("GET", "/hotplug/memory", None, None, "no memory to hotplug"),
        ("PATCH", "/hotplug/memory", {"requested_size_mib": 0}, None,
         "no memory to hotplug"),
    ]

    def test_a_device_that_is_not_there_is_404(self):
        told = self.start(balloon=None, memory_hotplug=None)
        before = self.show()
        for method, path, body, sub, words in self.NONE:
            with self.subTest(f"{method} {path}"):
                r = self.call(method, VM + path, body, 404, sub=sub)
                self.assertIn(words, r.fault())
        self.assertEqual(self.show(), before)
        self.assertEqual(self.lines(), told)

    # Of a guest that runs.
    BAD = [
        ("/drives/{drive_id}", {}, "drives.drive_id: is missing"),
        ("/drives/{drive_id}", {"drive_id": "other"},
         "drives.drive_id: must equal"),
        ("/drives/{drive_id}", {"drive_id": "rootfs", "path_on_host": "/no"},
         'drives.path_on_host: "/no" is not there'),
        ("/drives/{drive_id}", {"drive_id": "rootfs", "path_on_host": "/"},
         "drives.path_on_host: \"/\" is a directory"),
        ("/drives/{drive_id}", {"drive_id": "rootfs", "path_on_host": 1},
         "drives.path_on_host: must be a string"),
        ("/drives/{drive_id}", {"drive_id": "rootfs", "is_read_only": True},
         "drives.is_read_only: is not a known field"),
        ("/drives/{drive_id}",
         {"drive_id": "rootfs", "rate_limiter": {"ops": {"size": 1}}},
         "drives.rate_limiter.ops.refill_time: is missing"),
        ("/pmem/{pmem_id}", {}, "pmem.id: is missing"),
        ("/pmem/{pmem_id}", {"id": "other"}, "pmem.id: must equal"),
        ("/pmem/{pmem_id}", {"id": "pmem0"}, "pmem: nothing to change"),
        ("/pmem/{pmem_id}", {"id": "pmem0", "rate_limiter": {}},
         "pmem: nothing to change"),
        ("/pmem/{pmem_id}", {"id": "pmem0", "read_only": False},
         "pmem.read_only: is not a known field"),
        ("/network-interfaces/{iface_id}", {},
         "network-interfaces.iface_id: is missing"),
        ("/network-interfaces/{iface_id}", {"iface_id": "other"},
         "network-interfaces.iface_id: must equal"),
        ("/network-interfaces/{iface_id}", {"iface_id": "eth0"},
         "network-interfaces: nothing to change"),
        ("/network-interfaces/{iface_id}",
         {"iface_id": "eth0", "mtu": 1500},
         "network-interfaces.mtu: is not a known field"),
        ("/network-interfaces/{iface_id}",
         {"iface_id": "eth0", "rx_rate_limiter": 1},
         "network-interfaces.rx_rate_limiter: must be an object"),
        ("/serial", {}, "serial: nothing to change"),
        ("/serial", {"rate_limiter": {}}, "serial: nothing to change"),
        ("/serial", {"rate_limiter": []}, "serial.rate_limiter: must be an"),
        ("/balloon", {}, "balloon.amount_mib: is missing"),
        ("/balloon", {"amount_mib": 257},
         "balloon.amount_mib: must be between 0 and 256, the memory"),
        ("/balloon", {"amount_mib": -1}, "balloon.amount_mib: must be between"),
        ("/balloon", {"amount_mib": 2 ** 24}, "balloon.amount_mib: must be"),
        ("/balloon", {"amount_mib": 1, "deflate_on_oom": True},
         "balloon.deflate_on_oom: is not a known field"),
        ("/balloon/statistics", {}, "stats_polling_interval_s: is missing"),
        ("/balloon/statistics", {"stats_polling_interval_s": 0},
         "balloon.stats_polling_interval_s: must stay 0 if"),
        ("/balloon/statistics", {"stats_polling_interval_s": 65536},
         "balloon.stats_polling_interval_s: must be between 0 and 65535"),
        ("/balloon/hinting/start", {"acknowledge_on_stop": 1},
         "balloon.acknowledge_on_stop: must be true or false"),
        ("/balloon/hinting/start", {"x": 1}, "balloon.x: is not a known"),
        ("/balloon/hinting/stop", {"x": 1}, "balloon.x: is not a known"),
        ("/hotplug/memory", {}, "requested_size_mib: is missing"),
        ("/hotplug/memory", {"requested_size_mib": 6},
         "memory-hotplug.requested_size_mib: must be between 0 and 1024, and a "
         "multiple of 4"),
        ("/hotplug/memory", {"requested_size_mib": 1028},
         "memory-hotplug.requested_size_mib: must be between 0 and 1024"),
        ("/hotplug/memory", {"requested_size_mib": -4},
         "memory-hotplug.requested_size_mib: must be between"),
        ("/hotplug/memory", {"requested_size_mib": 4, "total_size_mib": 256},
         "memory-hotplug.total_size_mib: is not a known field"),
        ("/console", {}, "console.columns: is missing"),
        ("/console", {"columns": 80}, "console.rows: is missing"),
        ("/console", {"columns": 0, "rows": 25},
         "console.columns: must be between 1 and 65535"),
        ("/console", {"columns": 80, "rows": 65536},
         "console.rows: must be between 1 and 65535"),
    ]

    def test_what_a_guest_that_runs_cannot_become_is_refused(self):
        told = self.start()
        before = self.show()
        for path, body, words in self.BAD:
            with self.subTest(f"{path} {body}"):
                r = self.call("PATCH", VM + path, body, 400)
                self.assertIn(words, r.fault())
                self.assertEqual(self.show(), before)
                self.assertEqual(self.lines(), told)

    def test_what_was_off_at_the_start_stays_off(self):
        told = self.start(
            balloon={"amount_mib": 0, "deflate_on_oom": False},
            machine_config={"vcpu_count": 1, "mem_size_mib": 256})
        before = self.show()
        for method, path, body, words in (
                ("PATCH", "/balloon/statistics",
                 {"stats_polling_interval_s": 1},
                 "balloon.stats_polling_interval_s: must stay 0"),
                ("GET", "/balloon/statistics", None,
                 "balloon.stats_polling_interval_s: is 0"),
                ("PATCH", "/balloon/hinting/start", None,
                 "balloon.free_page_hinting: is false"),
                ("GET", "/balloon/hinting/status", None,
                 "balloon.free_page_hinting: is false"),
                ("PATCH", "/console", {"columns": 80, "rows": 25},
                 "machine-config.console: is serial")):
            with self.subTest(f"{method} {path}"):
                r = self.call(method, VM + path, body, 400)
                self.assertIn(words, r.fault())
        self.assertEqual(self.show(), before)
        self.assertEqual(self.lines(), told)


class RealDeviceTests(DeviceCase):
    """With mayfly-vmm, and a guest without drivers; guest: its kernel."""

    def start_guest(self, **sections):
        document = {k.replace("_", "-"): v for k, v in sections.items()}
        return self.call("PUT", VM, document | {
            "start": True,
            "boot-source": {"kernel_image_path": self.guest}}, 201).json()

    def test_the_vmm_takes_every_device_and_every_change(self):
        document = self.sections()
        # Its size is the host's to have, or not.
        document["machine-config"]["huge_pages"] = "None"
        vm = self.start_guest(**document)
        self.assertEqual(vm["state"], "Running")
        for state in ("Paused", "Resumed"):
            self.call("PATCH", VM + "/vm", {"state": state}, 204)
            for path, body, sub, _ in self.UPDATES:
                with self.subTest(f"{state} {path} {body}"):
                    # Free pages are for a driver to name.
                    no_driver = "/hinting/" in path
                    r = self.call("PATCH", VM + path, body,
                                  409 if no_driver else 204, sub=sub)
                    if no_driver:
                        self.assertIn("the guest's driver is not", r.fault())
        stats = self.call("GET", VM + "/balloon/statistics", expect=200)
        self.assertEqual(stats.json(), {
            "target_pages": 8192, "actual_pages": 0,
            "target_mib": 32, "actual_mib": 0})
        memory = self.call("GET", VM + "/hotplug/memory", expect=200).json()
        self.assertEqual((memory["requested_size_mib"],
                          memory["plugged_size_mib"]), (512, 0))
        other = self.file("other", 2 * MIB)
        self.call("PATCH", VM + "/drives/{drive_id}", {
            "drive_id": "rootfs", "path_on_host": other,
            "rate_limiter": LIMITER}, 204)
        vm = self.show()
        self.assertEqual(vm["drives"][0]["path_on_host"], other)
        self.assertEqual(vm["state"], "Running")
        self.assertEqual(vm["counters"]["guest_faults"], 0)

    def test_a_vm_may_have_the_most_of_everything(self):
        """Descriptors, threads and memory of its jail are enough."""
        machine = {"vcpu_count": 32, "mem_size_mib": 64}
        tap = f"mfct{os.getpid()}."
        nets = [{"iface_id": f"eth{i}", "host_dev_name": f"{tap}{i}",
                 "create": True, "queue_pairs": 8} for i in range(8)]
        drives = [{"drive_id": f"d{i}", "path_on_host": self.disk,
                   "is_root_device": False} for i in range(16)]
        pmem = [{"id": f"p{i}", "path_on_host": self.data, "read_only": True}
                for i in range(8)]
        vm = self.start_guest(
            machine_config=machine | {"console": "virtio"}, drives=drives,
            network_interfaces=nets[:2])
        self.assertEqual(vm["state"], "Running")
        self.call("DELETE", VM, expect=204)
        vm = self.start_guest(
            machine_config=machine, network_interfaces=nets, pmem=pmem,
            memory_hotplug={"total_size_mib": 4096}, entropy={},
            vsock={"guest_cid": 3, "uds_path": self.vsock})
        self.assertEqual(vm["state"], "Running")
