"""Taps and the VMs that have them: who ends, and what comes after. Each test has
a daemon in a network namespace of its own."""

import concurrent.futures
import itertools
import os
import subprocess

import images
import mayfly
from harness import native, program

NUMBERS = itertools.count()


class Host:
    """A network namespace with a daemon in it."""

    def __init__(self, t):
        self.t = t
        self.name = f"mft{os.getpid()}x{next(NUMBERS)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        t.cleanup(subprocess.run, ["ip", "netns", "del", self.name])
        self.daemon = mayfly.Daemon(
            program(t.build), t.path("d"),
            prefix=("nsenter", f"--net=/run/netns/{self.name}"))
        t.cleanup(self.daemon.close)
        self.api = self.daemon.api

    def ip(self, *words):
        subprocess.run(["ip", "-n", self.name, *words], check=True)

    def tap(self, name, *more):
        self.ip("tuntap", "add", name, "mode", "tap", "vnet_hdr", *more)
        self.ip("link", "set", name, "up")

    def devices(self):
        out = subprocess.run(["ip", "-n", self.name, "-br", "link"],
                             check=True, capture_output=True, text=True)
        return {line.split()[0] for line in out.stdout.splitlines()}


    def hold(self, name):
        """Somebody else opens a queue of the tap, until the returned process's
        input ends."""
        holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.name}", "python3", "-c",
             HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.t.cleanup(holder.wait, 10)
        self.t.cleanup(holder.stdin.close)
        assert holder.stdout.readline() == b"held\n"
        return holder


HOLD = """
import fcntl, os, struct, sys
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 2, 0x1000, 0x4000, 0x100
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", sys.argv[1].encode(),
            IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE))
print("held", flush=True)
sys.stdin.read()
"""


def document(guest="puppet", **net):
    return {
        "boot-source": {"kernel_image_path": os.path.join(
            os.environ["MAYFLY_BUILD"], "tests", "guests", guest + ".elf")},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
        "network-interfaces": [
            {"iface_id": "e", "host_dev_name": "tap0", **net}],
    }


def started(guest="puppet", **net):
    return {**document(guest, **net), "start": True}


def not_a_kernel(t):
    return {"boot-source": {"kernel_image_path": images.blank(
        t.path("nothing"), images.MIB)}}


@native()
def test_tap_is_free_once_its_vm_is_known_to_have_ended(t):
    h = Host(t)
    h.tap("tap0")
    for i in range(5):
        h.api.ok("PUT", f"/v1/vms/a{i}", started("shutdown"))
        h.api.ok("GET", f"/v1/vms/a{i}/wait")
        h.api.ok("PUT", f"/v1/vms/b{i}", started())
        h.api.ok("DELETE", f"/v1/vms/b{i}")


@native()
def test_end_is_told_when_a_tap_that_was_made_is_gone(t):
    """However long its last queue takes; one that was there is not waited for
    when it is somebody else's as well."""
    h = Host(t)
    h.tap("tap0", "multi_queue")
    for create, name in ((True, "made0"), (False, "tap0")):
        net = {"host_dev_name": name, "queue_pairs": 2, "create": create}
        h.api.ok("PUT", "/v1/vms/a", started(**net))
        holder = h.hold(name)
        h.api.ok("PUT", "/v1/vms/a/console", b"l")
        wait = "/v1/vms/a/wait?timeout_ms="
        if create:
            assert h.api.ok("GET", wait + "2000")["timed_out"]
            assert name in h.devices()
            holder.stdin.close()
            holder.wait(10)
        assert not h.api.ok("GET", wait + "8000")["timed_out"]
        assert (name in h.devices()) != create
        h.api.ok("DELETE", "/v1/vms/a")


@native()
def test_tap_of_a_failed_create_is_free_and_the_vm_gone(t):
    h = Host(t)
    h.tap("tap0")
    bad = {**started(), **not_a_kernel(t)}
    for _ in range(5):
        h.api.refused("PUT", "/v1/vms/a", bad, "boot-source", 400)
        h.api.refused("GET", "/v1/vms/a", status=404)
    h.api.ok("PUT", "/v1/vms/a", started())


@native()
def test_failed_start_leaves_the_vm_and_its_tap_as_they_were(t):
    h = Host(t)
    h.api.ok("PUT", "/v1/vms/a", {**document(create=True), **not_a_kernel(t)})
    start = {"action_type": "InstanceStart"}
    for mtu in (1400, 1300):
        h.api.refused("PUT", "/v1/vms/a/actions", start, "boot-source", 400)
        assert h.api.ok("GET", "/v1/vms/a")["state"] == "Not started"
        assert "tap0" in h.devices()
        h.api.ok("PUT", "/v1/vms/a/network-interfaces/e", {
            "iface_id": "e", "host_dev_name": "tap0", "create": True,
            "mtu": mtu})
    h.api.ok("PUT", "/v1/vms/a/boot-source", document()["boot-source"])
    h.api.ok("PUT", "/v1/vms/a/actions", start)
    h.api.ok("DELETE", "/v1/vms/a")
    assert "tap0" not in h.devices()


@native()
def test_many_deletes_of_one_vm_while_its_tap_is_anothers(t):
    h = Host(t)
    h.tap("tap0")
    h.api.ok("PUT", "/v1/vms/a", started("shutdown"))
    h.api.ok("GET", "/v1/vms/a/wait")
    h.api.ok("PUT", "/v1/vms/b", started())
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(
            lambda _: h.api.request("DELETE", "/v1/vms/a").status, range(200)))
    assert set(answers) <= {204, 404}, answers
    assert answers.count(204) >= 1, answers
    assert h.daemon.alive()
    assert h.api.ok("GET", "/v1/vms/b")["state"] == "Running"


@native()
def test_many_deletes_of_a_running_vm_with_a_tap(t):
    h = Host(t)
    for i in range(3):
        h.api.ok("PUT", "/v1/vms/a", started(create=True))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(
                lambda _: h.api.request("DELETE", "/v1/vms/a").status,
                range(50)))
        assert set(answers) <= {204, 404}, answers
        assert "tap0" not in h.devices(), i


@native()
def test_tap_by_another_name_of_its_namespace_is_in_use(t):
    h = Host(t)
    h.tap("tap0", "multi_queue")
    h.api.ok("PUT", "/v1/vms/a", document(queue_pairs=2))
    h.api.refused("PUT", "/v1/vms/b", document(netns=h.name, queue_pairs=2),
                  ("in use", "host_dev_name"))
    h.api.refused("GET", "/v1/vms/b", status=404)
