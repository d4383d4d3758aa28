"""Guest images: the puppet, Debian's kernels, and disks made for one test."""

import functools
import hashlib
import os
import subprocess

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                     "..", "..", "tools", "guest")
MIB = 1 << 20


@functools.cache
def made(name, *command):
    """The path of a guest image: what MAYFLY_NAME says, where somebody has
    looked it up already (that takes its time in the test bed), else what the
    script of tools/guest prints."""
    path = os.environ.get("MAYFLY_" + name)
    return path or subprocess.run(
        [os.path.join(TOOLS, command[0]), *command[1:]], check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        encoding="utf-8").stdout.strip()


def bzimage():
    return made("BZIMAGE", "kernel", "--bzimage")


def vmlinux():
    return made("VMLINUX", "kernel", "--vmlinux")


def initrd():
    return made("INITRD", "initrd")


def rootfs():
    return made("ROOTFS", "rootfs")


def tools():
    """The root disk with curl, ethtool, iperf3 and socat: to be shared, so
    read-only."""
    return made("TOOLS", "rootfs", "--size", "128", "--with", "curl",
                "--with", "ethtool", "--with", "iperf3", "--with", "socat")


def own_rootfs(path):
    """A copy that a test may write to; returns its path."""
    subprocess.run(["cp", "--sparse=always", rootfs(), path], check=True)
    return path


def linux(kernel, root=None, drives=(), args="", vcpus=1, mem_mib=128,
          read_only=False, sections=None, **root_more):
    """A Linux guest's configuration: its shell is for programs. sections: the
    other devices, as the API's document has them."""
    drives = list(drives)
    if root:
        drives.insert(0, drive(root, "root", True, is_read_only=read_only,
                               **root_more))
    return {
        "boot-source": {
            "kernel_image_path": kernel,
            "initrd_path": initrd(),
            "boot_args": "console=ttyS0 quiet mayfly.shell=plain " + args,
        },
        "machine-config": {"vcpu_count": vcpus, "mem_size_mib": mem_mib},
        "drives": drives,
        **(sections or {}),
    }


def linux_with_tools(args="", sections=None, **more):
    """The same on the disk of tools()."""
    return linux(bzimage(), root=tools(), read_only=True, args=args,
                 sections=sections, **more)


def puppet_kernel():
    """tests/guests/puppet.S as an ELF kernel; see there for what it does."""
    return os.path.join(os.environ["MAYFLY_BUILD"],
                        "tests", "guests", "puppet.elf")


def puppet(mem_mib=16, vcpus=1, **sections):
    """A VM's whole configuration with the puppet in it."""
    return {
        "boot-source": {"kernel_image_path": puppet_kernel()},
        "machine-config": {"vcpu_count": vcpus, "mem_size_mib": mem_mib},
        **sections,
    }


def drive(path, drive_id="disk", root=False, **more):
    return {"drive_id": drive_id, "path_on_host": path,
            "is_root_device": root, **more}


def blank(path, size):
    """A sparse file; returns its path."""
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def random_file(path, size):
    """A file with content that repeats nowhere; returns its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        left = size
        while left:
            piece = os.urandom(min(left, MIB))
            digest.update(piece)
            f.write(piece)
            left -= len(piece)
    return digest.hexdigest()


def sha256(path, offset=0, size=None):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        f.seek(offset)
        left = os.path.getsize(path) - offset if size is None else size
        while left:
            piece = f.read(min(left, MIB))
            if not piece:
                raise AssertionError(f"{path} ends {left} bytes early")
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
