"""The guest that reads and writes memory (tests/guests/poke.S), and a driver
of virtio-mem made of that."""

import os
import struct

from harness import eventually

GIB = 1 << 30
RINGS = 0x400000  # of the guest's RAM: descriptors, available, used, data
VIRTIO = 0xd0000000
NR_HUGE = "/proc/sys/vm/nr_hugepages"


def set_huge_pages(t, n):
    with open(NR_HUGE, encoding="ascii") as f:
        before = f.read().strip()

    def put(value):
        with open(NR_HUGE, "w", encoding="ascii") as f:
            f.write(str(value))

    t.cleanup(put, before)
    put(n)
    with open(NR_HUGE, encoding="ascii") as f:
        assert int(f.read()) == n, "the host has no huge pages to give"


class Poke:
    def __init__(self, t, mem_mib=16, **sections):
        kernel = os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                              "poke.elf")
        huge = sections.pop("huge_pages", "None")
        self.vm = t.vm({
            "boot-source": {"kernel_image_path": kernel},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": mem_mib,
                               "huge_pages": huge},
            **sections,
        }, start=True)
        self.vm.expect("poke ready")

    def write(self, address, value):
        self.vm.type(f"{address:x}s{value:x}w")

    def read(self, address):
        self.vm.type(f"{address:x}sr")
        return int(self.vm.expect("([0-9a-f]{16})\n").group(1), 16)

    def write32(self, address, value):
        self.vm.type(f"{address:x}s{value:x}W")

    def read32(self, address):
        self.vm.type(f"{address:x}sR")
        return int(self.vm.expect("([0-9a-f]{16})\n").group(1), 16)

    def bytes(self, address, data):
        data += bytes(-len(data) % 8)
        self.vm.type("".join(
            f"{address + i:x}s{struct.unpack_from('<Q', data, i)[0]:x}w"
            for i in range(0, len(data), 8)))

    def drive(self, device=0):
        """Brings up a device with one queue of 8."""
        base = VIRTIO + device * 0x1000
        desc, avail, used = RINGS, RINGS + 0x1000, RINGS + 0x2000
        self.used = 0
        self.base = base
        for offset, value in [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1),
                              (0x20, 1), (0x70, 11), (0x30, 0), (0x38, 8),
                              (0x80, desc), (0x90, avail), (0xa0, used),
                              (0x44, 1), (0x70, 15)]:
            self.write32(base + offset, value)
        assert self.read32(base + 0x70) == 15

    def request(self, data, response_bytes):
        """One request to the device, and its response."""
        place = RINGS + 0x3000
        self.bytes(place, data)
        self.bytes(RINGS, struct.pack("<QIHHQIHH", place, len(data), 1, 1,
                                      place + 0x100, response_bytes, 2, 0))
        self.used += 1
        self.write32(RINGS + 0x1000, self.used << 16)
        self.write32(self.base + 0x50, 0)
        eventually("a used buffer", lambda: self.read32(
            RINGS + 0x2000) >> 16 == self.used)
        return self.read(place + 0x100)

    def config(self, offset):
        return self.read32(self.base + 0x100 + offset) | self.read32(
            self.base + 0x104 + offset) << 32

    def plug(self, kind, address, blocks):
        """A request to virtio-mem: the type of its response."""
        return self.request(struct.pack("<HxxxxxxQHxxxxxx", kind, address,
                                        blocks), 10) & 0xffff
