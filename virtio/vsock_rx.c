#include "base/counter.h"
#include "virtio/vsock_dev.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>

/* One read of a host peer, over several of the guest's buffers; then the next
 * connection has its turn. */
#define READ_BYTES (64u << 10)
#define READ_CHAINS 32u

static struct vsock_conn *conn_of_in(struct worker_op *op)
{
	return (struct vsock_conn *)((char *)op -
				     offsetof(struct vsock_conn, in));
}

/* ---- the guest's buffers ---- */

static void out_of_turn(struct vsock *v)
{
	v->serve_rx = true;
	vsock_settle_later(v);
}

/* The next buffer with room for a header and more, or NULL: when there is one,
 * we are kicked or it is our turn again. */
static struct vsock_chain *take_buffer(struct vsock *v)
{
	struct vsock_chain *c;
	size_t room;
	int r;

	for (;;) {
		if (v->rx_budget == 0) {
			out_of_turn(v);
			return NULL;
		}
		r = vsock_queue_take(&v->rx, &c);
		if (r == 0 && virtq_enable_kicks(v->rx.vq)) {
			virtq_disable_kicks(v->rx.vq);
			continue;
		}
		if (r < 0) {
			v->broken = true;
			v->dev.transport->broken(&v->dev);
		}
		if (r != 1)
			return NULL;
		v->rx_budget--;
		if (c->chain.wr.len > VSOCK_HDR_BYTES)
			break;
		counter_add(&v->config.stats->malformed, 1);
		vsock_queue_push(&v->rx, c, 0);
	}
	room = c->chain.wr.len - VSOCK_HDR_BYTES;
	if (room > VSOCK_CHAIN_BYTES)
		room = VSOCK_CHAIN_BYTES;
	vsock_chain_payload(c, &c->chain.wr, (uint32_t)room);
	return c;
}

static void put(
	struct vsock *v, struct vsock_chain *b, const struct vsock_pkt *pkt)
{
	vsock_pkt_write(&b->chain.wr, v->config.guest_cid, pkt);
	vsock_queue_push(&v->rx, b, (uint32_t)VSOCK_HDR_BYTES + pkt->len);
	counter_add(&v->config.stats->rx_packets, 1);
	counter_add(&v->config.stats->rx_bytes, pkt->len);
}

/* Each packet tells how much we have passed on (§5.10.6.3). */
static void send_of(struct vsock_conn *c, struct vsock_chain *b, uint16_t op,
	uint32_t flags, uint32_t len)
{
	const struct vsock_pkt pkt = {
		.host_cid = VSOCK_HOST_CID,
		.host_port = c->host_port,
		.guest_port = c->guest_port,
		.len = len,
		.flags = flags,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
	};

	c->fwd_told = c->fwd_cnt;
	c->want &= ~(unsigned)VSOCK_WANT_CREDIT;
	put(c->dev, b, &pkt);
}

/* ---- packets without a connection ---- */

bool vsock_rx_stray(struct vsock *v, const struct vsock_pkt *pkt)
{
	unsigned i = (v->stray_first + v->n_strays) % VSOCK_STRAYS;

	if (v->n_strays == VSOCK_STRAYS)
		return false;
	v->strays[i] = (struct vsock_stray){
		pkt->host_cid, pkt->host_port, pkt->guest_port, pkt->type};
	v->n_strays++;
	vsock_settle_later(v);
	return true;
}

static void send_stray(struct vsock *v, struct vsock_chain *b)
{
	const struct vsock_stray *s = &v->strays[v->stray_first];
	const struct vsock_pkt pkt = {
		.host_cid = s->host_cid,
		.host_port = s->host_port,
		.guest_port = s->guest_port,
		.type = s->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};

	v->stray_first = (v->stray_first + 1) % VSOCK_STRAYS;
	v->n_strays--;
	put(v, b, &pkt);
}

/* ---- bytes of a host peer ---- */

static bool may_send(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN &&
	       !(c->shut_guest & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

static bool may_read(const struct vsock_conn *c)
{
	return c->readable && !c->eof && !c->closing &&
	       c->in.state == WORKER_OP_IDLE;
}

bool vsock_rx_wanted(const struct vsock_conn *c)
{
	if (c->want)
		return true;
	return may_send(c) && vsock_conn_credit(c) > 0 &&
	       (c->early_off < c->line_len || may_read(c));
}

/* What it told of the host's end; the guest is to hear of it. */
static void shut_host(struct vsock_conn *c, uint32_t flags)
{
	if ((c->shut_host & flags) == flags)
		return;
	c->shut_host |= flags;
	c->want |= VSOCK_WANT_SHUTDOWN;
}

static void polled(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_in(op);

	if (c->state != VSOCK_OPEN) {
		vsock_update(c);
		return;
	}
	if (res < 0) {
		vsock_kill(c, true);
		return;
	}
	c->readable = !c->eof && may_send(c);
	/* Closed at both its ends; what it wrote before is there still. */
	if (res & (POLLHUP | POLLERR))
		c->hangup = true;
	if (c->hangup && (c->eof || !may_send(c)))
		shut_host(c, VSOCK_SHUTDOWN_BOTH);
	vsock_update(c);
}

/* Without events: until it is closed. */
void vsock_rx_poll(struct vsock_conn *c)
{
	bool silent = c->eof || !may_send(c);
	short events = silent ? 0 : POLLIN | POLLRDHUP;

	if (c->in.state != WORKER_OP_IDLE || (silent && c->hangup) ||
		(!silent && c->readable))
		return;
	c->in.done = polled;
	worker_poll(c->dev->worker, &c->in, c->file, events);
}

/* The bytes are in the buffers already, in order. */
static void hand_over(struct vsock_conn *c, uint32_t len)
{
	struct vsock_chain *b;

	while ((b = c->reading)) {
		uint32_t n = len < b->len ? len : b->len;

		c->reading = b->next;
		if (n > 0)
			send_of(c, b, VIRTIO_VSOCK_OP_RW, 0, n);
		else
			vsock_queue_keep(&c->dev->rx, b);
		len -= n;
	}
}

static void read_done(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_in(op);
	bool open = c->state == VSOCK_OPEN;
	uint32_t n = open && res > 0 ? (uint32_t)res : 0;

	c->tx_cnt += n;
	hand_over(c, n);
	vsock_settle_later(c->dev);
	if (open && res == 0) {
		c->eof = true;
		shut_host(c, c->hangup ? VSOCK_SHUTDOWN_BOTH
				       : VIRTIO_VSOCK_SHUTDOWN_SEND);
	} else if (open && res < 0 && res != -EAGAIN) {
		vsock_kill(c, true);
		return;
	}
	/* Less than there was room for: that was all. */
	if (n < c->in_bytes)
		c->readable = false;
	vsock_update(c);
}

/* Reads into this buffer and, if there is more to read, the next ones. */
static void begin_read(struct vsock_conn *c, struct vsock_chain *first)
{
	uint32_t want = vsock_conn_credit(c), room = first->len;
	struct vsock_chain *b, *last = first;
	unsigned n = first->n_data, n_chains = 1;
	struct iovs all;

	if (want > READ_BYTES)
		want = READ_BYTES;
	c->reading = first;
	while (room < want && n_chains < READ_CHAINS &&
		(b = take_buffer(c->dev))) {
		if (n + b->n_data > VIRTQ_MAX) {
			vsock_queue_keep(&c->dev->rx, b);
			break;
		}
		for (unsigned i = 0; i < b->n_data; i++)
			first->data[n++] = b->data[i];
		room += b->len;
		last->next = b;
		last = b;
		n_chains++;
	}
	last->next = NULL;
	if (want > room)
		want = room;
	all = (struct iovs){first->data, n, room};
	n = (unsigned)iovs_slice(&all, 0, want, first->data, VIRTQ_MAX);
	c->in_bytes = want;
	c->in.done = read_done;
	c->in_msg = (struct msghdr){.msg_iov = first->data, .msg_iovlen = n};
	worker_recvmsg(c->dev->worker, &c->in, c->file, &c->in_msg);
}

/* What a client sent behind its first line. */
static void send_early(struct vsock_conn *c, struct vsock_chain *b)
{
	uint32_t n = c->line_len - c->early_off, credit = vsock_conn_credit(c);
	struct iovs to = vsock_chain_view(b);

	if (n > credit)
		n = credit;
	if (n > b->len)
		n = b->len;
	iovs_write(&to, 0, c->line + c->early_off, n);
	c->early_off += (uint8_t)n;
	c->tx_cnt += n;
	send_of(c, b, VIRTIO_VSOCK_OP_RW, 0, n);
}

/* ---- turns ---- */

static void send_control(struct vsock_conn *c, struct vsock_chain *b)
{
	unsigned want = c->want & -c->want;

	c->want &= ~want;
	switch ((enum vsock_want)want) {
	case VSOCK_WANT_RST:
		send_of(c, b, VIRTIO_VSOCK_OP_RST, 0, 0);
		vsock_conn_unhash(c);
		if (c->state == VSOCK_RESET)
			c->state = VSOCK_GONE;
		break;
	case VSOCK_WANT_REQUEST:
		send_of(c, b, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
		break;
	case VSOCK_WANT_RESPONSE:
		send_of(c, b, VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
		break;
	case VSOCK_WANT_SHUTDOWN:
		send_of(c, b, VIRTIO_VSOCK_OP_SHUTDOWN, c->shut_host, 0);
		if (c->shut_host != VSOCK_SHUTDOWN_BOTH)
			break;
		/* It answers with a reset (§5.10.6.5), in time. */
		c->state = VSOCK_SHUT;
		c->want = 0;
		vsock_conn_limit(c);
		break;
	case VSOCK_WANT_CREDIT:
		send_of(c, b, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
		break;
	case VSOCK_WANT_ASK:
		send_of(c, b, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
		break;
	}
}

/* One packet, or one read; then it stands behind the others. */
static void serve(struct vsock *v, struct vsock_conn *c, struct vsock_chain *b)
{
	TAILQ_REMOVE(&v->talkers, c, talker);
	c->queued = false;
	if (c->want)
		send_control(c, b);
	else if (!vsock_rx_wanted(c))
		vsock_queue_keep(&v->rx, b);
	else if (c->early_off < c->line_len)
		send_early(c, b);
	else
		begin_read(c, b);
	vsock_update(c);
}

void vsock_serve_rx(struct vsock *v)
{
	struct vsock_chain *b;

	v->serve_rx = false;
	v->rx_budget = v->rx.vq->size;
	virtq_disable_kicks(v->rx.vq);
	while (!v->broken && (v->n_strays > 0 || !TAILQ_EMPTY(&v->talkers))) {
		b = take_buffer(v);
		if (!b)
			return;
		if (v->n_strays > 0)
			send_stray(v, b);
		else
			serve(v, TAILQ_FIRST(&v->talkers), b);
	}
}
