#pragma once

/*
 * What a virtio-mem request asks for, checked against what there is, and then
 * done, a slot at a time: a request may cover thousands of them, each of which
 * costs a change of the guest's memory map.
 *
 * No queues and no threads: for the device's worker, and for the fuzzer.
 */

#include "virtio/gmem.h"

#include <linux/virtio_mem.h>
#include <stdbool.h>
#include <stdint.h>

/* The guest's plugged memory. gmem's bits are the truth of it. */
struct memplug {
	struct gmem *mem;    /* borrowed; with its hotplug region */
	uint64_t slot_bytes; /* a multiple of the block */
	int (*set_slot)(void *arg, unsigned slot, bool there);
	void *arg;

	uint64_t requested; /* no more than that can be plugged */
	uint64_t usable;    /* nothing can be plugged beyond */
	uint64_t plugged;
	uint64_t *slots; /* a bit for each that set_slot() has made */

	/* The request in work. */
	bool plug;           /* or unplug */
	bool all;            /* UNPLUG_ALL */
	uint64_t begin, end; /* of the region's bytes: all of the request */
	uint64_t at;         /* done so far */
	uint16_t answer;     /* when it is done */
};

/* memplug: all before `requested` filled in; the others made. 0 or -ENOMEM. */
int memplug_init(struct memplug *p, uint64_t requested);
void memplug_fini(struct memplug *p);

/* bytes: a multiple of the block, within the region. */
void memplug_request(struct memplug *p, uint64_t bytes);

/*
 * One request as the driver wrote it (a private copy). True: *ret is the answer
 * to it. False: memplug_step() is to be called until it says so.
 */
bool memplug_begin(struct memplug *p, const struct virtio_mem_req *req,
	struct virtio_mem_resp *ret);
/* Works on one slot, or a part of it. True: done, and *ret is the answer. */
bool memplug_step(struct memplug *p, struct virtio_mem_resp *ret);
