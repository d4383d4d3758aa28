#include "virtio/vconsole.h"

#include "base/clock.h"
#include "virtio/vq_service.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

enum queue { RX, TX, QUEUES };

/* Drivers fill the receive queue with a page for each entry at once. */
#define RX_SIZE 16
#define TX_SIZE 64

/* Output goes out in pieces of at most so many bytes, so many a turn. */
#define PIECE_BYTES 4096
#define PIECES_PER_TURN 16

struct vconsole {
	struct virtio_dev dev;
	struct virtq vqs[QUEUES];
	struct virtio_console_config space;
	struct worker *worker;
	void (*write)(void *arg, const void *data, size_t len);
	void *arg;

	/* The worker's. */
	struct vq_service services[QUEUES];
	struct rate_limiter limiter;
	size_t sent_bytes; /* of the chain in hand */
	uint8_t piece[PIECE_BYTES];

	/* Typed and not yet taken by the guest. */
	pthread_mutex_t lock;
	uint8_t input[VCONSOLE_INPUT_MAX];
	size_t input_head, input_n;
};

static struct vconsole *vconsole_of(struct virtio_dev *d)
{
	return (struct vconsole *)((char *)d - offsetof(struct vconsole, dev));
}

/* ---- to the guest ---- */

static bool rx_wanted(struct vq_service *s)
{
	struct vconsole *c = vconsole_of(s->dev);
	bool any;

	pthread_mutex_lock(&c->lock);
	any = c->input_n > 0;
	pthread_mutex_unlock(&c->lock);
	return any;
}

/* As much of the input as the chain holds. What cannot be written there is
 * lost, with the guest's own chain. */
static int64_t rx_handle(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct vconsole *c = vconsole_of(s->dev);
	size_t done = 0;

	(void)ret_retry_ns;
	pthread_mutex_lock(&c->lock);
	while (done < s->chain.wr.len && c->input_n > 0) {
		size_t n = VCONSOLE_INPUT_MAX - c->input_head;

		if (n > c->input_n)
			n = c->input_n;
		if (n > s->chain.wr.len - done)
			n = s->chain.wr.len - done;
		iovs_write(&s->chain.wr, done, c->input + c->input_head, n);
		c->input_head = (c->input_head + n) % VCONSOLE_INPUT_MAX;
		c->input_n -= n;
		done += n;
	}
	pthread_mutex_unlock(&c->lock);
	return (int64_t)done;
}

static void rx_poke(void *arg)
{
	struct vconsole *c = arg;

	vq_service_poke(&c->services[RX]);
}

int vconsole_input(struct virtio_dev *d, const uint8_t *buf, size_t n)
{
	struct vconsole *c = vconsole_of(d);
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (n > VCONSOLE_INPUT_MAX - c->input_n) {
		r = -ENOBUFS;
	} else {
		for (size_t i = 0; i < n; i++)
			c->input[(c->input_head + c->input_n++) %
				 VCONSOLE_INPUT_MAX] = buf[i];
	}
	pthread_mutex_unlock(&c->lock);
	if (r == 0)
		worker_call(c->worker, rx_poke, c);
	return r;
}

/* ---- from the guest ---- */

/* A piece a call: a chain may describe gigabytes. What is over the limit stays
 * in the ring, and its writer waits. */
static int64_t tx_handle(struct vq_service *s, uint64_t *ret_retry_ns)
{
	struct vconsole *c = vconsole_of(s->dev);
	const struct iovs *from = &s->chain.rd;
	size_t n;

	if (!s->again)
		c->sent_bytes = 0;
	n = from->len - c->sent_bytes;
	if (n == 0)
		return 0;
	if (n > PIECE_BYTES)
		n = PIECE_BYTES;
	if (rate_limiter_active(&c->limiter)) {
		*ret_retry_ns = rate_limiter_take(&c->limiter, n, clock_ns());
		if (*ret_retry_ns)
			return VQ_SERVICE_HOLD;
	}
	iovs_read(from, c->sent_bytes, c->piece, n);
	c->write(c->arg, c->piece, n);
	c->sent_bytes += n;
	if (c->sent_bytes == from->len)
		return 0;
	*ret_retry_ns = VQ_SERVICE_NEXT_TURN;
	return VQ_SERVICE_HOLD;
}

struct limit_change {
	struct vconsole *c;
	const struct rate_limiter_update *update;
};

static void limit_on_worker(void *arg)
{
	struct limit_change *change = arg;

	rate_limiter_update(&change->c->limiter, change->update, clock_ns());
	vq_service_poke(&change->c->services[TX]);
}

int vconsole_limit(struct virtio_dev *d, const struct rate_limiter_update *u)
{
	struct limit_change change = {vconsole_of(d), u};

	worker_call(change.c->worker, limit_on_worker, &change);
	return 0;
}

/* ---- both ---- */

int vconsole_resize(struct virtio_dev *d, uint16_t columns, uint16_t rows)
{
	struct vconsole *c = vconsole_of(d);
	const struct virtio_console_config size = {
		.cols = columns, .rows = rows};

	_Static_assert(offsetof(struct virtio_console_config, rows) == 2,
		"columns and rows are one piece");
	c->dev.transport->config_update(&c->dev, 0, &size, 4);
	return 0;
}

static void start_on_worker(void *arg)
{
	static const struct vq_service_ops ops[QUEUES] = {
		[RX] = {.wanted = rx_wanted, .handle = rx_handle},
		[TX] = {.handle = tx_handle},
	};
	struct vconsole *c = arg;

	for (unsigned i = 0; i < QUEUES; i++)
		vq_service_start(&c->services[i], &ops[i]);
}

static int vconsole_start(struct virtio_dev *d)
{
	struct vconsole *c = vconsole_of(d);

	if (!c->vqs[RX].ready || !c->vqs[TX].ready)
		return -EINVAL;
	worker_call(c->worker, start_on_worker, c);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct vconsole *c = arg;

	for (unsigned i = 0; i < QUEUES; i++)
		vq_service_stop(&c->services[i]);
}

static void vconsole_stop(struct virtio_dev *d)
{
	struct vconsole *c = vconsole_of(d);

	worker_call(c->worker, stop_on_worker, c);
}

static int vconsole_attach(struct virtio_dev *d, struct error *err)
{
	struct vconsole *c = vconsole_of(d);

	for (unsigned i = 0; i < QUEUES; i++)
		if (vq_service_attach(&c->services[i], err) < 0)
			return error_wrap(err, "virtio-console");
	return 0;
}

static void vconsole_destroy(struct virtio_dev *d)
{
	struct vconsole *c = vconsole_of(d);

	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct virtio_dev_ops vconsole_ops = {
	.id = VIRTIO_ID_CONSOLE,
	.attach = vconsole_attach,
	.start = vconsole_start,
	.stop = vconsole_stop,
	.destroy = vconsole_destroy,
};

int vconsole_create(struct virtio_dev **ret, struct worker *w,
	const struct vconsole_config *config, struct error *err)
{
	struct vconsole *c = calloc(1, sizeof(*c));

	if (!c)
		return error_errno(err, ENOMEM, "virtio-console");
	c->worker = w;
	c->write = config->write;
	c->arg = config->arg;
	c->vqs[RX].size_max = RX_SIZE;
	c->vqs[TX].size_max = TX_SIZE;
	c->space.cols = VCONSOLE_COLUMNS;
	c->space.rows = VCONSOLE_ROWS;
	c->dev = (struct virtio_dev){
		.ops = &vconsole_ops,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX |
			    1ull << VIRTIO_CONSOLE_F_SIZE,
		.config = &c->space,
		.config_len = sizeof(c->space),
		.vqs = c->vqs,
		.n_vqs = QUEUES,
	};
	pthread_mutex_init(&c->lock, NULL);
	rate_limiter_init(&c->limiter, &config->limiter, clock_ns());
	for (unsigned i = 0; i < QUEUES; i++)
		vq_service_init(
			&c->services[i], &c->dev, w, i, PIECES_PER_TURN);
	*ret = &c->dev;
	return 0;
}
