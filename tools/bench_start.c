/*
 * How long a microVM takes to start, beside what KVM alone takes: the same tiny
 * guest, in the same run, turn by turn. Starts a mayflyd of its own.
 *
 *   bench_start [--rounds N] [--mem MIB] [--pause-ms N] [--realtime]
 *
 * Exit status: 0 when all went well, however slowly; 77 without KVM or root.
 */

#include "base/clock.h"
#include "base/error.h"
#include "bench_client.h"
#include "bench_daemon.h"
#include "bench_floor.h"
#include "bench_proc.h"
#include "bench_vm_memory.h"

#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 5
#define MAX_ROUNDS 10000

/* What is measured in each round. */
enum metric {
	FLOOR,
	FLOOR_END,
	START,    /* from send() to the guest's word */
	ANSWERED, /* 201 */
	DELETED,  /* 204 */
	RECEIVED,
	PROCESS_READY,
	CONFIGURED,
	LOADED,
	FIRST_ENTRY,
	GUEST_READY,
	PSS,
	ANONYMOUS,
	METRICS
};

static uint64_t *samples[METRICS];
static unsigned n_rounds = 200, mem_mib = 128, pause_ms = 10;
static bool realtime;

/* ---- statistics ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double percentile(enum metric m, unsigned percent)
{
	size_t i = (size_t)(n_rounds - 1) * percent / 100;

	return (double)samples[m][i];
}

/* floor: what the ratios are to, or METRICS for none. */
static void print_times(const char *what, enum metric m, enum metric floor)
{
	printf("  %-38s", what);
	for (unsigned i = 0; i < 3; i++)
		printf(" %8.3f",
			percentile(m, (unsigned[]){50, 90, 99}[i]) / 1e6);
	if (floor != METRICS)
		for (unsigned i = 0; i < 3; i++) {
			unsigned p = (unsigned[]){50, 90, 99}[i];

			printf(" %7.2f",
				percentile(m, p) / percentile(floor, p));
		}
	putchar('\n');
}

static void print_size(const char *what, enum metric m)
{
	printf("  %-38s", what);
	for (unsigned i = 0; i < 3; i++)
		printf(" %8.0f",
			percentile(m, (unsigned[]){50, 90, 99}[i]) / 1024);
	putchar('\n');
}

static void print_tables(void)
{
	for (unsigned m = 0; m < METRICS; m++)
		qsort(samples[m], n_rounds, sizeof(uint64_t), by_value);
	printf("%u rounds, 1 vCPU, %u MiB of guest memory, %u ms between%s\n\n"
	       "  %-38s %8s %8s %8s %7s %7s %7s\n",
		n_rounds, mem_mib, pause_ms, realtime ? ", SCHED_FIFO" : "",
		"ms", "p50", "p90", "p99", "x p50", "x p90", "x p99");
	print_times("raw KVM to the guest's first word", FLOOR, FLOOR);
	print_times("PUT sent to the guest's first word", START, FLOOR);
	print_times("raw KVM's descriptors closed", FLOOR_END, FLOOR_END);
	print_times("DELETE sent to 204", DELETED, FLOOR_END);
	printf("\n  %-38s %8s %8s %8s\n", "ms of the start, step by step",
		"p50", "p90", "p99");
	print_times("sent to received", RECEIVED, METRICS);
	print_times("to mayfly-vmm's main()", PROCESS_READY, METRICS);
	print_times("to machine made, jail complete", CONFIGURED, METRICS);
	print_times("to kernel loaded", LOADED, METRICS);
	print_times("to first guest entry", FIRST_ENTRY, METRICS);
	print_times("to the guest's word", GUEST_READY, METRICS);
	print_times("(PUT sent to 201)", ANSWERED, METRICS);
	printf("\n  %-38s %8s %8s %8s\n", "KiB beside guest memory, per VM",
		"p50", "p90", "p99");
	print_size("Pss", PSS);
	print_size("anonymous", ANONYMOUS);
}

/* ---- rounds ---- */

static uint64_t member(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v))
		errx(1, "the VM's timeline has no \"%s\"", key);
	return json_object_get_uint64(v);
}

static struct json_object *timeline(struct json_object *vm)
{
	struct json_object *o;

	if (!json_object_object_get_ex(vm, "timeline", &o))
		errx(1, "the VM has no timeline");
	return o;
}

/* Asks until the guest has spoken; that it has is 0.1 ms old by then. */
static struct json_object *wait_ready(struct client *c, const char *path)
{
	uint64_t deadline = clock_ns() + 10000000000ull;

	while (clock_ns() < deadline) {
		struct answer a = client_ask(c, "GET", path, NULL, 200);

		if (json_object_object_get_ex(
			    timeline(a.body), "guest_ready", NULL))
			return a.body;
		json_object_put(a.body);
	}
	errx(1, "the guest did not get to its first word in 10 s");
}

static void take_timeline(
	struct json_object *vm, uint64_t sent_ns, uint64_t **at)
{
	static const struct {
		enum metric metric;
		const char *key;
	} steps[] = {
		{PROCESS_READY, "process_ready"},
		{CONFIGURED, "configured"},
		{LOADED, "loaded"},
		{FIRST_ENTRY, "first_instruction"},
		{GUEST_READY, "guest_ready"},
	};
	struct json_object *t = timeline(vm);
	uint64_t received = member(t, "clock_monotonic_ns"), last = 0;

	*at[RECEIVED] = received - sent_ns;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct json_object *at_ns;
		/* One of the pool was there before. */
		uint64_t now =
			json_object_object_get_ex(t, steps[i].key, &at_ns)
				? json_object_get_uint64(at_ns)
				: last;

		*at[steps[i].metric] = now - last;
		last = now;
	}
	*at[START] = received - sent_ns + last;
}

static void vm_round(struct client *c, const char *body, uint64_t **at)
{
	static unsigned n;
	struct json_object *vm;
	struct answer put, del;
	struct vm_memory memory;
	char path[64];

	snprintf(path, sizeof(path), "/v1/vms/bench-%u", n++);
	put = client_ask(c, "PUT", path, body, 201);
	*at[ANSWERED] = put.answered_ns - put.sent_ns;
	json_object_put(put.body);
	vm = wait_ready(c, path);
	take_timeline(vm, put.sent_ns, at);
	vm_memory_measure(
		(pid_t)member(vm, "pid"), (uint64_t)mem_mib << 20, &memory);
	*at[PSS] = memory.pss;
	*at[ANONYMOUS] = memory.anonymous;
	json_object_put(vm);
	del = client_ask(c, "DELETE", path, NULL, 204);
	*at[DELETED] = del.answered_ns - del.sent_ns;
}

static void rest(void)
{
	const struct timespec t = {.tv_sec = pause_ms / 1000,
		.tv_nsec = pause_ms % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

static void run(struct client *c, struct floor *f, const char *body)
{
	struct error e;

	for (unsigned i = 0; i < WARM_UP + n_rounds; i++) {
		unsigned slot = i < WARM_UP ? 0 : i - WARM_UP;
		uint64_t *at[METRICS];

		for (unsigned m = 0; m < METRICS; m++)
			at[m] = &samples[m][slot];
		if (floor_round(f, at[FLOOR], at[FLOOR_END], &e) < 0)
			errx(1, "%s", e.msg);
		rest();
		vm_round(c, body, at);
		rest();
	}
}

static unsigned number(const char *s, unsigned max)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (end == s || *end || n > max)
		errx(2, "\"%s\" is not a number up to %u", s, max);
	return (unsigned)n;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"rounds", required_argument, NULL, 'r'},
		{"mem", required_argument, NULL, 'm'},
		{"pause-ms", required_argument, NULL, 'p'},
		{"realtime", no_argument, NULL, 'R'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'r')
			n_rounds = number(optarg, MAX_ROUNDS);
		else if (c == 'm')
			mem_mib = number(optarg, 2048);
		else if (c == 'p')
			pause_ms = number(optarg, 10000);
		else if (c == 'R')
			realtime = true;
		else
			exit(2);
	}
	if (optind != argc || n_rounds == 0 || mem_mib < 4)
		errx(2, "usage: bench_start [--rounds N] [--mem MIB] "
			"[--pause-ms N] [--realtime]");
}

int main(int argc, char **argv)
{
	struct client *c;
	struct floor *f;
	struct error e;
	char body[1024];

	parse(argc, argv);
	if (geteuid() != 0 || access("/dev/kvm", R_OK | W_OK) != 0) {
		warnx("this needs root and /dev/kvm");
		return 77;
	}
	if (realtime)
		proc_go_first();
	for (unsigned m = 0; m < METRICS; m++) {
		samples[m] = calloc(n_rounds, sizeof(uint64_t));
		if (!samples[m])
			err(1, "samples");
	}
	snprintf(body, sizeof(body),
		"{\"boot-source\": {\"kernel_image_path\": \"%s\"}, "
		"\"machine-config\": {\"vcpu_count\": 1, \"mem_size_mib\": %u},"
		" \"start\": true}",
		READY_GUEST, mem_mib);
	if (floor_create(&f, READY_GUEST, (uint64_t)mem_mib << 20, &e) < 0)
		errx(1, "%s", e.msg);
	bench_daemon_start(MAYFLYD, NULL);
	c = client_connect(bench_daemon_socket());
	run(c, f, body);
	client_close(c);
	floor_destroy(f);
	print_tables();
	for (unsigned m = 0; m < METRICS; m++)
		free(samples[m]);
	return 0;
}
