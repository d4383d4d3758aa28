#pragma once

/*
 * A guest's side of virtio-net, for tests: memory with a ring for each queue,
 * and the registers. It does what it is told, right or wrong.
 */

#include "driver.h"
#include "net/net.h"
#include "virtio/mmio.h"

#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#define ND_GPA 0x100000ull
#define ND_BYTES (8ull << 20)
/* A place of so many bytes for each descriptor of each ring. */
#define ND_PLACE 4096ull
#define ND_DATA (ND_GPA + 0x100000)
#define ND_SIZE 64 /* of each ring */

struct nd_queue {
	uint64_t gpa;
	uint16_t size, used_seen;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

struct nd {
	struct gmem mem;
	struct worker *worker;
	struct virtio_dev *dev;
	struct virtio_mmio *m;
	int irq;
	struct net_stats stats;
	struct nd_queue q[17];
	unsigned n_queues;
	uint32_t skipped;  /* bit: a queue that nd_up() leaves alone */
	unsigned n_errors; /* atomic */
	int last_error;
};

/* The device on these taps, its worker running. config: without what is
 * here. */
void nd_init(struct nd *d, struct net_config config);
void nd_fini(struct nd *d);

/* All its queues, or the first n_queues, and DRIVER_OK. */
void nd_up(struct nd *d, uint64_t features, unsigned n_queues);
uint32_t nd_status(struct nd *d);
void nd_reset(struct nd *d);

/* Guest memory that descriptor i of queue q usually has. */
uint64_t nd_place(unsigned q, unsigned i);
void *nd_ptr(const struct nd *d, uint64_t gpa);

/* Lays a chain at descriptors first, first + 1 ..., and offers it. */
void nd_offer(struct nd *d, unsigned q, uint16_t first,
	const struct driver_piece *pieces);
/* One buffer to receive into: descriptor i, so many bytes of its place. */
void nd_offer_rx(struct nd *d, unsigned q, uint16_t i, uint32_t len);
/* A packet to send, with an empty vnet header; descriptor i. */
void nd_offer_tx(
	struct nd *d, unsigned q, uint16_t i, const void *frame, size_t len);
void nd_kick(struct nd *d, unsigned q);

/* The next used entry, if there is one that was not seen. */
bool nd_used(struct nd *d, unsigned q, uint32_t *ret_id, uint32_t *ret_len);
/* The same within seconds: its head. */
uint32_t nd_wait(struct nd *d, unsigned q, uint32_t *ret_len);
/* Whether what *counter counts comes to be n within seconds. */
bool nd_counts(const uint64_t *counter, uint64_t n);
uint64_t nd_interrupts(struct nd *d); /* since the last time */
void nd_pause_ms(long ms);

/* One command to the control queue, and its answer. */
uint8_t nd_ctrl(struct nd *d, unsigned q, uint8_t class, uint8_t cmd,
	const void *data, uint32_t len);
