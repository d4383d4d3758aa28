"""GET /v1/events: what is not told by a request's own answer."""

import json
import os
import time

import images
import mayfly
import proc
from guests import puppet
from harness import Skip, eventually, native, program


class Events:
    """Follows the events of one VM."""

    def __init__(self, vm, timeout=20):
        self.vm = vm
        self._conn, self._answer = vm.daemon.api.stream(
            f"/v1/events?vm={vm.id}", timeout=timeout)
        assert self._answer.status == 200, self._answer.status

    def next(self):
        """The next event's data; blocks until it comes."""
        while True:
            line = self._answer.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                return json.loads(line[len(b"data: "):])

    def close(self):
        self._conn.close()


def memory_files(vm):
    """(limit, usage): of the cgroup that limits its memory."""
    for directory in proc.vm_cgroups(vm.pid):
        for limit, usage in (("memory.max", "memory.current"),
                             ("memory.limit_in_bytes",
                              "memory.usage_in_bytes")):
            path = os.path.join(directory, limit)
            if os.path.exists(path):
                return path, os.path.join(directory, usage)
    assert not {"memory", ""} & set(proc.cgroup_mounts()), "no limit found"
    raise Skip("this host's cgroups do not limit memory")


def eat_too_much(vm):
    """The guest writes to 10 MiB, of which its host gives it 4."""
    limit, usage = memory_files(vm)
    with open(usage, encoding="ascii") as f:
        room = int(f.read()) + 4 * images.MIB
    with open(limit, "w", encoding="ascii") as f:
        f.write(str(room))
    events = Events(vm)
    vm.type("e")
    oom = events.next()
    if oom["type"] == "guest_ready":  # it has just begun
        oom = events.next()
    assert (oom["type"], oom["vm"]) == ("oom", vm.id), oom
    assert "out of memory" in oom["detail"] and oom["pid"], oom
    exited = events.next()
    assert (exited["type"], exited["reason"]) == ("exited", "killed"), exited
    assert exited["detail"] == oom["detail"], exited
    events.close()
    assert vm.exit == {"reason": "killed", "signal": 9,
                       "detail": oom["detail"]}, vm.exit
    assert b"eaten" not in vm.output()


@native()
def test_oom_is_told(t):
    eat_too_much(puppet(t, mem_mib=16))


@native()
def test_oom_of_an_adopted_vm_is_told(t):
    daemon = t.own_daemon()
    vm = puppet(t, daemon=daemon, mem_mib=16)
    vm.console.close()
    daemon.process.kill()
    daemon.process.wait()
    vm.daemon = mayfly.Daemon(program(t.build), daemon.dir)
    t.cleanup(vm.daemon.close)
    eat_too_much(vm)


@native()
def test_a_killed_vm_is_not_taken_for_oom(t):
    vm = puppet(t)
    vm.type("e")
    vm.expect("eaten")
    events = Events(vm)
    os.kill(vm.pid, 9)
    exited = events.next()
    assert (exited["type"], exited["reason"]) == ("exited", "killed"), exited
    assert "detail" not in exited, exited
    events.close()


@native()
def test_throttling_is_told_once(t):
    vm = puppet(t)
    t.api.ok("PATCH", vm.url("serial"), {"rate_limiter": {
        "bandwidth": {"size": 4000, "refill_time": 1000}}})
    events = Events(vm)
    vm.type("f")
    throttled = events.next()
    assert (throttled["type"], throttled["device"]) == (
        "throttled", "serial"), throttled
    # It goes on for more than another look of the daemon's.
    before = vm.get()["counters"]["console_limited"]
    eventually("more of it", lambda: vm.get()["counters"][
        "console_limited"] > before + 4000)
    time.sleep(2.2)
    vm.pause()
    paused = events.next()
    assert paused["type"] == "paused", paused
    events.close()
