#include "api/resources.h"
#include "api/router.h"
#include "api/vm_metrics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * A scrape goes out as it is made, a piece in each turn of the daemon's loop,
 * so that a thousand VMs hold up nobody else. Samples of one metric have to
 * stand together: so the VMs there are now are noted first, what each has to
 * tell is taken when its first line is written, and then metric after metric is
 * written from that. A VM that goes meanwhile is still told of, or is not.
 */

/* VMs in one piece: reading one's numbers takes some 10 us. */
#define TAKE_PER_TURN 32u
/* ... and bytes, more or less: a VM with many devices is not cut. */
#define PIECE_BYTES 16384u

struct scrape {
	struct vm_id {
		char id[VM_ID_MAX + 1];
	} * ids;
	size_t n_ids, cap_ids;
	size_t n_taken;        /* of ids */
	struct vm_sample *vms; /* of them, but for those gone meanwhile */
	size_t n_vms;

	/* What comes next: this metric of this VM. */
	bool begun; /* what is not of VMs has been written */
	unsigned metric;
	size_t vm;

	bool failed, all_written;
	struct exposition out; /* the piece that is on its way */
	size_t sent;
};

static bool note_id(void *arg, const struct api_vm *vm)
{
	struct scrape *s = arg;

	if (s->n_ids == s->cap_ids) {
		size_t cap = s->cap_ids ? 2 * s->cap_ids : 64;
		struct vm_id *more = reallocarray(s->ids, cap, sizeof(*more));

		if (!more) {
			s->failed = true;
			return false;
		}
		s->ids = more;
		s->cap_ids = cap;
	}
	snprintf(s->ids[s->n_ids].id, sizeof(s->ids[0].id), "%s", vm->id);
	s->n_ids++;
	return true;
}

static int begin(const struct api_backend *b, struct api_reader *reader,
	void *arg, struct error *err)
{
	struct scrape *s = arg;

	(void)reader;
	b->ops->scraped(b->ctx);
	b->ops->list(b->ctx, 0, note_id, s);
	if (s->n_ids && !s->failed) {
		s->vms = calloc(s->n_ids, sizeof(*s->vms));
		s->failed = !s->vms;
	}
	return s->failed ? error_set(err, ENOMEM, "out of memory") : 0;
}

/* ---- what is not of VMs ---- */

static void write_requests(struct exposition *e)
{
	static const char name[] = "api_request_duration_seconds";
	struct route_time t;
	char labels[160];

	exposition_head(e, name, "", "histogram",
		"from a request's arrival to its answer");
	for (unsigned i = 0; route_time_at(i, &t); i++) {
		if (histogram_count(t.histogram) == 0)
			continue;
		snprintf(labels, sizeof(labels),
			"method=\"%s\",route=\"%s\",status=\"%uxx\"", t.method,
			t.pattern, t.status_class);
		exposition_histogram(e, name, labels, t.histogram);
	}
}

static void write_number(struct exposition *e, const char *name,
	const char *type, const char *help, uint64_t value)
{
	exposition_head(e, name, "", type, help);
	exposition_sample(e, name, "", "", value);
}

static void write_daemon(const struct api_backend *b, struct exposition *e)
{
	const struct api_pool *pool = b->ops->pool(b->ctx);

	exposition_head(
		e, "build_info", "", "gauge", "1: the version that runs");
	exposition_sample(
		e, "build_info", "", "version=\"" MAYFLY_VERSION "\"", 1);
	write_number(e, "pool_ready", "gauge",
		"processes that wait for a VM to become", pool->ready);
	write_number(e, "pool_target", "gauge",
		"how many of them there are to be", pool->target);
	exposition_head(e, "pool_starts", "_total", "counter",
		"starts of VMs, by whether the pool had a process for them");
	exposition_sample(e, "pool_starts", "_total", "from=\"pool\"",
		pool->starts_from_pool);
	exposition_sample(e, "pool_starts", "_total", "from=\"nothing\"",
		pool->starts_without);
	exposition_head(e, "vm_start_duration_seconds", "", "histogram",
		"from the request for a start to the running guest");
	exposition_histogram(e, "vm_start_duration_seconds", "",
		b->ops->start_times(b->ctx));
	write_requests(e);
}

/* ---- what is ---- */

static void take_vm(const struct api_backend *b, struct scrape *s)
{
	const char *id = s->ids[s->n_taken++].id;
	struct api_counters counters;
	struct api_vm vm;
	struct error ignored;
	bool has;

	if (b->ops->get(b->ctx, id, &vm, &ignored) < 0)
		return;
	has = b->ops->counters(b->ctx, id, &counters) == 0;
	if (vm_sample_take(&s->vms[s->n_vms], &vm, has ? &counters : NULL))
		s->n_vms++;
	else
		s->failed = true;
}

/* Writes one VM's lines of the metric that is under way, or begins the next.
 * False: that was all. */
static bool write_next(struct scrape *s)
{
	const struct vm_metric *m = vm_metric_at(s->metric);

	if (!m)
		return false;
	if (s->vm == 0)
		vm_metric_head(m, &s->out);
	if (s->vm < s->n_vms) {
		vm_metric_write(m, &s->out, &s->vms[s->vm++]);
	} else {
		s->metric++;
		s->vm = 0;
	}
	return true;
}

/* The first piece has what is not of VMs; the samples of all VMs are taken
 * while the first metric is written. */
static void write_piece(const struct api_backend *b, struct scrape *s)
{
	unsigned taken = 0;

	if (!s->begun) {
		s->begun = true;
		write_daemon(b, &s->out);
		return;
	}
	while (s->out.len < PIECE_BYTES && !s->failed && !s->all_written) {
		if (s->vm < s->n_vms || s->n_taken == s->n_ids)
			s->all_written = !write_next(s);
		else if (taken++ < TAKE_PER_TURN || s->out.len == 0)
			take_vm(b, s);
		else
			break;
	}
}

static ssize_t read_scrape(const struct api_backend *b,
	struct api_reader *reader, void *arg, char *buf, size_t max)
{
	struct scrape *s = arg;
	size_t n;

	(void)reader;
	if (s->sent == s->out.len) {
		if (s->all_written)
			return -ENODATA;
		s->sent = s->out.len = 0;
		write_piece(b, s);
	}
	if (s->failed || s->out.failed)
		return -ENOMEM;
	if (s->out.len == 0)
		return -ENODATA;
	n = s->out.len - s->sent < max ? s->out.len - s->sent : max;
	memcpy(buf, s->out.text + s->sent, n);
	s->sent += n;
	return (ssize_t)n;
}

static void end(const struct api_backend *b, struct api_reader *reader)
{
	(void)b;
	(void)reader;
}

static void scrape_free(void *arg)
{
	struct scrape *s = arg;

	for (size_t i = 0; i < s->n_vms; i++)
		vm_sample_fini(&s->vms[i]);
	free(s->vms);
	free(s->ids);
	exposition_fini(&s->out);
	free(s);
}

static const struct stream_ops send_scrape = {
	.content_type = "text/plain; version=0.0.4",
	.ends = true,
	.begin = begin,
	.read = read_scrape,
	.end = end,
	.release = scrape_free,
};

void metrics_get(struct request *r)
{
	struct scrape *s = calloc(1, sizeof(*s));
	struct error err;

	if (!s) {
		error_set(&err, ENOMEM, "out of memory");
		request_reply_error(r, &err);
		return;
	}
	request_reply_stream(r, &send_scrape, s);
}
