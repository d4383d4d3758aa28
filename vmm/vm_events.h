#pragma once

/*
 * What a VM's threads have to tell its control thread: that the guest ended,
 * and what is worth a log line. Any thread tells, without waiting for anyone;
 * the control thread hears of it by an eventfd.
 *
 * A guest may cause events as fast as it likes: of each kind and device one is
 * kept until it is taken, and vm_events_next() gives out a few in a second.
 */

#include "base/log.h"
#include "vmm/msg.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vm_events {
	int fd; /* eventfd, borrowed */
	pthread_mutex_t lock;
	enum vm_exit_reason reason; /* VM_EXIT_NONE: the guest lives */
	char detail[sizeof(((struct msg_exiting *)0)->detail)];
	bool ready, ready_told;
	uint32_t needs_reset; /* bit: virtio device */
	int blk_error[VM_MAX_DRIVES];
	int net_error[VM_MAX_NETS];
	struct log_limit limit;
};

void vm_events_init(struct vm_events *e, int fd);

/* The first reason is the one that counts. */
void vm_events_end(
	struct vm_events *e, enum vm_exit_reason reason, const char *detail);
/* The first time counts. */
void vm_events_ready(struct vm_events *e);
void vm_events_needs_reset(struct vm_events *e, unsigned device);
void vm_events_blk_error(struct vm_events *e, unsigned drive, int code);
void vm_events_net_error(struct vm_events *e, unsigned net, int code);

/* Whether the guest has ended; then fills in reason and detail. */
bool vm_events_ended(struct vm_events *e, struct msg_exiting *ret);

/* There is nobody to be told of errors. */
void vm_events_forget_errors(struct vm_events *e);
/* Takes one event, unless there is none or there were too many. */
bool vm_events_next(
	struct vm_events *e, uint64_t now_ns, struct msg_event *ret);
