#include "virtio/vsock_buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NONE UINT32_MAX

/* Shared out freely: 16 MiB. A newcomer gets a 64th of what is left of them,
 * and VSOCK_CREDIT_MIN beyond. */
#define POOL_BLOCKS 4096u
#define SHARE 64u
_Static_assert(POOL_BLOCKS / SHARE * VSOCK_BLOCK_BYTES == VSOCK_CREDIT_MAX,
	"the first one's share");

/* What was touched is given back when it is worth a system call. */
#define KEEP_BLOCKS 64u

/* One more than full ones, as the first and the last are in part. */
static uint32_t blocks_of(uint32_t credit_bytes)
{
	return credit_bytes / VSOCK_BLOCK_BYTES + 1;
}

int vsock_arena_init(
	struct vsock_arena *a, unsigned n_connections, struct error *err)
{
	uint32_t least = blocks_of(VSOCK_CREDIT_MIN);
	void *p;

	*a = (struct vsock_arena){.free = NONE};
	/* The last of the pool is overdrawn by one share at most. */
	a->n_blocks = POOL_BLOCKS + blocks_of(VSOCK_CREDIT_MAX) +
		      n_connections * least;
	p = mmap(NULL, (size_t)a->n_blocks * VSOCK_BLOCK_BYTES,
		PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return error_errno(err, errno, "vsock's buffers");
	a->mem = p;
	a->next = calloc(a->n_blocks, sizeof(*a->next));
	return a->next ? 0 : error_errno(err, ENOMEM, "vsock's buffers");
}

void vsock_arena_fini(struct vsock_arena *a)
{
	if (a->mem)
		munmap(a->mem, (size_t)a->n_blocks * VSOCK_BLOCK_BYTES);
	free(a->next);
}

uint32_t vsock_arena_promise(struct vsock_arena *a)
{
	uint32_t share = 0, credit;

	if (a->n_promised < POOL_BLOCKS)
		share = (POOL_BLOCKS - a->n_promised) / SHARE;
	credit = share * VSOCK_BLOCK_BYTES;
	if (credit < VSOCK_CREDIT_MIN)
		credit = VSOCK_CREDIT_MIN;
	a->n_promised += blocks_of(credit);
	assert(a->n_promised <= a->n_blocks);
	return credit;
}

void vsock_arena_unpromise(struct vsock_arena *a, uint32_t credit_bytes)
{
	a->n_promised -= blocks_of(credit_bytes);
}

static uint32_t take_block(struct vsock_arena *a)
{
	uint32_t i = a->free;

	a->n_used++;
	if (i != NONE) {
		a->free = a->next[i];
		return i;
	}
	assert(a->n_touched < a->n_blocks);
	return a->n_touched++;
}

static void give_block(struct vsock_arena *a, uint32_t i)
{
	a->next[i] = a->free;
	a->free = i;
	if (--a->n_used > 0)
		return;
	if (a->n_touched > KEEP_BLOCKS)
		madvise(a->mem, (size_t)a->n_touched * VSOCK_BLOCK_BYTES,
			MADV_DONTNEED);
	a->n_touched = 0;
	a->free = NONE;
}

static uint8_t *block(const struct vsock_arena *a, uint32_t i)
{
	return a->mem + (size_t)i * VSOCK_BLOCK_BYTES;
}

void vsock_buf_append(struct vsock_arena *a, struct vsock_buf *b,
	const struct iovs *from, size_t off, uint32_t len)
{
	while (len > 0) {
		uint32_t at = (b->off + b->len) % VSOCK_BLOCK_BYTES;
		uint32_t n = VSOCK_BLOCK_BYTES - at;

		if (b->len == 0) {
			b->first = b->last = take_block(a);
			b->off = at = 0;
			n = VSOCK_BLOCK_BYTES;
		} else if (at == 0) {
			uint32_t i = take_block(a);

			a->next[b->last] = i;
			b->last = i;
		}
		if (n > len)
			n = len;
		iovs_read(from, off, block(a, b->last) + at, n);
		b->len += n;
		off += n;
		len -= n;
	}
}

unsigned vsock_buf_peek(const struct vsock_arena *a, const struct vsock_buf *b,
	struct iovec *ret, unsigned cap, uint32_t *ret_bytes)
{
	uint32_t i = b->first, off = b->off, left = b->len;
	unsigned n = 0;

	while (left > 0 && n < cap) {
		uint32_t len = VSOCK_BLOCK_BYTES - off;

		if (len > left)
			len = left;
		ret[n++] = (struct iovec){block(a, i) + off, len};
		left -= len;
		off = 0;
		i = a->next[i];
	}
	*ret_bytes = b->len - left;
	return n;
}

void vsock_buf_drop(struct vsock_arena *a, struct vsock_buf *b, uint32_t n)
{
	assert(n <= b->len);
	while (n > 0) {
		uint32_t len = VSOCK_BLOCK_BYTES - b->off, i = b->first;

		if (len > b->len)
			len = b->len;
		if (len > n) {
			b->off += n;
			b->len -= n;
			return;
		}
		b->len -= len;
		b->off = 0;
		n -= len;
		b->first = a->next[i];
		give_block(a, i);
	}
}
