"""Debian's own kernels boot, and find the machine that was asked for."""

import filecmp
import os
import re
import time

import guests
import images
from harness import Skip, eventually, linux, scaled

def bzimage_guest(t):
    """Debian's bzImage on one CPU, with its root on a writable disk."""
    root = os.path.join(t.file.dir, "rw.ext4")
    return guests.shared_linux(t, "bzimage", lambda: images.linux(
        images.bzimage(), images.own_rootfs(root)))


def vmlinux_guest(t):
    """The uncompressed kernel on two CPUs, with a read-only root."""
    root = os.path.join(t.file.dir, "ro.ext4")
    return guests.shared_linux(t, "vmlinux", lambda: images.linux(
        images.vmlinux(), images.own_rootfs(root), vcpus=2, mem_mib=192,
        read_only=True))


def boot_protocol(vm):
    """What the kernel says of its loader: version, type_of_loader."""
    out = vm.sh("xxd -p -s 518 -l 11 /sys/kernel/boot_params/data",
                scaled(10))
    raw = bytes.fromhex(re.search(r"[0-9a-f]{22}", out).group())
    return raw[0] | raw[1] << 8, raw[10]


@linux()
def test_bzimage_boots_from_a_writable_disk(t):
    vm = bzimage_guest(t)
    assert vm.state == "Running"
    assert vm.sh("nproc") == "1"
    root = vm.sh("grep ' / ext4 ' /proc/mounts").split()
    assert root[3].split(",")[0] == "rw", root
    assert "root=/dev/vda" in vm.sh("cat /proc/cmdline")
    vm.sh("echo kept > /root/file && sync && grep kept /root/file")


@linux()
def test_bzimage_is_entered_by_the_64_bit_protocol(t):
    # The version is the image's own, where PVH's entry would leave 2.12.
    version, _ = boot_protocol(bzimage_guest(t))
    assert version == 0x20f, hex(version)


@linux()
def test_memory_is_what_was_asked_for(t):
    kib = int(bzimage_guest(t).sh("awk '/MemTotal/{print $2}' /proc/meminfo"))
    # The kernel keeps some of it for itself.
    assert 80 << 10 < kib <= 128 << 10, kib


@linux()
def test_vmlinux_boots_by_pvh_on_two_cpus_from_a_read_only_disk(t):
    vm = vmlinux_guest(t)
    assert vm.sh("nproc") == "2"
    version, loader = boot_protocol(vm)
    assert (version, loader) == (0x20c, 0xb0), (hex(version), hex(loader))
    root = vm.sh("grep ' / ext4 ' /proc/mounts").split()
    assert root[3].split(",")[0] == "ro", root


@linux()
def test_read_only_disk_refuses_writes(t):
    vm = vmlinux_guest(t)
    assert vm.sh("cat /sys/block/vda/ro") == "1"
    status, _ = vm.run("echo x > /root/file")
    assert status != 0, "the file system took a write"
    status, out = vm.run("mount -o remount,rw /")
    assert status != 0, f"the root was remounted writable: {out}"
    status, _ = vm.run("dd if=/dev/zero of=/dev/vda bs=4096 count=1 "
                       "oflag=direct")
    assert status != 0, "the device took a write"
    image = vm.config()["drives"][0]["path_on_host"]
    assert filecmp.cmp(image, images.rootfs(), shallow=False), (
        "the image has changed")


@linux()
def test_both_cpus_work(t):
    vm = vmlinux_guest(t)
    for cpu in (0, 1):
        out = vm.sh(f"taskset {1 << cpu} sh -c "
                    "'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; "
                    "cut -d\" \" -f39 /proc/self/stat'", scaled(20))
        assert out.split()[-1] == str(cpu), f"CPU {cpu}: {out!r}"
    before = local_timer_interrupts(vm)
    vm.sh("sleep 1; for c in 1 2; do taskset $c sh -c "
          "'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; done",
          scaled(20))
    after = local_timer_interrupts(vm)
    assert all(a > b for a, b in zip(after, before)), (before, after)


def local_timer_interrupts(vm):
    line = vm.sh("grep LOC: /proc/interrupts")
    return [int(n) for n in re.findall(r"\b\d+\b", line)]


@linux()
def test_clock_is_kvms_and_keeps_the_hosts_time(t):
    vm = bzimage_guest(t)
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert vm.sh(f"cat {clock}") in ("kvm-clock", "tsc")
    host = time.time()
    guest = int(vm.sh("date +%s"))
    assert abs(guest - host) < scaled(2) + 1, (guest, host)
    begin = time.monotonic()
    up = [float(vm.sh("cut -d' ' -f1 /proc/uptime"))]
    vm.sh("sleep 2", scaled(10))
    up.append(float(vm.sh("cut -d' ' -f1 /proc/uptime")))
    real = time.monotonic() - begin
    assert 2 <= up[1] - up[0] <= real + 0.2, (up, real)


@linux()
def test_timeline_is_complete_and_in_order(t):
    timeline = bzimage_guest(t).get()["timeline"]
    moments = [timeline[m] for m in (
        "request_received", "configured", "loaded",
        "first_instruction", "kernel_up", "guest_ready")]
    assert moments == sorted(set(moments)), timeline


@linux()
def test_long_output_arrives_whole_and_in_order(t):
    vm = bzimage_guest(t)
    out = vm.sh("seq 1 4000", scaled(30))
    assert out.split() == [str(n) for n in range(1, 4001)], out[-200:]


@linux()
def test_long_input_arrives_whole(t):
    vm = bzimage_guest(t)
    lines = [f"line {n} of what is typed\n" for n in range(100)]
    vm.sh("true")
    vm.type("cat > /tmp/typed\n")
    # In pieces that the guest has taken before the next one comes: a serial
    # line has no other way to say that it is full.
    for n in range(0, 100, 10):
        vm.type("".join(lines[n:n + 10]))
    vm.type("\x04")
    assert vm.sh("wc -l < /tmp/typed", scaled(20)) == "100"
    assert vm.sh("tail -n 1 /tmp/typed") == lines[-1].strip()


@linux()
def test_pause_freezes_and_resume_continues(t):
    vm = bzimage_guest(t)
    vm.run("true")
    vm.type("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo n$i; "
            "usleep 20000; done &\n")
    vm.expect(r"n5\r?\n", scaled(10))
    vm.pause()
    assert vm.state == "Paused"

    def last():
        return int(re.findall(rb"n(\d+)\r?\n", vm.output())[-1])

    stopped = last()
    time.sleep(1)  # 50 lines' time
    assert last() == stopped, "the guest went on while it was paused"
    vm.resume()
    eventually("the count goes on", lambda: last() > stopped + 3, scaled(10))
    vm.sh("kill %1; wait", scaled(10))
    seen = [int(n) for n in re.findall(rb"^n(\d+)\r?$", vm.output(), re.M)]
    assert seen == list(range(1, len(seen) + 1)), "lines lost or repeated"


@linux()
def test_memory_around_the_hole_below_4_gib(t):
    with open("/proc/meminfo", encoding="ascii") as f:
        host_mib = int(f.readline().split()[1]) >> 10
    if host_mib < 3500:
        raise Skip(f"the host has only {host_mib} MiB")
    vm = guests.linux(t, images.linux(images.bzimage(), mem_mib=3328))
    kib = int(vm.sh("awk '/MemTotal/{print $2}' /proc/meminfo"))
    assert kib > 3100 << 10, f"{kib} KiB"
    above = vm.sh("grep -i '^ *100000000-.*System RAM' /proc/iomem")
    assert above.startswith("100000000-10fffffff"), above


@linux(limit=150)
def test_four_guests_at_once_do_not_mix(t):
    vms = [t.vm(images.linux(images.bzimage(),
                             images.own_rootfs(t.path(f"root{n}"))), start=True)
           for n in range(4)]
    for vm in vms:
        vm.expect(guests.GREETING, scaled(40))
    for vm in vms:
        vm.sh(f"echo {vm.id} > /root/name && sync", scaled(20))
    for vm in vms:
        assert vm.sh("cat /root/name", scaled(20)) == vm.id
    for vm in vms:
        vm.type("poweroff\n")
    for vm in vms:
        assert vm.wait(scaled(20))["reason"] == "shutdown"
