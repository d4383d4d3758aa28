"""What becomes of VMs when their daemon dies, is told to leave them, or is
replaced: the next one knows and has all of them, and nothing else is left."""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time

import images
import mayfly
import proc
from guests import puppet
from harness import check_exit, eventually, native, program
from heirs import heir_of, kill


def states(daemon):
    """{id: state}, in the order they are listed."""
    return {vm["id"]: vm["state"]
            for vm in daemon.api.ok("GET", "/v1/vms")["vms"]}


def procs(daemon):
    return os.listdir(os.path.join(daemon.state_dir, "procs"))


def file_of(daemon, vm_id, name):
    return os.path.join(daemon.state_dir, "vms", vm_id, name)


def check_nothing_left(daemon):
    """Once a daemon has no VM: all processes are the pool's."""
    assert states(daemon) == {}
    assert os.listdir(os.path.join(daemon.state_dir, "vms")) == []
    assert proc.vmms(daemon.pid) == {}
    eventually("what is in procs/ is the pool's",
               lambda: len(procs(daemon)) == len(proc.children(daemon.pid)))


@native()
def test_all_states_survive_a_killed_daemon(t):
    daemon = t.own_daemon()
    disk = images.blank(t.path("disk"), images.MIB)
    running = puppet(t, daemon=daemon, drives=[images.drive(disk)])
    paused = puppet(t, daemon=daemon)
    paused.pause()
    ended = puppet(t, daemon=daemon)
    ended.type("r")
    check_exit(ended, "reset")
    idle = t.vm(images.puppet(), daemon=daemon)
    daemon.api.ok("PUT", idle.url("machine-config"),
                  {"vcpu_count": 2, "mem_size_mib": 64})
    before = {vm.id: vm.get() for vm in (running, paused, ended, idle)}
    listed = list(states(daemon).items())
    kill(daemon)
    assert all(
        proc.exists(before[vm.id]["pid"]) for vm in (running, paused))

    heir = heir_of(t, daemon)
    assert list(states(heir).items()) == listed
    for vm in (running, paused, ended, idle):
        info, was = vm.get(), before[vm.id]
        for key in ("state", "pid", "labels", "boot-source", "drives",
                    "machine-config", "exit", "timeline"):
            assert info.get(key) == was.get(key), (key, info, was)
    assert b"puppet ready" in running.output()
    assert b"puppet ready" in ended.output()

    # They obey it as they did the other.
    running.type("YES")
    running.expect("YES")
    running.pause()
    running.resume()
    paused.resume()
    paused.type("t")
    check_exit(paused, "triple_fault")
    idle.start()
    idle.expect("puppet ready")
    running.type("b")
    check_exit(running, "shutdown")
    for vm in list(t.vms):
        vm.delete()
        t.vms.remove(vm)
    check_nothing_left(heir)


@native()
def test_consoles_go_on_without_a_daemon(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    vm.type("c")
    vm.expect("tick 0000000f|0000000f")
    kill(daemon)
    time.sleep(0.3)
    heir_of(t, daemon)
    vm.expect("00000040", 20)
    lines = re.findall(r"tick ([0-9a-f]{8})", vm.output().decode())
    assert [int(n, 16) for n in lines] == list(range(len(lines))), lines[:9]


@native()
def test_ends_that_no_daemon_saw_are_known(t):
    daemon = t.own_daemon()
    by_itself, killed = puppet(t, daemon=daemon), puppet(t, daemon=daemon)
    pids = by_itself.pid, killed.pid
    by_itself.type("l")
    kill(daemon)
    os.kill(pids[1], signal.SIGKILL)
    eventually("they end", lambda: not any(map(proc.exists, pids)))
    heir = heir_of(t, daemon)
    assert by_itself.state == "Exited"
    assert by_itself.exit["reason"] == "shutdown", by_itself.exit
    assert killed.exit["reason"] == "crashed", killed.exit
    assert "daemon" in killed.exit["detail"], killed.exit
    # What one daemon has found out the next does not have to.
    was = [vm.exit for vm in (by_itself, killed)]
    kill(heir)
    heir_of(t, heir)
    assert [vm.exit for vm in (by_itself, killed)] == was


@native()
def test_sigterm_leaves_vms_running(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    pid = vm.pid
    waiter = subprocess.Popen(
        ["curl", "-s", "--unix-socket", daemon.socket,
         "http://localhost" + vm.url("wait")], stdout=subprocess.PIPE)
    eventually("somebody waits", lambda: len(proc.fds(daemon.pid)) > 0)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0
    assert proc.exists(pid)
    assert not os.path.exists(daemon.socket)
    waiter.communicate(timeout=10)
    # Of the pool none stays.
    assert len(procs(daemon)) == 1, procs(daemon)
    heir_of(t, daemon)
    assert (vm.state, vm.pid) == ("Running", pid)
    vm.type("b")
    check_exit(vm, "shutdown")


@native()
def test_a_start_that_was_under_way_is_whole_or_not_there(t):
    daemon = t.own_daemon("--pool", "0")
    for n in range(12):
        body = images.puppet()
        body["start"] = True
        conn = daemon.api.raw()
        data = json.dumps(body).encode()
        conn.sendall(b"PUT /v1/vms/half%d HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: %d\r\n\r\n" % (n, len(data)) + data)
        time.sleep(n * 0.0004)
        kill(daemon)
        conn.close()
        daemon = heir_of(t, daemon, "--pool", "0")
        found = states(daemon)
        assert found in ({}, {f"half{n}": "Running"},
                         {f"half{n}": "Not started"}), found
        if not found:
            check_nothing_left(daemon)
            continue
        vm = f"/v1/vms/half{n}"
        # What counts as starting does run in a moment.
        eventually("it runs", lambda: daemon.api.ok(
            "GET", vm)["state"] == "Running")
        eventually("it prints", lambda: b"puppet ready" in daemon.api.request(
            "GET", vm + "/console").body)
        daemon.api.ok("DELETE", vm)
        check_nothing_left(daemon)


@native()
def test_half_made_and_strange_state_is_cleared_away(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    orphan = puppet(t, daemon=daemon)
    orphan_pid = orphan.pid
    kill(daemon)
    os.makedirs(file_of(daemon, "no-config", ""))
    os.makedirs(os.path.join(daemon.state_dir, "procs", "0123456789abcdef"))
    with open(file_of(daemon, "no-config", "mmds.json"), "w",
              encoding="ascii") as f:
        f.write("{}")
    os.unlink(file_of(daemon, orphan.id, "config.json"))
    heir = heir_of(t, daemon)
    t.vms.remove(orphan)
    assert states(heir) == {vm.id: "Running"}
    eventually("the orphan's end", lambda: not proc.exists(orphan_pid))
    assert os.listdir(os.path.join(heir.state_dir, "vms")) == [vm.id]
    vm.delete()
    t.vms.remove(vm)
    check_nothing_left(heir)


@native()
def test_a_pid_of_another_process_is_left_alone(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    pid = vm.pid
    kill(daemon)
    os.kill(pid, signal.SIGKILL)
    eventually("it ends", lambda: not proc.exists(pid))
    other = subprocess.Popen(["sleep", "60"])
    t.cleanup(other.kill)
    link = os.readlink(file_of(daemon, vm.id, "proc"))
    path = os.path.join(daemon.state_dir, "vms", vm.id, link, "process")
    with open(path, encoding="ascii") as f:
        text = f.read()
    with open(path, "w", encoding="ascii") as f:
        f.write(re.sub(r"pid \d+", f"pid {other.pid}", text))
    heir_of(t, daemon)
    assert vm.state == "Exited"
    vm.delete()
    t.vms.remove(vm)
    assert other.poll() is None, "another process was killed"


@native()
def test_a_vmm_of_another_protocol_runs_on_and_is_refused_by_name(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    pid = vm.pid
    kill(daemon)
    link = os.readlink(file_of(daemon, vm.id, "proc"))
    path = os.path.join(daemon.state_dir, "vms", vm.id, link, "process")
    with open(path, encoding="ascii") as f:
        text = f.read()
    with open(path, "w", encoding="ascii") as f:
        f.write(re.sub(r"protocol \d+", "protocol 1", text))
    heir = heir_of(t, daemon)
    assert (vm.state, vm.pid) == ("Running", pid)
    for request in (("PATCH", vm.url("vm"), {"state": "Paused"}),
                    ("PUT", vm.url("actions"),
                     {"action_type": "SendCtrlAltDel"})):
        heir.api.refused(*request, names="protocol 1", status=409)
    assert proc.exists(pid)
    waiter = threading.Thread(target=lambda: vm.wait(20))
    waiter.start()
    vm.delete()
    waiter.join(20)
    assert not waiter.is_alive()
    assert not proc.exists(pid)
    t.vms.remove(vm)
    check_nothing_left(heir)


@native()
def test_a_second_daemon_is_refused_while_one_lives(t):
    daemon = t.own_daemon()
    second = subprocess.run(
        [program(t.build), "--socket", t.path("other.sock"),
         "--state-dir", daemon.state_dir], timeout=30,
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert second.returncode == 1
    assert "another daemon uses the state directory" in second.stderr


@native()
def test_adoption_is_an_event(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon)
    kill(daemon)
    heir = heir_of(t, daemon)
    conn, answer = heir.api.stream("/v1/events?after=0")
    t.cleanup(conn.close)
    kinds = []
    while "adopted" not in kinds:
        line = answer.readline().decode()
        assert line, "the stream ended"
        if line.startswith("event:"):
            kinds.append(line.split(":", 1)[1].strip())
    assert vm.state == "Running"


# ---- a hundred kills under load ----

KILLS = 100
SLOTS = 4


class Load:
    """Clients that create, use and delete VMs, and know what must be there.

    For each VM: what it has been asked to be and was told it is. While a
    request is under way both its outcomes are right."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.lock = threading.Lock()
        self.known = {}  # id: set of states that are right
        self.stopping = False
        self.requests = 0
        self.threads = [threading.Thread(target=self._run, args=(n,))
                        for n in range(SLOTS)]
        for thread in self.threads:
            thread.start()

    def _ask(self, method, path, body, vm, during, after):
        """during, after: the states that are right; None among them: not
        there."""
        with self.lock:
            self.known[vm] = during
        try:
            reply = self.daemon().api.request(method, path, body, timeout=20)
        except Exception:
            return None  # the daemon died: it stays as `during` says
        with self.lock:
            self.requests += 1
            if reply.status < 300:
                self.known[vm] = after
        return reply.status

    def _run(self, slot):
        rng = random.Random(slot)
        for n in range(1000000):
            if self.stopping:
                return
            vm = f"load-{slot}-{n}"
            url = f"/v1/vms/{vm}"
            body = images.puppet()
            body["start"] = True
            status = self._ask("PUT", url, body, vm, {None, "Running"},
                               {"Running"})
            if status != 201:
                # Whoever was not answered asks what there is.
                self._settle(vm, url)
            if rng.random() < 0.5 and self.known[vm] == {"Running"}:
                if self._ask("PATCH", url + "/vm", {"state": "Paused"}, vm,
                             {"Running", "Paused"}, {"Paused"}) != 204:
                    self._settle(vm, url)
            time.sleep(rng.random() * 0.02)
            while self._ask("DELETE", url, None, vm,
                            self.known[vm] | {None, "Exited"},
                            {None}) not in (204, 404):
                time.sleep(0.01)
                if self.stopping:
                    return
            with self.lock:
                self.known.pop(vm)

    def _settle(self, vm, url):
        while not self.stopping:
            try:
                reply = self.daemon().api.request("GET", url, timeout=20)
            except Exception:
                time.sleep(0.01)
                continue
            state = reply.json["state"] if reply.status == 200 else None
            if state == "Not started":  # it is starting
                time.sleep(0.01)
                continue
            with self.lock:
                assert state in self.known[vm], (vm, state, self.known[vm])
                self.known[vm] = {state}
            return

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


@native(limit=240)
def test_a_hundred_kills_under_load_lose_nothing(t):
    rng = random.Random(7)
    daemon = t.own_daemon()
    constant = puppet(t, daemon=daemon)
    counter = puppet(t, daemon=daemon)
    counter.type("c")
    constant.pause()
    pids = {vm.id: vm.pid for vm in (constant, counter)}
    current = [daemon]
    load = Load(lambda: current[0])
    try:
        for n in range(KILLS):
            time.sleep(rng.random() * 0.25)
            kill(current[0])
            with load.lock:
                known = {vm: set(right) for vm, right in load.known.items()}
            current[0] = mayfly.Daemon(program(t.build), daemon.dir)
            t.cleanup(current[0].close)
            found = states(current[0])
            assert found.pop(constant.id) == "Paused", (n, found)
            assert found.pop(counter.id) == "Running", (n, found)
            for vm, right in known.items():
                state = found.pop(vm, None)
                # Its client may have gone on since; and a start that is
                # under way shows as one that has not been.
                # ... or has been deleted, on the way to which it has exited.
                now = load.known.get(vm, {None, "Exited"})
                assert state in right | now or (
                    state == "Not started" and "Running" in right), (
                        n, vm, state, right, now)
            strange = [vm for vm in found if vm not in load.known]
            assert not strange or all(
                current[0].api.request("GET", f"/v1/vms/{vm}").status == 404
                or vm in load.known for vm in strange), (n, strange)
    finally:
        load.stop()
    assert load.requests > KILLS, f"only {load.requests} requests"
    heir = current[0]
    for vm in (constant, counter):
        vm.daemon = heir
        vm.console.close()
        vm.console = None
        assert vm.pid == pids[vm.id]
    for vm in states(heir):
        if vm.startswith("load-"):
            heir.api.request("DELETE", f"/v1/vms/{vm}")
    text = counter.output().decode()
    lines = [int(n, 16) for n in re.findall(r"tick ([0-9a-f]{8})\n", text)]
    assert lines == list(range(lines[0], lines[0] + len(lines))), "lines lost"
    constant.resume()
    constant.type("YES")
    constant.expect("YES")
    for vm in (constant, counter):
        vm.delete()
        t.vms.remove(vm)
    check_nothing_left(heir)
