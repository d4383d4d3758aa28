"""What a guest sees of its CPUs, with tiny guests: their number, modifiers,
templates, the VM's generation."""

import os

from harness import check_exit, native


def config(guest, vcpus=1, smt=False, template=None, **sections):
    """A whole configuration with a guest of tests/guests."""
    machine = {"vcpu_count": vcpus, "mem_size_mib": 16, "smt": smt}
    if template:
        machine["cpu_template"] = template
    kernel = os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                          guest + ".elf")
    return {"boot-source": {"kernel_image_path": kernel},
            "machine-config": machine, **sections}


def lines(t, **sections):
    """What cpu.S prints, by name."""
    vm = t.vm(config("cpu", **sections), start=True)
    check_exit(vm, "shutdown")
    names = ("signature", "l2_cache", "msr_high", "msr_low", "guid0", "guid1",
             "guid2", "guid3", "vmclock_magic", "vmclock_flags")
    values = [int(x, 16) for x in vm.output().split()]
    assert len(values) == len(names), vm.output()
    return dict(zip(names, values))


def modifier(leaf, register, bitmap):
    return {"leaf": leaf, "subleaf": "0x0", "flags": 0,
            "modifiers": [{"register": register, "bitmap": bitmap}]}


def vendor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("vendor_id"):
                return line.split(":")[1].strip()
    return ""


@native(limit=120)
def test_all_cpus_start_and_know_their_numbers(t):
    for n, smt in ((1, False), (2, True), (3, False), (5, False), (6, True),
                   (12, False), (31, False), (32, False), (32, True)):
        vm = t.vm(config("cpus", n, smt), start=True)
        check_exit(vm, "shutdown")
        assert vm.output() == b"%02x\n" % n, (n, smt, vm.output())


@native()
def test_modifiers_change_what_the_guest_sees(t):
    plain = lines(t)
    changed = lines(t, **{"cpu-config": {
        "cpuid_modifiers": [
            modifier("0x1", "eax", "0bxxxx000000000011xx00011011110010"),
            modifier("0x80000006", "ecx", "0b" + "0" * 31 + "1")],
        "msr_modifiers": [{"addr": "0x10a", "bitmap": "0b1" + "x" * 59
                                                      + "1010"}]}})
    assert changed["signature"] & 0x0fff3fff == 0x306f2, changed
    assert changed["signature"] & 0xf000c000 == \
        plain["signature"] & 0xf000c000, (plain, changed)
    assert plain["l2_cache"] > 1 and changed["l2_cache"] == 1, (plain,
                                                                changed)
    assert changed["msr_high"] == plain["msr_high"] | 1 << 31, changed
    assert changed["msr_low"] == plain["msr_low"] & ~0xf | 0xa, changed


@native()
def test_a_configuration_this_host_cannot_make_is_refused_by_name(t):
    cpuid = {"cpuid_modifiers": [modifier("0x12345", "eax", "0b1")]}
    for cpu, words in (
            ({"msr_modifiers": [{"addr": "0x12345678", "bitmap": "0b1"}]},
             "cpu-config.msr_modifiers: this host's KVM has no MSR 0x12345678"),
            (cpuid, "cpu-config.cpuid_modifiers: this host's KVM has no leaf "
                    "0x12345"),
            ({"kvm_capabilities": ["54321"]},
             "cpu-config.kvm_capabilities: this host's KVM lacks capability "
             "54321")):
        t.api.refused("PUT", "/v1/vms/refused", config(
            "cpu", **{"cpu-config": cpu}) | {"start": True}, words, 400)
        t.api.refused("GET", "/v1/vms/refused", status=404, names="no VM")
    vm = t.vm(config("cpu", **{"cpu-config": {"kvm_capabilities": ["!0"]}}))
    before = vm.get()
    t.api.refused("PUT", vm.url("cpu-config"), cpuid, "cpuid_modifiers", 400)
    assert vm.get() == before
    check_exit(vm.start(), "shutdown")


@native()
def test_a_template_and_a_configuration_replace_each_other(t):
    intel = vendor() == "GenuineIntel"
    template, other = ("T2", "T2A") if intel else ("T2A", "T2")
    vm = t.vm(config("cpu"))
    cpu = {"kvm_capabilities": ["!0"], "cpuid_modifiers": [],
           "msr_modifiers": []}
    vm.put("cpu-config", cpu)
    assert vm.get()["cpu-config"] == cpu
    t.api.refused("PATCH", vm.url("machine-config"), {"cpu_template": other},
                  f"{other} is for", 400)
    t.api.ok("PATCH", vm.url("machine-config"), {"cpu_template": template})
    assert "cpu-config" not in vm.get()
    assert vm.get()["machine-config"]["cpu_template"] == template
    vm.put("cpu-config", {"kvm_capabilities": ["!0"]})
    assert vm.get()["machine-config"]["cpu_template"] == "None"
    t.api.refused("PUT", "/v1/vms/both", config(
        "cpu", template=template, **{"cpu-config": cpu}),
        "cpu-config: goes without", 400)
    seen = lines(t, template=template)
    assert seen["signature"] & 0x0fff3fff == 0x306f2, seen
    check_exit(vm.start(), "shutdown")


@native()
def test_each_vm_has_a_generation_of_its_own(t):
    seen = [lines(t) for _ in range(2)]
    guids = [[s[f"guid{i}"] for i in range(4)] for s in seen]
    assert guids[0] != guids[1] and any(guids[0]), guids
    for s in seen:
        assert s["vmclock_magic"] == 0x4b4c4356, s
        assert s["vmclock_flags"] == 0x300, s
