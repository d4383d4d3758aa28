"""mayflyd --metrics-listen, and a real Prometheus that scrapes it."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse

import images
from harness import eventually, native, program

VMS = 100

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: mayfly
    static_configs:
      - targets: ["{target}"]
"""


def listening_daemon(t):
    """A daemon and where it can be scraped, "ADDR:PORT"."""
    daemon = t.own_daemon("--metrics-listen", "127.0.0.1:0")
    m = re.search(r"event=metrics_listening address=(\S+)", daemon.log_text())
    assert m, daemon.log_tail()
    return daemon, m.group(1)


def get(address, path, method="GET", body=None):
    conn = http.client.HTTPConnection(address, timeout=20)
    try:
        conn.request(method, path, body=body)
        reply = conn.getresponse()
        return reply.status, reply.read().decode()
    finally:
        conn.close()


def halted():
    """A guest which says that it is ready, and then takes no CPU."""
    config = images.puppet()
    config["boot-source"]["kernel_image_path"] = (
        images.puppet_kernel().replace("puppet", "ready"))
    return config


@native()
def test_metrics_port_has_metrics_and_nothing_else(t):
    daemon, address = listening_daemon(t)
    vm = t.vm(halted(), start=True, daemon=daemon)
    status, text = get(address, "/metrics")
    assert status == 200 and f'mayfly_vm_state{{vm="{vm.id}"' in text
    for method, path in (("GET", "/v1/vms"), ("GET", vm.url()),
                         ("GET", "/v1/events"), ("GET", "/"),
                         ("GET", "/metrics/"), ("PUT", "/metrics"),
                         ("HEAD", "/metrics"), ("DELETE", vm.url())):
        status, text = get(address, path, method)
        assert status == 404, (method, path, status, text)
    status, text = get(address, vm.url("actions"), "PUT", json.dumps(
        {"action_type": "SendCtrlAltDel"}))
    assert status == 404, (status, text)
    status, text = get(address, "/metrics?vm=x")
    assert status == 400, (status, text)
    assert vm.state == "Running"
    # It stops like any other.
    conn = http.client.HTTPConnection(address, timeout=20)
    conn.connect()
    assert daemon.stop() == 0
    conn.close()


@native()
def test_metrics_port_is_refused_by_name(t):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    for address in ("127.0.0.1", "127.0.0.1:70000", "somewhere:80",
                    f"127.0.0.1:{port}"):
        done = subprocess.run(
            [program(t.build), "--socket", t.path("s"), "--state-dir",
             t.path("state"), "--metrics-listen", address],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=20, check=False)
        assert done.returncode != 0
        assert "--metrics-listen" in done.stderr, (address, done)
        assert address in done.stderr, (address, done)
    taken.close()


class Prometheus:
    def __init__(self, t, target):
        found = shutil.which("prometheus")
        assert found, "prometheus is missing: apt-get install prometheus"
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.address = f"127.0.0.1:{s.getsockname()[1]}"
        config = t.path("prometheus.yml")
        with open(config, "w", encoding="ascii") as f:
            f.write(CONFIG.format(target=target))
        with open(t.path("prometheus.log"), "wb") as log:
            self.process = subprocess.Popen(
                [found, f"--config.file={config}",
                 f"--storage.tsdb.path={t.path('tsdb')}",
                 f"--web.listen-address={self.address}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "GOMAXPROCS": "1"})
        self.log = t.path("prometheus.log")
        t.cleanup(self.close)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def query(self, expression):
        """The result of an instant query: a list of (labels, value); None as
        long as it does not answer."""
        assert self.process.poll() is None, open(
            self.log, encoding="utf-8").read()[-2000:]
        try:
            status, text = get(self.address, "/api/v1/query?query="
                               + urllib.parse.quote(expression))
        except OSError:
            return None
        if status != 200:
            return None
        return [(r["metric"], float(r["value"][1]))
                for r in json.loads(text)["data"]["result"]]


@native()
def test_prometheus_scrapes_a_hundred_vms(t):
    daemon, address = listening_daemon(t)
    disk = images.blank(t.path("disk"), images.MIB)
    config = halted()
    config["drives"] = [images.drive(disk, "data", is_read_only=True)]
    vms = [t.vm(config, vm_id=f"p{i}", start=True, daemon=daemon)
           for i in range(VMS)]
    p = Prometheus(t, address)

    def value(expression):
        result = p.query(expression)
        return result[0][1] if result else None

    eventually("a scrape", lambda: value("up") == 1, 30, 0.1)
    eventually("all VMs", lambda: value(
        'count(mayfly_vm_state{state="Running"})') == VMS, 30, 0.1)
    eventually("their memory", lambda: value(
        "count(mayfly_vm_memory_pss_bytes > 0)") == VMS, 30, 0.1)
    ready = p.query('mayfly_vm_exits_total{reason="pio"}')
    assert {m["vm"] for m, v in ready if v >= 1} == {vm.id for vm in vms}
    assert value("count(mayfly_vm_drive_reads_total)") == VMS
    assert value("mayfly_vm_start_duration_seconds_count") == VMS
    fast = value("histogram_quantile(0.5, "
                 "mayfly_vm_start_duration_seconds_bucket)")
    assert 0 < fast < 10, fast
    assert value("scrape_duration_seconds") < 1
    # What is gone is gone in the next scrape.
    for vm in vms[:10]:
        vm.delete()
    eventually("ten less", lambda: value(
        'count(mayfly_vm_state{state="Running"})') == VMS - 10, 30, 0.1)
    assert value("up") == 1
