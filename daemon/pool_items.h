#pragma once

/* The processes of one kind that wait in the pool: watched, and seen off. */

#include "daemon/loop.h"
#include "daemon/process.h"

#include <stdbool.h>
#include <sys/queue.h>

struct pool_item;
TAILQ_HEAD(pool_item_list, pool_item);

/* What all kinds of a pool share; loop and env are borrowed. */
struct pool_ground {
	struct loop *loop;
	const struct process_env *env;
	void (*lost)(struct pool_ground *g); /* one has died, or gone mad */
	struct pool_item_list retired;       /* on their way out */
};

struct pool_items {
	struct pool_ground *ground;
	struct pool_item_list list; /* those that are prepared first */
	unsigned n, n_ready;
};

/* *process is taken over, whatever happens. */
int pool_items_add(
	struct pool_items *items, struct process *process, struct error *err);
/* Until the first is alive: one may have died a moment ago, and the loop not
 * have come to it yet. */
void pool_items_drop_dead(struct pool_items *items);
/* The first; it is watched no longer. False: there is none. */
bool pool_items_take(struct pool_items *items, struct process *ret);
/* The last one goes: what it had is free some milliseconds later. False: there
 * is none. */
bool pool_items_retire(struct pool_items *items);
/* Ends those that are retired, and waits for it. */
void pool_ground_clear(struct pool_ground *g);
