#include "api/exposition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096u

/* A thousand VMs have tens of thousands of samples: these are put together by
 * hand, printf() would take most of the time. */

static bool reserve(struct exposition *e, size_t n)
{
	size_t cap = e->cap ? e->cap : FIRST_BYTES;
	char *more;

	while (cap - e->len < n)
		cap *= 2;
	if (cap == e->cap)
		return true;
	more = realloc(e->text, cap);
	if (!more) {
		e->failed = true;
		return false;
	}
	e->text = more;
	e->cap = cap;
	return true;
}

static void put(struct exposition *e, const char *s)
{
	size_t n = strlen(s);

	if (e->failed || !reserve(e, n))
		return;
	memcpy(e->text + e->len, s, n);
	e->len += n;
}

static void put_number(struct exposition *e, uint64_t n)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do
		digits[--at] = (char)('0' + n % 10);
	while ((n /= 10));
	put(e, digits + at);
}

static void put_name(struct exposition *e, const char *name, const char *suffix)
{
	put(e, "mayfly_");
	put(e, name);
	put(e, suffix);
}

void exposition_fini(struct exposition *e)
{
	free(e->text);
	*e = (struct exposition){0};
}

void exposition_head(struct exposition *e, const char *name, const char *suffix,
	const char *type, const char *help)
{
	put(e, "# HELP ");
	put_name(e, name, suffix);
	put(e, " ");
	put(e, help);
	put(e, "\n# TYPE ");
	put_name(e, name, suffix);
	put(e, " ");
	put(e, type);
	put(e, "\n");
}

/* All of a sample but its value. */
static void begin_sample(struct exposition *e, const char *name,
	const char *suffix, const char *labels, const char *le)
{
	put_name(e, name, suffix);
	if (labels[0] || le) {
		put(e, "{");
		put(e, labels);
		put(e, labels[0] && le ? "," : "");
		put(e, le ? le : "");
		put(e, "}");
	}
	put(e, " ");
}

void exposition_sample(struct exposition *e, const char *name,
	const char *suffix, const char *labels, uint64_t value)
{
	begin_sample(e, name, suffix, labels, NULL);
	put_number(e, value);
	put(e, "\n");
}

/* The bucket's upper bound, which is the same in all histograms. */
static const char *bound_label(unsigned i)
{
	static char labels[HISTOGRAM_BOUNDS][24];

	if (i == HISTOGRAM_BOUNDS)
		return "le=\"+Inf\"";
	if (!labels[i][0])
		snprintf(labels[i], sizeof(labels[i]), "le=\"%g\"",
			(double)histogram_bounds_ns[i] / 1e9);
	return labels[i];
}

void exposition_histogram(struct exposition *e, const char *name,
	const char *labels, const struct histogram *h)
{
	char seconds[48];
	uint64_t sum = 0;

	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		sum += h->buckets[i];
		begin_sample(e, name, "_bucket", labels, bound_label(i));
		put_number(e, sum);
		put(e, "\n");
	}
	begin_sample(e, name, "_sum", labels, NULL);
	snprintf(seconds, sizeof(seconds), "%" PRIu64 ".%09" PRIu64 "\n",
		h->sum_ns / 1000000000u, h->sum_ns % 1000000000u);
	put(e, seconds);
	exposition_sample(e, name, "_count", labels, sum);
}
