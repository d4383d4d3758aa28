#pragma once

/*
 * What one descriptor chain asks of a disk. Device code sees two byte streams
 * and no descriptors (virtio 1.2 §2.7.4): the header is the first 16 bytes the
 * device may read, the status the last byte it may write.
 */

#include "virtio/virtq.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The most one request moves, and one segment of a driver's that was told:
 * what has gone to the disk cannot be called back, and a reset waits for it.
 */
#define BLK_SEG_BYTES_MAX ((size_t)64 << 10)
#define BLK_REQ_BYTES_MAX ((VIRTQ_MAX - 2) * BLK_SEG_BYTES_MAX)

/* The same of one range to discard or zero, and how many a request has. */
#define BLK_RANGE_BYTES_MAX ((uint64_t)64 << 20)
#define BLK_RANGES_MAX 16u

struct blk_range {
	uint64_t off_bytes, len_bytes;
	bool unmap; /* WRITE_ZEROES: need not stay allocated */
};

/* What may be asked for. */
struct blk_rules {
	uint64_t capacity_sectors;
	bool read_only;
	bool discard, write_zeroes; /* negotiated */
};

struct blk_cmd {
	uint32_t type;      /* VIRTIO_BLK_T_* */
	uint64_t off_bytes; /* of IN and OUT */
	struct iovec *data; /* in the chain's own array */
	unsigned n_data;
	unsigned n_ranges;      /* of DISCARD and WRITE_ZEROES */
	size_t len;             /* of the data, or of the ranges together */
	struct iovec status;    /* where the status byte goes */
	uint32_t written_bytes; /* to report when all went well, else: */
	uint32_t failed_bytes;
};

/*
 * Consumes the chain (its array is cut to the data). Returns VIRTIO_BLK_S_OK:
 * to be carried out; another VIRTIO_BLK_S_*: to be answered at once; or
 * -EPROTO: not even a status can be given. A type which is neither IN, OUT,
 * FLUSH nor GET_ID, nor one of the two that may be negotiated, is
 * VIRTIO_BLK_S_UNSUPP. ret_ranges: n_ranges are filled.
 */
int blk_parse(struct virtq_chain *c, const struct blk_rules *rules,
	struct blk_cmd *ret, struct blk_range ret_ranges[BLK_RANGES_MAX]);
