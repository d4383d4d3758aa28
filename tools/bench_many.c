#include "bench_many.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 64
#define OUT_BYTES 4096
#define IN_BYTES (256u << 10)
#define PROGRESS_NS 200000000u
#define STUCK_MS 60000

struct connection {
	int sock;
	bool busy;
	unsigned i; /* its request */
	uint64_t sent_ns;
	char *in;
	size_t n_in;
};

struct many {
	int epoll;
	unsigned n;
	uint64_t told_ns;
	struct connection c[];
};

struct many *many_open(const char *socket_path, unsigned n_connections)
{
	struct many *m = calloc(
		1, sizeof(*m) + n_connections * sizeof(struct connection));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (!m || strlen(socket_path) >= sizeof(addr.sun_path))
		errx(1, "%s: not a socket's path", socket_path);
	memcpy(addr.sun_path, socket_path, strlen(socket_path));
	m->n = n_connections;
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < m->n; i++) {
		struct connection *c = &m->c[i];
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

		c->in = malloc(IN_BYTES);
		c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!c->in ||
			connect(c->sock, (struct sockaddr *)&addr,
				sizeof(addr)) < 0 ||
			epoll_ctl(m->epoll, EPOLL_CTL_ADD, c->sock, &ev) < 0)
			err(1, "%s: connection %u", socket_path, i);
	}
	return m;
}

void many_close(struct many *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		close(m->c[i].sock);
		free(m->c[i].in);
	}
	close(m->epoll);
	free(m);
}

/* Requests are small: a socket takes one whole. */
static void send_next(
	struct connection *c, const struct many_work *w, unsigned i)
{
	struct many_request r = {.body = NULL};
	char out[OUT_BYTES];
	int len;

	w->ask(w->arg, i, &r);
	len = snprintf(out, sizeof(out),
		"%s %s HTTP/1.1\r\nHost: mayfly\r\nContent-Length: %zu\r\n\r\n"
		"%s",
		r.method, r.path, r.body ? strlen(r.body) : 0,
		r.body ? r.body : "");
	if (len < 0 || (size_t)len >= sizeof(out))
		errx(1, "%s %s: too long", r.method, r.path);
	c->busy = true;
	c->i = i;
	c->n_in = 0;
	c->sent_ns = clock_ns();
	if (send(c->sock, out, (size_t)len, MSG_NOSIGNAL) != len)
		err(1, "%s %s: send", r.method, r.path);
}

/* The value of a header, or -1. */
static long header(const char *in, const char *body, const char *name)
{
	const char *at = strcasestr(in, name);

	return at && at < body ? strtol(at + strlen(name), NULL, 10) : -1;
}

/* Whether all of the answer is there. */
static bool parse(const struct connection *c, struct many_answer *ret)
{
	const char *body = strstr(c->in, "\r\n\r\n");
	long length;

	if (!body)
		return false;
	body += 4;
	length = header(c->in, body, "\r\nContent-Length:");
	if (length > 0 && c->n_in - (size_t)(body - c->in) < (size_t)length)
		return false;
	ret->sent_ns = c->sent_ns;
	ret->status = (int)strtol(c->in + strlen("HTTP/1.1 "), NULL, 10);
	ret->retry_after_s = (int)header(c->in, body, "\r\nRetry-After:");
	ret->body = body;
	return true;
}

static bool take_answer(struct connection *c, struct many_answer *ret)
{
	ssize_t n = recv(
		c->sock, c->in + c->n_in, IN_BYTES - 1 - c->n_in, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0)
		errx(1, "the daemon hung up on connection with request %u",
			c->i);
	ret->answered_ns = clock_ns();
	c->n_in += (size_t)n;
	c->in[c->n_in] = '\0';
	return parse(c, ret);
}

static void tell(
	struct many *m, const struct many_work *w, unsigned done, bool last)
{
	uint64_t now = clock_ns();

	if (!w->title || !isatty(STDERR_FILENO) ||
		(!last && now - m->told_ns < PROGRESS_NS))
		return;
	m->told_ns = now;
	fprintf(stderr, "\r\033[K  %s: %u of %u%s", w->title, done, w->n,
		last ? "\r\033[K" : "");
}

void many_run(struct many *m, const struct many_work *w)
{
	struct epoll_event events[BATCH];
	unsigned asked = 0, done = 0;

	for (unsigned i = 0; i < m->n && asked < w->n; i++)
		send_next(&m->c[i], w, asked++);
	while (done < w->n) {
		int n = epoll_wait(m->epoll, events, BATCH, STUCK_MS);

		if (n == 0)
			errx(1, "no answer in %d s", STUCK_MS / 1000);
		for (int k = 0; k < n; k++) {
			struct connection *c = events[k].data.ptr;
			struct many_answer a = {0};

			if (!take_answer(c, &a))
				continue;
			if (!c->busy)
				errx(1, "an answer to no request");
			c->busy = false;
			w->answered(w->arg, c->i, &a);
			done++;
			if (asked < w->n)
				send_next(c, w, asked++);
			tell(m, w, done, done == w->n);
		}
	}
}
