#pragma once

/*
 * One control group per VM, below a parent all VMs share, with a limit on its
 * memory and on its number of tasks. Where the host has the memory or pids
 * controller in cgroup v2, that is used; else whichever of the two it has
 * mounted in v1; else none.
 */

#include "base/error.h"
#include "jailer/jail.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_V1_MAX 2 /* memory, pids */

struct cgroup_tree {
	enum jail_cgroup version;
	bool memory, pids; /* the limits that can be set */
	unsigned n;        /* hierarchies: 1 with v2 */
	/* of the parent group in each: */
	int parent_fd[CGROUP_V1_MAX];
	char parent[CGROUP_V1_MAX][256];
	bool has_memory[CGROUP_V1_MAX], has_pids[CGROUP_V1_MAX];
	int fast_fd; /* see favor_migration() */
};

/*
 * mountinfo_path: /proc/self/mountinfo. Makes the parent group, which nobody
 * else may be using: where it is there already, empty groups in it are removed.
 * Succeeds with JAIL_CGROUP_NONE, and says why in `why`, when the host has
 * nothing usable.
 */
void cgroup_tree_open(struct cgroup_tree *ret, const char *mountinfo_path,
	const char *name, struct error *why);
void cgroup_tree_close(struct cgroup_tree *t); /* removes an empty parent */

struct cgroup_limits {
	uint64_t memory_bytes;
	unsigned tasks;
};

/* How a new process gets into its group: either by CLONE_INTO_CGROUP, or by
 * writing "0" to each of these descriptors itself. */
struct cgroup_entry {
	int into_fd; /* v2, or -1 */
	unsigned n_procs;
	int procs_fd[CGROUP_V1_MAX];
};

/* Makes the group of one VM; an empty one of that name is taken away first.
 * The caller closes the entry when its process is in. */
int cgroup_make(struct cgroup_tree *t, const char *name,
	const struct cgroup_limits *limits, struct cgroup_entry *ret,
	struct error *err);
void cgroup_entry_close(struct cgroup_entry *e);

/* How many of the group's processes the kernel has killed because memory had
 * run out, the group's or the host's. */
uint64_t cgroup_oom_kills(const struct cgroup_tree *t, const char *name);
/* Another limit for the memory of a group; where there is none, nothing. */
int cgroup_limit_memory(const struct cgroup_tree *t, const char *name,
	uint64_t memory_bytes, struct error *err);

/* Kills what is left in the group and removes it: 0, or -EBUSY if it would not
 * go. */
int cgroup_remove(const struct cgroup_tree *t, const char *name);
