#include "vmm/kvm.h"
#include "vmm/vm_parts.h"

#include <errno.h>

/* On the worker. */
static int set_slot(void *arg, unsigned slot, bool there)
{
	const struct vm *vm = arg;
	const struct gmem_hotplug *h = &vm->mem.hotplug;
	uint64_t off = slot * vm->hotplug_slot_bytes;

	return kvm_set_memory(vm->vm_fd, VM_KVM_SLOT_HOTPLUG + slot,
		h->gpa + off, h->hva + off, there ? vm->hotplug_slot_bytes : 0,
		0);
}

int vm_create_memory(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct msg_memory_hotplug *h = &start->memory_hotplug;
	struct memdev_config config = {
		.mem = &vm->mem,
		.slot_bytes = h->slot_bytes,
		.requested_bytes = h->requested_bytes,
		.set_slot = set_slot,
		.arg = vm,
	};
	struct worker *worker = NULL;
	struct vm_slot *slot = NULL;
	int r;

	(void)fds;
	if (!start->has_memory_hotplug)
		return 0;
	config.state = &vm->shared->memory;
	vm->hotplug_slot_bytes = h->slot_bytes;
	r = gmem_add_hotplug(&vm->mem, vm->plan.hotplug_gpa, h->region_bytes,
		h->block_bytes, err);
	if (r == 0)
		r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r == 0)
		r = memdev_create(&vm->memory, worker, &config, err);
	return r < 0 ? r : vm_slot_plug(slot, vm->memory, err);
}

int vm_set_memory(struct vm *vm, uint64_t requested_bytes)
{
	return vm->memory ? memdev_request(vm->memory, requested_bytes)
			  : -ENOTSUP;
}
