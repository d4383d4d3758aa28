#include "base/counter.h"
#include "virtio/vsock_dev.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* Clients taken at once, before others have a turn. */
#define ACCEPT_MAX 32u
/* When there are no descriptors or no memory for one more. */
#define ACCEPT_PAUSE_NS 100000000u

#define HELLO "CONNECT "
#define HELLO_BYTES (sizeof(HELLO) - 1)

/* ---- those who connect ---- */

static void accept_one(struct vsock *v, int fd)
{
	struct vsock_conn *c = vsock_conn_new(v, VSOCK_HELLO);

	if (!c) {
		counter_add(&v->config.stats->refused, 1);
		close(fd);
		return;
	}
	if (vsock_attach(c, fd) < 0) {
		vsock_kill(c, false);
		return;
	}
	vsock_conn_limit(c);
	vsock_update(c);
}

void vsock_host_accept(struct vsock *v)
{
	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(v->config.listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			accept_one(v, fd);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		counter_add(&v->config.stats->errors, 1);
		if (v->accept.state == WORKER_OP_IDLE)
			worker_timer(v->worker, &v->accept,
				clock_ns() + ACCEPT_PAUSE_NS);
		return;
	}
	if (v->accept.state == WORKER_OP_IDLE)
		worker_defer(v->worker, &v->accept);
}

void vsock_host_accept_done(struct worker_op *op, int32_t res)
{
	struct vsock *v =
		(struct vsock *)((char *)op - offsetof(struct vsock, accept));

	if (v->running && res != -ECANCELED)
		vsock_host_accept(v);
	vsock_settle_later(v);
}

/* ---- their first line ---- */

/* A decimal port up to the end of the line at end. */
static bool parse_port(const uint8_t *p, const uint8_t *end, uint32_t *ret)
{
	uint64_t port = 0;

	if (p == end)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (*p - '0');
		if (port > UINT32_MAX)
			return false;
	}
	*ret = (uint32_t)port;
	return true;
}

/* 1 with a port, 0 when the line is not complete, -1 when it is wrong. */
static int parse_line(struct vsock_conn *c, uint32_t *ret_port)
{
	const uint8_t *end = memchr(c->line, '\n', c->line_len);

	if (!end)
		return c->line_len < sizeof(c->line) ? 0 : -1;
	if ((size_t)(end - c->line) < HELLO_BYTES ||
		strncasecmp((const char *)c->line, HELLO, HELLO_BYTES) != 0 ||
		!parse_port(c->line + HELLO_BYTES, end, ret_port))
		return -1;
	c->early_off = (uint8_t)(end + 1 - c->line);
	return 1;
}

static void request(struct vsock_conn *c, uint32_t guest_port)
{
	c->guest_port = guest_port;
	c->host_port = vsock_conn_port(c->dev, guest_port);
	vsock_conn_hash(c);
	c->state = VSOCK_REQUESTED;
	c->want = VSOCK_WANT_REQUEST;
	vsock_conn_limit(c);
	vsock_update(c);
}

static struct vsock_conn *conn_of_in(struct worker_op *op)
{
	return (struct vsock_conn *)((char *)op -
				     offsetof(struct vsock_conn, in));
}

static void hello_polled(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_in(op);

	c->readable = res > 0;
	vsock_update(c);
}

static void hello_read(struct worker_op *op, int32_t res)
{
	struct vsock_conn *c = conn_of_in(op);
	uint32_t port;
	int r;

	c->readable = false;
	if (c->state != VSOCK_HELLO || res == -EAGAIN) {
		vsock_update(c);
		return;
	}
	if (res <= 0) {
		vsock_kill(c, false);
		return;
	}
	c->line_len += (uint8_t)res;
	r = parse_line(c, &port);
	if (r > 0)
		request(c, port);
	else if (r < 0)
		vsock_kill(c, false);
	else
		vsock_update(c);
}

void vsock_host_hello(struct vsock_conn *c)
{
	struct worker *w = c->dev->worker;

	if (c->in.state != WORKER_OP_IDLE)
		return;
	if (!c->readable) {
		c->in.done = hello_polled;
		worker_poll(w, &c->in, c->file, POLLIN);
		return;
	}
	c->in.done = hello_read;
	c->in_iov = (struct iovec){
		c->line + c->line_len, sizeof(c->line) - c->line_len};
	c->in_msg = (struct msghdr){.msg_iov = &c->in_iov, .msg_iovlen = 1};
	worker_recvmsg(w, &c->in, c->file, &c->in_msg);
}

/* ---- those whom the daemon connects to ---- */

void vsock_host_connect(struct vsock *v, const struct vsock_pkt *pkt)
{
	struct vsock_conn *c = vsock_conn_new(v, VSOCK_CONNECTING);

	if (v->config.on_ready && pkt->host_port == v->config.ready_port)
		v->config.on_ready(v->config.arg);
	if (!c) {
		counter_add(&v->config.stats->refused, 1);
		vsock_rx_stray(v, pkt);
		return;
	}
	c->host_port = pkt->host_port;
	c->guest_port = pkt->guest_port;
	c->peer_buf_alloc = pkt->buf_alloc;
	c->peer_fwd_cnt = pkt->fwd_cnt;
	vsock_conn_hash(c);
	vsock_conn_limit(c);
	pthread_mutex_lock(&v->lock);
	c->asking = true;
	TAILQ_INSERT_TAIL(&v->asking, c, ask);
	pthread_mutex_unlock(&v->lock);
	v->config.on_connect(v->config.arg);
}

void vsock_host_forget(struct vsock_conn *c)
{
	struct vsock *v = c->dev;

	pthread_mutex_lock(&v->lock);
	if (c->asking)
		TAILQ_REMOVE(&v->asking, c, ask);
	c->asking = false;
	pthread_mutex_unlock(&v->lock);
}

bool vsock_next_connect(
	struct virtio_dev *d, uint64_t *ret_token, uint32_t *ret_port)
{
	struct vsock *v = (struct vsock *)d;
	struct vsock_conn *c = NULL;

	pthread_mutex_lock(&v->lock);
	if (v->n_asked < VSOCK_MAX_CONNECTING)
		c = TAILQ_FIRST(&v->asking);
	if (c) {
		TAILQ_REMOVE(&v->asking, c, ask);
		c->asking = false;
		v->n_asked++;
		*ret_token = vsock_conn_token(c);
		*ret_port = c->host_port;
	}
	pthread_mutex_unlock(&v->lock);
	return c;
}

struct answer {
	struct vsock *v;
	uint64_t token;
	int fd;
};

static void take_answer(struct answer *a)
{
	struct vsock_conn *c = vsock_conn_by_token(a->v, a->token);

	if (!c || c->state != VSOCK_CONNECTING) {
		if (a->fd >= 0)
			close(a->fd);
		return;
	}
	if (a->fd < 0 || vsock_attach(c, a->fd) < 0) {
		vsock_kill(c, true);
		return;
	}
	vsock_open(c);
	c->want = VSOCK_WANT_RESPONSE;
	vsock_update(c);
}

static void answer_on_worker(void *arg)
{
	struct answer *a = arg;
	struct vsock *v = a->v;
	bool more;

	take_answer(a);
	pthread_mutex_lock(&v->lock);
	if (v->n_asked > 0)
		v->n_asked--;
	more = !TAILQ_EMPTY(&v->asking);
	pthread_mutex_unlock(&v->lock);
	if (more)
		v->config.on_connect(v->config.arg);
}

void vsock_connected(struct virtio_dev *d, uint64_t token, int fd)
{
	struct answer a = {(struct vsock *)d, token, fd};

	worker_call(a.v->worker, answer_on_worker, &a);
}
