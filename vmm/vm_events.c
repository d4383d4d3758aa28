#include "vmm/vm_events.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>

#define EVENTS_BURST 20
#define EVENTS_INTERVAL_S 10

void vm_events_init(struct vm_events *e, int fd)
{
	*e = (struct vm_events){
		.fd = fd, .limit = LOG_LIMIT(EVENTS_BURST, EVENTS_INTERVAL_S)};
	pthread_mutex_init(&e->lock, NULL);
}

void vm_events_end(
	struct vm_events *e, enum vm_exit_reason reason, const char *detail)
{
	pthread_mutex_lock(&e->lock);
	if (e->reason == VM_EXIT_NONE) {
		e->reason = reason;
		(void)snprintf(e->detail, sizeof(e->detail), "%s", detail);
	}
	pthread_mutex_unlock(&e->lock);
	fd_notify(e->fd);
}

void vm_events_ready(struct vm_events *e)
{
	bool first;

	pthread_mutex_lock(&e->lock);
	first = !e->ready;
	e->ready = true;
	pthread_mutex_unlock(&e->lock);
	if (first)
		fd_notify(e->fd);
}

void vm_events_needs_reset(struct vm_events *e, unsigned device)
{
	pthread_mutex_lock(&e->lock);
	e->needs_reset |= 1u << device;
	pthread_mutex_unlock(&e->lock);
	fd_notify(e->fd);
}

void vm_events_blk_error(struct vm_events *e, unsigned drive, int code)
{
	pthread_mutex_lock(&e->lock);
	e->blk_error[drive] = code;
	pthread_mutex_unlock(&e->lock);
	fd_notify(e->fd);
}

void vm_events_net_error(struct vm_events *e, unsigned net, int code)
{
	pthread_mutex_lock(&e->lock);
	e->net_error[net] = code;
	pthread_mutex_unlock(&e->lock);
	fd_notify(e->fd);
}

bool vm_events_ended(struct vm_events *e, struct msg_exiting *ret)
{
	bool ended;

	pthread_mutex_lock(&e->lock);
	ended = e->reason != VM_EXIT_NONE;
	if (ended) {
		ret->reason = e->reason;
		memcpy(ret->detail, e->detail, sizeof(ret->detail));
	}
	pthread_mutex_unlock(&e->lock);
	return ended;
}

/* The first of n codes which is not 0. */
static bool take_code(
	int *codes, unsigned n, enum msg_event_kind kind, struct msg_event *ret)
{
	for (unsigned i = 0; i < n; i++) {
		if (codes[i] == 0)
			continue;
		ret->kind = kind;
		ret->index = i;
		ret->value = codes[i];
		codes[i] = 0;
		return true;
	}
	return false;
}

/* With the lock held. */
static bool take(struct vm_events *e, struct msg_event *ret)
{
	if (e->needs_reset) {
		unsigned device = (unsigned)__builtin_ctz(e->needs_reset);

		e->needs_reset &= ~(1u << device);
		ret->kind = MSG_EVENT_NEEDS_RESET;
		ret->index = device;
		ret->value = 0;
		return true;
	}
	return take_code(
		       e->blk_error, VM_MAX_DRIVES, MSG_EVENT_BLK_ERROR, ret) ||
	       take_code(e->net_error, VM_MAX_NETS, MSG_EVENT_NET_ERROR, ret);
}

void vm_events_forget_errors(struct vm_events *e)
{
	pthread_mutex_lock(&e->lock);
	e->needs_reset = 0;
	memset(e->blk_error, 0, sizeof(e->blk_error));
	memset(e->net_error, 0, sizeof(e->net_error));
	pthread_mutex_unlock(&e->lock);
}

bool vm_events_next(struct vm_events *e, uint64_t now_ns, struct msg_event *ret)
{
	uint32_t suppressed;
	bool got;

	pthread_mutex_lock(&e->lock);
	/* Somebody waits for this one: no storm of others keeps it back. */
	if (e->ready && !e->ready_told) {
		e->ready_told = true;
		*ret = (struct msg_event){
			.hdr = ret->hdr, .kind = MSG_EVENT_GUEST_READY};
		pthread_mutex_unlock(&e->lock);
		return true;
	}
	do
		got = take(e, ret);
	while (got && !log_limit_ok(&e->limit, now_ns, &suppressed));
	pthread_mutex_unlock(&e->lock);
	return got;
}
