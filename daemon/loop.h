#pragma once

/*
 * The daemon's event loop: one epoll, one thread. Sources and timers are
 * embedded in what they belong to.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* A descriptor that is watched. ready() may remove this or any other source. */
struct loop_source {
	int fd; /* borrowed; -1: not watched */
	void (*ready)(struct loop_source *s, uint32_t events);
};

struct loop_timer {
	void (*fire)(struct loop_timer *t);
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	size_t at;            /* place in the heap, from 1; 0: not set */
};

int loop_create(struct loop **ret, struct error *err);
void loop_destroy(struct loop *l); /* NULL is fine */

/* events: of epoll. 0 or a negative errno. */
int loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events);
/* Idempotent. After it, ready() is not called, not even for an event that has
 * been fetched already. Comes before the descriptor is closed. */
void loop_remove(struct loop *l, struct loop_source *s);

/* Sets or moves a timer; 0 or -ENOMEM. It fires once. */
int loop_set_timer(struct loop *l, struct loop_timer *t, uint64_t deadline_ns);
void loop_clear_timer(struct loop *l, struct loop_timer *t); /* idempotent */

/*
 * Runs until loop_stop(). prepare(): called before each wait; does what is due
 * and returns the most ms to wait, -1 for no limit.
 */
void loop_run(struct loop *l, int (*prepare)(void *arg), void *arg);
void loop_stop(struct loop *l);

/* What is done while nothing else is to be done: work() once for each time that
 * in_ms() said 0 and no event had come. More than 0: it asks again by then; -1:
 * there is nothing. */
void loop_set_idle(struct loop *l, int (*in_ms)(void *arg),
	void (*work)(void *arg), void *arg);
