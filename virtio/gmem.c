#include "virtio/gmem.h"

#include <errno.h>
#include <linux/mman.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES (2ull << 20)
#define HUGE_FLAGS (MAP_HUGETLB | MAP_HUGE_2MB)

#define BITS 64u /* in a word of the blocks' bitmap */

int gmem_add(struct gmem *m, uint64_t gpa, void *hva, uint64_t len)
{
	unsigned at = 0;

	if (m->n == GMEM_MAX_REGIONS)
		return -ENOSPC;
	if (len == 0 || gpa + len < gpa)
		return -EINVAL;
	while (at < m->n && m->regions[at].gpa < gpa)
		at++;
	if (at > 0 && gpa - m->regions[at - 1].gpa < m->regions[at - 1].len)
		return -EEXIST;
	if (at < m->n && m->regions[at].gpa - gpa < len)
		return -EEXIST;
	memmove(&m->regions[at + 1], &m->regions[at],
		(m->n - at) * sizeof(m->regions[0]));
	m->regions[at] = (struct gmem_region){gpa, len, hva};
	m->n++;
	return 0;
}

/*
 * At a multiple of HUGE_BYTES, as the regions' addresses in the guest are:
 * where the host backs it with huge pages, one nested fault maps 512 small
 * ones.
 */
int gmem_map(void **ret, uint64_t len, int flags)
{
	uint64_t before, after;
	uint8_t *p;

	if (len > UINT64_MAX - HUGE_BYTES)
		return -ENOMEM;
	flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	if (flags & MAP_HUGETLB) { /* aligned, and never in part */
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);
		if (p == MAP_FAILED)
			return -errno;
	} else {
		p = mmap(NULL, len + HUGE_BYTES, PROT_READ | PROT_WRITE, flags,
			-1, 0);
		if (p == MAP_FAILED)
			return -errno;
		before = -(uintptr_t)p % HUGE_BYTES;
		after = HUGE_BYTES - before;
		munmap(p, before); /* which may be nothing, and fail */
		munmap(p + before + len, after);
		p += before;
	}
	/* A core dump of the VMM shall not hold the guest's secrets. */
	madvise(p, len, MADV_DONTDUMP);
	*ret = p;
	return 0;
}

/* Without MAP_NORESERVE: what the host cannot ever back is refused here. */
static int map_region(struct gmem *m, uint64_t gpa, uint64_t len)
{
	void *hva = NULL;
	int r;

	r = gmem_map(&hva, len, m->huge ? HUGE_FLAGS : 0);
	if (r < 0)
		return r;
	r = gmem_add(m, gpa, hva, len);
	if (r < 0)
		munmap(hva, len);
	return r;
}

static int too_few_huge_pages(uint64_t len, struct error *err)
{
	return error_field(err, ENOMEM, "machine-config.huge_pages",
		"the host does not have %llu free huge pages of 2 MiB: raise "
		"/proc/sys/vm/nr_hugepages",
		(unsigned long long)(len / HUGE_BYTES));
}

int gmem_create(struct gmem *ret, uint64_t mem_bytes, uint64_t hole,
	uint64_t hole_end, bool huge, struct error *err)
{
	struct gmem m = {.huge = huge};
	uint64_t low = mem_bytes < hole ? mem_bytes : hole;
	int r;

	if (huge && mem_bytes % HUGE_BYTES)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"must be a multiple of 2 with huge pages of 2 MiB");
	r = map_region(&m, 0, low);
	if (r == 0 && mem_bytes > low)
		r = map_region(&m, hole_end, mem_bytes - low);
	if (r < 0) {
		gmem_destroy(&m);
		if (huge && r == -ENOMEM)
			return too_few_huge_pages(mem_bytes, err);
		return error_field(err, r == -ENOMEM ? ENOMEM : EINVAL,
			"machine-config.mem_size_mib",
			"cannot map %llu MiB of guest memory: %s",
			(unsigned long long)(mem_bytes >> 20), strerror(-r));
	}
	*ret = m;
	return 0;
}

void gmem_destroy(struct gmem *m)
{
	for (unsigned i = 0; i < m->n; i++)
		munmap(m->regions[i].hva, m->regions[i].len);
	if (m->hotplug.len)
		munmap(m->hotplug.hva, m->hotplug.len);
	free(m->hotplug.there);
	m->hotplug = (struct gmem_hotplug){0};
	m->n = 0;
}

/* What is not plugged costs nothing, so it is not reserved; but huge pages are:
 * a touch which finds none left is a signal, and not to be had from a guest. */
int gmem_add_hotplug(struct gmem *m, uint64_t gpa, uint64_t len,
	uint64_t block_bytes, struct error *err)
{
	struct gmem_hotplug h = {
		.gpa = gpa, .len = len, .block_bytes = block_bytes};
	void *hva = NULL;
	int r;

	h.there = calloc(
		(len / block_bytes + BITS - 1) / BITS, sizeof(h.there[0]));
	r = h.there ? gmem_map(&hva, len, m->huge ? HUGE_FLAGS : MAP_NORESERVE)
		    : -ENOMEM;
	if (r < 0) {
		free(h.there);
		if (m->huge)
			return too_few_huge_pages(len, err);
		return error_field(err, ENOMEM, "memory-hotplug.total_size_mib",
			"cannot map %llu MiB: %s",
			(unsigned long long)(len >> 20), strerror(-r));
	}
	h.hva = hva;
	m->hotplug = h;
	return 0;
}

/* The bits of word w that are blocks in [first, last]. */
static uint64_t mask_of(uint64_t w, uint64_t first, uint64_t last)
{
	uint64_t mask = UINT64_MAX;

	if (w == first / BITS)
		mask &= UINT64_MAX << first % BITS;
	if (w == last / BITS)
		mask &= UINT64_MAX >> (BITS - 1 - last % BITS);
	return mask;
}

bool gmem_blocks_are(
	const struct gmem *m, uint64_t off, uint64_t len, bool there)
{
	const struct gmem_hotplug *h = &m->hotplug;
	uint64_t first = off / h->block_bytes;
	uint64_t last = (off + len - 1) / h->block_bytes;

	for (uint64_t w = first / BITS; w <= last / BITS; w++) {
		uint64_t word = __atomic_load_n(&h->there[w], __ATOMIC_RELAXED);

		if ((there ? ~word : word) & mask_of(w, first, last))
			return false;
	}
	return true;
}

void gmem_set_blocks(struct gmem *m, uint64_t off, uint64_t len, bool there)
{
	struct gmem_hotplug *h = &m->hotplug;
	uint64_t first = off / h->block_bytes;
	uint64_t last = (off + len - 1) / h->block_bytes;

	for (uint64_t w = first / BITS; w <= last / BITS; w++) {
		uint64_t mask = mask_of(w, first, last);

		if (there)
			__atomic_fetch_or(&h->there[w], mask, __ATOMIC_RELAXED);
		else
			__atomic_fetch_and(
				&h->there[w], ~mask, __ATOMIC_RELAXED);
	}
}

static void *hotplug_range(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	const struct gmem_hotplug *h = &m->hotplug;
	uint64_t off = gpa - h->gpa;

	if (off >= h->len || len == 0 || len > h->len - off)
		return NULL;
	return gmem_blocks_are(m, off, len, true) ? h->hva + off : NULL;
}

void *gmem_range(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->regions[i];
		uint64_t off = gpa - r->gpa;

		/* Below the region the offset wraps around to more than its
		 * length, since the region itself does not wrap. */
		if (off >= r->len)
			continue;
		if (len == 0 || len > r->len - off)
			return NULL;
		return r->hva + off;
	}
	return hotplug_range(m, gpa, len);
}
