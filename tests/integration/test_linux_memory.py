"""Memory that Linux plugs, maps and boots from."""

import hashlib
import os
import subprocess

import guests
import images
from harness import check_exit, eventually, linux, scaled
from poke import GIB, Poke, set_huge_pages
from proc import memory_kib, status

MIB = images.MIB
LINE = b"a line of a file in plugged memory\n"


def mem_total_mib(vm):
    return int(vm.sh("grep MemTotal /proc/meminfo").split()[1]) // 1024


@linux()
def test_memory_is_onlined_used_and_given_back(t):
    config = images.linux(images.bzimage(),
                          args="memhp_default_state=online_movable")
    config["memory-hotplug"] = {"total_size_mib": 512}
    vm = guests.linux(t, config)

    def request(mib):
        vm.daemon.api.ok("PATCH", vm.url("hotplug/memory"),
                         {"requested_size_mib": mib})
        eventually(f"{mib} MiB plugged", lambda: vm.daemon.api.ok(
            "GET", vm.url("hotplug/memory"))["plugged_size_mib"] == mib,
            scaled(20), 0.1)
        # The kernel takes a little of it for its own tables.
        eventually(f"{mib} MiB online", lambda: abs(
            total + mib - mem_total_mib(vm)) < 8, scaled(20), 0.3)

    total = mem_total_mib(vm)
    pss = memory_kib(vm.pid, "Pss") // 1024
    request(256)
    # More than there was before, and every byte of it counts.
    vm.sh("mkdir -p /tmp/plugged && mount -t tmpfs -o size=200m tmpfs "
          "/tmp/plugged")
    vm.sh(f"yes '{LINE.decode().strip()}' | head -c {MIB} >/tmp/mib")
    vm.sh("for i in $(seq 110); do cat /tmp/mib; done >/tmp/plugged/file",
          scaled(30))
    out = vm.sh("md5sum </tmp/plugged/file", scaled(30))
    want = hashlib.md5((LINE * (MIB // len(LINE) + 1))[:MIB] * 110)
    assert out.split()[0] == want.hexdigest(), out
    used = memory_kib(vm.pid, "Pss") // 1024
    assert used >= pss + 90, (pss, used)
    vm.sh("umount /tmp/plugged")
    request(0)
    left = memory_kib(vm.pid, "Pss") // 1024
    assert left <= used - 80, (pss, used, left)
    counters = vm.get()["counters"]["memory-hotplug"]
    assert counters["plugs"] >= 2 and counters["unplugs"] >= 2, counters
    assert counters["malformed"] == 0, counters
    # And once more, to the end of the region.
    request(512)


def make_ext4(path, size):
    images.blank(path, size)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", path], check=True)
    return path


@linux()
def test_pmem_survives_a_restart(t):
    data = make_ext4(t.path("data"), 24 * MIB)
    fixed = t.path("fixed")
    digest = images.random_file(fixed, 3 * MIB + 512)
    config = images.linux(images.bzimage())
    config["pmem"] = [
        {"id": "data", "path_on_host": data},
        {"id": "fixed", "path_on_host": fixed, "read_only": True}]
    vm = guests.linux(t, config)
    assert vm.sh("cat /sys/block/pmem0/size") == str(24 * MIB // 512)
    assert vm.sh("cat /sys/block/pmem1/size") == str(4 * MIB // 512)
    vm.sh("mkdir /tmp/data && mount -t ext4 -o dax /dev/pmem0 /tmp/data")
    assert "dax" in vm.sh("grep /tmp/data /proc/mounts")
    vm.sh("yes 'still here' | head -c 5000000 >/tmp/data/file && sync")
    # The read-only one reads as the file does, and cannot be written.
    out = vm.sh(f"head -c {3 * MIB + 512} /dev/pmem1 | sha256sum", scaled(20))
    assert out.split()[0] == digest, out
    vm.run("dd if=/dev/zero of=/dev/pmem1 bs=4096 count=1 oflag=direct",
           scaled(20))
    assert images.sha256(fixed) == digest
    pmem = vm.get()["counters"]["pmem"]
    assert pmem[0]["flushes"] >= 1 and pmem[0]["errors"] == 0, pmem
    vm.sh("umount /tmp/data")
    vm.delete()
    # It is in the file, for the host and for the next guest, which has its
    # root file system in such a file as well.
    content = (b"still here\n" * 500000)[:5000000]
    assert subprocess.run(["debugfs", "-R", "cat /file", data], check=True,
                          capture_output=True).stdout == content
    config = images.linux(images.bzimage())
    config["pmem"] = [
        {"id": "data", "path_on_host": data},
        {"id": "root", "path_on_host": images.rootfs(), "root_device": True,
         "read_only": True}]
    vm = guests.linux(t, config)
    assert vm.sh("grep ' / ' /proc/mounts").startswith("/dev/pmem0 ")
    vm.sh("mount -t ext4 -o dax,ro /dev/pmem1 /mnt")
    out = vm.sh("md5sum </mnt/file")
    assert out.split()[0] == hashlib.md5(content).hexdigest()


@linux()
def test_pmem_file_cut_short_ends_that_guest_alone(t):
    path = images.blank(t.path("pmem"), 4 * MIB)
    other = Poke(t)
    guest = Poke(t, pmem=[{"id": "short", "path_on_host": path}])
    guest.write(4 * GIB, 1)
    os.truncate(path, 4096)
    assert guest.read(4 * GIB) == 1
    guest.vm.type(f"{4 * GIB + 2 * MIB:x}sr")
    check_exit(guest.vm, "internal_error")
    assert "pmem file cut short" in guest.vm.exit["detail"], guest.vm.exit
    other.write(2 * MIB, 5)
    assert other.read(2 * MIB) == 5


@linux()
def test_memory_above_the_hole_and_of_huge_pages(t):
    set_huge_pages(t, 64)
    config = images.linux(images.bzimage(), mem_mib=128)
    config["machine-config"]["huge_pages"] = "2M"
    vm = guests.linux(t, config)
    used = int(status(vm.pid)["HugetlbPages"].split()[0])
    assert 32 * 1024 <= used <= 128 * 1024, used
    vm.delete()
    config = images.linux(images.bzimage(), mem_mib=3072 + 256)
    vm = guests.linux(t, config)
    assert mem_total_mib(vm) > 3072 + 64
    iomem = vm.sh("grep 'System RAM' /proc/iomem")
    assert "100000000-10fffffff : System RAM" in iomem, iomem
