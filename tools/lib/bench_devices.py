#!/usr/bin/env python3
"""tools/bench devices, where the guests run; see tools/lib/bench-devices."""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_counts
from bench_guests import Mayfly, Qemu

GROUPS = ("boot", "disk", "net", "vsock", "counts")
WORKLOADS = (("sequential read", "read"), ("random read", "randread"),
             ("sequential write", "write"), ("random write", "randwrite"))
DEPTHS = (1, 32)
SECONDS = 3
VSOCK_BYTES = 32 << 20
PIECE = 1 << 18


def say(text):
    print(text, file=sys.stderr, flush=True)


def fio(guest, rw, depth, extra):
    """fio's own account of one run. A queue deeper than 1 is filled and
    emptied as a whole, as programs do that care for throughput."""
    if depth > 1:
        extra += (f" --iodepth_batch_submit={depth} --iodepth_batch_complete_"
                  f"min={depth} --iodepth_batch_complete_max={depth}")
    out = guest.sh(
        f"fio --name=x --filename={guest.disk} --direct=1 --ioengine=libaio "
        f"--rw={rw} --bs=4k --iodepth={depth} --size=256m --randrepeat=1 "
        f"--output-format=json {extra} 2>/dev/null")
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return job["write" if "write" in rw else "read"]


def disk_iops(guest, rw, depth):
    return fio(guest, rw, depth,
               f"--time_based --runtime={SECONDS} --ramp_time=0.5")["iops"]


def disk_counts(guest, depth):
    """(exits, system calls) per request, over a run whose own beginning and
    end are taken out by the difference of a short and a long one. KVM_RUN is
    no system call here: its returns are the dearest of the exits."""
    def run(ios):
        tids = guest.threads()
        exits = bench_counts.Counter("kvm/kvm_exit", tids)
        calls = bench_counts.Counter("raw_syscalls/sys_enter", tids)
        runs = bench_counts.Counter("kvm/kvm_userspace_exit", tids)
        done = fio(guest, "randread", depth, f"--number_ios={ios}")
        ret = (done["total_ios"], exits.read(), calls.read() - runs.read())
        for counter in (exits, calls, runs):
            counter.close()
        return ret
    # What else the guest does meanwhile must be little beside it.
    short, long = run(2000), run(12000 if depth == 1 else 80000)
    ios = long[0] - short[0]
    return (long[1] - short[1]) / ios, (long[2] - short[2]) / ios


class Server:
    """A program on the host's side of the tap."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()


def tcp_gbits(guest, reverse):
    with Server("iperf3", "-s", "-1", "-B", guest.host_ip):
        out = guest.sh(f"iperf3 -c {guest.host_ip} -t {SECONDS} -O 0.5 -J "
                       f"{'-R' if reverse else ''}")
    end = json.loads(out[out.index("{"):])["end"]
    return end["sum_received"]["bits_per_second"] / 1e9


def round_trip_us(guest):
    with Server("sockperf", "server", "--tcp", "-i", guest.host_ip):
        out = guest.sh(f"sockperf ping-pong --tcp -i {guest.host_ip} "
                       f"-t {SECONDS} --full-rtt 2>&1")
    for line in out.splitlines():
        if "percentile 50.000" in line:
            return float(line.split("=")[1])
    raise RuntimeError(f"sockperf did not say: {out}")


def pour(sock, total):
    piece = bytes(PIECE)
    while total > 0:
        total -= sock.send(piece[:min(total, PIECE)])
    sock.shutdown(socket.SHUT_WR)


def drain(sock):
    buf, total = bytearray(PIECE), 0
    while True:
        n = sock.recv_into(buf)
        if n == 0:
            return total
        total += n


def vsock_from_guest(guest):
    """MB/s from the first byte to the last."""
    with guest.vsock_listen(5001) as listener:
        result = []

        def serve():
            conn, _ = listener.accept()
            with conn:
                first = conn.recv(1)
                begin = time.monotonic()
                total = len(first) + drain(conn)
                result.extend((total, time.monotonic() - begin))
        thread = threading.Thread(target=serve)
        thread.start()
        guest.sh(f"head -c {VSOCK_BYTES} /dev/zero | "
                 "socat -u -b 262144 - VSOCK-CONNECT:2:5001")
        thread.join()
    if hasattr(guest, "uds"):
        os.unlink(f"{guest.uds}_5001")
    if result[0] != VSOCK_BYTES:
        raise RuntimeError(f"{guest.name}: {result[0]} bytes came")
    return result[0] / result[1] / 1e6


def vsock_to_guest(guest):
    guest.sh("(socat -u -b 262144 VSOCK-LISTEN:5002 - | wc -c >/tmp/n) "
             ">/dev/null 2>&1 &")
    deadline = time.monotonic() + 30
    while True:
        try:
            conn = guest.vsock_connect(5002)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with conn:
        begin = time.monotonic()
        pour(conn, VSOCK_BYTES)
        # Its end tells that all of it has been taken.
        conn.settimeout(600)
        while conn.recv(1):
            pass
        seconds = time.monotonic() - begin
    got = int(guest.sh("while [ ! -s /tmp/n ]; do usleep 10000; done; "
                       "cat /tmp/n; rm /tmp/n"))
    if got != VSOCK_BYTES:
        raise RuntimeError(f"{guest.name}: {got} bytes arrived")
    return got / seconds / 1e6


class Row:
    """One line of the table: what each of both did, by round."""

    def __init__(self, group, title, unit, more_is_better=True):
        self.group, self.title, self.unit = group, title, unit
        self.more_is_better = more_is_better
        self.values = {Mayfly.name: [], Qemu.name: []}

    def median(self, name):
        return statistics.median(self.values[name])

    def ratio(self):
        """How many times better Mayfly is."""
        pairs = zip(self.values[Mayfly.name], self.values[Qemu.name])
        ratios = [a / b if self.more_is_better else b / a for a, b in pairs]
        return statistics.median(ratios)


def measurements(groups):
    """(row, function of a guest) in the order they are made."""
    if "boot" in groups:
        yield (Row("boot", "boot to init's greeting", "s", False),
               lambda g: g.boot_s)
    if "disk" in groups:
        for title, rw in WORKLOADS:
            for depth in DEPTHS:
                yield (Row("disk", f"4k {title}, depth {depth}", "IOPS"),
                       lambda g, rw=rw, d=depth: disk_iops(g, rw, d))
    if "net" in groups:
        yield (Row("net", "TCP, guest to host", "Gbit/s"),
               lambda g: tcp_gbits(g, False))
        yield (Row("net", "TCP, host to guest", "Gbit/s"),
               lambda g: tcp_gbits(g, True))
        yield (Row("net", "TCP round trip, p50", "us", False), round_trip_us)
    if "vsock" in groups:
        yield Row("vsock", "vsock, guest to host", "MB/s"), vsock_from_guest
        yield Row("vsock", "vsock, host to guest", "MB/s"), vsock_to_guest


def count_rows(guests):
    for depth in DEPTHS:
        exits = Row("counts", f"VM exits per request, depth {depth}", "",
                    False)
        calls = Row("counts", f"host system calls per request, depth {depth}",
                    "", False)
        for guest in guests:
            e, c = disk_counts(guest, depth)
            exits.values[guest.name].append(e)
            calls.values[guest.name].append(c)
        yield exits
        yield calls


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def print_table(rows):
    print(f"{'':42} {'Mayfly':>12} {'QEMU':>12} {'':7} {'times better':>12}")
    for row in rows:
        print(f"{row.title:42} {number(row.median(Mayfly.name)):>12} "
              f"{number(row.median(Qemu.name)):>12} {row.unit:7} "
              f"{row.ratio():12.2f}")


def measure(options, rows):
    """One round: a fresh guest of each; they take turns at each row."""
    directory = tempfile.mkdtemp(prefix="mayfly-bench-")
    guests = []
    try:
        for make in (Mayfly, Qemu):
            guests.append(make(options, directory))
        for row, function in rows:
            for guest in guests:
                value = function(guest)
                row.values[guest.name].append(value)
                say(f"  {row.title}: {guest.name} {number(value)} {row.unit}")
        return list(count_rows(guests)) if options.counts else []
    finally:
        for guest in guests:
            guest.close()
        shutil.rmtree(directory, ignore_errors=True)


def make_disk():
    """A disk in memory that completes as a real one does, by interrupt."""
    if not os.path.exists("/dev/nullb0"):
        subprocess.run(["modprobe", "null_blk", "nr_devices=1", "gb=1",
                        "memory_backed=1", "irqmode=1"], check=True)
    return "/dev/nullb0"


def main():
    parser = argparse.ArgumentParser()
    for name in ("build", "kernel", "initrd", "root"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--json")
    parser.add_argument("--plot")
    options = parser.parse_args()
    groups = options.groups = options.only.split(",")
    for group in groups:
        if group not in GROUPS:
            parser.error(f"--only: no group {group}; there are "
                         + ", ".join(GROUPS))
    bench_counts.mount_tracing()
    for module in ("tun", "vhost_vsock"):
        subprocess.run(["modprobe", "-q", module], check=False)
    options.disk = make_disk()
    rows = list(measurements(groups))
    counts = []
    for i in range(options.rounds):
        options.counts = "counts" in groups and i == 0
        say(f"Round {i + 1} of {options.rounds}")
        counts += measure(options, rows)
    table = [row for row, _ in rows] + counts
    print_table(table)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump([vars(row) | {"ratio": row.ratio()} for row in table],
                      f, indent=1)
    if options.plot:
        import bench_plot
        bench_plot.write(options.plot, table)


if __name__ == "__main__":
    main()
