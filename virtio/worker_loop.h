#pragma once

/*
 * Inside the I/O worker: worker.c is its life (thread, calls, start and stop),
 * worker_files.c its table of files, worker_loop.c one turn of its loop (queue,
 * submit, reap, timers).
 */

#include "virtio/uring.h"
#include "virtio/worker.h"

#include <pthread.h>

struct op_list {
	struct worker_op *first, **last;
};

struct watch {
	struct worker_op *op;
	unsigned file;
	bool armed;
};

struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct call *next;
};

enum worker_state { WORKER_CREATED, WORKER_RUNNING, WORKER_STOPPED };

struct worker {
	struct worker_config config;
	struct io_uring ring;
	bool has_ring;
	int call_fd;
	struct worker_op call_op;

	/* The table, -1: a free place; the spare ones from n_fixed on. */
	int *files;
	unsigned n_fixed, n_spare, spare_hint;
	struct watch *watches;
	unsigned n_watches;

	/* The loop's own. */
	struct op_list waiting;   /* for room in the ring */
	struct op_list ready;     /* to be called with op->res */
	struct worker_op *timers; /* by deadline */
	uint64_t now_ns;          /* in this turn; 0: not asked yet */
	unsigned in_flight, in_flight_max;
	unsigned n_polls; /* of those in flight: they take no room */
	bool stopping;

	/* Only where the kernel needs it; see worker_files.c. */
	bool renews;
	struct worker_op *submitted; /* all that can be restarted */
	struct worker_op renewal;
	uint64_t submits; /* atomic: read by others */

	/* Lock order: direct_lock, lock. */
	pthread_mutex_t direct_lock; /* recursive: calls without a thread */
	pthread_mutex_t lock;        /* what follows */
	pthread_cond_t changed;
	enum worker_state state;
	int start_result; /* 1: not known yet */
	struct error start_error;
	struct call *calls;
	pthread_t thread;
	bool has_thread;
};

/* The worker whose thread this is, if it is one's. */
extern _Thread_local const struct worker *worker_current;

void worker_loop_init(struct worker *w);

/* One turn: submits what is queued, waits, and calls what has come of it. */
void worker_loop_turn(struct worker *w);
/* Whether nothing is queued, in flight or about to be called. */
bool worker_loop_idle(const struct worker *w);

/* Calls what is ready; not what that makes ready. */
void worker_loop_run_ready(struct worker *w);
/* Makes what is not in the kernel's hands ready, cancelled. */
void worker_loop_cancel_timers(struct worker *w);
void worker_loop_cancel_waiting(struct worker *w);

/* Restarts all that may wait for long. */
void worker_loop_renew(struct worker *w);

void worker_files_init(struct worker *w);
/* On its thread, before it runs: the table to be registered, with room for the
 * spare ones: its length, or -ENOMEM. */
int worker_files_complete(struct worker *w);
void worker_files_fini(struct worker *w);
