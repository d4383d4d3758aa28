#pragma once

/*
 * virtio-blk (virtio 1.2 §5.2) over a file or block device, through the I/O
 * worker.
 */

#include "base/error.h"
#include "block/blk_stats.h"
#include "virtio/device.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct blk_config {
	int fd;              /* borrowed until destroy */
	uint64_t size_bytes; /* a multiple of 512 */
	/* fd has O_DIRECT and wants addresses, lengths and offsets to be
	 * multiples of this, a power of two; 0: buffered. */
	uint32_t direct_align;
	bool read_only;  /* VIRTIO_BLK_F_RO */
	bool writeback;  /* VIRTIO_BLK_F_FLUSH; else flushes are no-ops */
	char serial[20]; /* NUL-padded */
	struct blk_stats *stats; /* borrowed; never NULL */
	/* An I/O error the guest was told of; rate-limited to once a storm. */
	void (*on_error)(void *arg, int err);
	void *arg;
};

/* Before worker_start(): registers its file and kick eventfds come from the
 * transport, so blk_attach() follows virtio_mmio_create(). */
int blk_create(struct virtio_dev **ret, struct worker *w,
	const struct blk_config *config, struct error *err);
int blk_attach(struct virtio_dev *d, struct error *err);
