#pragma once

/*
 * The TCP (RFC 9293) of the metadata service, for one interface.
 *
 * Why one of our own. The peer is the guest, so all of this is attack surface,
 * inside the process that a guest must not take over. What the service needs is
 * small: it only listens, its requests fit in 4 KiB, its answers in 52 KiB, and
 * between it and its peer there is a queue in memory, not a network. lwIP, the
 * stack one would otherwise take, is some 20 times this much code, with timers,
 * pools, callbacks and options for what is never used here, a history of bugs
 * in just those parts, and a port to maintain. So: a server only; as many
 * connections as there are slots, the longest unused making room for a new one;
 * per connection one receive buffer, taken in order alone, and one answer, sent
 * again from where it lies until it is acknowledged. MSS is the only option. No
 * urgent data, no SACK, no timestamps, no window scaling, no congestion control
 * (nothing can be congested), no TIME-WAIT (no segment can be late by minutes).
 * What does not fit is dropped or reset. It allocates nothing after its
 * creation, copies each byte of a segment once and keeps no pointer into guest
 * memory.
 */

#include "net/mmds_image.h"
#include "net/siphash.h"
#include "virtio/iovs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_CONNS 16
#define TCP_RX_MAX 4096u
#define TCP_TX_MAX (MMDS_VALUE_MAX + 1024u) /* an answer with its head */
#define TCP_SEGMENT_MAX 1460u               /* of an Ethernet frame */

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_PSH 0x08u
#define TCP_ACK 0x10u
#define TCP_URG 0x20u

/* Who is at the other end, and by which of our ports. Host byte order. */
struct tcp_peer {
	uint8_t mac[6];
	uint16_t port, local_port;
	uint32_t ip;
};

/* A segment's header, host byte order. */
struct tcp_header {
	uint32_t seq, ack;
	uint16_t window;
	uint16_t mss; /* 0: none given */
	uint8_t flags;
};

/* One that goes out: data is borrowed until the next call. */
struct tcp_out {
	struct tcp_peer peer;
	struct tcp_header hdr;
	const uint8_t *data;
	size_t len;
};

/*
 * What answers. Of the n bytes received so far it takes those of one request,
 * returns how many, and puts the answer in tx: *ret_len bytes, 1 to TCP_TX_MAX;
 * *ret_close: the last one of this connection. 0: more is needed (when n is
 * TCP_RX_MAX, there will be no more).
 */
struct tcp_app {
	size_t (*serve)(void *arg, const uint8_t *rx, size_t n, uint8_t *tx,
		size_t *ret_len, bool *ret_close);
	void (*opened)(void *arg); /* a connection */
	void *arg;
	uint16_t port;
};

enum tcp_state { TCP_FREE, TCP_SYN_RCVD, TCP_OPEN };

struct tcp_conn {
	enum tcp_state state;
	struct tcp_peer peer;
	uint64_t used; /* when it was last: see struct tcp */

	uint32_t rcv_nxt;
	bool peer_fin; /* it will send no more */
	bool need_ack;

	/* Unacknowledged, next to send, and the end of all ever sent. */
	uint32_t snd_una, snd_nxt, snd_max;
	uint32_t snd_wnd;
	uint16_t mss;
	bool probe; /* one byte may go into a closed window */
	/* FIN follows the answer. */
	bool closing;

	unsigned backoff, unanswered;
	uint64_t deadline_ns; /* UINT64_MAX: none */

	size_t rx_len;
	uint32_t tx_seq; /* of tx[0] */
	size_t tx_len;
	uint8_t rx[TCP_RX_MAX];
	uint8_t tx[TCP_TX_MAX];
};

/* A reset that is to be sent. */
struct tcp_reset {
	struct tcp_peer peer;
	struct tcp_header hdr;
};

#define TCP_RESETS 16 /* more at once are forgotten */

struct tcp {
	struct tcp_app app;
	uint8_t key[SIPHASH_KEY_BYTES]; /* of initial sequence numbers */
	uint64_t clock; /* segments so far: the order of connections' use */
	unsigned next;  /* whose turn to send it is */
	struct tcp_reset resets[TCP_RESETS];
	unsigned first_reset, n_resets;
	struct tcp_conn conns[TCP_CONNS];
};

/* t is zero. app: copied. */
void tcp_init(struct tcp *t, const struct tcp_app *app,
	const uint8_t key[SIPHASH_KEY_BYTES]);
/* Forgets all connections, without a word. */
void tcp_reset_all(struct tcp *t);

/* A segment of well-formed shape, with len bytes of data at off. */
void tcp_input(struct tcp *t, uint64_t now_ns, const struct tcp_peer *peer,
	const struct tcp_header *hdr, const struct iovs *frame, size_t off,
	size_t len);

/* The next segment to send, if there is one. */
bool tcp_output(struct tcp *t, uint64_t now_ns, struct tcp_out *ret);

/* When tcp_output() has more though nothing came in; UINT64_MAX: never. */
uint64_t tcp_deadline(const struct tcp *t);
