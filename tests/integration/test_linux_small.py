"""Entropy, the balloon and the consoles under Linux' own drivers."""

import time

import guests
import images
import proc
from harness import eventually, linux, scaled

MIB = images.MIB
MEM_MIB = 192


def guest(t):
    """On the serial port; a balloon with all but reporting, which would take
    the pages that the other tests want to see go."""
    def config():
        return {**images.linux(images.bzimage(), mem_mib=MEM_MIB),
                "entropy": {},
                "balloon": {"amount_mib": 0, "deflate_on_oom": True,
                            "stats_polling_interval_s": 1,
                            "free_page_hinting": True}}
    return guests.shared_linux(t, "serial", config)


ENTROPY_RATE = 8192  # bytes a second


def hvc_guest(t):
    """On hvc0; free pages are reported, entropy is limited."""
    def config():
        c = images.linux(images.bzimage(), mem_mib=MEM_MIB)
        c["boot-source"]["boot_args"] = (
            "console=hvc0 quiet mayfly.shell=plain")
        c["machine-config"]["console"] = "virtio"
        c["entropy"] = {"rate_limiter": {"bandwidth": {
            "size": ENTROPY_RATE, "refill_time": 1000}}}
        c["balloon"] = {"amount_mib": 0, "deflate_on_oom": False,
                        "free_page_reporting": True}
        return c
    return guests.shared_linux(t, "hvc", config)


def patch(vm, rest, body=None):
    vm.daemon.api.ok("PATCH", vm.url(rest), body)


def counters(vm, section):
    return vm.get()["counters"][section]


def statistics(vm):
    return vm.daemon.api.ok("GET", vm.url("balloon/statistics"))


def hinting(vm):
    return vm.daemon.api.ok("GET", vm.url("balloon/hinting/status"))


def fill(vm, mib):
    vm.sh("mount -o remount,size=90% /tmp && "
          f"dd if=/dev/zero of=/tmp/fill bs=1M count={mib} 2>/dev/null",
          scaled(20))


def touch_and_free(vm, mib):
    """Makes the host back so much of the guest's memory, which the guest then
    has free again."""
    fill(vm, mib)
    vm.sh("rm /tmp/fill")


def pss(vm):
    return proc.memory_kib(vm.pid, "Pss") << 10


def set_balloon(vm, mib):
    patch(vm, "balloon", {"amount_mib": mib})
    eventually(f"a balloon of {mib} MiB",
               lambda: statistics(vm)["actual_mib"] == mib, scaled(20), 0.05)


# ---- entropy ----

@linux()
def test_entropy_reaches_the_guest(t):
    vm = guest(t)
    before = counters(vm, "entropy")
    assert vm.sh("cat /sys/class/misc/hw_random/rng_current") == "virtio_rng.0"
    read = "dd if=/dev/hwrng bs=4096 count=8 2>/dev/null"
    vm.sh(f"{read} > /tmp/a && {read} > /tmp/b", scaled(20))
    assert vm.sh("wc -c < /tmp/a") == "32768"
    assert vm.run("cmp -s /tmp/a /tmp/b")[0] == 1
    # Random bytes do not shrink, and each value appears.
    assert int(vm.sh("gzip -c /tmp/a | wc -c")) >= 32768
    assert int(vm.sh("od -An -v -tx1 /tmp/a | tr ' ' '\\n' | sort -u | "
                     "grep -c .", scaled(20))) == 256
    after = counters(vm, "entropy")
    assert after["bytes"] - before["bytes"] >= 65536, (before, after)
    assert after["errors"] == after["malformed"] == 0, after


@linux()
def test_entropy_is_limited(t):
    vm = hvc_guest(t)
    vm.sh("dd if=/dev/hwrng of=/dev/null bs=512 count=16 2>/dev/null",
          scaled(20))  # what it may have at once
    cpu = proc.thread_cpu_seconds(vm.pid, "io")
    begin, before = time.monotonic(), counters(vm, "entropy")
    vm.sh("dd if=/dev/hwrng of=/dev/null bs=512 count=48 2>/dev/null",
          scaled(30))
    after, took = counters(vm, "entropy"), time.monotonic() - begin
    got = after["bytes"] - before["bytes"]
    assert got >= 24576 - ENTROPY_RATE, (before, after)
    # A bucket's worth may have been left.
    assert got <= ENTROPY_RATE * (took + 1), (got, took)
    assert after["throttled"] > before["throttled"], (before, after)
    # To wait is not to work.
    assert proc.thread_cpu_seconds(vm.pid, "io") - cpu < 0.5 * took


# ---- the balloon ----

@linux()
def test_balloon_statistics_are_plausible(t):
    vm = guest(t)
    s = eventually("statistics", lambda: (
        lambda now: now if "free_memory" in now else None)(statistics(vm)))
    assert s["target_pages"] == s["actual_pages"] == 0, s
    assert MEM_MIB // 2 * MIB < s["total_memory"] <= MEM_MIB * MIB, s
    assert 0 < s["free_memory"] <= s["available_memory"], s
    assert s["available_memory"] < s["total_memory"], s
    assert s["minor_faults"] > s["major_faults"] >= 0, s
    # They follow what happens there.
    vm.sh("dd if=/dev/zero of=/tmp/keep bs=1M count=64 2>/dev/null",
          scaled(20))
    eventually("64 MiB less", lambda: statistics(vm)["free_memory"]
               < s["free_memory"] - 56 * MIB, scaled(5), 0.05)
    # So do they in another rhythm.
    patch(vm, "balloon/statistics", {"stats_polling_interval_s": 2})
    vm.sh("rm /tmp/keep")
    eventually("64 MiB more", lambda: statistics(vm)["free_memory"]
               > s["free_memory"] - 16 * MIB, scaled(5), 0.05)
    patch(vm, "balloon/statistics", {"stats_polling_interval_s": 1})


@linux()
def test_balloon_gives_memory_to_the_host_and_back(t):
    vm = guest(t)
    touch_and_free(vm, 100)
    full = pss(vm)
    set_balloon(vm, 64)
    inflated = pss(vm)
    assert 0.9 * 64 * MIB <= full - inflated <= 1.1 * 64 * MIB, (
        full, inflated)
    pages = counters(vm, "balloon")
    assert pages["inflated_pages"] >= 64 * 256, pages
    assert int(vm.sh("awk '/^MemFree/ { print $2 }' /proc/meminfo")) < (
        (MEM_MIB - 64) << 10)
    # The guest can use it all again, and then it is there again.
    set_balloon(vm, 0)
    touch_and_free(vm, 100)
    assert pss(vm) >= full - 8 * MIB, (full, pss(vm))
    pages = counters(vm, "balloon")
    assert pages["deflated_pages"] >= 64 * 256, pages
    assert pages["errors"] == pages["malformed"] == 0, pages


@linux()
def test_balloon_deflates_before_the_guest_runs_out_of_memory(t):
    vm = guest(t)
    free_mib = int(vm.sh(
        "awk '/^MemAvailable/ { print $2 }' /proc/meminfo")) >> 10
    size = free_mib - 30
    set_balloon(vm, size)
    # A little more than the balloon leaves.
    fill(vm, 40)
    assert vm.sh("wc -c < /tmp/fill") == str(40 * MIB)
    assert statistics(vm)["actual_mib"] < size, statistics(vm)
    assert vm.run("dmesg | grep -i 'killed process'")[0] == 1
    vm.sh("rm /tmp/fill")
    set_balloon(vm, 0)


@linux()
def test_balloon_hinting_runs_from_start_to_done(t):
    vm = guest(t)
    vm.sh("seq 200000 > /tmp/kept", scaled(10))
    kept = vm.sh("sha256sum < /tmp/kept", scaled(10))
    touch_and_free(vm, 80)
    full = pss(vm)
    patch(vm, "balloon/hinting/start")
    eventually("the run's end", lambda: hinting(vm) == {
        "host_cmd": 1, "guest_cmd": 0}, scaled(20), 0.05)
    hinted = counters(vm, "balloon")["hinted_bytes"]
    assert hinted >= 48 * MIB, hinted
    assert full - pss(vm) >= 40 * MIB, (full, pss(vm))
    # The guest has its pages back, and those in use were none of them.
    touch_and_free(vm, 100)
    assert vm.sh("sha256sum < /tmp/kept", scaled(10)) == kept
    vm.sh("rm /tmp/kept")


@linux()
def test_balloon_hinting_waits_to_be_stopped(t):
    vm = guest(t)
    free = "awk '/^MemFree/ { print $2 }' /proc/meminfo"
    before = int(vm.sh(free))
    patch(vm, "balloon/hinting/start", {"acknowledge_on_stop": False})
    run = hinting(vm)["host_cmd"]
    assert run >= 2, hinting(vm)
    eventually("the guest's stop", lambda: hinting(vm)["guest_cmd"] == 0
               and counters(vm, "balloon")["hinted_bytes"] > 0, scaled(20),
               0.05)
    assert hinting(vm)["host_cmd"] == run, hinting(vm)
    patch(vm, "balloon/hinting/stop")
    assert hinting(vm)["host_cmd"] == 1, hinting(vm)
    eventually("the pages in the guest's hands again",
               lambda: int(vm.sh(free)) > before - (16 << 10), scaled(10),
               0.1)


@linux()
def test_free_pages_are_reported_unasked(t):
    vm = hvc_guest(t)
    fill(vm, 100)
    full = pss(vm)
    vm.sh("rm /tmp/fill")
    # A guest reports what is free as a whole 2 MiB block: most of it.
    eventually("100 MiB less", lambda: pss(vm) < full - 80 * MIB,
               scaled(10), 0.1)
    reported = counters(vm, "balloon")
    assert reported["reported_bytes"] >= 80 * MIB, reported
    assert reported["errors"] == reported["malformed"] == 0, reported
    # And they are there when they are needed.
    touch_and_free(vm, 100)


# ---- the consoles ----

@linux()
def test_hvc0_is_the_console(t):
    vm = hvc_guest(t)
    assert vm.sh("cat /sys/class/tty/console/active").split()[-1] == "hvc0"
    assert vm.sh("readlink /proc/$$/fd/1") == "/dev/hvc0"
    # Long input and long output arrive whole.
    assert vm.sh("echo " + "x" * 3000 + " | wc -c", scaled(10)) == "3001"
    assert vm.sh("seq 500", scaled(20)).split() == [
        str(i) for i in range(1, 501)]
    out = vm.sh("seq 20000 | tr '\\n' ' '; echo", scaled(20))
    assert out.split() == [str(i) for i in range(1, 20001)]


@linux()
def test_hvc0_does_not_take_the_serial_port_away(t):
    vm = hvc_guest(t)
    vm.console.mark = len(vm.console.data)
    vm.sh("echo from-the-other-port > /dev/ttyS0")
    assert b"from-the-other-port" in vm.output()


@linux()
def test_hvc0_is_resized(t):
    vm = hvc_guest(t)
    patch(vm, "console", {"columns": 132, "rows": 43})
    eventually("the new size", lambda: vm.sh("stty size") == "43 132",
               scaled(5), 0.05)
    patch(vm, "console", {"columns": 80, "rows": 24})
    eventually("the old size", lambda: vm.sh("stty size") == "24 80",
               scaled(5), 0.05)


def limit_console(vm, size, refill_ms):
    patch(vm, "serial", {"rate_limiter": {"bandwidth": {
        "size": size, "refill_time": refill_ms}}})


TALK = ("i=0; while [ $i -lt 100 ]; do i=$((i+1)); "
        "echo line-$i-of-what-is-said-to-whoever-listens-there; done")


@linux()
def test_hvc0_over_its_limit_waits(t):
    vm = hvc_guest(t)
    limit_console(vm, 2048, 1000)
    begin = time.monotonic()
    out = vm.sh(TALK, scaled(30))
    took = time.monotonic() - begin
    limit_console(vm, 0, 0)
    lines = [f"line-{i}-of-what-is-said-to-whoever-listens-there"
             for i in range(1, 101)]
    assert out.splitlines() == lines
    assert len("\r\n".join(lines)) <= 2048 * (took + 1.1), took
    assert vm.get()["counters"]["console_limited"] == 0


@linux()
def test_serial_port_over_its_limit_drops_and_counts(t):
    vm = guest(t)
    assert vm.get()["counters"]["console_limited"] == 0
    before = vm.get()["counters"]
    # Nothing of it is seen while the limit holds, so it is not waited for.
    limit_console(vm, 100, 3600 * 1000)
    vm.type(TALK + "; touch /tmp/said\n")
    eventually("bytes to be dropped", lambda: vm.get()["counters"][
        "console_limited"] > 4000, scaled(20), 0.05)
    limit_console(vm, 0, 0)
    assert vm.sh("ls /tmp/said", scaled(20)).endswith("/tmp/said")
    dropped = vm.get()["counters"]["console_limited"]
    assert dropped < 10000, (before, dropped)
