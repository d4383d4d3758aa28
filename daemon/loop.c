#include "daemon/loop.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <sys/epoll.h>

#define BATCH 64

struct loop {
	int epoll;
	bool stopped;

	/* What is being handled: a removed source is struck out here. */
	struct epoll_event events[BATCH];
	int n_events, next_event;

	int (*idle_in_ms)(void *arg); /* NULL: nothing */
	void (*idle_work)(void *arg);
	void *idle_arg;

	/* A binary heap by deadline; heap[0] is not used. */
	struct loop_timer **heap;
	size_t n_timers, cap_timers;
};

int loop_create(struct loop **ret, struct error *err)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return error_set(err, ENOMEM, "out of memory");
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		error_errno(err, errno, "epoll_create1");
		free(l);
		return -err->code;
	}
	*ret = l;
	return 0;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	close(l->epoll);
	free(l->heap);
	free(l);
}

int loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	s->fd = fd;
	return 0;
}

void loop_remove(struct loop *l, struct loop_source *s)
{
	if (s->fd < 0)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
	for (int i = l->next_event; i < l->n_events; i++)
		if (l->events[i].data.ptr == s)
			l->events[i].data.ptr = NULL;
}

static void heap_put(struct loop *l, size_t at, struct loop_timer *t)
{
	l->heap[at] = t;
	t->at = at;
}

static void heap_up(struct loop *l, struct loop_timer *t)
{
	size_t at = t->at;

	for (; at > 1 && l->heap[at / 2]->deadline_ns > t->deadline_ns; at /= 2)
		heap_put(l, at, l->heap[at / 2]);
	heap_put(l, at, t);
}

static void heap_down(struct loop *l, struct loop_timer *t)
{
	size_t at = t->at;

	for (;;) {
		size_t child = at * 2;

		if (child > l->n_timers)
			break;
		if (child < l->n_timers && l->heap[child + 1]->deadline_ns <
						   l->heap[child]->deadline_ns)
			child++;
		if (l->heap[child]->deadline_ns >= t->deadline_ns)
			break;
		heap_put(l, at, l->heap[child]);
		at = child;
	}
	heap_put(l, at, t);
}

int loop_set_timer(struct loop *l, struct loop_timer *t, uint64_t deadline_ns)
{
	if (!t->at && l->n_timers + 1 >= l->cap_timers) {
		size_t cap = l->cap_timers ? 2 * l->cap_timers : 64;
		struct loop_timer **more =
			reallocarray(l->heap, cap, sizeof(struct loop_timer *));

		if (!more)
			return -ENOMEM;
		l->heap = more;
		l->cap_timers = cap;
	}
	t->deadline_ns = deadline_ns;
	if (!t->at)
		heap_put(l, ++l->n_timers, t);
	heap_up(l, t);
	heap_down(l, t);
	return 0;
}

void loop_clear_timer(struct loop *l, struct loop_timer *t)
{
	struct loop_timer *last;

	if (!t->at)
		return;
	last = l->heap[l->n_timers--];
	if (last != t) {
		heap_put(l, t->at, last);
		heap_up(l, last);
		heap_down(l, last);
	}
	t->at = 0;
}

static void fire_timers(struct loop *l)
{
	uint64_t now;

	if (l->n_timers == 0)
		return;
	now = clock_ns();
	while (l->n_timers > 0 && l->heap[1]->deadline_ns <= now) {
		struct loop_timer *t = l->heap[1];

		loop_clear_timer(l, t);
		t->fire(t);
	}
}

/* The lesser of the limit and what the first timer leaves, rounded up. */
static int wait_ms(const struct loop *l, int limit)
{
	uint64_t now, ms;

	if (l->n_timers == 0)
		return limit;
	now = clock_ns();
	if (l->heap[1]->deadline_ns <= now)
		return 0;
	ms = (l->heap[1]->deadline_ns - now + 999999) / 1000000;
	if (ms > 60000)
		ms = 60000;
	return limit >= 0 && (uint64_t)limit < ms ? limit : (int)ms;
}

void loop_run(struct loop *l, int (*prepare)(void *arg), void *arg)
{
	l->stopped = false;
	for (;;) {
		int limit = prepare(arg);
		int idle_ms;

		if (l->stopped)
			break;
		limit = wait_ms(l, limit);
		idle_ms = limit != 0 && l->idle_in_ms
				  ? l->idle_in_ms(l->idle_arg)
				  : -1;
		if (idle_ms >= 0 && (limit < 0 || idle_ms < limit))
			limit = idle_ms;
		l->n_events = epoll_wait(l->epoll, l->events, BATCH, limit);
		if (idle_ms == 0 && l->n_events == 0)
			l->idle_work(l->idle_arg);
		for (l->next_event = 0; l->next_event < l->n_events;) {
			struct epoll_event *ev = &l->events[l->next_event++];
			struct loop_source *s = ev->data.ptr;

			if (s)
				s->ready(s, ev->events);
		}
		l->n_events = 0;
		fire_timers(l);
	}
}

void loop_set_idle(struct loop *l, int (*in_ms)(void *arg),
	void (*work)(void *arg), void *arg)
{
	l->idle_in_ms = in_ms;
	l->idle_work = work;
	l->idle_arg = arg;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}
