#pragma once

/*
 * The guests the probe runs: some bytes of code each, in ring 0 and long mode.
 */

#include "vmm/probe.h"

struct probe_guest_result {
	int error; /* a negative errno: a call to KVM failed */
	enum kvm_probe_insn xsave, cmpxchg16b;
	uint64_t ring0_mips;
};

/*
 * Runs them, in a process of its own with SIGALRM unblocked: it uses that and
 * ITIMER_REAL, and leaves the VM to the process's end. 0 or a negative errno.
 */
int probe_guest_run(int kvm, struct probe_guest_result *ret);
