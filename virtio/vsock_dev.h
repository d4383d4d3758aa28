#pragma once

/*
 * Inside virtio-vsock. Everything here runs on the device's worker, but for
 * what is under the lock.
 *
 * vsock.c       the device: its life, and what happens after each batch
 * vsock_conn.c  the table of connections, ports, credit, time limits
 * vsock_link.c  one connection's two ends: what is to be done in each state
 * vsock_rx.c    packets to the guest, and the bytes of host peers in them
 * vsock_tx.c    packets from the guest, and their bytes to host peers
 * vsock_host.c  how host peers come: those who connect, and the daemon's
 */

#include "virtio/vsock.h"
#include "virtio/vsock_buf.h"
#include "virtio/vsock_pkt.h"
#include "virtio/vsock_queue.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define VSOCK_LINE_MAX 32 /* bytes: "CONNECT 4294967295\n" has 19 */
#define VSOCK_OUT_IOVS 8

enum vsock_state {
	VSOCK_HELLO,      /* a host client: which port does it want? */
	VSOCK_REQUESTED,  /* a host client's: the guest is asked */
	VSOCK_CONNECTING, /* a guest's: the daemon is asked */
	VSOCK_OPEN,
	VSOCK_DRAINING, /* the guest has closed; the host peer reads on */
	VSOCK_SHUT,     /* the host peer has closed; the guest is told */
	VSOCK_RESET,    /* ended; the guest is to be told */
	VSOCK_GONE      /* ended */
};

/* What a guest is to be told of a connection; the lowest bit first. */
enum vsock_want {
	VSOCK_WANT_RST = 1 << 0,
	VSOCK_WANT_REQUEST = 1 << 1,
	VSOCK_WANT_RESPONSE = 1 << 2,
	VSOCK_WANT_SHUTDOWN = 1 << 3,
	VSOCK_WANT_CREDIT = 1 << 4,
	VSOCK_WANT_ASK = 1 << 5,
};

/* Counters of bytes wrap, as the specification's do. */
struct vsock_conn {
	struct vsock *dev;
	enum vsock_state state;
	uint32_t generation; /* of this place in the table */
	bool in_use;

	/* The guest's end. */
	uint32_t guest_port, host_port;
	bool hashed; /* the guest may know it */
	struct vsock_conn *hash_next;
	bool queued; /* in dev->talkers */
	TAILQ_ENTRY(vsock_conn) talker;
	unsigned want;       /* enum vsock_want */
	uint32_t shut_guest; /* VIRTIO_VSOCK_SHUTDOWN_*: as the guest said */
	uint32_t shut_host;  /* and as it was told, or is to be */
	uint32_t peer_buf_alloc, peer_fwd_cnt, tx_cnt;
	bool credit_asked;

	/* From the guest, not yet written: chains, then what is buffered. */
	uint32_t buf_alloc, rx_cnt, fwd_cnt, fwd_told;
	struct vsock_chain *held, **held_last;
	struct vsock_buf buf;

	/* The host's end: in polls and reads, out polls and writes. */
	int fd; /* -1: none */
	unsigned file;
	bool closing; /* until in and out are idle */
	bool readable, eof, hangup, full, shut_down;
	struct worker_op in, out;
	struct vsock_chain *reading;  /* what is read into */
	uint32_t in_bytes, out_bytes; /* asked for */
	struct msghdr in_msg, out_msg;
	struct iovec in_iov, out_iov[VSOCK_OUT_IOVS];
	uint8_t line[VSOCK_LINE_MAX]; /* a client's, and what came behind */
	uint8_t line_len, early_off;
	char ok[16]; /* "OK 1073741824\n", until it is written */
	uint8_t ok_len;

	/* A time limit, and the daemon's queue. */
	bool timed, asking;
	uint64_t deadline_ns;
	TAILQ_ENTRY(vsock_conn) limit, ask;
};

TAILQ_HEAD(vsock_conns, vsock_conn);

/* A packet that had no connection, to be answered by a reset. */
struct vsock_stray {
	uint64_t host_cid;
	uint32_t host_port, guest_port;
	uint16_t type;
};

#define VSOCK_BUCKETS 4096u
#define VSOCK_STRAYS VIRTQ_MAX

struct vsock {
	struct virtio_dev dev;
	struct virtq vqs[3]; /* rx, tx, event */
	struct virtio_vsock_config space;
	struct vsock_config config;
	struct worker *worker;

	bool running, broken;
	struct worker_op rx_kick, tx_kick, listener;
	struct worker_op settle; /* deferred: after a batch */
	struct worker_op accept; /* deferred or a timer: more clients */
	struct worker_op timer;  /* the first time limit */
	bool serve_rx, serve_tx; /* left before they were empty */
	struct vsock_queue rx, tx;
	unsigned rx_budget; /* chains to be taken before others have a turn */

	/* Connections. */
	struct vsock_conn *conns, *free;
	struct vsock_conn **buckets;
	unsigned n_used; /* of conns */
	unsigned n_conns;
	uint64_t hash_key;
	uint32_t last_port;
	struct vsock_conns talkers; /* who has something for the guest */
	struct vsock_conns limited; /* by deadline */
	struct vsock_arena arena;

	struct vsock_stray strays[VSOCK_STRAYS];
	unsigned stray_first, n_strays;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool idle;                 /* not running, no connection */
	struct vsock_conns asking; /* who waits for the daemon */
	unsigned n_asked;          /* given out and not answered */
};

/* vsock.c. After this batch: serve, interrupt, see whether all is idle. */
void vsock_settle_later(struct vsock *v);

/* vsock_conn.c: the table. NULL when it is full. */
struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state);
void vsock_conn_free(struct vsock_conn *c); /* in no list, without ends */
struct vsock_conn *vsock_conn_find(
	const struct vsock *v, uint32_t host_port, uint32_t guest_port);
void vsock_conn_hash(struct vsock_conn *c); /* by its ports */
void vsock_conn_unhash(struct vsock_conn *c);
/* A host port for a client that wants this guest port. */
uint32_t vsock_conn_port(struct vsock *v, uint32_t guest_port);
uint64_t vsock_conn_token(const struct vsock_conn *c);
struct vsock_conn *vsock_conn_by_token(struct vsock *v, uint64_t token);
/* How much the guest takes now; and whether it should hear how much we do. */
uint32_t vsock_conn_credit(const struct vsock_conn *c);
bool vsock_conn_credit_is_low(const struct vsock_conn *c);
void vsock_conn_limit(struct vsock_conn *c); /* as patient as we are */
void vsock_conn_unlimit(struct vsock_conn *c);

/* vsock_link.c. Does what its state wants; c may be freed by it. So each event
 * changes c and ends with this. */
void vsock_update(struct vsock_conn *c);
/* Ends it; the guest hears of that with tell. */
void vsock_kill(struct vsock_conn *c, bool tell);
/* fd is its host end from now on: 0, or fd is closed and a negative errno. */
int vsock_attach(struct vsock_conn *c, int fd);
/* Both ends are there. */
void vsock_open(struct vsock_conn *c);

/* vsock_rx.c */
void vsock_serve_rx(struct vsock *v);
/* Whether c has something for the guest. */
bool vsock_rx_wanted(const struct vsock_conn *c);
void vsock_rx_poll(struct vsock_conn *c); /* for host bytes */
bool vsock_rx_stray(struct vsock *v, const struct vsock_pkt *pkt);

/* vsock_tx.c */
void vsock_serve_tx(struct vsock *v);
/* Writes what there is, or waits until it can. */
void vsock_tx_write(struct vsock_conn *c);
/* Gives back all that is not written. */
void vsock_tx_discard(struct vsock_conn *c);

/* vsock_host.c */
void vsock_host_accept(struct vsock *v); /* clients that wait */
void vsock_host_accept_done(struct worker_op *op, int32_t res);
void vsock_host_hello(struct vsock_conn *c); /* read on in its line */
void vsock_host_connect(struct vsock *v, const struct vsock_pkt *pkt);
void vsock_host_forget(struct vsock_conn *c); /* the daemon need not */
