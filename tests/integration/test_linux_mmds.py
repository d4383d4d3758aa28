"""The metadata service as a guest's curl sees it, and what the host sees of
that: nothing."""

import json
import os
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


def curl(vm, path, *options, address=ADDRESS, timeout=10):
    """(status, body)"""
    more = " ".join(f"'{o}'" for o in options)
    limit = int(scaled(timeout))
    out = vm.run(f"curl -s -m {limit} -w '\\n%{{http_code}}' {more} "
                 f"'http://{address}{path}'", 3 * limit)[1]
    body, _, status = out.rstrip("\n").rpartition("\n")
    return int(status), body


def new_token(vm, ttl_s, form="X-metadata-token-ttl-seconds"):
    status, token = curl(vm, "/latest/api/token", "-X", "PUT",
                         "-H", f"{form}: {ttl_s}")
    assert status == 200 and token, (status, token)
    return token


def session(vm, token):
    """curl() within a session."""
    def get(path, *options):
        return curl(vm, path, "-H", f"X-metadata-token: {token}", *options)
    return get


JSON = ("-H", "Accept: application/json")


def check_sessions(vm):
    """The flow of tokens; returns what gets in a session."""
    path = "/latest/meta-data/ami-id"
    assert curl(vm, path)[0] == 401
    assert curl(vm, path, "-H", "X-metadata-token: nonsense")[0] == 401
    assert curl(vm, "/latest/api/token", "-X", "PUT")[0] == 400
    assert curl(vm, "/latest/api/token", "-X", "PUT", "-H",
                "X-metadata-token-ttl-seconds: 60", "-H",
                "X-Forwarded-For: 10.0.0.1")[0] == 400
    short = session(vm, new_token(vm, 1))
    deadline = time.monotonic() + scaled(10)
    while short(path)[0] != 401:
        assert time.monotonic() < deadline, "a token of 1 s does not end"
    token = new_token(vm, 600, "X-aws-ec2-metadata-token-ttl-seconds")
    assert curl(vm, path, "-H", f"X-aws-ec2-metadata-token: {token}") == (
        200, "ami-12345678")
    return session(vm, token)


def check_values(get):
    assert get("/latest/meta-data/ami-id/") == (200, "ami-12345678")
    assert get("/latest/meta-data") == (200, LISTING)
    assert get("//latest///meta-data/") == (200, LISTING)
    assert get("/latest/meta-data/tags/1") == (200, "b")
    assert get("/latest/meta-data/empty") == (200, "")
    assert get("/latest/meta-data/count")[0] == 501
    assert get("/latest/meta-data/count", *JSON) == (200, "7")
    assert get("/latest/nothing")[0] == 404
    status, body = get("/", *JSON)
    assert status == 200 and json.loads(body) == DATA, body
    assert get("/", "-X", "DELETE")[0] == 405
    assert get("/", "-d", "a body")[0] == 405 or get("/", "-d", "x")[0] == 400


def check_changes(t, vm, get):
    """What the API changes is there for the very next request."""
    for i in range(5):
        t.api.ok("PATCH", vm.url("mmds"),
                 {"latest": {"meta-data": {"ami-id": f"ami-{i}"}}})
        assert get("/latest/meta-data/ami-id") == (200, f"ami-{i}")
    t.api.ok("PATCH", vm.url("mmds"), {"latest": {"meta-data": {
        "network": None}}})
    assert get("/latest/meta-data/network/mac")[0] == 404
    vm.pause()
    # As large as it may be: many segments.
    big = "".join(f"{i:07d}" for i in range(7200))
    vm.put("mmds", {"big": big})
    vm.resume()
    assert get("/big") == (200, big)
    # Several at once, and one after another on one connection.
    url = f"http://{ADDRESS}/big"
    vm.sh("for i in 1 2 3 4 5 6 7 8; do curl -s -m 60 "
          f"-H \"$SESSION\" {url} {url} | wc -c > /tmp/n$i & done; wait; "
          f"for i in 1 2 3 4 5 6 7 8; do "
          f"test $(cat /tmp/n$i) = {2 * len(big)} || exit 1; done",
          scaled(60))


@linux()
def test_mmds_v2_serves_its_interface_alone(t):
    vm = guest(t, "v2", {"version": "V2"}, DATA, nets=2)
    taps = [Tap(f"mf-v2{i}") for i in range(2)]
    for tap in taps:
        t.cleanup(tap.close)
    route(vm, ADDRESS)
    get = check_sessions(vm)
    check_values(get)
    vm.sh(f"SESSION='X-metadata-token: {new_token(vm, 600)}'")
    check_changes(t, vm, get)
    # What is not HTTP at all ends there, too.
    vm.run(f"ping -c 2 -W 1 {ADDRESS}; "
           f"echo x | socat -t 1 - udp:{ADDRESS}:53; "
           f"curl -s -m 2 http://{ADDRESS}:81/", scaled(20))

    # The guest did speak to the host: of other things.
    vm.run("ping -c 1 -W 1 10.88.0.1", scaled(10))
    seen = taps[0].frames()
    assert concerning(seen, "10.88.0.1"), "the tap shows nothing at all"
    assert not concerning(seen, ADDRESS), concerning(seen, ADDRESS)
    assert not concerning(taps[1].frames(), ADDRESS)
    counters = vm.get()["counters"]["mmds"]
    assert counters["requests"] > 40 and counters["tokens"] == 3, counters
    assert counters["denied"] >= 3 and counters["not_found"] >= 2, counters
    assert counters["connections"] > 30, counters

    # On the other interface the address is anybody's.
    vm.sh(f"ip route del {ADDRESS}")
    route(vm, ADDRESS, 1)
    assert curl(vm, "/big", timeout=2)[0] == 0
    assert concerning(taps[1].frames(), ADDRESS), "no ARP on the other tap"
    assert vm.get()["counters"]["mmds"]["requests"] == counters["requests"]


@linux()
def test_mmds_v1_needs_no_token(t):
    vm = guest(t, "v1", {"ipv4_address": OTHER, "imds_compat": True}, DATA,
               nets=1)
    tap = Tap("mf-v10")
    t.cleanup(tap.close)
    route(vm, OTHER)

    def get(path, *options):
        return curl(vm, path, *options, address=OTHER)

    assert get("/latest/meta-data/ami-id") == (200, "ami-12345678")
    assert get("/latest/meta-data/ami-id", "-H",
               "X-metadata-token: nonsense") == (200, "ami-12345678")
    # imds_compat: never JSON.
    assert get("/latest/meta-data", *JSON) == (200, LISTING)
    vm.put("mmds", {"new": "value"})
    assert get("/new", *JSON) == (200, "value")
    assert get("/latest")[0] == 404
    assert not concerning(tap.frames(), OTHER)
