"""Bad input: each is a 4xx that names the field, and the VM (and every other)
is as it was."""

import json
import os
import re
import struct
import threading

import images
from guests import shared_puppet
from harness import check_usable, eventually, native

KERNEL = ("kernel_image_path",)
INITRD = ("initrd_path",)
DRIVE = ("path_on_host",)


def refused_to_start(t, sections, names):
    """A VM with these sections gets its 4xx, when it is configured or when
    it is started, and can be put right afterwards."""
    other = shared_puppet(t)
    vm = t.vm()
    before = vm.get()
    good = images.puppet()
    for name, body in {**good, **sections}.items():
        for item in body if isinstance(body, list) else [body]:
            rest = f"{name}/{item['drive_id']}" if name == "drives" else name
            reply = t.api.request("PUT", vm.url(rest), item)
            if reply.status >= 300:
                break
        else:
            continue
        break
    else:
        reply = t.api.request("PUT", vm.url("actions"),
                              {"action_type": "InstanceStart"}, timeout=60)
    assert 400 <= reply.status < 500, f"wanted a 4xx, got {reply}"
    assert any(n in reply.fault for n in names), (
        f"the fault does not name {names}: {reply.fault!r}")
    assert vm.state == "Not started", vm.get()
    assert not vm.get().get("pid"), vm.get()
    check_usable(t, other)

    # The same in one document: refused as a whole.
    whole = {**good, **sections, "start": True}
    name = vm.id + "-whole"
    t.api.refused("PUT", f"/v1/vms/{name}", whole, names, timeout=60)
    assert t.api.request("GET", f"/v1/vms/{name}").status == 404, (
        "a VM that could not start was left behind")

    # What was wrong is put right, and it starts.
    for section in sections:
        if section in good:
            vm.put(section, good[section])
    if "drives" not in sections:
        vm.start()
        vm.expect("puppet ready")
    assert before["id"] == vm.id
    check_usable(t, other)


def kernel_at(path):
    return {"boot-source": {"kernel_image_path": path}}


def with_initrd(path):
    return {"boot-source": {"kernel_image_path": images.puppet_kernel(),
                            "initrd_path": path}}


def edited_kernel(t, name, edits, cut=None):
    """The puppet's ELF with bytes changed: {offset: bytes}."""
    with open(images.puppet_kernel(), "rb") as f:
        data = bytearray(f.read())
    for offset, value in edits.items():
        data[offset:offset + len(value)] = value
    path = t.path(name)
    with open(path, "wb") as f:
        f.write(data[:cut])
    return path


@native()
def test_kernel_missing(t):
    refused_to_start(t, kernel_at(t.path("nowhere")), KERNEL)


@native()
def test_kernel_empty(t):
    refused_to_start(t, kernel_at(images.blank(t.path("empty"), 0)), KERNEL)


@native()
def test_kernel_of_no_known_format(t):
    images.random_file(t.path("noise"), images.MIB)
    refused_to_start(t, kernel_at(t.path("noise")), KERNEL)


@native()
def test_kernel_truncated(t):
    for cut in (3, 63, 100, 3000):
        path = edited_kernel(t, f"cut{cut}", {}, cut)
        refused_to_start(t, kernel_at(path), KERNEL)


@native()
def test_kernel_for_another_machine(t):
    # e_machine: AArch64
    path = edited_kernel(t, "arm", {18: struct.pack("<H", 183)})
    refused_to_start(t, kernel_at(path), KERNEL)
    # 32-bit class
    path = edited_kernel(t, "class32", {4: b"\1"})
    refused_to_start(t, kernel_at(path), KERNEL)


@native()
def test_kernel_larger_than_memory(t):
    # The segment's p_memsz says 64 MiB of a machine with 16.
    path = edited_kernel(t, "huge", {64 + 40: struct.pack("<Q", 64 << 20)})
    refused_to_start(t, kernel_at(path), KERNEL + ("mem_size_mib",))


@native()
def test_kernel_with_wild_addresses(t):
    for n, address in enumerate((0, 0x500, 0xc0000000, 2**64 - 4096)):
        path = edited_kernel(t, f"wild{n}",
                             {64 + 24: struct.pack("<Q", address)})
        refused_to_start(t, kernel_at(path), KERNEL)


@native()
def test_kernel_that_is_no_file(t):
    refused_to_start(t, kernel_at(t.dir), KERNEL)
    os.mkfifo(t.path("fifo"))
    refused_to_start(t, kernel_at(t.path("fifo")), KERNEL)
    refused_to_start(t, kernel_at("/dev/zero"), KERNEL)


@native()
def test_initrd_missing_or_no_file(t):
    refused_to_start(t, with_initrd(t.path("nowhere")), INITRD)
    refused_to_start(t, with_initrd(t.dir), INITRD)


@native()
def test_initrd_that_does_not_fit(t):
    path = images.blank(t.path("large"), 64 * images.MIB)
    refused_to_start(t, with_initrd(path), INITRD)


@native()
def test_disk_that_cannot_be_one(t):
    for path in (t.path("nowhere"), t.dir, "/dev/null"):
        refused_to_start(t, {"drives": [images.drive(path)]}, DRIVE)
    os.mkfifo(t.path("fifo"))
    refused_to_start(t, {"drives": [images.drive(t.path("fifo"))]}, DRIVE)


@native()
def test_disk_that_cannot_be_written(t):
    # Root may open any file: one that nobody can write is on a read-only
    # file system. /proc has one everywhere.
    refused_to_start(
        t, {"drives": [images.drive("/proc/sys/kernel/osrelease")]}, DRIVE)


@native()
def test_empty_disk(t):
    path = images.blank(t.path("none"), 0)
    vm = t.vm()
    reply = t.api.request("PUT", vm.url("drives/disk"), images.drive(path))
    assert reply.status < 300 or any(d in reply.fault for d in DRIVE), reply
    assert vm.state == "Not started"


@native()
def test_disk_size_is_rounded_down_with_a_warning(t):
    path = images.blank(t.path("odd"), images.MIB + 511)
    since = t.daemon.log_size()
    vm = t.vm(images.puppet(drives=[images.drive(path)]), start=True)
    vm.expect("puppet ready")
    log = t.daemon.log_text(since)
    assert re.search(rf"warn .*drive_rounded_down .*{vm.id}", log), log


@native()
def test_machine_config_out_of_range(t):
    vm = t.vm(images.puppet())
    before = vm.get()
    good = {"vcpu_count": 1, "mem_size_mib": 16}
    for field, values in (
            ("vcpu_count", (0, 33, -1, 256, 2**32 + 1, 2**64, 1.5, "1",
                            None, True, [], {})),
            ("mem_size_mib", (0, -1, 1 << 40, 2**44, 2**64, 2**64 + 16,
                              "128", 1.5, None, [])),
            ("smt", (1, "true", []))):
        for value in values:
            body = {**good, field: value}
            t.api.refused("PUT", vm.url("machine-config"), body, field)
            if value is not None:  # that stands for "not given"
                t.api.refused("PATCH", vm.url("machine-config"),
                              {field: value}, field)
    for missing in good:
        body = {k: v for k, v in good.items() if k != missing}
        t.api.refused("PUT", vm.url("machine-config"), body, missing)
    t.api.refused("PATCH", vm.url("machine-config"), {}, "")
    assert vm.get() == before
    vm.start()
    vm.expect("puppet ready")


@native()
def test_memory_beyond_the_hosts(t):
    with open("/proc/meminfo", encoding="ascii") as f:
        total_kib = int(f.readline().split()[1])
    refused_to_start(t, {"machine-config": {
        "vcpu_count": 1, "mem_size_mib": total_kib // 1024 * 2}},
        ("mem_size_mib",))


@native()
def test_second_root_device(t):
    disk = images.blank(t.path("disk"), images.MIB)
    vm = t.vm(images.puppet())
    vm.put("drives/one", images.drive(disk, "one", root=True))
    before = vm.get()
    t.api.refused("PUT", vm.url("drives/two"),
                  images.drive(disk, "two", root=True), "is_root_device")
    assert vm.get() == before
    # The same drive again replaces itself.
    vm.put("drives/one", images.drive(disk, "one", root=True))
    vm.start()
    vm.expect("puppet ready")


@native()
def test_too_many_drives(t):
    disk = images.blank(t.path("disk"), images.MIB)
    vm = t.vm(images.puppet())
    for n in range(16):
        vm.put(f"drives/d{n}", images.drive(disk, f"d{n}", is_read_only=True))
    t.api.refused("PUT", vm.url("drives/d16"),
                  images.drive(disk, "d16", is_read_only=True), "drive")
    vm.start()
    vm.expect("puppet ready")


@native()
def test_drive_id_has_to_agree(t):
    disk = images.blank(t.path("disk"), images.MIB)
    vm = t.vm()
    t.api.refused("PUT", vm.url("drives/one"), images.drive(disk, "two"),
                  "drive_id")
    t.api.refused("PUT", vm.url("drives/..%2f"), images.drive(disk, "../"),
                  "drive_id")


@native()
def test_ids_that_are_no_names(t):
    before = [v["id"] for v in listed(t)]
    for bad in ("..", ".", "a%2Fb", "..%2F..%2Fetc", "a" * 65, "a%00b",
                "a%0Ab", "a b".replace(" ", "%20"), "%C3%A4", "-" * 65):
        reply = t.api.request("PUT", f"/v1/vms/{bad}", {})
        assert 400 <= reply.status < 500, (bad, reply)
        assert reply.fault, (bad, reply)
    for bad in ("a/b", "../x"):
        reply = t.api.request("PUT", f"/v1/vms/{bad}", {})
        assert 400 <= reply.status < 500, (bad, reply)
    assert [v["id"] for v in listed(t)] == before
    t.vm(vm_id="a" * 64).delete()


def listed(t):
    return t.api.ok("GET", "/v1/vms")["vms"]


BAD_BODIES = (
    b"", b"{", b"null", b"[]", b"1", b'"x"', b"{} {}", b"{}garbage",
    b"\xff\xfe{}", b'{"labels": {"a": "\xff"}}', b"\0", b"{\"a\": 1,}",
    b"{'a': 1}", b'{"machine-config": []}', b'{"drives": {}}',
    b'{"drives": [1]}', b'{"start": "yes"}', b'{"labels": {"a": 1}}',
    b'{"boot-source": {}}',
    b'{"machine-config": {"vcpu_count": NaN, "mem_size_mib": 16}}',
)


@native()
def test_bodies_that_are_no_configuration(t):
    other = shared_puppet(t)
    for n, body in enumerate(BAD_BODIES):
        path = f"/v1/vms/bad{n}"
        reply = t.api.request("PUT", path, body)
        if body == b"" and reply.status == 201:
            t.api.ok("DELETE", path)  # no body may stand for {}
            continue
        assert reply.status == 400 and reply.fault, (body, reply)
        assert t.api.request("GET", path).status == 404, body
    check_usable(t, other)


@native()
def test_unknown_fields_are_named(t):
    vm = t.vm(images.puppet())
    before = vm.get()
    t.api.refused("PUT", "/v1/vms/unknown", {"flux": 1}, "flux", 400)
    assert t.api.request("GET", "/v1/vms/unknown").status == 404
    disk = images.blank(t.path("disk"), images.MIB)
    for rest, body in (
            ("boot-source", images.puppet()["boot-source"]),
            ("machine-config", images.puppet()["machine-config"]),
            ("drives/disk", images.drive(disk)),
            ("actions", {"action_type": "InstanceStart"})):
        t.api.refused("PUT", vm.url(rest), {**body, "flux": 1}, "flux", 400)
    t.api.refused("PATCH", vm.url("vm"), {"state": "Paused", "flux": 1},
                  "flux", 400)
    assert vm.get() == before


@native()
def test_body_too_deep(t):
    for depth in (100, 10000):
        body = b'{"labels": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        t.api.refused("PUT", "/v1/vms/deep", body, status=(400, 413))
        assert t.api.request("GET", "/v1/vms/deep").status == 404


@native()
def test_body_too_large(t):
    for size in (1 << 20, 8 << 20):
        body = json.dumps({"labels": {"a": "x" * size}}).encode()
        try:
            reply = t.api.request("PUT", "/v1/vms/large", body)
        except (BrokenPipeError, ConnectionResetError):
            reply = None  # refused before all of it was sent
        assert reply is None or reply.status == 413, reply
        assert t.api.request("GET", "/v1/vms/large").status == 404


def exchange(t, data, timeout=1):
    """Sends bytes, closes our direction, returns all that comes back in
    time: a daemon that waits for the rest of a request may go on doing so."""
    conn = t.api.raw()
    t.cleanup(conn.close)
    conn.settimeout(timeout)
    back = b""
    try:
        conn.sendall(data)
        conn.shutdown(1)
        while True:
            piece = conn.recv(65536)
            if not piece:
                break
            back += piece
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass
    return back


@native()
def test_content_length_that_lies(t):
    other = shared_puppet(t)
    head = b"PUT /v1/vms/liar HTTP/1.1\r\nHost: x\r\nContent-Length: "
    for length, body in ((b"100", b"{}"), (b"-1", b"{}"), (b"x", b"{}"),
                         (b"99999999999999999999", b"{}"),
                         (b"18446744073709551617", b"{}"),
                         (b"4294967298", b"{}"), (b"1", b"{}")):
        back = exchange(t, head + length + b"\r\n\r\n" + body)
        assert b"201 " not in back[:20], (length, back)
        assert t.api.request("GET", "/v1/vms/liar").status == 404, length
    check_usable(t, other)


@native()
def test_requests_that_are_no_http(t):
    other = shared_puppet(t)
    for data in (b"\0" * 4096, b"GET\r\n\r\n", b"A" * 100000,
                 b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                 b"PUT /v1/vms/" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
                 b"GET /v1/version HTTP/9.9\r\n\r\n", b"\r\n\r\n"):
        back = exchange(t, data)
        assert not back.startswith(b"HTTP/1.1 500"), back[:80]
    check_usable(t, other)


@native()
def test_chunked_body_without_end_is_bounded(t):
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    back = exchange(t, b"PUT /v1/vms/chunky HTTP/1.1\r\nHost: x\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" + piece * 64)
    assert b"413" in back[:20] or not back, back[:80]
    assert t.api.request("GET", "/v1/vms/chunky").status == 404


@native()
def test_unknown_paths_and_methods(t):
    vm = t.vm()
    for method, path, status in (
            ("GET", "/", 404), ("GET", "/v2/vms", 404),
            ("GET", "/v1", 404), ("GET", "/v1/vms/none", 404),
            ("DELETE", "/v1/vms/none", 404),
            ("GET", "/v1/vms/none/wait", 404),
            ("GET", "/v1/vms/none/console", 404),
            ("PUT", "/v1/vms/none/boot-source", 404),
            ("GET", vm.url("nothing"), 404),
            ("POST", "/v1/vms", 405), ("DELETE", "/v1/version", 405),
            ("PATCH", vm.url(), 405), ("POST", vm.url("actions"), 405),
            ("DELETE", vm.url("console"), 405)):
        body = {} if method in ("PUT", "PATCH", "POST") else None
        reply = t.api.request(method, path, body)
        assert reply.status == status, (method, path, reply)
        assert reply.fault, (method, path, reply)


@native()
def test_actions_out_of_order(t):
    vm = t.vm(images.puppet())
    before = vm.get()
    t.api.refused("PATCH", vm.url("vm"), {"state": "Paused"})
    t.api.refused("PATCH", vm.url("vm"), {"state": "Resumed"})
    t.api.refused("PUT", vm.url("actions"), {"action_type": "SendCtrlAltDel"})
    t.api.refused("PUT", vm.url("actions"), {"action_type": "Dance"},
                  ("action_type", "Dance"))
    t.api.refused("PUT", vm.url("console"), "x")
    assert vm.get() == before
    vm.start()
    vm.expect("puppet ready")
    t.api.refused("PUT", vm.url("actions"), {"action_type": "InstanceStart"})
    t.api.refused("PATCH", vm.url("vm"), {"state": "Sideways"},
                  ("state", "Sideways"))
    disk = images.blank(t.path("disk"), images.MIB)
    config = vm.config()
    for rest, body in (
            ("boot-source", images.puppet()["boot-source"]),
            ("machine-config", images.puppet()["machine-config"]),
            ("drives/disk", images.drive(disk))):
        t.api.refused("PUT", vm.url(rest), body)
    t.api.refused("PATCH", vm.url("machine-config"), {"vcpu_count": 2})
    assert vm.config() == config
    t.api.refused("PUT", vm.url(), {}, status=409)
    check_usable(t, vm)


@native()
def test_started_without_a_kernel(t):
    vm = t.vm()
    t.api.refused("PUT", vm.url("actions"), {"action_type": "InstanceStart"},
                  ("boot-source", "kernel_image_path"))
    assert vm.state == "Not started"
    t.api.refused("PUT", "/v1/vms/kernelless", {"start": True},
                  ("boot-source", "kernel_image_path"))
    assert t.api.request("GET", "/v1/vms/kernelless").status == 404


@native()
def test_command_line_too_long(t):
    refused_to_start(t, {"boot-source": {
        "kernel_image_path": images.puppet_kernel(),
        "boot_args": "x" * 2048}}, ("boot_args",))


@native()
def test_delete_while_starting(t):
    other = shared_puppet(t)
    for _ in range(5):
        vm = t.vm(images.puppet())
        replies = {}

        def start(vm=vm, replies=replies):
            replies["start"] = t.api.request(
                "PUT", vm.url("actions"), {"action_type": "InstanceStart"})

        starter = threading.Thread(target=start)
        starter.start()
        reply = t.api.request("DELETE", vm.url())
        starter.join(10)
        assert "start" in replies, "the start was never answered"
        if reply.status == 204:
            assert t.api.request("GET", vm.url()).status == 404
        else:
            assert 400 <= reply.status < 500 and reply.fault, reply
            eventually("the VM runs", lambda vm=vm: vm.state == "Running")
            vm.delete()
        t.vms.remove(vm)
    check_usable(t, other)


@native()
def test_starting_twice_at_once_starts_once(t):
    vm = t.vm(images.puppet())
    replies = []
    askers = [threading.Thread(target=lambda: replies.append(t.api.request(
        "PUT", vm.url("actions"), {"action_type": "InstanceStart"})))
        for _ in range(4)]
    for a in askers:
        a.start()
    for a in askers:
        a.join(10)
    good = [r for r in replies if r.status in (200, 204)]
    assert len(replies) == 4 and len(good) == 1, replies
    vm.expect("puppet ready")


@native()
def test_console_input_too_large(t):
    vm = shared_puppet(t)
    reply = t.api.request("PUT", vm.url("console"), b"z" * (1 << 20))
    assert reply.status in (400, 413), reply
    check_usable(t, vm)


@native()
def test_wait_with_a_bad_timeout(t):
    vm = shared_puppet(t)
    for value in ("x", "-1", "1.5", "99999999999999999999"):
        t.api.refused("GET", vm.url(f"wait?timeout_ms={value}"),
                      names="timeout_ms")
