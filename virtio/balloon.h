#pragma once

/*
 * virtio-balloon (virtio 1.2 §5.5): pages the guest gives up go back to the
 * host. What the guest names is checked against its memory; what it lies about
 * costs it its own pages and nobody else's.
 *
 * Control functions are called on the control thread, the VM running or
 * paused; they return 0 or a negative errno (-ENOTSUP: not configured).
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

/* VIRTIO_BALLOON_S_*: tags of the statistics, and room for newer ones. */
#define BALLOON_STATS_MAX 16

/* In shared memory, written by the worker with relaxed atomics. */
struct balloon_state {
	uint64_t target_pages, actual_pages; /* of 4 KiB */
	uint64_t stats[BALLOON_STATS_MAX];   /* by tag; UINT64_MAX: not told */
	uint64_t stats_updates;
	uint64_t inflated_pages, deflated_pages, reported_bytes, hinted_bytes;
	uint64_t hint_host_cmd, hint_guest_cmd; /* VIRTIO_BALLOON_CMD_ID_* */
	uint64_t errors, malformed;
} __attribute__((aligned(64)));

struct balloon_config {
	uint32_t target_pages;     /* of 4 KiB */
	bool deflate_on_oom;       /* VIRTIO_BALLOON_F_DEFLATE_ON_OOM */
	bool hinting;              /* VIRTIO_BALLOON_F_FREE_PAGE_HINT */
	bool reporting;            /* VIRTIO_BALLOON_F_REPORTING */
	uint32_t stats_interval_s; /* 0: no statistics queue at all */
	const struct gmem *mem;    /* borrowed, as state is */
	struct balloon_state *state;
};

int balloon_create(struct virtio_dev **ret, struct worker *w,
	const struct balloon_config *config, struct error *err);

int balloon_set_target(struct virtio_dev *d, uint32_t pages);
/* Only if it began with an interval, and then not 0. */
int balloon_set_stats_interval(struct virtio_dev *d, uint32_t interval_s);
/* acknowledge_on_stop: tell the guest "done" by itself once it has reported all
 * of its free pages, so that it may reuse them. */
int balloon_hinting_start(struct virtio_dev *d, bool acknowledge_on_stop);
int balloon_hinting_stop(struct virtio_dev *d);
