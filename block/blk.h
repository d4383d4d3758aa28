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
	int fd;              /* borrowed until worker_start() */
	uint64_t size_bytes; /* a multiple of 512 */
	/* fd has O_DIRECT and wants addresses, lengths and offsets to be
	 * multiples of this, a power of two up to 512; 0: buffered. */
	uint32_t direct_align;
	bool read_only;       /* VIRTIO_BLK_F_RO */
	bool writeback;       /* VIRTIO_BLK_F_FLUSH; else flushes are no-ops */
	char serial[20];      /* NUL-padded */
	unsigned n_queues;    /* VIRTIO_BLK_F_MQ if more than 1 */
	uint32_t block_bytes; /* of the host's storage: the topology; 0: 512 */
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
 * ends where it began; what was written there is stable soon after. What the
 * new file cannot do (discard) does nothing. 0 or a negative errno: -EINVAL for
 * a size that is no multiple of 512 or an alignment of more than that, -ENOSPC
 * when too many files of before are still in use.
 */
int blk_set_file(struct virtio_dev *d, int fd, uint64_t size_bytes,
	uint32_t direct_align);
/* On the control thread. */
int blk_limit(struct virtio_dev *d, const struct rate_limiter_update *u);
