#pragma once

/*
 * VMMs made ahead: jailed processes that have a machine (memory, KVM's VM,
 * vCPUs) and wait for what it shall run. A start takes one whose machine is the
 * one it needs; if there is none it waits for the next, which is made for it
 * (maker.h). What has been taken is made again when nothing else is to be done.
 *
 * The pool keeps the few kinds of machine that were asked for last. How many
 * of a kind wait is either fixed or follows how many were taken in the busiest
 * of the last seconds. They never are what keeps a VM from starting: they give
 * way when the host, or the range of user ids, has no room.
 */

#include "api/backend.h"
#include "daemon/loop.h"
#include "daemon/process.h"

#include <sys/queue.h>

#define POOL_ADAPTIVE UINT32_MAX
#define POOL_MAX 4096 /* of a fixed size */

struct pool;

/* Who waits for a process. Embedded in its owner. */
struct pool_wait {
	TAILQ_ENTRY(pool_wait) link;
	struct pool_kind *kind; /* NULL: does not wait */
	unsigned tries;
	/* p: the owner's from now on, watched by nobody; NULL: for this reason
	 * there is none. Not called before pool_take() has returned. */
	void (*got)(struct pool_wait *w, const struct process *p,
		const struct error *err);
};

/* size: how many of the kind taken last; 0: none; or POOL_ADAPTIVE. env and
 * loop: borrowed. first: the kind to begin with. */
int pool_create(struct pool **ret, struct loop *loop,
	const struct process_env *env, unsigned size,
	const struct msg_prepare *first, struct error *err);
/* Ends all that wait; nobody waits for them. NULL is fine. */
void pool_destroy(struct pool *p);

/*
 * One that is, or will be in a moment, prepared as *m says: 1 and *ret, or 0
 * and w->got() later. -ENOMEM.
 */
int pool_take(struct pool *p, const struct msg_prepare *m, struct pool_wait *w,
	struct process *ret);
void pool_cancel(struct pool_wait *w); /* idempotent */

/* Whether it has one to make that nobody waits for, and has it made. */
bool pool_wants(struct pool *p);
void pool_refill(struct pool *p);

/* Of all kinds; borrowed until the next call. */
const struct api_pool *pool_show(struct pool *p);
