#include "api/counters.h"
#include "api/resources.h"
#include "api/router.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Prometheus' text format, version 0.0.4. Samples of one metric stand together,
 * so all VMs are looked at first. Ids have no character to be escaped.
 */

struct vm_sample {
	char id[VM_ID_MAX + 1];
	const char *state;
	bool has_counters;
	struct api_counters counters;
	uint64_t console_bytes;
};

struct scrape {
	struct vm_sample *vms;
	size_t n, cap;
	bool failed;
	const struct api_backend *backend;
};

static void take_vm(void *arg, const struct api_vm *vm)
{
	struct scrape *s = arg;
	struct vm_sample *v;

	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 16;

		v = reallocarray(s->vms, cap, sizeof(*v));
		if (!v) {
			s->failed = true;
			return;
		}
		s->vms = v;
		s->cap = cap;
	}
	v = &s->vms[s->n++];
	snprintf(v->id, sizeof(v->id), "%s", vm->id);
	v->state = vm->state;
	v->console_bytes = vm->console_bytes;
}

static void head(FILE *f, const char *name, const char *suffix,
	const char *type, const char *help)
{
	fprintf(f, "# HELP mayfly_%s%s %s\n# TYPE mayfly_%s%s %s\n", name,
		suffix, help, name, suffix, type);
}

static void write_counter(FILE *f, const struct scrape *s,
	const struct counter_group *g, const struct counter *c)
{
	const char *suffix = c->gauge ? "" : "_total";
	char name[80];

	snprintf(name, sizeof(name), "vm_%s%s", g->metric, c->name);
	head(f, name, suffix, c->gauge ? "gauge" : "counter", c->help);
	for (size_t i = 0; i < s->n; i++) {
		const struct vm_sample *v = &s->vms[i];
		unsigned n =
			v->has_counters ? counter_devices(g, &v->counters) : 0;

		for (unsigned d = 0; d < n; d++) {
			fprintf(f, "mayfly_%s%s{vm=\"%s\"", name, suffix,
				v->id);
			if (g->id_name)
				fprintf(f, ",%s=\"%s\"", g->label,
					counter_id(g, d, &v->counters));
			fprintf(f, "} %llu\n",
				(unsigned long long)counter_value(
					g, d, c, &v->counters));
		}
	}
}

static void write_vms(FILE *f, const struct scrape *s)
{
	head(f, "vm_state", "", "gauge", "1: the state the VM is in");
	for (size_t i = 0; i < s->n; i++)
		fprintf(f, "mayfly_vm_state{vm=\"%s\",state=\"%s\"} 1\n",
			s->vms[i].id, s->vms[i].state);
	head(f, "vm_console_bytes", "_total", "counter",
		"bytes the guest wrote to its console");
	for (size_t i = 0; i < s->n; i++)
		fprintf(f, "mayfly_vm_console_bytes_total{vm=\"%s\"} %llu\n",
			s->vms[i].id,
			(unsigned long long)s->vms[i].console_bytes);
}

/* labels: "" or "a=\"b\"," */
static void write_histogram(FILE *f, const char *name, const char *labels,
	const struct histogram *h)
{
	int n = (int)strlen(labels);
	uint64_t sum = 0;

	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		sum += h->buckets[i];
		fprintf(f, "mayfly_%s_bucket{%sle=\"%g\"} %llu\n", name, labels,
			(double)histogram_bounds_ns[i] / 1e9,
			(unsigned long long)sum);
	}
	fprintf(f, "mayfly_%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels,
		(unsigned long long)h->count);
	/* Without the comma. */
	n -= n ? 1 : 0;
	fprintf(f, "mayfly_%s_sum%s%.*s%s %.9f\n", name, n ? "{" : "", n,
		labels, n ? "}" : "", (double)h->sum_ns / 1e9);
	fprintf(f, "mayfly_%s_count%s%.*s%s %llu\n", name, n ? "{" : "", n,
		labels, n ? "}" : "", (unsigned long long)h->count);
}

static void write_requests(FILE *f)
{
	static const char name[] = "api_request_duration_seconds";
	const struct route *route;
	char labels[160];

	head(f, name, "", "histogram",
		"from a request's arrival to its answer, by route");
	for (unsigned i = 0; (route = route_at(i)); i++) {
		const struct histogram *h = route_histogram(i);

		if (h->count == 0)
			continue;
		snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\",",
			route->method, route->pattern);
		write_histogram(f, name, labels, h);
	}
}

static void write_all(FILE *f, struct scrape *s)
{
	const struct api_backend *b = s->backend;

	head(f, "build_info", "", "gauge", "1: the version that runs");
	fprintf(f, "mayfly_build_info{version=\"%s\"} 1\n", MAYFLY_VERSION);
	write_vms(f, s);
	for (unsigned g = 0; g < n_counter_groups; g++)
		for (unsigned c = 0; c < counter_groups[g].n; c++)
			write_counter(f, s, &counter_groups[g],
				&counter_groups[g].counters[c]);
	head(f, "vm_start_duration_seconds", "", "histogram",
		"from the request for a start to the running guest");
	write_histogram(f, "vm_start_duration_seconds", "",
		b->ops->start_times(b->ctx));
	write_requests(f);
}

void metrics_get(struct request *r)
{
	struct scrape s = {.backend = r->backend};
	char *text = NULL;
	size_t len = 0;
	struct error err;
	FILE *f = open_memstream(&text, &len);

	r->backend->ops->list(r->backend->ctx, take_vm, &s);
	for (size_t i = 0; i < s.n; i++)
		s.vms[i].has_counters =
			r->backend->ops->counters(r->backend->ctx, s.vms[i].id,
				&s.vms[i].counters) == 0;
	if (f)
		write_all(f, &s);
	free(s.vms);
	if (!f || fclose(f) != 0 || s.failed) {
		free(text);
		error_set(&err, ENOMEM, "out of memory");
		request_reply_error(r, &err);
		return;
	}
	request_reply_text(r, text, len, "text/plain; version=0.0.4");
}
