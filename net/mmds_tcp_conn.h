#pragma once

/* Inside the metadata service's TCP: what mmds_tcp.c (connections, and what
 * goes out) and mmds_tcp_in.c (what comes in) share. */

#include "net/mmds_tcp.h"

#define NS_PER_MS 1000000u

/* The peer is this machine: what it has not answered by now, it lost. Doubled
 * each time. */
#define RTO_NS (200ull * NS_PER_MS)

/* Sequence numbers are compared as distances, so that they may wrap. */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline uint32_t data_end(const struct tcp_conn *c)
{
	return c->tx_seq + (uint32_t)c->tx_len;
}

static inline bool fin_acked(const struct tcp_conn *c)
{
	return c->closing && c->snd_una == data_end(c) + 1;
}

/* Never less than was announced before: what is received takes from it what it
 * adds to rcv_nxt. */
static inline uint16_t window(const struct tcp_conn *c)
{
	return (uint16_t)(c->closing ? TCP_RX_MAX : TCP_RX_MAX - c->rx_len);
}

static inline void set_timer(struct tcp_conn *c, uint64_t now_ns)
{
	c->deadline_ns = now_ns + (RTO_NS << c->backoff);
}

void conn_free(struct tcp_conn *c);
/* With a reset. */
void conn_abort(struct tcp *t, struct tcp_conn *c);
/* A new one, by its SYN. Its data and FIN, if it has any, are not taken: they
 * come again. */
void conn_begin(
	struct tcp *t, const struct tcp_peer *peer, const struct tcp_header *h);
void tcp_queue_reset(struct tcp *t, const struct tcp_peer *peer, uint32_t seq,
	uint32_t ack, uint8_t flags);
