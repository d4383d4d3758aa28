#include "virtio/pmem.h"

#include "base/clock.h"
#include "base/counter.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>

/* The answers to a flush (virtio 1.2 §5.19.6). */
#define RESP_OK 0u
#define RESP_EIO 1u

/* A request that waits for its answer, which may lie in as many pieces as it
 * has bytes. */
struct flush {
	uint16_t head;
	unsigned n;
	struct iovec answer[sizeof(struct virtio_pmem_resp)];
};

/* No more can be out than the ring has entries. */
struct flushes {
	unsigned n;
	struct flush at[VIRTQ_MAX];
};

struct pmem {
	struct virtio_dev dev;
	struct virtq vq;
	struct virtio_pmem_config space;
	struct pmem_config config;
	struct worker *worker;
	unsigned file;

	/* The worker's. */
	struct rate_limiter limiter;
	struct worker_op kick;
	struct worker_op settle; /* deferred: after a batch */
	struct worker_op sync;
	struct worker_op timer; /* when the limiter lets the next one through */
	bool retry;             /* the timer was cancelled for a new limit */
	bool running;
	bool serve_again; /* the ring was left before it was empty */
	struct flushes *waiting, *syncing;
	struct virtq_chain chain;
};

static struct pmem *pmem_of(struct virtio_dev *d)
{
	return (struct pmem *)((char *)d - offsetof(struct pmem, dev));
}

static void settle_later(struct pmem *p)
{
	if (p->settle.state == WORKER_OP_IDLE)
		worker_defer(p->worker, &p->settle);
}

static void push(struct pmem *p, const struct flush *f, uint32_t result)
{
	const struct virtio_pmem_resp resp = {.ret = result};
	const struct iovs at = {f->answer, f->n, sizeof(resp)};

	iovs_write(&at, 0, &resp, sizeof(resp));
	virtq_push(&p->vq, f->head, sizeof(resp));
	settle_later(p);
}

/* ---- flushing ---- */

/* The limiter's word is for this moment; what comes before the timer waits. */
static bool limited(struct pmem *p)
{
	uint64_t retry_ns;

	if (!rate_limiter_active(&p->limiter))
		return false;
	if (p->timer.state != WORKER_OP_IDLE)
		return true;
	retry_ns = rate_limiter_take(
		&p->limiter, p->config.file_bytes, clock_ns());
	if (retry_ns == 0)
		return false;
	counter_add(&p->config.stats->throttled, 1);
	worker_timer(p->worker, &p->timer, retry_ns);
	return true;
}

/*
 * What waits when the flush begins is served by it. What comes later is not: a
 * write of the guest's in between may have missed it.
 */
static void flush_waiting(struct pmem *p)
{
	struct flushes *batch = p->waiting;

	if (batch->n == 0 || p->sync.state != WORKER_OP_IDLE || limited(p))
		return;
	p->waiting = p->syncing;
	p->syncing = batch;
	worker_fdatasync(p->worker, &p->sync, p->file);
}

static void sync_done(struct worker_op *op, int32_t res)
{
	struct pmem *p =
		(struct pmem *)((char *)op - offsetof(struct pmem, sync));
	struct flushes *batch = p->syncing;

	counter_add(
		res == 0 ? &p->config.stats->flushes : &p->config.stats->errors,
		1);
	/* None of a driver that has reset us. */
	for (unsigned i = 0; i < batch->n; i++)
		push(p, &batch->at[i], res == 0 ? RESP_OK : RESP_EIO);
	batch->n = 0;
	flush_waiting(p);
}

static void timer_fired(struct worker_op *op, int32_t res)
{
	struct pmem *p =
		(struct pmem *)((char *)op - offsetof(struct pmem, timer));

	/* Cancelled: by a new limit, or because the worker ends, which a timer
	 * set again and again would keep from it. */
	if (res == -ETIME || p->retry) {
		p->retry = false;
		flush_waiting(p);
	}
}

/* ---- the queue ---- */

static void handle(struct pmem *p)
{
	struct virtio_pmem_req req;
	struct flush *f = &p->waiting->at[p->waiting->n];
	int n = iovs_slice(&p->chain.wr, 0, sizeof(struct virtio_pmem_resp),
		f->answer, sizeof(struct virtio_pmem_resp));

	if (n < 0 || iovs_read(&p->chain.rd, 0, &req, sizeof(req)) < 0) {
		counter_add(&p->config.stats->malformed, 1);
		virtq_push(&p->vq, p->chain.head, 0);
		settle_later(p);
		return;
	}
	f->head = p->chain.head;
	f->n = (unsigned)n;
	if (req.type != VIRTIO_PMEM_REQ_TYPE_FLUSH) {
		counter_add(&p->config.stats->malformed, 1);
		push(p, f, RESP_EIO);
	} else if (p->config.read_only) {
		counter_add(&p->config.stats->flushes, 1);
		push(p, f, RESP_OK);
	} else {
		p->waiting->n++;
	}
}

/* Takes what the ring holds, but not more than it can hold. */
static void serve(struct pmem *p)
{
	unsigned budget = p->vq.size;
	int r;

	do {
		virtq_disable_kicks(&p->vq);
		while ((r = budget ? virtq_pop(&p->vq, &p->chain) : 0) == 1) {
			budget--;
			handle(p);
		}
		if (r < 0) {
			p->dev.transport->broken(&p->dev);
			break;
		}
		if (budget == 0) {
			p->serve_again = true;
			settle_later(p);
			break;
		}
	} while (virtq_enable_kicks(&p->vq));
	flush_waiting(p);
}

static void kicked(struct worker_op *op, int32_t res)
{
	struct pmem *p =
		(struct pmem *)((char *)op - offsetof(struct pmem, kick));

	(void)res;
	if (p->running)
		serve(p);
}

static void settle(struct worker_op *op, int32_t res)
{
	struct pmem *p =
		(struct pmem *)((char *)op - offsetof(struct pmem, settle));

	(void)res;
	if (!p->running)
		return;
	if (virtq_should_interrupt(&p->vq))
		p->dev.transport->interrupt(&p->dev, &p->vq);
	if (p->serve_again) {
		p->serve_again = false;
		serve(p);
	}
}

/* ---- its life ---- */

static void start_on_worker(void *arg)
{
	struct pmem *p = arg;

	p->running = true;
	p->serve_again = false;
	/* The driver may have kicked before it said DRIVER_OK. */
	serve(p);
}

static int pmem_start(struct virtio_dev *d)
{
	struct pmem *p = pmem_of(d);

	if (!p->vq.ready)
		return -EINVAL;
	worker_call(p->worker, start_on_worker, p);
	return 0;
}

/* A flush in flight knows the file and no guest memory: it may end when it
 * likes, with nobody to answer. */
static void stop_on_worker(void *arg)
{
	struct pmem *p = arg;

	p->running = false;
	p->waiting->n = 0;
	p->syncing->n = 0;
}

static void pmem_stop(struct virtio_dev *d)
{
	struct pmem *p = pmem_of(d);

	worker_call(p->worker, stop_on_worker, p);
}

static void pmem_destroy(struct virtio_dev *d)
{
	struct pmem *p = pmem_of(d);

	free(p->waiting);
	free(p->syncing);
	free(p);
}

static int pmem_attach(struct virtio_dev *d, struct error *err)
{
	struct pmem *p = pmem_of(d);
	int r = worker_watch_fd(p->worker, &p->kick, d->kick_fds[0]);

	if (r == 0 && !p->config.read_only)
		r = worker_add_file(p->worker, p->config.fd, &p->file);
	return r < 0 ? error_errno(err, -r, "virtio-pmem's queue") : 0;
}

static const struct virtio_dev_ops pmem_ops = {
	.id = VIRTIO_ID_PMEM,
	.attach = pmem_attach,
	.start = pmem_start,
	.stop = pmem_stop,
	.destroy = pmem_destroy,
};

static void describe(struct pmem *p)
{
	p->space = (struct virtio_pmem_config){
		.start = p->config.gpa, .size = p->config.size_bytes};
	p->vq.size_max = VIRTQ_MAX;
	p->dev = (struct virtio_dev){
		.ops = &pmem_ops,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX,
		.config = &p->space,
		.config_len = sizeof(p->space),
		.vqs = &p->vq,
		.n_vqs = 1,
	};
}

int pmem_create(struct virtio_dev **ret, struct worker *w,
	const struct pmem_config *config, struct error *err)
{
	struct pmem *p = calloc(1, sizeof(*p));

	if (!p)
		return error_errno(err, ENOMEM, "virtio-pmem");
	p->config = *config;
	p->worker = w;
	p->kick.done = kicked;
	p->settle.done = settle;
	p->sync.done = sync_done;
	p->timer.done = timer_fired;
	rate_limiter_init(&p->limiter, &config->limiter, clock_ns());
	describe(p);
	p->waiting = calloc(1, sizeof(*p->waiting));
	p->syncing = calloc(1, sizeof(*p->syncing));
	if (!p->waiting || !p->syncing) {
		pmem_destroy(&p->dev);
		return error_errno(err, ENOMEM, "virtio-pmem");
	}
	*ret = &p->dev;
	return 0;
}

struct limit {
	struct pmem *p;
	const struct rate_limiter_update *u;
};

/* A flush that waits by the old limit asks the new one. */
static void limit_on_worker(void *arg)
{
	struct limit *l = arg;
	struct pmem *p = l->p;

	rate_limiter_update(&p->limiter, l->u, clock_ns());
	p->retry = p->timer.state != WORKER_OP_IDLE;
	worker_cancel(p->worker, &p->timer);
}

int pmem_limit(struct virtio_dev *d, const struct rate_limiter_update *u)
{
	struct limit l = {pmem_of(d), u};

	worker_call(l.p->worker, limit_on_worker, &l);
	return 0;
}
