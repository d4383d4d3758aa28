#pragma once

/*
 * What VMs might leave behind, counted: before the first of them and after the
 * last one of it is gone. Host-wide where the kernel does not say whose it is.
 * What waits in the daemon's pool, and what that has, does not count.
 */

#include <stdbool.h>
#include <sys/types.h>

struct leftovers_daemon {
	pid_t pid;
	unsigned uid_first, uid_count; /* that only its VMs have */
};

enum leftover {
	LEFT_FDS,       /* of the daemon */
	LEFT_PROCESSES, /* its children */
	LEFT_CGROUPS,   /* below the daemon's own */
	LEFT_UIDS,      /* locked */
	LEFT_MOUNTS,
	LEFT_LINKS, /* network interfaces */
	LEFTOVERS
};

struct leftovers {
	unsigned n[LEFTOVERS];
	unsigned waiting; /* in the pool, not counted in n */
};

const char *leftover_name(enum leftover what);

void leftovers_count(const struct leftovers_daemon *d, struct leftovers *ret);

/* Counts until nothing is above `before` or the time is up: whether nothing
 * is. */
bool leftovers_settle(const struct leftovers_daemon *d,
	const struct leftovers *before, unsigned timeout_ms,
	struct leftovers *ret);
