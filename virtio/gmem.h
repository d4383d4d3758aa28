#pragma once

/*
 * Guest memory. gmem_range() is the only way from a guest-physical address to
 * a pointer in the whole project.
 *
 * Set up once before any other thread looks at it, then read-only: no locks.
 * Only which blocks of the hotplug region are there changes later.
 * What lies behind the pointers changes at any time under our hands, since the
 * guest runs: load once, check the copy, never read back.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEM_MAX_REGIONS 4

struct gmem_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
};

/*
 * Where memory comes and goes while the guest runs, in blocks. All of it stays
 * mapped here until gmem_destroy(): who got a pointer before a block went may
 * still use it, and only wastes a page.
 */
struct gmem_hotplug {
	uint64_t gpa, len; /* len 0: there is no such region */
	uint64_t block_bytes;
	uint8_t *hva;
	uint64_t *there; /* a bit a block; atomic */
};

struct gmem {
	struct gmem_region regions[GMEM_MAX_REGIONS]; /* sorted by gpa */
	unsigned n;
	struct gmem_hotplug hotplug; /* above the regions */
	/* Of huge pages, which were set aside at the start: none may be given
	 * back, since another might never come in its place. */
	bool huge;
};

/* Adds RAM that is mapped already (hva borrowed): for tests and fuzzers. */
int gmem_add(struct gmem *m, uint64_t gpa, void *hva, uint64_t len);

/*
 * Maps mem_bytes of private anonymous memory around [hole, hole_end): what
 * does not fit below the hole continues at hole_end. huge: of huge pages of
 * 2 MiB, all of them reserved. Fails with ENOMEM and field
 * machine-config.mem_size_mib or machine-config.huge_pages.
 */
int gmem_create(struct gmem *ret, uint64_t mem_bytes, uint64_t hole,
	uint64_t hole_end, bool huge, struct error *err);
/* Unmaps what gmem_create() and gmem_add_hotplug() mapped. */
void gmem_destroy(struct gmem *m);

/* len bytes of nothing at a multiple of 2 MiB, readable and writable, with
 * these flags of mmap() more. 0 or a negative errno. */
int gmem_map(void **ret, uint64_t len, int flags);

/* The whole range, inside one region, or NULL (also on wrap-around, len 0). */
void *gmem_range(const struct gmem *m, uint64_t gpa, uint64_t len);

/*
 * Maps a hotplug region above all others, with no block there yet: of huge
 * pages if the rest is. block_bytes: a power of two of which len is a multiple.
 * Fails with field memory-hotplug.total_size_mib.
 */
int gmem_add_hotplug(struct gmem *m, uint64_t gpa, uint64_t len,
	uint64_t block_bytes, struct error *err);

/* Whether all blocks in [off, off + len) of the hotplug region are there, or
 * all are not; and how they change, on one thread. Bounds are the caller's. */
bool gmem_blocks_are(
	const struct gmem *m, uint64_t off, uint64_t len, bool there);
void gmem_set_blocks(struct gmem *m, uint64_t off, uint64_t len, bool there);
