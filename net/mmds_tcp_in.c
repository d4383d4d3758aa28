#include "net/mmds_tcp_conn.h"

#include <string.h>

/* For the peer's FIN, after ours is acknowledged. */
#define FIN_WAIT_NS (5000ull * NS_PER_MS)

static bool same_peer(const struct tcp_peer *a, const struct tcp_peer *b)
{
	return a->ip == b->ip && a->port == b->port &&
	       a->local_port == b->local_port;
}

static struct tcp_conn *find(struct tcp *t, const struct tcp_peer *peer)
{
	for (unsigned i = 0; i < TCP_CONNS; i++) {
		struct tcp_conn *c = &t->conns[i];

		if (c->state != TCP_FREE && same_peer(&c->peer, peer))
			return c;
	}
	return NULL;
}

/* To a segment of no connection, or of one that cannot go on with it (RFC 9293,
 * 3.10.7.1). */
static void refuse(struct tcp *t, const struct tcp_peer *peer,
	const struct tcp_header *h, size_t len)
{
	uint32_t all =
		(uint32_t)len + !!(h->flags & TCP_SYN) + !!(h->flags & TCP_FIN);

	if (h->flags & TCP_RST)
		return;
	if (h->flags & TCP_ACK)
		tcp_queue_reset(t, peer, h->ack, 0, TCP_RST);
	else
		tcp_queue_reset(t, peer, 0, h->seq + all, TCP_RST | TCP_ACK);
}

/* After anything has happened: there is data, of which nothing is in flight (a
 * timer would run) nor may be sent; somebody has to ask when the window opens.
 */
static void watch_window(struct tcp_conn *c, uint64_t now_ns)
{
	if (c->deadline_ns == UINT64_MAX && c->snd_wnd == 0 &&
		seq_lt(c->snd_nxt, data_end(c)))
		set_timer(c, now_ns);
}

/* One request at most: the next one's answer needs this one's place. */
static void serve(struct tcp *t, struct tcp_conn *c)
{
	size_t used = 0;

	if (c->tx_len)
		return;
	if (c->rx_len)
		used = t->app.serve(t->app.arg, c->rx, c->rx_len, c->tx,
			&c->tx_len, &c->closing);
	c->rx_len -= used;
	memmove(c->rx, c->rx + used, c->rx_len);
	if (used == 0 && c->peer_fin)
		c->closing = true; /* what is left never becomes a request */
	if (c->closing)
		c->rx_len = 0;
	else if (c->rx_len == TCP_RX_MAX)
		conn_abort(t, c);
}

/* -1: the segment is to be dropped. */
static int take_ack(
	struct tcp_conn *c, const struct tcp_header *h, uint64_t now_ns)
{
	bool was_closed = c->snd_wnd == 0;
	bool was_acked = fin_acked(c);
	uint32_t end;

	if (!seq_le(h->ack, c->snd_max)) {
		c->need_ack = true;
		return -1;
	}
	/* An old one: its window is old, too. */
	if (seq_lt(h->ack, c->snd_una))
		return 0;
	c->snd_wnd = h->window;
	c->unanswered = 0;
	if (h->ack != c->snd_una || (was_closed && c->snd_wnd)) {
		c->backoff = 0;
		c->probe = false;
		/* It did not take what was sent into its closed window. */
		if (h->ack == c->snd_una || seq_lt(c->snd_nxt, h->ack))
			c->snd_nxt = h->ack;
		c->snd_una = h->ack;
		c->deadline_ns = UINT64_MAX;
		if (c->snd_una != c->snd_nxt)
			set_timer(c, now_ns);
	}
	end = data_end(c);
	if (seq_le(end, c->snd_una)) {
		c->tx_seq = end;
		c->tx_len = 0;
	}
	if (fin_acked(c) && !was_acked)
		c->deadline_ns = now_ns + FIN_WAIT_NS;
	return 0;
}

/* The data that is new and in order, and the FIN behind it. */
static void take_data(struct tcp *t, struct tcp_conn *c,
	const struct tcp_header *h, const struct iovs *frame, size_t off,
	size_t len)
{
	bool fin = h->flags & TCP_FIN;
	uint32_t old = c->rcv_nxt - h->seq;

	if (len == 0 && !fin)
		return;
	c->need_ack = true;
	off += old; /* no more than len: see in_order() */
	len -= old;
	if (len && c->peer_fin) {
		conn_abort(t, c);
		return;
	}
	if (len > window(c)) {
		len = window(c);
		fin = false;
	}
	if (!c->closing) {
		/* Guest memory: copied once, and looked at only there. */
		if (iovs_read(frame, off, c->rx + c->rx_len, len) < 0)
			return;
		c->rx_len += len;
	}
	c->rcv_nxt += (uint32_t)len;
	if (fin && !c->peer_fin) {
		c->peer_fin = true;
		c->rcv_nxt++;
	}
}

/* Whether it is all in the past or too far in the future (RFC 9293, 3.10.7.4).
 * A gap is nothing we keep, so it is the future, too. */
static bool in_order(
	const struct tcp_conn *c, const struct tcp_header *h, size_t len)
{
	uint32_t end = h->seq + (uint32_t)len + !!(h->flags & TCP_FIN);

	if (h->seq == c->rcv_nxt)
		return true;
	return seq_lt(h->seq, c->rcv_nxt) && seq_lt(c->rcv_nxt, end);
}

/* Only the very next sequence number proves that it comes from our peer (RFC
 * 5961, 3.2). */
static void take_rst(struct tcp_conn *c, const struct tcp_header *h)
{
	if (h->seq == c->rcv_nxt)
		conn_free(c);
	else if (h->seq - c->rcv_nxt < window(c))
		c->need_ack = true;
}

static void take_syn(
	struct tcp *t, struct tcp_conn *c, const struct tcp_header *h)
{
	if (c->state == TCP_SYN_RCVD && h->seq + 1 == c->rcv_nxt) {
		c->snd_nxt = c->snd_una; /* our answer was lost */
	} else if (c->state == TCP_SYN_RCVD && !(h->flags & TCP_ACK)) {
		struct tcp_peer peer = c->peer;

		conn_free(c); /* it thinks of another connection by now */
		conn_begin(t, &peer, h);
	} else {
		c->need_ack = true; /* RFC 5961, 4.2 */
	}
}

/* Whether the handshake is complete. */
static bool establish(struct tcp *t, struct tcp_conn *c,
	const struct tcp_header *h, size_t len)
{
	if (c->state == TCP_OPEN)
		return true;
	if (h->ack != c->tx_seq || c->snd_max != c->tx_seq) {
		refuse(t, &c->peer, h, len);
		return false;
	}
	c->state = TCP_OPEN;
	if (t->app.opened)
		t->app.opened(t->app.arg);
	return true;
}

static void conn_input(struct tcp *t, struct tcp_conn *c, uint64_t now_ns,
	const struct tcp_header *h, const struct iovs *frame, size_t off,
	size_t len)
{
	if (h->flags & TCP_RST) {
		take_rst(c, h);
		return;
	}
	if (h->flags & TCP_SYN) {
		take_syn(t, c, h);
		return;
	}
	if (!in_order(c, h, len)) {
		c->need_ack = true;
		return;
	}
	if (!(h->flags & TCP_ACK))
		return;
	if (h->flags & TCP_URG) {
		conn_abort(t, c);
		return;
	}
	if (!establish(t, c, h, len) || take_ack(c, h, now_ns) < 0)
		return;
	take_data(t, c, h, frame, off, len);
	if (c->state == TCP_OPEN)
		serve(t, c);
	if (c->peer_fin && fin_acked(c) && !c->need_ack)
		conn_free(c);
	watch_window(c, now_ns);
}

void tcp_input(struct tcp *t, uint64_t now_ns, const struct tcp_peer *peer,
	const struct tcp_header *hdr, const struct iovs *frame, size_t off,
	size_t len)
{
	const uint8_t kind =
		hdr->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
	struct tcp_conn *c = find(t, peer);

	t->clock++;
	if (c) {
		c->used = t->clock;
		conn_input(t, c, now_ns, hdr, frame, off, len);
	} else if (kind == TCP_SYN && peer->local_port == t->app.port) {
		conn_begin(t, peer, hdr);
	} else {
		refuse(t, peer, hdr, len);
	}
}
