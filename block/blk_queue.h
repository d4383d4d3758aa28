#pragma once

/*
 * Inside virtio-blk: blk.c is the device (what it offers, its life, its changes
 * while it runs), blk_queue.c the way of its requests, which is the worker's
 * alone.
 */

#include "base/log.h"
#include "block/blk.h"
#include "block/blk_req.h"
#include "block/raw.h"

#include <linux/virtio_blk.h>
#include <pthread.h>

struct blk;

struct blk_req {
	struct raw_io io;
	struct blk_queue *queue;
	bool active;
	unsigned range;    /* the one that is under way */
	uint64_t taken_ns; /* from its ring */
	struct blk_req *next_free;
	struct blk_cmd cmd;
	struct blk_range ranges[BLK_RANGES_MAX];
	struct virtq_chain chain;
};

struct blk_queue {
	struct blk *blk;
	struct virtq *vq;
	struct worker_op kick;
	struct worker_op settle; /* deferred: after a batch */
	bool serve_again;        /* its ring was left before it was empty */
};

struct blk {
	struct virtio_dev dev;
	struct virtio_blk_config space;
	struct blk_config config;
	struct worker *worker;

	/* The control thread's: files of before, until they are closed. */
	struct blk_retired *retired;

	/* The worker's. */
	struct raw *raw; /* where requests go */
	struct blk_rules rules;
	bool running;
	bool write_through;
	unsigned in_flight;
	struct blk_queue *queues;

	/* Of all queues. What nobody needed stays untouched memory. */
	struct blk_req *reqs, *free;
	unsigned n_used, n_reqs;
	bool starved; /* some queue waits for a free one */

	/* The limiter refused this one: it waits, and everybody behind it. */
	struct rate_limiter limiter;
	struct blk_req *held;
	struct worker_op refill;
	bool retry; /* although refill is cancelled */

	struct log_limit error_limit;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool idle; /* not running, nothing in flight, nothing deferred */
};

/* All of these on the worker's thread. */
void blk_queue_init(struct blk_queue *q, struct blk *b, struct virtq *vq);
void blk_queues_start(struct blk *b);
/* Asks for an early end of what is out; then, soon, b->idle. */
void blk_queues_stop(struct blk *b);
/* The limiter has changed: what it made wait tries again. */
void blk_queues_unlimit(struct blk *b);
/* b->refill's. */
void blk_refilled(struct worker_op *op, int32_t res);
