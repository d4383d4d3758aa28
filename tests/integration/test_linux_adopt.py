"""Linux guests whose daemon dies or is replaced: all they do goes on without
one, and the next daemon has all of them."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import images
import proc
from guests import GREETING, puppet
from harness import Skip, check_exit, eventually, linux, scaled
from heirs import heir_of, kill

TAP, HOST, GUEST = "mf-adopt", "10.79.0.1", "10.79.0.2"
COMMANDS, ECHO, STREAM, LATER = 7000, 1000, 5000, 5001
METADATA = {"meta-data": {"ami-id": "ami-1", "tags": ["a", "b"]}}
BLOCK = 16 << 10
DISK = 32 * images.MIB
DISK_RATE, NET_RATE = 256 << 10, 200 << 10
SECONDS = 5


def tap_there():
    """As who asks the kernel sees it: /sys is some milliseconds behind."""
    return TAP in [name for _, name in socket.if_nameindex()]


def sections(t):
    """What both guests have that the host sees, too."""
    return {
        "network-interfaces": [
            {"iface_id": "net0", "host_dev_name": TAP, "create": True}],
        "vsock": {"guest_cid": 9, "uds_path": t.path("v.sock")},
    }


def boot(t, config, daemon, greeting=GREETING):
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    vm = t.vm(config, daemon=daemon)
    if "mmds-config" in config:
        vm.put("mmds", METADATA)
    vm.start()
    vm.expect(greeting, scaled(20))
    return vm


def check_gone(t, vm_id, cgroups):
    """Of a VM that has ended the host has nothing: another may use it all."""
    assert not tap_there()
    assert not os.path.exists(t.path("v.sock"))
    for path in cgroups:
        # Its name is its user's, and a process that waits may be the next.
        with contextlib.suppress(FileNotFoundError), open(
                os.path.join(path, "cgroup.procs"), encoding="ascii") as f:
            assert f.read().strip(), f"{path} of {vm_id} is left, and empty"


# ---- the host's side ----

def remote(command, timeout=20):
    """What a command prints that runs in the guest, daemon or not."""
    with socket.create_connection((GUEST, COMMANDS), scaled(timeout)) as s:
        s.sendall(command.encode() + b"\n")
        s.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()


def unix_socket(t):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(scaled(20))
    t.cleanup(s.close)
    return s


def connect(t):
    """A connection to the guest's echo."""
    s = unix_socket(t)
    s.connect(t.path("v.sock"))
    s.sendall(b"CONNECT %d\n" % ECHO)
    assert s.recv(64).startswith(b"OK ")
    return s


def echo(s, text):
    s.sendall(text)
    got = b""
    while len(got) < len(text):
        piece = s.recv(len(text) - len(got))
        assert piece, "the connection ended"
        got += piece
    assert got == text, got


class Listener(threading.Thread):
    """At the host's port: what each connection brought. At the end of one it
    answers with how much that was."""

    def __init__(self, t, port, echoes=False):
        super().__init__(daemon=True)
        self.got = []
        self._echoes = echoes
        self._listener = unix_socket(t)
        self._listener.bind(t.path(f"v.sock_{port}"))
        self._listener.listen()
        self._listener.settimeout(None)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self._listener.accept()
                self.got.append(bytearray())
                threading.Thread(target=self._serve, daemon=True,
                                 args=(s, self.got[-1])).start()

    def _serve(self, s, got):
        with s, contextlib.suppress(OSError):
            while data := s.recv(65536):
                got += data
                if self._echoes:
                    s.sendall(data)
            if not self._echoes:
                s.sendall(b"%d bytes\n" % len(got))


# ---- one that does a lot ----

def busy_config(t):
    """vdb: vsock_peer.c. vdc: written to. vdd: limited. vde: changed."""
    with open(os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                           "vsock_peer"), "rb") as f:
        program = f.read()
    with open(t.path("peer"), "wb") as f:
        f.write(program.ljust(-(-len(program) // 512) * 512, b"\0"))
    images.blank(t.path("data"), DISK)
    images.blank(t.path("slow"), 4 * images.MIB)
    for name in ("one", "other"):
        images.random_file(t.path(name), images.MIB)
    return images.linux_with_tools(
        args="memhp_default_state=online", drives=[
            images.drive(t.path("peer"), "peer"),
            images.drive(t.path("data"), "data", cache_type="Writeback"),
            images.drive(t.path("slow"), "slow"),
            images.drive(t.path("one"), "live"),
        ], sections={
            **sections(t),
            "mmds-config": {"network_interfaces": ["net0"], "version": "V2"},
            "entropy": {},
            "balloon": {"amount_mib": 0, "deflate_on_oom": True,
                        "stats_polling_interval_s": 1},
            "memory-hotplug": {"total_size_mib": 256}})


def give_addresses(vm):
    subprocess.run(["ip", "addr", "add", HOST + "/24", "dev", TAP], check=True)
    vm.sh(f"ip link set eth0 up; ip addr add {GUEST}/24 dev eth0; "
          "ip route add 169.254.169.254 dev eth0", scaled(20))


def begin_work(vm):
    """All of it goes on until there is a file /tmp/stop."""
    vm.sh("cat /dev/vdb > /tmp/peer; chmod +x /tmp/peer; "
          f"(/tmp/peer echo {ECHO} > /tmp/log 2>&1 &); "
          f"(busybox nc -ll -p {COMMANDS} -e sh >/dev/null 2>&1 &); "
          "while ! grep -q listening /tmp/log; do usleep 10000; done",
          scaled(20))
    vm.sh("(i=0; while [ ! -e /tmp/stop ]; do "
          f"dd if=/dev/urandom of=/tmp/block bs={BLOCK} count=1 2>/dev/null; "
          f"dd if=/tmp/block of=/dev/vdc bs={BLOCK} seek=$i "
          "conv=notrunc,fsync 2>/dev/null || echo failed >> /tmp/sums; "
          "sha256sum < /tmp/block >> /tmp/sums; "
          f"i=$((i+1)); [ $i -lt {DISK // BLOCK} ] || break; "
          "usleep 50000; done; "
          "echo end >> /tmp/sums) > /dev/null 2>&1 &")
    vm.sh(f"ping -i 0.2 {HOST} > /tmp/ping 2>&1 & echo $! > /tmp/pinger")
    vm.sh("(i=0; while [ ! -e /tmp/stop ]; do echo line $i; i=$((i+1)); "
          f"usleep 20000; done) | /tmp/peer send {STREAM} > /tmp/answer 2>&1 "
          "& true")
    vm.sh("curl -s -X PUT -H 'X-metadata-token-ttl-seconds: 3600' "
          "http://169.254.169.254/latest/api/token > /tmp/token", scaled(20))


def progress(stream):
    """How far it all is: blocks written, packets answered, bytes sent."""
    blocks, packets = remote("wc -l < /tmp/sums; grep -c seq= /tmp/ping"
                             ).split()
    return int(blocks), int(packets), len(stream.got[0])


def check_progress(stream):
    before = now = progress(stream)
    deadline = time.monotonic() + scaled(10)
    while not all(n > was for n, was in zip(now, before)):
        assert time.monotonic() < deadline, (
            "blocks, packets and bytes", before, now)
        time.sleep(0.2)
        now = progress(stream)


def check_work(t, vm, stream):
    """Ends it: nothing of it was lost or came to harm."""
    vm.sh("touch /tmp/stop; kill -INT $(cat /tmp/pinger); "
          "while ! grep -q end /tmp/sums || ! grep -q bytes /tmp/answer; do "
          "usleep 50000; done", scaled(20))
    sums = re.findall("[0-9a-f]{64}", vm.sh("cat /tmp/sums"))
    assert "failed" not in vm.sh("cat /tmp/sums")
    with open(t.path("data"), "rb") as f:
        for n, wanted in enumerate(sums):
            got = hashlib.sha256(f.read(BLOCK)).hexdigest()
            assert got == wanted, f"block {n} of {len(sums)}"
    out = vm.sh(f"dd if=/dev/vdc bs={BLOCK} count={len(sums)} iflag=direct "
                "2>/dev/null | sha256sum", scaled(30))
    assert out.split()[0] == images.sha256(t.path("data"), 0,
                                           len(sums) * BLOCK)
    pings = [int(n) for n in re.findall(r"seq=(\d+)",
                                        vm.sh("cat /tmp/ping"))]
    assert pings == list(range(len(pings))), pings
    got = bytes(stream.got[0])
    lines = got.decode().splitlines()
    assert lines == [f"line {n}" for n in range(len(lines))], lines[-3:]
    assert vm.sh("cat /tmp/answer") == f"{len(got)} bytes"


def metadata(path):
    return remote("curl -s -m 20 -H \"X-metadata-token: $(cat /tmp/token)\" "
                  f"http://169.254.169.254/{path}", 30)


def check_alone(t, vm_pid, stream, old):
    """While there is no daemon."""
    assert proc.exists(vm_pid)
    check_progress(stream)
    echo(old, b"nobody listens to the daemon's socket")
    echo(connect(t), b"and a new one")
    assert metadata("meta-data/ami-id") == "ami-1"
    assert remote("dd if=/dev/hwrng bs=512 count=1 2>/dev/null | wc -c"
                  ) == "512\n"
    # Who connects to the host waits for a daemon, or for as long as it likes.
    remote(f"/tmp/peer many {LATER} 3 > /tmp/many 2>&1 & echo said while "
           "alone > /dev/ttyS0")
    assert "timed out" in remote(
        f"echo x | socat - VSOCK-CONNECT:2:{LATER} 2>&1", 10)


def check_vsock(t, vm, later, old):
    """With the next daemon."""
    assert vm.sh("while ! [ -s /tmp/many ]; do usleep 50000; done; "
                 "cat /tmp/many", scaled(20)) == "3 connections"
    assert vm.sh(f"/tmp/peer many {LATER} 2", scaled(20)) == "2 connections"
    assert vm.run("/tmp/peer refused 5999", scaled(20))[0] == 0
    echo(old, b"still there")
    echo(connect(t), b"one more")
    # The connection that nobody waited for brought nothing, if it was made.
    brought = sorted(len(got) for got in later.got)
    assert brought[-5:] == 5 * [len("connection 00000000\n")], brought
    assert not any(brought[:-5]), brought


def patch(vm, rest, body):
    vm.daemon.api.ok("PATCH", vm.url(rest), body)


def drive(vm, drive_id):
    return next(d for d in vm.get()["counters"]["drives"]
                if d["drive_id"] == drive_id)


def net(vm):
    return vm.get()["counters"]["network-interfaces"][0]


def check_drives(t, vm):
    """Another file, and then more of that."""
    before = vm.sh("sha256sum < /dev/vde", scaled(20)).split()[0]
    assert before == images.sha256(t.path("one"))
    patch(vm, "drives/live", {"drive_id": "live",
                              "path_on_host": t.path("other")})
    out = vm.sh("dd if=/dev/vde bs=64k iflag=direct 2>/dev/null | sha256sum",
                scaled(20))
    assert out.split()[0] == images.sha256(t.path("other"))
    os.truncate(t.path("other"), 3 * images.MIB)
    patch(vm, "drives/live", {"drive_id": "live"})
    eventually("it has grown", lambda: vm.sh(
        "cat /sys/block/vde/size") == str(3 * images.MIB // 512), scaled(10))
    assert drive(vm, "live")["errors"] == 0


def check_memory(vm):
    statistics = vm.url("balloon/statistics")
    s = vm.daemon.api.ok("GET", statistics)
    assert 0 < s["free_memory"] < s["total_memory"], s
    patch(vm, "balloon/statistics", {"stats_polling_interval_s": 2})
    patch(vm, "balloon", {"amount_mib": 16})
    eventually("16 MiB in the balloon", lambda: vm.daemon.api.ok(
        "GET", statistics)["actual_mib"] == 16, scaled(20), 0.1)
    patch(vm, "balloon", {"amount_mib": 0})
    total = "awk '/^MemTotal/ { print $2 }' /proc/meminfo"
    before = int(vm.sh(total))
    patch(vm, "hotplug/memory", {"requested_size_mib": 128})
    eventually("128 MiB plugged", lambda: vm.daemon.api.ok(
        "GET", vm.url("hotplug/memory"))["plugged_size_mib"] == 128,
        scaled(20), 0.1)
    eventually("128 MiB more", lambda: int(vm.sh(total)) > before + (120 << 10),
               scaled(20), 0.2)


def check_metadata(vm):
    assert vm.daemon.api.ok("GET", vm.url("mmds")) == METADATA
    # The token is the one from before as well.
    assert metadata("meta-data/ami-id") == "ami-1"
    patch(vm, "mmds", {"meta-data": {"ami-id": "ami-2"}})
    assert metadata("meta-data/ami-id") == "ami-2"
    assert metadata("meta-data/tags/1") == "b"
    vm.put("mmds", {"all": "new"})
    assert metadata("all") == "new"
    assert vm.daemon.api.ok("GET", vm.url("mmds")) == {"all": "new"}


def check_limits(vm):
    """The drive's is from before the daemon died, the network's is new."""
    patch(vm, "network-interfaces/net0", {
        "iface_id": "net0", "tx_rate_limiter": {"bandwidth": {
            "size": NET_RATE // 10, "refill_time": 100}}})
    vm.sh("(while [ ! -e /tmp/calm ]; do dd if=/dev/vdd of=/dev/null bs=16k "
          "count=50 iflag=direct 2>/dev/null || exit; done) & "
          f"(socat -u /dev/zero UDP-DATAGRAM:{HOST}:9 2>/dev/null & "
          "echo $! > /tmp/sender)")
    eventually("both are held back", lambda: drive(vm, "slow")["throttled"]
               and net(vm)["tx_throttled"], scaled(10), 0.1)
    time.sleep(1)  # the buckets start full
    begin, disk_1, net_1 = time.monotonic(), drive(vm, "slow"), net(vm)
    time.sleep(SECONDS)
    took, disk_2, net_2 = (time.monotonic() - begin, drive(vm, "slow"),
                           net(vm))
    disk = (disk_2["read_bytes"] - disk_1["read_bytes"]) / took
    sent = (net_2["tx_bytes"] - net_1["tx_bytes"]) / took
    assert abs(disk / DISK_RATE - 1) < 0.15, (disk, DISK_RATE)
    assert abs(sent / NET_RATE - 1) < 0.15, (sent, NET_RATE)
    for rest, key in (("drives/slow", "rate_limiter"),
                      ("network-interfaces/net0", "tx_rate_limiter")):
        kind, name = rest.split("/")
        patch(vm, rest, {
            "drive_id" if kind == "drives" else "iface_id": name,
            key: {"bandwidth": {"size": 0, "refill_time": 0}}})
    vm.sh("touch /tmp/calm; kill $(cat /tmp/sender)", scaled(20))


@linux()
def test_a_guest_at_work_survives_its_daemon(t):
    daemon = t.own_daemon()
    vm = boot(t, busy_config(t), daemon)
    give_addresses(vm)
    stream, later = Listener(t, STREAM), Listener(t, LATER, echoes=True)
    begin_work(vm)
    old = connect(t)
    echo(old, b"with a daemon")
    patch(vm, "drives/slow", {"drive_id": "slow", "rate_limiter": {
        "bandwidth": {"size": DISK_RATE // 4, "refill_time": 250}}})
    before = vm.get()
    cgroups = proc.vm_cgroups(vm.pid)
    assert cgroups
    kill(daemon)
    check_alone(t, before["pid"], stream, old)

    heir_of(t, daemon)
    after = vm.get()
    assert after["state"] == "Running" and after["pid"] == before["pid"]
    for key in ("drives", "network-interfaces", "vsock", "balloon", "entropy",
                "memory-hotplug", "mmds-config", "timeline"):
        assert after[key] == before[key], (key, before[key], after[key])
    vm.sh("true", scaled(20))
    assert b"said while alone" in vm.output()
    for key, name in (("network-interfaces", TAP), ("vsock", "v.sock")):
        other = {key: sections(t)[key]}
        vm.daemon.api.refused("PUT", "/v1/vms/other", other, names=name)
    check_progress(stream)
    check_vsock(t, vm, later, old)
    check_work(t, vm, stream)
    check_drives(t, vm)
    check_memory(vm)
    check_metadata(vm)
    check_limits(vm)
    vm.pause()
    ticks = proc.cpu_seconds(vm.pid)
    assert vm.state == "Paused"
    vm.resume()
    vm.sh("true", scaled(10))
    assert proc.cpu_seconds(vm.pid) >= ticks
    vm.type("poweroff\n")
    check_exit(vm, "shutdown", scaled(20))
    check_gone(t, vm.id, cgroups)
    puppet(t, daemon=vm.daemon, **sections(t))


@linux()
def test_a_guest_boots_is_upgraded_and_ends_without_a_daemon(t):
    config = images.linux(images.bzimage(), sections=sections(t))
    config["boot-source"]["boot_args"] = (
        "console=ttyS0 console=hvc0 mayfly.shell=plain")
    config["machine-config"]["console"] = "virtio"
    daemon = t.own_daemon()
    # It dies in the middle of the boot.
    vm = boot(t, config, daemon, r"Linux version")
    pid, cgroups = vm.pid, proc.vm_cgroups(vm.pid)
    kill(daemon)
    assert b"Hello" not in vm.console.data
    daemon = heir_of(t, daemon)
    vm.expect(r"Linux version(.|\n)*" + GREETING, scaled(30))
    vm.sh("true", scaled(20))  # before that it may echo what is typed
    assert vm.sh("readlink /proc/$$/fd/1") == "/dev/hvc0"
    assert vm.get()["timeline"]["guest_ready"] > 0, vm.get()["timeline"]

    # It is told to go, for another to come.
    vm.sh("(for i in $(seq 200); do echo tick-$i; usleep 20000; done) &")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0
    assert proc.exists(pid)
    time.sleep(1)
    daemon = heir_of(t, daemon)
    assert (vm.state, vm.pid) == ("Running", pid)
    vm.expect(r"tick-200\r?\n", scaled(20))
    ticks = re.findall(r"tick-(\d+)\r?\n", vm.output().decode())
    assert ticks == [str(n) for n in range(1, 201)], ticks
    assert vm.sh("echo " + "x" * 3000 + " | wc -c", scaled(10)) == "3001"
    patch(vm, "console", {"columns": 132, "rows": 43})
    eventually("the new size", lambda: vm.sh("stty size") == "43 132",
               scaled(5), 0.1)

    # Nobody is there when it ends.
    assert tap_there() and os.path.exists(t.path("v.sock"))
    vm.sh("(usleep 1500000; echo last words > /dev/hvc0; usleep 200000; "
          "poweroff -f) > /dev/null 2>&1 &")
    kill(daemon)
    assert proc.exists(pid)
    eventually("it ends, and its tap goes", lambda: not proc.exists(pid)
               and not tap_there(), scaled(20), 0.05)
    assert os.path.exists(t.path("v.sock"))
    heir_of(t, daemon)
    info = vm.get()
    assert info["state"] == "Exited", info
    assert info["exit"]["reason"] == "shutdown", info
    assert b"last words" in vm.output()
    check_gone(t, vm.id, cgroups)
    vm.delete()
    t.vms.remove(vm)
    puppet(t, daemon=vm.daemon, **sections(t))
