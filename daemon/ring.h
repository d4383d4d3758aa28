#pragma once

/*
 * The reading side of the console ring a VM shares with us (vmm/shared.h). The
 * VM may be hostile: whatever its indices say, reads stay within the ring.
 */

#include "vmm/shared.h"

#include <stddef.h>
#include <stdint.h>

/* capacity: the ring's size as we made it, a power of two; what the shared page
 * says of it is not looked at. */
struct ring {
	struct vm_shared *shared; /* NULL: empty */
	uint32_t capacity;
	/* Bit per page of it: there is memory for it. */
	uint64_t backed[VM_CONSOLE_BYTES / 4096 / 64];
};

/* Bytes ever written. */
uint64_t ring_head(const struct ring *r);

/* The oldest byte one may read, of a ring whose head is the given one: the next
 * byte may be on its way to the place of the one before. */
uint64_t ring_oldest(const struct ring *r, uint64_t head);

/*
 * Copies up to size bytes from *pos on, moving *pos behind what was copied; it
 * jumps to the oldest byte when what it points to has been overwritten. Returns
 * the number of bytes; 0: there is nothing new.
 */
size_t ring_read(struct ring *r, uint64_t *pos, void *buf, size_t size);
