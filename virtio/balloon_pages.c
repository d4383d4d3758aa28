#include "virtio/balloon_pages.h"

#include <stdlib.h>
#include <sys/mman.h>

/* The whole pages in [hva, hva + len). */
static void drop(const struct gmem *mem, const uint8_t *hva, size_t len,
	struct balloon_drop *ret)
{
	const uint64_t mask = BALLOON_PAGE_BYTES - 1;
	uint64_t begin = ((uintptr_t)hva + mask) & ~mask;
	uint64_t end = ((uintptr_t)hva + len) & ~mask;

	if (begin >= end || mem->huge)
		return;
	if (madvise((void *)(uintptr_t)begin, end - begin, MADV_DONTNEED) == 0)
		ret->bytes += end - begin;
	else
		ret->errors++;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void balloon_drop_pfns(const struct gmem *mem, uint32_t *pfns, unsigned n,
	struct balloon_drop *ret)
{
	const uint8_t *run = NULL; /* the first page is far from there */
	size_t len = 0, off;

	/* Linux takes pages from the top of its lists: they come in falling or
	 * mixed order. */
	qsort(pfns, n, sizeof(*pfns), by_number);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *hva =
			gmem_range(mem, (uint64_t)pfns[i] << BALLOON_PAGE_SHIFT,
				BALLOON_PAGE_BYTES);

		if (!hva) {
			ret->unknown++;
			continue;
		}
		ret->pages++;
		/* Twice the same is one page of a run, too. */
		off = (uintptr_t)hva - (uintptr_t)run;
		if (off <= len) {
			len = off + BALLOON_PAGE_BYTES;
			continue;
		}
		if (run)
			drop(mem, run, len, ret);
		run = hva;
		len = BALLOON_PAGE_BYTES;
	}
	if (run)
		drop(mem, run, len, ret);
}

void balloon_drop_view(const struct gmem *mem, const struct iovs *view,
	size_t off, size_t len, struct balloon_drop *ret)
{
	size_t end = off + len, at = 0;

	for (unsigned i = 0; i < view->n && at < end; i++) {
		const uint8_t *hva = view->v[i].iov_base;
		size_t n = view->v[i].iov_len;
		size_t from = at < off ? off - at : 0;
		size_t to = end - at < n ? end - at : n;

		if (from < to)
			drop(mem, hva + from, to - from, ret);
		at += n;
	}
}
