#pragma once

/*
 * A virtqueue whose requests the worker answers itself, one after the other:
 * what the small devices have in common. So many chains, and then whoever else
 * has something to do on the worker has his turn; a chain that cannot be
 * answered yet is held, and the ring behind it left alone.
 *
 * No request is ever out, so the queue is at rest as soon as it is stopped.
 * [W]: on the worker's thread only.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

/* From handle(): not yet. */
#define VQ_SERVICE_HOLD ((int64_t)-1)
/* When it will be looked at again, in CLOCK_MONOTONIC ns: when others have had
 * their turn, or not before it is poked or kicked. */
#define VQ_SERVICE_NEXT_TURN 0
#define VQ_SERVICE_POKED UINT64_MAX

struct vq_service;

struct vq_service_ops {
	/* Whether to take a chain from the ring at all (NULL: always). [W] */
	bool (*wanted)(struct vq_service *s);
	/*
	 * Answers s->chain: the bytes written to it, which goes back then. Or
	 * VQ_SERVICE_HOLD and *ret_retry_ns: it comes again, s->again set.
	 * [W]
	 */
	int64_t (*handle)(struct vq_service *s, uint64_t *ret_retry_ns);
};

struct vq_service {
	struct virtio_dev *dev;
	struct worker *worker;
	const struct vq_service_ops *ops; /* from start to stop */
	unsigned index;                   /* of the queue in dev->vqs */
	unsigned per_turn;                /* calls of handle() */

	/* Its own. */
	struct worker_op kick, turn, timer;
	bool running;
	bool held;    /* chain is */
	bool again;   /* and was, when handle() is called */
	bool retimed; /* the timer was cancelled to be set anew */
	struct virtq_chain chain;
};

void vq_service_init(struct vq_service *s, struct virtio_dev *dev,
	struct worker *w, unsigned index, unsigned per_turn);

/* From the device's attach(). */
int vq_service_attach(struct vq_service *s, struct error *err);

/* [W] Serves the queue, which is ready; then not any more: what was held is
 * forgotten. */
void vq_service_start(struct vq_service *s, const struct vq_service_ops *ops);
void vq_service_stop(struct vq_service *s);

/* [W] Looks at the ring, or at what is held, now. Nothing if not started. */
void vq_service_poke(struct vq_service *s);
