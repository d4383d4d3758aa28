#include "base/clock.h"
#include "base/counter.h"
#include "net/net_dev.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>

/*
 * From the tap to the guest.
 *
 * A tap has no multishot read into many buffers, and its descriptor is
 * non-blocking, so a READV which finds no packet makes io_uring wait for the
 * next by itself (on 6.1 for the sake of O_NONBLOCK, since 6.4 by
 * FMODE_NOWAIT), without a thread. One that waits costs nothing until a packet
 * comes; then one system call both brings it and posts the next. But a packet
 * wakes every read that waits, and all but the first of them in vain. So reads
 * are posted in batches, and a batch only when none of the last one is left:
 * with a backlog all of a batch finds its packet while it is submitted, in one
 * io_uring_enter, and the batches grow; without, they shrink until a lone
 * packet wakes two.
 *
 * Where the largest packet is 64 KiB and most are small, buffers for the worst
 * case would be some 40 of the ring's 256 for each read, and too few reads. So
 * a read gets buffers for what is expected, and memory of ours behind them:
 * whatever lands there is copied into more buffers, and more is expected.
 */

/* What is expected until there was something larger: a frame of the usual MTU,
 * or the one configured. */
#define SMALL_MTU 1500u
#define FRAME_OVERHEAD 22u /* Ethernet and two VLAN tags */

/* So many small packets in a row: larger ones are not expected any more. */
#define SMALL_AGAIN 256u

/* After an error of the tap's that tells nothing about the next read. */
#define PAUSE_NS 10000000u

struct virtq *net_rx_vq(const struct net_rx *rx)
{
	/* All queues of the tap are read, whatever number the driver uses: the
	 * host spreads its packets over all of them. */
	return net_rxq(rx->net, rx->index % rx->net->n_active);
}

static size_t small_bytes(const struct net *n)
{
	unsigned mtu = n->config.mtu > SMALL_MTU ? n->config.mtu : SMALL_MTU;

	return NET_HDR_BYTES + FRAME_OVERHEAD + mtu;
}

/* ---- a read's buffers ---- */

/* Adds what of a chain a packet can fill. Whether it fits. */
static bool add_buffer(struct net_rx_read *r, const struct virtq_chain *c)
{
	struct net_rx_buf *buf = &r->bufs[r->n_bufs];
	unsigned n = 0;

	*buf = (struct net_rx_buf){.head = c->head};
	for (; n < c->wr.n && r->room + buf->len < NET_MAX_BYTES; n++) {
		struct iovec v = c->wr.v[n];

		if (r->n_iov + n == VIRTQ_MAX)
			return false;
		if (v.iov_len > NET_MAX_BYTES - r->room - buf->len)
			v.iov_len = NET_MAX_BYTES - r->room - buf->len;
		r->iov[r->n_iov + n] = v;
		buf->len += (uint32_t)v.iov_len;
	}
	buf->n_iov = (uint16_t)n;
	r->n_iov += n;
	r->room += buf->len;
	r->n_bufs++;
	return true;
}

/* Pops buffers, at most max, until there is room for len bytes. Without
 * mergeable buffers a packet has one (virtio 1.2 §5.1.6.3.1). */
static void add_buffers(
	struct net *n, struct net_rx_read *r, size_t len, unsigned max)
{
	unsigned budget = r->vq->size;
	int x = 0;

	if (!n->mergeable)
		max = 1;
	while (r->room < len && r->n_bufs < max && budget--) {
		x = virtq_pop(r->vq, &n->chain);
		if (x <= 0)
			break;
		if (n->chain.rd.n || !n->chain.wr.n) {
			counter_add(&n->config.stats->malformed, 1);
			virtq_fill(r->vq, n->chain.head, 0);
			net_pushed(n, r->vq);
		} else if (!add_buffer(r, &n->chain)) {
			virtq_unpop(r->vq, n->chain.head);
			break;
		}
	}
	if (x < 0)
		net_broken(n);
}

bool net_rx_take_buffers(
	struct net_rx *rx, struct net_rx_read *r, size_t len, unsigned max)
{
	r->vq = net_rx_vq(rx);
	r->n_iov = 0;
	r->n_bufs = 0;
	r->room = 0;
	add_buffers(rx->net, r, len, max);
	return r->n_bufs > 0;
}

/* The buffers from number first on, in such an order that they come out again
 * in the one they came in. */
static void untake(struct net_rx_read *r, unsigned first)
{
	while (r->n_bufs > first)
		virtq_unpop(r->vq, r->bufs[--r->n_bufs].head);
}

void net_rx_untake(struct net_rx_read *r)
{
	untake(r, 0);
}

/* ---- packets ---- */

/*
 * A packet in the form the driver did not ask for: from before it changed its
 * mind, or before the tap heard of it. Else clears what the header may tell
 * without VIRTIO_NET_F_GUEST_CSUM: nothing (§5.1.6.4.1).
 */
static bool header_ok(struct net *n, const struct iovs *packet)
{
	uint64_t want = n->offloads;
	struct virtio_net_hdr_v1 hdr;
	uint64_t needs = 0;

	if (want == (n->config.tap_features & NET_GUEST_OFFLOADS))
		return true;
	if (iovs_read(packet, 0, &hdr, sizeof(hdr)) < 0)
		return false;
	switch (hdr.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		needs |= 1ull << VIRTIO_NET_F_GUEST_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		needs |= 1ull << VIRTIO_NET_F_GUEST_TSO6;
		break;
	default:
		return false;
	}
	if (hdr.gso_type & VIRTIO_NET_HDR_GSO_ECN)
		needs |= 1ull << VIRTIO_NET_F_GUEST_ECN;
	if (hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		needs |= 1ull << VIRTIO_NET_F_GUEST_CSUM;
	if (needs & ~want)
		return false;
	hdr.flags = 0;
	return (want & (1ull << VIRTIO_NET_F_GUEST_CSUM)) ||
	       iovs_write(packet, 0, &hdr.flags, sizeof(hdr.flags)) == 0;
}

void net_rx_hand_over(struct net *n, struct net_rx_read *r, size_t len)
{
	struct iovs packet = {r->iov, r->n_iov, r->room};
	uint16_t n_bufs = 0;
	size_t left;

	for (left = len; left > r->bufs[n_bufs].len; n_bufs++)
		left -= r->bufs[n_bufs].len;
	n_bufs++;
	iovs_write(&packet, offsetof(struct virtio_net_hdr_v1, num_buffers),
		&n_bufs, sizeof(n_bufs));
	untake(r, n_bufs);
	for (unsigned i = 0; i < n_bufs; i++) {
		uint32_t used = r->bufs[i].len;

		if (i == n_bufs - 1u)
			used = (uint32_t)left;
		virtq_fill(r->vq, r->bufs[i].head, used);
	}
	r->n_bufs = 0;
	net_pushed(n, r->vq);
}

static void expect(struct net_rx *rx, size_t len)
{
	size_t small = small_bytes(rx->net);

	if (len > rx->expected) {
		rx->expected = NET_MAX_BYTES;
		rx->n_small = 0;
	} else if (len > small) {
		rx->n_small = 0;
	} else if (++rx->n_small >= SMALL_AGAIN) {
		rx->expected = small;
	}
}

/* What landed behind the buffers goes into more of them. */
static bool fit(struct net *n, struct net_rx_read *r, size_t len)
{
	size_t before = r->room;
	struct iovs packet;

	if (len <= before)
		return true;
	if (!n->mergeable)
		return false;
	add_buffers(n, r, len, VIRTQ_MAX);
	packet = (struct iovs){r->iov, r->n_iov, r->room};
	return iovs_write(&packet, before, r->spill, len - before) == 0;
}

static void take_packet(struct net_rx *rx, struct net_rx_read *r)
{
	struct net *n = rx->net;
	struct net_stats *stats = n->config.stats;
	size_t len = (size_t)r->res;
	struct iovs packet;

	expect(rx, len);
	if (!fit(n, r, len)) {
		counter_add(&stats->rx_dropped, 1);
		return;
	}
	packet = (struct iovs){r->iov, r->n_iov, r->room};
	if (!header_ok(n, &packet)) {
		counter_add(&stats->rx_dropped, 1);
		return;
	}
	net_rx_hand_over(n, r, len);
	counter_add(&stats->rx_packets, 1);
	counter_add(&stats->rx_bytes, len - NET_HDR_BYTES);
}

static void read_failed(struct net_rx *rx, int err)
{
	struct net *n = rx->net;

	switch (err) {
	case ECANCELED:
	case EINTR:
		break;
	case EAGAIN:
		/* Woken too often in vain, or a kernel that does not wait. */
		rx->poll_first = true;
		break;
	default:
		net_tap_failed(n, err);
		net_wait(n, &n->rx_timer, clock_ns() + PAUSE_NS);
		break;
	}
}

/* Whether the packet may come in now; else rx_timer tells when. */
static bool may_take(struct net *n, const struct net_rx_read *r)
{
	uint64_t now, until;

	if (net_waits(&n->rx_timer))
		return false;
	if (r->res < (int32_t)NET_HDR_BYTES ||
		!rate_limiter_active(&n->rx_limiter))
		return true;
	now = clock_ns();
	until = rate_limiter_take(
		&n->rx_limiter, (size_t)r->res - NET_HDR_BYTES, now);
	if (until == 0)
		return true;
	counter_add(&n->config.stats->rx_throttled, 1);
	net_wait(n, &n->rx_timer, until);
	return false;
}

static void free_read(struct net_rx *rx, struct net_rx_read *r)
{
	net_rx_untake(r);
	r->next = rx->free;
	rx->free = r;
}

static unsigned deliver(struct net_rx *rx)
{
	struct net_rx_read *r;
	unsigned n = 0;

	while ((r = rx->done) && may_take(rx->net, r)) {
		rx->done = r->next;
		rx->n_bufs -= r->n_bufs;
		if (r->res >= (int32_t)NET_HDR_BYTES) {
			take_packet(rx, r);
			n++;
		} else {
			/* Shorter than its header: no tap of ours. */
			read_failed(rx, r->res < 0 ? -r->res : EPROTO);
		}
		free_read(rx, r);
	}
	if (!rx->done)
		rx->done_last = &rx->done;
	return n;
}

/* ---- reads ---- */

static void read_done(struct worker_op *op, int32_t res)
{
	struct net_rx_read *r =
		(struct net_rx_read *)((char *)op -
				       offsetof(struct net_rx_read, op));
	struct net_rx *rx = r->rx;
	struct net *n = rx->net;

	r->posted = false;
	rx->n_posted--;
	if (n->running) {
		r->res = res;
		r->next = NULL;
		*rx->done_last = r;
		rx->done_last = &r->next;
		n->rx_marked |= 1u << rx->index;
		net_settle_later(n);
	}
	net_end(n);
}

static void post_read(struct net_rx *rx, struct net_rx_read *r)
{
	struct net *n = rx->net;
	unsigned n_iov = r->n_iov;

	if (r->room < NET_MAX_BYTES)
		r->iov[n_iov++] =
			(struct iovec){r->spill, NET_MAX_BYTES - r->room};
	r->posted = true;
	rx->n_bufs += r->n_bufs;
	rx->n_posted++;
	net_begin(n);
	worker_readv(n->worker, &r->op, rx->file, r->iov, n_iov, 0);
}

/* Buffers that reads of this queue may hold: where several queues of the tap
 * share the guest's, each gets some, and so does the metadata service. */
static unsigned share(const struct net_rx *rx)
{
	const struct net *n = rx->net;
	unsigned sharers = (n->config.n_pairs + n->n_active - 1) / n->n_active;
	unsigned bufs = net_rx_vq(rx)->size;

	if (n->port)
		bufs -= bufs / 8;
	bufs /= sharers;
	return bufs ? bufs : 1;
}

/* Memory of reads that nobody needs stays untouched. */
static struct net_rx_read *take_read(struct net_rx *rx)
{
	struct net_rx_read *r = rx->free;

	if (r) {
		rx->free = r->next;
		return r;
	}
	r = &rx->reads[rx->n_used];
	r->op.done = read_done;
	r->rx = rx;
	r->spill = rx->spill + rx->n_used++ * NET_MAX_BYTES;
	return r;
}

static bool post_one(struct net_rx *rx)
{
	unsigned max = share(rx);
	struct net_rx_read *r;

	if (rx->n_bufs >= max)
		return false;
	r = take_read(rx);
	if (!net_rx_take_buffers(rx, r, rx->expected, max - rx->n_bufs)) {
		free_read(rx, r);
		return false;
	}
	post_read(rx, r);
	return true;
}

static void poll_done(struct worker_op *op, int32_t res)
{
	struct net_rx *rx =
		(struct net_rx *)((char *)op - offsetof(struct net_rx, poll));

	(void)res;
	rx->net->rx_marked |= 1u << rx->index;
	net_settle_later(rx->net);
	net_end(rx->net);
}

static bool may_post(const struct net_rx *rx)
{
	const struct net *n = rx->net;

	return !n->gone && net_tap_settled(n) && !net_waits(&n->rx_timer) &&
	       rx->poll.state == WORKER_OP_IDLE && !rx->n_posted && !rx->done;
}

/* Which of the tap's queues that share a virtqueue have no buffer: bits. */
static uint32_t starving(const struct net *n, const struct virtq *vq)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < n->config.n_pairs; i++) {
		const struct net_rx *rx = &n->rx[i];

		if (net_rx_vq(rx) == vq && !rx->n_posted && !rx->done)
			bits |= 1u << i;
	}
	return bits;
}

static void post(struct net_rx *rx)
{
	struct virtq *vq = net_rx_vq(rx);
	struct net *n = rx->net;
	uint32_t starved;

	if (rx->poll_first) {
		rx->poll_first = false;
		net_begin(n);
		worker_poll(n->worker, &rx->poll, rx->file, POLLIN);
		return;
	}
	virtq_disable_kicks(vq);
	while (rx->n_posted < rx->depth && post_one(rx))
		;
	/* Kicks matter only to who has no buffer; one that came just before is
	 * seen here. */
	starved = starving(n, vq);
	if (starved && virtq_enable_kicks(vq)) {
		n->rx_marked |= starved;
		net_settle_later(n);
	}
}

void net_rx_serve(struct net_rx *rx)
{
	unsigned n = deliver(rx);

	if (!may_post(rx))
		return;
	/* All that was posted has come: was it at once? */
	if (n >= rx->depth)
		rx->depth *= 2;
	else if (n > 0)
		rx->depth = n + 1;
	if (rx->depth > NET_RX_READS)
		rx->depth = NET_RX_READS;
	if (rx->depth < NET_RX_READS_MIN)
		rx->depth = NET_RX_READS_MIN;
	post(rx);
}

/* ---- its life ---- */

int net_rx_init(struct net *n, unsigned index, unsigned file)
{
	struct net_rx *rx = &n->rx[index];

	rx->net = n;
	rx->index = index;
	rx->file = file;
	rx->poll.done = poll_done;
	rx->reads = calloc(NET_RX_READS, sizeof(*rx->reads));
	rx->spill = calloc(NET_RX_READS, NET_MAX_BYTES);
	return rx->reads && rx->spill ? 0 : -ENOMEM;
}

void net_rx_fini(struct net_rx *rx)
{
	free(rx->reads);
	free(rx->spill);
}

void net_rx_start(struct net_rx *rx)
{
	rx->n_used = 0;
	rx->free = NULL;
	rx->done = NULL;
	rx->done_last = &rx->done;
	rx->n_bufs = 0;
	rx->depth = NET_RX_READS_MIN;
	rx->expected = small_bytes(rx->net);
	rx->n_small = 0;
	rx->poll_first = false;
}

void net_rx_stop(struct net_rx *rx)
{
	for (unsigned i = 0; i < rx->n_used; i++)
		if (rx->reads[i].posted)
			worker_cancel(rx->net->worker, &rx->reads[i].op);
	worker_cancel(rx->net->worker, &rx->poll);
}
