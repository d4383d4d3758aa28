"""A VM's life with a tiny guest: states, reasons, console, timeline."""

import os
import signal
import threading
import time

import images
import proc
from guests import puppet
from harness import check_exit, eventually, native, scaled
from mayfly import Console

MOMENTS = ("request_received", "configured", "loaded",
           "first_instruction")


@native()
def test_create_configure_start_step_by_step(t):
    vm = t.vm()
    assert vm.state == "Not started"
    assert not vm.get().get("pid"), "a process before the start"
    vm.put("boot-source", {"kernel_image_path": images.puppet_kernel()})
    vm.put("machine-config", {"vcpu_count": 1, "mem_size_mib": 16})
    disk = images.blank(t.path("disk"), images.MIB)
    vm.put("drives/scratch", images.drive(disk, "scratch"))
    config = t.api.ok("GET", vm.url("machine-config"))
    assert (config["vcpu_count"], config["mem_size_mib"]) == (1, 16), config
    assert vm.state == "Not started"
    vm.start()
    assert vm.state == "Running"
    vm.expect("puppet ready")
    assert proc.exists(vm.pid)


@native()
def test_create_and_start_in_one_request(t):
    config = images.puppet(labels={"team": "blue", "tier": "web"})
    vm = t.vm(config, start=True)
    info = vm.get()
    assert info["state"] == "Running" and info["id"] == vm.id, info
    assert info["labels"] == {"team": "blue", "tier": "web"}, info
    vm.expect("puppet ready")
    listed = t.api.ok("GET", "/v1/vms")
    assert vm.id in [v["id"] for v in listed["vms"]], listed


@native()
def test_power_off_is_told(t):
    vm = puppet(t)
    vm.type("b")
    info = check_exit(vm, "shutdown")
    assert not info.get("pid"), info


@native()
def test_reset_is_told(t):
    vm = puppet(t)
    vm.type("r")
    check_exit(vm, "reset")


@native()
def test_triple_fault_is_told(t):
    vm = puppet(t)
    vm.type("t")
    check_exit(vm, "triple_fault")


@native()
def test_panic_is_told(t):
    vm = puppet(t)
    vm.type("p")
    check_exit(vm, "panic")


@native()
def test_code_outside_memory_is_an_internal_error(t):
    vm = puppet(t)
    vm.type("i")
    ended = vm.wait()
    # What KVM makes of it is KVM's to choose, but it is the guest's own end.
    assert ended["reason"] in ("internal_error", "triple_fault"), ended


@native()
def test_kill_of_the_vmm_is_told_with_its_signal(t):
    vm = puppet(t)
    os.kill(vm.pid, signal.SIGKILL)
    info = check_exit(vm, "killed")
    assert info["exit"]["signal"] == signal.SIGKILL, info["exit"]


@native()
def test_halted_guest_keeps_running_without_cpu_time(t):
    vm = puppet(t)
    vm.type("h")
    pid = vm.pid

    def quiet():
        before = proc.cpu_seconds(pid)
        time.sleep(0.3)  # the time over which it is measured
        return proc.cpu_seconds(pid) - before < 0.05

    eventually("the VMM of a halted guest rests", quiet)
    assert vm.state == "Running"


@native()
def test_spinning_guest_is_deleted_at_once(t):
    vm = puppet(t)
    vm.type("x")
    pid = vm.pid
    start = time.monotonic()
    vm.delete()
    assert time.monotonic() - start < 3
    assert not proc.exists(pid), "its process is still there"
    assert t.api.request("GET", vm.url()).status == 404


@native()
def test_pause_stops_the_guest_and_resume_continues_it(t):
    vm = puppet(t)
    vm.type("c")
    vm.expect(r"tick [0-9a-f]{8}\n")
    vm.pause()
    assert vm.state == "Paused"

    def silent():
        before = len(vm.output())
        time.sleep(0.5)  # over 20 lines' time
        return len(vm.output()) == before

    assert silent(), "the guest printed while it was paused"
    lines = vm.output().decode().splitlines()
    vm.resume()
    assert vm.state == "Running"
    last = int(lines[-1].split()[1], 16) if lines[-1].startswith("tick ") and (
        len(lines[-1]) == 13) else int(lines[-2].split()[1], 16)
    vm.console.mark = len(vm.console.data)
    eventually("more lines after the resume",
               lambda: len(vm.output().decode().splitlines())
               > len(lines) + 3)
    numbers = [int(line.split()[1], 16)
               for line in vm.output().decode().splitlines()[:-1]
               if line.startswith("tick ")]
    assert numbers == list(range(len(numbers))), "lines lost or repeated"
    assert numbers[-1] > last


@native()
def test_paused_guest_can_be_deleted(t):
    vm = puppet(t)
    vm.pause()
    pid = vm.pid
    vm.delete()
    assert not proc.exists(pid)


@native()
def test_pause_and_resume_may_be_repeated(t):
    vm = puppet(t)
    for _ in range(20):
        vm.pause()
        vm.pause()
        vm.resume()
        vm.resume()
    vm.type("z")
    vm.expect("z")


@native()
def test_typed_input_comes_back(t):
    vm = puppet(t)
    text = "AZ0192 " * 40  # no letter the puppet obeys
    vm.type(text + "\n")
    vm.expect(text)


@native()
def test_console_is_kept_after_the_exit(t):
    vm = puppet(t)
    vm.type("AAA")
    vm.expect("AAA")
    vm.type("b")
    vm.wait()
    vm.console.wait_end()
    assert vm.output() == vm.console.data == b"puppet ready\nAAA"


@native()
def test_follower_of_an_exited_guest_gets_all_and_the_end(t):
    vm = puppet(t)
    vm.type("b")
    vm.wait()
    reply = t.api.request("GET", vm.url("console?follow=true"))
    assert reply.status == 200 and reply.body == b"puppet ready\n", reply


@native()
def test_many_followers_see_the_same(t):
    vm = t.vm(images.puppet(), start=True)
    followers = [Console(vm) for _ in range(8)]
    for f in followers:
        t.cleanup(f.close)
    vm.type("c")
    for f in followers:
        f.expect("tick 00000005\n")
    vm.type("b")
    vm.wait()
    for f in followers:
        f.wait_end()
    assert {f.data for f in followers} == {vm.output()}


@native(limit=150)
def test_flooded_console_keeps_the_newest(t):
    # This takes a while, so it also sees that clients with nothing to hear
    # for so long are not cut off, and that one who does not read stops nobody.
    quiet = puppet(t)
    answers = []
    waiter = threading.Thread(
        target=lambda: answers.append(quiet.wait(scaled(140))))
    waiter.start()
    vm = puppet(t)
    conn, answer = t.api.stream(vm.url("console?follow=true"))
    t.cleanup(conn.close)
    assert answer.status == 200
    vm.console.close()  # nor does this one read so much
    vm.type("f")
    eventually("a ring that has overflown",
               lambda: vm.get()["console"]["dropped"] > 0, scaled(120), 0.5)
    vm.type("AB")
    eventually("what was typed", lambda: vm.output().endswith(b"AB"))
    out = vm.output()
    told = vm.get()["console"]
    # All of the ring but the byte that may be written just now.
    assert len(out) in ((1 << 20) - 1, 1 << 20), len(out)
    assert told["bytes"] - told["dropped"] - len(out) in (0, 1), told
    assert set(out[:-2]) == {ord("#")}, "the oldest is still there"
    vm.type("b")
    assert vm.wait()["reason"] == "shutdown"

    quiet.type("AB")
    quiet.expect("AB")
    quiet.type("b")
    waiter.join(10)
    assert answers and answers[0]["reason"] == "shutdown", answers


@native()
def test_stalled_follower_stops_nobody(t):
    vm = puppet(t)
    conn, answer = t.api.stream(vm.url("console?follow=true"))
    t.cleanup(conn.close)
    assert answer.status == 200
    vm.type("f")
    # The follower above never reads: in pieces so small, this is more than
    # its socket takes.
    eventually("100 KiB of output", lambda: len(vm.output()) > 100 << 10,
               40, 0.1)
    start = time.monotonic()
    assert vm.state == "Running"
    vm.type("b")
    assert vm.wait()["reason"] == "shutdown"
    assert time.monotonic() - start < 5
    # What it missed is there for it: all of it, as slowly as it reads.
    data = answer.read()
    assert data == vm.output()


@native()
def test_wait_times_out_and_answers(t):
    vm = puppet(t)
    start = time.monotonic()
    reply = t.api.request("GET", vm.url("wait?timeout_ms=200"))
    took = time.monotonic() - start
    assert 0.15 < took < 3, took
    assert reply.status == 200 and reply.json["timed_out"], reply
    assert reply.json["state"] == "Running", reply
    assert "exit" not in reply.json, reply


@native()
def test_all_waiters_are_told(t):
    vm = puppet(t)
    answers = []
    waiters = [threading.Thread(target=lambda: answers.append(vm.wait(20)))
               for _ in range(8)]
    for w in waiters:
        w.start()
    vm.type("b")
    for w in waiters:
        w.join(20)
    assert [a["reason"] for a in answers] == ["shutdown"] * 8, answers


@native()
def test_wait_after_the_exit_answers_at_once(t):
    vm = puppet(t)
    vm.type("b")
    vm.wait()
    start = time.monotonic()
    assert vm.wait()["reason"] == "shutdown"
    assert time.monotonic() - start < 1


@native()
def test_timeline_is_complete_and_in_order(t):
    vm = puppet(t)
    timeline = vm.get()["timeline"]
    assert {*MOMENTS, "kernel_up", "guest_ready"} <= set(timeline), timeline
    # The puppet is ready before it prints: the last two come in any order.
    moments = [timeline[m] for m in MOMENTS] + [
        min(timeline["kernel_up"], timeline["guest_ready"])]
    assert moments[0] == 0 and moments == sorted(moments), timeline
    assert 0 < timeline["first_instruction"] < 10**10, timeline


@native()
def test_timeline_of_a_vm_not_started_claims_nothing(t):
    vm = t.vm(images.puppet())
    assert not any(vm.get().get("timeline", {}).values()), vm.get()


@native()
def test_32_vcpus_start_and_stop(t):
    vm = puppet(t, vcpus=32, mem_mib=32)
    vm.type("A")
    vm.expect("A")
    vm.pause()
    vm.resume()
    vm.type("b")
    check_exit(vm, "shutdown")


@native()
def test_nonsense_written_to_a_device_harms_nobody(t):
    disk = images.blank(t.path("disk"), images.MIB)
    vm = puppet(t, drives=[images.drive(disk)])
    vm.type("m")
    vm.expect("still here")
    vm.type("b")
    check_exit(vm, "shutdown")


@native()
def test_same_id_again_after_delete(t):
    for _ in range(3):
        vm = t.vm(images.puppet(), vm_id="phoenix", start=True)
        vm.expect("puppet ready")
        vm.console.close()
        vm.delete()
        assert t.api.request("GET", vm.url()).status == 404


@native()
def test_many_vms_at_once(t):
    vms = [t.vm(images.puppet(), start=True) for _ in range(16)]
    for vm in vms:
        vm.expect("puppet ready")
    assert len({vm.pid for vm in vms}) == len(vms)
    for vm in vms:
        vm.type("h")
    for vm in vms[::2]:
        vm.delete()
    for vm in vms[1::2]:
        assert vm.state == "Running"
