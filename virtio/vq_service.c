#include "virtio/vq_service.h"

#include <errno.h>
#include <stddef.h>

static struct virtq *queue(const struct vq_service *s)
{
	return &s->dev->vqs[s->index];
}

static void next_turn(struct vq_service *s)
{
	if (s->turn.state == WORKER_OP_IDLE)
		worker_defer(s->worker, &s->turn);
}

/* A timer that fires too early does no harm; one that would come too late is
 * set anew when its cancellation has arrived. */
static void look_again_at(struct vq_service *s, uint64_t retry_ns)
{
	if (retry_ns == VQ_SERVICE_POKED)
		return;
	if (s->timer.state == WORKER_OP_IDLE) {
		worker_timer(s->worker, &s->timer, retry_ns);
	} else if (s->timer.deadline_ns > retry_ns) {
		s->retimed = true;
		worker_cancel(s->worker, &s->timer);
	}
}

/* The next chain in s->chain: 1; 0: none, -EPROTO. */
static int take(struct vq_service *s)
{
	int r;

	s->again = s->held;
	if (s->held)
		return 1;
	do {
		if (s->ops->wanted && !s->ops->wanted(s))
			return 0;
		r = virtq_pop(queue(s), &s->chain);
	} while (r == 0 && virtq_enable_kicks(queue(s)));
	return r;
}

/* Returns whether there may be more to do at once. */
static bool serve_one(struct vq_service *s)
{
	uint64_t retry_ns = VQ_SERVICE_POKED;
	int64_t written_bytes;
	int r = take(s);

	if (r < 0)
		s->dev->transport->broken(s->dev);
	if (r <= 0)
		return false;
	virtq_disable_kicks(queue(s));
	written_bytes = s->ops->handle(s, &retry_ns);
	s->held = written_bytes == VQ_SERVICE_HOLD;
	if (s->held) {
		look_again_at(s, retry_ns);
		return false;
	}
	virtq_push(queue(s), s->chain.head, (uint32_t)written_bytes);
	return true;
}

static void serve(struct vq_service *s)
{
	unsigned n = 0;

	while (n < s->per_turn && serve_one(s))
		n++;
	if (n == s->per_turn)
		next_turn(s);
	if (virtq_should_interrupt(queue(s)))
		s->dev->transport->interrupt(s->dev, queue(s));
}

void vq_service_poke(struct vq_service *s)
{
	if (s->running)
		serve(s);
}

static void kicked(struct worker_op *op, int32_t res)
{
	(void)res;
	vq_service_poke(
		(struct vq_service *)((char *)op -
				      offsetof(struct vq_service, kick)));
}

static void turn_came(struct worker_op *op, int32_t res)
{
	(void)res;
	vq_service_poke(
		(struct vq_service *)((char *)op -
				      offsetof(struct vq_service, turn)));
}

static void timer_came(struct worker_op *op, int32_t res)
{
	struct vq_service *s =
		(struct vq_service *)((char *)op -
				      offsetof(struct vq_service, timer));

	/* Not ours: the worker stops, and would cancel the next one, too. */
	if (res == -ECANCELED && !s->retimed)
		return;
	s->retimed = false;
	vq_service_poke(s);
}

void vq_service_init(struct vq_service *s, struct virtio_dev *dev,
	struct worker *w, unsigned index, unsigned per_turn)
{
	s->dev = dev;
	s->worker = w;
	s->index = index;
	s->per_turn = per_turn;
	s->kick.done = kicked;
	s->turn.done = turn_came;
	s->timer.done = timer_came;
}

int vq_service_attach(struct vq_service *s, struct error *err)
{
	int r = worker_watch_fd(
		s->worker, &s->kick, s->dev->kick_fds[s->index]);

	return r < 0 ? error_errno(err, -r, "queue %u", s->index) : 0;
}

void vq_service_start(struct vq_service *s, const struct vq_service_ops *ops)
{
	s->ops = ops;
	s->running = true;
	s->held = false;
	/* The driver may have kicked before it said DRIVER_OK. */
	serve(s);
}

/* A timer that was set finds nothing to do, or the next driver's queue, which
 * it may look at any time. */
void vq_service_stop(struct vq_service *s)
{
	s->running = false;
	s->held = false;
}
