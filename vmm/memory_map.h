#pragma once

/* The guest's RAM as its kernel is told of it (e820 types, which PVH shares).
 */

#include "virtio/gmem.h"

#include <stdint.h>

#define MEMORY_MAP_MAX (GMEM_MAX_REGIONS + 4)

#define MEMORY_RAM 1u
#define MEMORY_RESERVED 2u
#define MEMORY_ACPI 3u

struct memory_map_entry {
	uint64_t gpa, len;
	uint32_t type;
};

/* The end of the RAM that begins at address 0; 0 when there is none. */
uint64_t memory_map_low_end(const struct gmem *mem);

/* Fills in at most MEMORY_MAP_MAX entries, sorted; returns their number. */
unsigned memory_map(const struct gmem *mem, struct memory_map_entry *ret);
