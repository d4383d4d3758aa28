#include "virtio/vsock_dev.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>

enum { RX, TX, EVENT };

/* For a client's first line, the guest's answer to it, the daemon's to the
 * guest, the guest's last word. */
#define PATIENCE_NS 10000000000ull

_Static_assert(offsetof(struct vsock, dev) == 0, "a device is its vsock");

_Static_assert(VSOCK_MEMORY_BYTES / 16 >
		       VSOCK_MAX_CONNECTIONS * sizeof(struct vsock_conn),
	"the table is within its promise");

static struct vsock *vsock_of(struct virtio_dev *d)
{
	return (struct vsock *)d;
}

static void check_idle(struct vsock *v)
{
	if (v->running || v->n_conns > 0 || v->settle.state != WORKER_OP_IDLE ||
		v->accept.state != WORKER_OP_IDLE ||
		v->timer.state != WORKER_OP_IDLE)
		return;
	pthread_mutex_lock(&v->lock);
	v->idle = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void vsock_settle_later(struct vsock *v)
{
	if (v->settle.state == WORKER_OP_IDLE)
		worker_defer(v->worker, &v->settle);
}

static void settle(struct worker_op *op, int32_t res)
{
	struct vsock *v =
		(struct vsock *)((char *)op - offsetof(struct vsock, settle));
	bool told;

	(void)res;
	if (v->running) {
		vsock_serve_rx(v);
		if (v->serve_tx && v->n_strays < VSOCK_STRAYS)
			vsock_serve_tx(v);
		told = virtq_should_interrupt(&v->vqs[RX]);
		if (virtq_should_interrupt(&v->vqs[TX]) || told)
			v->dev.transport->interrupt(&v->dev, &v->vqs[RX]);
	}
	check_idle(v);
}

static void rx_kicked(struct worker_op *op, int32_t res)
{
	(void)res;
	vsock_settle_later(
		(struct vsock *)((char *)op - offsetof(struct vsock, rx_kick)));
}

static void tx_kicked(struct worker_op *op, int32_t res)
{
	struct vsock *v =
		(struct vsock *)((char *)op - offsetof(struct vsock, tx_kick));

	(void)res;
	v->serve_tx = true;
	vsock_settle_later(v);
}

static void clients_came(struct worker_op *op, int32_t res)
{
	struct vsock *v =
		(struct vsock *)((char *)op - offsetof(struct vsock, listener));

	(void)res;
	if (v->running)
		vsock_host_accept(v);
}

static void time_is_up(struct worker_op *op, int32_t res)
{
	struct vsock *v =
		(struct vsock *)((char *)op - offsetof(struct vsock, timer));
	uint64_t now = clock_ns();
	struct vsock_conn *c;

	while (v->running && res != -ECANCELED &&
		(c = TAILQ_FIRST(&v->limited))) {
		if (c->deadline_ns > now) {
			worker_timer(v->worker, &v->timer, c->deadline_ns);
			break;
		}
		vsock_kill(c, true);
	}
	vsock_settle_later(v);
}

static void start_on_worker(void *arg)
{
	struct vsock *v = arg;

	v->running = true;
	v->broken = false;
	v->idle = false;
	/* The driver may have kicked before it said DRIVER_OK, and clients may
	 * have come. */
	v->serve_tx = true;
	vsock_host_accept(v);
	vsock_settle_later(v);
}

static int vsock_start(struct virtio_dev *d)
{
	struct vsock *v = vsock_of(d);

	/* There are no events to tell of. */
	if (!v->vqs[RX].ready || !v->vqs[TX].ready)
		return -EINVAL;
	worker_call(v->worker, start_on_worker, v);
	return 0;
}

static void stop_on_worker(void *arg)
{
	struct vsock *v = arg;

	v->running = false;
	v->n_strays = 0;
	worker_cancel(v->worker, &v->timer);
	worker_cancel(v->worker, &v->accept);
	for (unsigned i = 0; i < v->n_used; i++)
		if (v->conns[i].in_use)
			vsock_kill(&v->conns[i], false);
	vsock_settle_later(v);
}

/* Connections end once what the kernel has of them is back: then neither it nor
 * the worker knows guest memory any more. */
static void vsock_stop(struct virtio_dev *d)
{
	struct vsock *v = vsock_of(d);

	worker_call(v->worker, stop_on_worker, v);
	pthread_mutex_lock(&v->lock);
	while (!v->idle)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
	vsock_queue_reset(&v->rx);
	vsock_queue_reset(&v->tx);
}

static void vsock_destroy(struct virtio_dev *d)
{
	struct vsock *v = vsock_of(d);

	for (unsigned i = 0; i < v->n_used; i++)
		if (v->conns[i].in_use)
			close_fd(&v->conns[i].fd);
	vsock_queue_fini(&v->rx);
	vsock_queue_fini(&v->tx);
	vsock_arena_fini(&v->arena);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->changed);
	free(v->conns);
	free(v->buckets);
	free(v);
}

static int vsock_attach_files(struct virtio_dev *d, struct error *err)
{
	struct vsock *v = vsock_of(d);
	const struct {
		struct worker_op *op;
		int fd;
	} watches[] = {{&v->rx_kick, d->kick_fds[RX]},
		{&v->tx_kick, d->kick_fds[TX]},
		{&v->listener, v->config.listen_fd}};

	for (size_t i = 0; i < sizeof(watches) / sizeof(watches[0]); i++) {
		int r = worker_watch_fd(
			v->worker, watches[i].op, watches[i].fd);

		if (r < 0)
			return error_errno(err, -r, "virtio-vsock's files");
	}
	return 0;
}

static const struct virtio_dev_ops vsock_ops = {
	.id = VIRTIO_ID_VSOCK,
	.attach = vsock_attach_files,
	.start = vsock_start,
	.stop = vsock_stop,
	.destroy = vsock_destroy,
};

static void describe(struct vsock *v)
{
	v->space.guest_cid = v->config.guest_cid;
	for (unsigned i = RX; i <= EVENT; i++)
		v->vqs[i].size_max = VIRTQ_MAX;
	v->dev = (struct virtio_dev){
		.ops = &vsock_ops,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX,
		.config = &v->space,
		.config_len = sizeof(v->space),
		.vqs = v->vqs,
		.n_vqs = EVENT + 1,
	};
	v->rx_kick.done = rx_kicked;
	v->tx_kick.done = tx_kicked;
	v->listener.done = clients_came;
	v->settle.done = settle;
	v->accept.done = vsock_host_accept_done;
	v->timer.done = time_is_up;
}

static int make_parts(struct vsock *v, struct error *err)
{
	int r;

	v->conns = calloc(VSOCK_MAX_CONNECTIONS, sizeof(struct vsock_conn));
	v->buckets = calloc(VSOCK_BUCKETS, sizeof(struct vsock_conn *));
	if (!v->conns || !v->buckets)
		return error_errno(err, ENOMEM, "virtio-vsock");
	if (getrandom(&v->hash_key, sizeof(v->hash_key), 0) !=
		sizeof(v->hash_key))
		return error_errno(err, errno, "random bytes for vsock");
	r = vsock_arena_init(&v->arena, VSOCK_MAX_CONNECTIONS, err);
	if (r == 0)
		r = vsock_queue_init(&v->rx, &v->vqs[RX], err);
	if (r == 0)
		r = vsock_queue_init(&v->tx, &v->vqs[TX], err);
	return r;
}

int vsock_create(struct virtio_dev **ret, struct worker *w,
	const struct vsock_config *config, struct error *err)
{
	struct vsock *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return error_errno(err, ENOMEM, "virtio-vsock");
	v->config = *config;
	if (v->config.patience_ns == 0)
		v->config.patience_ns = PATIENCE_NS;
	v->worker = w;
	v->last_port = VSOCK_HOST_PORT_FIRST - 1;
	TAILQ_INIT(&v->talkers);
	TAILQ_INIT(&v->limited);
	TAILQ_INIT(&v->asking);
	v->idle = true;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	describe(v);
	r = make_parts(v, err);
	if (r < 0) {
		vsock_destroy(&v->dev);
		return r;
	}
	*ret = &v->dev;
	return 0;
}
