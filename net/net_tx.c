#include "base/clock.h"
#include "base/counter.h"
#include "net/net_dev.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>

/*
 * From the guest to the tap: a writev straight from its memory for each packet,
 * vnet header included, a batch of them in one io_uring_enter. A tap's write
 * does not wait, so all of a batch is done when that returns; then it is given
 * back, and the ring is looked at again before kicks are turned on: a guest
 * that goes on sending does not exit for it.
 */

/* The pieces of a batch lie in one array; each chain may have this many. */
static bool has_room(const struct net_tx *tx)
{
	return tx->n < NET_TX_BATCH &&
	       tx->n_pieces + VIRTQ_MAX <= NET_TX_PIECES;
}

static void drop(struct net_tx *tx, uint64_t *counter)
{
	counter_add(counter, 1);
	counter_add(&tx->net->config.stats->tx_dropped, 1);
}

static struct net_tx_req *add_req(struct net_tx *tx)
{
	const struct virtq_chain *c = &tx->net->chain;
	struct net_tx_req *req = &tx->reqs[tx->n++];

	req->head = c->head;
	req->writes = false;
	req->n_iov = c->rd.n;
	req->iov = &tx->pieces[tx->n_pieces];
	req->len = c->rd.len;
	req->seen_ns = tx->held_ns ? tx->held_ns : worker_now(tx->net->worker);
	tx->held_ns = 0;
	memcpy(&tx->pieces[tx->n_pieces], c->rd.v,
		c->rd.n * sizeof(c->rd.v[0]));
	tx->n_pieces += c->rd.n;
	return req;
}

static bool well_formed(const struct virtq_chain *c)
{
	return !c->wr.n && c->rd.len >= NET_HDR_BYTES + ETH_HLEN &&
	       c->rd.len <= NET_MAX_BYTES;
}

/* 0, or the time (ns) at which so many bytes may go out. */
static uint64_t limited(struct net *n, size_t bytes)
{
	if (!rate_limiter_active(&n->tx_limiter))
		return 0;
	return rate_limiter_take(&n->tx_limiter, bytes, clock_ns());
}

static void write_done(struct worker_op *op, int32_t res)
{
	struct net_tx_req *req =
		(struct net_tx_req *)((char *)op -
				      offsetof(struct net_tx_req, op));
	struct net_tx *tx = req->tx;
	struct net *n = tx->net;

	req->posted = false;
	req->res = res;
	if (--tx->n_posted == 0 && n->running) {
		n->marked |= 1u << (tx->vq - n->vqs);
		net_settle_later(n);
	}
	net_end(n);
}

static void post(struct net_tx *tx, struct net_tx_req *req)
{
	struct net *n = tx->net;

	req->tx = tx;
	req->op.done = write_done;
	req->writes = true;
	req->posted = true;
	tx->n_posted++;
	net_begin(n);
	worker_writev(n->worker, &req->op, tx->file, req->iov, req->n_iov, 0);
}

/* Takes what was popped. Whether the limits let it; else it is as if it had not
 * been popped, and tx_timer tells when. */
static bool take(struct net_tx *tx)
{
	struct net *n = tx->net;
	const struct virtq_chain *c = &n->chain;
	struct net_stats *stats = n->config.stats;
	uint64_t until;

	if (!well_formed(c)) {
		drop(tx, &stats->malformed);
		add_req(tx);
		return true;
	}
	if (net_mmds_input(n, &c->rd)) {
		add_req(tx);
		return true;
	}
	until = limited(n, c->rd.len - NET_HDR_BYTES);
	if (until) {
		counter_add(&stats->tx_throttled, 1);
		virtq_unpop(tx->vq, c->head);
		if (!tx->held_ns)
			tx->held_ns = worker_now(n->worker);
		net_wait(n, &n->tx_timer, until);
		return false;
	}
	if (n->gone) {
		drop(tx, &stats->tap_errors);
		add_req(tx);
		return true;
	}
	post(tx, add_req(tx));
	return true;
}

/* Fills the batch. Whether the ring was found empty. */
static bool take_batch(struct net_tx *tx)
{
	struct net *n = tx->net;
	int r;

	while (has_room(tx)) {
		r = virtq_pop(tx->vq, &n->chain);
		if (r < 0)
			net_broken(n);
		if (r <= 0)
			return r == 0;
		if (!take(tx))
			return false;
	}
	return false;
}

static void poll_done(struct worker_op *op, int32_t res)
{
	struct net_tx *tx =
		(struct net_tx *)((char *)op - offsetof(struct net_tx, poll));
	struct net *n = tx->net;

	(void)res;
	if (n->running) {
		n->marked |= 1u << (tx->vq - n->vqs);
		net_settle_later(n);
	}
	net_end(n);
}

/* What the tap had no room for is written again when it has. Whether there is
 * such a thing. */
static bool try_again(struct net_tx *tx)
{
	bool wait = false;

	for (unsigned i = 0; i < tx->n; i++) {
		struct net_tx_req *req = &tx->reqs[i];

		if (!req->writes || req->res != -EAGAIN)
			continue;
		if (tx->congested)
			post(tx, req);
		wait = true;
	}
	if (wait && !tx->congested) {
		net_begin(tx->net);
		worker_poll(tx->net->worker, &tx->poll, tx->file, POLLOUT);
	}
	tx->congested = wait && !tx->congested;
	return wait;
}

/* EINVAL: a vnet header that makes no sense, which is the guest's doing. */
static void refused(struct net_tx *tx, int err)
{
	struct net *n = tx->net;

	counter_add(&n->config.stats->tx_dropped, 1);
	if (err == EINVAL)
		counter_add(&n->config.stats->malformed, 1);
	else
		net_tap_failed(n, err);
}

static void give_back(struct net_tx *tx)
{
	struct net *n = tx->net;
	struct net_stats *stats = n->config.stats;
	uint64_t packets = 0, bytes = 0, now_ns = worker_now(n->worker);

	for (unsigned i = 0; i < tx->n; i++) {
		const struct net_tx_req *req = &tx->reqs[i];

		virtq_fill(tx->vq, req->head, 0);
		if (!req->writes)
			continue;
		if (req->res < 0) {
			refused(tx, -req->res);
			continue;
		}
		packets++;
		bytes += req->len - NET_HDR_BYTES;
		histogram_add(&stats->tx_time, now_ns - req->seen_ns);
	}
	counter_add(&stats->tx_packets, packets);
	counter_add(&stats->tx_bytes, bytes);
	net_pushed(n, tx->vq);
	tx->n = 0;
	tx->n_pieces = 0;
}

void net_tx_serve(struct net_tx *tx)
{
	struct net *n = tx->net;
	bool empty;

	if (tx->n_posted || tx->poll.state != WORKER_OP_IDLE)
		return;
	if (tx->n) {
		if (try_again(tx))
			return;
		give_back(tx);
	}
	if (net_waits(&n->tx_timer))
		return;
	virtq_disable_kicks(tx->vq);
	empty = take_batch(tx);
	if (tx->n_posted)
		return;
	/* Nothing to wait for; nobody else has to, either. */
	if (tx->n || (empty && virtq_enable_kicks(tx->vq))) {
		n->marked |= 1u << (tx->vq - n->vqs);
		net_settle_later(n);
	}
}

void net_tx_init(struct net *n, unsigned index, unsigned file)
{
	struct net_tx *tx = &n->tx[index];

	tx->net = n;
	tx->file = file;
	tx->poll.done = poll_done;
}

void net_tx_start(struct net_tx *tx, struct virtq *vq)
{
	tx->vq = vq;
	tx->n = 0;
	tx->n_pieces = 0;
	tx->congested = false;
	tx->held_ns = 0;
}

void net_tx_stop(struct net_tx *tx)
{
	for (unsigned i = 0; i < tx->n; i++)
		if (tx->reqs[i].posted)
			worker_cancel(tx->net->worker, &tx->reqs[i].op);
	worker_cancel(tx->net->worker, &tx->poll);
}
