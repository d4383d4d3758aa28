#include "vmm/vm_parts.h"

#include <errno.h>
#include <string.h>

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

void vm_guest_is_ready(struct vm *vm)
{
	vm_mark(vm, VM_MOMENT_GUEST_READY);
	vm_events_ready(&vm->events);
}

static void on_ready(void *arg)
{
	vm_guest_is_ready(arg);
}

/* ---- making them ---- */

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

static int create_legacy(
	struct vm *vm, const struct msg_start *start, struct error *err)
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
	serial_init_limiter(&vm->serial, &start->serial_limiter,
		&vm->shared->console_limited);
	i8042_init(&vm->keyboard, vm->keyboard_irq_fd, on_reset, vm);
	vm->sleep = (struct acpi_sleep){on_power_off, vm};
	vm->pvpanic = (struct pvpanic){on_panic, vm};
	vm->ready_port = (struct ready_port){on_ready, vm};
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		r = vm_add_range(&vm->pio, &ranges[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vm_create_devices(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	/* In the order in which the guest finds them. */
	static int (*const kinds[])(struct vm * vm,
		const struct msg_start *start, const int *fds,
		struct error *err) = {
		vm_create_drives,
		vm_create_mmds, /* none itself: what interfaces lead to */
		vm_create_nets,
		vm_create_vsock,
		vm_create_entropy,
		vm_create_balloon,
		vm_create_memory,
		vm_create_pmem,
		vm_create_console,
	};
	int r = create_legacy(vm, start, err);

	for (size_t i = 0; r == 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		r = kinds[i](vm, start, fds, err);
	return r < 0 ? r : vm_workers_begin(vm, err);
}

static int vm_set_limit(struct vm *vm, const struct msg_limit *m)
{
	const struct rate_limiter_update u = {.has_bytes = m->has_bytes,
		.has_ops = m->has_ops,
		.config = m->config};

	switch (m->kind) {
	case MSG_LIMIT_DRIVE:
		return vm_limit_drive(vm, m->index, &u);
	case MSG_LIMIT_PMEM:
		return vm_limit_pmem(vm, m->index, &u);
	case MSG_LIMIT_NET_RX:
	case MSG_LIMIT_NET_TX:
		return vm_limit_net(
			vm, m->index, m->kind == MSG_LIMIT_NET_RX, &u);
	case MSG_LIMIT_SERIAL:
		return m->index ? -EINVAL : vm_console_limit(vm, &u);
	default:
		return -EINVAL;
	}
}

int vm_obey(struct vm *vm, const union msg *m, const int *fds)
{
	switch (m->hdr.type) {
	case MSG_CTRL_ALT_DEL:
		return i8042_ctrl_alt_del(&vm->keyboard);
	case MSG_CONSOLE_INPUT:
		return vm_console_input(vm, &m->input);
	case MSG_CONSOLE_SIZE:
		return vm_console_resize(vm, &m->size);
	case MSG_DRIVE:
		return vm_set_drive(vm, &m->drive, fds[0]);
	case MSG_MMDS:
		return vm_set_mmds(vm, &m->mmds, fds[0]);
	case MSG_MEMORY:
		return vm_set_memory(vm, m->memory.requested_bytes);
	case MSG_LIMIT:
		return vm_set_limit(vm, &m->limit);
	case MSG_BALLOON:
		return vm_obey_balloon(vm, &m->balloon);
	default:
		return -EINVAL;
	}
}
