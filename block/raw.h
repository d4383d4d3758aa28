#pragma once

/*
 * The raw backend: a disk whose bytes are those of a file or block device,
 * through the I/O worker. Everything here is called on the worker's thread, but
 * for create, add, can_discard and destroy.
 */

#include "base/error.h"
#include "virtio/iovs.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

/* The unit of all offsets and lengths, and the most that direct I/O may want
 * as alignment: guests may write single sectors. */
#define RAW_SECTOR_BYTES 512u

struct raw;

/*
 * RAW_DISCARD: the range's contents may go, and their space with them; where
 * that is not possible nothing happens. RAW_ZERO: the range reads as zeroes and
 * stays allocated; RAW_ZERO_UNMAP: it need not stay so. Where the file system
 * or device cannot do that by itself, zeroes are written.
 */
enum raw_kind {
	RAW_READ,
	RAW_WRITE,
	RAW_SYNC,
	RAW_DISCARD,
	RAW_ZERO,
	RAW_ZERO_UNMAP
};

/*
 * One transfer or range, whole or failed: what the kernel does in parts is
 * continued. Stays where it is until done(), which is called exactly once. err:
 * 0 or a positive errno (ECANCELED: raw_cancel()).
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
	struct raw *raw; /* where it was submitted */
	bool cancelled;
	struct raw_io *next;
	struct iovec zeroes;
};

/*
 * direct_align: the file has O_DIRECT and wants addresses, lengths and offsets
 * to be multiples of this, a power of two up to a sector; 0: buffered. 0,
 * -EINVAL or -ENOMEM.
 */
int raw_create(struct raw **ret, struct worker *w, uint32_t direct_align);
/* Its file, before worker_start(): borrowed until then. 0 or -errno. */
int raw_add(struct raw *r, int fd);
/* Its file, while the worker runs. fd may be closed afterwards. */
int raw_install(struct raw *r, int fd);
/* After worker_stop(), or when it is closed. NULL is fine. */
void raw_destroy(struct raw *r);

/* Whether space of this open file can be given back. end_bytes: its size. */
bool raw_can_discard(int fd, uint64_t end_bytes);

/*
 * A RAW_SYNC covers the writes which were done before it was submitted, and
 * may cover others: what a driver can expect of a flush (virtio 1.2 §5.2.6.2).
 */
void raw_submit(struct raw *r, struct raw_io *io);
/* Asks for an early end. */
void raw_cancel(struct raw_io *io);

/* Nothing is submitted any more, except from done(): once everything is done
 * it syncs, if asked to, and lets go of its file. */
void raw_close(struct raw *r, bool sync);
bool raw_is_closed(const struct raw *r); /* or never had one */
