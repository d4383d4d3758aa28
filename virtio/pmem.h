#pragma once

/*
 * virtio-pmem (virtio 1.2 §5.19): a file in the guest's address space. Reads
 * and writes are the guest's own, to the mapping; the device only flushes.
 *
 * One flush of the file serves all requests that came before it. It counts as
 * one operation, and as all of the file's bytes.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/rate_limiter.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct pmem_stats {
	uint64_t flushes, errors, throttled, malformed;
} __attribute__((aligned(64)));

struct pmem_config {
	uint64_t gpa, size_bytes; /* both multiples of 2 MiB */
	uint64_t file_bytes;
	int fd;         /* borrowed until destroy */
	bool read_only; /* flushes are no-ops */
	struct rate_limiter_config limiter;
	struct pmem_stats *stats;
};

int pmem_create(struct virtio_dev **ret, struct worker *w,
	const struct pmem_config *config, struct error *err);
int pmem_limit(struct virtio_dev *d, const struct rate_limiter_update *u);
