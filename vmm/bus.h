#pragma once

/*
 * Where a port or MMIO access goes. One table for ports, one for MMIO, both
 * complete before the first vCPU runs and read-only afterwards, so that vCPU
 * threads look up without a lock.
 *
 * A device gets the offset within its range and must take any offset, length
 * (1, 2, 4 or 8) and data. Accesses outside every range read as all ones and
 * write nowhere, and so does an access that runs over its range's end.
 */

#include <stdint.h>

#define BUS_MAX_RANGES 32

struct bus_range {
	uint64_t base, len;
	void *dev; /* borrowed */
	/* data: len bytes to fill or take; called on any vCPU thread. */
	void (*read)(void *dev, uint64_t off, void *data, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

struct bus {
	struct bus_range ranges[BUS_MAX_RANGES]; /* sorted by base */
	unsigned n;
};

/* 0, -EEXIST when it overlaps a range, -ENOSPC when the table is full, -EINVAL
 * when it is empty or wraps around. */
int bus_add(struct bus *b, const struct bus_range *r);

void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len);
void bus_write(
	const struct bus *b, uint64_t addr, const void *data, unsigned len);
