#include "bench_fleet.h"

#include <json-c/json.h>
#include <stdlib.h>

enum { P50, P90, P99 };

#define PRIVATE_MAX (1u << 20)
#define P99_TIMES 5

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct percentiles percentiles_of(uint64_t *v, unsigned n)
{
	static const unsigned percents[FLEET_PERCENTILES] = {50, 90, 99};
	struct percentiles r = {{0}};

	qsort(v, n, sizeof(*v), by_value);
	for (unsigned i = 0; i < FLEET_PERCENTILES && n > 0; i++)
		r.p[i] = v[(size_t)(n - 1) * percents[i] / 100];
	return r;
}

static bool goal_met(
	const struct fleet_report *r, const struct fleet_stage *s, unsigned g)
{
	unsigned n = 0;

	switch ((enum fleet_goal)g) {
	case GOAL_P50:
		return s->word.p[P50] < s->floor.p[P50];
	case GOAL_P99:
		return s->word.p[P99] <= P99_TIMES * s->floor.p[P50];
	case GOAL_PRIVATE:
		return s->private_bytes.p[P99] <= PRIVATE_MAX;
	case GOAL_FAILURES:
		return s->failed == 0;
	case GOAL_LEFTOVERS:
		for (unsigned i = 0; i < LEFTOVERS; i++)
			n += r->after.n[i] > r->before.n[i];
		return n == 0;
	case FLEET_GOALS:
		break;
	}
	return false;
}

bool report_sound(const struct fleet_report *r)
{
	bool ok = goal_met(r, &r->stages[0], GOAL_LEFTOVERS);

	for (unsigned i = 0; i < r->n_stages; i++)
		ok &= goal_met(r, &r->stages[i], GOAL_FAILURES);
	return ok;
}

/* ---- the table ---- */

/* One line: a number for each stage. */
#define LINE(title, format, value)                                             \
	do {                                                                   \
		fprintf(out, "  %-46s", title);                                \
		for (unsigned i_ = 0; i_ < r->n_stages; i_++) {                \
			const struct fleet_stage *s = &r->stages[i_];          \
                                                                               \
			fprintf(out, format, value);                           \
		}                                                              \
		fputc('\n', out);                                              \
	} while (0)

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double per_second(unsigned n, uint64_t ns)
{
	return ns ? n / ((double)ns / 1e9) : 0;
}

static double times(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

/* Of each VM that was started. */
static double share(const struct fleet_stage *s, uint64_t total)
{
	return s->started ? (double)total / s->started : 0;
}

static void print_stages(FILE *out, const struct fleet_report *r)
{
	LINE("connections", "%10u", s->connections);
	LINE("raw KVM, as many at a time: VMs a second", "%10.0f",
		per_second(r->n, s->floor_ns));
	LINE("started, VMs a second", "%10.0f",
		per_second(s->started, s->start_ns));
	LINE("deleted, VMs a second", "%10.0f",
		per_second(s->started, s->delete_ns));
	fprintf(out, "\n  to the guest's first word, ms\n");
	LINE("raw KVM, p50", "%10.3f", ms(s->floor.p[P50]));
	LINE("raw KVM, p99", "%10.3f", ms(s->floor.p[P99]));
	LINE("from PUT sent, p50", "%10.3f", ms(s->word.p[P50]));
	LINE("from PUT sent, p99", "%10.3f", ms(s->word.p[P99]));
	LINE("p50, times raw KVM's p50 (goal: below 1)", "%10.2f",
		times(s->word.p[P50], s->floor.p[P50]));
	LINE("p99, times raw KVM's p50 (goal: at most 5)", "%10.2f",
		times(s->word.p[P99], s->floor.p[P50]));
	fprintf(out, "\n  other times, ms\n");
	LINE("PUT sent to the first instruction, p50", "%10.3f",
		ms(s->entry.p[P50]));
	LINE("PUT sent to 201, p50", "%10.3f", ms(s->answer.p[P50]));
	LINE("PUT sent to 201, p99", "%10.3f", ms(s->answer.p[P99]));
	LINE("DELETE sent to 204, p50", "%10.3f", ms(s->deleted.p[P50]));
	LINE("DELETE sent to 204, p99", "%10.3f", ms(s->deleted.p[P99]));
	fprintf(out, "\n  what one VM costs\n");
	LINE("private memory, KiB, p50", "%10.0f",
		(double)s->private_bytes.p[P50] / 1024);
	LINE("private memory, KiB, p99 (goal: at most 1024)", "%10.0f",
		(double)s->private_bytes.p[P99] / 1024);
	LINE("all memory the host has less of, KiB", "%10.0f",
		share(s, s->host_bytes) / 1024);
	LINE("the daemon's CPU, ms: start", "%10.3f",
		share(s, s->start_cpu_ns) / 1e6);
	LINE("the daemon's CPU, ms: deletion", "%10.3f",
		share(s, s->delete_cpu_ns) / 1e6);
	LINE("its own process's CPU, ms", "%10.3f",
		share(s, s->vmm_cpu_ns) / 1e6);
	fputc('\n', out);
	LINE("refused for now (429, 503)", "%10u", s->refused);
	LINE("failed (goal: 0)", "%10u", s->failed);
}

static void print_running(FILE *out, const struct fleet_report *r)
{
	const struct {
		const char *title;
		const struct percentiles *p;
	} rows[] = {
		{"GET /v1/vms/{id}", &r->get},
		{"GET /v1/vms, a page of 100", &r->list},
		{"one more start, to its guest's first word", &r->start},
	};

	fprintf(out, "\n  with %u running, ms\n  %-46s%10s%10s%10s\n",
		r->stages[r->n_stages - 1].started, "", "p50", "p90", "p99");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		fprintf(out, "  %-46s%10.3f%10.3f%10.3f\n", rows[i].title,
			ms(rows[i].p->p[P50]), ms(rows[i].p->p[P90]),
			ms(rows[i].p->p[P99]));
}

static void print_leftovers(FILE *out, const struct fleet_report *r)
{
	fprintf(out, "\n  %-46s%10s%10s%10s\n",
		"left over (goal: no more after)", "before", "running",
		"after");
	for (unsigned i = 0; i < LEFTOVERS; i++)
		fprintf(out, "  %-46s%10u%10u%10u\n", leftover_name(i),
			r->before.n[i], r->during.n[i], r->after.n[i]);
}

static void print_goals(FILE *out, const struct fleet_report *r)
{
	static const char *const names[FLEET_GOALS] = {
		"p50 below raw KVM's",
		"p99 at most five times raw KVM's p50",
		"private memory at most 1 MiB",
		"no failure",
		"nothing left over",
	};

	fputc('\n', out);
	for (unsigned g = 0; g < FLEET_GOALS; g++)
		LINE(names[g], "%10s", goal_met(r, s, g) ? "yes" : "NO");
}

void report_print(FILE *out, const struct fleet_report *r)
{
	fprintf(out,
		"%u VMs of 1 vCPU and %u MiB, started, all of them running, "
		"then deleted; %u waiting in the pool%s%s\n\n",
		r->n, r->mem_mib, r->adaptive ? r->before.waiting : r->pool,
		r->adaptive ? " at first (adaptive)" : "",
		r->realtime ? "; SCHED_FIFO" : "");
	print_stages(out, r);
	print_running(out, r);
	print_leftovers(out, r);
	print_goals(out, r);
}

/* ---- JSON ---- */

static struct json_object *json_percentiles(const struct percentiles *p)
{
	static const char *const names[] = {"p50", "p90", "p99"};
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; i < FLEET_PERCENTILES; i++)
		json_object_object_add(
			o, names[i], json_object_new_uint64(p->p[i]));
	return o;
}

static void add_uint(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_percentiles(
	struct json_object *o, const char *key, const struct percentiles *p)
{
	json_object_object_add(o, key, json_percentiles(p));
}

static struct json_object *json_stage(
	const struct fleet_report *r, const struct fleet_stage *s)
{
	static const char *const goals[FLEET_GOALS] = {
		"p50", "p99", "private_memory", "failures", "leftovers"};
	struct json_object *o = json_object_new_object(),
			   *met = json_object_new_object();

	add_uint(o, "connections", s->connections);
	add_uint(o, "started", s->started);
	add_uint(o, "refused", s->refused);
	add_uint(o, "failed", s->failed);
	add_uint(o, "floor_all_ns", s->floor_ns);
	add_uint(o, "start_all_ns", s->start_ns);
	add_uint(o, "delete_all_ns", s->delete_ns);
	add_percentiles(o, "floor_ns", &s->floor);
	add_percentiles(o, "first_instruction_ns", &s->entry);
	add_percentiles(o, "first_word_ns", &s->word);
	add_percentiles(o, "answer_ns", &s->answer);
	add_percentiles(o, "delete_ns", &s->deleted);
	add_percentiles(o, "private_bytes", &s->private_bytes);
	add_uint(o, "host_bytes", s->host_bytes);
	add_uint(o, "daemon_start_cpu_ns", s->start_cpu_ns);
	add_uint(o, "daemon_delete_cpu_ns", s->delete_cpu_ns);
	add_uint(o, "vmm_cpu_ns", s->vmm_cpu_ns);
	for (unsigned g = 0; g < FLEET_GOALS; g++)
		json_object_object_add(met, goals[g],
			json_object_new_boolean(goal_met(r, s, g)));
	json_object_object_add(o, "goals_met", met);
	return o;
}

void report_json(FILE *out, const struct fleet_report *r)
{
	struct json_object *o = json_object_new_object(),
			   *stages = json_object_new_array(),
			   *running = json_object_new_object(),
			   *before = json_object_new_object(),
			   *during = json_object_new_object(),
			   *after = json_object_new_object();

	add_uint(o, "vms", r->n);
	add_uint(o, "mem_size_mib", r->mem_mib);
	add_uint(o, "pool", r->pool);
	for (unsigned i = 0; i < r->n_stages; i++)
		json_object_array_add(stages, json_stage(r, &r->stages[i]));
	json_object_object_add(o, "stages", stages);
	add_percentiles(running, "get_ns", &r->get);
	add_percentiles(running, "list_ns", &r->list);
	add_percentiles(running, "start_ns", &r->start);
	json_object_object_add(o, "running", running);
	for (unsigned i = 0; i < LEFTOVERS; i++) {
		add_uint(before, leftover_name(i), r->before.n[i]);
		add_uint(during, leftover_name(i), r->during.n[i]);
		add_uint(after, leftover_name(i), r->after.n[i]);
	}
	json_object_object_add(o, "before", before);
	json_object_object_add(o, "while_running", during);
	json_object_object_add(o, "after", after);
	fprintf(out, "%s\n",
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}
