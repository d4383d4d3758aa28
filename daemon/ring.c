#include "daemon/ring.h"

#include <linux/mman.h> /* MADV_POPULATE_READ */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u

/* A writer that overtakes the copy as often as this gets no more chances. */
#define ATTEMPTS 4

uint64_t ring_head(const struct ring *r)
{
	return r->shared ? __atomic_load_n(
				   &r->shared->console_head, __ATOMIC_ACQUIRE)
			 : 0;
}

uint64_t ring_oldest(const struct ring *r, uint64_t head)
{
	return head >= r->capacity ? head + 1 - r->capacity : 0;
}

/* Whether there is memory for the n bytes from at on: where a VM lies about
 * what it wrote, and the state directory is full, a touch of ours would be a
 * signal. Once it is there it stays. */
static bool is_backed(struct ring *r, size_t at, size_t n)
{
	for (size_t page = at / PAGE_BYTES; page * PAGE_BYTES < at + n;
		page++) {
		uint64_t *word = &r->backed[page / 64];
		uint64_t bit = 1ull << page % 64;

		if (*word & bit)
			continue;
		if (madvise(r->shared->console + page * PAGE_BYTES, PAGE_BYTES,
			    MADV_POPULATE_READ) < 0)
			return false;
		*word |= bit;
	}
	return true;
}

/* n is at most the capacity. */
static void copy_out(struct ring *r, uint64_t pos, uint8_t *buf, size_t n)
{
	size_t at = pos & (r->capacity - 1);
	size_t first = r->capacity - at;

	if (first > n)
		first = n;
	if (!is_backed(r, at, first) || !is_backed(r, 0, n - first)) {
		memset(buf, 0, n);
		return;
	}
	memcpy(buf, r->shared->console + at, first);
	memcpy(buf + first, r->shared->console, n - first);
}

size_t ring_read(struct ring *r, uint64_t *pos, void *buf, size_t size)
{
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		uint64_t head = ring_head(r), oldest = ring_oldest(r, head);
		size_t n;

		/* A head that moved back is a lie; there is nothing new. */
		if (head <= *pos)
			return 0;
		if (*pos < oldest)
			*pos = oldest;
		n = head - *pos < size ? (size_t)(head - *pos) : size;
		copy_out(r, *pos, buf, n);
		/* The copy comes before the second look at the head. */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		oldest = ring_oldest(r, ring_head(r));
		if (oldest <= *pos) {
			*pos += n;
			return n;
		}
		/* The front of the copy was overwritten meanwhile. */
		if (oldest - *pos < n) {
			size_t lost = (size_t)(oldest - *pos);

			memmove(buf, (uint8_t *)buf + lost, n - lost);
			*pos += n;
			return n - lost;
		}
		/* All of it was: the next attempt begins at the oldest. */
	}
	return 0;
}
