#pragma once

/*
 * VMMs made ahead: jailed processes that have a machine (memory, KVM's VM,
 * vCPUs) and wait for what it shall run. A start takes one whose machine is the
 * one it needs, and the pool makes others when the daemon has nothing else to
 * do.
 *
 * The pool keeps the few kinds of machine that were asked for last. How many
 * of a kind wait is either fixed or follows how many were taken in the busiest
 * of the last seconds.
 */

#include "api/backend.h"
#include "daemon/loop.h"
#include "daemon/process.h"

#define POOL_ADAPTIVE UINT32_MAX
#define POOL_MAX 4096 /* of a fixed size */

struct pool;

/* size: how many of the kind taken last; 0: none; or POOL_ADAPTIVE. env and
 * loop: borrowed. first: the kind to begin with. */
int pool_create(struct pool **ret, struct loop *loop,
	const struct process_env *env, unsigned size,
	const struct msg_prepare *first, struct error *err);
/* Ends all that wait. NULL is fine. */
void pool_destroy(struct pool *p);

/*
 * One that is, or will be in a moment, prepared as *m says. False: there is
 * none. *ret is not watched by anybody.
 */
bool pool_take(
	struct pool *p, const struct msg_prepare *m, struct process *ret);

/* Whether it would make one now; and makes it, which takes a millisecond. For
 * when there is nothing else to do. */
bool pool_wants(struct pool *p);
void pool_refill(struct pool *p);

/* Of all kinds; borrowed until the next call. */
const struct api_pool *pool_show(struct pool *p);
