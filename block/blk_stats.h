#pragma once

#include "base/histogram.h"

#include <stdint.h>

/*
 * What one drive has done since its VM started. Written by the worker with
 * relaxed atomics, read by whoever shares the memory it lies in.
 */
struct blk_stats {
	uint64_t reads, writes, flushes, others; /* requests completed */
	uint64_t read_bytes, write_bytes;
	uint64_t discards, write_zeroes;
	uint64_t throttled; /* times a limiter made the queue wait */
	uint64_t errors;    /* failed here: VIRTIO_BLK_S_IOERR */
	uint64_t malformed; /* refused as the guest's fault, answered or not */
	/* From taking a request from the ring to giving it back, what a limiter
	 * made it wait included; of those that succeeded. */
	struct histogram read_time, write_time, flush_time;
} __attribute__((aligned(64)));
