#pragma once

/*
 * virtio-mem (virtio 1.2 §5.15): memory that is plugged and unplugged in blocks
 * while the guest runs. The region's address space is there from the start; its
 * memory only where blocks are plugged: for devices exactly there (gmem.h), for
 * the guest in each slot with a plugged block.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

/* In shared memory, written by the worker with relaxed atomics. */
struct memdev_state {
	uint64_t requested_bytes, plugged_bytes;
	uint64_t plugs, unplugs, refused, malformed;
} __attribute__((aligned(64)));

struct memdev_config {
	struct gmem *mem;         /* borrowed; with its hotplug region */
	uint64_t slot_bytes;      /* of which the region is a multiple */
	uint64_t requested_bytes; /* at first; a multiple of the block */
	/* The first block of a slot is plugged, or its last has gone: makes the
	 * slot part of the guest's memory or takes it out. 0 or -errno, and
	 * nothing has changed. On the worker. */
	int (*set_slot)(void *arg, unsigned slot, bool there);
	void *arg;
	struct memdev_state *state;
};

int memdev_create(struct virtio_dev **ret, struct worker *w,
	const struct memdev_config *config, struct error *err);

/* On the control thread. -EINVAL: not a multiple of the block, or more than the
 * region. */
int memdev_request(struct virtio_dev *d, uint64_t bytes);
