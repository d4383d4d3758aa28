#include "base/clock.h"
#include "net/net_dev.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define BIT(n) (1ull << (n))

/* What there is of struct virtio_net_config with our features: up to the MTU.
 */
#define CONFIG_BYTES offsetof(struct virtio_net_config, speed)

#define ERROR_STORM_S 10

static struct net *net_of(struct virtio_dev *d)
{
	return (struct net *)((char *)d - offsetof(struct net, dev));
}

void net_begin(struct net *n)
{
	n->in_flight++;
}

void net_end(struct net *n)
{
	n->in_flight--;
	if (n->running || n->in_flight)
		return;
	pthread_mutex_lock(&n->lock);
	n->idle = true;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
}

void net_settle_later(struct net *n)
{
	if (n->settle.state != WORKER_OP_IDLE)
		return;
	net_begin(n);
	worker_defer(n->worker, &n->settle);
}

void net_pushed(struct net *n, const struct virtq *vq)
{
	n->pushed |= 1u << (vq - n->vqs);
}

void net_broken(struct net *n)
{
	n->dev.transport->broken(&n->dev);
}

void net_wait(struct net *n, struct worker_op *timer, uint64_t until_ns)
{
	if (timer->state != WORKER_OP_IDLE)
		return;
	net_begin(n);
	worker_timer(n->worker, timer, until_ns);
}

bool net_waits(const struct worker_op *timer)
{
	return timer->state != WORKER_OP_IDLE;
}

void net_mark_all(struct net *n)
{
	n->marked = ~0u;
	n->rx_marked = ~0u;
	net_settle_later(n);
}

/* ---- serving ---- */

/* Buffers came: for every queue of the tap whose packets go there. */
static void mark_rx(struct net *n, const struct virtq *vq)
{
	for (unsigned i = 0; i < n->config.n_pairs; i++)
		if (net_rx_vq(&n->rx[i]) == vq)
			n->rx_marked |= 1u << i;
}

static void serve(struct net *n)
{
	uint32_t marked = n->marked, rx_marked;

	n->marked = 0;
	if (n->ctrl_vq && (marked & BIT(n->ctrl_vq)))
		net_ctrl_serve(n);
	for (unsigned i = 0; i < n->n_pairs; i++)
		if (marked & BIT(2 * i))
			mark_rx(n, net_rxq(n, i));
	rx_marked = n->rx_marked;
	n->rx_marked = 0;
	for (unsigned i = 0; i < n->config.n_pairs; i++)
		if (rx_marked & BIT(i))
			net_rx_serve(&n->rx[i]);
	for (unsigned i = 0; i < n->n_pairs; i++)
		if (marked & BIT(2 * i + 1))
			net_tx_serve(&n->tx[i]);
	net_mmds_serve(n);
}

/* One interrupt for all queues (virtio 1.2 §4.2.3.3). */
static void interrupt(struct net *n)
{
	struct virtq *wants = NULL;

	for (unsigned i = 0; i < n->dev.n_vqs; i++) {
		if (!(n->pushed & BIT(i)))
			continue;
		virtq_publish(&n->vqs[i]);
		if (virtq_should_interrupt(&n->vqs[i]))
			wants = &n->vqs[i];
	}
	n->pushed = 0;
	if (wants)
		n->dev.transport->interrupt(&n->dev, wants);
}

static void settle(struct worker_op *op, int32_t res)
{
	struct net *n =
		(struct net *)((char *)op - offsetof(struct net, settle));

	(void)res;
	if (n->running) {
		serve(n);
		interrupt(n);
	}
	net_end(n);
}

static void kicked(struct worker_op *op, int32_t res)
{
	struct net_kick *kick =
		(struct net_kick *)((char *)op - offsetof(struct net_kick, op));
	struct net *n = kick->net;

	(void)res;
	if (!n->running)
		return;
	n->marked |= 1u << kick->vq;
	net_settle_later(n);
}

static void on_rx_timer(struct worker_op *op, int32_t res)
{
	struct net *n =
		(struct net *)((char *)op - offsetof(struct net, rx_timer));

	(void)res;
	n->rx_marked = ~0u;
	net_settle_later(n);
	net_end(n);
}

static void on_tx_timer(struct worker_op *op, int32_t res)
{
	struct net *n =
		(struct net *)((char *)op - offsetof(struct net, tx_timer));

	(void)res;
	n->marked = ~0u;
	net_settle_later(n);
	net_end(n);
}

/* ---- start and stop ---- */

static bool acked(const struct net *n, unsigned feature)
{
	return n->dev.acked & BIT(feature);
}

/* Virtio 1.2 §5.1.2: without MQ the control queue follows the first pair. */
static unsigned find_ctrl_vq(const struct net *n)
{
	unsigned vq = acked(n, VIRTIO_NET_F_MQ) ? 2 * n->config.n_pairs : 2;

	if (!acked(n, VIRTIO_NET_F_CTRL_VQ) || !n->vqs[vq].ready)
		return 0;
	return vq;
}

static unsigned count_pairs(struct net *n)
{
	unsigned max = acked(n, VIRTIO_NET_F_MQ) ? n->config.n_pairs : 1;
	unsigned i = 0;

	while (i < max && net_rxq(n, i)->ready && net_txq(n, i)->ready)
		i++;
	return i;
}

static void start_on_worker(void *arg)
{
	struct net *n = arg;

	n->running = true;
	n->idle = false;
	n->mergeable = acked(n, VIRTIO_NET_F_MRG_RXBUF);
	n->n_pairs = count_pairs(n);
	n->n_active = 1;
	n->ctrl_vq = find_ctrl_vq(n);
	n->marked = n->rx_marked = n->pushed = 0;
	for (unsigned i = 0; i < n->config.n_pairs; i++)
		net_rx_start(&n->rx[i]);
	for (unsigned i = 0; i < n->n_pairs; i++)
		net_tx_start(&n->tx[i], net_txq(n, i));
	net_tap_start(n);
	net_mmds_start(n);
	/* The driver may have kicked before it said DRIVER_OK. */
	net_mark_all(n);
}

static int net_start(struct virtio_dev *d)
{
	struct net *n = net_of(d);

	if (!n->vqs[0].ready || !n->vqs[1].ready)
		return -EINVAL;
	worker_call(n->worker, start_on_worker, n);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct net *n = arg;

	/* So that it is idle in here, or when the last of these is done. */
	net_begin(n);
	n->running = false;
	for (unsigned i = 0; i < n->config.n_pairs; i++)
		net_rx_stop(&n->rx[i]);
	for (unsigned i = 0; i < n->n_pairs; i++)
		net_tx_stop(&n->tx[i]);
	net_tap_stop(n);
	net_mmds_stop(n);
	worker_cancel(n->worker, &n->rx_timer);
	worker_cancel(n->worker, &n->tx_timer);
	net_end(n);
}

/* Reads and writes that are out are cancelled or complete: then the kernel does
 * not know guest memory any more. */
static void net_stop(struct virtio_dev *d)
{
	struct net *n = net_of(d);

	worker_call(n->worker, stop_on_worker, n);
	pthread_mutex_lock(&n->lock);
	while (!n->idle)
		pthread_cond_wait(&n->changed, &n->lock);
	pthread_mutex_unlock(&n->lock);
}

static int net_attach(struct virtio_dev *d, struct error *err)
{
	struct net *n = net_of(d);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < d->n_vqs; i++) {
		n->kicks[i] =
			(struct net_kick){.op.done = kicked, .net = n, .vq = i};
		r = worker_watch_fd(n->worker, &n->kicks[i].op, d->kick_fds[i]);
	}
	return r < 0 ? error_errno(err, -r, "virtio-net's queues") : 0;
}

/* ---- creation ---- */

static void net_destroy(struct virtio_dev *d)
{
	struct net *n = net_of(d);

	net_mmds_fini(n);
	for (unsigned i = 0; n->rx && i < n->config.n_pairs; i++)
		net_rx_fini(&n->rx[i]);
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->changed);
	free(n->rx);
	free(n->tx);
	free(n);
}

static const struct virtio_dev_ops net_ops = {
	.id = VIRTIO_ID_NET,
	.attach = net_attach,
	.start = net_start,
	.stop = net_stop,
	.destroy = net_destroy,
};

static void describe(struct net *n)
{
	uint64_t features =
		BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
		BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_VQ);

	features |= n->config.tap_features & NET_TAP_FEATURES;
	if (features & NET_GUEST_OFFLOADS)
		features |= BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (n->config.has_mac) {
		features |= BIT(VIRTIO_NET_F_MAC);
		memcpy(n->space.mac, n->config.mac, sizeof(n->space.mac));
	}
	if (n->config.mtu) {
		features |= BIT(VIRTIO_NET_F_MTU);
		n->space.mtu = n->config.mtu;
	}
	if (n->config.n_pairs > 1) {
		features |= BIT(VIRTIO_NET_F_MQ);
		n->space.max_virtqueue_pairs = (uint16_t)n->config.n_pairs;
	}
	n->space.status = VIRTIO_NET_S_LINK_UP;
	n->dev = (struct virtio_dev){
		.ops = &net_ops,
		.features = features,
		.config = &n->space,
		.config_len = CONFIG_BYTES,
		.vqs = n->vqs,
		.n_vqs = 2 * n->config.n_pairs + 1,
	};
	for (unsigned i = 0; i < n->dev.n_vqs; i++)
		n->vqs[i].size_max = VIRTQ_MAX;
}

static int init_queues(struct net *n)
{
	unsigned file = 0;
	int r = 0;

	n->rx = calloc(n->config.n_pairs, sizeof(*n->rx));
	n->tx = calloc(n->config.n_pairs, sizeof(*n->tx));
	if (!n->rx || !n->tx)
		return -ENOMEM;
	for (unsigned i = 0; r == 0 && i < n->config.n_pairs; i++) {
		r = worker_add_file(n->worker, n->config.tap_fds[i], &file);
		if (r == 0)
			r = net_rx_init(n, i, file);
		net_tx_init(n, i, file);
	}
	return r;
}

int net_create(struct virtio_dev **ret, struct worker *w,
	const struct net_config *config, struct error *err)
{
	struct net *n;
	int r;

	if (config->n_pairs < 1 || config->n_pairs > NET_MAX_PAIRS)
		return error_set(err, EINVAL,
			"virtio-net has between 1 and %d pairs of queues",
			NET_MAX_PAIRS);
	n = calloc(1, sizeof(*n));
	if (!n)
		return error_errno(err, ENOMEM, "virtio-net");
	n->config = *config;
	n->worker = w;
	n->idle = true;
	n->error_limit = (struct log_limit)LOG_LIMIT(1, ERROR_STORM_S);
	n->settle.done = settle;
	n->rx_timer.done = on_rx_timer;
	n->tx_timer.done = on_tx_timer;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
	rate_limiter_init(&n->rx_limiter, &config->rx_limiter, clock_ns());
	rate_limiter_init(&n->tx_limiter, &config->tx_limiter, clock_ns());
	describe(n);
	net_tap_init(n);
	r = init_queues(n);
	r = r < 0 ? error_errno(err, -r, "virtio-net") : net_mmds_init(n, err);
	if (r < 0) {
		net_destroy(&n->dev);
		return r;
	}
	*ret = &n->dev;
	return 0;
}

/* ---- rate limiters ---- */

struct limit_call {
	struct net *net;
	struct rate_limiter *limiter;
	struct worker_op *timer;
	const struct rate_limiter_update *update;
};

static void limit_on_worker(void *arg)
{
	const struct limit_call *c = arg;

	rate_limiter_update(c->limiter, c->update, clock_ns());
	/* What waits for the old limit tries again. */
	worker_cancel(c->net->worker, c->timer);
}

int net_limit_rx(struct virtio_dev *d, const struct rate_limiter_update *u)
{
	struct net *n = net_of(d);
	struct limit_call c = {n, &n->rx_limiter, &n->rx_timer, u};

	worker_call(n->worker, limit_on_worker, &c);
	return 0;
}

int net_limit_tx(struct virtio_dev *d, const struct rate_limiter_update *u)
{
	struct net *n = net_of(d);
	struct limit_call c = {n, &n->tx_limiter, &n->tx_timer, u};

	worker_call(n->worker, limit_on_worker, &c);
	return 0;
}
