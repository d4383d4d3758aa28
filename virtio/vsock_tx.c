#include "base/counter.h"
#include "virtio/vsock_dev.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

static struct vsock_conn *conn_of_out(struct worker_op *op)
{
	return (struct vsock_conn *)((char *)op -
				     offsetof(struct vsock_conn, out));
}

/* ---- bytes to a host peer ---- */

/* A chain that is through, or for nobody. */
static void let_go(struct vsock_conn *c)
{
	struct vsock_chain *b = c->held;

	c->held = b->next;
	if (!c->held)
		c->held_last = &c->held;
	vsock_queue_push(&c->dev->tx, b, 0);
	vsock_settle_later(c->dev);
}

void vsock_tx_discard(struct vsock_conn *c)
{
	c->ok_len = 0;
	while (c->held) {
		c->fwd_cnt += c->held->len - c->held->done;
		let_go(c);
	}
	c->fwd_cnt += c->buf.len;
	vsock_buf_drop(&c->dev->arena, &c->buf, c->buf.len);
}

static void wrote_held(struct vsock_conn *c, uint32_t n)
{
	while (c->held && n >= c->held->len - c->held->done) {
		n -= c->held->len - c->held->done;
		let_go(c);
	}
	if (c->held)
		c->held->done += n;
}

/* The peer does not keep up: its chains go back to the guest, what they hold
 * waits here. */
static void spill(struct vsock_conn *c)
{
	struct vsock_chain *b;

	while ((b = c->held)) {
		struct iovs view = vsock_chain_view(b);

		vsock_buf_append(&c->dev->arena, &c->buf, &view, b->done,
			b->len - b->done);
		let_go(c);
	}
}

static void writable(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_out(op);

	(void)res;
	c->full = false;
	vsock_update(c);
}

static void written(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_out(op);
	uint32_t n = res > 0 ? (uint32_t)res : 0;

	c->fwd_cnt += n;
	if (c->buf.len > 0)
		vsock_buf_drop(&c->dev->arena, &c->buf, n);
	else
		wrote_held(c, n);
	if (res < 0 && res != -EAGAIN) {
		/* It reads no more; perhaps it still writes. */
		vsock_tx_discard(c);
		c->shut_host |= VIRTIO_VSOCK_SHUTDOWN_RCV;
		if (c->state == VSOCK_OPEN)
			c->want |= VSOCK_WANT_SHUTDOWN;
	} else if (n < c->out_bytes) {
		spill(c);
		c->full = true;
	}
	vsock_update(c);
}

/* A connection's first bytes find room in any socket. */
static void greeted(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_out(op);
	bool ok = res == c->ok_len;

	c->ok_len = 0;
	if (!ok && c->state == VSOCK_OPEN)
		vsock_kill(c, true);
	else
		vsock_update(c);
}

static void write_iov(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
	c->out_msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = n};
	worker_sendmsg(c->dev->worker, &c->out, c->file, &c->out_msg);
}

/* All that is held, or as much as one array of pieces takes: the first one's,
 * behind its own. */
static void write_held(struct vsock_conn *c)
{
	struct vsock_chain *first = c->held, *b = first;
	unsigned n = first->n_data;

	c->out_bytes = first->len;
	while ((b = b->next) && n + b->n_data <= VIRTQ_MAX) {
		for (unsigned i = 0; i < b->n_data; i++)
			first->data[n++] = b->data[i];
		c->out_bytes += b->len;
	}
	write_iov(c, first->data, n);
}

void vsock_tx_write(struct vsock_conn *c)
{
	unsigned n;

	if (c->out.state != WORKER_OP_IDLE)
		return;
	c->out.done = written;
	if (c->ok_len > 0) {
		c->out.done = greeted;
		c->out_iov[0] = (struct iovec){c->ok, c->ok_len};
		write_iov(c, c->out_iov, 1);
	} else if (c->buf.len > 0 && c->full) {
		c->out.done = writable;
		worker_poll(c->dev->worker, &c->out, c->file, POLLOUT);
	} else if (c->buf.len > 0) {
		n = vsock_buf_peek(&c->dev->arena, &c->buf, c->out_iov,
			VSOCK_OUT_IOVS, &c->out_bytes);
		write_iov(c, c->out_iov, n);
	} else if (c->held) {
		write_held(c);
	}
}

/* ---- packets of connections ---- */

/* Whether the chain is held until its bytes are written. */
static bool take_bytes(struct vsock_conn *c, const struct vsock_pkt *pkt,
	struct vsock_chain *b)
{
	struct iovs view;

	if (pkt->len > c->buf_alloc - (c->rx_cnt - c->fwd_cnt) ||
		(c->shut_guest & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		counter_add(&c->dev->config.stats->malformed, 1);
		vsock_kill(c, true);
		return false;
	}
	c->rx_cnt += pkt->len;
	if (pkt->len == 0 || (c->shut_host & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		c->fwd_cnt += pkt->len;
		return false;
	}
	counter_add(&c->dev->config.stats->tx_bytes, pkt->len);
	vsock_chain_payload(b, &b->chain.rd, pkt->len);
	if (c->buf.len > 0) {
		view = vsock_chain_view(b);
		vsock_buf_append(&c->dev->arena, &c->buf, &view, 0, pkt->len);
		return false;
	}
	b->next = NULL;
	*c->held_last = b;
	c->held_last = &b->next;
	return true;
}

static void take_shutdown(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	c->shut_guest |= pkt->flags & VSOCK_SHUTDOWN_BOTH;
	/* Who writes on is told at once. */
	if (pkt->flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shutdown(c->fd, SHUT_RD);
	if (c->shut_guest != VSOCK_SHUTDOWN_BOTH)
		return;
	/* Its ports are free once it has our reset (§5.10.6.5); the host peer
	 * may take longer to read. */
	c->state = VSOCK_DRAINING;
	c->want = VSOCK_WANT_RST;
}

/* Of a connection both ends have. Whether the chain is held. */
static bool take_open(struct vsock_conn *c, const struct vsock_pkt *pkt,
	struct vsock_chain *b)
{
	bool held = false;

	switch (pkt->op) {
	case VIRTIO_VSOCK_OP_RW:
		held = take_bytes(c, pkt, b);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		take_shutdown(c, pkt);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->want |= VSOCK_WANT_CREDIT;
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		counter_add(&c->dev->config.stats->malformed, 1);
		vsock_kill(c, true);
		return false;
	}
	return held;
}

static void take_rst(struct vsock_conn *c)
{
	if (c->state != VSOCK_DRAINING) {
		vsock_kill(c, false);
		return;
	}
	vsock_conn_unhash(c);
	c->want = 0;
	vsock_update(c);
}

static bool take_answer(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	if (pkt->op != VIRTIO_VSOCK_OP_RESPONSE)
		return false;
	vsock_open(c);
	c->ok_len = (uint8_t)snprintf(
		c->ok, sizeof(c->ok), "OK %u\n", c->host_port);
	return true;
}

/* Whether the chain is held. */
static bool take_packet(struct vsock_conn *c, const struct vsock_pkt *pkt,
	struct vsock_chain *b)
{
	uint32_t before = vsock_conn_credit(c);
	bool held = false;

	c->peer_buf_alloc = pkt->buf_alloc;
	c->peer_fwd_cnt = pkt->fwd_cnt;
	if (vsock_conn_credit(c) != before)
		c->credit_asked = false;
	if (pkt->op == VIRTIO_VSOCK_OP_RST) {
		take_rst(c);
		return false;
	}
	switch (c->state) {
	case VSOCK_OPEN:
		held = take_open(c, pkt, b);
		break;
	case VSOCK_REQUESTED:
		if (take_answer(c, pkt))
			break;
		__attribute__((fallthrough));
	case VSOCK_CONNECTING:
		counter_add(&c->dev->config.stats->malformed, 1);
		vsock_kill(c, true);
		return false;
	case VSOCK_SHUT:
		/* Both closed at the same time. */
		if (pkt->op == VIRTIO_VSOCK_OP_SHUTDOWN)
			vsock_kill(c, true);
		return false;
	case VSOCK_DRAINING: /* it will hear */
	case VSOCK_RESET:
	case VSOCK_HELLO: /* not known to it */
	case VSOCK_GONE:
		return false;
	}
	vsock_update(c);
	return held;
}

/* ---- the queue ---- */

static void take_stray(struct vsock *v, const struct vsock_pkt *pkt)
{
	if (pkt->op == VIRTIO_VSOCK_OP_INVALID)
		counter_add(&v->config.stats->malformed, 1);
	/* There is room: see vsock_serve_tx(). */
	if (pkt->op != VIRTIO_VSOCK_OP_RST)
		vsock_rx_stray(v, pkt);
}

/* Whether the chain is held. */
static bool take(struct vsock *v, struct vsock_chain *b)
{
	struct vsock_conn *c;
	struct vsock_pkt pkt;

	counter_add(&v->config.stats->tx_packets, 1);
	switch (vsock_pkt_parse(&b->chain.rd, v->config.guest_cid, &pkt)) {
	case VSOCK_DROP:
		counter_add(&v->config.stats->malformed, 1);
		return false;
	case VSOCK_REFUSE:
		counter_add(&v->config.stats->malformed, 1);
		vsock_rx_stray(v, &pkt);
		return false;
	case VSOCK_TAKE:
		break;
	}
	c = vsock_conn_find(v, pkt.host_port, pkt.guest_port);
	if (c)
		return take_packet(c, &pkt, b);
	if (pkt.op == VIRTIO_VSOCK_OP_REQUEST)
		vsock_host_connect(v, &pkt);
	else
		take_stray(v, &pkt);
	return false;
}

/*
 * Takes what the ring holds, but not more than it can hold. When a guest takes
 * none of the resets it causes, it is not heard any more until it does
 * (§5.10.6.4: each side works on while it has resources of its own).
 */
void vsock_serve_tx(struct vsock *v)
{
	unsigned budget = v->tx.vq->size;
	struct vsock_chain *b;
	int r = 0;

	v->serve_tx = false;
	if (v->broken)
		return;
	virtq_disable_kicks(v->tx.vq);
	for (;;) {
		if (budget == 0 || v->n_strays == VSOCK_STRAYS) {
			v->serve_tx = true;
			break;
		}
		r = vsock_queue_take(&v->tx, &b);
		if (r < 0) {
			v->broken = true;
			v->dev.transport->broken(&v->dev);
			break;
		}
		if (r == 0) {
			if (!virtq_enable_kicks(v->tx.vq))
				break;
			virtq_disable_kicks(v->tx.vq);
			continue;
		}
		budget--;
		if (!take(v, b))
			vsock_queue_push(&v->tx, b, 0);
	}
	vsock_settle_later(v);
}
