#pragma once

/*
 * The uids (and gids, the same numbers) VMs run under: each is held by one VM
 * of the host at a time. Daemons may share a range: an id in use is also a
 * locked byte, at that offset, of a file common to all of them, and the kernel
 * drops the locks of a daemon that dies. Any thread.
 */

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct ids;

/* lock_path: made if it is not there. Fails with EINVAL for a range that is
 * empty, holds 0 (root), or runs over the largest id. */
int ids_create(struct ids **ret, const char *lock_path, uid_t first,
	unsigned count, struct error *err);
void ids_destroy(struct ids *ids); /* NULL is fine */

/* The next free id, going round: a freed one is used again as late as
 * possible. ENOSPC when all are in use. */
int ids_take(struct ids *ids, uid_t *ret, struct error *err);
/* One that a VM has which another daemon made. False: it is not in the range.
 */
bool ids_adopt(struct ids *ids, uid_t uid);
void ids_give(struct ids *ids, uid_t uid);
