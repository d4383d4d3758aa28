#include "virtio/memdev.h"

#include "base/counter.h"
#include "virtio/memdev_req.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct memdev {
	struct virtio_dev dev;
	struct virtq vq;
	struct virtio_mem_config space;
	struct worker *worker;
	struct memdev_state *state;

	/* The worker's. */
	struct memplug plug;
	struct worker_op kick;
	struct worker_op turn; /* deferred: after a batch, or a step */
	bool running;
	bool working;     /* on the request in chain */
	bool serve_again; /* the ring was left before it was empty */
	struct virtq_chain chain;
};

static struct memdev *memdev_of(struct virtio_dev *d)
{
	return (struct memdev *)((char *)d - offsetof(struct memdev, dev));
}

static void store(uint64_t *field, uint64_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static void turn_later(struct memdev *m)
{
	if (m->turn.state == WORKER_OP_IDLE)
		worker_defer(m->worker, &m->turn);
}

/*
 * The sizes in config space. The driver is interrupted for a new request alone:
 * what its own requests change it knows (virtio 1.2 §5.15.6).
 */
static void publish(struct memdev *m, bool tell)
{
	const struct virtio_transport_ops *t = m->dev.transport;
	struct virtio_mem_config now = m->space;
	size_t off = offsetof(struct virtio_mem_config, usable_region_size);

	now.usable_region_size = m->plug.usable;
	now.plugged_size = m->plug.plugged;
	now.requested_size = m->plug.requested;
	(tell ? t->config_update : t->config_set)(
		&m->dev, off, &now.usable_region_size, sizeof(now) - off);
	store(&m->state->requested_bytes, m->plug.requested);
	store(&m->state->plugged_bytes, m->plug.plugged);
}

static void answer(struct memdev *m, const struct virtio_mem_resp *resp)
{
	iovs_write(&m->chain.wr, 0, resp, sizeof(*resp));
	virtq_push(&m->vq, m->chain.head, sizeof(*resp));
	if (resp->type != VIRTIO_MEM_RESP_ACK)
		counter_add(&m->state->refused, 1);
	turn_later(m);
}

/* One step of the request in work. */
static void work(struct memdev *m)
{
	struct virtio_mem_resp resp;
	bool was_plug = m->plug.plug;

	if (!memplug_step(&m->plug, &resp)) {
		turn_later(m);
		publish(m, false);
		return;
	}
	m->working = false;
	publish(m, false);
	if (resp.type == VIRTIO_MEM_RESP_ACK)
		counter_add(
			was_plug ? &m->state->plugs : &m->state->unplugs, 1);
	answer(m, &resp);
}

static void handle(struct memdev *m)
{
	struct virtio_mem_req req;
	struct virtio_mem_resp resp;

	if (iovs_read(&m->chain.rd, 0, &req, sizeof(req)) < 0 ||
		m->chain.wr.len < sizeof(resp)) {
		counter_add(&m->state->malformed, 1);
		virtq_push(&m->vq, m->chain.head, 0);
		turn_later(m);
		return;
	}
	if (memplug_begin(&m->plug, &req, &resp)) {
		answer(m, &resp);
		return;
	}
	m->working = true;
	work(m);
}

/* One request at a time, and not more in one go than the ring can hold. */
static void serve(struct memdev *m)
{
	unsigned budget = m->vq.size;
	int r;

	do {
		virtq_disable_kicks(&m->vq);
		for (;;) {
			if (m->working || budget-- == 0) {
				m->serve_again = true;
				turn_later(m);
				return;
			}
			r = virtq_pop(&m->vq, &m->chain);
			if (r != 1)
				break;
			handle(m);
		}
		if (r < 0) {
			m->dev.transport->broken(&m->dev);
			return;
		}
	} while (virtq_enable_kicks(&m->vq));
}

static void kicked(struct worker_op *op, int32_t res)
{
	struct memdev *m =
		(struct memdev *)((char *)op - offsetof(struct memdev, kick));

	(void)res;
	if (m->running)
		serve(m);
}

/* Other devices have their turn between two of these. */
static void take_turn(struct worker_op *op, int32_t res)
{
	struct memdev *m =
		(struct memdev *)((char *)op - offsetof(struct memdev, turn));

	(void)res;
	if (!m->running)
		return;
	if (m->working)
		work(m);
	if (virtq_should_interrupt(&m->vq))
		m->dev.transport->interrupt(&m->dev, &m->vq);
	if (m->serve_again) {
		m->serve_again = false;
		serve(m);
	}
}

static void start_on_worker(void *arg)
{
	struct memdev *m = arg;

	m->running = true;
	m->working = false;
	m->serve_again = false;
	/* The driver may have kicked before it said DRIVER_OK. */
	serve(m);
}

static int memdev_start(struct virtio_dev *d)
{
	struct memdev *m = memdev_of(d);

	if (!m->vq.ready)
		return -EINVAL;
	worker_call(m->worker, start_on_worker, m);
	return 0;
}

/* A request in work ends where it is, with the memory that is plugged by then:
 * a reset does not change that (virtio 1.2 §5.15.6). */
static void stop_on_worker(void *arg)
{
	struct memdev *m = arg;

	m->running = false;
}

static void memdev_stop(struct virtio_dev *d)
{
	struct memdev *m = memdev_of(d);

	worker_call(m->worker, stop_on_worker, m);
}

static void memdev_destroy(struct virtio_dev *d)
{
	struct memdev *m = memdev_of(d);

	memplug_fini(&m->plug);
	free(m);
}

static int memdev_attach(struct virtio_dev *d, struct error *err)
{
	struct memdev *m = memdev_of(d);
	int r = worker_watch_fd(m->worker, &m->kick, d->kick_fds[0]);

	return r < 0 ? error_errno(err, -r, "virtio-mem's queue") : 0;
}

static const struct virtio_dev_ops memdev_ops = {
	.id = VIRTIO_ID_MEM,
	.attach = memdev_attach,
	.start = memdev_start,
	.stop = memdev_stop,
	.destroy = memdev_destroy,
};

static void describe(struct memdev *m, const struct gmem_hotplug *h)
{
	m->space = (struct virtio_mem_config){
		.block_size = h->block_bytes,
		.addr = h->gpa,
		.region_size = h->len,
		.usable_region_size = m->plug.usable,
		.requested_size = m->plug.requested,
	};
	store(&m->state->requested_bytes, m->plug.requested);
	m->vq.size_max = VIRTQ_MAX;
	m->dev = (struct virtio_dev){
		.ops = &memdev_ops,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC |
			    1ull << VIRTIO_RING_F_EVENT_IDX |
			    1ull << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE,
		.config = &m->space,
		.config_len = sizeof(m->space),
		.vqs = &m->vq,
		.n_vqs = 1,
	};
}

int memdev_create(struct virtio_dev **ret, struct worker *w,
	const struct memdev_config *config, struct error *err)
{
	struct memdev *m = calloc(1, sizeof(*m));

	if (!m)
		return error_errno(err, ENOMEM, "virtio-mem");
	m->worker = w;
	m->state = config->state;
	m->kick.done = kicked;
	m->turn.done = take_turn;
	m->plug = (struct memplug){.mem = config->mem,
		.slot_bytes = config->slot_bytes,
		.set_slot = config->set_slot,
		.arg = config->arg};
	if (memplug_init(&m->plug, config->requested_bytes) < 0) {
		free(m);
		return error_errno(err, ENOMEM, "virtio-mem");
	}
	describe(m, &config->mem->hotplug);
	*ret = &m->dev;
	return 0;
}

struct request {
	struct memdev *m;
	uint64_t bytes;
};

static void request_on_worker(void *arg)
{
	struct request *r = arg;

	memplug_request(&r->m->plug, r->bytes);
	publish(r->m, true);
}

int memdev_request(struct virtio_dev *d, uint64_t bytes)
{
	struct memdev *m = memdev_of(d);
	const struct gmem_hotplug *h = &m->plug.mem->hotplug;
	struct request r = {m, bytes};

	if (bytes % h->block_bytes || bytes > h->len)
		return -EINVAL;
	worker_call(m->worker, request_on_worker, &r);
	return 0;
}
