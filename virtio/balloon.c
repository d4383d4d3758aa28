#include "virtio/balloon.h"

#include "base/clock.h"
#include "base/counter.h"
#include "virtio/balloon_hint.h"
#include "virtio/balloon_pages.h"
#include "virtio/balloon_stats.h"
#include "virtio/vq_service.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* In the order of the specification (virtio 1.2 §5.5.2). */
enum role { INFLATE, DEFLATE, STATS, HINT, REPORT, ROLES };

/* Linux reports 32 ranges at a time and wants a ring for them. */
#define QUEUE_SIZE 128

/* What a call of a handler does at most, and of calls in a turn. */
#define PFNS_PER_CALL 512u
#define RANGE_BYTES_PER_CALL ((size_t)64 << 20)
#define CALLS_PER_TURN 4

#define NS_PER_S 1000000000ull

struct balloon {
	struct virtio_dev dev;
	struct virtq vqs[ROLES];
	struct virtio_balloon_config space;
	struct balloon_config config;
	struct worker *worker;
	uint32_t poison; /* space's, which is the transport's; atomic */

	/* The worker's. */
	struct vq_service services[ROLES]; /* by queue */
	struct vq_service *serving[ROLES]; /* by role; NULL: not there */
	size_t done[ROLES];
	uint64_t stats_interval_ns, stats_came_ns;
	struct balloon_hint hint;
};

static struct balloon *balloon_of(struct virtio_dev *d)
{
	return (struct balloon *)((char *)d - offsetof(struct balloon, dev));
}

static void publish(uint64_t *at, uint64_t value)
{
	__atomic_store_n(at, value, __ATOMIC_RELAXED);
}

/* ---- the queues ---- */

/* A chain that asks for much is done a part a call, so that others on the
 * worker have their turn. Returns whether it is done with. */
static bool part_done(size_t *done, size_t part, size_t all, uint64_t *retry_ns)
{
	*done += part;
	*retry_ns = VQ_SERVICE_NEXT_TURN;
	return *done == all;
}

static int64_t inflate(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct balloon *b = balloon_of(s->dev);
	struct balloon_state *state = b->config.state;
	const struct iovs *from = &s->chain.rd;
	size_t all = from->len / sizeof(uint32_t);
	uint32_t pfns[PFNS_PER_CALL];
	struct balloon_drop drop = {0};
	size_t *done = &b->done[INFLATE], n;

	if (!s->again) {
		*done = 0;
		if (all == 0 || from->len % sizeof(uint32_t))
			counter_add(&state->malformed, 1);
	}
	n = all - *done < PFNS_PER_CALL ? all - *done : PFNS_PER_CALL;
	iovs_read(from, *done * sizeof(pfns[0]), pfns, n * sizeof(pfns[0]));
	balloon_drop_pfns(b->config.mem, pfns, (unsigned)n, &drop);
	counter_add(&state->inflated_pages, drop.pages);
	counter_add(&state->malformed, drop.unknown);
	counter_add(&state->errors, drop.errors);
	return part_done(done, n, all, ret_retry_ns) ? 0 : VQ_SERVICE_HOLD;
}

/* The guest touches what it takes back, and so gets it. */
static int64_t deflate(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct balloon_state *state = balloon_of(s->dev)->config.state;
	size_t n = s->chain.rd.len / sizeof(uint32_t);

	(void)ret_retry_ns;
	if (n == 0 || s->chain.rd.len % sizeof(uint32_t))
		counter_add(&state->malformed, 1);
	counter_add(&state->deflated_pages, n);
	return 0;
}

/* The buffer is kept: giving it back is how the next statistics are asked for
 * (§5.5.6.3). */
static int64_t stats(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct balloon *b = balloon_of(s->dev);
	uint64_t now = clock_ns();

	if (!s->again) {
		b->stats_came_ns = now;
		if (balloon_stats_take(b->config.state, &s->chain.rd) < 0)
			counter_add(&b->config.state->malformed, 1);
	}
	*ret_retry_ns = b->stats_came_ns + b->stats_interval_ns;
	return now >= *ret_retry_ns ? 0 : VQ_SERVICE_HOLD;
}

/* Whether the driver relies on free pages keeping a pattern, which those that
 * went to the host and came back do not have (§5.5.6.4). */
static bool pattern_kept(const struct balloon *b)
{
	return (b->dev.acked & 1ull << VIRTIO_BALLOON_F_PAGE_POISON) &&
	       __atomic_load_n(&b->poison, __ATOMIC_RELAXED) != 0;
}

/* Free ranges, of a report or a hint. */
static int64_t drop_ranges(struct vq_service *s, enum role role, bool wanted,
	uint64_t *counter, uint64_t *ret_retry_ns)
{
	struct balloon *b = balloon_of(s->dev);
	size_t *done = &b->done[role], n = s->chain.wr.len;
	struct balloon_drop drop = {0};

	if (!wanted || pattern_kept(b))
		return 0;
	if (!s->again)
		*done = 0;
	n -= *done;
	if (n > RANGE_BYTES_PER_CALL)
		n = RANGE_BYTES_PER_CALL;
	balloon_drop_view(b->config.mem, &s->chain.wr, *done, n, &drop);
	counter_add(counter, drop.bytes);
	counter_add(&b->config.state->errors, drop.errors);
	return part_done(done, n, s->chain.wr.len, ret_retry_ns)
		       ? 0
		       : VQ_SERVICE_HOLD;
}

static int64_t report(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct balloon_state *state = balloon_of(s->dev)->config.state;

	if (s->chain.wr.len == 0)
		counter_add(&state->malformed, 1);
	return drop_ranges(
		s, REPORT, true, &state->reported_bytes, ret_retry_ns);
}

static void tell_hint_cmd(struct balloon *b)
{
	b->dev.transport->config_update(&b->dev,
		offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
		&b->hint.host_cmd, sizeof(b->hint.host_cmd));
	publish(&b->config.state->hint_host_cmd, b->hint.host_cmd);
}

static void take_hint_cmd(struct balloon *b, const struct iovs *from)
{
	uint32_t cmd;

	if (iovs_read(from, 0, &cmd, sizeof(cmd)) < 0) {
		counter_add(&b->config.state->malformed, 1);
		return;
	}
	publish(&b->config.state->hint_guest_cmd, cmd);
	if (balloon_hint_take(&b->hint, cmd))
		tell_hint_cmd(b);
}

/* A command in what we read, free ranges in what we might write. */
static int64_t hint(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct balloon *b = balloon_of(s->dev);

	if (!s->again && s->chain.rd.len > 0)
		take_hint_cmd(b, &s->chain.rd);
	/* Hints of a run that is over may name pages in use again. */
	return drop_ranges(s, HINT, balloon_hint_running(&b->hint),
		&b->config.state->hinted_bytes, ret_retry_ns);
}

/* ---- starting and stopping ---- */

static bool role_there(const struct balloon *b, enum role role)
{
	static const unsigned bits[ROLES] = {
		[INFLATE] = VIRTIO_F_VERSION_1, /* which all drivers take */
		[DEFLATE] = VIRTIO_F_VERSION_1,
		[STATS] = VIRTIO_BALLOON_F_STATS_VQ,
		[HINT] = VIRTIO_BALLOON_F_FREE_PAGE_HINT,
		[REPORT] = VIRTIO_BALLOON_F_REPORTING,
	};

	return b->dev.acked & 1ull << bits[role];
}

/*
 * Which queue is for what. The specification gives each a number, there or not;
 * Linux counts only those whose features it took. A queue in use that would be
 * none by Linux' count tells the two apart.
 */
static void assign_queues(const struct balloon *b, int *ret_queues)
{
	unsigned n_there = 0;
	bool counted = true;

	for (unsigned role = 0; role < ROLES; role++)
		ret_queues[role] = role_there(b, role) ? (int)n_there++ : -1;
	for (unsigned q = n_there; q < b->dev.n_vqs; q++)
		if (b->vqs[q].ready)
			counted = false;
	for (unsigned role = 0; !counted && role < ROLES; role++)
		if (ret_queues[role] >= 0)
			ret_queues[role] = (int)role;
}

static void start_on_worker(void *arg)
{
	static const struct vq_service_ops ops[ROLES] = {
		[INFLATE] = {.handle = inflate},
		[DEFLATE] = {.handle = deflate},
		[STATS] = {.handle = stats},
		[HINT] = {.handle = hint},
		[REPORT] = {.handle = report},
	};
	struct balloon *b = arg;
	int queues[ROLES];

	assign_queues(b, queues);
	for (unsigned role = 0; role < ROLES; role++) {
		int q = queues[role];

		if (q < 0 || !b->vqs[q].ready)
			continue;
		b->serving[role] = &b->services[q];
		vq_service_start(b->serving[role], &ops[role]);
	}
}

static int balloon_start(struct virtio_dev *d)
{
	struct balloon *b = balloon_of(d);

	/* These two are the first by any count. */
	if (!b->vqs[INFLATE].ready || !b->vqs[DEFLATE].ready)
		return -EINVAL;
	worker_call(b->worker, start_on_worker, b);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct balloon *b = arg;
	struct balloon_state *state = b->config.state;

	for (unsigned role = 0; role < ROLES; role++) {
		if (b->serving[role])
			vq_service_stop(b->serving[role]);
		b->serving[role] = NULL;
	}
	/* The next driver knows of no run and has told nothing. */
	b->hint.host_cmd = b->hint.guest_cmd = VIRTIO_BALLOON_CMD_ID_STOP;
	publish(&state->hint_host_cmd, VIRTIO_BALLOON_CMD_ID_STOP);
	publish(&state->hint_guest_cmd, VIRTIO_BALLOON_CMD_ID_STOP);
	balloon_stats_clear(state);
}

static void store(struct balloon *b, size_t off, uint32_t value)
{
	b->dev.transport->config_set(&b->dev, off, &value, sizeof(value));
}

static void balloon_stop(struct virtio_dev *d)
{
	struct balloon *b = balloon_of(d);

	worker_call(b->worker, stop_on_worker, b);
	store(b, offsetof(struct virtio_balloon_config, actual), 0);
	store(b, offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
		VIRTIO_BALLOON_CMD_ID_STOP);
	store(b, offsetof(struct virtio_balloon_config, poison_val), 0);
	publish(&b->config.state->actual_pages, 0);
	__atomic_store_n(&b->poison, 0, __ATOMIC_RELAXED);
}

/* The driver's two fields; it writes each whole (§4.2.2.2). */
static void balloon_config_write(
	struct virtio_dev *d, size_t off, const void *data, size_t len)
{
	struct balloon *b = balloon_of(d);
	uint32_t value;

	if (len != sizeof(value))
		return;
	memcpy(&value, data, sizeof(value));
	if (off == offsetof(struct virtio_balloon_config, actual))
		publish(&b->config.state->actual_pages, value);
	else if (off == offsetof(struct virtio_balloon_config, poison_val))
		__atomic_store_n(&b->poison, value, __ATOMIC_RELAXED);
	else
		return;
	store(b, off, value);
}

static int balloon_attach(struct virtio_dev *d, struct error *err)
{
	struct balloon *b = balloon_of(d);

	for (unsigned i = 0; i < d->n_vqs; i++)
		if (vq_service_attach(&b->services[i], err) < 0)
			return error_wrap(err, "virtio-balloon");
	return 0;
}

static void balloon_destroy(struct virtio_dev *d)
{
	free(balloon_of(d));
}

static const struct virtio_dev_ops balloon_ops = {
	.id = VIRTIO_ID_BALLOON,
	.attach = balloon_attach,
	.start = balloon_start,
	.stop = balloon_stop,
	.config_write = balloon_config_write,
	.destroy = balloon_destroy,
};

/* ---- control ---- */

int balloon_set_target(struct virtio_dev *d, uint32_t pages)
{
	struct balloon *b = balloon_of(d);

	d->transport->config_update(d,
		offsetof(struct virtio_balloon_config, num_pages), &pages,
		sizeof(pages));
	publish(&b->config.state->target_pages, pages);
	return 0;
}

struct request {
	struct balloon *b;
	uint32_t value;
	int result;
};

static void set_interval_on_worker(void *arg)
{
	const struct request *r = arg;
	struct vq_service *s = r->b->serving[STATS];

	r->b->stats_interval_ns = r->value * NS_PER_S;
	if (s)
		vq_service_poke(s);
}

int balloon_set_stats_interval(struct virtio_dev *d, uint32_t interval_s)
{
	struct request r = {balloon_of(d), interval_s, 0};

	if (r.b->config.stats_interval_s == 0)
		return -ENOTSUP;
	if (interval_s == 0)
		return -EINVAL;
	worker_call(r.b->worker, set_interval_on_worker, &r);
	return 0;
}

static void hinting_start_on_worker(void *arg)
{
	struct request *r = arg;

	/* Nobody would ever answer. */
	if (!r->b->serving[HINT]) {
		r->result = -EAGAIN;
		return;
	}
	balloon_hint_start(&r->b->hint, r->value);
	tell_hint_cmd(r->b);
}

int balloon_hinting_start(struct virtio_dev *d, bool acknowledge_on_stop)
{
	struct request r = {balloon_of(d), acknowledge_on_stop, 0};

	if (!r.b->config.hinting)
		return -ENOTSUP;
	worker_call(r.b->worker, hinting_start_on_worker, &r);
	return r.result;
}

static void hinting_stop_on_worker(void *arg)
{
	struct request *r = arg;

	if (!r->b->serving[HINT]) {
		r->result = -EAGAIN;
		return;
	}
	balloon_hint_stop(&r->b->hint);
	tell_hint_cmd(r->b);
}

int balloon_hinting_stop(struct virtio_dev *d)
{
	struct request r = {balloon_of(d), 0, 0};

	if (!r.b->config.hinting)
		return -ENOTSUP;
	worker_call(r.b->worker, hinting_stop_on_worker, &r);
	return r.result;
}

/* ---- creation ---- */

static uint64_t offered(const struct balloon_config *config)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX;

	if (config->deflate_on_oom)
		features |= 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
	if (config->stats_interval_s)
		features |= 1ull << VIRTIO_BALLOON_F_STATS_VQ;
	if (config->hinting)
		features |= 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT;
	if (config->reporting)
		features |= 1ull << VIRTIO_BALLOON_F_REPORTING;
	/* Without it a kernel that clears what it frees reports nothing. */
	if (config->hinting || config->reporting)
		features |= 1ull << VIRTIO_BALLOON_F_PAGE_POISON;
	return features;
}

int balloon_create(struct virtio_dev **ret, struct worker *w,
	const struct balloon_config *config, struct error *err)
{
	struct balloon *b = calloc(1, sizeof(*b));
	bool more = config->stats_interval_s || config->hinting ||
		    config->reporting;

	if (!b)
		return error_errno(err, ENOMEM, "virtio-balloon");
	b->config = *config;
	b->worker = w;
	b->stats_interval_ns = config->stats_interval_s * NS_PER_S;
	b->space.num_pages = config->target_pages;
	b->dev = (struct virtio_dev){
		.ops = &balloon_ops,
		.features = offered(config),
		.config = &b->space,
		.config_len = sizeof(b->space),
		.vqs = b->vqs,
		.n_vqs = more ? ROLES : DEFLATE + 1,
	};
	for (unsigned i = 0; i < ROLES; i++) {
		b->vqs[i].size_max = QUEUE_SIZE;
		vq_service_init(&b->services[i], &b->dev, w, i, CALLS_PER_TURN);
	}
	publish(&config->state->target_pages, config->target_pages);
	balloon_stats_clear(config->state);
	*ret = &b->dev;
	return 0;
}
