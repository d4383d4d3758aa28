#pragma once

/* What tools/bench fleet measures (bench_fleet.c), and how it is told
 * (bench_fleet_report.c). */

#include "bench_leftovers.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define FLEET_STAGES_MAX 8
#define FLEET_PERCENTILES 3 /* p50, p90, p99 */

enum fleet_goal {
	GOAL_P50,     /* below raw KVM's */
	GOAL_P99,     /* at most five times raw KVM's p50 */
	GOAL_PRIVATE, /* at most 1 MiB */
	GOAL_FAILURES,
	GOAL_LEFTOVERS,
	FLEET_GOALS
};

/* ns, or bytes for memory. */
struct percentiles {
	uint64_t p[FLEET_PERCENTILES];
};

/* So many connections at a time: all started, all deleted. */
struct fleet_stage {
	unsigned connections, started, refused, failed;
	uint64_t floor_ns, start_ns, delete_ns; /* for all of them */
	/* From PUT sent to the guest's first instruction, its first word, and
	 * the answer; from DELETE sent to its answer. */
	struct percentiles floor, entry, word, answer, deleted;
	struct percentiles private_bytes;
	uint64_t host_bytes; /* that were no longer available, in all */
	uint64_t start_cpu_ns, delete_cpu_ns, vmm_cpu_ns;
};

struct fleet_report {
	unsigned n, mem_mib, n_stages;
	bool realtime; /* SCHED_FIFO */
	unsigned pool; /* processes that wait for a start ... */
	bool adaptive; /* ... or as many as the daemon thinks best */
	struct fleet_stage stages[FLEET_STAGES_MAX];
	/* While all of the last stage run. */
	struct percentiles get, list, start;
	struct leftovers before, during, after;
};

/* Sorts v. */
struct percentiles percentiles_of(uint64_t *v, unsigned n);

void report_print(FILE *out, const struct fleet_report *r);
void report_json(FILE *out, const struct fleet_report *r);
/* Whether no start failed and nothing is left over: what does not depend on
 * how fast the host is. */
bool report_sound(const struct fleet_report *r);
