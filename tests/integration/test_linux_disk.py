"""virtio-blk under a real driver: data, limits, and errors of the host."""

import os
import subprocess

import guests
import images
from harness import eventually, linux, scaled

SIZE = 24 * images.MIB


def guest(t):
    """One guest for the tests that only use its disks: vda to vdc."""
    def config():
        d = t.file.dir
        images.random_file(os.path.join(d, "data"), SIZE)
        images.blank(os.path.join(d, "scratch"), SIZE + 511)
        images.random_file(os.path.join(d, "fixed"), images.MIB)
        return images.linux(images.bzimage(), drives=[
            images.drive(os.path.join(d, "data"), "data"),
            images.drive(os.path.join(d, "scratch"),
                         "scratch_with_a_long_name", cache_type="Writeback"),
            images.drive(os.path.join(d, "fixed"), "fixed",
                         is_read_only=True),
        ])
    return guests.shared_linux(t, "disks", config)


@linux()
def test_disk_reads_are_the_images_bytes(t):
    vm = guest(t)
    data = os.path.join(t.file.dir, "data")
    out = vm.sh("dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | sha256sum",
                scaled(30))
    assert out.split()[0] == images.sha256(data)
    # An odd place, an odd size, through the page cache.
    out = vm.sh("dd if=/dev/vda bs=512 skip=12345 count=777 2>/dev/null "
                "| sha256sum", scaled(20))
    assert out.split()[0] == images.sha256(data, 12345 * 512, 777 * 512)


@linux()
def test_disk_writes_reach_the_image(t):
    vm = guest(t)
    scratch = os.path.join(t.file.dir, "scratch")
    vm.sh("dd if=/dev/vda of=/dev/vdb bs=1M iflag=direct oflag=direct "
          "2>/dev/null", scaled(40))
    assert images.sha256(scratch, 0, SIZE) == (
        images.sha256(os.path.join(t.file.dir, "data")))
    # Small writes here and there leave their neighbours alone.
    vm.sh("echo -n mark | dd of=/dev/vdb bs=1 seek=1000001 conv=notrunc "
          "2>/dev/null && sync", scaled(20))
    with open(scratch, "rb") as f, open(
            os.path.join(t.file.dir, "data"), "rb") as original:
        got, want = f.read(SIZE), bytearray(original.read())
    want[1000001:1000005] = b"mark"
    assert got == bytes(want)


@linux()
def test_disk_counters_count(t):
    vm = guest(t)

    def drive(n):
        return vm.get()["counters"]["drives"][n]

    before = drive(1)
    vm.sh("dd if=/dev/zero of=/dev/vdb bs=64k count=16 oflag=direct "
          "conv=fsync,notrunc 2>/dev/null", scaled(20))
    after = drive(1)
    assert after["write_bytes"] - before["write_bytes"] == images.MIB, (
        before, after)
    assert after["flushes"] > before["flushes"], (before, after)
    assert after["drive_id"].startswith("scratch"), after
    for op, counter in (("write", "writes"), ("flush", "flushes")):
        def took(what, op=op):
            return vm.metric(f"drive_request_duration_seconds_{what}",
                             drive="scratch_with_a_long_name", op=op)
        assert took("count") == after[counter], (op, after)
        assert 0 < took("sum") < scaled(60), op
    assert all(drive(n)["malformed"] == drive(n)["errors"] == 0
               for n in range(3)), vm.get()["counters"]


@linux()
def test_disk_many_requests_in_flight(t):
    vm = guest(t)
    # Sixteen readers at once, each of its own part; all sums agree.
    out = vm.sh(
        "for i in $(seq 0 15); do (dd if=/dev/vda bs=64k skip=$((i*24)) "
        "count=24 iflag=direct 2>/dev/null | sha256sum > /tmp/sum$i) & done; "
        "wait; for i in $(seq 0 15); do cut -d' ' -f1 /tmp/sum$i; done",
        scaled(40))
    data = os.path.join(t.file.dir, "data")
    piece = 24 * 65536
    assert out.split() == [images.sha256(data, n * piece, piece)
                           for n in range(16)]


@linux()
def test_disk_geometry_serial_and_cache(t):
    vm = guest(t)
    assert vm.sh("cat /sys/block/vda/size") == str(SIZE // 512)
    # Half a sector more in the file is not there in the guest.
    assert vm.sh("cat /sys/block/vdb/size") == str(SIZE // 512)
    assert vm.sh("cat /sys/block/vda/serial") == "data"
    assert vm.sh("cat /sys/block/vdb/serial") == "scratch_with_a_long_name"[:20]
    assert vm.sh("cat /sys/block/vda/ro") == "0"
    assert vm.sh("cat /sys/block/vdc/ro") == "1"
    assert vm.sh("cat /sys/block/vda/queue/write_cache") == "write through"
    assert vm.sh("cat /sys/block/vdb/queue/write_cache") == "write back"


@linux()
def test_disk_end_is_the_end(t):
    vm = guest(t)
    last = SIZE // 512 - 1
    vm.sh(f"dd if=/dev/vda bs=512 skip={last} count=1 iflag=direct "
          "of=/dev/null 2>/dev/null", scaled(20))
    status, _ = vm.run(f"dd if=/dev/zero of=/dev/vda bs=512 seek={last + 1} "
                       "count=1 oflag=direct conv=notrunc")
    assert status != 0


@linux()
def test_read_only_second_drive(t):
    vm = guest(t)
    fixed = os.path.join(t.file.dir, "fixed")
    before = images.sha256(fixed)
    assert vm.sh("sha256sum < /dev/vdc", scaled(20)).split()[0] == before
    status, _ = vm.run("dd if=/dev/zero of=/dev/vdc bs=4096 count=1 "
                       "oflag=direct")
    assert status != 0
    assert images.sha256(fixed) == before


@linux()
def test_full_host_disk_is_an_io_error_in_the_guest(t):
    small = t.path("small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small],
                   check=True)
    t.cleanup(subprocess.run, ["umount", "-l", small])
    disk = images.blank(os.path.join(small, "disk"), 32 * images.MIB)
    vm = guests.linux(t, images.linux(images.bzimage(),
                                      drives=[images.drive(disk)]))
    since = vm.daemon.log_size()
    status, out = vm.run("dd if=/dev/zero of=/dev/vda bs=1M oflag=direct",
                         scaled(30))
    assert status != 0 and "Input/output error" in out, (status, out)
    drive = vm.get()["counters"]["drives"][0]
    assert drive["errors"] >= 1, drive
    # It lives on, the parts that fit are there, and reads work.
    vm.sh("dd if=/dev/vda of=/dev/null bs=1M count=2 iflag=direct", scaled(20))
    assert vm.state == "Running"
    log = eventually("a line about it in the log", lambda: [
        line for line in vm.daemon.log_text(since).splitlines()
        if vm.id in line])
    assert len(log) < 10, "the guest can fill the log:\n" + "\n".join(log)


@linux()
def test_image_cut_short_under_a_guest_is_an_io_error(t):
    disk = t.path("disk")
    images.random_file(disk, 8 * images.MIB)
    vm = guests.linux(t, images.linux(images.bzimage(),
                                      drives=[images.drive(disk)]))
    os.truncate(disk, 4 * images.MIB)
    status, out = vm.run("dd if=/dev/vda of=/dev/null bs=1M iflag=direct",
                         scaled(20))
    assert status != 0 and "Input/output error" in out, (status, out)
    out = vm.sh("dd if=/dev/vda bs=1M count=4 iflag=direct 2>/dev/null "
                "| sha256sum", scaled(20))
    assert out.split()[0] == images.sha256(disk)
    assert vm.state == "Running"
