#include "vmm/vm_parts.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define WORKER_ENTRIES 128

/* ---- what they tell ---- */

static void end(struct vm *vm, enum vm_exit_reason reason)
{
	vm_events_end(&vm->events, reason, "");
	vcpus_end(&vm->vcpus);
}

static void on_power_off(void *arg)
{
	end(arg, VM_EXIT_SHUTDOWN);
}

static void on_reset(void *arg)
{
	end(arg, VM_EXIT_RESET);
}

static void on_panic(void *arg)
{
	end(arg, VM_EXIT_PANIC);
}

static void on_ready(void *arg)
{
	vm_mark(arg, VM_MOMENT_GUEST_READY);
}

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

static void on_blk_error(void *arg, int code)
{
	struct vm_slot *slot = arg;

	vm_events_blk_error(&slot->vm->events, slot->index, code);
}

/* ---- making them ---- */

static int on_worker_thread(void *arg)
{
	return vm_enter_filter(arg, SECCOMP_WORKER);
}

static int add_range(struct bus *bus, struct bus_range range, struct error *err)
{
	int r = bus_add(bus, &range);

	return r < 0 ? error_errno(err, -r, "bus range at 0x%llx",
			       (unsigned long long)range.base)
		     : 0;
}

/* What a kernel touches first, even one that prints nothing. */
static void serial_port_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct vm *vm = dev;

	vm_mark(vm, VM_MOMENT_KERNEL_UP);
	serial_read(&vm->serial, off, data, len);
}

static void serial_port_write(
	void *dev, uint64_t off, const void *data, unsigned len)
{
	struct vm *vm = dev;

	vm_mark(vm, VM_MOMENT_KERNEL_UP);
	serial_write(&vm->serial, off, data, len);
}

static int create_legacy(struct vm *vm, struct error *err)
{
	const struct bus_range ranges[] = {
		{LAYOUT_PORT_SERIAL, SERIAL_PORTS, vm, serial_port_read,
			serial_port_write},
		{LAYOUT_PORT_I8042_DATA, I8042_PORTS, &vm->keyboard, i8042_read,
			i8042_write},
		{LAYOUT_PORT_SLEEP_CONTROL, 2, &vm->sleep, acpi_sleep_read,
			acpi_sleep_write},
		{LAYOUT_PORT_PVPANIC, 1, &vm->pvpanic, pvpanic_read,
			pvpanic_write},
		{LAYOUT_PORT_READY, 1, &vm->ready_port, ready_port_read,
			ready_port_write},
	};
	int r;

	serial_init(
		&vm->serial, vm->serial_irq_fd, console_write, &vm->console);
	i8042_init(&vm->keyboard, vm->keyboard_irq_fd, on_reset, vm);
	vm->sleep = (struct acpi_sleep){on_power_off, vm};
	vm->pvpanic = (struct pvpanic){on_panic, vm};
	vm->ready_port = (struct ready_port){on_ready, vm};
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		r = add_range(&vm->pio, ranges[i], err);
		if (r < 0)
			return r;
	}
	return 0;
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

/* Gives slot->dev its transport and its page. */
static int plug(struct vm_slot *slot, struct error *err)
{
	const struct virtio_mmio_events events = {
		.driver_ok = on_driver_ok,
		.needs_reset = on_needs_reset,
		.arg = slot,
	};
	int r;

	slot->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (slot->irq_fd < 0)
		return error_errno(err, errno, "eventfd");
	r = virtio_mmio_create(&slot->transport, slot->dev, &slot->vm->mem,
		slot->irq_fd, &events, err);
	if (r < 0)
		return r;
	return add_range(&slot->vm->mmio,
		(struct bus_range){vm_slot_gpa(slot->index),
			LAYOUT_VIRTIO_STRIDE, slot->transport, transport_read,
			transport_write},
		err);
}

static int create_drive(struct vm *vm, unsigned index,
	const struct msg_drive *drive, int fd, struct error *err)
{
	struct vm_slot *slot = &vm->slots[index];
	struct blk_config config = {
		.fd = fd,
		.size_bytes = drive->size_bytes,
		.direct_align = drive->direct_align,
		.read_only = drive->read_only,
		.writeback = drive->writeback,
		.stats = &vm->shared->blk[index],
		.on_error = on_blk_error,
		.arg = slot,
	};
	int r;

	memcpy(config.serial, drive->serial, sizeof(config.serial));
	slot->vm = vm;
	slot->index = index;
	r = blk_create(&slot->dev, vm->worker, &config, err);
	if (r == 0)
		r = plug(slot, err);
	if (r == 0)
		r = blk_attach(slot->dev, err);
	if (r < 0)
		return error_wrap(err, "drive %u", index);
	vm->n_slots = index + 1;
	return 0;
}

static int create_drives(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct worker_config config = {
		.name = "io",
		.entries = WORKER_ENTRIES,
		.thread_start = on_worker_thread,
		.arg = vm,
	};
	int r;

	if (start->n_drives == 0)
		return 0;
	r = worker_create(&vm->worker, &config, err);
	for (unsigned i = 0; r == 0 && i < start->n_drives; i++)
		r = create_drive(vm, i, &start->drives[i],
			fds[MSG_START_FD_FIXED + start->has_initrd + i], err);
	return r < 0 ? r : worker_begin(vm->worker, err);
}

int vm_create_devices(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	int r = create_legacy(vm, err);

	return r < 0 ? r : create_drives(vm, start, fds, err);
}
