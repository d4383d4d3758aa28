"""The metadata service as a guest's curl sees it, and what the host sees of
that: nothing."""

import hashlib
import json
import os
import re
import select
import socket
import time

import guests
import images
from harness import Skip, linux, scaled

ADDRESS = "169.254.169.254"
OTHER = "169.254.20.5"
ETH_P_ALL = 3

DATA = {"latest": {"meta-data": {
    "ami-id": "ami-12345678", "empty": "", "tags": ["a", "b"], "count": 7,
    "network": {"mac": "06:00:00:00:00:01"}}}}
LISTING = "ami-id\ncount\nempty\nnetwork/\ntags"


class Tap:
    """All frames on a device of the host."""

    def __init__(self, device):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                     socket.htons(ETH_P_ALL))
        self._socket.bind((device, 0))

    def frames(self, wait=0.2):
        """Those since the last call."""
        got = []
        while select.select([self._socket], [], [], wait)[0]:
            got.append(self._socket.recv(65536))
        return got

    def close(self):
        self._socket.close()


def concerning(frames, address):
    """Those that hold the address where ARP or IPv4 have one."""
    wanted = socket.inet_aton(address)
    places = {0x0806: (28, 38), 0x0800: (26, 30)}
    return [f for f in frames if any(
        f[at:at + 4] == wanted
        for at in places.get(int.from_bytes(f[12:14], "big"), ()))]


def guest(t, key, mmds, data, nets):
    """A guest with the service on its first interface, nets in all."""
    def config():
        if not os.path.exists("/dev/net/tun"):
            raise Skip("no /dev/net/tun")
        return images.linux_with_tools(sections={
            "network-interfaces": [
                {"iface_id": f"net{i}", "create": True,
                 "host_dev_name": f"mf-{key}{i}"} for i in range(nets)],
            "mmds-config": {"network_interfaces": ["net0"], **mmds}})

    vm = t.vm(config())
    vm.put("mmds", data)
    vm.start()
    vm.expect(guests.GREETING, scaled(20))
    return vm


def route(vm, address, number=0):
    vm.sh(f"ip link set eth{number} up; "
          f"ip addr add 10.88.{number}.2/24 dev eth{number}; "
          f"ip route add {address} dev eth{number}")


def curl(vm, *requests, address=ADDRESS, timeout=20):
    """[(status, body)] of requests (path, option...), by one curl on one
    connection: programs take long to start in the test bed."""
    limit = int(scaled(timeout))
    asked = " --next ".join(
        f"-s -m {limit} -w '\\n=== %{{http_code}}\\n' "
        + " ".join(f"'{o}'" for o in options)
        + f" 'http://{address}{path}'" for path, *options in requests)
    out = vm.run("curl " + asked, 2 * limit)[1]
    parts = re.split(r"\n=== (\d+)\n", out)
    got = [(int(status), body) for body, status in
           zip(parts[::2], parts[1::2])]
    assert len(got) == len(requests), out
    return got


def token_request(ttl_s, form="X-metadata-token-ttl-seconds", *more):
    return ("/latest/api/token", "-X", "PUT", "-H", f"{form}: {ttl_s}", *more)


def with_token(token):
    return "-H", f"X-metadata-token: {token}"


JSON = ("-H", "Accept: application/json")
AMI = "/latest/meta-data/ami-id"


def check_sessions(vm):
    """The flow of tokens; returns one."""
    *refused, (made, short), (ok, token) = curl(
        vm, (AMI,), (AMI, *with_token("nonsense")),
        ("/latest/api/token", "-X", "PUT"),
        token_request(0),
        token_request(60, "X-metadata-token-ttl-seconds", "-H",
                      "X-Forwarded-For: 10.0.0.1"),
        token_request(1),
        token_request(600, "X-aws-ec2-metadata-token-ttl-seconds"))
    assert [status for status, _ in refused] == [401, 401, 400, 400, 400]
    assert (made, ok) == (200, 200) and short != token
    time.sleep(1.1)  # the guest's clock is not asked
    expired, good, aws = curl(
        vm, (AMI, *with_token(short)), (AMI, *with_token(token)),
        (AMI, "-H", f"X-aws-ec2-metadata-token: {token}"))
    assert expired[0] == 401, expired
    assert good == aws == (200, "ami-12345678"), (good, aws)
    return token


def check_values(vm, token):
    # (path, option...), what comes
    wanted = [
        ((AMI + "/",), (200, "ami-12345678")),
        (("/latest/meta-data",), (200, LISTING)),
        (("//latest///meta-data/",), (200, LISTING)),
        (("/latest/meta-data/tags/1",), (200, "b")),
        (("/latest/meta-data/empty",), (200, "")),
        (("/latest/meta-data/count",), 501),
        (("/latest/meta-data/count", *JSON), (200, "7")),
        (("/latest/nothing",), 404),
        (("/", "-X", "DELETE"), 405),
        (("/", "-X", "GET", "-d", "a body"), 400),
        (("/", *JSON), (200, json.dumps(DATA, separators=(",", ":")))),
    ]
    got = curl(vm, *[(*request, *with_token(token))
                     for request, _ in wanted])
    for (request, want), have in zip(wanted, got):
        if isinstance(want, int):
            have = have[0]
        assert have == want, (request, have)


def check_changes(t, vm, token):
    """What the API changes is there for the very next request."""
    for i in range(2):
        t.api.ok("PATCH", vm.url("mmds"), {"latest": {"meta-data": {
            "ami-id": f"ami-{i}", "network": None}}})
        ami, gone = curl(
            vm, (AMI, *with_token(token)),
            ("/latest/meta-data/network/mac", *with_token(token)))
        assert ami == (200, f"ami-{i}") and gone[0] == 404, (ami, gone)
    # As large as it may be, given to a paused guest: many segments, for
    # several at once, each twice on one connection.
    big = "".join(f"{i:07d}" for i in range(7200))
    vm.pause()
    vm.put("mmds", {"big": big})
    vm.resume()
    want = hashlib.sha256(2 * big.encode()).hexdigest()
    url = f"http://{ADDRESS}/big"
    vm.sh("for i in 1 2 3; do curl -s -m 60 "
          f"-H 'X-metadata-token: {token}' {url} {url} | sha256sum >/tmp/s$i &"
          f" done; wait; for i in 1 2 3; do grep -q {want} /tmp/s$i || exit 1; "
          "done", scaled(60))


@linux()
def test_mmds_v2_serves_its_interface_alone(t):
    vm = guest(t, "v2", {"version": "V2"}, DATA, nets=2)
    taps = [Tap(f"mf-v2{i}") for i in range(2)]
    for tap in taps:
        t.cleanup(tap.close)
    route(vm, ADDRESS)
    token = check_sessions(vm)
    check_values(vm, token)
    check_changes(t, vm, token)
    # What is not HTTP at all ends there, too; what is for others does not.
    vm.run(f"ping -c 1 -W 1 {ADDRESS}; ping -c 1 -W 1 10.88.0.1; "
           f"echo x | socat -t 0.1 - udp:{ADDRESS}:53; "
           f"curl -s -m 2 http://{ADDRESS}:81/", scaled(20))
    seen = taps[0].frames()
    assert concerning(seen, "10.88.0.1"), "the tap shows nothing at all"
    assert not concerning(seen, ADDRESS), concerning(seen, ADDRESS)
    assert not concerning(taps[1].frames(), ADDRESS)
    counters = vm.get()["counters"]["mmds"]
    assert counters["requests"] >= 30 and counters["tokens"] == 2, counters
    assert counters["denied"] == 3 and counters["not_found"] == 3, counters
    assert counters["connections"] >= 7, counters

    # On the other interface the address is anybody's.
    vm.sh(f"ip route del {ADDRESS}")
    route(vm, ADDRESS, 1)
    assert curl(vm, ("/big",), timeout=1)[0][0] == 0
    assert concerning(taps[1].frames(), ADDRESS), "no ARP on the other tap"
    assert vm.get()["counters"]["mmds"]["requests"] == counters["requests"]


@linux()
def test_mmds_v1_needs_no_token(t):
    vm = guest(t, "v1", {"ipv4_address": OTHER, "imds_compat": True}, DATA,
               nets=1)
    tap = Tap("mf-v10")
    t.cleanup(tap.close)
    route(vm, OTHER)
    # imds_compat: never JSON.
    assert curl(vm, (AMI,), (AMI, *with_token("nonsense")),
                ("/latest/meta-data", *JSON), address=OTHER) == [
        (200, "ami-12345678"), (200, "ami-12345678"), (200, LISTING)]
    vm.put("mmds", {"new": "value"})
    new, old = curl(vm, ("/new", *JSON), ("/latest",), address=OTHER)
    assert new == (200, "value") and old[0] == 404, (new, old)
    assert not concerning(tap.frames(), OTHER)
