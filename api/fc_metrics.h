#pragma once

/*
 * A VM's metrics as Firecracker writes them: one JSON object a line, of what
 * has been counted since the line before, in its groups and, where it has the
 * same number, by its names.
 */

#include "api/backend.h"

struct fc_metrics;

struct fc_metrics *fc_metrics_create(void);    /* NULL: out of memory */
void fc_metrics_destroy(struct fc_metrics *m); /* NULL is fine */

/* A request was answered. */
void fc_metrics_served(struct fc_metrics *m, const struct api_served *s);

/* Of the log and of these lines, in all: what could not be written. */
struct fc_missed {
	uint64_t log, metrics;
};

/*
 * The next line, with its newline; to be freed. c: NULL: the guest has not been
 * started. NULL: out of memory; what it would have held is in the next one.
 */
char *fc_metrics_line(struct fc_metrics *m, const struct api_counters *c,
	const struct fc_missed *missed);
/* What is counted so far belongs to no line. */
void fc_metrics_skip(struct fc_metrics *m, const struct api_counters *c);
