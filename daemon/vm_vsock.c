#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * A VMM may ask for VSOCK_MAX_CONNECTING connections at a time; who asks for
 * more has been taken over. How fast they are answered is the daemon's choice:
 * what is too much in a second waits for the next.
 */
#define CONNECTS_PER_SECOND 4000
#define PAUSE_NS 10000000u

/*
 * The end of a connection for a guest that says it is ready (which its VMM has
 * told already) where no program of the host's listens for that: it is
 * accepted, and closed.
 */
static int nobody(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		    pair) < 0)
		return -errno;
	close(pair[1]);
	return pair[0];
}

static int connect_to(const struct vm *vm, uint32_t port)
{
	int fd = vsock_uds_connect(&vm->uds, port);

	return fd < 0 && port == VM_READY_PORT ? nobody() : fd;
}

/* Whether the first one is answered; else it is tried again. */
static bool answer_first(struct vm *vm)
{
	struct vm_vsock_asks *q = &vm->vsock_asks;
	union msg m = {.vsock_connected = {.hdr = {MSG_VSOCK_CONNECTED, 0},
			       .token = q->asks[0].token}};
	uint32_t held_back;
	int r;

	if (q->fd < 0) {
		if (!log_limit_ok(&q->limit, clock_ns(), &held_back))
			return false;
		q->fd = connect_to(vm, q->asks[0].port);
	}
	m.vsock_connected.has_fd = q->fd >= 0;
	r = msg_send(vm->process.jail.sock, MSG_DAEMON, &m, &q->fd, q->fd >= 0);
	if (r == -EAGAIN)
		return false;
	/* Any other error is a VM that ends: its end is seen elsewhere. */
	close_fd(&q->fd);
	memmove(q->asks, q->asks + 1, --q->n * sizeof(q->asks[0]));
	return true;
}

static void answer_some(struct vm *vm)
{
	struct vm_vsock_asks *q = &vm->vsock_asks;

	while (q->n > 0)
		if (!answer_first(vm)) {
			loop_set_timer(vm->env->loop, &q->timer,
				clock_ns() + PAUSE_NS);
			return;
		}
}

static void on_pause_over(struct loop_timer *t)
{
	answer_some((struct vm *)((char *)t -
				  offsetof(struct vm, vsock_asks.timer)));
}

void vm_vsock_init(struct vm *vm)
{
	vsock_uds_init(&vm->uds);
	vm->vsock_asks = (struct vm_vsock_asks){.fd = -1,
		.timer = {.fire = on_pause_over},
		.limit = LOG_LIMIT(CONNECTS_PER_SECOND, 1)};
}

void vm_take_vsock_connect(struct vm *vm, const struct msg_vsock_connect *m)
{
	struct vm_vsock_asks *q = &vm->vsock_asks;

	if (!vm->config.vsock.uds_path || q->n == VSOCK_MAX_CONNECTING) {
		vm_kill(vm, VM_EXIT_CRASHED,
			"the VMM asked for more vsock connections than it may");
		return;
	}
	q->asks[q->n].token = m->token;
	q->asks[q->n++].port = m->port;
	if (q->n == 1)
		answer_some(vm);
}

void vm_forget_vsock_asks(struct vm *vm)
{
	loop_clear_timer(vm->env->loop, &vm->vsock_asks.timer);
	close_fd(&vm->vsock_asks.fd);
	vm->vsock_asks.n = 0;
}

int vm_open_vsock(struct vm *vm, const struct vm_config *c, struct error *err)
{
	const char *path = c->vsock.uds_path;
	struct vsock_uds opened;

	if (!path || strcmp(path, vm->uds.path) == 0)
		return 0;
	if (vsock_uds_open(&opened, &vm->config.host, path, err) < 0)
		return -err->code;
	vsock_uds_close(&vm->uds);
	vm->uds = opened;
	return 0;
}
