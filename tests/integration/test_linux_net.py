"""virtio-net under a real driver: taps of all kinds, both ways, with offloads
and without, and what becomes of a guest whose tap goes away."""

import ctypes
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
import traceback

import guests
import images
from harness import Skip, eventually, linux, scaled

NETNS = "mayfly-test"
MAC = "06:00:ac:10:00:02"

# Per interface: the guest's name, the host's device, the host's address and
# the guest's.
MADE = ("eth0", "mf-made", "10.77.0.1", "10.77.0.2")     # in NETNS
OWN = ("eth1", "mf-own", "10.77.1.1", "10.77.1.2")       # exists, two queues
BRIDGED = ("eth2", "mf-port", "10.77.2.1", "10.77.2.2")  # port of a bridge
BRIDGE = "mf-bridge"


def ip(*args, netns=None):
    command = ["ip", *(("-n", netns) if netns else ()), *args]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                          encoding="utf-8").stdout


def quiet(*command):
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def inside(netns, *command):
    return ["ip", "netns", "exec", netns, *command] if netns else [*command]


def devices(netns=None):
    """Names of the network devices there."""
    return [d["ifname"] for d in json.loads(ip("-j", "link", netns=netns))]


def remove_host_side():
    quiet("ip", "netns", "del", NETNS)
    quiet("ip", "link", "del", OWN[1])
    quiet("ip", "link", "del", BRIDGE)


def make_host_side(t):
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    remove_host_side()
    ip("netns", "add", NETNS)
    ip("link", "set", "lo", "up", netns=NETNS)
    ip("tuntap", "add", OWN[1], "mode", "tap", "multi_queue", "vnet_hdr")
    ip("addr", "add", OWN[2] + "/24", "dev", OWN[1])
    ip("link", "set", OWN[1], "up")
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", BRIDGED[2] + "/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "mtu", "1400", "up")
    t.file.at_close(remove_host_side)


def interface(iface_id, device, **more):
    return {"iface_id": iface_id, "host_dev_name": device, **more}


def guest(t):
    """One guest with three interfaces, and addresses on both sides."""
    def config():
        make_host_side(t)
        return images.linux_with_tools(vcpus=2, sections={
            "network-interfaces": [
                interface("made", MADE[1], create=True, netns=NETNS,
                          guest_mac=MAC),
                interface("own", OWN[1], queue_pairs=2),
                interface("bridged", BRIDGED[1], create=True, bridge=BRIDGE,
                          mtu=1400),
            ]})

    vm = guests.shared_linux(t, "net", config)
    if not getattr(vm, "has_addresses", False):
        ip("addr", "add", MADE[2] + "/24", "dev", MADE[1], netns=NETNS)
        for name, _, _, address in (MADE, OWN, BRIDGED):
            vm.sh(f"ip addr add {address}/24 dev {name} && "
                  f"ip link set {name} up")
        vm.has_addresses = True
    return vm


def counters(vm, n):
    return vm.get()["counters"]["network-interfaces"][n]


def ping_out(vm, address, more=""):
    """From the guest."""
    vm.sh(f"ping -c 2 -i 0.2 -W {scaled(2):.0f} {more} {address}", scaled(20))


def in_netns(netns, f, *args):
    """Calls f in a child inside a namespace: what takes Python long to start
    is there already."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if netns:
                with open(f"/run/netns/{netns}", "rb") as ns:
                    if ctypes.CDLL(None).setns(ns.fileno(), 0) < 0:
                        raise OSError("setns")
            f(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{f.__name__}{args} failed in {netns or 'here'}"


def echo(address, sizes):
    """Pings the guest with so many bytes, and finds them in the answers."""
    for n_bytes in sizes:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW,
                           socket.IPPROTO_ICMP) as s:
            s.settimeout(scaled(5))
            data = struct.pack("!BBHHH", 8, 0, 0, 77, 1) + os.urandom(n_bytes)
            total = sum(struct.unpack(f"!{len(data) // 2}H", data))
            while total >> 16:
                total = (total & 0xffff) + (total >> 16)
            data = data[:2] + struct.pack("!H", ~total & 0xffff) + data[4:]
            s.sendto(data, (address, 0))
            while True:
                answer = s.recv(65536)[20:]
                if answer[0] == 0 and answer[8:] == data[8:]:
                    break


class Server:
    """An iperf3 server on the host for one run."""

    def __init__(self, netns, address):
        if not shutil.which("iperf3"):
            raise Skip("no iperf3 on this host")
        self._process = subprocess.Popen(
            inside(netns, "iperf3", "-s", "-1", "--forceflush", "-B", address),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        self._process.stdout.readline()  # it listens
        self._process.stdout.readline()
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def iperf(vm, netns, host, seconds, more=""):
    """Bytes per second, as the receiver counted them."""
    with Server(netns, host):
        out = vm.sh(f"iperf3 -c {host} -t {seconds} -J {more}",
                    scaled(20) + 2 * seconds)
    end = json.loads(out)["end"]
    return end["sum_received"]["bits_per_second"] / 8


@linux()
def test_net_ping_both_ways(t):
    vm = guest(t)
    for netns, (_, _, host, address) in (
            (NETNS, MADE), (None, OWN), (None, BRIDGED)):
        ping_out(vm, host)
        # The last one in fragments.
        in_netns(netns, echo, address, (8, 1300, 8000))


@linux()
def test_net_mac_mtu_and_names_are_as_configured(t):
    vm = guest(t)
    assert vm.sh("cat /sys/class/net/eth0/address") == MAC
    assert vm.sh("cat /sys/class/net/eth0/mtu") == "1500"
    assert vm.sh("cat /sys/class/net/eth2/mtu") == "1400"
    link = json.loads(ip("-j", "link", "show", BRIDGED[1]))[0]
    assert link["mtu"] == 1400, link
    assert link["master"] == BRIDGE, link
    assert MADE[1] in devices(NETNS) and MADE[1] not in devices()
    assert vm.sh("cat /sys/class/net/eth0/carrier") == "1"


@linux()
def test_net_tcp_streams_with_offloads(t):
    vm = guest(t)
    features = vm.sh("ethtool -k eth0")
    for name in ("tx-checksumming", "rx-checksumming",
                 "tcp-segmentation-offload", "tx-tcp6-segmentation"):
        assert re.search(rf"{name}: on", features), features
    before = counters(vm, 0)
    rate = iperf(vm, NETNS, MADE[2], 1)
    between = counters(vm, 0)
    back = iperf(vm, NETNS, MADE[2], 1, "-R")
    after = counters(vm, 0)

    def mean(way, a, b):
        return (b[f"{way}_bytes"] - a[f"{way}_bytes"]) / (
            b[f"{way}_packets"] - a[f"{way}_packets"])

    print(f"    to the host {rate / 1e6:.0f} MB/s, back {back / 1e6:.0f} MB/s")
    # Larger than the MTU: whole segments cross the ring.
    assert mean("tx", before, between) > 1514, (before, between)
    assert mean("rx", between, after) > 1514, (between, after)
    assert after["malformed"] == after["tap_errors"] == 0, after
    assert after["tx_dropped"] == 0, after


def send_file(vm, t, netns, host, name, to_guest):
    """2 MiB by socat one way; both sides' checksums agree."""
    path = t.path(name)
    if to_guest:
        images.random_file(path, 2 * images.MIB)
        command = f"socat -u OPEN:{path} TCP-LISTEN:5001,bind={host},reuseaddr"
        run = f"socat -u TCP:{host}:5001,retry=20,interval=0.1 - | sha256sum"
    else:
        command = (f"socat -u TCP-LISTEN:5001,bind={host},reuseaddr "
                   f"OPEN:{path},creat,trunc")
        run = ("head -c 2097152 /dev/urandom > /tmp/sent && socat -u "
               f"OPEN:/tmp/sent TCP:{host}:5001,retry=20,interval=0.1 "
               "&& sha256sum < /tmp/sent; rm /tmp/sent")
    server = subprocess.Popen(inside(netns, *command.split()))
    try:
        out = vm.sh(run, scaled(30))
        server.wait(scaled(10))
    finally:
        server.kill()
        server.wait()
    assert out.split()[0] == images.sha256(path), out


@linux()
def test_net_bytes_are_the_same_with_and_without_offloads(t):
    vm = guest(t)
    send_file(vm, t, NETNS, MADE[2], "a", to_guest=True)
    send_file(vm, t, NETNS, MADE[2], "b", to_guest=False)
    vm.sh("ethtool -K eth0 tx off sg off tso off gso off gro off")
    try:
        before = counters(vm, 0)
        send_file(vm, t, NETNS, MADE[2], "c", to_guest=True)
        send_file(vm, t, NETNS, MADE[2], "d", to_guest=False)
        after = counters(vm, 0)
        sent = (after["tx_bytes"] - before["tx_bytes"]) / (
            after["tx_packets"] - before["tx_packets"])
        assert sent <= 1514, (before, after)
    finally:
        vm.sh("ethtool -K eth0 tx on sg on tso on gso on gro on")


@linux()
def test_net_several_queues_carry_several_streams(t):
    vm = guest(t)
    out = vm.sh("ls /sys/class/net/eth1/queues")
    assert {"rx-0", "rx-1", "tx-0", "tx-1"} <= set(out.split()), out
    assert "Combined:\t2" in vm.sh("ethtool -l eth1")
    before = vm.sh("grep virtio /proc/interrupts")
    iperf(vm, None, OWN[2], 1, "-P 4")
    iperf(vm, None, OWN[2], 1, "-P 4 -R")
    # With one again, and back.
    vm.sh("ethtool -L eth1 combined 1")
    ping_out(vm, OWN[2])
    iperf(vm, None, OWN[2], 1, "-P 4 -R")
    vm.sh("ethtool -L eth1 combined 2")
    ping_out(vm, OWN[2])
    assert counters(vm, 1)["malformed"] == 0, before


@linux()
def test_net_a_rate_limit_holds_and_changes_while_running(t):
    vm = guest(t)
    limit = 200 * 1024  # less than the test bed does on a bad day
    bucket = {"size": limit // 10, "refill_time": 100}

    def set_limit(way, to):
        vm.daemon.api.ok("PATCH", vm.url("network-interfaces/made"), {
            "iface_id": "made", f"{way}_rate_limiter": {"bandwidth": to}})

    for way, more in (("tx", ""), ("rx", "-R")):
        set_limit(way, bucket)
        with Server(NETNS, MADE[2]):
            vm.sh(f"iperf3 -c {MADE[2]} -t 60 {more} >/dev/null 2>&1 &")
            eventually(f"{way} is limited",
                       lambda: counters(vm, 0)[f"{way}_throttled"] > 0,
                       scaled(10))
            start, before = time.monotonic(), counters(vm, 0)
            time.sleep(10)
            took, after = time.monotonic() - start, counters(vm, 0)
            vm.run("killall iperf3")
        rate = (after[f"{way}_bytes"] - before[f"{way}_bytes"]) / took
        print(f"    {way}: {rate / limit:.3f} of the limit")
        assert abs(rate - limit) < limit / 10, (rate, limit)
        if way == "tx":
            # Most of the time the next packet was seen, and held back.
            held = vm.metric("net_tx_duration_seconds_sum", iface="made")
            assert held > took / 2, (held, took)
        set_limit(way, {"size": 0, "refill_time": 0})


@linux()
def test_net_a_tap_that_is_down_or_gone_is_a_dead_link(t):
    vm = guest(t)

    def carrier():
        return vm.sh("cat /sys/class/net/eth2/carrier")

    since = vm.daemon.log_size()  # which tells once of a storm
    ip("link", "set", BRIDGED[1], "down")
    # The driver hears of it by what it cannot send.
    vm.run(f"ping -c 2 -i 0.2 -W 1 {BRIDGED[2]}", scaled(10))
    eventually("the link is down", lambda: carrier() == "0", scaled(5), 0.2)
    ip("link", "set", BRIDGED[1], "up")
    eventually("the link is up", lambda: carrier() == "1", scaled(5), 0.2)
    ping_out(vm, BRIDGED[2])
    ip("link", "del", BRIDGED[1])
    eventually("the link is dead", lambda: carrier() == "0", scaled(5), 0.2)
    assert counters(vm, 2)["tap_errors"] > 0, counters(vm, 2)
    assert "net_error" in vm.daemon.log_text(since)
    # Nobody spins, and the others live on.
    ping_out(vm, MADE[2])
    ping_out(vm, OWN[2])
    assert vm.state == "Running"


@linux()
def test_net_a_deleted_vm_leaves_no_tap_that_was_made(t):
    vm = guest(t)
    assert MADE[1] in devices(NETNS)
    vm.delete()
    t.file.drop_shared(vm)
    assert MADE[1] not in devices(NETNS)
    assert OWN[1] in devices()
