#pragma once

/*
 * virtio-rng (virtio 1.2 §5.4): the guest's entropy, from the host's
 * getrandom(), on the worker. A request gets at most RNG_REQ_BYTES_MAX bytes
 * and is told how many.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/rate_limiter.h"
#include "virtio/worker.h"

#define RNG_REQ_BYTES_MAX (64u << 10)

/* One writer, relaxed atomics, as all counters in shared memory. */
struct rng_stats {
	uint64_t requests, bytes, errors, throttled, malformed;
} __attribute__((aligned(64)));

struct rng_config {
	struct rate_limiter_config limiter;
	struct rng_stats *stats; /* borrowed; never NULL */
};

int rng_create(struct virtio_dev **ret, struct worker *w,
	const struct rng_config *config, struct error *err);
