#include "base/histogram.h"

#define MS 1000000ull

const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {MS / 4, MS / 2, 1 * MS,
	2500000, 5 * MS, 10 * MS, 25 * MS, 100 * MS, 1000 * MS, 10000 * MS};

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum_ns += ns;
	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++)
		if (ns <= histogram_bounds_ns[i]) {
			h->buckets[i]++;
			return;
		}
}
