#include "base/histogram.h"

#include "base/counter.h"

#define US 1000ull
#define MS 1000000ull

const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {25 * US, 50 * US,
	100 * US, 250 * US, 500 * US, 1 * MS, 2500 * US, 5 * MS, 10 * MS,
	25 * MS, 100 * MS, 250 * MS, 1000 * MS, 10000 * MS};

void histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned i = 0;

	while (i < HISTOGRAM_BOUNDS && ns > histogram_bounds_ns[i])
		i++;
	counter_add(&h->buckets[i], 1);
	counter_add(&h->sum_ns, ns);
}

void histogram_load(const struct histogram *h, struct histogram *ret)
{
	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
		ret->buckets[i] =
			__atomic_load_n(&h->buckets[i], __ATOMIC_RELAXED);
	ret->sum_ns = __atomic_load_n(&h->sum_ns, __ATOMIC_RELAXED);
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
		n += h->buckets[i];
	return n;
}
