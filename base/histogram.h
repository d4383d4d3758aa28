#pragma once

/*
 * How long things took: counts of durations up to some bounds, as Prometheus
 * has them. One thread.
 */

#include <stdint.h>

#define HISTOGRAM_BOUNDS 10

/* In ns; what is longer than the last is counted in no bucket. */
extern const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS];

struct histogram {
	uint64_t buckets[HISTOGRAM_BOUNDS]; /* each for itself */
	uint64_t count, sum_ns;
};

void histogram_add(struct histogram *h, uint64_t ns);
