#pragma once

/* A driver that never rests. */

#include "tests/unit/driver.h"
#include "virtio/worker.h"

/*
 * Offers the n_chains chains of two descriptors, at 0, 2, 4 ..., again as
 * soon as each is used, several times over, from a thread of its own. Fails the
 * test unless the device's worker goes on to answer, does for others what they
 * call for meanwhile, and stops at a reset.
 */
void busy_driver(struct driver *d, struct virtio_mmio *m, struct worker *w,
	uint16_t n_chains);
