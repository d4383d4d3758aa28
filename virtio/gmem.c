#include "virtio/gmem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES (2ull << 20)

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
 * len bytes at a multiple of HUGE_BYTES, as the regions' addresses in the guest
 * are: where the host backs it with huge pages, one nested fault maps 512 small
 * ones. Without MAP_NORESERVE: what the host cannot ever back is refused here.
 */
static void *map_aligned(uint64_t len)
{
	uint64_t before, after;
	uint8_t *p;

	if (len > UINT64_MAX - HUGE_BYTES) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	p = mmap(NULL, len + HUGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return MAP_FAILED;
	before = -(uintptr_t)p % HUGE_BYTES;
	after = HUGE_BYTES - before;
	munmap(p, before); /* which may be nothing, and fail */
	munmap(p + before + len, after);
	return p + before;
}

static int map_region(struct gmem *m, uint64_t gpa, uint64_t len)
{
	void *hva = map_aligned(len);
	int r;

	if (hva == MAP_FAILED)
		return -errno;
	r = gmem_add(m, gpa, hva, len);
	if (r < 0) {
		munmap(hva, len);
		return r;
	}
	/* A core dump of the VMM shall not hold the guest's secrets. */
	madvise(hva, len, MADV_DONTDUMP);
	return 0;
}

int gmem_create(struct gmem *ret, uint64_t mem_bytes, uint64_t hole,
	uint64_t hole_end, struct error *err)
{
	struct gmem m = {.n = 0};
	uint64_t low = mem_bytes < hole ? mem_bytes : hole;
	int r;

	r = map_region(&m, 0, low);
	if (r == 0 && mem_bytes > low)
		r = map_region(&m, hole_end, mem_bytes - low);
	if (r < 0) {
		gmem_destroy(&m);
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
	m->n = 0;
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
	return NULL;
}
