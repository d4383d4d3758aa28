#pragma once

/*
 * virtio-blk (virtio 1.2 §5.2) over a file or block device, through the I/O
 * worker.
 */

#include "base/error.h"
#include "block/blk_stats.h"
#include "virtio/device.h"
#include "virtio/rate_limiter.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct blk_config {
	int fd;              /* borrowed until destroy */
	uint64_t size_bytes; /* a multiple of 512 */
	/* fd has O_DIRECT and wants addresses, lengths and offsets to be
	 * multiples of this, a power of two; 0: buffered. */
	uint32_t direct_align;
	bool read_only;       /* VIRTIO_BLK_F_RO */
	bool writeback;       /* VIRTIO_BLK_F_FLUSH; else flushes are no-ops */
	char serial[20];      /* NUL-padded */
	unsigned n_queues;    /* VIRTIO_BLK_F_MQ */
	uint32_t block_bytes; /* of the host's storage: the topology */
	struct rate_limiter_config limiter;
	struct blk_stats *stats; /* borrowed; never NULL */
	/* An I/O error the guest was told of; rate-limited to once a storm. */
	void (*on_error)(void *arg, int err);
	void *arg;
};

int blk_create(struct virtio_dev **ret, struct worker *w,
	const struct blk_config *config, struct error *err);

/*
 * On the control thread, the guest running or paused: from now on the disk is
 * in this file (taken over), of this size; the guest is told. What is in flight
 * ends where it began. 0 or a negative errno.
 */
int blk_set_file(struct virtio_dev *d, int fd, uint64_t size_bytes,
	uint32_t direct_align);
int blk_limit(struct virtio_dev *d, const struct rate_limiter_update *u);
