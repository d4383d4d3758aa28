/*
 * A fleet of tiny guests: started and deleted over 1, 16 and 64 connections at
 * a time, and asked about while all of them run. Starts a mayflyd of its own.
 *
 *   bench_fleet [--vms N] [--connections N,N,...] [--mem MIB] [--pool
 * N|adaptive]
 *               [--realtime] [--json FILE] [-- OPTION OF MAYFLYD...]
 *
 * Exit status: 0 when no start failed and nothing was left over, however
 * slowly; 77 without KVM or root.
 */

#include "bench_fleet.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench_crowd.h"
#include "bench_daemon.h"
#include "bench_many.h"
#include "bench_proc.h"
#include "bench_vm_memory.h"

#include <err.h>
#include <getopt.h>
#include <json-c/json.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_VMS 20000u
#define MAX_CONNECTIONS 1024u
#define PAGE_OF_LIST 100u
#define ASKS 2000u /* of GET, while all run */
#define SINGLE_STARTS 50u
#define READY_LIMIT_NS 30000000000ull
#define SETTLE_MS 30000u
#define POOL_MAX 1000u /* by default */
/* Away from a daemon's default range, so that its locks can be told apart. */
#define UID_FIRST 1900000000u

struct vm {
	bool running;
	pid_t pid;        /* 0: not asked yet */
	uint64_t sent_ns; /* then how long after that: */
	uint64_t answered_ns, entry_ns, word_ns, deleted_ns;
};

struct fleet {
	struct fleet_report report;
	struct leftovers_daemon daemon;
	struct floor *floor;
	struct many *many;
	struct fleet_stage *stage;
	struct vm vms[MAX_VMS + SINGLE_STARTS];
	uint64_t samples[MAX_VMS];
	unsigned offset; /* of the VM the first request is for */
	unsigned n_unready;
	char body[1024];
	const char *json_path;
};

/* ---- requests ---- */

static void set_path(struct many_request *r, const char *method, unsigned i)
{
	snprintf(r->method, sizeof(r->method), "%s", method);
	snprintf(r->path, sizeof(r->path), "/v1/vms/fleet-%u", i);
}

static void ask_put(void *arg, unsigned i, struct many_request *r)
{
	struct fleet *f = arg;

	set_path(r, "PUT", f->offset + i);
	r->body = f->body;
}

static void put_answered(void *arg, unsigned i, const struct many_answer *a)
{
	struct fleet *f = arg;
	struct vm *vm = &f->vms[f->offset + i];

	*vm = (struct vm){.running = a->status == 201,
		.sent_ns = a->sent_ns,
		.answered_ns = a->answered_ns - a->sent_ns};
	if (vm->running) {
		f->stage->started++;
	} else if ((a->status == 429 || a->status == 503) &&
		   a->retry_after_s >= 0) {
		f->stage->refused++;
	} else if (f->stage->failed++ == 0) {
		warnx("PUT fleet-%u: %d %.200s", f->offset + i, a->status,
			a->body);
	}
}

/* Instead of one that was refused: the next. */
static void ask_get(void *arg, unsigned i, struct many_request *r)
{
	struct fleet *f = arg;
	unsigned n = f->report.n, at = i % n;

	for (unsigned k = 0; k < n && !f->offset && !f->vms[at].running; k++)
		at = (at + 1) % n;
	set_path(r, "GET", f->offset + at);
}

static uint64_t member(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v)
						     : 0;
}

/* What its timeline says, once the guest has spoken. */
static void vm_answered(void *arg, unsigned i, const struct many_answer *a)
{
	struct fleet *f = arg;
	struct vm *vm = &f->vms[f->offset + i];
	struct json_object *o, *t;
	uint64_t received, word;

	if (!vm->running || vm->pid)
		return;
	if (a->status != 200)
		errx(1, "GET fleet-%u: %d %.200s", f->offset + i, a->status,
			a->body);
	o = json_tokener_parse(a->body);
	if (!json_object_object_get_ex(o, "timeline", &t))
		errx(1, "fleet-%u has no timeline: %s", f->offset + i, a->body);
	received = member(t, "clock_monotonic_ns") - vm->sent_ns;
	word = member(t, "guest_ready");
	if (word) {
		vm->entry_ns = received + member(t, "first_instruction");
		vm->word_ns = received + word;
		vm->pid = (pid_t)member(o, "pid");
	} else {
		f->n_unready++;
	}
	json_object_put(o);
}

static void ask_delete(void *arg, unsigned i, struct many_request *r)
{
	struct fleet *f = arg;

	set_path(r, "DELETE", f->offset + i);
}

static void delete_answered(void *arg, unsigned i, const struct many_answer *a)
{
	struct fleet *f = arg;
	struct vm *vm = &f->vms[f->offset + i];

	vm->deleted_ns = a->answered_ns - a->sent_ns;
	if (a->status != (vm->running ? 204 : 404) && f->stage->failed++ == 0)
		warnx("DELETE fleet-%u: %d %.200s", f->offset + i, a->status,
			a->body);
}

static void ask_list(void *arg, unsigned i, struct many_request *r)
{
	(void)arg;
	(void)i;
	snprintf(r->method, sizeof(r->method), "GET");
	snprintf(r->path, sizeof(r->path), "/v1/vms?limit=%u", PAGE_OF_LIST);
}

static void sample_answered(void *arg, unsigned i, const struct many_answer *a)
{
	struct fleet *f = arg;

	if (a->status != 200)
		errx(1, "GET: %d %.200s", a->status, a->body);
	f->samples[i] = a->answered_ns - a->sent_ns;
}

/* ---- one stage ---- */

static void run(struct fleet *f, const char *title, unsigned n,
	void (*ask)(void *, unsigned, struct many_request *),
	void (*answered)(void *, unsigned, const struct many_answer *))
{
	const struct many_work w = {n, ask, answered, f, title};

	many_run(f->many, &w);
}

/* All guests speak within microseconds of their start. */
static void wait_ready(struct fleet *f, unsigned n)
{
	uint64_t deadline = clock_ns() + READY_LIMIT_NS;

	do {
		if (clock_ns() > deadline)
			errx(1, "%u guests are silent", f->n_unready);
		f->n_unready = 0;
		run(f, "looking at", n, ask_get, vm_answered);
	} while (f->n_unready > 0);
}

static void measure_memory(struct fleet *f)
{
	struct fleet_stage *s = f->stage;
	unsigned n = 0;

	for (unsigned i = 0; i < f->report.n; i++) {
		struct vm_memory m;

		if (!f->vms[i].running)
			continue;
		vm_memory_measure(
			f->vms[i].pid, (uint64_t)f->report.mem_mib << 20, &m);
		f->samples[n++] = m.private_bytes;
	}
	s->private_bytes = percentiles_of(f->samples, n);
}

/* Of a member of struct vm, over those that run. */
static struct percentiles over_vms(struct fleet *f, size_t offset)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->report.n; i++)
		if (f->vms[i].running)
			f->samples[n++] =
				*(const uint64_t *)((const char *)&f->vms[i] +
						    offset);
	return percentiles_of(f->samples, n);
}

static void start_all(struct fleet *f)
{
	struct fleet_stage *s = f->stage;
	uint64_t available = proc_available_bytes(),
		 cpu = proc_cpu_ns(f->daemon.pid), begin = clock_ns(), after;

	run(f, "starting", f->report.n, ask_put, put_answered);
	s->start_ns = clock_ns() - begin;
	s->start_cpu_ns = proc_cpu_ns(f->daemon.pid) - cpu;
	wait_ready(f, f->report.n);
	after = proc_available_bytes();
	s->host_bytes = available > after ? available - after : 0;
	s->entry = over_vms(f, offsetof(struct vm, entry_ns));
	s->word = over_vms(f, offsetof(struct vm, word_ns));
	s->answer = over_vms(f, offsetof(struct vm, answered_ns));
	measure_memory(f);
}

static void delete_all(struct fleet *f)
{
	struct fleet_stage *s = f->stage;
	uint64_t cpu = proc_cpu_ns(f->daemon.pid), begin = clock_ns(),
		 children = proc_children_cpu_ns(f->daemon.pid);

	run(f, "deleting", f->report.n, ask_delete, delete_answered);
	s->delete_ns = clock_ns() - begin;
	s->delete_cpu_ns = proc_cpu_ns(f->daemon.pid) - cpu;
	s->vmm_cpu_ns = proc_children_cpu_ns(f->daemon.pid) - children;
	s->deleted = over_vms(f, offsetof(struct vm, deleted_ns));
}

/* While the last stage's VMs run: one connection, one request at a time. */
static void ask_about(struct fleet *f)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	struct many *all = f->many;
	struct fleet_stage *stage = f->stage, single = {0};
	struct fleet_report *r = &f->report;
	unsigned n = 0;

	f->many = many_open(bench_daemon_socket(), 1);
	run(f, "asking", ASKS, ask_get, sample_answered);
	r->get = percentiles_of(f->samples, ASKS);
	run(f, "listing", ASKS / 10, ask_list, sample_answered);
	r->list = percentiles_of(f->samples, ASKS / 10);
	f->stage = &single;
	for (unsigned i = 0; i < SINGLE_STARTS; i++) {
		f->offset = r->n + i;
		run(f, NULL, 1, ask_put, put_answered);
		wait_ready(f, 1);
		if (f->vms[f->offset].running)
			f->samples[n++] = f->vms[f->offset].word_ns;
		nanosleep(&pause, NULL);
	}
	r->start = percentiles_of(f->samples, n);
	f->offset = r->n;
	run(f, "deleting", SINGLE_STARTS, ask_delete, delete_answered);
	f->offset = 0;
	f->stage = stage;
	stage->failed += single.failed;
	stage->refused += single.refused;
	many_close(f->many);
	f->many = all;
}

/* A burst comes to a daemon at rest, whose pool is full. */
static void rest(struct fleet *f)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	uint64_t deadline = clock_ns() + SETTLE_MS * 1000000ull;
	struct leftovers now = {.waiting = 0};
	unsigned before;

	do {
		before = now.waiting;
		nanosleep(&pause, NULL);
		leftovers_count(&f->daemon, &now);
	} while ((f->report.adaptive ? now.waiting != before
				     : now.waiting != f->report.pool) &&
		 clock_ns() < deadline);
}

static void run_stage(struct fleet *f, bool last)
{
	struct fleet_stage *s = f->stage;
	struct error e;

	fprintf(stderr, "==> %u VMs over %u connection%s\n", f->report.n,
		s->connections, s->connections == 1 ? "" : "s");
	if (crowd_run(f->floor, f->report.n, s->connections, f->samples,
		    &s->floor_ns, &e) < 0)
		errx(1, "%s", e.msg);
	s->floor = percentiles_of(f->samples, f->report.n);
	f->many = many_open(bench_daemon_socket(), s->connections);
	rest(f);
	start_all(f);
	if (last) {
		rest(f);
		leftovers_count(&f->daemon, &f->report.during);
		ask_about(f);
	}
	delete_all(f);
	many_close(f->many);
}

/* ---- all ---- */

/* Whoever is first pays for what is made once. */
static void warm_up(struct fleet *f)
{
	static struct fleet_stage ignored;

	f->stage = &ignored;
	f->many = many_open(bench_daemon_socket(), 1);
	run(f, NULL, 5, ask_put, put_answered);
	wait_ready(f, 5);
	run(f, NULL, 5, ask_delete, delete_answered);
	many_close(f->many);
	if (ignored.failed > 0)
		exit(1);
}

static void run_all(struct fleet *f)
{
	struct fleet_report *r = &f->report;

	warm_up(f);
	rest(f);
	leftovers_count(&f->daemon, &r->before);
	for (unsigned i = 0; i < r->n_stages; i++) {
		f->stage = &r->stages[i];
		run_stage(f, i + 1 == r->n_stages);
	}
	leftovers_settle(&f->daemon, &r->before, SETTLE_MS, &r->after);
}

static unsigned number(const char *s, unsigned min, unsigned max)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (end == s || *end || n < min || n > max)
		errx(2, "\"%s\" is not a number from %u to %u", s, min, max);
	return (unsigned)n;
}

static void set_stages(struct fleet_report *r, char *list)
{
	r->n_stages = 0;
	for (char *s = strtok(list, ","); s; s = strtok(NULL, ",")) {
		if (r->n_stages == FLEET_STAGES_MAX)
			errx(2, "at most %d numbers of connections",
				FLEET_STAGES_MAX);
		r->stages[r->n_stages++].connections =
			number(s, 1, MAX_CONNECTIONS);
	}
	if (r->n_stages == 0)
		errx(2, "--connections wants numbers");
}

static void parse(struct fleet *f, int argc, char **argv)
{
	static const struct option options[] = {
		{"vms", required_argument, NULL, 'n'},
		{"connections", required_argument, NULL, 'c'},
		{"mem", required_argument, NULL, 'm'},
		{"pool", required_argument, NULL, 'p'},
		{"realtime", no_argument, NULL, 'R'},
		{"json", required_argument, NULL, 'j'},
		{NULL, 0, NULL, 0},
	};
	char stages[] = "1,16,64";
	int c;

	f->report.n = 1000;
	f->report.mem_mib = 128;
	f->report.pool = UINT_MAX;
	set_stages(&f->report, stages);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'n')
			f->report.n = number(optarg, 1, MAX_VMS);
		else if (c == 'c')
			set_stages(&f->report, optarg);
		else if (c == 'm')
			f->report.mem_mib = number(optarg, 16, 2048);
		else if (c == 'p' && strcmp(optarg, "adaptive") == 0)
			f->report.adaptive = true;
		else if (c == 'p')
			f->report.pool = number(optarg, 0, 4096);
		else if (c == 'R')
			f->report.realtime = true;
		else if (c == 'j')
			f->json_path = optarg;
		else
			exit(2);
	}
	if (f->report.pool == UINT_MAX)
		f->report.pool =
			f->report.n < POOL_MAX ? f->report.n : POOL_MAX;
}

/* Its own descriptors are one a connection; the daemon has some a VM. */
static void raise_limits(void)
{
	struct rlimit l;

	getrlimit(RLIMIT_NOFILE, &l);
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
}

static void open_all(struct fleet *f, char **daemon_options)
{
	char pool[12];
	const char *options[16] = {"--uid-base", "1900000000"};
	struct fleet_report *r = &f->report;
	unsigned n = 2;
	struct error e;

	snprintf(pool, sizeof(pool), "%u", r->pool);
	if (!r->adaptive) {
		options[n++] = "--pool";
		options[n++] = pool;
	}
	while (*daemon_options && n < 15)
		options[n++] = *daemon_options++;
	snprintf(f->body, sizeof(f->body),
		"{\"boot-source\": {\"kernel_image_path\": \"%s\"}, "
		"\"machine-config\": {\"vcpu_count\": 1, \"mem_size_mib\": %u},"
		" \"start\": true}",
		READY_GUEST, r->mem_mib);
	if (floor_create(
		    &f->floor, READY_GUEST, (uint64_t)r->mem_mib << 20, &e) < 0)
		errx(1, "%s", e.msg);
	bench_daemon_start(MAYFLYD, options);
	bench_daemon_wait();
	f->daemon =
		(struct leftovers_daemon){bench_daemon_pid(), UID_FIRST, 65536};
}

int main(int argc, char **argv)
{
	static struct fleet f;
	FILE *json = NULL;

	parse(&f, argc, argv);
	if (geteuid() != 0 || access("/dev/kvm", R_OK | W_OK) != 0) {
		warnx("this needs root and /dev/kvm");
		return 77;
	}
	raise_limits();
	if (f.report.realtime)
		proc_go_first();
	if (f.json_path && !(json = fopen(f.json_path, "we")))
		err(1, "%s", f.json_path);
	open_all(&f, argv + optind);
	run_all(&f);
	report_print(stdout, &f.report);
	if (json) {
		report_json(json, &f.report);
		fclose(json);
	}
	floor_destroy(f.floor);
	return report_sound(&f.report) ? 0 : 1;
}
