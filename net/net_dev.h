#pragma once

/*
 * Inside virtio-net: net.c is its life (features, queues, start and stop),
 * net_rx.c, net_tx.c and net_ctrl.c what its three kinds of queues do,
 * net_tap.c the tap's state: offloads, link, errors. All of it belongs to the
 * worker once it runs.
 *
 * Nothing is served when it comes in. Completions, kicks and timers leave a
 * mark and call net_settle_later(); net.c then serves what is marked, once for
 * a whole batch, and interrupts the guest once for all of it.
 */

#include "base/log.h"
#include "net/net.h"

#include <linux/virtio_net.h>
#include <pthread.h>

#define NET_HDR_BYTES sizeof(struct virtio_net_hdr_v1)

/* The largest packet there is: 64 KiB of IP, Ethernet with two VLAN tags. */
#define NET_MAX_BYTES (NET_HDR_BYTES + 65536 + 14 + 8)

/* Reads posted ahead on one tap queue, at least (else a lone packet is always
 * one too few) and at most. */
#define NET_RX_READS_MIN 2u
#define NET_RX_READS 32u

#define NET_TX_BATCH 64u
#define NET_TX_PIECES (4u * VIRTQ_MAX)

#define NET_MAX_VQS (2 * NET_MAX_PAIRS + 1)

/* What the driver may want of the packets it gets. */
#define NET_GUEST_OFFLOADS                                                     \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |   \
		1ull << VIRTIO_NET_F_GUEST_TSO6 |                              \
		1ull << VIRTIO_NET_F_GUEST_ECN)
#define NET_TAP_FEATURES                                                       \
	(NET_GUEST_OFFLOADS | 1ull << VIRTIO_NET_F_CSUM |                      \
		1ull << VIRTIO_NET_F_HOST_TSO4 |                               \
		1ull << VIRTIO_NET_F_HOST_TSO6 |                               \
		1ull << VIRTIO_NET_F_HOST_ECN)

struct net;

/* A chain of the guest's, or of it what a packet can fill. */
struct net_rx_buf {
	uint16_t head;
	uint16_t n_iov;
	uint32_t len;
};

/* A read from the tap: into buffers of the guest, and behind them into memory
 * of ours, which a packet only reaches that is larger than expected. */
struct net_rx_read {
	struct worker_op op;
	struct net_rx *rx;
	struct net_rx_read *next;
	uint8_t *spill; /* NET_MAX_BYTES */
	bool posted;
	int32_t res;
	struct virtq *vq; /* where its buffers are from */
	size_t room;      /* in them */
	unsigned n_iov, n_bufs;
	struct net_rx_buf bufs[VIRTQ_MAX];
	struct iovec iov[VIRTQ_MAX + 1];
};

/* One queue of the tap. */
struct net_rx {
	struct net *net;
	unsigned index;
	unsigned file;
	struct net_rx_read *reads; /* NET_RX_READS */
	uint8_t *spill;            /* NET_MAX_BYTES each */
	unsigned n_used;           /* of them, so far */
	struct net_rx_read *free;
	struct net_rx_read *done, **done_last; /* in the packets' order */
	unsigned n_posted;
	unsigned n_bufs;  /* held by reads, posted or done */
	unsigned depth;   /* reads to post at once */
	size_t expected;  /* bytes of the next packets, at most */
	unsigned n_small; /* packets in a row that were */
	bool poll_first;
	struct worker_op poll;
};

struct net_tx_req {
	struct worker_op op;
	struct net_tx *tx;
	uint16_t head;
	bool writes; /* else it was not for the tap */
	bool posted;
	unsigned n_iov;
	const struct iovec *iov;
	size_t len; /* without the vnet header */
	uint64_t seen_ns;
	int32_t res;
};

/* One transmit queue: a batch is taken, written, and given back as a whole. */
struct net_tx {
	struct net *net;
	struct virtq *vq;
	unsigned file;
	unsigned n, n_posted, n_pieces;
	bool congested;   /* some of the batch waits for POLLOUT */
	uint64_t held_ns; /* since when a limiter holds the next; 0: it does not
			   */
	struct worker_op poll;
	struct net_tx_req reqs[NET_TX_BATCH];
	struct iovec pieces[NET_TX_PIECES];
};

struct net_kick {
	struct worker_op op;
	struct net *net;
	unsigned vq;
};

struct net {
	struct virtio_dev dev;
	struct virtq vqs[NET_MAX_VQS];
	struct virtio_net_config space;
	struct net_config config;
	struct worker *worker;
	struct net_kick kicks[NET_MAX_VQS];

	/* From start to stop. */
	bool running;
	bool mergeable;
	unsigned n_pairs;   /* that the driver has set up */
	unsigned n_active;  /* of them: those it wants packets on */
	unsigned ctrl_vq;   /* 0: none */
	uint32_t marked;    /* bit: a virtqueue to be served */
	uint32_t rx_marked; /* bit: a queue of the tap */
	uint32_t pushed;    /* bit: a virtqueue whose used entries are new */
	unsigned in_flight; /* operations whose done() is to come */
	struct worker_op settle;

	struct net_rx *rx; /* config.n_pairs of each */
	struct net_tx *tx;
	struct rate_limiter rx_limiter, tx_limiter;
	struct worker_op rx_timer, tx_timer; /* waiting: nothing moves */

	/* net_tap.c */
	uint64_t offloads;     /* VIRTIO_NET_F_GUEST_*: what the driver asks */
	uint64_t tap_offloads; /* what the tap has been told; all ones: no */
	uint64_t offloads_ns;  /* when it may be told again */
	struct worker_op offloads_timer;
	bool gone; /* the tap */
	struct worker_op link_poll;
	struct log_limit error_limit;

	/* The metadata service's side of this interface. */
	struct mmds_port *port;    /* NULL: none */
	struct net_rx_read *local; /* buffers for one of its frames */
	bool port_marked;
	unsigned port_tries; /* for a buffer */
	struct worker_op port_timer;

	struct virtq_chain chain; /* whatever is being popped */

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool idle; /* not running, and no operation to come */
};

/* A pair's two. */
static inline struct virtq *net_rxq(struct net *n, size_t pair)
{
	return &n->vqs[2 * pair];
}

static inline struct virtq *net_txq(struct net *n, size_t pair)
{
	return &n->vqs[2 * pair + 1];
}

/* net.c */
void net_settle_later(struct net *n);
/* Before an operation is begun, and in its done(). */
void net_begin(struct net *n);
void net_end(struct net *n);
/* The used ring of vq has new entries, to be published. */
void net_pushed(struct net *n, const struct virtq *vq);
void net_broken(struct net *n);
/* Nothing until then (ns): in one of the two directions. */
void net_wait(struct net *n, struct worker_op *timer, uint64_t until_ns);
bool net_waits(const struct worker_op *timer);
void net_mark_all(struct net *n);

/* net_rx.c */
int net_rx_init(struct net *n, unsigned index, unsigned file);
void net_rx_fini(struct net_rx *rx);
void net_rx_start(struct net_rx *rx);
void net_rx_stop(struct net_rx *rx); /* cancels; none is in flight in the end */
void net_rx_serve(struct net_rx *rx);
/* The virtqueue for packets of this queue of the tap. */
struct virtq *net_rx_vq(const struct net_rx *rx);

/* What net_mmds.c shares of it: buffers for len bytes, giving them back, and
 * handing a packet of so many bytes in them to the guest. */
bool net_rx_take_buffers(
	struct net_rx *rx, struct net_rx_read *r, size_t len, unsigned max);
void net_rx_untake(struct net_rx_read *r);
void net_rx_hand_over(struct net *n, struct net_rx_read *r, size_t len);

/* net_tx.c */
void net_tx_init(struct net *n, unsigned index, unsigned file);
void net_tx_start(struct net_tx *tx, struct virtq *vq);
void net_tx_stop(struct net_tx *tx);
void net_tx_serve(struct net_tx *tx);

/* net_mmds.c: all of them do nothing where there is no metadata service. */
int net_mmds_init(struct net *n, struct error *err);
void net_mmds_fini(struct net *n);
void net_mmds_start(struct net *n);
void net_mmds_stop(struct net *n);
/* Whether the packet (vnet header first) was for the service. */
bool net_mmds_input(struct net *n, const struct iovs *packet);
void net_mmds_serve(struct net *n);

/* net_ctrl.c */
void net_ctrl_serve(struct net *n);

/* net_tap.c */
void net_tap_init(struct net *n);
void net_tap_start(struct net *n);
void net_tap_stop(struct net *n);
/* Asks the tap for these VIRTIO_NET_F_GUEST_*, soon. */
void net_tap_set_offloads(struct net *n, uint64_t features);
bool net_tap_settled(const struct net *n); /* it has them */
/* It refused a packet with a positive errno. */
void net_tap_failed(struct net *n, int err);
