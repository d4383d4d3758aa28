#pragma once

/*
 * Guest memory that goes back to the host. It is private memory: what was given
 * back reads as zeroes, and costs nothing until it is touched again. Huge pages
 * stay (see struct gmem): naming them has no effect.
 */

#include "virtio/gmem.h"
#include "virtio/iovs.h"

#include <stddef.h>
#include <stdint.h>

/* VIRTIO_BALLOON_PFN_SHIFT: whatever the guest's pages are. */
#define BALLOON_PAGE_SHIFT 12
#define BALLOON_PAGE_BYTES (1u << BALLOON_PAGE_SHIFT)

/* What was made of a request. */
struct balloon_drop {
	uint64_t pages;   /* named, and there */
	uint64_t unknown; /* named, but not memory of the guest */
	uint64_t bytes;   /* gone */
	uint64_t errors;  /* calls the host refused */
};

/* Gives back pages by number, in as few calls as their neighbourhood allows;
 * pfns is sorted. Adds to *ret. */
void balloon_drop_pfns(const struct gmem *mem, uint32_t *pfns, unsigned n,
	struct balloon_drop *ret);

/* Gives back the whole pages that lie in [off, off + len) of a view of guest
 * memory, not beyond its end. Adds to *ret, but for pages. */
void balloon_drop_view(const struct gmem *mem, const struct iovs *view,
	size_t off, size_t len, struct balloon_drop *ret);
