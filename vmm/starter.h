#pragma once

/*
 * A thread for one start: it takes MSG_START from the daemon and makes the
 * devices and their I/O workers, as its process is still allowed to. So the
 * control thread can have its filter, which lets nothing of that be made, long
 * before: a start does not wait while the kernel translates it. This thread is
 * gone before anything is looked at that a guest made.
 */

#include "vmm/vm.h"

#include <pthread.h>

struct starter {
	struct vm *vm;
	int sock; /* the daemon's, borrowed */
	pthread_t thread;
	/* What came of it, once starter_wait() has returned: */
	union msg *msg; /* borrowed */
	int *fds;       /* MSG_MAX_FDS, borrowed; the descriptors are not */
	bool asked;     /* MSG_START came */
	int result;     /* vm_create()'s */
	struct error err;
};

/* The VM is prepared. Until starter_wait() sock, msg and fds are the thread's.
 */
int starter_begin(struct starter *s, struct vm *vm, int sock, union msg *msg,
	int *fds, struct error *err);
/* Returns when the thread is no more. */
void starter_wait(struct starter *s);
