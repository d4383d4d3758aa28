#pragma once

/* A command line as Firecracker's programs take it: "--name", "--name VALUE" or
 * "--name=VALUE", each once, and what is behind "--" is for somebody else. */

#include "base/error.h"

#include <stdbool.h>

struct arg {
	const char *name; /* without its dashes; NULL ends a table */
	int key;
	bool has_value, many;
};

/* take(): keeps one; value: borrowed from argv; NULL: it has none. *ret_rest:
 * index of what is behind "--", or argc. Fails with EINVAL. */
int args_read(const struct arg *table, int argc, char **argv,
	int (*take)(void *to, int key, const char *value, struct error *err),
	void *to, int *ret_rest, struct error *err);

/* A whole number in decimal, at most max. */
int args_number(const char *name, const char *value, unsigned long long max,
	unsigned long long *ret, struct error *err);
