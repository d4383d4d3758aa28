"""Sudden ends: of a VMM in every state, of clients in mid-request. Nothing
hangs, and nothing is left behind."""

import json
import os
import signal
import subprocess
import threading
import time

import images
import proc
from guests import puppet
from harness import check_exit, check_usable, eventually, native


def process_of(daemon_pid, vm_id, deadline):
    """The VM's process as soon as it is one, or None."""
    while time.monotonic() < deadline:
        pid = proc.vmms(daemon_pid).get(vm_id)
        if pid:
            return pid
    return None


@native()
def test_kill_while_starting_is_an_answer(t):
    # Whenever it hits, the start is answered: it succeeded or it names why.
    other = puppet(t)
    for attempt in range(10):
        vm = t.vm(images.puppet())
        replies = []

        def start(vm=vm, replies=replies):
            replies.append(t.api.request(
                "PUT", vm.url("actions"), {"action_type": "InstanceStart"}))

        starter = threading.Thread(target=start)
        starter.start()
        pid = process_of(t.daemon.pid, vm.id, time.monotonic() + 5)
        assert pid, "no process was started"
        time.sleep(attempt * 0.0007)  # a different moment of the start
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        starter.join(10)
        assert replies, "the start was never answered"
        assert replies[0].status in (200, 204, 400, 500), replies
        if replies[0].status >= 400:
            assert replies[0].fault, replies
            assert vm.state in ("Not started", "Exited"), vm.get()
        else:
            check_exit(vm, "killed", 10)
    check_usable(t, other)


@native()
def test_kill_while_paused(t):
    vm = puppet(t)
    vm.pause()
    os.kill(vm.pid, signal.SIGKILL)
    check_exit(vm, "killed", 10)


@native()
def test_kill_with_followers_and_waiters_attached(t):
    vm = puppet(t)
    answers = []
    waiters = [threading.Thread(target=lambda: answers.append(vm.wait(20)))
               for _ in range(4)]
    for w in waiters:
        w.start()
    vm.type("c")
    vm.expect("tick 00000003")
    os.kill(vm.pid, signal.SIGKILL)
    for w in waiters:
        w.join(10)
    assert [a["reason"] for a in answers] == ["killed"] * 4, answers
    vm.console.wait_end(10)
    assert vm.output() == vm.console.data


@native()
def test_kill_while_a_request_waits_for_its_answer(t):
    vm = puppet(t)
    pid = vm.pid
    os.kill(pid, signal.SIGSTOP)  # so that the pause below stays unanswered
    replies = []
    asker = threading.Thread(target=lambda: replies.append(t.api.request(
        "PATCH", vm.url("vm"), {"state": "Paused"})))
    asker.start()
    # Nothing tells that the request has arrived; it is given time to.
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    asker.join(10)
    assert replies and replies[0].status >= 400, replies
    check_exit(vm, "killed", 10)


@native()
def test_requests_to_an_exited_vm_are_refused(t):
    vm = puppet(t)
    vm.type("b")
    vm.wait()
    for method, rest, body in (
            ("PATCH", "vm", {"state": "Paused"}),
            ("PATCH", "vm", {"state": "Resumed"}),
            ("PUT", "actions", {"action_type": "InstanceStart"}),
            ("PUT", "actions", {"action_type": "SendCtrlAltDel"}),
            ("PUT", "console", "x")):
        reply = t.api.request(method, vm.url(rest), body)
        assert 400 <= reply.status < 500 and reply.fault, (method, rest, reply)


@native()
def test_delete_with_followers_and_waiters_attached(t):
    vm = puppet(t)
    replies = []
    waiter = threading.Thread(target=lambda: replies.append(t.api.request(
        "GET", vm.url("wait?timeout_ms=20000"))))
    waiter.start()
    follower = vm.follow()
    time.sleep(0.1)  # nothing tells when the waiter has been taken in
    vm.delete()
    waiter.join(10)
    assert replies, "the waiter was left hanging"
    follower.wait_end(10)
    assert t.api.request("GET", vm.url()).status == 404


@native(limit=120)
def test_fifty_cycles_leave_nothing(t):
    # What AddressSanitizer keeps of freed memory is no leak.
    daemon = t.own_daemon("--pool", "2", env={
        **os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1"})
    disk = images.blank(t.path("disk"), images.MIB)

    groups = set()

    def cycle(n):
        vm = t.vm(images.puppet(drives=[images.drive(disk)]), start=True,
                  daemon=daemon, vm_id=f"cycle{n}")
        if n > 50:
            groups.update(proc.vm_cgroups(vm.pid))
        if n % 5 == 0:
            vm.expect("puppet ready")
        if n % 7 == 0:
            os.kill(vm.pid, signal.SIGKILL)
        if n % 3 == 0:
            vm.pid and vm.get()
        if vm.console:
            vm.console.close()
        vm.delete()
        t.vms.remove(vm)

    for n in range(5):  # what is made once, is made now
        cycle(n)
    eventually("the pool is full",
               lambda: len(proc.children(daemon.pid)) == 2)
    before = sorted(proc.fds(daemon.pid).values())
    mounts = proc.mounts(daemon.pid)
    rss = int(proc.status(daemon.pid)["VmRSS"].split()[0])
    for n in range(5, 55):
        cycle(n)
    eventually("no process is left",
               lambda: not proc.vmms(daemon.pid))

    # Connections may take a moment to close, before as after.
    eventually(f"no descriptor is left beyond {before}",
               lambda: len(proc.fds(daemon.pid)) <= len(before))
    assert proc.mounts(daemon.pid) == mounts
    # A user id, and so a group's name, may be another VM's by now.
    left = [g for g in groups if os.path.exists(g)
            and not open(os.path.join(g, "cgroup.procs"),
                         encoding="ascii").read()]
    assert groups and not left, left
    left = [os.path.join(p, n) for p, ds, fs in os.walk(daemon.state_dir)
            for n in ds + fs if "cycle" in n]
    assert not left, left
    grown = int(proc.status(daemon.pid)["VmRSS"].split()[0]) - rss
    assert grown < 8192, f"the daemon grew by {grown} KiB in 50 cycles"


@native(limit=120)
def test_uids_are_used_again(t):
    # More VMs in turn than a leak of ids could survive unnoticed.
    seen = []
    for _ in range(20):
        vm = puppet(t)
        seen.append(proc.status(vm.pid)["Uid"].split()[0])
        vm.console.close()
        vm.delete()
        t.vms.remove(vm)
    vms = [puppet(t) for _ in range(3)]
    live = [proc.status(vm.pid)["Uid"].split()[0] for vm in vms]
    assert len(set(live)) == 3, live
    assert len(set(seen)) < 20 or max(map(int, seen)) - min(
        map(int, seen)) >= 19, seen


@native()
def test_client_killed_in_mid_request_leaves_no_vm(t):
    conn = t.api.raw()
    conn.sendall(b"PUT /v1/vms/half HTTP/1.1\r\nHost: x\r\n"
                 b"Content-Type: application/json\r\n"
                 b"Content-Length: 500\r\n\r\n{\"boot-source\": {\"kern")
    # The daemon has taken this much when it answers another on the way.
    assert t.api.request("GET", "/v1/vms/half").status == 404
    conn.close()
    t.api.ok("GET", "/v1/vms")
    assert t.api.request("GET", "/v1/vms/half").status == 404
    t.vm(vm_id="half").delete()  # the name is free


@native()
def test_client_gone_before_the_answer_leaves_a_whole_vm_or_none(t):
    for n in range(20):
        name = f"gone{n}"
        body = images.puppet()
        body["start"] = True
        data = json.dumps(body).encode()
        conn = t.api.raw()
        conn.sendall(b"PUT /v1/vms/%s HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: %d\r\n\r\n" % (name.encode(), len(data))
                     + data)
        conn.close()

        def settled(name=name):
            reply = t.api.request("GET", f"/v1/vms/{name}")
            return reply.status == 404 or (
                reply.json["state"] in ("Running", "Exited"))

        eventually("the VM is there or not", settled)
        t.api.request("DELETE", f"/v1/vms/{name}")
        assert t.api.request("GET", f"/v1/vms/{name}").status == 404
    eventually("no process is left", lambda: not proc.vmms(t.daemon.pid))


@native()
def test_curl_killed_in_mid_request(t):
    curl = subprocess.Popen(
        ["curl", "-s", "--unix-socket", t.daemon.socket, "-X", "PUT",
         "-T", "-", "http://x/v1/vms/curled"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    curl.stdin.write(b'{"labels": {"a": ')
    curl.stdin.flush()
    eventually("curl has connected", lambda: any(
        what == "socket" for what in proc.fds(curl.pid).values()))
    curl.kill()
    curl.wait()
    curl.stdin.close()
    t.api.ok("GET", "/v1/vms")
    assert t.api.request("GET", "/v1/vms/curled").status == 404


@native()
def test_two_creates_of_one_id_make_one_vm(t):
    replies = []
    askers = [threading.Thread(target=lambda: replies.append(
        t.api.request("PUT", "/v1/vms/twin", {}))) for _ in range(8)]
    for a in askers:
        a.start()
    for a in askers:
        a.join(10)
    codes = sorted(r.status for r in replies)
    t.cleanup(lambda: t.api.request("DELETE", "/v1/vms/twin"))
    assert codes == [201] + [409] * 7, codes
