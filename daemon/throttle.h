#pragma once

/*
 * Tells by an event when a rate limiter begins to hold a device back. The
 * counters are in the memory shared with each VM: they are looked at once a
 * second for as long as somebody follows the events, and only of devices that
 * have a limiter; no VM sends anything.
 *
 * A device is told of once, and again when it has not been held back for
 * THROTTLE_QUIET_NS in between.
 */

#include "daemon/events.h"
#include "daemon/loop.h"
#include "daemon/registry.h"

#define THROTTLE_LOOK_NS 1000000000u
#define THROTTLE_QUIET_NS 10000000000u

struct throttle_watch {
	struct loop *loop;
	const struct registry *vms;
	struct events *events;
	struct loop_timer timer;
	uint64_t since_ns; /* it looks since then; 0: it does not */
};

/* All borrowed. */
void throttle_watch_init(struct throttle_watch *w, struct loop *loop,
	const struct registry *vms, struct events *events);
void throttle_watch_fini(struct throttle_watch *w);

/* Somebody follows the events now. */
void throttle_watch_start(struct throttle_watch *w);

/* One look at a VM's counters: publishes what has begun since the one before.
 * since_ns: what was counted of VMs started before then is history. */
void throttle_look(struct vm *vm, uint64_t since_ns, uint64_t now_ns);
