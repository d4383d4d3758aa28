#pragma once

/*
 * A VMM on a thread of its own, with the fake KVM, and its daemon: whoever
 * writes the test. Both have the same table of descriptors; who closes what is
 * said below.
 */

#include "tests/unit/vm_start.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#define VMM_PREPARE_SEQ 8u
#define VMM_START_SEQ 9u

struct vmm_thread {
	struct vm vm;
	struct vm_start s; /* to be changed before it is sent */
	int sock[2];       /* the daemon's end, the VMM's */
	int wake_fd;       /* of the daemon that adopted it; -1: none did */
	int status;        /* what control_run() returned */
	pthread_t thread;
	struct sockaddr_un address; /* where it waits for another daemon */
	socklen_t address_len;
};

void vmm_thread_make(struct vmm_thread *t, unsigned n_drives);
/* Another daemon may come: a listening socket goes with MSG_PREPARE. */
void vmm_thread_listen(struct vmm_thread *t);
void vmm_thread_free(struct vmm_thread *t);

/* The thread begins; nothing is sent. */
void vmm_thread_run(struct vmm_thread *t);
/* Sends a message and expects nothing. */
void vmm_thread_send_prepare(struct vmm_thread *t);
void vmm_thread_send_start(struct vmm_thread *t);
void vmm_thread_send_plain(struct vmm_thread *t, uint32_t type, uint32_t seq);
/* The thread, and its answer to MSG_PREPARE. */
void vmm_thread_prepare(struct vmm_thread *t);
/* ... and to MSG_START: the guest runs. */
void vmm_thread_start(struct vmm_thread *t);

/* The next message from the VMM; 0 at its end. */
int vmm_thread_receive(struct vmm_thread *t, union msg *ret);
/* The next one is MSG_DONE of that seq: its code. */
int vmm_thread_done(struct vmm_thread *t, uint32_t seq);
/* There is none. */
bool vmm_thread_is_silent(struct vmm_thread *t);

/* The VMM closes its end of what the daemon left, or has closed it; returns
 * when it has. */
void vmm_thread_wait_lost(struct vmm_thread *t);
/* The daemon goes. */
void vmm_thread_lose(struct vmm_thread *t);
/* Another daemon's end of a connection; from now on sock[0] is that. */
int vmm_thread_connect(struct vmm_thread *t);
/* Another daemon, with a wake_fd, and MSG_ADOPT answered. */
void vmm_thread_adopt(struct vmm_thread *t);

/* The thread ends by itself; its status. */
int vmm_thread_join(struct vmm_thread *t);
