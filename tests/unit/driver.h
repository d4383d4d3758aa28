#pragma once

/*
 * A guest's side of a virtio device, for tests: RAM, a split virtqueue in it as
 * a driver would lay it out, and the mmio registers. It does what it is told,
 * right or wrong; each field of a ring can be written by itself.
 */

#include "virtio/gmem.h"
#include "virtio/mmio.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_RAM_GPA 0x100000ull
#define DRIVER_RAM_BYTES (1ull << 20)
/* Each with room behind it, where what overruns finds valid memory. */
#define DRIVER_DESC_GPA (DRIVER_RAM_GPA + 0x2000)
#define DRIVER_AVAIL_GPA (DRIVER_RAM_GPA + 0x6000)
#define DRIVER_USED_GPA (DRIVER_RAM_GPA + 0x8000)
#define DRIVER_INDIRECT_GPA (DRIVER_RAM_GPA + 0xa000)
#define DRIVER_DATA_GPA (DRIVER_RAM_GPA + 0x10000)

/* A further queue's rings, at the same distances, from the end of RAM down. */
#define DRIVER_RINGS_BYTES 0x10000ull

struct driver {
	struct gmem mem;
	uint16_t size;
	uint64_t rings; /* added to the addresses above */
	struct vring_desc *desc, *indirect;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t used_seen;
};

void driver_init(struct driver *d, uint16_t size);
/* Queue n > 0 of a device, with rings of its own in d's RAM. */
void driver_init_queue(
	struct driver *q, const struct driver *d, unsigned n, uint16_t size);
void driver_fini(struct driver *d);

void *driver_ptr(const struct driver *d, uint64_t gpa);

/* One piece of a chain; len 0 ends a list of them. */
struct driver_piece {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

/* Lays a chain at descriptors first, first + 1, ...: their number. */
unsigned driver_chain(
	struct driver *d, uint16_t first, const struct driver_piece *pieces);
/* The same in the indirect table at DRIVER_INDIRECT_GPA (entry 0 on), of which
 * descriptor `first` then tells. */
void driver_chain_indirect(
	struct driver *d, uint16_t first, const struct driver_piece *pieces);

void driver_offer(struct driver *d, uint16_t head);

/* The next used entry, if there is one that was not seen. */
bool driver_used(struct driver *d, uint32_t *ret_id, uint32_t *ret_len);

uint16_t *driver_used_event(struct driver *d);
uint16_t *driver_avail_event(struct driver *d);

uint32_t driver_read(struct virtio_mmio *m, uint64_t off);
void driver_write(struct virtio_mmio *m, uint64_t off, uint32_t value);

/* Up to and with FEATURES_OK. */
void driver_negotiate(struct virtio_mmio *m, uint64_t features);
/* Queue q at the addresses above, ready. */
void driver_queue(struct virtio_mmio *m, const struct driver *d, unsigned q);
/* All of it, with DRIVER_OK. */
void driver_up(
	struct virtio_mmio *m, const struct driver *d, uint64_t features);
