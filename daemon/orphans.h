#pragma once

/*
 * Processes of no VM, which an earlier daemon left: killed, and what they had
 * is removed once they are dead. That may take its time where one hangs in the
 * kernel; nobody waits for it.
 */

#include "daemon/loop.h"
#include "daemon/process.h"

#include <sys/queue.h>

LIST_HEAD(orphan_list, orphan);

struct orphans {
	struct loop *loop; /* borrowed, like env */
	const struct process_env *env;
	struct orphan_list list;
};

/* Ends the one of that directory. 0 or a negative errno: it could not be told
 * whether there is any, and nothing was done. */
int orphans_end(struct orphans *o, const char *key);
/* Those that are not dead yet are left to another daemon. */
void orphans_fini(struct orphans *o);
