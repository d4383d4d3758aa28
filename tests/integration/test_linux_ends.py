"""How a Linux guest can end, and that each way is told as what it is."""

import os
import signal
import subprocess

import guests
import images
import proc
from harness import check_exit, linux, scaled


def debugfs(image, command):
    return subprocess.run(["debugfs", "-R", command, image], check=True,
                          capture_output=True).stdout


def check_clean(image):
    fsck = subprocess.run(["e2fsck", "-fn", image], capture_output=True,
                          encoding="utf-8")
    assert fsck.returncode == 0, fsck.stdout


@linux()
def test_power_off_leaves_what_was_written_on_the_disk(t):
    root = images.own_rootfs(t.path("root"))
    vm = guests.linux(t, images.linux(images.bzimage(), root))
    vm.sh("echo written in the guest > /root/note")
    digest = vm.sh("dd if=/dev/urandom of=/root/big bs=1M count=12 "
                   "2>/dev/null && sha256sum < /root/big",
                   scaled(30)).split()[0]
    vm.type("poweroff\n")
    info = check_exit(vm, "shutdown", scaled(20))
    assert not info.get("pid"), info
    vm.console.wait_end()
    check_clean(root)
    assert debugfs(root, "cat /root/note") == b"written in the guest\n"
    copy = t.path("copy")
    debugfs(root, f"dump /root/big {copy}")
    assert images.sha256(copy) == digest


@linux()
def test_kill_keeps_what_was_synced(t):
    root = images.own_rootfs(t.path("root"))
    vm = guests.linux(t, images.linux(images.bzimage(), root,
                              cache_type="Writeback"))
    vm.sh("echo synced > /root/note && sync", scaled(20))
    pid = vm.pid
    os.kill(pid, signal.SIGKILL)
    info = check_exit(vm, "killed")
    assert info["exit"]["signal"] == signal.SIGKILL, info
    assert not proc.exists(pid)
    # The journal is replayed, as the next boot would.
    fsck = subprocess.run(["e2fsck", "-fy", root], capture_output=True)
    assert fsck.returncode in (0, 1), fsck.stdout
    assert debugfs(root, "cat /root/note") == b"synced\n"


@linux()
def test_reboot_is_a_reset(t):
    vm = guests.linux(t, images.linux(images.bzimage()))
    vm.type("reboot\n")
    check_exit(vm, "reset", scaled(20))


@linux()
def test_panic_is_told(t):
    # What waits for packets and peers must not keep the VM from its end.
    disk = images.blank(t.path("disk"), images.MIB)
    vm = guests.linux(t, images.linux(
        images.bzimage(), drives=[images.drive(disk)], sections={
            "network-interfaces": [
                {"iface_id": "eth0", "host_dev_name": "mfpanic0",
                 "create": True}],
            "entropy": {},
            "balloon": {"amount_mib": 8, "deflate_on_oom": False,
                        "stats_polling_interval_s": 1}}))
    vm.sh("ip link set eth0 up")
    vm.type("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger\n")
    check_exit(vm, "panic", scaled(20))


@linux()
def test_ctrl_alt_del_ends_in_a_power_off(t):
    vm = guests.linux(t, images.linux(images.vmlinux(), vcpus=2))
    vm.ctrl_alt_del()
    check_exit(vm, "shutdown", scaled(20))


@linux()
def test_paused_guest_is_deleted(t):
    vm = guests.linux(t, images.linux(images.bzimage()))
    vm.pause()
    pid = vm.pid
    vm.delete()
    assert not proc.exists(pid)
