"""Rows of bad input for the devices: (body, what the message must hold,
[SEMANTIC]). See test_bad_input.py, whose VM has 32 MiB of memory, the root
drive "root" and the interface "eth9"."""

# A value the schema allows, and the host's state or another field does not.
SEMANTIC = "semantic"

TAP = "{tap}"
MAC = "06:00:00:00:00:09"

NET = {"iface_id": "eth0", "host_dev_name": "mfbad0", "create": True}
VSOCK = {"guest_cid": 3, "uds_path": "/run/mayfly-no.vsock"}
BALLOON = {"amount_mib": 1, "deflate_on_oom": False}
HOTPLUG = {"total_size_mib": 1024}
PMEM = {"id": "p0", "path_on_host": "{disk}"}
BUCKET = {"size": 1, "refill_time": 1}
INT64_MAX = 2 ** 63 - 1
REFILL_MAX = INT64_MAX // 10 ** 6


def limiter_rows(good, name, prefix):
    """What a rate limiter of this name cannot be."""
    def limiter(value):
        return good | {name: value}

    def bucket(which, **change):
        b = {k: v for k, v in (BUCKET | change).items() if v is not None}
        return limiter({which: b})

    field = f"{prefix}.{name}"
    rows = [
        (limiter(1), f"{field}: must be an object"),
        (limiter([]), f"{field}: must be an object"),
        (limiter({"bytes": BUCKET}), f"{field}.bytes: is not a known field"),
    ]
    for which in ("bandwidth", "ops"):
        f = f"{field}.{which}"
        rows += [
            (limiter({which: 1}), f"{f}: must be an object"),
            (limiter({which: {}}), f"{f}.size: is missing"),
            (bucket(which, size=None), f"{f}.size: is missing"),
            (bucket(which, refill_time=None), f"{f}.refill_time: is missing"),
            (bucket(which, burst=1), f"{f}.burst: is not a known field"),
            (bucket(which, size=-1), f"{f}.size: must be between 0 and "
                                     f"{INT64_MAX}"),
            (bucket(which, size=2 ** 63), f"{f}.size: must be between"),
            (bucket(which, size=2 ** 64), f"{f}.size: must be between"),
            (bucket(which, size=2 ** 64 + 1), f"{f}.size: must be between"),
            (bucket(which, size="1"), f"{f}.size: must be an integer"),
            (bucket(which, size=1.5), f"{f}.size: must be an integer"),
            (bucket(which, one_time_burst=-1), f"{f}.one_time_burst: must be"),
            (bucket(which, one_time_burst=2 ** 64),
             f"{f}.one_time_burst: must be between 0 and {INT64_MAX}"),
            (bucket(which, one_time_burst=True),
             f"{f}.one_time_burst: must be an integer"),
            (bucket(which, refill_time=-1), f"{f}.refill_time: must be"),
            (bucket(which, refill_time=REFILL_MAX + 1),
             f"{f}.refill_time: must be between 0 and {REFILL_MAX}"),
            (bucket(which, refill_time=2 ** 64),
             f"{f}.refill_time: must be between"),
            (bucket(which, refill_time=[]), f"{f}.refill_time: must be an"),
            (bucket(which, size=0), f"{f}: size and refill_time must be 1 or "
                                    "more; both 0", SEMANTIC),
            (bucket(which, refill_time=0), f"{f}: size and refill_time must",
             SEMANTIC),
            (bucket(which, size=0, refill_time=0, one_time_burst=1),
             f"{f}: size and refill_time must", SEMANTIC),
        ]
    return rows


def link_rows(name):
    """What the name of a network link cannot be."""
    field = f"network-interfaces.{name}"
    return [
        (NET | {name: ""}, f"{field}: must be 1 to 15 bytes long"),
        (NET | {name: "x" * 16}, f"{field}: must be 1 to 15 bytes long"),
        (NET | {name: 1}, f"{field}: must be a string"),
        (NET | {name: "a/b"}, f"{field}: may only hold"),
        (NET | {name: "a b"}, f"{field}: may only hold"),
        (NET | {name: "a:1"}, f"{field}: may only hold"),
        (NET | {name: "tap%d"}, f"{field}: may only hold"),
        (NET | {name: "\u00e9"}, f"{field}: may only hold"),
        (NET | {name: "\n"}, f"{field}: may only hold"),
        (NET | {name: "."}, f"{field}: must not be . or ..", SEMANTIC),
        (NET | {name: ".."}, f"{field}: must not be . or ..", SEMANTIC),
    ]


NETWORK_INTERFACE = [
    ({}, "network-interfaces.iface_id: is missing"),
    ({"iface_id": "eth0"}, "network-interfaces.host_dev_name: is missing"),
    (NET | {"iface_id": "other"}, "network-interfaces.iface_id: must equal",
     SEMANTIC),
    (NET | {"iface_id": ""}, "network-interfaces.iface_id: must be 1 to 64"),
    (NET | {"iface_id": "a-b"}, "network-interfaces.iface_id: may only hold"),
    (NET | {"iface_id": 1}, "network-interfaces.iface_id: must be a string"),
    (NET | {"create": 1}, "network-interfaces.create: must be true or false"),
    (NET | {"create": "yes"}, "network-interfaces.create: must be true"),
    (NET | {"bridge": "br0", "create": False},
     "network-interfaces.bridge: goes with \"create\": true only", SEMANTIC),
    (NET | {"netns": ""}, "network-interfaces.netns: must be 1 to 255"),
    (NET | {"netns": "x" * 256}, "network-interfaces.netns: must be 1 to 255"),
    (NET | {"netns": "../x"}, "network-interfaces.netns: may only hold"),
    (NET | {"netns": ".."}, "network-interfaces.netns: must not be", SEMANTIC),
    (NET | {"netns": []}, "network-interfaces.netns: must be a string"),
    (NET | {"guest_mac": ""}, "network-interfaces.guest_mac: must be 17 to"),
    (NET | {"guest_mac": 6}, "network-interfaces.guest_mac: must be a string"),
    (NET | {"guest_mac": "06:00:00:00:00"}, "guest_mac: must be 17 to 17"),
    (NET | {"guest_mac": "06:00:00:00:00:0g"}, "guest_mac: must be six bytes"),
    (NET | {"guest_mac": "06-00-00-00-00-00"}, "guest_mac: must be six bytes"),
    (NET | {"guest_mac": "06:00:00:00:000:0"}, "guest_mac: must be six bytes"),
    (NET | {"guest_mac": "06:00:00:00:00::1"}, "guest_mac: must be six bytes"),
    (NET | {"guest_mac": "01:00:5e:00:00:01"}, "guest_mac: must be a unicast",
     SEMANTIC),
    (NET | {"guest_mac": "FF:FF:FF:FF:FF:FF"}, "guest_mac: must be a unicast",
     SEMANTIC),
    (NET | {"guest_mac": "00:00:00:00:00:00"}, "guest_mac: must be a unicast",
     SEMANTIC),
    (NET | {"guest_mac": MAC},
     f"network-interfaces.guest_mac: {MAC} is that of interface \"eth9\"",
     SEMANTIC),
    (NET | {"guest_mac": MAC.upper()},
     f"network-interfaces.guest_mac: {MAC} is that of interface \"eth9\"",
     SEMANTIC),
    (NET | {"host_dev_name": TAP},
     "network-interfaces.host_dev_name: \"{tap}\" is that of interface",
     SEMANTIC),
    (NET | {"mtu": 67}, "network-interfaces.mtu: must be between 68 and 65535"),
    (NET | {"mtu": 65536}, "network-interfaces.mtu: must be between 68 and"),
    (NET | {"mtu": -1}, "network-interfaces.mtu: must be between 68 and"),
    (NET | {"mtu": "1500"}, "network-interfaces.mtu: must be an integer"),
    (NET | {"queue_pairs": 0},
     "network-interfaces.queue_pairs: must be between 1 and 8"),
    (NET | {"queue_pairs": 9},
     "network-interfaces.queue_pairs: must be between 1 and 8"),
    (NET | {"queue_pairs": "2"}, "queue_pairs: must be an integer"),
    (NET | {"allow_mmds_requests": True},
     "network-interfaces.allow_mmds_requests: is not a known field"),
    *link_rows("host_dev_name"),
    *link_rows("bridge"),
    *limiter_rows(NET, "rx_rate_limiter", "network-interfaces"),
    *limiter_rows(NET, "tx_rate_limiter", "network-interfaces"),
]

PMEM_DEVICE = [
    ({}, "pmem.id: is missing"),
    ({"id": "p0"}, "pmem.path_on_host: is missing"),
    (PMEM | {"id": "other"}, "pmem.id: must equal", SEMANTIC),
    (PMEM | {"id": ""}, "pmem.id: must be 1 to 64"),
    (PMEM | {"id": "a-b"}, "pmem.id: may only hold"),
    (PMEM | {"id": 7}, "pmem.id: must be a string"),
    (PMEM | {"path_on_host": ""}, "pmem.path_on_host: must be 1 to 4095"),
    (PMEM | {"path_on_host": "x" * 4096}, "pmem.path_on_host: must be 1 to"),
    (PMEM | {"path_on_host": 1}, "pmem.path_on_host: must be a string"),
    (PMEM | {"path_on_host": "/no/such"},
     "pmem.path_on_host: \"/no/such\" is not there", SEMANTIC),
    (PMEM | {"path_on_host": "/"}, "pmem.path_on_host: \"/\" is a directory",
     SEMANTIC),
    (PMEM | {"path_on_host": "{fifo}"}, "not a regular file or block device",
     SEMANTIC),
    (PMEM | {"path_on_host": "/dev/null"},
     "not a regular file or block device", SEMANTIC),
    (PMEM | {"path_on_host": "{empty}"}, "is empty", SEMANTIC),
    (PMEM | {"root_device": True},
     "pmem.root_device: drive \"root\" is the root device", SEMANTIC),
    (PMEM | {"root_device": 1}, "pmem.root_device: must be true or false"),
    (PMEM | {"read_only": "no"}, "pmem.read_only: must be true or false"),
    (PMEM | {"is_read_only": True}, "pmem.is_read_only: is not a known field"),
    *limiter_rows(PMEM, "rate_limiter", "pmem"),
]

VSOCK_DEVICE = [
    ({}, "vsock.guest_cid: is missing"),
    ({"guest_cid": 3}, "vsock.uds_path: is missing"),
    ({"uds_path": "/v"}, "vsock.guest_cid: is missing"),
    *[(VSOCK | {"guest_cid": cid},
       "vsock.guest_cid: must be between 3 and 4294967294")
      for cid in (0, 1, 2, -1, 2 ** 32 - 1, 2 ** 32 + 3, 2 ** 64 + 3)],
    (VSOCK | {"guest_cid": "3"}, "vsock.guest_cid: must be an integer"),
    (VSOCK | {"guest_cid": 3.5}, "vsock.guest_cid: must be an integer"),
    (VSOCK | {"uds_path": ""}, "vsock.uds_path: must be 1 to 96 bytes long"),
    (VSOCK | {"uds_path": "/" + "x" * 96}, "vsock.uds_path: must be 1 to 96"),
    (VSOCK | {"uds_path": None}, "vsock.uds_path: is missing"),
    (VSOCK | {"uds_path": {}}, "vsock.uds_path: must be a string"),
    (VSOCK | {"vsock_id": ""}, "vsock.vsock_id: must be 1 to 64"),
    (VSOCK | {"vsock_id": 1}, "vsock.vsock_id: must be a string"),
    (VSOCK | {"cid": 3}, "vsock.cid: is not a known field"),
]

ENTROPY = [
    ({"source": "/dev/random"}, "entropy.source: is not a known field"),
    *limiter_rows({}, "rate_limiter", "entropy"),
]

SERIAL = [
    ({"serial_out_path": "/x"}, "serial.serial_out_path: is not supported"),
    ({"path": "/x"}, "serial.path: is not a known field"),
    *limiter_rows({}, "rate_limiter", "serial"),
]

BALLOON_DEVICE = [
    ({}, "balloon.amount_mib: is missing"),
    ({"amount_mib": 1}, "balloon.deflate_on_oom: is missing"),
    ({"deflate_on_oom": True}, "balloon.amount_mib: is missing"),
    (BALLOON | {"amount_mib": 33},
     "balloon.amount_mib: must be between 0 and 32, the memory of the VM",
     SEMANTIC),
    (BALLOON | {"amount_mib": -1}, "balloon.amount_mib: must be between 0"),
    (BALLOON | {"amount_mib": 2 ** 24}, "balloon.amount_mib: must be between"),
    (BALLOON | {"amount_mib": "1"}, "balloon.amount_mib: must be an integer"),
    (BALLOON | {"deflate_on_oom": 1}, "balloon.deflate_on_oom: must be true"),
    (BALLOON | {"stats_polling_interval_s": -1},
     "balloon.stats_polling_interval_s: must be between 0 and 65535"),
    (BALLOON | {"stats_polling_interval_s": 65536},
     "balloon.stats_polling_interval_s: must be between 0 and 65535"),
    (BALLOON | {"stats_polling_interval_s": True},
     "balloon.stats_polling_interval_s: must be an integer"),
    (BALLOON | {"free_page_hinting": 1}, "free_page_hinting: must be true or"),
    (BALLOON | {"free_page_reporting": "x"}, "free_page_reporting: must be"),
    (BALLOON | {"must_tell_host": True}, "balloon.must_tell_host: is not a"),
]

MEMORY_HOTPLUG = [
    ({}, "memory-hotplug.total_size_mib: is missing"),
    *[(HOTPLUG | {"total_size_mib": n},
       "memory-hotplug.total_size_mib: must be between 128 and 16777216")
      for n in (0, 127, -128, 2 ** 24 + 128, 2 ** 32 + 1024)],
    (HOTPLUG | {"total_size_mib": 1000},
     "memory-hotplug.total_size_mib: must be a multiple of slot_size_mib, 128",
     SEMANTIC),
    (HOTPLUG | {"total_size_mib": "1024"}, "total_size_mib: must be an int"),
    *[(HOTPLUG | {"block_size_mib": n},
       "memory-hotplug.block_size_mib: must be between 2 and")
      for n in (0, 1, -2, 2 ** 32 + 2)],
    (HOTPLUG | {"block_size_mib": 6},
     "memory-hotplug.block_size_mib: must be a power of two", SEMANTIC),
    (HOTPLUG | {"block_size_mib": 256},
     "memory-hotplug.slot_size_mib: must be a multiple of block_size_mib, 256",
     SEMANTIC),
    (HOTPLUG | {"block_size_mib": []}, "block_size_mib: must be an integer"),
    (HOTPLUG | {"slot_size_mib": 127},
     "memory-hotplug.slot_size_mib: must be between 128 and"),
    (HOTPLUG | {"slot_size_mib": 0}, "slot_size_mib: must be between 128"),
    (HOTPLUG | {"slot_size_mib": 129},
     "memory-hotplug.slot_size_mib: must be a multiple of block_size_mib, 2",
     SEMANTIC),
    (HOTPLUG | {"slot_size_mib": 384},
     "memory-hotplug.total_size_mib: must be a multiple of slot_size_mib, 384",
     SEMANTIC),
    (HOTPLUG | {"slot_size_mib": False}, "slot_size_mib: must be an integer"),
    (HOTPLUG | {"requested_size_mib": 1},
     "requested_size_mib: must be between 0 and 1024, and a multiple of 2",
     SEMANTIC),
    (HOTPLUG | {"requested_size_mib": 1026},
     "requested_size_mib: must be between 0 and 1024", SEMANTIC),
    (HOTPLUG | {"requested_size_mib": -2}, "requested_size_mib: must be"),
    (HOTPLUG | {"requested_size_mib": "2"}, "requested_size_mib: must be an"),
    (HOTPLUG | {"plugged_size_mib": 0}, "plugged_size_mib: is not a known"),
]


def drives(n):
    return [{"drive_id": f"d{i}", "path_on_host": "{disk}",
             "is_root_device": False} for i in range(n)]


def nets(n, **change):
    return [{"iface_id": f"e{i}", "host_dev_name": f"mfbad{i}",
             "create": True} | change for i in range(n)]


MMDS = {"network_interfaces": ["eth9"]}
MMDS_CONFIG = [
    ({}, "mmds-config.network_interfaces: is missing"),
    ({"version": "V2"}, "mmds-config.network_interfaces: is missing"),
    ({"network_interfaces": None},
     "mmds-config.network_interfaces: is missing"),
    *[({"network_interfaces": v}, "mmds-config.network_interfaces: must be an "
       "array of 1 to 8 ids of network interfaces")
      for v in ([], "eth9", {"eth9": 1}, [f"eth{i}" for i in range(9)])],
    ({"network_interfaces": [9]},
     "mmds-config.network_interfaces: must be an array of strings"),
    ({"network_interfaces": ["eth9", None]},
     "mmds-config.network_interfaces: must be an array of strings"),
    ({"network_interfaces": ["eth9", "eth9"]},
     "mmds-config.network_interfaces: names an interface twice"),
    ({"network_interfaces": ["eth8"]},
     "mmds-config.network_interfaces: there is no network interface \"eth8\"",
     SEMANTIC),
    ({"network_interfaces": ["eth9", ""]},
     "mmds-config.network_interfaces: there is no network interface \"\"",
     SEMANTIC),
    *[(MMDS | {"version": v}, "mmds-config.version: must be \"V1\" or \"V2\"")
      for v in ("V3", "v1", "", 1, True)],
    *[(MMDS | {"ipv4_address": v}, "mmds-config.ipv4_address: must be")
      for v in ("", "1.1.1.1", "169.254.0.255", "169.254.255.0",
                "169.253.1.1", "170.254.1.1", "169.254.1", "169.254.1.1.1",
                "169.254.01.1", "169.254.1.256", "169.254.1.1 ",
                "169.254.1.-1", 2851995648, ["169.254.1.1"])],
    (MMDS | {"ipv4_address": "169.254.1.1\n"}, "mmds-config.ipv4_address: must",
     SEMANTIC),
    *[(MMDS | {"imds_compat": v},
       "mmds-config.imds_compat: must be true or false")
      for v in (0, "true", [])],
    (MMDS | {"ipv4": "169.254.1.1"}, "mmds-config.ipv4: is not a known field"),
]

DOCUMENT = [
    ({"mmds-config": {}}, "mmds-config.network_interfaces: is missing"),
    ({"mmds-config": []}, "mmds-config: must be an object"),
    ({"mmds-config": MMDS},
     "mmds-config.network_interfaces: there is no network", SEMANTIC),
    ({"network-interfaces": {}}, "network-interfaces: must be an array"),
    ({"network-interfaces": [1]}, "network-interfaces[0]: must be an object"),
    ({"network-interfaces": [NET, {}]},
     "network-interfaces[1].iface_id: is missing"),
    ({"network-interfaces": [NET, NET]},
     "network-interfaces.iface_id: two of the document have the same id",
     SEMANTIC),
    ({"network-interfaces": nets(2, guest_mac=MAC)},
     "network-interfaces.guest_mac: " + MAC, SEMANTIC),
    ({"network-interfaces": nets(2, host_dev_name="mfbad0")},
     "network-interfaces.host_dev_name: \"mfbad0\" is that of", SEMANTIC),
    ({"network-interfaces": nets(9)},
     "network-interfaces: a VM has at most 8 network interfaces"),
    ({"network-interfaces": [NET | {"rx_rate_limiter": {"ops": {}}}]},
     "network-interfaces[0].rx_rate_limiter.ops.size: is missing"),
    ({"pmem": {}}, "pmem: must be an array"),
    ({"pmem": ["x"]}, "pmem[0]: must be an object"),
    ({"pmem": [PMEM, PMEM]}, "pmem.id: two of the document", SEMANTIC),
    ({"pmem": [PMEM | {"id": f"p{i}"} for i in range(9)]},
     "pmem: a VM has at most 8 pmem devices"),
    ({"pmem": [PMEM | {"root_device": True},
               PMEM | {"root_device": True, "id": "p1"}]},
     "pmem.root_device: pmem device \"p0\" is the root device", SEMANTIC),
    ({"drives": [drives(1)[0] | {"is_root_device": True}],
      "pmem": [PMEM | {"root_device": True}]},
     "pmem.root_device: drive \"d0\" is the root device", SEMANTIC),
    ({"vsock": []}, "vsock: must be an object"),
    ({"vsock": VSOCK | {"guest_cid": 2}}, "vsock.guest_cid: must be between"),
    ({"entropy": 1}, "entropy: must be an object"),
    ({"entropy": []}, "entropy: must be an object"),
    ({"balloon": {}}, "balloon.amount_mib: is missing"),
    ({"balloon": BALLOON | {"amount_mib": 129}},
     "balloon.amount_mib: must be between 0 and 128", SEMANTIC),
    ({"memory-hotplug": []}, "memory-hotplug: must be an object"),
    ({"memory-hotplug": {}}, "memory-hotplug.total_size_mib: is missing"),
    ({"serial": "x"}, "serial: must be an object"),
    ({"machine-config": {"vcpu_count": 1, "mem_size_mib": 127,
                         "huge_pages": "2M"}},
     "machine-config.mem_size_mib: must be even with huge_pages", SEMANTIC),
    # 16 + 3 fit, if there is no other.
    ({"drives": drives(16), "entropy": {}, "balloon": BALLOON,
      "machine-config": {"vcpu_count": 1, "mem_size_mib": 128,
                         "console": "virtio"},
      "pmem": [PMEM]},
     "devices: a VM has at most 19 virtio devices of all kinds, this would be "
     "20", SEMANTIC),
]
