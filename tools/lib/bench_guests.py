"""The guest of tools/bench devices, on Mayfly and on QEMU.

Both give a console with a shell for programs, a disk named "data", a tap and a
vsock; both tell the threads of the process that serves the guest.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "..", "tests", "integration"))
import mayfly  # noqa: E402  pylint: disable=wrong-import-position

GREETING = r"Hello from a Mayfly guest: .*\n"
MEM_MIB = 512
CID = 42
MAC = "06:00:ac:10:00:02"
ARGS = "console=ttyS0 quiet mayfly.shell=plain root=LABEL=mayfly ro"


def ip(*args):
    subprocess.run(["ip", *args], check=True)


class Guest:
    """What the two have in common. run() is theirs."""

    name = tap = None

    def sh(self, command, timeout=600):
        status, out = self.run(command, timeout)
        if status != 0:
            raise RuntimeError(f"{self.name}: {command!r}: {status}: {out}")
        return out.strip()

    def set_up(self, groups):
        """Where the disk is; network addresses."""
        self.disk = "/dev/" + self.sh(
            "cd /sys/block; for d in vd*; do read -r s <$d/serial; "
            "[ \"$s\" = data ] && echo $d; done; true")
        if "net" not in groups:
            return
        ip("addr", "add", f"{self.host_ip}/24", "dev", self.tap)
        ip("link", "set", self.tap, "up")
        self.sh(f"ip addr add {self.guest_ip}/24 dev eth0 && "
                "ip link set eth0 up")

    def threads(self):
        return [int(t) for t in os.listdir(f"/proc/{self.pid}/task")]


class Mayfly(Guest):
    name = "Mayfly"
    tap, host_ip, guest_ip = "mayflyb0", "172.30.1.1", "172.30.1.2"

    def __init__(self, options, directory):
        self.daemon = mayfly.Daemon(
            os.path.join(options.build, "daemon", "mayflyd"), directory)
        self.uds = os.path.join(directory, "vsock")
        config = {
            "boot-source": {"kernel_image_path": options.kernel,
                            "initrd_path": options.initrd,
                            "boot_args": ARGS},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": MEM_MIB},
            "drives": [
                {"drive_id": "root", "path_on_host": options.root,
                 "is_root_device": False, "is_read_only": True},
                {"drive_id": "data", "path_on_host": options.disk,
                 "is_root_device": False}],
        }
        if "net" in options.groups:
            config["network-interfaces"] = [
                {"iface_id": "eth0", "host_dev_name": self.tap,
                 "create": True, "guest_mac": MAC}]
        if "vsock" in options.groups:
            config["vsock"] = {"guest_cid": CID, "uds_path": self.uds}
        begin = time.monotonic()
        self.vm = mayfly.Vm(self.daemon, config, start=True)
        self.vm.expect(GREETING, 300)
        self.boot_s = time.monotonic() - begin
        self.pid = self.vm.get()["pid"]
        self.set_up(options.groups)

    def run(self, command, timeout=600):
        return self.vm.run(command, timeout)

    def vsock_listen(self, port):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind(f"{self.uds}_{port}")
        s.listen()
        return s

    def vsock_connect(self, port):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(self.uds)
        s.sendall(b"CONNECT %d\n" % port)
        answer = s.recv(32)
        if not answer.startswith(b"OK "):
            raise ConnectionRefusedError(answer)
        return s

    def close(self):
        self.vm.delete()
        self.daemon.close()


class Qemu(Guest):
    name = "QEMU microvm"
    tap, host_ip, guest_ip = "mayflyb1", "172.30.2.1", "172.30.2.2"

    def __init__(self, options, directory):
        del directory
        self.has_tap = "net" in options.groups
        command = [
            "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host",
            "-M", "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,"
            "isa-serial=on,acpi=on",
            "-global", "virtio-mmio.force-legacy=false",
            "-m", str(MEM_MIB), "-smp", "1", "-nodefaults",
            "-no-user-config", "-display", "none", "-serial", "stdio",
            "-kernel", options.kernel, "-initrd", options.initrd,
            "-append", ARGS + " reboot=t panic=-1",
            "-object", "iothread,id=io",
            "-drive", f"id=r,if=none,format=raw,readonly=on,"
            f"file={options.root}",
            "-device", "virtio-blk-device,drive=r,serial=root",
            "-drive", f"id=d,if=none,format=raw,cache=none,aio=io_uring,"
            f"file={options.disk}",
            "-device", "virtio-blk-device,drive=d,serial=data,iothread=io"]
        if self.has_tap:
            ip("tuntap", "add", self.tap, "mode", "tap", "vnet_hdr")
            command += ["-netdev", f"tap,id=n,ifname={self.tap},script=no,"
                        "downscript=no,vhost=off",
                        "-device", f"virtio-net-device,netdev=n,mac={MAC}"]
        if "vsock" in options.groups:
            command += ["-device", f"vhost-vsock-device,guest-cid={CID}"]
        begin = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.data = b""
        self.commands = 0
        self._expect(GREETING, 300)
        self.boot_s = time.monotonic() - begin
        self.set_up(options.groups)

    def _expect(self, pattern, timeout):
        """Reads until the pattern is there; what came before it."""
        deadline = time.monotonic() + timeout
        out = self.process.stdout.fileno()
        while True:
            m = re.search(pattern.encode(), self.data)
            if m:
                before, self.data = self.data[:m.start()], self.data[m.end():]
                return before, m
            ready, _, _ = select.select(
                [out], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(out, 65536) if ready else b""
            if not piece:
                raise RuntimeError(f"QEMU's guest: no {pattern!r} after "
                                   f"{self.data[-500:]!r}")
            self.data += piece

    def run(self, command, timeout=600):
        self.commands += 1
        tag = f"done{self.commands}"
        line = f"{command}\necho {tag[:2]}''{tag[2:]}=$?\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        out, m = self._expect(rf"{tag}=(\d+)\r?\n", timeout)
        return int(m.group(1)), out.decode().replace("\r\n", "\n")

    def vsock_listen(self, port):
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.bind((socket.VMADDR_CID_ANY, port))
        s.listen()
        return s

    def vsock_connect(self, port):
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.connect((CID, port))
        return s

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.has_tap:
            ip("link", "del", self.tap)
