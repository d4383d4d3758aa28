#include "api/firecracker/args.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct arg *find(
	const struct arg *table, const char *text, size_t len)
{
	for (; table->name; table++)
		if (strlen(table->name) == len &&
			memcmp(table->name, text, len) == 0)
			return table;
	return NULL;
}

/* One, and perhaps its value behind it: how many words that were. */
static int read_one(const struct arg *table, char **argv, uint64_t *seen,
	const struct arg **ret, const char **ret_value, struct error *err)
{
	const char *text = strncmp(argv[0], "--", 2) == 0 ? argv[0] + 2 : "";
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : strlen(text);
	const struct arg *a = find(table, text, len);
	uint64_t bit;

	if (!a)
		return error_set(err, EINVAL,
			"\"%.64s\" is not an option; try --help", argv[0]);
	bit = 1ull << (a - table);
	if (*seen & bit && !a->many)
		return error_set(err, EINVAL, "--%s is given twice", a->name);
	*seen |= bit;
	*ret = a;
	*ret_value = equals ? equals + 1 : NULL;
	if (equals && !a->has_value)
		return error_set(err, EINVAL, "--%s takes no value", a->name);
	if (!a->has_value || equals)
		return 1;
	if (!argv[1] || strncmp(argv[1], "--", 2) == 0)
		return error_set(err, EINVAL, "--%s needs a value", a->name);
	*ret_value = argv[1];
	return 2;
}

int args_read(const struct arg *table, int argc, char **argv,
	int (*take)(void *to, int key, const char *value, struct error *err),
	void *to, int *ret_rest, struct error *err)
{
	uint64_t seen = 0;
	int i = 1;

	while (i < argc && strcmp(argv[i], "--") != 0) {
		const struct arg *a = NULL;
		const char *value = NULL;
		int n = read_one(table, argv + i, &seen, &a, &value, err);

		if (n < 0 || !a || take(to, a->key, value, err) < 0)
			return -err->code;
		i += n;
	}
	*ret_rest = i < argc ? i + 1 : argc;
	return 0;
}

int args_number(const char *name, const char *value, unsigned long long max,
	unsigned long long *ret, struct error *err)
{
	char *end;

	errno = 0;
	*ret = strtoull(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || *ret > max)
		return error_set(err, EINVAL,
			"%s must be a number from 0 to %llu, not \"%.64s\"",
			name, max, value);
	return 0;
}
