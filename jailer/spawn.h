#pragma once

/*
 * One process, from clone3() to its exec: everything between runs in the child,
 * on its own small stack but in our memory (CLONE_VM | CLONE_VFORK), while the
 * calling thread waits, some 0.1 ms. No page table is copied, so neither the
 * size of the daemon nor its sanitizers count, and what fails in the child is
 * simply left where the parent reads it.
 */

#include "base/error.h"
#include "jailer/cgroup.h"
#include "jailer/empty_ns.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* All of it borrowed. */
struct spawn {
	/* O_PATH; of the process's two descriptors only sock survives, as
	 * JAIL_CONTROL_FD. keep_fd: the larger of both; what is open above it
	 * is not even copied. */
	int exe_fd, sock, keep_fd;
	struct empty_ns ns;
	struct cgroup_entry cgroup;
	uid_t uid; /* and gid */
	unsigned n_tasks, n_fds;
	bool reset_oom_score; /* the daemon's is lower than a VM's must be */
	void *stack;
	size_t stack_bytes;
};

/* On failure there is no process. */
int spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd,
	struct error *err);
