#include "vmm/vm_parts.h"

#include <errno.h>
#include <sys/eventfd.h>

#define WORKER_ENTRIES 128

/* A file for each connection of vsock. */
#define SPARE_VSOCK (VSOCK_MAX_CONNECTIONS + 1)

/* For the file a drive is changed to, while both are in use. */
#define SPARE_DRIVES (2 * VM_MAX_DRIVES)

static void on_driver_ok(void *arg)
{
	struct vm_slot *slot = arg;

	vm_mark(slot->vm, VM_MOMENT_KERNEL_UP);
}

static void on_needs_reset(void *arg)
{
	struct vm_slot *slot = arg;

	__atomic_fetch_add(
		&slot->vm->shared->guest_faults, 1, __ATOMIC_RELAXED);
	vm_events_needs_reset(&slot->vm->events, slot->index);
}

static int on_worker_thread(void *arg)
{
	return vm_enter_filter(arg, SECCOMP_WORKER);
}

int vm_add_range(
	struct bus *bus, const struct bus_range *range, struct error *err)
{
	int r = bus_add(bus, range);

	return r < 0 ? error_errno(err, -r, "bus range at 0x%llx",
			       (unsigned long long)range->base)
		     : 0;
}

static void transport_read(void *dev, uint64_t off, void *data, unsigned len)
{
	virtio_mmio_read(dev, off, data, len);
}

static void transport_write(
	void *dev, uint64_t off, const void *data, unsigned len)
{
	virtio_mmio_write(dev, off, data, len);
}

int vm_slot_take(struct vm *vm, struct vm_slot **ret, struct error *err)
{
	struct vm_slot *slot = &vm->slots[vm->n_slots];

	if (vm->n_slots == VM_MAX_VIRTIO)
		return error_set(err, EINVAL,
			"a VM has at most %d virtio devices", VM_MAX_VIRTIO);
	slot->vm = vm;
	slot->index = vm->n_slots++;
	*ret = slot;
	return 0;
}

int vm_slot_plug(
	struct vm_slot *slot, struct virtio_dev *dev, struct error *err)
{
	const struct virtio_mmio_events events = {
		.driver_ok = on_driver_ok,
		.needs_reset = on_needs_reset,
		.arg = slot,
	};
	struct bus_range range = {.base = vm_slot_gpa(slot->index),
		.len = LAYOUT_VIRTIO_STRIDE,
		.read = transport_read,
		.write = transport_write};
	int r;

	slot->dev = dev;
	slot->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (slot->irq_fd < 0)
		return error_errno(err, errno, "eventfd");
	r = virtio_mmio_create(&slot->transport, dev, &slot->vm->mem,
		slot->irq_fd, &events, err);
	if (r < 0)
		return r;
	r = dev->ops->attach(dev, err);
	if (r < 0)
		return r;
	range.dev = slot->transport;
	return vm_add_range(&slot->vm->mmio, &range, err);
}

int vm_worker(struct vm *vm, enum vm_worker which, struct worker **ret,
	struct error *err)
{
	static const struct worker_config kinds[VM_WORKERS] = {
		[VM_WORKER_IO] = {.name = "io", .n_spare_files = SPARE_DRIVES},
		[VM_WORKER_NET] = {.name = "net"},
	};
	struct worker_config config = kinds[which];
	int r = 0;

	config.entries = WORKER_ENTRIES;
	config.thread_start = on_worker_thread;
	config.arg = vm;
	if (!vm->workers[which])
		r = worker_create(&vm->workers[which], &config, err);
	*ret = vm->workers[which];
	return r;
}

int vm_workers_begin(struct vm *vm, struct error *err)
{
	int r = 0;

	if (vm->vsock)
		worker_reserve_files(vm->workers[VM_WORKER_NET], SPARE_VSOCK);
	for (unsigned i = 0; r == 0 && i < VM_WORKERS; i++)
		if (vm->workers[i])
			r = worker_begin(vm->workers[i], err);
	return r;
}

int vm_workers_start(struct vm *vm, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < VM_WORKERS; i++)
		if (vm->workers[i])
			r = worker_start(vm->workers[i], err);
	return r;
}
