#pragma once

/*
 * The floor under a burst: as many VMs by raw KVM calls, as many of them at a
 * time, each in a process of its own that is there before, does nothing else
 * and stays until all are done.
 */

#include "bench_floor.h"

/* ns from asking a process to the first word of its guest, for each; *ret_ns:
 * for all of them. */
int crowd_run(struct floor *f, unsigned n, unsigned at_a_time, uint64_t *ret,
	uint64_t *ret_ns, struct error *err);
