#pragma once

/*
 * Looks at the memory of all VMs' processes, one after the other, for as long
 * as somebody scrapes the metrics. A large guest takes the kernel tens of
 * milliseconds, so a thread of its own reads the files, the only one of the
 * daemon's beside its loop; it is there from the first scrape on, and knows
 * nothing but one open file at a time.
 */

#include "daemon/loop.h"
#include "daemon/registry.h"

/* Each VM once in so long. */
#define SAMPLER_ROUND_NS 10000000000u
/* After the last scrape. */
#define SAMPLER_WANTED_NS 150000000000u

struct sampler;

/* Both borrowed. */
int sampler_create(struct sampler **ret, struct loop *loop,
	const struct registry *vms, struct error *err);
void sampler_destroy(struct sampler *s); /* NULL is fine */

/* Somebody scrapes. What fails is tried again the next time. */
void sampler_want(struct sampler *s);
