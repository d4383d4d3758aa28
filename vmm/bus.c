#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *b, const struct bus_range *r)
{
	uint64_t last = r->base + (r->len - 1);
	unsigned at = 0;

	if (r->len == 0 || last < r->base)
		return -EINVAL;
	if (b->n == BUS_MAX_RANGES)
		return -ENOSPC;
	while (at < b->n && b->ranges[at].base <= last)
		at++;
	/* ranges[at - 1] is the last one which begins at or below our end. */
	if (at > 0) {
		const struct bus_range *below = &b->ranges[at - 1];

		if (below->base + (below->len - 1) >= r->base)
			return -EEXIST;
	}
	memmove(&b->ranges[at + 1], &b->ranges[at],
		(b->n - at) * sizeof(b->ranges[0]));
	b->ranges[at] = *r;
	b->n++;
	return 0;
}

/* The range which holds all of [addr, addr + len), or NULL. */
static const struct bus_range *find(
	const struct bus *b, uint64_t addr, unsigned len)
{
	unsigned lo = 0, hi = b->n;
	const struct bus_range *r;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (b->ranges[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	r = &b->ranges[lo - 1];
	if (len > r->len || addr - r->base > r->len - len)
		return NULL;
	return r;
}

void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len)
{
	const struct bus_range *r = find(b, addr, len);

	if (r)
		r->read(r->dev, addr - r->base, data, len);
	else
		memset(data, 0xff, len);
}

void bus_write(
	const struct bus *b, uint64_t addr, const void *data, unsigned len)
{
	const struct bus_range *r = find(b, addr, len);

	if (r)
		r->write(r->dev, addr - r->base, data, len);
}
