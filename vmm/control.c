#include "vmm/control.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Static_assert(
	sizeof(((struct msg_failed *)0)->text) == ERROR_MSG_MAX &&
		sizeof(((struct msg_failed *)0)->field) == ERROR_FIELD_MAX,
	"an error travels whole");

enum verdict { CONTINUE, LEAVE };

/* The daemon may be gone at any time; the loop hears of it by recvmsg. */
static void send_msg(int sock, const union msg *m)
{
	(void)msg_send(sock, MSG_VMM, m, NULL, 0);
}

static void send_failed(int sock, uint32_t seq, const struct error *err)
{
	union msg m = {.failed = {.hdr = {MSG_FAILED, seq}, .code = err->code}};

	memcpy(m.failed.field, err->field, sizeof(m.failed.field));
	memcpy(m.failed.text, err->msg, sizeof(m.failed.text));
	send_msg(sock, &m);
}

static void send_done(int sock, uint32_t seq, int r)
{
	union msg m = {.done = {.hdr = {MSG_DONE, seq}, .code = -r}};

	send_msg(sock, &m);
}

/* The guest finds the process without what only its start needed. */
static void close_start_fds(const struct msg_start *m, const int *fds)
{
	struct msg_start_fds at;

	msg_start_fds(m, &at);
	for (unsigned i = 0; i < MSG_START_FD_FIXED; i++)
		if (i != MSG_START_FD_WAKE)
			close(fds[i]);
	if (at.initrd >= 0)
		close(fds[at.initrd]);
	/* The worker's ring has them now: one that is swapped is let go of. */
	for (unsigned i = 0; i < m->n_drives; i++)
		close(fds[at.drives + i]);
	if (at.mmds >= 0)
		close(fds[at.mmds]);
}

/*
 * From the message to the guest's first instruction. Threads first, then this
 * one's filter (so that they do not inherit it beside their own), and only
 * then is anything looked at that a guest made.
 */
static int start(struct vm *vm, const struct msg_start *m, const int *fds,
	struct error *err)
{
	int r = vm_create(vm, m, fds, err);

	if (r < 0)
		return r;
	r = vm_enter_filter(vm, SECCOMP_CONTROL);
	if (r < 0)
		return error_errno(
			err, -r, "installing the control thread's filter");
	vm_mark(vm, VM_MOMENT_CONFIGURED);
	r = vm_load(vm, m, fds, err);
	if (r < 0)
		return r;
	vm_mark(vm, VM_MOMENT_LOADED);
	close_start_fds(m, fds);
	vm_run(vm);
	return 0;
}

/* What the daemon asks of a VM that has started. */
static enum verdict obey(struct vm *vm, int sock)
{
	int fds[MSG_MAX_FDS], r;
	unsigned n_fds;
	union msg m;

	r = msg_recv(sock, MSG_VMM, &m, fds, &n_fds);
	if (r == -EAGAIN)
		return CONTINUE;
	/*
	 * Without its daemon nobody could stop, watch or even find this VM, so
	 * it ends with it. What is not a message of the protocol comes from a
	 * daemon that is not ours: the same.
	 */
	if (r <= 0)
		return LEAVE;
	switch (m.hdr.type) {
	case MSG_PAUSE:
		r = vm_pause(vm);
		break;
	case MSG_RESUME:
		vm_run(vm);
		r = 0;
		break;
	case MSG_VSOCK_CONNECTED: /* an answer itself */
		vm_vsock_connected(vm, &m.vsock_connected, fds);
		return CONTINUE;
	case MSG_START: /* a second one */
		return LEAVE;
	default:
		r = vm_obey(vm, &m, fds);
		break;
	}
	send_done(sock, m.hdr.seq, r);
	return CONTINUE;
}

static enum verdict pass_events(struct vm *vm, int sock)
{
	union msg m = {.event = {.hdr = {MSG_EVENT, 0}}};
	struct msg_exiting exiting;
	uint64_t count;

	if (read(vm->event_fd, &count, sizeof(count)) < 0)
		return CONTINUE;
	while (vm_events_next(&vm->events, clock_ns(), &m.event))
		send_msg(sock, &m);
	while (vm_vsock_next(vm, &m.vsock_connect))
		send_msg(sock, &m);
	return vm_events_ended(&vm->events, &exiting) ? LEAVE : CONTINUE;
}

static void loop(struct vm *vm, int sock)
{
	struct pollfd p[] = {{.fd = sock, .events = POLLIN},
		{.fd = vm->event_fd, .events = POLLIN}};

	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue; /* EINTR */
		if (p[1].revents && pass_events(vm, sock) == LEAVE)
			return;
		if (p[0].revents && obey(vm, sock) == LEAVE)
			return;
	}
}

/* Nothing of the guest runs and all its writes are done before the daemon
 * hears that it ended. */
static void leave(struct vm *vm, int sock)
{
	union msg m = {.exiting = {.hdr = {MSG_EXITING, 0}}};

	vm_stop(vm);
	if (vm_events_ended(&vm->events, &m.exiting))
		send_msg(sock, &m);
}

int control_run(struct vm *vm, int sock)
{
	union msg started = {.plain = {.hdr = {MSG_STARTED, 0}}};
	struct error err = {0};
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	union msg m;

	if (msg_recv(sock, MSG_VMM, &m, fds, &n_fds) != 1 ||
		m.hdr.type != MSG_START)
		return 1;
	if (start(vm, &m.start, fds, &err) < 0) {
		send_failed(sock, m.hdr.seq, &err);
		return 1;
	}
	started.hdr.seq = m.hdr.seq;
	send_msg(sock, &started);
	loop(vm, sock);
	leave(vm, sock);
	return 0;
}
