#include "api/vm_metrics.h"

#include <stdio.h>
#include <string.h>

#define METRICS_MAX 128u

#define LABELS_BYTES (2 * VM_ID_MAX + 80)

struct vm_metric {
	char name[64];
	const char *suffix, *type, *help;
	void (*write)(const struct vm_metric *m, struct exposition *e,
		const struct vm_sample *v);
	/* Of a group of counters: those that are this metric. */
	unsigned group, first, n;
};

/* The same for as long as the process lives, on its one thread. */
static struct vm_metric metrics[METRICS_MAX];
static unsigned n_metrics;

static void write_state(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	char labels[LABELS_BYTES];

	snprintf(
		labels, sizeof(labels), "%s,state=\"%s\"", v->labels, v->state);
	exposition_sample(e, m->name, m->suffix, labels, 1);
}

static void write_console(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	exposition_sample(e, m->name, m->suffix, v->labels, v->console_bytes);
}

static void write_pss(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	if (v->has_memory)
		exposition_sample(
			e, m->name, m->suffix, v->labels, v->pss_bytes);
}

static void write_touched(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	if (v->has_memory)
		exposition_sample(
			e, m->name, m->suffix, v->labels, v->touched_bytes);
}

/* A device's labels, and one more where there is one. */
static const char *add_label(char buf[LABELS_BYTES],
	const struct sampled_device *d, const char *label, const char *value)
{
	if (!label)
		return d->labels;
	snprintf(buf, LABELS_BYTES, "%s,%s=\"%s\"", d->labels, label, value);
	return buf;
}

static void write_counters(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	const struct counter *c = counter_groups[m->group].counters;
	char buf[LABELS_BYTES];

	for (unsigned k = 0; k < v->n_devices; k++) {
		const struct sampled_device *d = &v->devices[k];

		if (d->group != m->group)
			continue;
		for (unsigned i = m->first; i < m->first + m->n; i++)
			exposition_sample(e, m->name, m->suffix,
				add_label(buf, d, c[i].label, c[i].value),
				d->values[i]);
	}
}

/* What never happened is left out: most disks are never flushed. */
static void write_histograms(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	const struct counter_histogram *h = counter_groups[m->group].histograms;
	char buf[LABELS_BYTES];

	for (unsigned k = 0; k < v->n_devices; k++) {
		const struct sampled_device *d = &v->devices[k];

		if (d->group != m->group)
			continue;
		for (unsigned i = m->first; i < m->first + m->n; i++)
			if (histogram_count(&d->histograms[i]))
				exposition_histogram(e, m->name,
					add_label(
						buf, d, h[i].label, h[i].value),
					&d->histograms[i]);
	}
}

static const struct vm_metric of_the_vm[] = {
	{.name = "vm_state",
		.suffix = "",
		.type = "gauge",
		.help = "1: the state the VM is in",
		.write = write_state},
	{.name = "vm_console_bytes",
		.suffix = "_total",
		.type = "counter",
		.help = "bytes the guest wrote to its console",
		.write = write_console},
	{.name = "vm_memory_pss_bytes",
		.suffix = "",
		.type = "gauge",
		.help = "the process's proportional share of memory, huge "
			"pages included; sampled",
		.write = write_pss},
	{.name = "vm_memory_touched_bytes",
		.suffix = "",
		.type = "gauge",
		.help = "anonymous memory: what the guest has touched, and "
			"some 100 KiB of the VMM's own; sampled",
		.write = write_touched},
};

static struct vm_metric *add(const struct vm_metric *m)
{
	if (n_metrics == METRICS_MAX)
		return NULL;
	metrics[n_metrics] = *m;
	return &metrics[n_metrics++];
}

/* Counters of one family stand side by side in their table. */
static void add_counter(unsigned group, unsigned i)
{
	const struct counter_group *g = &counter_groups[group];
	const struct counter *c = &g->counters[i];
	struct vm_metric m = {
		.suffix = c->gauge ? "" : "_total",
		.type = c->gauge ? "gauge" : "counter",
		.help = c->help,
		.write = write_counters,
		.group = group,
		.first = i,
		.n = 1,
	};

	if (c->family && i > 0 && c[-1].family &&
		strcmp(c->family, c[-1].family) == 0) {
		metrics[n_metrics - 1].n++;
		return;
	}
	snprintf(m.name, sizeof(m.name), "vm_%s%s", g->metric,
		c->family ? c->family : c->name);
	add(&m);
}

/* Those of one group are one metric. */
static void add_histograms(unsigned group)
{
	const struct counter_group *g = &counter_groups[group];
	struct vm_metric m = {
		.suffix = "",
		.type = "histogram",
		.write = write_histograms,
		.group = group,
		.n = g->n_histograms,
	};

	if (g->n_histograms == 0)
		return;
	m.help = g->histograms[0].help;
	snprintf(m.name, sizeof(m.name), "vm_%s%s", g->metric,
		g->histograms[0].name);
	add(&m);
}

static void list_all(void)
{
	for (unsigned i = 0; i < sizeof(of_the_vm) / sizeof(of_the_vm[0]); i++)
		add(&of_the_vm[i]);
	for (unsigned g = 0; g < n_counter_groups; g++) {
		for (unsigned i = 0; i < counter_groups[g].n; i++)
			add_counter(g, i);
		add_histograms(g);
	}
}

const struct vm_metric *vm_metric_at(unsigned n)
{
	if (n_metrics == 0)
		list_all();
	return n < n_metrics ? &metrics[n] : NULL;
}

void vm_metric_head(const struct vm_metric *m, struct exposition *e)
{
	exposition_head(e, m->name, m->suffix, m->type, m->help);
}

void vm_metric_write(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v)
{
	m->write(m, e, v);
}
