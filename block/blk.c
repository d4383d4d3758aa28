#include "block/blk.h"

#include "base/clock.h"
#include "block/blk_queue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define SECTOR_BYTES RAW_SECTOR_BYTES

/* Requests that can be out at a time, of all queues together: two rings' worth
 * keeps any disk busy, and bounds what a guest makes us remember. */
#define RINGS_MAX 2u

#define BLOCK_BYTES_MAX 65536u

#define ERROR_STORM_S 10

struct blk_retired {
	struct raw *raw;
	struct blk_retired *next;
};

static struct blk *blk_of(struct virtio_dev *d)
{
	return (struct blk *)((char *)d - offsetof(struct blk, dev));
}

static bool has(uint64_t features, unsigned bit)
{
	return features & (1ull << bit);
}

/* ---- start and stop ---- */

static void start_on_worker(void *arg)
{
	struct blk *b = arg;

	b->write_through =
		b->config.writeback && !has(b->dev.acked, VIRTIO_BLK_F_FLUSH);
	b->rules.discard = has(b->dev.acked, VIRTIO_BLK_F_DISCARD);
	b->rules.write_zeroes = has(b->dev.acked, VIRTIO_BLK_F_WRITE_ZEROES);
	blk_queues_start(b);
}

static int blk_start(struct virtio_dev *d)
{
	struct blk *b = blk_of(d);

	if (!d->vqs[0].ready)
		return -EINVAL;
	worker_call(b->worker, start_on_worker, b);
	return 0;
}

static void stop_on_worker(void *arg)
{
	blk_queues_stop(arg);
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

/* ---- changes while it runs ---- */

struct change {
	struct blk *blk;
	struct blk_retired *node; /* with the new one, then the old one */
	struct blk_retired *closed;
	int fd, result;
	uint64_t capacity_sectors;
};

static void take_closed(struct blk *b, struct blk_retired **ret)
{
	struct blk_retired **at = &b->retired, *node;

	while ((node = *at)) {
		if (!raw_is_closed(node->raw)) {
			at = &node->next;
			continue;
		}
		*at = node->next;
		node->next = *ret;
		*ret = node;
	}
}

/* The disk's end moves at the same moment as its file, so that no request is
 * judged by one and carried out on the other. */
static void change_on_worker(void *arg)
{
	struct change *c = arg;
	struct blk *b = c->blk;
	struct raw *old = b->raw;

	take_closed(b, &c->closed);
	c->result = raw_install(c->node->raw, c->fd);
	if (c->result < 0) {
		c->node->next = c->closed;
		c->closed = c->node;
		return;
	}
	b->raw = c->node->raw;
	b->rules.capacity_sectors = c->capacity_sectors;
	c->node->raw = old;
	c->node->next = b->retired;
	b->retired = c->node;
	raw_close(old, b->config.writeback && !b->config.read_only);
}

static void free_retired(struct blk_retired *first)
{
	while (first) {
		struct blk_retired *node = first;

		first = node->next;
		raw_destroy(node->raw);
		free(node);
	}
}

static int change_file(struct blk *b, struct change *c, uint32_t direct_align)
{
	int r;

	c->node = calloc(1, sizeof(*c->node));
	if (!c->node)
		return -ENOMEM;
	r = raw_create(&c->node->raw, b->worker, direct_align);
	if (r < 0) {
		free(c->node);
		return r;
	}
	worker_call(b->worker, change_on_worker, c);
	free_retired(c->closed);
	return c->result;
}

int blk_set_file(struct virtio_dev *d, int fd, uint64_t size_bytes,
	uint32_t direct_align)
{
	struct blk *b = blk_of(d);
	struct change c = {.blk = b,
		.fd = fd,
		.capacity_sectors = size_bytes / SECTOR_BYTES};
	uint64_t capacity = c.capacity_sectors;
	int r = -EINVAL;

	if (capacity > 0 && size_bytes % SECTOR_BYTES == 0)
		r = change_file(b, &c, direct_align);
	close(fd);
	if (r == 0)
		d->transport->config_update(d,
			offsetof(struct virtio_blk_config, capacity), &capacity,
			sizeof(capacity));
	return r;
}

struct limit {
	struct blk *blk;
	const struct rate_limiter_update *update;
};

static void limit_on_worker(void *arg)
{
	const struct limit *l = arg;

	rate_limiter_update(&l->blk->limiter, l->update, clock_ns());
	blk_queues_unlimit(l->blk);
}

int blk_limit(struct virtio_dev *d, const struct rate_limiter_update *u)
{
	struct limit l = {blk_of(d), u};

	worker_call(l.blk->worker, limit_on_worker, &l);
	return 0;
}

/* ---- making and unmaking ---- */

static void blk_destroy(struct virtio_dev *d)
{
	struct blk *b = blk_of(d);

	free_retired(b->retired);
	raw_destroy(b->raw);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
	free(b->reqs);
	free(b->queues);
	free(b->dev.vqs);
	free(b);
}

static int blk_attach(struct virtio_dev *d, struct error *err)
{
	struct blk *b = blk_of(d);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < d->n_vqs; i++)
		r = worker_watch_fd(
			b->worker, &b->queues[i].kick, d->kick_fds[i]);
	if (r < 0)
		return error_errno(err, -r, "virtio-blk's queues");
	return 0;
}

static const struct virtio_dev_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.attach = blk_attach,
	.start = blk_start,
	.stop = blk_stop,
	.destroy = blk_destroy,
};

static uint64_t features_of(const struct blk_config *c)
{
	uint64_t features =
		1ull << VIRTIO_F_VERSION_1 |
		1ull << VIRTIO_RING_F_INDIRECT_DESC |
		1ull << VIRTIO_RING_F_EVENT_IDX |
		1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY;

	if (c->n_queues > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	if (c->writeback)
		features |= 1ull << VIRTIO_BLK_F_FLUSH;
	if (c->read_only)
		return features | 1ull << VIRTIO_BLK_F_RO;
	features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	if (raw_can_discard(c->fd, c->size_bytes))
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	return features;
}

/* In sectors: a power of two, or 1. */
static uint32_t block_sectors(uint32_t block_bytes)
{
	if (block_bytes < SECTOR_BYTES || block_bytes > BLOCK_BYTES_MAX ||
		(block_bytes & (block_bytes - 1)))
		return 1;
	return block_bytes / SECTOR_BYTES;
}

static void fill_space(struct virtio_blk_config *space,
	const struct blk_config *c, uint64_t features)
{
	uint32_t block = block_sectors(c->block_bytes);
	uint32_t range_sectors = (uint32_t)(BLK_RANGE_BYTES_MAX / SECTOR_BYTES);

	space->capacity = c->size_bytes / SECTOR_BYTES;
	space->size_max = (uint32_t)BLK_SEG_BYTES_MAX;
	space->seg_max = VIRTQ_MAX - 2; /* header and status */
	space->blk_size = SECTOR_BYTES;
	space->physical_block_exp = (uint8_t)__builtin_ctz(block);
	space->min_io_size = (uint16_t)block;
	space->num_queues = (uint16_t)c->n_queues;
	if (has(features, VIRTIO_BLK_F_DISCARD)) {
		space->max_discard_sectors = range_sectors;
		space->max_discard_seg = BLK_RANGES_MAX;
		space->discard_sector_alignment = block;
	}
	if (has(features, VIRTIO_BLK_F_WRITE_ZEROES)) {
		space->max_write_zeroes_sectors = range_sectors;
		space->max_write_zeroes_seg = BLK_RANGES_MAX;
		space->write_zeroes_may_unmap =
			has(features, VIRTIO_BLK_F_DISCARD);
	}
}

static int allocate(struct blk *b)
{
	unsigned n = b->config.n_queues;
	struct virtq *vqs = calloc(n, sizeof(*vqs));

	b->dev.vqs = vqs;
	b->queues = calloc(n, sizeof(*b->queues));
	/* And one to take the next into and find that there is none. */
	b->n_reqs = (n < RINGS_MAX ? n : RINGS_MAX) * VIRTQ_MAX + 1;
	b->reqs = calloc(b->n_reqs, sizeof(*b->reqs));
	if (!vqs || !b->queues || !b->reqs)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		vqs[i].size_max = VIRTQ_MAX;
		blk_queue_init(&b->queues[i], b, &vqs[i]);
	}
	return 0;
}

static void describe(struct blk *b)
{
	uint64_t features = features_of(&b->config);

	fill_space(&b->space, &b->config, features);
	b->dev.ops = &blk_ops;
	b->dev.features = features;
	b->dev.config = &b->space;
	b->dev.config_len = sizeof(b->space);
	b->dev.n_vqs = b->config.n_queues;
	b->rules.capacity_sectors = b->space.capacity;
	b->rules.read_only = b->config.read_only;
}

int blk_create(struct virtio_dev **ret, struct worker *w,
	const struct blk_config *config, struct error *err)
{
	struct blk *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_errno(err, ENOMEM, "virtio-blk");
	b->config = *config;
	if (b->config.n_queues == 0)
		b->config.n_queues = 1;
	b->worker = w;
	b->error_limit = (struct log_limit)LOG_LIMIT(1, ERROR_STORM_S);
	b->refill.done = blk_refilled;
	b->idle = true;
	rate_limiter_init(&b->limiter, &config->limiter, clock_ns());
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	describe(b);
	r = allocate(b);
	if (r == 0)
		r = raw_create(&b->raw, w, config->direct_align);
	if (r == 0)
		r = raw_add(b->raw, config->fd);
	if (r < 0) {
		blk_destroy(&b->dev);
		return error_errno(err, -r, "virtio-blk");
	}
	*ret = &b->dev;
	return 0;
}
