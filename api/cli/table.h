#pragma once

/* A table for a person to read: columns as wide as what is in them. */

#include <stddef.h>

#define TABLE_COLUMNS 12

struct table {
	const char *const *titles; /* ends with NULL */
	size_t n_columns, n_cells;
	char **cells; /* row by row; owned */
};

void table_init(struct table *t, const char *const *titles);
void table_fini(struct table *t);
/* The next cell, left to right; formatted as printf does. */
__attribute__((format(printf, 2, 3))) void table_add(
	struct table *t, const char *format, ...);
void table_print(const struct table *t);
