#pragma once

/*
 * One mayfly-vmm, from its making to its end: the jailed process, its directory
 * in the state directory, and the memory it shares with the daemon.
 */

#include "daemon/state.h"
#include "jailer/jail.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <sys/mman.h>

#define PROCESS_SHARED_BYTES (sizeof(struct vm_shared) + VM_CONSOLE_BYTES)

/* What processes are made with; borrowed. */
struct process_env {
	struct state *state;
	struct jail *jail;
	int kvm_fd;
};

struct process {
	struct jail_process jail;  /* pid 0: none */
	char key[STATE_KEY_BYTES]; /* "": it has no directory */
	struct vm_shared *shared;  /* NULL: not mapped */
	int wake_fd;               /* of shared->wake; -1: none */
	/* Found: it listens, but has not taken any connection for long. */
	bool deaf;
};

void process_init(struct process *p); /* none */

/*
 * Makes one and sends it MSG_PREPARE, which answers with MSG_DONE, or
 * MSG_FAILED, of sequence number 0. *m: its descriptors and sizes are filled in
 * here, so that two are equal if their machines are.
 */
int process_make(struct process *ret, const struct process_env *env,
	const struct msg_prepare *m, struct error *err);

/* Kills it if need be, and removes all traces of it. Returns its wait status,
 * -1 if nobody knows. None is fine. */
int process_destroy(struct process *p, const struct process_env *env);

/*
 * Finds the one of a daemon that is gone: p->key is set, p->jail will be; pid 0
 * if it has ended, or its number is another's now, and then nothing it had is
 * taken for its own; sock -1 if it does not listen, or is deaf. *ret: what was
 * written down; where that is damaged, what else tells who it is, and protocol
 * 0. 1; 0: nothing tells; or a negative errno: it cannot be told at the moment.
 */
int process_find(struct process *p, const struct process_env *env,
	struct state_proc *ret);

/* Maps the shared memory of a directory: 0, or a negative errno; *ret is NULL
 * then, as with -EINVAL for what is not of this version or size. */
int process_map(const struct state *s, const char *key, struct vm_shared **ret);
static inline void process_unmap(struct vm_shared *shared)
{
	if (shared)
		munmap(shared, PROCESS_SHARED_BYTES);
}

/* When a process began: field 22 of /proc/PID/stat; 0: errno says why it cannot
 * be told, ENOENT or ESRCH that there is none. */
uint64_t process_start_time(pid_t pid);
