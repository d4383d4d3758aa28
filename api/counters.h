#pragma once

/*
 * What is counted of a VM, as tables: one row a number, with the name it has in
 * GET /v1/vms/{id} and, as mayfly_vm_GROUP_NAME, in /metrics.
 */

#include "api/backend.h"

struct counter {
	const char *name;
	const char *help;
	size_t offset;
	bool gauge;        /* it goes down, too */
	bool only_metrics; /* not in GET /v1/vms/{id} */
	/* One of several that are one metric, with a label that tells them
	 * apart: "exits", "reason", "pio". NULL: a metric by itself. */
	const char *family, *label, *value;
};

/* How long requests took: in /metrics alone. */
struct counter_histogram {
	const char *name;
	const char *help;
	size_t offset;
	const char *label, *value; /* as above */
};

/* Counters of one kind of device. */
struct counter_group {
	const char *json;   /* the member; NULL: of the VM itself */
	const char *metric; /* "drive" */
	const struct counter *counters;
	const struct counter_histogram *histograms;
	unsigned n, n_histograms;
	/* In struct api_counters. Several devices: where their number and the
	 * first are, how far apart, and where each has its id, called so. One:
	 * id_name is NULL, and there is tells whether it is. */
	const char *id_name, *label;
	size_t there, first, stride, id;
};

extern const struct counter_group counter_groups[];
extern const unsigned n_counter_groups;

/* How many devices of the group there are (1 for the VM itself). */
unsigned counter_devices(
	const struct counter_group *g, const struct api_counters *c);
uint64_t counter_value(const struct counter_group *g, unsigned device,
	const struct counter *counter, const struct api_counters *c);
const struct histogram *counter_histogram(const struct counter_group *g,
	unsigned device, const struct counter_histogram *h,
	const struct api_counters *c);
/* NULL: it needs none. */
const char *counter_id(const struct counter_group *g, unsigned device,
	const struct api_counters *c);
