"""GET /metrics: what Prometheus reads."""

import os
import re
import shutil
import subprocess

import guests
import images
from harness import eventually, native

SAMPLE = re.compile(
    r'^([a-z_:]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (-?[0-9.e+-]+)$')


def scrape(t):
    reply = t.api.request("GET", "/metrics")
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"].startswith("text/plain"), reply
    return reply.body.decode()


def samples(text):
    """{(name, frozenset of labels): value}, after a look at the grammar."""
    ret, family, seen = {}, None, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
            assert family not in seen, f"{family} stands in two places"
            seen.add(family)
            continue
        if line.startswith("# HELP "):
            continue
        m = SAMPLE.match(line)
        assert m, f"not a sample: {line!r}"
        assert m.group(1).startswith(family), (family, line)
        labels = frozenset(re.findall(r'([a-z]+)="([^"]*)"',
                                      m.group(2) or ""))
        key = (m.group(1), labels)
        assert key not in ret, f"twice: {line!r}"
        ret[key] = float(m.group(3))
    return ret


def labels(**kwargs):
    return frozenset(kwargs.items())


@native()
def test_metrics_have_every_vm_and_its_devices(t):
    disk = images.blank(t.path("disk"), images.MIB)
    vm = guests.puppet(t, drives=[images.drive(disk, "data")], entropy={})
    idle = t.vm(images.puppet())
    text = scrape(t)
    got = samples(text)
    assert got[("mayfly_vm_state", labels(vm=vm.id, state="Running"))] == 1
    assert got[("mayfly_vm_state", labels(vm=idle.id, state="Not started"))] == 1
    for reason in ("pio", "mmio", "interrupted", "other"):
        assert ("mayfly_vm_exits_total",
                labels(vm=vm.id, reason=reason)) in got
    assert got[("mayfly_vm_exits_total", labels(vm=vm.id, reason="pio"))] > 0
    assert got[("mayfly_vm_memory_resident_bytes", labels(vm=vm.id))] > 0
    assert ("mayfly_vm_drive_reads_total",
            labels(vm=vm.id, drive="data")) in got
    assert ("mayfly_vm_entropy_bytes_total", labels(vm=vm.id)) in got
    assert not any(dict(k[1]).get("vm") == idle.id and "exits" in k[0]
                   for k in got)
    # A console byte is a byte.
    before = got[("mayfly_vm_console_bytes_total", labels(vm=vm.id))]
    assert before == vm.get()["console"]["bytes"]
    vm.delete()
    assert not any(dict(k[1]).get("vm") == vm.id for k in samples(scrape(t)))


def rollup(pid, name):
    """A line of the kernel's account, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return 1024 * sum(int(line.split()[1]) for line in f
                          if line.startswith(name + ":"))


@native()
def test_metrics_tell_the_memory_that_vms_take(t):
    daemon = t.own_daemon()
    vm, other = (guests.puppet(t, daemon=daemon) for _ in range(2))
    gone = guests.puppet(t, daemon=daemon)

    def memory(name, v):
        reply = daemon.api.request("GET", "/metrics").body.decode()
        return samples(reply).get(
            (f"mayfly_vm_memory_{name}_bytes", labels(vm=v.id)))
    # A round begins with the first scrape.
    eventually("a sample", lambda: all(
        memory("pss", v) for v in (vm, other, gone)), 20)
    for v in (vm, other):
        for name, line in (("pss", "Pss"), ("touched", "Anonymous")):
            wanted = rollup(v.pid, line)
            assert abs(memory(name, v) - wanted) < 65536, (name, v.id)
    assert memory("touched", vm) < memory("resident", vm)
    gone.type("b")
    gone.wait()
    assert memory("pss", gone) is None
    assert daemon.stop() == 0


@native()
def test_metrics_histograms_add_up(t):
    def of(got, name):
        return {dict(k[1])["le"]: v for k, v in got.items()
                if k[0] == name + "_bucket" and len(k[1]) == 1}
    name = "mayfly_vm_start_duration_seconds"
    before = samples(scrape(t))
    guests.puppet(t)
    got = samples(scrape(t))
    assert got[(name + "_count", frozenset())] == (
        before[(name + "_count", frozenset())] + 1)
    assert got[(name + "_sum", frozenset())] > (
        before[(name + "_sum", frozenset())])
    buckets = list(of(got, name).values())
    assert buckets == sorted(buckets), buckets
    assert buckets[-1] == got[(name + "_count", frozenset())]
    put = ("mayfly_api_request_duration_seconds_count",
           labels(method="PUT", route="/v1/vms/{id}", status="2xx"))
    assert got[put] > before.get(put, 0)


@native()
def test_metrics_time_requests_by_route_and_status(t):
    daemon = t.own_daemon()

    def count(method, route, status):
        reply = daemon.api.request("GET", "/metrics").body.decode()
        return samples(reply).get(
            ("mayfly_api_request_duration_seconds_count",
             labels(method=method, route=route, status=status)), 0)

    def total(method, route, status):
        reply = daemon.api.request("GET", "/metrics").body.decode()
        return samples(reply)[
            ("mayfly_api_request_duration_seconds_sum",
             labels(method=method, route=route, status=status))]
    vm = guests.puppet(t, daemon=daemon)
    assert count("PUT", "/v1/vms/{id}", "2xx") == 1
    assert 0 < total("PUT", "/v1/vms/{id}", "2xx") < 10
    # What it waited for counts: here, for the end of a VM that goes on.
    daemon.api.request("GET", vm.url("wait?timeout_ms=300"))
    assert 0.3 <= total("GET", "/v1/vms/{id}/wait", "2xx") < 10
    assert daemon.api.request("GET", "/v1/vms/none").status == 404
    assert daemon.api.request("PUT", vm.url("actions"), "{").status == 400
    assert daemon.api.request("GET", "/none").status == 404
    assert count("GET", "/v1/vms/{id}", "4xx") == 1
    assert count("PUT", "/v1/vms/{id}/actions", "4xx") == 1
    assert count("", "", "4xx") == 1
    assert count("GET", "/metrics", "2xx") > 5
    # What has no end has no time: the console is followed, and the events.
    conn, answer = daemon.api.stream(f"/v1/events?vm={vm.id}&after=0")
    assert answer.readline()
    conn.close()
    vm.console.close()
    assert count("GET", "/v1/events", "2xx") == 0
    assert count("GET", "/v1/vms/{id}/console", "2xx") == 0
    daemon.api.request("GET", vm.url("console"))
    assert count("GET", "/v1/vms/{id}/console", "2xx") == 1


def documented():
    """{name: (type, labels)} of openapi/metrics.md."""
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "..", "..", "openapi", "metrics.md")
    with open(page, encoding="utf-8") as f:
        rows = [[c.strip() for c in line.split("|")[1:-1]]
                for line in f if line.startswith("| `mayfly_")]
    ret = {name.strip("`"): (kind, set(l for l in label.split(", ") if l))
           for name, kind, label, what in rows if what}
    assert len(ret) == len(rows)
    return ret


@native()
def test_metrics_are_as_documented(t):
    disk = images.blank(t.path("disk"), images.MIB)
    guests.puppet(t, drives=[images.drive(disk, "data")], entropy={},
                  pmem=[{"id": "p", "path_on_host": disk,
                         "read_only": True}])
    text = scrape(t)
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    table = documented()
    assert types == {name: kind for name, (kind, _) in table.items()}
    seen = set()
    for name, got in samples(text):
        family = name if name in table else name.rsplit("_", 1)[0]
        assert {k for k, _ in got} - {"le"} == table[family][1], (name, got)
        seen.add(family)
    assert {"mayfly_vm_drive_reads_total", "mayfly_vm_pmem_flushes_total",
            "mayfly_vm_exits_total", "mayfly_pool_starts_total",
            "mayfly_api_request_duration_seconds"} <= seen


@native()
def test_metrics_please_promtool(t):
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    disk = images.blank(t.path("disk"), images.MIB)
    guests.puppet(t, drives=[images.drive(disk, "data")], entropy={})
    done = subprocess.run([promtool, "check", "metrics"], input=scrape(t),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done


@native()
def test_metrics_count_console_output_that_was_limited(t):
    vm = t.vm({**images.puppet(), "boot-source": {"kernel_image_path": (
        images.puppet_kernel().replace("puppet", "count"))}}, start=True)
    eventually("some output", lambda: vm.get()["console"]["bytes"] > 1000)
    t.api.ok("PATCH", vm.url("serial"), {"rate_limiter": {
        "bandwidth": {"size": 100, "refill_time": 3600000}}})
    eventually("dropped bytes", lambda: samples(scrape(t))[(
        "mayfly_vm_console_limited_total", labels(vm=vm.id))] > 1000)
    before = vm.get()["console"]["bytes"]
    assert vm.get()["counters"]["console_limited"] > 1000
    assert vm.get()["console"]["bytes"] == before
