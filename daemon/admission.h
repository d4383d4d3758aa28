#pragma once

/*
 * Whether this host has room for one more VM: asked before anything of it is
 * made, so that a burst is refused at the door and not half way. Memory is
 * overcommitted on purpose by those who run fleets: a VM counts with what its
 * start takes at once, not with what its guest might touch one day.
 *
 * What is left is looked up at most ten times a second; in between, what was
 * let in is taken off. So this is an estimate: what fails all the same for want
 * of room becomes the same error by admission_failed().
 */

#include "base/error.h"
#include "base/log.h"
#include "vmm/config.h"

#include <stdbool.h>
#include <stdint.h>

enum room { ROOM_FDS, ROOM_TASKS, ROOM_MEMORY, ROOMS };

struct admission {
	const char *proc, *cgroup; /* "/proc", "/sys/fs/cgroup" */
	uint64_t (*clock)(void);   /* clock_ns() */
	uint64_t memory_reserve_bytes;
	uint64_t looked_ns;   /* 0: never */
	uint64_t left[ROOMS]; /* bytes for memory */
	bool own_cgroup_full; /* no process of ours can be made */
	struct log_limit limit;
};

/* reserve: memory that must stay available to others. */
void admission_init(struct admission *a, uint64_t memory_reserve_bytes);
/* A sixteenth of the host's, at most 512 MiB. */
uint64_t admission_default_reserve(uint64_t mem_total_bytes);

enum admission_for {
	ADMISSION_FILES,   /* it is only configured: its files are opened */
	ADMISSION_START,   /* a process is made for it */
	ADMISSION_PREPARED /* it starts, and a process waits for it */
};

/* Takes room for a VM, or fails with EAGAIN: the API's word for "try again
 * later". */
int admission_take(struct admission *a, const struct vm_config *c,
	enum admission_for what, struct error *err);

/* Whether there is so much room that processes may be made ahead of starts. */
bool admission_has_spare(struct admission *a);
/* One is made ahead: takes its room. */
void admission_take_spare(struct admission *a);

/* For the host's failures while a VM is made: where room was missing, err's
 * code becomes EAGAIN; else EIO, since nothing of it is the request's doing.
 * Returns -err->code. */
int admission_failed(struct error *err);
/* Whether this errno tells of missing room. */
bool admission_is_room(int code);
/* ... of descriptors or memory of the daemon's own, so that nothing can be said
 * of what was looked for. */
bool admission_is_shortage(const struct error *err);
bool admission_is_shortage_of(int r); /* the same of a negative errno */
