"""Rows of bad input for cpu-config and cpu_template: (body, what the message
must hold, [SEMANTIC]). See test_bad_input.py."""

from bad_devices import SEMANTIC

REGISTER = {"register": "eax", "bitmap": "0b1"}
LEAF = {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [REGISTER]}
MSR = {"addr": "0x10a", "bitmap": "0b1"}
NUMBER = "must be a number of 32 bits"


def vendor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f
                     if line.startswith("vendor_id")), "")


def leaf(**change):
    return {"cpuid_modifiers": [LEAF | change]}


def register(**change):
    return leaf(modifiers=[REGISTER | change])


def msr(**change):
    return {"msr_modifiers": [MSR | change]}


def caps(*values):
    return {"kvm_capabilities": list(values)}


OF_LEAF = "cpu-config.cpuid_modifiers[0]"
OF_REGISTER = OF_LEAF + ".modifiers[0]"
OF_MSR = "cpu-config.msr_modifiers[0]"
OF_CAP = "cpu-config.kvm_capabilities[0]"

CPU_CONFIG = [
    ({"cpuid": []}, "cpu-config.cpuid: is not a known field"),
    ({"vcpu_features": [{"index": 0, "bitmap": "0b1"}]},
     "cpu-config.vcpu_features: is for Arm hosts only"),
    ({"reg_modifiers": [{"addr": "0x1", "bitmap": "0b1"}]},
     "cpu-config.reg_modifiers: is for Arm hosts only"),
    ({"kvm_capabilities": "1"}, "cpu-config.kvm_capabilities: must be an arr"),
    (caps(1), OF_CAP + ": must be \"N\" or \"!N\", N between 0 and 2147483647"),
    (caps(""), OF_CAP + ": must be"),
    (caps("!"), OF_CAP + ": must be"),
    (caps("-1"), OF_CAP + ": must be"),
    (caps("0x1"), OF_CAP + ": must be"),
    (caps("2147483648"), OF_CAP + ": must be", SEMANTIC),
    (caps(*["1"] * 33), "cpu-config.kvm_capabilities: at most 32"),
    (caps("2147483647"), "KVM lacks capability 2147483647", SEMANTIC),
    ({"cpuid_modifiers": {}}, "cpu-config.cpuid_modifiers: must be an array"),
    ({"cpuid_modifiers": [1]}, OF_LEAF + ": must be an object"),
    ({"cpuid_modifiers": [{}]}, OF_LEAF + ".leaf: is missing"),
    (leaf(leaf=1), OF_LEAF + ".leaf: must be a string"),
    (leaf(leaf="1"), OF_LEAF + ".leaf: " + NUMBER),
    (leaf(leaf="0x"), OF_LEAF + ".leaf: " + NUMBER),
    (leaf(leaf="0xg"), OF_LEAF + ".leaf: " + NUMBER),
    (leaf(leaf="0b2"), OF_LEAF + ".leaf: " + NUMBER),
    (leaf(leaf="0x100000000"), OF_LEAF + ".leaf: " + NUMBER),
    (leaf(leaf="0x98765432"), "KVM has no leaf 0x98765432", SEMANTIC),
    (leaf(subleaf="0b1" + "0" * 32), OF_LEAF + ".subleaf: " + NUMBER),
    (leaf(flags=8), OF_LEAF + ".flags: must be between 0 and 7"),
    (leaf(flags=-1), OF_LEAF + ".flags: must be between 0 and 7"),
    (leaf(flags=2 ** 64), OF_LEAF + ".flags: must be between 0 and 7"),
    (leaf(flags="0"), OF_LEAF + ".flags: must be an integer"),
    (leaf(modifiers=[]), OF_LEAF + ".modifiers: must hold 1 to 256"),
    (leaf(modifiers={}), OF_LEAF + ".modifiers: must be an array"),
    (leaf(modifiers=[REGISTER] * 257),
     "cpu-config.cpuid_modifiers: at most 256 registers", SEMANTIC),
    (leaf(x=1), OF_LEAF + ".x: is not a known field"),
    (register(register="rax"), OF_REGISTER + ".register: must be \"eax\" or"),
    (register(register=0), OF_REGISTER + ".register: must be \"eax\" or"),
    (register(bitmap=1), OF_REGISTER + ".bitmap: must be a string"),
    (register(bitmap="1"), OF_REGISTER + ".bitmap: must be \"0b\" and 1 to 32"),
    (register(bitmap="0b"), OF_REGISTER + ".bitmap: must be \"0b\" and 1"),
    (register(bitmap="0b_"), OF_REGISTER + ".bitmap: must be \"0b\" and 1"),
    (register(bitmap="0b2"), OF_REGISTER + ".bitmap: must be \"0b\" and 1"),
    (register(bitmap="0b" + "1" * 33), OF_REGISTER + ".bitmap: must be"),
    (register(bitmap="0b" + "x" * 200), OF_REGISTER + ".bitmap: must be 1 to"),
    ({"msr_modifiers": 1}, "cpu-config.msr_modifiers: must be an array"),
    (msr(addr=266), OF_MSR + ".addr: must be a string"),
    (msr(addr="266"), OF_MSR + ".addr: " + NUMBER),
    (msr(bitmap=None), OF_MSR + ".bitmap: is missing"),
    (msr(bitmap="0b" + "1" * 65), OF_MSR + ".bitmap: must be \"0b\" and 1 to"),
    ({"msr_modifiers": [MSR] * 65}, "cpu-config.msr_modifiers: at most 64"),
]

OTHER_VENDORS = "T2A" if vendor() == "GenuineIntel" else "T2"

# To be put beside vcpu_count and mem_size_mib.
CPU_TEMPLATE = [
    ({"cpu_template": "x86-64"}, "machine-config.cpu_template: must be"),
    ({"cpu_template": "x86-64-V3"}, "machine-config.cpu_template: must be"),
    ({"cpu_template": 3}, "machine-config.cpu_template: must be"),
    ({"cpu_template": "V1N1"}, "V1N1 is for Arm hosts; \"x86-64-v3\""),
    ({"cpu_template": OTHER_VENDORS}, OTHER_VENDORS + " is for", SEMANTIC),
]

DOCUMENT = [
    ({"cpu-config": []}, "cpu-config: must be an object"),
    ({"cpu-config": {"kvm_capabilities": ["2147483647"]}},
     "cpu-config.kvm_capabilities: this host's KVM lacks", SEMANTIC),
    ({"boot-source": {"kernel_image_path": "{kernel}"}, "start": True,
      "cpu-config": {"msr_modifiers": [MSR | {"addr": "0x87654321"}]}},
     "cpu-config.msr_modifiers: this host's KVM has no MSR 0x87654321",
     SEMANTIC),
    ({"machine-config": {"vcpu_count": 1, "mem_size_mib": 16,
                         "cpu_template": "x86-64-v3"},
      "cpu-config": caps("!1")},
     "cpu-config: goes without machine-config.cpu_template", SEMANTIC),
]
