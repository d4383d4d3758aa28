#include "base/counter.h"
#include "net/net_dev.h"

#include <string.h>

/*
 * The control queue (virtio 1.2 §5.1.6.5): how many pairs of queues are used,
 * and which offloads received packets may have. Any other class of commands
 * belongs to features which are not offered.
 */

struct cmd {
	const struct virtq_chain *chain;
	struct virtio_net_ctrl_hdr hdr;
};

/* The command's data, of just this size. */
static bool data_of(const struct cmd *c, void *ret, size_t len)
{
	return c->chain->rd.len == sizeof(c->hdr) + len &&
	       iovs_read(&c->chain->rd, sizeof(c->hdr), ret, len) == 0;
}

static bool set_pairs(struct net *n, const struct cmd *c)
{
	struct virtio_net_ctrl_mq mq;

	if (!(n->dev.acked & (1ull << VIRTIO_NET_F_MQ)) ||
		c->hdr.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
		!data_of(c, &mq, sizeof(mq)))
		return false;
	if (mq.virtqueue_pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN ||
		mq.virtqueue_pairs > n->n_pairs)
		return false;
	/* Reads that are out keep their buffers, of the queue they are from. */
	n->n_active = mq.virtqueue_pairs;
	n->rx_marked = ~0u;
	return true;
}

static bool set_offloads(struct net *n, const struct cmd *c)
{
	const uint64_t acked = n->dev.acked;
	uint64_t offloads;

	if (!(acked & (1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) ||
		c->hdr.cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
		!data_of(c, &offloads, sizeof(offloads)))
		return false;
	if (offloads & ~(acked & NET_GUEST_OFFLOADS))
		return false;
	net_tap_set_offloads(n, offloads);
	return true;
}

static void obey(struct net *n)
{
	struct virtq *vq = &n->vqs[n->ctrl_vq];
	struct cmd c = {.chain = &n->chain};
	uint8_t ack = VIRTIO_NET_ERR;
	bool ok = false;

	if (iovs_read(&n->chain.rd, 0, &c.hdr, sizeof(c.hdr)) < 0) {
		counter_add(&n->config.stats->malformed, 1);
	} else {
		switch (c.hdr.class) {
		case VIRTIO_NET_CTRL_MQ:
			ok = set_pairs(n, &c);
			break;
		case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
			ok = set_offloads(n, &c);
			break;
		default:
			break;
		}
	}
	if (ok)
		ack = VIRTIO_NET_OK;
	virtq_fill(vq, n->chain.head,
		iovs_write(&n->chain.wr, 0, &ack, 1) == 0 ? 1 : 0);
	net_pushed(n, vq);
}

void net_ctrl_serve(struct net *n)
{
	struct virtq *vq = &n->vqs[n->ctrl_vq];
	unsigned budget = vq->size;
	int r = 0;

	virtq_disable_kicks(vq);
	/* A command waits for what the one before it asked of the tap. */
	while (budget && net_tap_settled(n)) {
		r = virtq_pop(vq, &n->chain);
		if (r <= 0)
			break;
		budget--;
		obey(n);
	}
	if (r < 0) {
		net_broken(n);
		return;
	}
	if (!net_tap_settled(n))
		return;
	if (!budget || virtq_enable_kicks(vq)) {
		n->marked |= 1u << n->ctrl_vq;
		net_settle_later(n);
	}
}
