"""The steps with which one gets started with Firecracker, one by one, against
our `firecracker`: curl at its socket, and a configuration file."""

import json
import os
import re
import subprocess

import images
from guests import GREETING
from harness import Skip, eventually, linux, scaled

TAP = "mf-fc-tap"
HOST, GUEST = "172.16.0.1", "172.16.0.2"
# The kernel finds its disk by drivers that are modules, so it has an initrd;
# a configuration that is otherwise the guide's.
BOOT_ARGS = "console=ttyS0 reboot=k panic=1 quiet mayfly.shell=plain"

# In a directory with the program's name in FC, a kernel, an initrd and a root
# disk.
STEPS = r"""
set -e
API_SOCKET="$PWD/firecracker.socket"
LOGFILE="./firecracker.log"
touch $LOGFILE

curl --fail-with-body -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"log_path\": \"${LOGFILE}\",
        \"level\": \"Debug\",
        \"show_level\": true,
        \"show_log_origin\": true
    }" \
    "http://localhost/logger"

KERNEL="./$(ls vmlinux* | tail -1)"
curl --fail-with-body -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"kernel_image_path\": \"${KERNEL}\",
        \"initrd_path\": \"./initrd\",
        \"boot_args\": \"${KERNEL_BOOT_ARGS}\"
    }" \
    "http://localhost/boot-source"

ROOTFS="./$(ls *.ext4 | tail -1)"
curl --fail-with-body -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"drive_id\": \"rootfs\",
        \"path_on_host\": \"${ROOTFS}\",
        \"is_root_device\": true,
        \"is_read_only\": false
    }" \
    "http://localhost/drives/rootfs"

curl --fail-with-body -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"iface_id\": \"net1\",
        \"guest_mac\": \"06:00:AC:10:00:02\",
        \"host_dev_name\": \"$TAP_DEV\"
    }" \
    "http://localhost/network-interfaces/net1"

curl --fail-with-body -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"action_type\": \"InstanceStart\"
    }" \
    "http://localhost/actions"
"""


class Shell:
    """The first of the two shells: the program, and the guest's console."""

    def __init__(self, t, *words):
        program = os.path.join(t.build, "api", "firecracker", "firecracker")
        self.process = subprocess.Popen(
            [program, *words], cwd=t.dir, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "MAYFLY_SOCKET": t.daemon.socket})
        self.seen = b""
        os.set_blocking(self.process.stdout.fileno(), False)
        t.cleanup(self.close)

    def close(self):
        self.process.kill()
        self.process.communicate(timeout=20)

    def expect(self, pattern, seconds):
        def look():
            try:
                self.seen += os.read(self.process.stdout.fileno(), 65536)
            except BlockingIOError:
                pass
            return re.search(pattern, self.seen.decode(errors="replace"))
        try:
            return eventually(pattern, look, scaled(seconds), 0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.seen[-600:]!r}") from e

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()


def make_directory(t):
    os.symlink(images.vmlinux(), t.path("vmlinux-6.1"))
    os.symlink(images.initrd(), t.path("initrd"))
    images.own_rootfs(t.path("debian.ext4"))


def make_tap(t):
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")

    def ip(*words, check=True):
        subprocess.run(["ip", *words], check=check)
    ip("tuntap", "add", "dev", TAP, "mode", "tap")
    t.cleanup(lambda: ip("link", "del", TAP, check=False))
    ip("addr", "add", HOST + "/30", "dev", TAP)
    ip("link", "set", "dev", TAP, "up")


def use_and_leave(shell):
    """The guest answers, reaches the host, and ends by its reboot."""
    shell.expect(GREETING, 60)
    shell.type("ip addr add " + GUEST + "/30 dev eth0; ip link set eth0 up; "
               "ping -c 1 -W 20 " + HOST + " && echo rea''ched")
    shell.expect("reached", 40)
    shell.type("cat /sys/class/net/eth0/address; grep ' / ' /proc/mounts")
    shell.expect("06:00:ac:10:00:02(.|\n)* / ext4 rw", 20)
    shell.type("reboot")
    assert shell.process.wait(scaled(40)) == 0


@linux()
def test_getting_started_with_curl(t):
    make_directory(t)
    make_tap(t)
    shell = Shell(t, "--api-sock", t.path("firecracker.socket"))
    eventually("a socket",
               lambda: os.path.exists(t.path("firecracker.socket")))
    done = subprocess.run(
        ["bash", "-c", STEPS], cwd=t.dir, capture_output=True, text=True,
        env={**os.environ, "TAP_DEV": TAP, "KERNEL_BOOT_ARGS": BOOT_ARGS},
        timeout=scaled(60), check=False)
    assert done.returncode == 0, done
    use_and_leave(shell)
    with open(t.path("firecracker.log"), encoding="ascii") as f:
        log = f.read()
    assert "INFO:" in log and "PUT /drives/{drive_id}: 204" in log, log
    assert "PUT /actions: 204" in log and "ended: reset" in log, log
    assert not os.path.exists(t.path("firecracker.socket"))


@linux()
def test_getting_started_with_a_configuration_file(t):
    make_directory(t)
    make_tap(t)
    with open(t.path("vm_config.json"), "w", encoding="ascii") as f:
        json.dump({
            "boot-source": {"kernel_image_path": "vmlinux-6.1",
                            "boot_args": BOOT_ARGS, "initrd_path": "initrd"},
            "drives": [{"drive_id": "rootfs", "partuuid": None,
                        "is_root_device": True, "cache_type": "Unsafe",
                        "is_read_only": False, "path_on_host": "debian.ext4",
                        "io_engine": "Sync", "rate_limiter": None,
                        "socket": None}],
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 256,
                               "smt": False, "track_dirty_pages": False,
                               "huge_pages": "None"},
            "cpu-config": None, "balloon": None,
            "network-interfaces": [{
                "iface_id": "net1", "guest_mac": "06:00:AC:10:00:02",
                "host_dev_name": TAP}],
            "vsock": {"guest_cid": 3, "uds_path": "v.sock"},
            "logger": {"log_path": "fc.log"},
            "metrics": {"metrics_path": "fc.metrics"},
            "mmds-config": None, "entropy": None}, f)
    shell = Shell(t, "--no-api", "--config-file", "vm_config.json")
    use_and_leave(shell)
    with open(t.path("fc.metrics"), encoding="ascii") as f:
        lines = [json.loads(line) for line in f]
    assert sum(line["block_rootfs"]["read_count"] for line in lines) > 10
    assert sum(line["net_net1"]["tx_packets_count"] for line in lines) > 0
    assert not os.path.exists(t.path("v.sock"))
