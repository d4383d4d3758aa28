#pragma once

/*
 * The split virtqueue (virtio 1.2 §2.7), device side. virtq.c alone
 * dereferences rings: each field is loaded once, each bound checked; what is
 * malformed breaks the queue (-EPROTO) and nothing else.
 *
 * One thread at a time uses a queue: the transport sets it up under its mutex,
 * then from start() to stop() it belongs to the device's worker.
 */

#include "virtio/gmem.h"
#include "virtio/iovs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIRTQ_MAX 256 /* largest ring, and most descriptors in a chain */

/* One descriptor chain, as a private copy: never read again from the guest. */
struct virtq_chain {
	uint16_t head;
	struct iovs rd; /* device-readable */
	struct iovs wr; /* device-writable; after the readable ones */
	struct iovec iov[VIRTQ_MAX];
};

struct virtq {
	/* Set by the driver through the transport, before it is ready. */
	uint16_t size_max, size;
	bool ready;
	uint64_t desc_gpa, avail_gpa, used_gpa;

	/* Set by virtq_activate(). */
	const struct gmem *mem;
	const void *desc;
	const void *avail;
	void *used;
	bool event_idx, indirect;

	/* Heads popped and given back: popped again before others. */
	uint16_t returned[VIRTQ_MAX];
	uint16_t n_returned;

	uint16_t avail_next; /* next entry of the available ring to take */
	uint16_t used_next;  /* next entry of the used ring to fill */
	uint16_t signalled;  /* used_next at the last interrupt decision */
	uint16_t pending;    /* popped, neither pushed nor given back */
	bool broken;
};

/* Checks size, alignment and that each ring lies in one region, and resolves
 * them. 0 or -EINVAL. features: as acked. */
int virtq_activate(struct virtq *q, const struct gmem *mem, uint64_t features);
void virtq_reset(struct virtq *q); /* keeps size_max */

/* 1 with a chain, 0 when there is none, -EPROTO: the queue is broken now. */
int virtq_pop(struct virtq *q, struct virtq_chain *ret);

/*
 * Gives a chain that was not used back to where it came from: virtq_pop() will
 * find it again, the last one first, and look at its descriptors anew. Of
 * several, give back the last popped first, and their order stays.
 */
void virtq_unpop(struct virtq *q, uint16_t head);

/* Gives a chain back, with the bytes written to it. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written_bytes);

/* virtq_push() in two steps, for what the driver must see together or may see
 * at once: each is filled in, then all are published. */
void virtq_fill(struct virtq *q, uint16_t head, uint32_t written_bytes);
void virtq_publish(struct virtq *q);

/* Whether the driver wants to be interrupted for what was pushed since this was
 * last called. Call after a batch of pushes, and obey. */
bool virtq_should_interrupt(struct virtq *q);

/* Kicks off while polling the ring; virtq_enable_kicks() returns whether more
 * came meanwhile (then pop again). */
void virtq_disable_kicks(struct virtq *q);
bool virtq_enable_kicks(struct virtq *q);
