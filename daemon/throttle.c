#include "daemon/throttle.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

/* What was last seen of one limiter. */
struct seen {
	uint64_t count;
	uint64_t held_ns; /* when that last went up; 0: it did not */
};

struct throttle_seen {
	struct seen drives[VM_MAX_DRIVES], pmem[VM_MAX_PMEM];
	struct seen rx[VM_MAX_NETS], tx[VM_MAX_NETS];
	struct seen entropy, serial;
};

/* Once through the limiters of a VM. */
struct look {
	const struct vm *vm;
	bool first; /* what is counted by now is history */
	uint64_t now_ns;
};

static bool limits(const struct vm_rate_limiter *l)
{
	return (l->bandwidth.size && l->bandwidth.refill_time_ms) ||
	       (l->ops.size && l->ops.refill_time_ms);
}

static void publish(const struct vm *vm, const char *kind, const char *id,
	const char *direction)
{
	char device[VM_ID_MAX + 32];

	snprintf(device, sizeof(device), "%s%s%s", kind, id ? "/" : "",
		id ? id : "");
	vm_publish_throttled(vm, device, direction);
}

/* A VM that was taken over may count as it likes: it gets its events no more
 * often. */
static void look_at(const struct look *l, const uint64_t *counter,
	struct seen *seen, const char *kind, const char *id,
	const char *direction)
{
	uint64_t n = __atomic_load_n(counter, __ATOMIC_RELAXED);
	bool held = !l->first && n > seen->count;
	bool quiet = !seen->held_ns ||
		     l->now_ns - seen->held_ns >= THROTTLE_QUIET_NS;

	seen->count = n;
	if (!held)
		return;
	seen->held_ns = l->now_ns;
	if (quiet)
		publish(l->vm, kind, id, direction);
}

static void look_at_all(const struct look *l, const struct vm_shared *s,
	struct throttle_seen *seen)
{
	const struct vm_config *c = &l->vm->config;

	for (unsigned i = 0; i < c->n_drives; i++)
		if (limits(&c->drives[i].rate_limiter))
			look_at(l, &s->blk[i].throttled, &seen->drives[i],
				"drives", c->drives[i].drive_id, NULL);
	for (unsigned i = 0; i < c->n_nets; i++) {
		if (limits(&c->nets[i].rx_rate_limiter))
			look_at(l, &s->net[i].rx_throttled, &seen->rx[i],
				"network-interfaces", c->nets[i].iface_id,
				"receive");
		if (limits(&c->nets[i].tx_rate_limiter))
			look_at(l, &s->net[i].tx_throttled, &seen->tx[i],
				"network-interfaces", c->nets[i].iface_id,
				"transmit");
	}
	for (unsigned i = 0; i < c->n_pmem; i++)
		if (limits(&c->pmem[i].rate_limiter))
			look_at(l, &s->pmem[i].throttled, &seen->pmem[i],
				"pmem", c->pmem[i].id, NULL);
	if (limits(&c->entropy.rate_limiter))
		look_at(l, &s->rng.throttled, &seen->entropy, "entropy", NULL,
			NULL);
	if (limits(&c->serial.rate_limiter))
		look_at(l, &s->console_limited, &seen->serial, "serial", NULL,
			NULL);
}

static bool is_limited(const struct vm_config *c)
{
	bool any = limits(&c->serial.rate_limiter) ||
		   limits(&c->entropy.rate_limiter);

	for (unsigned i = 0; i < c->n_drives; i++)
		any |= limits(&c->drives[i].rate_limiter);
	for (unsigned i = 0; i < c->n_nets; i++)
		any |= limits(&c->nets[i].rx_rate_limiter) ||
		       limits(&c->nets[i].tx_rate_limiter);
	for (unsigned i = 0; i < c->n_pmem; i++)
		any |= limits(&c->pmem[i].rate_limiter);
	return any;
}

void throttle_look(struct vm *vm, uint64_t since_ns, uint64_t now_ns)
{
	const struct vm_shared *s = output_shared(vm->output);
	struct look l = {.vm = vm, .now_ns = now_ns};

	if (!s || vm->state == VM_STARTING || !is_limited(&vm->config))
		return;
	if (!vm->throttle_seen) {
		vm->throttle_seen = calloc(1, sizeof(*vm->throttle_seen));
		if (!vm->throttle_seen)
			return;
	}
	/* The first look at it since somebody follows. */
	if (vm->throttle_since_ns != since_ns) {
		vm->throttle_since_ns = since_ns;
		*vm->throttle_seen = (struct throttle_seen){0};
		l.first = vm->received_ns < since_ns;
	}
	look_at_all(&l, s, vm->throttle_seen);
}

static void look_again_later(struct throttle_watch *w, uint64_t now_ns)
{
	if (loop_set_timer(w->loop, &w->timer, now_ns + THROTTLE_LOOK_NS) < 0)
		w->since_ns = 0;
}

static void on_timer(struct loop_timer *t)
{
	struct throttle_watch *w =
		(struct throttle_watch *)((char *)t -
					  offsetof(struct throttle_watch,
						  timer));
	uint64_t now_ns = clock_ns();
	struct vm *vm;

	if (!events_are_followed(w->events)) {
		w->since_ns = 0;
		return;
	}
	TAILQ_FOREACH(vm, &w->vms->list, link)
	throttle_look(vm, w->since_ns, now_ns);
	look_again_later(w, now_ns);
}

void throttle_watch_init(struct throttle_watch *w, struct loop *loop,
	const struct registry *vms, struct events *events)
{
	*w = (struct throttle_watch){
		.loop = loop, .vms = vms, .events = events};
	w->timer.fire = on_timer;
}

void throttle_watch_fini(struct throttle_watch *w)
{
	loop_clear_timer(w->loop, &w->timer);
}

void throttle_watch_start(struct throttle_watch *w)
{
	struct vm *vm;

	if (w->since_ns)
		return;
	w->since_ns = clock_ns();
	/* What was before is nobody's news. */
	TAILQ_FOREACH(vm, &w->vms->list, link)
	throttle_look(vm, w->since_ns, w->since_ns);
	look_again_later(w, w->since_ns);
}
