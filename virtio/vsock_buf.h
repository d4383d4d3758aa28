#pragma once

/*
 * Where a guest's bytes wait for host peers that do not read: blocks of one
 * arena, which each connection is promised some of before its guest is told of
 * that credit. So there is always room for what a guest may send, and all of
 * it together has a bound. Memory nobody waits in goes back to the host.
 */

#include "base/error.h"
#include "virtio/iovs.h"

#include <stdint.h>
#include <sys/uio.h>

#define VSOCK_BLOCK_BYTES 4096u
/* What a connection gets at least and at most: the more there are, the less. */
#define VSOCK_CREDIT_MIN VSOCK_BLOCK_BYTES
#define VSOCK_CREDIT_MAX (64u * VSOCK_BLOCK_BYTES)

struct vsock_arena {
	uint8_t *mem;
	uint32_t *next; /* of each block: the one behind it */
	uint32_t n_blocks;
	uint32_t free;      /* the first of those which were used */
	uint32_t n_touched; /* from here on none was */
	uint32_t n_used;
	uint32_t n_promised;
};

struct vsock_buf {
	uint32_t first, last; /* valid while len > 0 */
	uint32_t off;         /* in the first block */
	uint32_t len;
};

int vsock_arena_init(
	struct vsock_arena *a, unsigned n_connections, struct error *err);
void vsock_arena_fini(struct vsock_arena *a);

/* The credit a new connection may give: bytes. At most n_connections have some
 * at a time. */
uint32_t vsock_arena_promise(struct vsock_arena *a);
/* Its buffer is empty. */
void vsock_arena_unpromise(struct vsock_arena *a, uint32_t credit_bytes);

/* Appends [off, off + len) of the view. No more is in the buffer than was
 * promised. */
void vsock_buf_append(struct vsock_arena *a, struct vsock_buf *b,
	const struct iovs *from, size_t off, uint32_t len);
/* The pieces from its beginning, as many as there is room for: their number,
 * and how long they are. */
unsigned vsock_buf_peek(const struct vsock_arena *a, const struct vsock_buf *b,
	struct iovec *ret, unsigned cap, uint32_t *ret_bytes);
void vsock_buf_drop(struct vsock_arena *a, struct vsock_buf *b, uint32_t n);
