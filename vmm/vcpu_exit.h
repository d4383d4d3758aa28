#pragma once

/*
 * What one return of KVM_RUN means.
 */

#include "vmm/bus.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <linux/kvm.h>

struct vcpu_end {
	enum vm_exit_reason reason;
	char detail[sizeof(((struct msg_exiting *)0)->detail)];
};

/*
 * Carries out the exit in run: a port or memory access goes to its bus, and
 * VM_EXIT_NONE says to enter again. Anything else ends the guest: the reason,
 * with what KVM tells of it.
 */
enum vm_exit_reason vcpu_exit_handle(struct kvm_run *run, int vcpu,
	const struct bus *pio, const struct bus *mmio,
	struct vcpu_counters *counters, struct vcpu_end *ret_end);

/* The end of a guest whose KVM_RUN failed with this (positive) errno. */
void vcpu_exit_failed(int vcpu, int code, struct vcpu_end *ret_end);
