#pragma once

/* What vm_create() is made of; see vm.h. */

#include "vmm/vm.h"

/* The devices, at their addresses, and the worker's thread, which begins. */
int vm_create_devices(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);

/* All that KVM is told: memory, interrupts, kicks, vCPUs. */
int vm_create_machine(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);

/* Where a virtio slot's registers are. */
static inline uint64_t vm_slot_gpa(unsigned index)
{
	return LAYOUT_VIRTIO + index * LAYOUT_VIRTIO_STRIDE;
}
