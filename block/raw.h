#pragma once

/*
 * The raw backend: a disk whose bytes are those of a file or block device,
 * through the I/O worker. Everything here is called on the worker's thread, but
 * for create and destroy.
 */

#include "base/error.h"
#include "virtio/iovs.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct raw;

enum raw_kind { RAW_READ, RAW_WRITE, RAW_SYNC };

/*
 * One transfer, whole or failed: what the kernel does in parts is continued.
 * Stays where it is until done(), which is called exactly once. err: 0 or a
 * positive errno (ECANCELED: raw_cancel()).
 */
struct raw_io {
	enum raw_kind kind;
	uint64_t off_bytes;
	struct iovec *iov; /* used up on the way */
	unsigned n;
	size_t len;
	void (*done)(struct raw_io *io, int err);

	/* The backend's own; zero at first. */
	struct worker_op op;
	struct raw *raw;
	bool cancelled;
	struct raw_io *next;
};

/*
 * fd: borrowed until destroy. direct_align: fd has O_DIRECT and wants
 * addresses, lengths and offsets to be multiples of this, a power of two; 0:
 * buffered. O_DIRECT is given up when that is more than a sector. Before
 * worker_start().
 */
int raw_create(struct raw **ret, struct worker *w, int fd,
	uint32_t direct_align, struct error *err);
void raw_destroy(struct raw *r);

/*
 * A RAW_SYNC covers the writes which were done before it was submitted, and
 * may cover others: what a driver can expect of a flush (virtio 1.2 §5.2.6.2).
 */
void raw_submit(struct raw *r, struct raw_io *io);
/* Asks for an early end. */
void raw_cancel(struct raw *r, struct raw_io *io);
