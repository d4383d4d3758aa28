#include "vmm/control.h"

#include "base/clock.h"
#include "vmm/starter.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(
	sizeof(((struct msg_failed *)0)->text) == ERROR_MSG_MAX &&
		sizeof(((struct msg_failed *)0)->field) == ERROR_FIELD_MAX,
	"an error travels whole");

/* How the VMM and its daemon talk. */
struct control {
	int sock;      /* -1: there is no daemon at the moment */
	int listen_fd; /* where the next one connects; -1: there is no next */
};

/* After a connection could not be taken. */
#define RETRY_MS 100

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

/* What was mapped, or given to KVM, is not needed as a descriptor. */
static void close_prepare_fds(const int *fds)
{
	close(fds[MSG_PREPARE_FD_KVM]);
	close(fds[MSG_PREPARE_FD_SHARED]);
	close(fds[MSG_PREPARE_FD_SECCOMP]);
}

/* The guest finds the process without what only its start needed. */
static void close_start_fds(const struct msg_start *m, const int *fds)
{
	struct msg_start_fds at;

	msg_start_fds(m, &at);
	close(fds[MSG_START_FD_KERNEL]);
	if (at.initrd >= 0)
		close(fds[at.initrd]);
	/* The worker's ring has them now: one that is swapped is let go of. */
	for (unsigned i = 0; i < m->n_drives; i++)
		close(fds[at.drives + i]);
	if (at.mmds >= 0)
		close(fds[at.mmds]);
}

static void show_id(struct vm *vm, const char *id)
{
	size_t n = strlen(id);

	if (!vm->title)
		return;
	memset(vm->title, 0, vm->title_bytes);
	memcpy(vm->title, id, n < vm->title_bytes ? n : vm->title_bytes);
}

/* From the devices to the guest's first instruction. */
static int start(struct vm *vm, const struct msg_start *m, const int *fds,
	struct error *err)
{
	int r;

	show_id(vm, m->id);
	vm_mark(vm, VM_MOMENT_CONFIGURED);
	r = vm_load(vm, m, fds, err);
	if (r < 0)
		return r;
	vm_mark(vm, VM_MOMENT_LOADED);
	close_start_fds(m, fds);
	vm_run(vm);
	return 0;
}

/* The VM lives on where another daemon can find it; else nobody could stop,
 * watch or even find it, and it ends. */
static enum verdict lose_daemon(struct vm *vm, struct control *c)
{
	close(c->sock);
	c->sock = -1;
	vm_vsock_unasked(vm);
	return c->listen_fd < 0 ? LEAVE : CONTINUE;
}

/* What the daemon asks of a VM that has started. */
static enum verdict obey(struct vm *vm, struct control *c)
{
	int fds[MSG_MAX_FDS], r;
	unsigned n_fds;
	union msg m;

	r = msg_recv(c->sock, MSG_VMM, &m, fds, &n_fds);
	if (r == -EAGAIN)
		return CONTINUE;
	/* What is not a message of the protocol comes from a daemon that is
	 * not ours: as if there were none. */
	if (r <= 0)
		return lose_daemon(vm, c);
	switch (m.hdr.type) {
	case MSG_PAUSE:
		r = vm_pause(vm);
		break;
	case MSG_RESUME:
		vm_run(vm);
		r = 0;
		break;
	case MSG_ADOPT:
		r = vm_adopt(vm, fds[0]);
		break;
	case MSG_VSOCK_CONNECTED: /* an answer itself */
		vm_vsock_connected(vm, &m.vsock_connected, fds);
		return CONTINUE;
	case MSG_PREPARE: /* another time */
	case MSG_START:
		for (unsigned i = 0; i < n_fds; i++)
			close(fds[i]);
		return lose_daemon(vm, c);
	default:
		r = vm_obey(vm, &m, fds);
		break;
	}
	send_done(c->sock, m.hdr.seq, r);
	return CONTINUE;
}

/* Those that a daemon has to answer wait for one, and that the guest is ready;
 * errors are for the log of one that is there. */
static enum verdict pass_events(struct vm *vm, const struct control *c)
{
	union msg m = {.event = {.hdr = {MSG_EVENT, 0}}};
	struct msg_exiting exiting;
	uint64_t count;

	if (read(vm->event_fd, &count, sizeof(count)) < 0)
		return CONTINUE;
	if (c->sock < 0)
		vm_events_forget_errors(&vm->events);
	while (c->sock >= 0 &&
		vm_events_next(&vm->events, clock_ns(), &m.event))
		send_msg(c->sock, &m);
	while (c->sock >= 0 && vm_vsock_next(vm, &m.vsock_connect))
		send_msg(c->sock, &m);
	return vm_events_ended(&vm->events, &exiting) ? LEAVE : CONTINUE;
}

static void find_daemon(struct vm *vm, struct control *c)
{
	c->sock = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (c->sock >= 0)
		fd_notify(vm->event_fd); /* for what waited */
	else if (errno != EAGAIN)
		(void)poll(NULL, 0, RETRY_MS); /* it would come back at once */
}

static void loop(struct vm *vm, struct control *c)
{
	for (;;) {
		bool alone = c->sock < 0;
		struct pollfd p[] = {{.fd = alone ? c->listen_fd : c->sock,
					     .events = POLLIN},
			{.fd = vm->event_fd, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			continue; /* EINTR */
		if (p[1].revents && pass_events(vm, c) == LEAVE)
			return;
		if (!p[0].revents)
			continue;
		if (alone)
			find_daemon(vm, c);
		else if (obey(vm, c) == LEAVE)
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

/*
 * Up to where the VM waits for its start. Threads first, then this one's filter
 * (so that they do not inherit it beside their own). The starter has m and fds
 * after that.
 */
static int prepare(struct vm *vm, struct starter *starter, int sock,
	union msg *m, int *fds, struct error *err)
{
	int r = vm_prepare(vm, &m->prepare, fds, err);

	if (r < 0)
		return r;
	close_prepare_fds(fds);
	r = starter_begin(starter, vm, sock, m, fds, err);
	if (r < 0)
		return r;
	r = vm_enter_filter(vm, SECCOMP_CONTROL);
	return r < 0 ? error_errno(err, -r,
			       "installing the control thread's filter")
		     : 0;
}

static int fail(const struct control *c, uint32_t seq, const struct error *err)
{
	send_failed(c->sock, seq, err);
	return -1;
}

/* The two messages in their order. Until there is a guest the VMM ends with
 * its daemon. 0, or -1: it did not start. */
static int begin(struct vm *vm, struct control *c)
{
	union msg started = {.plain = {.hdr = {MSG_STARTED, 0}}};
	struct error err = {0};
	struct starter starter;
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	uint32_t seq;
	union msg m;

	if (msg_recv(c->sock, MSG_VMM, &m, fds, &n_fds) != 1 ||
		m.hdr.type != MSG_PREPARE)
		return -1;
	seq = m.hdr.seq;
	/* It listens already: now the kernel knows that it is us. */
	if (m.prepare.has_control) {
		c->listen_fd = fds[MSG_PREPARE_FD_CONTROL];
		(void)listen(c->listen_fd, MSG_CONTROL_BACKLOG);
	}
	if (prepare(vm, &starter, c->sock, &m, fds, &err) < 0)
		return fail(c, seq, &err);
	send_done(c->sock, seq, 0);

	starter_wait(&starter);
	if (!starter.asked)
		return -1;
	seq = m.hdr.seq;
	if (starter.result < 0)
		return fail(c, seq, &starter.err);
	if (start(vm, &m.start, fds, &err) < 0)
		return fail(c, seq, &err);
	started.hdr.seq = seq;
	send_msg(c->sock, &started);
	return 0;
}

int control_run(struct vm *vm, int sock)
{
	struct control c = {.sock = sock, .listen_fd = -1};

	if (begin(vm, &c) < 0)
		return 1;
	loop(vm, &c);
	leave(vm, c.sock);
	return 0;
}
