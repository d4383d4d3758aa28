#include "base/counter.h"
#include "virtio/vsock_dev.h"

#include <sys/socket.h>
#include <unistd.h>

/* Whether what the guest sent is all with the host peer. */
static bool flushed(const struct vsock_conn *c)
{
	return c->ok_len == 0 && !c->held && c->buf.len == 0;
}

static bool needs_host(const struct vsock_conn *c)
{
	switch (c->state) {
	case VSOCK_HELLO:
	case VSOCK_REQUESTED:
	case VSOCK_OPEN:
		return true;
	case VSOCK_DRAINING:
		return !flushed(c) || c->out.state != WORKER_OP_IDLE;
	case VSOCK_CONNECTING:
	case VSOCK_SHUT:
	case VSOCK_RESET:
	case VSOCK_GONE:
		break;
	}
	return false;
}

/* shutdown(): the peer hears of it now, and polls end; the ring may keep its
 * reference for a while. */
static void close_host(struct vsock_conn *c)
{
	if (!c->closing)
		shutdown(c->fd, SHUT_RDWR);
	c->closing = true;
	if (c->in.state != WORKER_OP_IDLE || c->out.state != WORKER_OP_IDLE)
		return;
	vsock_tx_discard(c);
	worker_remove_file(c->dev->worker, c->file);
	close(c->fd);
	c->fd = -1;
	c->closing = false;
}

static void tend_host(struct vsock_conn *c)
{
	if (c->closing || !needs_host(c)) {
		close_host(c);
		return;
	}
	if (c->state == VSOCK_HELLO) {
		vsock_host_hello(c);
		return;
	}
	if (c->state == VSOCK_OPEN)
		vsock_rx_poll(c);
	vsock_tx_write(c);
	if (!c->shut_down && (c->shut_guest & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
		flushed(c)) {
		c->shut_down = true;
		shutdown(c->fd, SHUT_WR);
	}
}

static void tend_guest(struct vsock_conn *c)
{
	if (c->state == VSOCK_OPEN) {
		if (vsock_conn_credit_is_low(c))
			c->want |= VSOCK_WANT_CREDIT;
		if (c->readable && !c->credit_asked &&
			vsock_conn_credit(c) == 0) {
			c->credit_asked = true;
			c->want |= VSOCK_WANT_ASK;
		}
	}
	if (!c->queued && vsock_rx_wanted(c)) {
		c->queued = true;
		TAILQ_INSERT_TAIL(&c->dev->talkers, c, talker);
		vsock_settle_later(c->dev);
	}
}

static bool is_over(const struct vsock_conn *c)
{
	return (c->state == VSOCK_GONE || c->state == VSOCK_DRAINING) &&
	       !c->hashed && c->fd < 0;
}

void vsock_update(struct vsock_conn *c)
{
	struct vsock *v = c->dev;

	if (c->fd >= 0)
		tend_host(c);
	tend_guest(c);
	if (!is_over(c))
		return;
	if (c->queued)
		TAILQ_REMOVE(&v->talkers, c, talker);
	c->queued = false;
	vsock_conn_unlimit(c);
	vsock_conn_free(c);
	vsock_settle_later(v);
}

void vsock_kill(struct vsock_conn *c, bool tell)
{
	struct vsock_stats *s = c->dev->config.stats;

	if (c->state == VSOCK_OPEN)
		counter_add(&s->resets, 1);
	else if (c->state < VSOCK_OPEN)
		counter_add(&s->refused, 1);
	vsock_conn_unlimit(c);
	vsock_host_forget(c);
	if (tell && c->hashed) {
		c->state = VSOCK_RESET;
		c->want = VSOCK_WANT_RST;
	} else {
		vsock_conn_unhash(c);
		c->state = VSOCK_GONE;
		c->want = 0;
	}
	vsock_update(c);
}

int vsock_attach(struct vsock_conn *c, int fd)
{
	int r = worker_install_file(c->dev->worker, fd, &c->file);

	if (r < 0) {
		close(fd);
		counter_add(&c->dev->config.stats->errors, 1);
		return r;
	}
	c->fd = fd;
	return 0;
}

void vsock_open(struct vsock_conn *c)
{
	c->state = VSOCK_OPEN;
	vsock_conn_unlimit(c);
	counter_add(&c->dev->config.stats->opened, 1);
}
