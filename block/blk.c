#include "block/blk.h"

#include "base/clock.h"
#include "base/log.h"
#include "block/blk_req.h"
#include "block/raw.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u

/* As many as can be out, and one to take the next into and find it is one too
 * many. */
#define MAX_REQS (VIRTQ_MAX + 1)

#define ERROR_STORM_S 10

struct blk_req {
	struct raw_io io;
	struct blk *blk;
	bool active;
	struct blk_req *next_free;
	struct blk_cmd cmd;
	struct virtq_chain chain;
};

struct blk {
	struct virtio_dev dev;
	struct virtq vq;
	struct virtio_blk_config space;
	struct blk_config config;
	struct worker *worker;
	struct raw *raw;

	/* The worker's. */
	struct worker_op kick;
	struct worker_op settle; /* deferred: after a batch */
	bool running;
	bool serve_again; /* the ring was left before it was empty */
	bool write_through;
	unsigned in_flight;
	struct blk_req *free;
	unsigned n_used; /* of reqs: memory nobody needed stays untouched */
	struct blk_req *reqs;
	struct log_limit error_limit;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool idle; /* not running, nothing in flight, nothing deferred */
};

static struct blk *blk_of(struct virtio_dev *d)
{
	return (struct blk *)((char *)d - offsetof(struct blk, dev));
}

static void count(uint64_t *counter, uint64_t n)
{
	/* One writer. */
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static struct blk_req *take_req(struct blk *b)
{
	struct blk_req *req = b->free;

	if (req) {
		b->free = req->next_free;
		return req;
	}
	req = &b->reqs[b->n_used++];
	req->blk = b;
	return req;
}

static void give_back(struct blk *b, struct blk_req *req)
{
	req->next_free = b->free;
	b->free = req;
}

static void check_idle(struct blk *b)
{
	if (b->running || b->in_flight || b->settle.state != WORKER_OP_IDLE)
		return;
	pthread_mutex_lock(&b->lock);
	b->idle = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void settle_later(struct blk *b)
{
	if (b->settle.state == WORKER_OP_IDLE)
		worker_defer(b->worker, &b->settle);
}

static void push(struct blk *b, struct blk_req *req, uint32_t written_bytes)
{
	virtq_push(&b->vq, req->chain.head, written_bytes);
	give_back(b, req);
	settle_later(b);
}

static void answer(struct blk *b, struct blk_req *req, uint8_t status)
{
	struct iovs at = {&req->cmd.status, 1, 1};

	iovs_write(&at, 0, &status, 1);
	push(b, req,
		status == VIRTIO_BLK_S_OK ? req->cmd.written_bytes
					  : req->cmd.failed_bytes);
}

static void count_done(struct blk_stats *s, const struct blk_cmd *cmd)
{
	switch (cmd->type) {
	case VIRTIO_BLK_T_IN:
		count(&s->reads, 1);
		count(&s->read_bytes, cmd->len);
		break;
	case VIRTIO_BLK_T_OUT:
		count(&s->writes, 1);
		count(&s->write_bytes, cmd->len);
		break;
	case VIRTIO_BLK_T_FLUSH:
		count(&s->flushes, 1);
		break;
	default:
		count(&s->others, 1);
		break;
	}
}

static void report_error(struct blk *b, int err)
{
	uint32_t suppressed;

	count(&b->config.stats->errors, 1);
	if (b->config.on_error &&
		log_limit_ok(&b->error_limit, clock_ns(), &suppressed))
		b->config.on_error(b->config.arg, err);
}

static void io_done(struct raw_io *io, int err)
{
	struct blk_req *req =
		(struct blk_req *)((char *)io - offsetof(struct blk_req, io));
	struct blk *b = req->blk;

	if (err == 0 && io->kind == RAW_WRITE && b->write_through) {
		io->kind = RAW_SYNC;
		raw_submit(b->raw, io);
		return;
	}
	req->active = false;
	b->in_flight--;
	/* A driver that resets us has not been failed. */
	if (err && err != ECANCELED)
		report_error(b, err);
	if (err == 0)
		count_done(b->config.stats, &req->cmd);
	answer(b, req, err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void begin_io(struct blk *b, struct blk_req *req, enum raw_kind kind)
{
	req->io.kind = kind;
	req->io.off_bytes = req->cmd.off_bytes;
	req->io.iov = req->cmd.data;
	req->io.n = req->cmd.n_data;
	req->io.len = req->cmd.len;
	req->io.done = io_done;
	req->active = true;
	b->in_flight++;
	raw_submit(b->raw, &req->io);
}

static void get_id(struct blk *b, struct blk_req *req)
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

static void handle(struct blk *b, struct blk_req *req)
{
	int status = blk_parse(
		&req->chain, b->space.capacity, b->config.read_only, &req->cmd);

	if (status != VIRTIO_BLK_S_OK) {
		if (status == VIRTIO_BLK_S_UNSUPP)
			count(&b->config.stats->others, 1);
		else
			count(&b->config.stats->malformed, 1);
		if (status < 0)
			push(b, req, 0);
		else
			answer(b, req, (uint8_t)status);
		return;
	}
	switch (req->cmd.type) {
	case VIRTIO_BLK_T_IN:
		begin_io(b, req, RAW_READ);
		return;
	case VIRTIO_BLK_T_OUT:
		begin_io(b, req, RAW_WRITE);
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
	count_done(b->config.stats, &req->cmd);
	answer(b, req, VIRTIO_BLK_S_OK);
}

/* Takes what the ring holds, but not more than it can hold: a driver that goes
 * on adding must not keep the worker from others. */
static void serve(struct blk *b)
{
	unsigned budget = b->vq.size;
	struct blk_req *req;
	int r;

	do {
		virtq_disable_kicks(&b->vq);
		for (;;) {
			if (budget == 0) {
				b->serve_again = true;
				settle_later(b);
				return;
			}
			req = take_req(b);
			r = virtq_pop(&b->vq, &req->chain);
			if (r != 1)
				break;
			budget--;
			handle(b, req);
		}
		give_back(b, req);
		if (r < 0) {
			b->dev.transport->broken(&b->dev);
			return;
		}
	} while (virtq_enable_kicks(&b->vq));
}

static void kicked(struct worker_op *op, int32_t res)
{
	struct blk *b = (struct blk *)((char *)op - offsetof(struct blk, kick));

	(void)res;
	if (b->running)
		serve(b);
}

static void settle(struct worker_op *op, int32_t res)
{
	struct blk *b =
		(struct blk *)((char *)op - offsetof(struct blk, settle));

	(void)res;
	if (virtq_should_interrupt(&b->vq))
		b->dev.transport->interrupt(&b->dev, &b->vq);
	if (b->serve_again && b->running) {
		b->serve_again = false;
		serve(b);
	}
	check_idle(b);
}

static void start_on_worker(void *arg)
{
	struct blk *b = arg;

	b->write_through = b->config.writeback &&
			   !(b->dev.acked & (1ull << VIRTIO_BLK_F_FLUSH));
	b->running = true;
	b->idle = false;
	b->serve_again = false;
	/* The driver may have kicked before it said DRIVER_OK. */
	serve(b);
}

static int blk_start(struct virtio_dev *d)
{
	struct blk *b = blk_of(d);

	if (!b->vq.ready)
		return -EINVAL;
	worker_call(b->worker, start_on_worker, b);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct blk *b = arg;

	b->running = false;
	for (unsigned i = 0; i < b->n_used; i++)
		if (b->reqs[i].active)
			raw_cancel(b->raw, &b->reqs[i].io);
	check_idle(b);
}

/*
 * The requests that are out are cancelled or complete, and are pushed: then
 * neither the kernel nor the worker knows guest memory any more.
 */
static void blk_stop(struct virtio_dev *d)
{
	struct blk *b = blk_of(d);

	worker_call(b->worker, stop_on_worker, b);
	pthread_mutex_lock(&b->lock);
	while (!b->idle)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void blk_destroy(struct virtio_dev *d)
{
	struct blk *b = blk_of(d);

	raw_destroy(b->raw);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
	free(b->reqs);
	free(b);
}

static int blk_attach(struct virtio_dev *d, struct error *err)
{
	struct blk *b = blk_of(d);
	unsigned file;
	int r = worker_add_file(b->worker, d->kick_fds[0], &file);

	if (r == 0)
		r = worker_watch(b->worker, &b->kick, file);
	if (r < 0)
		return error_errno(err, -r, "virtio-blk's queue");
	return 0;
}

static const struct virtio_dev_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.attach = blk_attach,
	.start = blk_start,
	.stop = blk_stop,
	.destroy = blk_destroy,
};

static void describe(struct blk *b)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX |
			    1ull << VIRTIO_BLK_F_SIZE_MAX |
			    1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE;

	if (b->config.read_only)
		features |= 1ull << VIRTIO_BLK_F_RO;
	if (b->config.writeback)
		features |= 1ull << VIRTIO_BLK_F_FLUSH;
	b->space.capacity = b->config.size_bytes / SECTOR_BYTES;
	b->space.size_max = (uint32_t)BLK_SEG_BYTES_MAX;
	b->space.seg_max = VIRTQ_MAX - 2; /* header and status */
	b->space.blk_size = SECTOR_BYTES;
	b->vq.size_max = VIRTQ_MAX;
	b->dev = (struct virtio_dev){
		.ops = &blk_ops,
		.features = features,
		.config = &b->space,
		.config_len = sizeof(b->space),
		.vqs = &b->vq,
		.n_vqs = 1,
	};
}

int blk_create(struct virtio_dev **ret, struct worker *w,
	const struct blk_config *config, struct error *err)
{
	struct blk *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_errno(err, ENOMEM, "virtio-blk");
	b->config = *config;
	b->worker = w;
	b->error_limit = (struct log_limit)LOG_LIMIT(1, ERROR_STORM_S);
	b->kick.done = kicked;
	b->settle.done = settle;
	b->idle = true;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	describe(b);
	b->reqs = calloc(MAX_REQS, sizeof(*b->reqs));
	r = b->reqs ? raw_create(
			      &b->raw, w, config->fd, config->direct_align, err)
		    : error_errno(err, ENOMEM, "virtio-blk");
	if (r < 0) {
		blk_destroy(&b->dev);
		return r;
	}
	*ret = &b->dev;
	return 0;
}
