#include "net/mmds_tcp_conn.h"

#include <string.h>

#define BACKOFF_MAX 6u /* 12.8 s */
#define UNANSWERED_MAX 8u

/* RFC 9293, 3.7.1; the least: what fits in the smallest MTU, 68. */
#define MSS_DEFAULT 536u
#define MSS_MIN 28u

/* ---- connections ---- */

void tcp_init(struct tcp *t, const struct tcp_app *app,
	const uint8_t key[SIPHASH_KEY_BYTES])
{
	t->app = *app;
	memcpy(t->key, key, sizeof(t->key));
}

/* Its buffers keep what they hold: memory that was never used stays so. */
void conn_free(struct tcp_conn *c)
{
	c->state = TCP_FREE;
}

void tcp_reset_all(struct tcp *t)
{
	for (unsigned i = 0; i < TCP_CONNS; i++)
		conn_free(&t->conns[i]);
	t->n_resets = 0;
}

void tcp_queue_reset(struct tcp *t, const struct tcp_peer *peer, uint32_t seq,
	uint32_t ack, uint8_t flags)
{
	struct tcp_reset *r =
		&t->resets[(t->first_reset + t->n_resets) % TCP_RESETS];

	if (t->n_resets == TCP_RESETS)
		return;
	t->n_resets++;
	r->peer = *peer;
	r->hdr = (struct tcp_header){.seq = seq, .ack = ack, .flags = flags};
}

void conn_abort(struct tcp *t, struct tcp_conn *c)
{
	tcp_queue_reset(t, &c->peer, c->snd_max, c->rcv_nxt, TCP_RST | TCP_ACK);
	conn_free(c);
}

/* Whose place a new connection gets: nobody's; that of one which is not open
 * yet; the longest unused. */
static struct tcp_conn *take_slot(struct tcp *t)
{
	struct tcp_conn *best = &t->conns[0];

	for (unsigned i = 1; i < TCP_CONNS; i++) {
		struct tcp_conn *c = &t->conns[i];

		if (c->state != best->state ? c->state < best->state
					    : c->used < best->used)
			best = c;
	}
	if (best->state != TCP_FREE)
		conn_abort(t, best);
	return best;
}

/* No two connections' are related, for whoever has not the key (RFC 6528). */
static uint32_t initial_seq(const struct tcp *t, const struct tcp_peer *peer)
{
	struct {
		uint64_t clock;
		uint32_t ip;
		uint16_t port, local_port;
	} in = {t->clock, peer->ip, peer->port, peer->local_port};
	uint8_t out[SIPHASH_BYTES];
	uint32_t seq;

	siphash(out, t->key, &in, sizeof(in));
	memcpy(&seq, out, sizeof(seq));
	return seq;
}

static uint16_t bound_mss(uint16_t mss)
{
	if (mss == 0)
		return MSS_DEFAULT;
	if (mss < MSS_MIN)
		return MSS_MIN;
	return mss < TCP_SEGMENT_MAX ? mss : TCP_SEGMENT_MAX;
}

void conn_begin(
	struct tcp *t, const struct tcp_peer *peer, const struct tcp_header *h)
{
	struct tcp_conn *c = take_slot(t);
	uint32_t seq = initial_seq(t, peer);

	c->state = TCP_SYN_RCVD;
	c->peer = *peer;
	c->used = t->clock;
	c->rcv_nxt = h->seq + 1;
	c->peer_fin = c->need_ack = c->probe = c->closing = false;
	c->snd_una = c->snd_nxt = c->snd_max = seq;
	c->snd_wnd = h->window;
	c->mss = bound_mss(h->mss);
	c->backoff = c->unanswered = 0;
	c->deadline_ns = UINT64_MAX;
	c->rx_len = c->tx_len = 0;
	c->tx_seq = seq + 1;
}

/* ---- what goes out ---- */

/* How many bytes of data may go now. No small segments while there is something
 * to wait for (RFC 1122, 4.2.3.4). */
static uint32_t sendable(const struct tcp_conn *c)
{
	uint32_t wnd = c->snd_wnd == 0 && c->probe ? 1 : c->snd_wnd;
	uint32_t in_flight = c->snd_nxt - c->snd_una, left, n;

	/* The FIN may have been sent. */
	if (!seq_lt(c->snd_nxt, data_end(c)) || in_flight >= wnd)
		return 0;
	left = data_end(c) - c->snd_nxt;
	n = left < c->mss ? left : c->mss;
	if (n > wnd - in_flight)
		n = in_flight ? 0 : wnd;
	return n;
}

static void on_timeout(struct tcp *t, struct tcp_conn *c)
{
	c->deadline_ns = UINT64_MAX;
	if (fin_acked(c) || ++c->unanswered > UNANSWERED_MAX) {
		conn_abort(t, c);
		return;
	}
	if (c->backoff < BACKOFF_MAX)
		c->backoff++;
	c->probe = true;
	c->snd_nxt = c->snd_una; /* all of it again */
}

static void sent(struct tcp_conn *c, uint32_t n, uint64_t now_ns)
{
	c->snd_nxt += n;
	if (seq_lt(c->snd_max, c->snd_nxt))
		c->snd_max = c->snd_nxt;
	if (n && c->deadline_ns == UINT64_MAX)
		set_timer(c, now_ns);
}

static bool conn_output(
	struct tcp_conn *c, uint64_t now_ns, struct tcp_out *ret)
{
	uint32_t n;

	*ret = (struct tcp_out){
		.peer = c->peer,
		.hdr = {.seq = c->snd_nxt,
			.ack = c->rcv_nxt,
			.window = window(c),
			.flags = TCP_ACK},
	};
	if (c->state == TCP_SYN_RCVD) {
		if (c->snd_nxt != c->snd_una)
			return false;
		ret->hdr.flags = TCP_SYN | TCP_ACK;
		ret->hdr.mss = TCP_SEGMENT_MAX;
		sent(c, 1, now_ns);
		return true;
	}
	n = sendable(c);
	if (n) {
		ret->hdr.flags |= TCP_PSH;
		ret->data = c->tx + (c->snd_nxt - c->tx_seq);
		ret->len = n;
	}
	if (c->closing && c->snd_nxt + n == data_end(c)) {
		ret->hdr.flags |= TCP_FIN;
		n++;
	}
	if (n == 0 && !c->need_ack)
		return false;
	c->need_ack = false;
	sent(c, n, now_ns);
	return true;
}

static bool output_reset(struct tcp *t, struct tcp_out *ret)
{
	const struct tcp_reset *r = &t->resets[t->first_reset];

	if (t->n_resets == 0)
		return false;
	*ret = (struct tcp_out){.peer = r->peer, .hdr = r->hdr};
	t->first_reset = (t->first_reset + 1) % TCP_RESETS;
	t->n_resets--;
	return true;
}

bool tcp_output(struct tcp *t, uint64_t now_ns, struct tcp_out *ret)
{
	for (unsigned i = 0; i < TCP_CONNS; i++) {
		struct tcp_conn *c = &t->conns[i];

		if (c->state != TCP_FREE && c->deadline_ns <= now_ns)
			on_timeout(t, c);
	}
	if (output_reset(t, ret))
		return true;
	for (unsigned i = 0; i < TCP_CONNS; i++) {
		struct tcp_conn *c = &t->conns[(t->next + i) % TCP_CONNS];

		if (c->state == TCP_FREE || !conn_output(c, now_ns, ret))
			continue;
		t->next = (t->next + i + 1) % TCP_CONNS;
		/* Both ends are done: this was the last word. */
		if (c->peer_fin && fin_acked(c))
			conn_free(c);
		return true;
	}
	return false;
}

uint64_t tcp_deadline(const struct tcp *t)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < TCP_CONNS; i++) {
		const struct tcp_conn *c = &t->conns[i];

		if (c->state != TCP_FREE && c->deadline_ns < first)
			first = c->deadline_ns;
	}
	return first;
}
