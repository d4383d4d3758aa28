#pragma once

/*
 * Prometheus' text format, version 0.0.4, written into a buffer that grows. All
 * names begin with "mayfly_". Label values are ids, routes and words of ours:
 * none has a character that would have to be escaped.
 */

#include "base/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exposition {
	char *text;
	size_t len, cap;
	bool failed; /* out of memory: what came after is missing */
};

void exposition_fini(struct exposition *e);

/* The head of a metric: its samples follow. suffix: "_total" or "". */
void exposition_head(struct exposition *e, const char *name, const char *suffix,
	const char *type, const char *help);
/* labels: "" or like 'vm="a",drive="b"'. */
void exposition_sample(struct exposition *e, const char *name,
	const char *suffix, const char *labels, uint64_t value);
/* In seconds. */
void exposition_histogram(struct exposition *e, const char *name,
	const char *labels, const struct histogram *h);
