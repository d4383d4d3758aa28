#include "base/fd.h"
#include "vmm/vm_parts.h"

#include <linux/virtio_mmio.h>
#include <unistd.h>

/* The control thread then asks for them: vm_vsock_next(). */
static void on_connect(void *arg)
{
	struct vm *vm = arg;

	fd_notify(vm->event_fd);
}

static void on_ready(void *arg)
{
	vm_guest_is_ready(arg);
}

int vm_create_vsock(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	struct vsock_config config = {
		.guest_cid = start->guest_cid,
		.stats = &vm->shared->vsock,
		.on_connect = on_connect,
		.on_ready = on_ready,
		.ready_port = VM_READY_PORT,
		.arg = vm,
	};
	struct msg_start_fds at;
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	if (!start->has_vsock)
		return 0;
	msg_start_fds(start, &at);
	config.listen_fd = fds[at.vsock];
	r = vm_worker(vm, VM_WORKER_NET, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r < 0)
		return r;
	r = vsock_create(&vm->vsock, worker, &config, err);
	return r < 0 ? r : vm_slot_plug(slot, vm->vsock, err);
}

bool vm_vsock_next(struct vm *vm, struct msg_vsock_connect *ret)
{
	struct vm_vsock_asks *asks = &vm->vsock_asks;

	*ret = (struct msg_vsock_connect){.hdr = {MSG_VSOCK_CONNECT, 0}};
	if (!vm->vsock || asks->n == VSOCK_MAX_CONNECTING ||
		!vsock_next_connect(vm->vsock, &ret->token, &ret->port))
		return false;
	asks->tokens[asks->n++] = ret->token; /* no more than it gives out */
	return true;
}

static void forget(struct vm_vsock_asks *asks, uint64_t token)
{
	for (unsigned i = 0; i < asks->n; i++)
		if (asks->tokens[i] == token) {
			asks->tokens[i] = asks->tokens[--asks->n];
			return;
		}
}

void vm_vsock_unasked(struct vm *vm)
{
	struct vm_vsock_asks *asks = &vm->vsock_asks;

	while (asks->n > 0)
		vsock_connected(vm->vsock, asks->tokens[--asks->n], -1);
}

void vm_vsock_connected(
	struct vm *vm, const struct msg_vsock_connected *m, const int *fds)
{
	int fd = m->has_fd ? fds[0] : -1;

	forget(&vm->vsock_asks, m->token);
	if (vm->vsock)
		vsock_connected(vm->vsock, m->token, fd);
	else if (fd >= 0)
		close(fd);
}
