"""Memory of all kinds under a guest that touches what it is told to."""

import images
from harness import eventually, native
from poke import GIB, Poke, set_huge_pages
from proc import memory_kib, status

MIB = images.MIB
PLUG, UNPLUG, UNPLUG_ALL = 0, 1, 2
ACK, NACK, ERROR = 0, 1, 3
NOTHING = (1 << 64) - 1


def pmem(path, **more):
    return {"id": "p" + str(len(more)), "path_on_host": path, **more}


@native()
def test_memory_on_both_sides_of_the_hole(t):
    guest = Poke(t, mem_mib=3584)
    high = 4 * GIB + 512 * MIB
    ends = [2 * MIB, 3 * GIB - 8, 4 * GIB, high - 8]
    for n, address in enumerate(ends):
        guest.write(address, 0x1111111111111111 * (n + 1))
    for n, address in enumerate(ends):
        assert guest.read(address) == 0x1111111111111111 * (n + 1)
    # Behind each end there is nothing, and what is written there is lost.
    for address in [3 * GIB, high]:
        guest.write(address, 0)
        assert guest.read(address) == NOTHING
    assert memory_kib(guest.vm.pid, "Pss") < 64 * 1024


@native()
def test_memory_is_plugged_and_unplugged(t):
    guest = Poke(t, **{"memory-hotplug": {
        "total_size_mib": 512, "block_size_mib": 2, "slot_size_mib": 128,
        "requested_size_mib": 64}})
    vm, region = guest.vm, 4 * GIB

    def state():
        return vm.daemon.api.ok("GET", vm.url("hotplug/memory"))

    guest.drive()
    assert guest.config(16) == region
    assert guest.read(region) == NOTHING
    assert guest.plug(PLUG, region, 2) == ACK
    guest.write(region, 0x1234)
    guest.write(region + 4 * MIB - 8, 0x5678)
    assert guest.read(region) == 0x1234
    assert guest.read(region + 4 * MIB - 8) == 0x5678
    assert state()["plugged_size_mib"] == 4, state()
    # Not where the request does not reach, not twice, not more than it.
    assert guest.plug(PLUG, region + 128 * MIB, 1) == ERROR
    assert guest.plug(PLUG, region + 2 * MIB, 2) == ERROR
    assert guest.plug(PLUG, region + 4 * MIB, 31) == NACK
    assert guest.read(region + 128 * MIB) == NOTHING
    # More is asked for: four slots, and then all of it goes again.
    vm.daemon.api.ok("PATCH", vm.url("hotplug/memory"),
                     {"requested_size_mib": 512})
    assert guest.config(48) == 512 * MIB
    assert guest.plug(PLUG, region + 4 * MIB, 254) == ACK
    for slot in range(4):
        guest.write(region + slot * 128 * MIB + 64, slot)
    assert state()["plugged_size_mib"] == 512, state()
    assert guest.plug(UNPLUG, region + 128 * MIB, 64) == ACK
    assert guest.read(region + 128 * MIB + 64) == NOTHING
    assert guest.read(region + 256 * MIB + 64) == 2
    assert guest.plug(UNPLUG_ALL, 0, 0) == ACK
    assert guest.read(region) == NOTHING
    assert state()["plugged_size_mib"] == 0, state()
    assert vm.state == "Running"


@native()
def test_unplugged_memory_returns_to_the_host(t):
    guest = Poke(t, **{"memory-hotplug": {
        "total_size_mib": 128, "requested_size_mib": 128}})
    guest.drive()
    # What is shared with other processes counts by how many they are.
    before = memory_kib(guest.vm.pid, "Anonymous")
    assert guest.plug(PLUG, 4 * GIB, 64) == ACK
    for n in range(64):
        guest.write(4 * GIB + n * 2 * MIB, n)
    assert guest.read(4 * GIB + 126 * MIB) == 63
    # Small pages or large ones, as the host likes.
    assert memory_kib(guest.vm.pid, "Anonymous") >= before + 64 * 4
    assert guest.plug(UNPLUG, 4 * GIB, 32) == ACK
    half = memory_kib(guest.vm.pid, "Anonymous")
    assert guest.read(4 * GIB + 64 * MIB) == 32
    assert guest.plug(UNPLUG_ALL, 0, 0) == ACK
    assert memory_kib(guest.vm.pid, "Anonymous") < before + 100 <= half + 200
    # It comes back empty.
    assert guest.plug(PLUG, 4 * GIB, 64) == ACK
    assert guest.read(4 * GIB + 2 * MIB) == 0


@native()
def test_pmem_is_the_file(t):
    path = images.blank(t.path("pmem"), 2 * MIB + 5000)
    with open(path, "r+b") as f:
        f.write(b"from the host")
    guest = Poke(t, pmem=[pmem(path)])
    base = 4 * GIB
    assert guest.read(base) == int.from_bytes(b"from the", "little")
    guest.write(base + 2 * MIB + 4992, int.from_bytes(b"by guest", "little"))
    # Behind the file: memory, of which nothing remains.
    guest.write(base + 4 * MIB - 8, 77)
    assert guest.read(base + 4 * MIB - 8) == 77
    assert guest.read(base + 4 * MIB) == NOTHING
    guest.drive()
    assert (guest.config(0), guest.config(8)) == (base, 4 * MIB)
    assert guest.request(bytes(4), 4) & 0xffffffff == 0
    counters = guest.vm.get()["counters"]["pmem"][0]
    assert counters["flushes"] == 1 and counters["errors"] == 0, counters
    with open(path, "rb") as f:
        f.seek(2 * MIB + 4992)
        assert f.read() == b"by guest"


@native()
def test_read_only_pmem_cannot_be_written(t):
    path = images.blank(t.path("pmem"), 2 * MIB)
    guest = Poke(t, pmem=[pmem(path, read_only=True)])
    guest.write(4 * GIB + 8, 1234)
    assert guest.read(4 * GIB + 8) == 0
    assert guest.vm.state == "Running"
    with open(path, "rb") as f:
        assert f.read() == bytes(2 * MIB)


@native()
def test_memory_of_huge_pages(t):
    set_huge_pages(t, 16 + 64)
    guest = Poke(t, mem_mib=32, huge_pages="2M", **{"memory-hotplug": {
        "total_size_mib": 128, "requested_size_mib": 128}})
    guest.write(16 * MIB, 99)
    assert guest.read(16 * MIB) == 99
    used = int(status(guest.vm.pid)["HugetlbPages"].split()[0])
    assert 2048 <= used <= 32 * 1024, used
    # All are taken: none is left for another, which hears why.
    reply = t.api.request("PUT", "/v1/vms/second", {
        **images.puppet(), "start": True, "machine-config": {
            "vcpu_count": 1, "mem_size_mib": 16, "huge_pages": "2M"}})
    assert 400 <= reply.status < 500, reply
    assert "machine-config.huge_pages" in reply.fault, reply
    assert "nr_hugepages" in reply.fault, reply
    assert t.api.request("GET", "/v1/vms/second").status == 404
    # Plugged memory is of them, and they stay the VM's.
    guest.drive()
    assert guest.plug(PLUG, 4 * GIB, 64) == ACK
    guest.write(4 * GIB + 64 * MIB, 5)
    assert guest.read(4 * GIB + 64 * MIB) == 5
    assert guest.plug(UNPLUG_ALL, 0, 0) == ACK
    assert guest.read(4 * GIB + 64 * MIB) == NOTHING
    more = int(status(guest.vm.pid)["HugetlbPages"].split()[0])
    assert more >= used + 2048, (used, more)
    guest.vm.delete()
    eventually("free huge pages", lambda: "HugePages_Free:       80" in open(
        "/proc/meminfo", encoding="ascii").read())
