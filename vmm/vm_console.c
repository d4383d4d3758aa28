#include "virtio/vconsole.h"
#include "vmm/vm_parts.h"

#include "vmm/config.h"

#include <errno.h>

_Static_assert(VM_CONSOLE_INPUT_MAX <= VCONSOLE_INPUT_MAX,
	"what can be sent can be typed, if the guest reads");

/* Both consoles write to the one ring. */
static void write_output(void *arg, const void *data, size_t len)
{
	console_write(arg, data, len);
}

int vm_create_console(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct vconsole_config config = {
		.write = write_output,
		.arg = &vm->console,
		.limiter = start->serial_limiter,
	};
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	(void)fds;
	if (start->console != VM_CONSOLE_VIRTIO)
		return 0;
	r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r == 0)
		r = vconsole_create(&vm->vconsole, worker, &config, err);
	if (r == 0)
		r = vm_slot_plug(slot, vm->vconsole, err);
	return r;
}

int vm_console_input(struct vm *vm, const struct msg_console_input *m)
{
	return vm->vconsole ? vconsole_input(vm->vconsole, m->data, m->len)
			    : serial_input(&vm->serial, m->data, m->len);
}

int vm_console_resize(struct vm *vm, const struct msg_console_size *m)
{
	return vm->vconsole ? vconsole_resize(vm->vconsole, m->columns, m->rows)
			    : -ENOTSUP;
}

int vm_console_limit(struct vm *vm, const struct rate_limiter_update *u)
{
	serial_limit(&vm->serial, u);
	return vm->vconsole ? vconsole_limit(vm->vconsole, u) : 0;
}
