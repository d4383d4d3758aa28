#include "virtio/rng.h"

#include "base/clock.h"
#include "base/counter.h"
#include "virtio/vq_service.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>

/* Linux has one request out at a time. */
#define QUEUE_SIZE 16

/* 256 KiB at most, which take half a millisecond. */
#define REQUESTS_PER_TURN 4

struct rng {
	struct virtio_dev dev;
	struct virtq vq;
	struct worker *worker;
	struct rng_stats *stats;

	/* The worker's. */
	struct vq_service service;
	struct rate_limiter limiter;
};

static struct rng *rng_of(struct virtio_dev *d)
{
	return (struct rng *)((char *)d - offsetof(struct rng, dev));
}

/* 0, or when to try again. */
static uint64_t limited_until(struct rng *r, size_t len)
{
	uint64_t retry_ns;

	if (!rate_limiter_active(&r->limiter))
		return 0;
	retry_ns = rate_limiter_take(&r->limiter, len, clock_ns());
	if (retry_ns && !r->service.again)
		counter_add(&r->stats->throttled, 1);
	return retry_ns;
}

/* Straight into the guest's memory, which nobody else reads: the bytes filled.
 * Where it cannot be written, the request ends early. */
static size_t fill(const struct iovs *to, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < to->n && done < len; i++) {
		size_t n = to->v[i].iov_len;
		ssize_t got;

		if (n > len - done)
			n = len - done;
		got = getrandom(to->v[i].iov_base, n, GRND_NONBLOCK);
		if (got > 0)
			done += (size_t)got;
		if (got != (ssize_t)n)
			break;
	}
	return done;
}

static int64_t handle(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct rng *r = rng_of(s->dev);
	const struct iovs *to = &s->chain.wr;
	size_t len = to->len, done;

	/* §5.4.6: the driver places writable buffers only. */
	if (s->chain.rd.len > 0) {
		counter_add(&r->stats->malformed, 1);
		return 0;
	}
	if (len > RNG_REQ_BYTES_MAX)
		len = RNG_REQ_BYTES_MAX;
	*ret_retry_ns = limited_until(r, len);
	if (*ret_retry_ns)
		return VQ_SERVICE_HOLD;
	done = fill(to, len);
	counter_add(&r->stats->requests, 1);
	counter_add(&r->stats->bytes, done);
	if (done < len)
		counter_add(&r->stats->errors, 1);
	return (int64_t)done;
}

static const struct vq_service_ops service_ops = {.handle = handle};

static void start_on_worker(void *arg)
{
	struct rng *r = arg;

	vq_service_start(&r->service, &service_ops);
}

static int rng_start(struct virtio_dev *d)
{
	struct rng *r = rng_of(d);

	if (!r->vq.ready)
		return -EINVAL;
	worker_call(r->worker, start_on_worker, r);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct rng *r = arg;

	vq_service_stop(&r->service);
}

static void rng_stop(struct virtio_dev *d)
{
	struct rng *r = rng_of(d);

	worker_call(r->worker, stop_on_worker, r);
}

static int rng_attach(struct virtio_dev *d, struct error *err)
{
	if (vq_service_attach(&rng_of(d)->service, err) < 0)
		return error_wrap(err, "virtio-rng");
	return 0;
}

static void rng_destroy(struct virtio_dev *d)
{
	free(rng_of(d));
}

static const struct virtio_dev_ops rng_ops = {
	.id = VIRTIO_ID_RNG,
	.attach = rng_attach,
	.start = rng_start,
	.stop = rng_stop,
	.destroy = rng_destroy,
};

int rng_create(struct virtio_dev **ret, struct worker *w,
	const struct rng_config *config, struct error *err)
{
	struct rng *r = calloc(1, sizeof(*r));

	if (!r)
		return error_errno(err, ENOMEM, "virtio-rng");
	r->worker = w;
	r->stats = config->stats;
	r->vq.size_max = QUEUE_SIZE;
	r->dev = (struct virtio_dev){
		.ops = &rng_ops,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX,
		.vqs = &r->vq,
		.n_vqs = 1,
	};
	rate_limiter_init(&r->limiter, &config->limiter, clock_ns());
	vq_service_init(&r->service, &r->dev, w, 0, REQUESTS_PER_TURN);
	*ret = &r->dev;
	return 0;
}
