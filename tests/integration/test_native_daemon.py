"""The daemon itself: its start, its end, its socket, its log."""

import json
import os
import re
import socket
import subprocess
import time

import images
import mayfly
import proc
from guests import puppet, shared_puppet
from harness import check_usable, eventually, native, program


@native()
def test_sigint_cleans_up(t):
    daemon = t.own_daemon()
    disk = images.blank(t.path("disk"), images.MIB)
    vms = [puppet(t, daemon=daemon, drives=[images.drive(disk)])
           for _ in range(3)]
    vms[1].pause()
    pids = [vm.pid for vm in vms]
    groups = [g for vm in vms for g in proc.vm_cgroups(vm.pid)]
    status = daemon.stop(20)
    assert status == 0, f"the daemon ended with {status}"
    for pid in pids:
        assert not proc.exists(pid), f"{pid} survived"
    for group in groups:
        assert not os.path.exists(group), group
    assert not os.path.exists(daemon.socket), "its socket is still there"
    for vm in vms:
        vm.console.wait_end(5)


@native()
def test_second_daemon_on_one_socket_is_refused(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    second = subprocess.run(
        [daemon.process.args[0], "--socket", daemon.socket,
         "--state-dir", daemon.state_dir], timeout=20,
        stdin=subprocess.DEVNULL, capture_output=True)
    assert second.returncode != 0
    assert second.stderr, "it did not say why"
    assert vm.state == "Running", "the first daemon lost its socket"


@native()
def test_socket_of_a_killed_daemon_is_taken_over(t):
    daemon = t.own_daemon()
    daemon.process.kill()
    daemon.process.wait()
    assert os.path.exists(daemon.socket)
    again = mayfly.Daemon(program(t.build), daemon.dir)
    t.cleanup(again.close)
    puppet(t, daemon=again)


@native()
def test_socket_is_for_root_alone(t):
    st = os.stat(t.daemon.socket)
    assert st.st_mode & 0o007 == 0, oct(st.st_mode)
    assert (st.st_uid, st.st_gid) == (0, 0), (st.st_uid, st.st_gid)


@native()
def test_many_idle_connections_do_not_shut_others_out(t):
    idle = [t.api.raw() for _ in range(200)]
    for s in idle:
        t.cleanup(s.close)
    start = time.monotonic()
    t.api.ok("GET", "/v1/vms")
    assert time.monotonic() - start < 2


@native()
def test_half_closed_client_still_gets_its_answer(t):
    conn = t.api.raw()
    t.cleanup(conn.close)
    conn.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n"
                 b"Connection: close\r\n\r\n")
    conn.shutdown(socket.SHUT_WR)
    data = b""
    while True:
        piece = conn.recv(4096)
        if not piece:
            break
        data += piece
    assert data.startswith(b"HTTP/1.1 200"), data[:80]


@native()
def test_log_lines_are_json_when_asked_for(t):
    daemon = t.own_daemon("--log-format", "json")
    vm = puppet(t, daemon=daemon)
    vm.type("b")
    vm.wait()
    vm.delete()
    daemon.stop()
    events = [json.loads(line) for line in daemon.log_text().splitlines()]
    assert len(events) >= 2, events
    assert any(vm.id in str(e) for e in events), events


@native()
def test_log_lines_are_keys_and_values(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    vm.delete()
    daemon.stop()
    for line in daemon.log_text().splitlines():
        assert re.search(r"\b\w+=\S", line), line


@native()
def test_bad_arguments_are_refused(t):
    for args in (["--no-such-option"], ["--log-format", "xml"], ["word"],
                 ["--socket"], ["--socket", "/" + "x" * 200]):
        ended = subprocess.run([program(t.build), *args],
                               stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=20)
        assert ended.returncode not in (0, 124) and ended.stderr, (args, ended)


@native()
def test_version_and_host_tell(t):
    version = t.api.ok("GET", "/v1/version")
    assert any(re.match(r"\d+\.\d+\.\d+", str(v))
               for v in version.values()), version
    host = t.api.ok("GET", "/v1/host")
    text = json.dumps(host)
    assert "12" in text and "io_uring" in text and "cgroup" in text, host


@native()
def test_probe_tells_the_lane(t):
    probe = subprocess.run([program(t.build), "--probe"],
                           stdin=subprocess.DEVNULL, capture_output=True,
                           encoding="utf-8", timeout=60)
    # There is a KVM, else no test of this file gets so far: it runs Linux
    # or only tiny guests.
    assert probe.returncode in (0, 3), probe
    host = t.api.ok("GET", "/v1/host")
    assert json.loads(probe.stdout).keys() == host.keys(), probe


@native()
def test_keep_alive_connection_serves_many(t):
    conn = mayfly.UnixConnection(t.daemon.socket, 10)
    t.cleanup(conn.close)
    for _ in range(100):
        conn.request("GET", "/v1/vms")
        answer = conn.getresponse()
        assert answer.status == 200
        answer.read()


@native()
def test_refused_starts_leave_nothing(t):
    daemon = t.own_daemon("--pool", "0")
    images.random_file(t.path("noise"), images.MIB)
    disk = images.blank(t.path("disk"), images.MIB)
    body = images.puppet(drives=[images.drive(disk)])
    body["boot-source"] = {"kernel_image_path": t.path("noise")}
    body["start"] = True

    def refuse():
        daemon.api.refused("PUT", "/v1/vms/never", body, "kernel_image_path")

    refuse()
    before = len(proc.fds(daemon.pid))
    for _ in range(20):
        refuse()
    # Connections may take a moment to close, before as after.
    eventually("no descriptor is left",
               lambda: len(proc.fds(daemon.pid)) <= before)
    assert proc.vmms(daemon.pid) == {}
    daemon.api.ok("GET", "/v1/vms")


@native()
def test_requests_are_answered_while_others_wait(t):
    vm = shared_puppet(t)
    waiting = []
    for _ in range(50):
        conn = t.api.raw()
        t.cleanup(conn.close)
        conn.sendall(b"GET " + vm.url("wait?timeout_ms=60000").encode()
                     + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.append(conn)
    start = time.monotonic()
    check_usable(t, vm)
    assert time.monotonic() - start < 3


@native()
def test_two_daemons_share_a_host(t):
    one, two = t.own_daemon(), t.own_daemon()
    first = [puppet(t, daemon=one) for _ in range(3)]
    second = [puppet(t, daemon=two) for _ in range(3)]
    uids = [proc.status(vm.pid)["Uid"].split()[0] for vm in first + second]
    assert len(set(uids)) == 6, f"VMs of two daemons share a uid: {uids}"
    same = [t.vm(images.puppet(), vm_id="same", start=True, daemon=d)
            for d in (one, two)]
    for vm in same:
        vm.expect("puppet ready")
    one.stop()
    for vm in second + same[1:]:
        check_usable(t, vm)
    puppet(t, daemon=two)
