#include "block/blk_queue.h"

#include "base/clock.h"
#include "base/counter.h"

#include <errno.h>
#include <stddef.h>

static struct blk_req *take_req(struct blk_queue *q)
{
	struct blk *b = q->blk;
	struct blk_req *req = b->free;

	if (req)
		b->free = req->next_free;
	else if (b->n_used < b->n_reqs)
		req = &b->reqs[b->n_used++];
	else
		return NULL;
	req->queue = q;
	return req;
}

static void give_back(struct blk *b, struct blk_req *req)
{
	req->next_free = b->free;
	b->free = req;
}

static bool is_idle(const struct blk *b)
{
	if (b->running || b->in_flight || b->refill.state != WORKER_OP_IDLE)
		return false;
	for (unsigned i = 0; i < b->dev.n_vqs; i++)
		if (b->queues[i].settle.state != WORKER_OP_IDLE)
			return false;
	return true;
}

static void check_idle(struct blk *b)
{
	if (!is_idle(b))
		return;
	pthread_mutex_lock(&b->lock);
	b->idle = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void settle_later(struct blk_queue *q)
{
	if (q->settle.state == WORKER_OP_IDLE)
		worker_defer(q->blk->worker, &q->settle);
}

static void feed_the_starved(struct blk *b)
{
	b->starved = false;
	for (unsigned i = 0; i < b->dev.n_vqs; i++)
		if (b->queues[i].serve_again)
			settle_later(&b->queues[i]);
}

static void push(struct blk_req *req, uint32_t written_bytes)
{
	struct blk_queue *q = req->queue;

	virtq_push(q->vq, req->chain.head, written_bytes);
	give_back(q->blk, req);
	settle_later(q);
	if (q->blk->starved)
		feed_the_starved(q->blk);
}

static void answer(struct blk_req *req, uint8_t status)
{
	struct iovs at = {&req->cmd.status, 1, 1};

	iovs_write(&at, 0, &status, 1);
	push(req, status == VIRTIO_BLK_S_OK ? req->cmd.written_bytes
					    : req->cmd.failed_bytes);
}

static void count_done(const struct blk *b, const struct blk_req *req)
{
	uint64_t ns = worker_now(b->worker) - req->taken_ns;
	const struct blk_cmd *cmd = &req->cmd;
	struct blk_stats *s = b->config.stats;

	switch (cmd->type) {
	case VIRTIO_BLK_T_IN:
		counter_add(&s->reads, 1);
		counter_add(&s->read_bytes, cmd->len);
		histogram_add(&s->read_time, ns);
		break;
	case VIRTIO_BLK_T_OUT:
		counter_add(&s->writes, 1);
		counter_add(&s->write_bytes, cmd->len);
		histogram_add(&s->write_time, ns);
		break;
	case VIRTIO_BLK_T_FLUSH:
		counter_add(&s->flushes, 1);
		histogram_add(&s->flush_time, ns);
		break;
	case VIRTIO_BLK_T_DISCARD:
		counter_add(&s->discards, 1);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		counter_add(&s->write_zeroes, 1);
		break;
	default:
		counter_add(&s->others, 1);
		break;
	}
}

static void report_error(struct blk *b, int err)
{
	uint32_t suppressed;

	counter_add(&b->config.stats->errors, 1);
	if (b->config.on_error &&
		log_limit_ok(&b->error_limit, clock_ns(), &suppressed))
		b->config.on_error(b->config.arg, err);
}

static void next_range(struct blk_req *req)
{
	const struct blk_range *range = &req->ranges[req->range++];

	req->io.kind = RAW_DISCARD;
	if (req->cmd.type == VIRTIO_BLK_T_WRITE_ZEROES)
		req->io.kind = range->unmap ? RAW_ZERO_UNMAP : RAW_ZERO;
	req->io.off_bytes = range->off_bytes;
	req->io.len = range->len_bytes;
}

/* Whether there is more to do for it, on the file where it began. */
static bool goes_on(const struct blk *b, struct blk_req *req)
{
	struct raw_io *io = &req->io;

	if (req->range < req->cmd.n_ranges) {
		next_range(req);
		return true;
	}
	if (io->kind == RAW_SYNC || io->kind == RAW_READ ||
		io->kind == RAW_DISCARD || !b->write_through)
		return false;
	io->kind = RAW_SYNC;
	return true;
}

static void io_done(struct raw_io *io, int err)
{
	struct blk_req *req =
		(struct blk_req *)((char *)io - offsetof(struct blk_req, io));
	struct blk *b = req->queue->blk;

	if (err == 0 && !b->running && req->range < req->cmd.n_ranges)
		err = ECANCELED;
	if (err == 0 && goes_on(b, req)) {
		raw_submit(io->raw, io);
		return;
	}
	req->active = false;
	b->in_flight--;
	/* A driver that resets us has not been failed. */
	if (err && err != ECANCELED)
		report_error(b, err);
	if (err == 0)
		count_done(b, req);
	answer(req, err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void begin_io(struct blk *b, struct blk_req *req, enum raw_kind kind)
{
	req->io.kind = kind;
	req->io.off_bytes = req->cmd.off_bytes;
	req->io.iov = req->cmd.data;
	req->io.n = req->cmd.n_data;
	req->io.len = req->cmd.len;
	req->io.done = io_done;
	req->range = 0;
	if (req->cmd.n_ranges)
		next_range(req);
	req->active = true;
	b->in_flight++;
	raw_submit(b->raw, &req->io);
}

static void get_id(const struct blk *b, struct blk_req *req)
{
	struct iovs data = {req->cmd.data, req->cmd.n_data, req->cmd.len};
	size_t n = sizeof(b->config.serial);

	if (n > data.len)
		n = data.len;
	iovs_write(&data, 0, b->config.serial, n);
	/* What the driver gave beyond the serial stays as it was. */
	if (data.len > n)
		req->cmd.written_bytes = (uint32_t)n;
}

static void carry_out(struct blk *b, struct blk_req *req)
{
	switch (req->cmd.type) {
	case VIRTIO_BLK_T_IN:
		begin_io(b, req, RAW_READ);
		return;
	case VIRTIO_BLK_T_OUT:
		begin_io(b, req, RAW_WRITE);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		begin_io(b, req, RAW_DISCARD);
		return;
	case VIRTIO_BLK_T_FLUSH:
		if (b->config.writeback) {
			begin_io(b, req, RAW_SYNC);
			return;
		}
		break;
	default:
		get_id(b, req);
		break;
	}
	count_done(b, req);
	answer(req, VIRTIO_BLK_S_OK);
}

/* What moves no bytes counts as an operation alone. Zeroes do move: there are
 * disks to which the host has to write them. */
static uint64_t limited_bytes(const struct blk_cmd *cmd)
{
	switch (cmd->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return cmd->len;
	default:
		return 0;
	}
}

/* Whether the limiter lets it through; else it is held until there is enough.
 */
static bool admit(struct blk *b, struct blk_req *req)
{
	uint64_t again_ns;

	if (!rate_limiter_active(&b->limiter))
		return true;
	again_ns = rate_limiter_take(
		&b->limiter, limited_bytes(&req->cmd), clock_ns());
	if (again_ns == 0)
		return true;
	counter_add(&b->config.stats->throttled, 1);
	b->held = req;
	worker_timer(b->worker, &b->refill, again_ns);
	return false;
}

static void handle(struct blk *b, struct blk_req *req)
{
	int status = blk_parse(&req->chain, &b->rules, &req->cmd, req->ranges);

	if (status == VIRTIO_BLK_S_OK) {
		if (admit(b, req))
			carry_out(b, req);
		return;
	}
	if (status == VIRTIO_BLK_S_UNSUPP)
		counter_add(&b->config.stats->others, 1);
	else
		counter_add(&b->config.stats->malformed, 1);
	if (status < 0)
		push(req, 0);
	else
		answer(req, (uint8_t)status);
}

/* Whether the ring has to be left as it is for now; kicks are off. */
static bool must_leave(struct blk_queue *q, unsigned budget)
{
	/* The refill comes back to it. */
	if (!q->blk->held && budget > 0)
		return false;
	q->serve_again = true;
	if (!q->blk->held)
		settle_later(q);
	return true;
}

/* Takes what the ring holds, but not more than it can hold: a driver that goes
 * on adding must not keep the worker from others. */
static void serve(struct blk_queue *q)
{
	unsigned budget = q->vq->size;
	struct blk *b = q->blk;
	struct blk_req *req;
	int r;

	do {
		virtq_disable_kicks(q->vq);
		for (;; budget--) {
			if (must_leave(q, budget))
				return;
			req = take_req(q);
			if (!req) {
				q->serve_again = true;
				b->starved = true;
				return;
			}
			r = virtq_pop(q->vq, &req->chain);
			if (r != 1)
				break;
			req->taken_ns = worker_now(b->worker);
			handle(b, req);
		}
		give_back(b, req);
		if (r < 0) {
			b->dev.transport->broken(&b->dev);
			return;
		}
	} while (virtq_enable_kicks(q->vq));
}

/* A queue the driver did not set up has no ring; one that it may not use, none
 * that we look at. */
static bool is_usable(const struct blk_queue *q)
{
	const struct blk *b = q->blk;

	if (!b->running || !q->vq->ready)
		return false;
	return q->vq == b->dev.vqs || b->dev.acked & (1ull << VIRTIO_BLK_F_MQ);
}

static void serve_if_usable(struct blk_queue *q)
{
	q->serve_again = false;
	if (is_usable(q))
		serve(q);
}

static void kicked(struct worker_op *op, int32_t res)
{
	(void)res;
	serve_if_usable((struct blk_queue *)((char *)op -
					     offsetof(struct blk_queue, kick)));
}

static void settle(struct worker_op *op, int32_t res)
{
	struct blk_queue *q =
		(struct blk_queue *)((char *)op -
				     offsetof(struct blk_queue, settle));
	struct blk *b = q->blk;

	(void)res;
	if (virtq_should_interrupt(q->vq))
		b->dev.transport->interrupt(&b->dev, q->vq);
	if (q->serve_again && !b->held)
		serve_if_usable(q);
	check_idle(b);
}

/* Everybody who had to wait, the others first. */
static void serve_waiting(struct blk *b, const struct blk_queue *last)
{
	unsigned n = b->dev.n_vqs, i = (unsigned)(last - b->queues);

	for (unsigned k = 0; k < n && !b->held; k++) {
		i = i + 1 < n ? i + 1 : 0;
		if (b->queues[i].serve_again)
			serve_if_usable(&b->queues[i]);
	}
}

void blk_refilled(struct worker_op *op, int32_t res)
{
	struct blk *b =
		(struct blk *)((char *)op - offsetof(struct blk, refill));
	struct blk_req *req = b->held;
	bool retry = res == -ETIME || b->retry;

	b->held = NULL;
	b->retry = false;
	if (!b->running || !retry) {
		answer(req, VIRTIO_BLK_S_IOERR);
		check_idle(b);
		return;
	}
	if (!admit(b, req))
		return;
	carry_out(b, req);
	serve_waiting(b, req->queue);
}

void blk_queues_unlimit(struct blk *b)
{
	if (!b->held)
		return;
	b->retry = true;
	worker_cancel(b->worker, &b->refill);
}

void blk_queue_init(struct blk_queue *q, struct blk *b, struct virtq *vq)
{
	*q = (struct blk_queue){.blk = b, .vq = vq};
	q->kick.done = kicked;
	q->settle.done = settle;
}

/* The driver may have kicked before it said DRIVER_OK. */
void blk_queues_start(struct blk *b)
{
	b->running = true;
	b->idle = false;
	b->starved = false;
	for (unsigned i = 0; i < b->dev.n_vqs; i++)
		serve_if_usable(&b->queues[i]);
}

void blk_queues_stop(struct blk *b)
{
	b->running = false;
	for (unsigned i = 0; i < b->n_used; i++)
		if (b->reqs[i].active)
			raw_cancel(&b->reqs[i].io);
	blk_queues_unlimit(b);
	check_idle(b);
}
