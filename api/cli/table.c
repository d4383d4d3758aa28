#include "api/cli/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *t, const char *const *titles)
{
	*t = (struct table){.titles = titles};
	while (titles[t->n_columns])
		t->n_columns++;
}

void table_fini(struct table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
}

void table_add(struct table *t, const char *format, ...)
{
	char **cells =
		reallocarray(t->cells, t->n_cells + 1, sizeof(*t->cells));
	char *cell = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&cell, format, args) < 0)
		cell = NULL;
	va_end(args);
	/* Without memory for a table there is none for anything else. */
	if (!cells || !cell)
		abort();
	t->cells = cells;
	t->cells[t->n_cells++] = cell;
}

static void print_row(
	const struct table *t, const size_t *widths, const char *const *cells)
{
	for (size_t i = 0; i < t->n_columns; i++) {
		if (i + 1 == t->n_columns)
			printf("%s\n", cells[i]);
		else
			printf("%-*s  ", (int)widths[i], cells[i]);
	}
}

void table_print(const struct table *t)
{
	size_t widths[TABLE_COLUMNS] = {0};

	assert(t->n_columns > 0 && t->n_columns <= TABLE_COLUMNS);
	for (size_t i = 0; i < t->n_columns; i++)
		widths[i] = strlen(t->titles[i]);
	for (size_t i = 0; i < t->n_cells; i++) {
		size_t *w = &widths[i % t->n_columns];
		size_t len = strlen(t->cells[i]);

		*w = len > *w ? len : *w;
	}
	print_row(t, widths, t->titles);
	for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns)
		print_row(t, widths, (const char *const *)&t->cells[i]);
}
