"""What else a disk can do under a real driver: queues, space given back,
zeroes, and changes while it runs. One guest, of which each drive is one
test's."""

import fcntl
import os
import time

import guests
import images
from harness import eventually, linux, scaled

SIZE = 16 * images.MIB
SECONDS = 10


def path(t, name):
    return os.path.join(t.file.dir, name)


def guest(t):
    """vda is the root disk; vdb and on: space, live, bytes, ops."""
    def config():
        for name in ("space", "live", "other"):
            images.random_file(path(t, name), SIZE)
        for name in ("bytes", "ops"):
            images.blank(path(t, name), SIZE)
        return images.linux_with_tools(vcpus=2, drives=[
            images.drive(path(t, name), name, cache_type="Writeback")
            for name in ("space", "live", "bytes", "ops")])
    return guests.shared_linux(t, "disks", config)


def patch(vm, drive_id, **change):
    vm.daemon.api.ok("PATCH", vm.url("drives/" + drive_id),
                     {"drive_id": drive_id, **change})


def counters(vm, drive_id):
    drives = vm.get()["counters"]["drives"]
    return next(d for d in drives if d["drive_id"] == drive_id)


def queue(vm, device, name):
    return int(vm.sh(f"cat /sys/block/{device}/queue/{name}"))


def blocks(file):
    return os.stat(file).st_blocks


def read(file, offset, length):
    with open(file, "rb") as f:
        f.seek(offset)
        return f.read(length)


@linux()
def test_disk_has_a_queue_for_each_cpu(t):
    vm = guest(t)
    assert vm.sh("ls /sys/block/vdb/mq").split() == ["0", "1"]
    # Both of them work, each for its own CPU.
    before = counters(vm, "space")
    sums = vm.sh(
        "for c in 0 1; do (taskset $((c+1)) dd if=/dev/vdb bs=64k count=64 "
        "iflag=direct 2>/dev/null | sha256sum > /tmp/cpu$c) & done; wait; "
        "cut -d' ' -f1 /tmp/cpu0 /tmp/cpu1", scaled(60)).split()
    assert sums == 2 * [images.sha256(path(t, "space"), 0, 4 * images.MIB)]
    after = counters(vm, "space")
    assert after["read_bytes"] - before["read_bytes"] == 8 * images.MIB


@linux()
def test_disk_topology_is_the_hosts(t):
    vm = guest(t)
    block = os.stat(path(t, "space")).st_blksize
    assert queue(vm, "vdb", "logical_block_size") == 512
    assert queue(vm, "vdb", "physical_block_size") == block
    assert queue(vm, "vdb", "minimum_io_size") == block
    assert queue(vm, "vdb", "discard_granularity") == block
    assert queue(vm, "vdb", "discard_max_bytes") == 64 * images.MIB
    assert queue(vm, "vdb", "write_zeroes_max_bytes") == 64 * images.MIB
    # What is read-only gives nothing back.
    assert queue(vm, "vda", "discard_max_bytes") == 0
    assert queue(vm, "vda", "write_zeroes_max_bytes") == 0


@linux()
def test_discard_gives_space_back(t):
    vm = guest(t)
    file, before = path(t, "space"), blocks(path(t, "space"))
    head, tail = read(file, 0, 4 * images.MIB), read(file, 12 * images.MIB,
                                                     4 * images.MIB)
    vm.sh(f"blkdiscard -o {4 * images.MIB} -l {8 * images.MIB} /dev/vdb",
          scaled(20))
    assert before - blocks(file) == 8 * images.MIB // 512
    assert os.stat(file).st_size == SIZE
    assert read(file, 0, 4 * images.MIB) == head
    assert read(file, 12 * images.MIB, 4 * images.MIB) == tail
    assert not any(read(file, 4 * images.MIB, 8 * images.MIB))
    drive = counters(vm, "space")
    assert drive["discards"] >= 1 and drive["errors"] == 0, drive


@linux()
def test_write_zeroes_moves_no_zeroes(t):
    vm = guest(t)
    file = path(t, "space")
    tail = read(file, 14 * images.MIB, 2 * images.MIB)
    before = counters(vm, "space")
    # BLKZEROOUT on the range from 12 to 14 MiB, which has data.
    span = b"".join(n.to_bytes(8, "little")
                    for n in (12 * images.MIB, 2 * images.MIB)).hex()
    vm.sh(f"socat -u /dev/null FILE:/dev/vdb,ioctl-bin=0x127f:x{span} "
          "2>&1 || true", scaled(20))
    after = counters(vm, "space")
    assert not any(read(file, 12 * images.MIB, 2 * images.MIB))
    assert read(file, 14 * images.MIB, 2 * images.MIB) == tail
    assert after["write_zeroes"] > before["write_zeroes"], after
    assert after["write_bytes"] == before["write_bytes"], after
    assert after["malformed"] == after["errors"] == 0, after


@linux()
def test_disk_grows_and_moves_under_a_guest(t):
    vm = guest(t)
    file, other = path(t, "live"), path(t, "other")

    def size_is(n):
        eventually(f"{n} sectors in the guest", lambda: int(
            vm.sh("cat /sys/block/vdc/size")) == n, scaled(10))

    os.truncate(file, SIZE + 4 * images.MIB)
    patch(vm, "live")
    size_is(SIZE // 512 + 8192)
    vm.sh(f"echo -n mark | dd of=/dev/vdc bs=512 seek={SIZE // 512 + 8191} "
          "conv=notrunc,fsync 2>/dev/null", scaled(20))
    assert read(file, SIZE + 4 * images.MIB - 512, 4) == b"mark"
    # Another file, smaller than that, while the guest reads and writes.
    vm.sh("(while :; do dd if=/dev/vdc of=/dev/null bs=64k count=20 "
          "iflag=direct 2>/dev/null || exit; done) & echo $! > /tmp/reader")
    patch(vm, "live", path_on_host=other)
    size_is(SIZE // 512)
    vm.sh("kill $(cat /tmp/reader)")
    out = vm.sh("dd if=/dev/vdc bs=1M iflag=direct 2>/dev/null | sha256sum",
                scaled(60))
    assert out.split()[0] == images.sha256(other)
    drive = counters(vm, "live")
    assert drive["errors"] == drive["malformed"] == 0, drive
    # Nobody has the old one open any more: it can be leased.
    eventually("the old file is let go of", lambda: is_unused(file),
               scaled(10))
    assert not is_unused(other)
    # The configuration says the same.
    config = next(d for d in vm.config()["drives"] if d["drive_id"] == "live")
    assert config["path_on_host"] == other


def is_unused(file):
    fd = os.open(file, os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


@linux()
def test_rate_limits_hold(t):
    vm = guest(t)
    rate, ops = 512 << 10, 40
    patch(vm, "bytes", rate_limiter={
        "bandwidth": {"size": rate // 4, "refill_time": 250}})
    patch(vm, "ops", rate_limiter={
        "ops": {"size": ops // 4, "refill_time": 250}})
    vm.sh("for d in vdd vde; do (while :; do dd if=/dev/$d of=/dev/null "
          "bs=16k count=500 iflag=direct 2>/dev/null || exit; done) & "
          "echo $! >> /tmp/readers; done")
    time.sleep(1.5)  # the buckets start full

    def look():
        before = time.monotonic()
        a, b = counters(vm, "bytes"), counters(vm, "ops")
        return (before + time.monotonic()) / 2, a, b

    begin, bytes_1, ops_1 = look()
    time.sleep(SECONDS)
    end, bytes_2, ops_2 = look()
    took = end - begin
    got_bytes = (bytes_2["read_bytes"] - bytes_1["read_bytes"]) / took
    got_ops = (ops_2["reads"] - ops_1["reads"]) / took
    assert abs(got_bytes / rate - 1) < 0.1, (got_bytes, rate)
    assert abs(got_ops / ops - 1) < 0.1, (got_ops, ops)
    assert bytes_2["throttled"] > bytes_1["throttled"]
    # Without limits what waited goes on at once, and faster than that.
    for drive_id in ("bytes", "ops"):
        patch(vm, drive_id, rate_limiter={
            "bandwidth": {"size": 0, "refill_time": 0},
            "ops": {"size": 0, "refill_time": 0}})
    before = counters(vm, "ops")
    eventually("more requests than the limit allowed", lambda:
               counters(vm, "ops")["reads"] - before["reads"] > 10 * ops,
               scaled(9))
    vm.sh("kill $(cat /tmp/readers)")
    assert counters(vm, "ops")["errors"] == 0
