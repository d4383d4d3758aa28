#pragma once

/*
 * A device under test with all that it needs to run: a worker, the transport,
 * an interrupt, and a driver's side of each of its queues.
 */

#include "driver.h"
#include "virtio/worker.h"

#define RIG_QUEUES 5
#define RIG_SIZE 16u
#define RIG_OK 15u /* the status with DRIVER_OK */

struct rig {
	struct driver q[RIG_QUEUES]; /* q[0] has the RAM */
	struct worker *w;
	struct virtio_dev *dev;
	struct virtio_mmio *m;
	int irq;
};

/* A worker, not yet started, and RAM; then the device, taken over, and the
 * thread. */
void rig_init(struct rig *r);
void rig_plug(struct rig *r, struct virtio_dev *dev);
void rig_fini(struct rig *r);

/* A driver that takes these features and makes queues 0 to n - 1 ready; or the
 * queues in a mask. */
void rig_up(struct rig *r, uint64_t features, unsigned n);
void rig_up_mask(struct rig *r, uint64_t features, unsigned mask);
uint32_t rig_status(struct rig *r);
void rig_reset(struct rig *r);

/* Offers a chain, laid out from descriptor head on, and kicks. */
void rig_send(struct rig *r, unsigned q, uint16_t head,
	const struct driver_piece *pieces);
void rig_kick(struct rig *r, unsigned q);

/* The next used entry, within seconds: its length. */
uint32_t rig_used(struct rig *r, unsigned q, uint16_t head);
/* Whether none comes for a while. */
bool rig_idle(struct rig *r, unsigned q);

/* Interrupts since the last call. */
uint64_t rig_interrupts(struct rig *r);

/* A field of the device's configuration. */
uint32_t rig_config(struct rig *r, uint64_t off);
void rig_write_config(struct rig *r, uint64_t off, uint32_t value);

/* Bytes of guest memory. */
void *rig_ptr(const struct rig *r, uint64_t gpa);
void rig_put32(const struct rig *r, uint64_t gpa, uint32_t value);
