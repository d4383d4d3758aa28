#pragma once

/*
 * The jail every mayfly-vmm lives in; there is no way to run one without.
 *
 * struct jail is what all jails of a daemon share, made once: the executable,
 * an empty network namespace, the compiled seccomp programs, the range of ids,
 * the parent cgroup. jail_spawn() makes one process in it:
 *
 *   new mount, pid, ipc, uts namespaces; the shared empty network namespace;
 *   an empty read-only root; a uid and gid no other VM has; no capabilities in
 *   any set; no_new_privs; rlimits; a cgroup of its own; no descriptor but its
 *   control socket (JAIL_CONTROL_FD). The seccomp programs it installs itself,
 *   thread by thread, before it looks at anything a guest made.
 *
 * jail_spawn() is called on one thread, all else on one, perhaps another.
 * Errors are of the control path.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define JAIL_CONTROL_FD 3 /* 0, 1 and 2 are not open in the jail */

/* Blanks in its second argument, for a name it gives itself later. */
#define JAIL_TITLE_BYTES 64

struct jail;

enum jail_cgroup { JAIL_CGROUP_NONE, JAIL_CGROUP_V1, JAIL_CGROUP_V2 };

struct jail_config {
	const char *exe_path;    /* mayfly-vmm, static-pie */
	uid_t uid_first;         /* gids are the same numbers */
	unsigned uid_count;      /* the most VMs at a time */
	const char *cgroup_name; /* the parent, nobody else's: "mayfly" */
};

/* Needs root. A host without usable cgroups gets JAIL_CGROUP_NONE and a logged
 * warning; anything else missing is an error which says what to do. */
int jail_create(
	struct jail **ret, const struct jail_config *config, struct error *err);
void jail_destroy(struct jail *j); /* removes the parent cgroup if empty */

enum jail_cgroup jail_cgroup_version(const struct jail *j);

/* The sealed memfd holding a struct seccomp_image; borrowed, to be passed. */
int jail_seccomp_fd(const struct jail *j);

struct jail_process {
	pid_t pid; /* as the daemon sees it */
	int pidfd; /* readable once it has died */
	int sock;  /* our end of the control SOCK_SEQPACKET, non-blocking */
	uid_t uid;
	char name[80]; /* of its cgroup */
	bool adopted;  /* not our child: another daemon made it */
};

/*
 * name: a file name; its cgroup's is "NAME-UID". mem_bytes: of the guest; the
 * cgroup's limits leave room for the VMM around it. n_threads: the most it will
 * have. It ends with whoever made it only if it wants to.
 */
int jail_spawn(struct jail *j, const char *name, uint64_t mem_bytes,
	unsigned n_threads, struct jail_process *ret, struct error *err);

/* Before it is reaped: whether it was the kernel that killed it, because memory
 * had run out, the host's or the cgroup's. */
bool jail_oom_killed(const struct jail *j, const struct jail_process *p);

/* Other limits for a process that runs. */
int jail_limit(struct jail *j, const struct jail_process *p, uint64_t mem_bytes,
	struct error *err);

/*
 * The process of a daemon that is gone: *p has pid, uid and name as that daemon
 * knew them, and gets a pidfd. The caller has made sure that it is still this
 * process. -ESRCH: it has ended, and nothing is its own any more. pid 0: what
 * is left of it is taken, and goes with jail_reap().
 */
int jail_adopt(struct jail *j, struct jail_process *p, struct error *err);

/*
 * After the pidfd became readable: reaps, returns the wait status (as waitpid;
 * -1: nobody knows that of an adopted one), removes the cgroup, gives the uid
 * back, closes both descriptors. A process still running is killed first.
 * Without one there is only the rest to do.
 */
int jail_reap(struct jail *j, struct jail_process *p);
