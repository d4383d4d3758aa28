#!/usr/bin/python3
"""Extract the uncompressed vmlinux out of an x86 bzImage.

usage: vmlinux.py BZIMAGE VMLINUX

The boot protocol (2.08 and later) says where the compressed kernel lies:
payload_offset counts from the start of the protected-mode code, and the
payload's last four bytes are its uncompressed size (gzip has them anyway).
"""

import gzip
import lzma
import struct
import subprocess
import sys

SECTOR = 512
HDRS = b"HdrS"


def pipe(command, data):
    return subprocess.run(
        command, input=data, stdout=subprocess.PIPE, check=True
    ).stdout


FORMATS = [
    # magic, name, decompressor of (payload with trailing size)
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"\xfd7zXZ\x00", "xz", lambda p: lzma.LZMADecompressor().decompress(p)),
    (b"\x28\xb5\x2f\xfd", "zstd", lambda p: pipe(["zstd", "-dc"], p[:-4])),
    (b"\x02\x21\x4c\x18", "lz4", lambda p: pipe(["lz4", "-dc"], p[:-4])),
    (b"\x7fELF", "none", lambda p: p),
]


def payload(image):
    if len(image) < 0x250 or image[0x202:0x206] != HDRS:
        raise ValueError("not a bzImage: no HdrS at 0x202")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise ValueError(f"boot protocol {version:#x} has no payload field")
    setup_sects = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * SECTOR + offset
    if length < 8 or start + length > len(image):
        raise ValueError("payload lies outside of the image")
    return image[start : start + length]


def elf_end(elf):
    """Where the ELF file ends: the kernel appends its relocations to it."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("payload is not a 64-bit ELF file")
    phoff, shoff = struct.unpack_from("<QQ", elf, 0x20)
    phentsize, phnum, shentsize, shnum = struct.unpack_from("<HHHH", elf, 0x36)
    ends = [phoff + phentsize * phnum, shoff + shentsize * shnum]
    for i in range(phnum):
        segment = phoff + i * phentsize
        (start,) = struct.unpack_from("<Q", elf, segment + 8)
        (size,) = struct.unpack_from("<Q", elf, segment + 32)
        ends.append(start + size)
    return max(ends)


def extract(image):
    data = payload(image)
    for magic, _, decompress in FORMATS:
        if data.startswith(magic):
            elf = decompress(data)
            return elf[: elf_end(elf)]
    raise ValueError(f"unknown compression, magic {data[:4].hex()}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        image = file.read()
    try:
        elf = extract(image)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"vmlinux.py: {sys.argv[1]}: {error}")
    with open(sys.argv[2], "wb") as file:
        file.write(elf)


if __name__ == "__main__":
    main()
