#pragma once

/*
 * How long things took: counts of durations up to some bounds, as Prometheus
 * has them. One thread adds; another, in another process too, may look.
 */

#include <stdint.h>

#define HISTOGRAM_BOUNDS 14

/* In ns. */
extern const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS];

/* All zero at first. Relaxed atomics. */
struct histogram {
	/* Each for itself; the last: longer than any bound. */
	uint64_t buckets[HISTOGRAM_BOUNDS + 1];
	uint64_t sum_ns;
};

void histogram_add(struct histogram *h, uint64_t ns);
/* Loads each of its numbers once. */
void histogram_load(const struct histogram *h, struct histogram *ret);
uint64_t histogram_count(const struct histogram *h);
