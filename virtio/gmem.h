#pragma once

/*
 * Guest memory. gmem_range() is the only way from a guest-physical address to
 * a pointer in the whole project.
 *
 * Set up once before any other thread looks at it, then read-only: no locks.
 * What lies behind the pointers changes at any time under our hands, since the
 * guest runs: load once, check the copy, never read back.
 */

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define GMEM_MAX_REGIONS 4

struct gmem_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
};

struct gmem {
	struct gmem_region regions[GMEM_MAX_REGIONS]; /* sorted by gpa */
	unsigned n;
};

/* Adds RAM that is mapped already (hva borrowed): for tests and fuzzers. */
int gmem_add(struct gmem *m, uint64_t gpa, void *hva, uint64_t len);

/*
 * Maps mem_bytes of private anonymous memory around [hole, hole_end): what
 * does not fit below the hole continues at hole_end. Fails with ENOMEM and
 * field machine-config.mem_size_mib.
 */
int gmem_create(struct gmem *ret, uint64_t mem_bytes, uint64_t hole,
	uint64_t hole_end, struct error *err);
void gmem_destroy(struct gmem *m); /* unmaps what gmem_create() mapped */

/* The whole range, inside one region, or NULL (also on wrap-around, len 0). */
void *gmem_range(const struct gmem *m, uint64_t gpa, uint64_t len);
