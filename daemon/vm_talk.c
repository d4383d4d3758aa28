#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/admission.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* Requests one VM may have unanswered. */
#define REQUESTS_MAX 64
/* Messages taken at once: a VM that floods us gets its turn, not more. */
#define MESSAGES_PER_TURN 16
/* From its last word to the end of the process. */
#define LINGER_NS 1000000000u

struct vm_pending *vm_pend(struct vm *vm, struct vm_pendings *list,
	struct api_op *op, void (*timed_out)(struct loop_timer *t),
	uint64_t timeout_ns)
{
	struct vm_pending *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->vm = vm;
	p->op = op;
	p->timer.fire = timed_out;
	p->then.event = VM_EVENTS;
	if (timeout_ns != UINT64_MAX && loop_set_timer(vm->env->loop, &p->timer,
						clock_ns() + timeout_ns) < 0) {
		free(p);
		return NULL;
	}
	if (op)
		op->backend = p;
	LIST_INSERT_HEAD(list, p, link);
	return p;
}

void vm_pending_free(struct vm_pending *p)
{
	loop_clear_timer(p->vm->env->loop, &p->timer);
	LIST_REMOVE(p, link);
	vm_change_free(p->then.change);
	free(p);
}

/* Answers and forgets. */
static void answer(struct vm_pending *p, const struct error *err)
{
	struct api_op *op = p->op;

	vm_pending_free(p);
	if (op)
		op->done(op, err);
}

void vm_answer_all(struct vm_pendings *list, const struct error *err)
{
	struct vm_pending *p, *next;

	for (p = LIST_FIRST(list); p; p = next) {
		next = LIST_NEXT(p, link);
		answer(p, err);
	}
}

/* Its answer may still come, and then tell the VM's state: the record stays,
 * without its asker. */
static void on_request_timeout(struct loop_timer *t)
{
	struct vm_pending *p =
		(struct vm_pending *)((char *)t -
				      offsetof(struct vm_pending, timer));
	struct api_op *op = p->op;
	struct error err;

	p->op = NULL;
	log_warn("vm_does_not_answer", "vm=%s", p->vm->id);
	error_set(&err, ETIMEDOUT, "the VM did not answer within %llu s",
		(unsigned long long)(p->vm->env->request_timeout_ns /
				     1000000000u));
	/* The next message of a change whose first was answered too late. */
	if (op)
		op->done(op, &err);
}

int vm_refuse_foreign(const struct vm *vm, struct error *err)
{
	static const char can[] = "it can run on and be deleted, not changed";

	if (vm->process.deaf)
		return error_set(err, EBUSY,
			"the VM's process does not listen to this mayflyd, "
			"perhaps to the next: %s",
			can);
	if (vm->foreign == VM_DAMAGED)
		return error_set(err, EBUSY,
			"what an earlier mayflyd wrote down of the VM is "
			"damaged: %s",
			can);
	return error_set(err, EBUSY,
		"the VM was started by another version of mayflyd, with "
		"protocol %u, not %u: %s",
		vm->foreign, MSG_PROTOCOL, can);
}

int vm_request(struct vm *vm, union msg *m, const int *fds, unsigned n_fds,
	struct vm_then then, struct api_op *op, struct error *err)
{
	struct vm_pending *p = NULL;
	int r;

	if (vm->foreign) {
		vm_change_free(then.change);
		return vm_refuse_foreign(vm, err);
	}
	if (vm->n_requests < REQUESTS_MAX)
		p = vm_pend(vm, &vm->requests, op, on_request_timeout,
			vm->env->request_timeout_ns);
	if (!p) {
		vm_change_free(then.change);
		if (vm->n_requests < REQUESTS_MAX)
			return error_set(err, ENOMEM, "out of memory");
		return error_set(err, ENOBUFS,
			"the VM has %d unanswered requests already",
			REQUESTS_MAX);
	}
	m->hdr.seq = p->seq = ++vm->next_seq;
	p->then = then;
	r = msg_send(vm->process.jail.sock, MSG_DAEMON, m, fds, n_fds);
	if (r == 0) {
		vm->n_requests++;
		return API_PENDING;
	}
	vm_pending_free(p);
	if (r == -EAGAIN)
		return error_set(
			err, ETIMEDOUT, "the VM does not read its messages");
	if (r == -EPIPE || r == -ECONNRESET)
		return error_set(err, EBUSY, "the VM is exiting");
	return error_errno(err, -r, "sending to the VM");
}

int vm_act(
	struct vm *vm, enum api_action a, struct api_op *op, struct error *err)
{
	static const struct {
		enum vm_event asked, done;
		enum msg_type type;
		enum vm_state already;
	} actions[] = {
		[API_ACTION_CTRL_ALT_DEL] = {VM_EV_CTRL_ALT_DEL, VM_EVENTS,
			MSG_CTRL_ALT_DEL, VM_STATES},
		[API_ACTION_PAUSE] = {VM_EV_PAUSE, VM_EV_PAUSED, MSG_PAUSE,
			VM_PAUSED},
		[API_ACTION_RESUME] = {VM_EV_RESUME, VM_EV_RESUMED, MSG_RESUME,
			VM_RUNNING},
	};
	union msg m = {.plain = {.hdr = {.type = actions[a].type}}};
	enum vm_state after = vm->state;

	if (vm_state_after(&after, actions[a].asked, err) < 0)
		return -err->code;
	if (vm->state == actions[a].already && vm->n_requests == 0)
		return 0;
	return vm_request(vm, &m, NULL, 0,
		(struct vm_then){actions[a].done, NULL}, op, err);
}

int vm_console_input(struct vm *vm, const void *data, size_t len,
	struct api_op *op, struct error *err)
{
	enum vm_state after = vm->state;
	union msg m;

	if (vm_state_after(&after, VM_EV_CONSOLE_INPUT, err) < 0)
		return -err->code;
	if (len < 1 || len > VM_CONSOLE_INPUT_MAX)
		return error_set(err, EMSGSIZE, "at most %d bytes at a time",
			VM_CONSOLE_INPUT_MAX);
	memset(&m.input, 0, sizeof(m.input));
	m.hdr.type = MSG_CONSOLE_INPUT;
	m.input.len = (uint32_t)len;
	memcpy(m.input.data, data, len);
	return vm_request(
		vm, &m, NULL, 0, (struct vm_then){VM_EVENTS, NULL}, op, err);
}

/* Messages nobody waits for: an honest VMM has a few in its life, each of
 * another's costs the daemon time. */
static void count_unasked(struct vm *vm)
{
	uint32_t ignored;

	if (!log_limit_ok(&vm->unasked_limit, clock_ns(), &ignored))
		vm_kill(vm, VM_EXIT_CRASHED, "the VMM floods its daemon");
}

/* A change may take another message, for which the same one waits. */
static void go_on(struct vm_pending *p)
{
	struct vm_change *c = take_ptr(&p->then.change);
	struct api_op *op = p->op;
	struct vm *vm = p->vm;
	struct error err;
	int r;

	vm_pending_free(p);
	r = vm_change_done(vm, c, op, &err);
	if (r != API_PENDING && op)
		op->done(op, r < 0 ? &err : NULL);
}

/* What a request that is done has made of the VM. */
static void happen(struct vm *vm, enum vm_event event)
{
	enum vm_state before = vm->state;
	struct error ignored;

	if (event == VM_EV_STARTED) {
		vm_started(vm);
		return;
	}
	if (event == VM_EVENTS ||
		vm_state_after(&vm->state, event, &ignored) < 0 ||
		vm->state == before)
		return;
	vm_publish(vm,
		vm->state == VM_PAUSED ? API_EVENT_PAUSED : API_EVENT_RESUMED);
}

static void take_done(struct vm *vm, const struct msg_done *m)
{
	struct vm_pending *p;
	struct error err;

	/* Of MSG_PREPARE, of one taken from the pool at once. */
	if (m->hdr.seq == 0 && vm->state == VM_STARTING && m->code == 0)
		return;
	LIST_FOREACH(p, &vm->requests, link)
	if (p->seq == m->hdr.seq)
		break;
	if (!p) {
		count_unasked(vm);
		return;
	}
	vm->n_requests--;
	if (m->code == 0) {
		happen(vm, p->then.event);
		if (p->then.change)
			go_on(p);
		else
			answer(p, NULL);
		return;
	}
	if (p->then.change)
		vm_change_failed(m->code, &err);
	else if (m->code == ENOBUFS)
		error_set(&err, ENOBUFS,
			"the console's input is full: the guest does not read");
	else
		error_errno(&err, EIO, "the VM failed (%d)", m->code);
	answer(p, &err);
}

static void take_failed(struct vm *vm, const struct msg_failed *m)
{
	char field[ERROR_FIELD_MAX], text[ERROR_MSG_MAX];
	int code = m->code > 0 && m->code < 4096 ? m->code : EIO;

	if (vm->state != VM_STARTING) {
		vm_kill(vm, VM_EXIT_CRASHED,
			"the VMM said it did not start when it had");
		return;
	}
	/* Without a field it is the host's doing, not the request's. */
	if (!m->field[0])
		code = admission_is_room(code) ? EAGAIN : EIO;
	text_printable(field, sizeof(field), m->field);
	text_printable(text, sizeof(text), m->text);
	error_field(&vm->start_err, code, field, "%s", text);
	loop_set_timer(vm->env->loop, &vm->linger, clock_ns() + LINGER_NS);
}

static void take_event(struct vm *vm, const struct msg_event *m)
{
	static const char *const kinds[MSG_EVENT_KINDS] = {
		"drive_error", "needs_reset", "net_error", "guest_ready"};
	uint32_t held_back;

	count_unasked(vm);
	if (m->kind == MSG_EVENT_GUEST_READY) {
		if (!vm->ready_told)
			vm_publish(vm, API_EVENT_GUEST_READY);
		vm->ready_told = true;
		return;
	}
	if (m->kind < MSG_EVENT_KINDS &&
		log_limit_ok(&vm->events_limit, clock_ns(), &held_back))
		log_warn(kinds[m->kind],
			"vm=%s index=%u value=%lld held_back=%u", vm->id,
			m->index, (long long)m->value, held_back);
}

static void take_exiting(struct vm *vm, const struct msg_exiting *m)
{
	if (m->reason < VM_EXIT_SHUTDOWN ||
		m->reason > VM_EXIT_INTERNAL_ERROR || vm->exit.reason) {
		vm_kill(vm, VM_EXIT_CRASHED,
			"the VMM gave a reason that is none");
		return;
	}
	vm->exit.reason = (enum vm_exit_reason)m->reason;
	text_printable(vm->exit.detail, sizeof(vm->exit.detail), m->detail);
	loop_set_timer(vm->env->loop, &vm->linger, clock_ns() + LINGER_NS);
}

static void take_message(struct vm *vm, const union msg *m)
{
	switch ((enum msg_type)m->hdr.type) {
	case MSG_STARTED:
		vm_started(vm);
		break;
	case MSG_FAILED:
		take_failed(vm, &m->failed);
		break;
	case MSG_DONE:
		take_done(vm, &m->done);
		break;
	case MSG_EVENT:
		take_event(vm, &m->event);
		break;
	case MSG_EXITING:
		take_exiting(vm, &m->exiting);
		break;
	case MSG_VSOCK_CONNECT:
		vm_take_vsock_connect(vm, &m->vsock_connect);
		break;
	case MSG_INVALID:
	case MSG_PREPARE:
	case MSG_START:
	case MSG_ADOPT:
	case MSG_PAUSE:
	case MSG_RESUME:
	case MSG_CTRL_ALT_DEL:
	case MSG_CONSOLE_INPUT:
	case MSG_CONSOLE_SIZE:
	case MSG_DRIVE:
	case MSG_LIMIT:
	case MSG_BALLOON:
	case MSG_MEMORY:
	case MSG_MMDS:
	case MSG_VSOCK_CONNECTED:
	case MSG_TYPES:
		break;
	}
}

void vm_take_messages(struct vm *vm, unsigned max)
{
	/* Stops, too, when a message made us close the conversation. */
	for (unsigned i = 0; i < max && vm->sock.fd >= 0; i++) {
		union msg m;
		unsigned n_fds;
		int r = msg_recv(
			vm->process.jail.sock, MSG_DAEMON, &m, NULL, &n_fds);

		if (r == -EAGAIN)
			return;
		if (r == -EPROTO)
			vm_kill(vm, VM_EXIT_CRASHED,
				"the VMM sent what is not a message");
		if (r <= 0) {
			/* It has closed its end: see that it ends. */
			loop_remove(vm->env->loop, &vm->sock);
			loop_set_timer(vm->env->loop, &vm->linger,
				clock_ns() + LINGER_NS);
			return;
		}
		take_message(vm, &m);
	}
}

void vm_on_sock(struct loop_source *s, uint32_t events)
{
	(void)events;
	vm_take_messages((struct vm *)((char *)s - offsetof(struct vm, sock)),
		MESSAGES_PER_TURN);
}
