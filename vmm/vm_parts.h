#pragma once

/* What vm_create() is made of; see vm.h. */

#include "vmm/vm.h"

/* The devices, at their addresses, and the workers' threads, which begin. */
int vm_create_devices(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);

/* The guest has said so, by a port or by vsock; any thread, any number of
 * times. */
void vm_guest_is_ready(struct vm *vm);

/* KVM's VM, with its memory, interrupts and vCPUs. */
int vm_create_machine(struct vm *vm, const struct msg_prepare *m,
	const int *fds, struct error *err);
/* ... and its devices: files in its memory, kicks, interrupts. */
int vm_bind_devices(struct vm *vm, struct error *err);

/*
 * vm_slots.c. The next free slot, for a device whose creation may need to know
 * it (its callbacks' arg); then the device in it: its transport, its page, its
 * kicks watched. dev is taken over.
 */
int vm_add_range(
	struct bus *bus, const struct bus_range *range, struct error *err);
int vm_slot_take(struct vm *vm, struct vm_slot **ret, struct error *err);
int vm_slot_plug(
	struct vm_slot *slot, struct virtio_dev *dev, struct error *err);
/* Made when first asked for. */
int vm_worker(struct vm *vm, enum vm_worker which, struct worker **ret,
	struct error *err);
int vm_workers_begin(struct vm *vm, struct error *err);
int vm_workers_start(struct vm *vm, struct error *err);

/* One file for each kind of device: how it is made from the message, in the
 * order in which the guest finds them, and what can be asked of it later (see
 * vm_obey(); an index that does not exist is -EINVAL). */
int vm_create_drives(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);
int vm_set_drive(struct vm *vm, const struct msg_drive_update *m, int taken_fd);
int vm_limit_drive(
	struct vm *vm, unsigned index, const struct rate_limiter_update *u);
int vm_create_entropy(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);
int vm_create_balloon(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);
int vm_obey_balloon(struct vm *vm, const struct msg_balloon *m);
int vm_create_console(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);
int vm_console_input(struct vm *vm, const struct msg_console_input *m);
int vm_console_resize(struct vm *vm, const struct msg_console_size *m);
int vm_console_limit(struct vm *vm, const struct rate_limiter_update *u);
int vm_create_mmds(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err);
int vm_set_mmds(struct vm *vm, const struct msg_mmds *m, int taken_fd);
int vm_create_memory(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);
int vm_set_memory(struct vm *vm, uint64_t requested_bytes);
int vm_create_pmem(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err);
int vm_map_pmem(struct vm *vm, struct error *err); /* in KVM */
int vm_limit_pmem(
	struct vm *vm, unsigned index, const struct rate_limiter_update *u);
int vm_create_nets(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err);
int vm_limit_net(struct vm *vm, unsigned index, bool rx,
	const struct rate_limiter_update *u);

int vm_create_vsock(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err);

/* Where a virtio slot's registers are. */
static inline uint64_t vm_slot_gpa(unsigned index)
{
	return LAYOUT_VIRTIO + index * LAYOUT_VIRTIO_STRIDE;
}
