#include "bench_client.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256u << 10)

struct client {
	int sock;
	char out[8192];
	char in[BUFFER];
};

struct client *client_connect(const char *socket_path)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct client *c = malloc(sizeof(*c));

	if (!c || strlen(socket_path) >= sizeof(addr.sun_path))
		errx(1, "%s: not a socket's path", socket_path);
	memcpy(addr.sun_path, socket_path, strlen(socket_path));
	for (unsigned tries = 0; tries < 1000; tries++) {
		c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(c->sock, (struct sockaddr *)&addr, sizeof(addr)) ==
			0)
			return c;
		close(c->sock);
		nanosleep(&pause, NULL);
	}
	err(1, "%s", socket_path);
}

void client_close(struct client *c)
{
	close(c->sock);
	free(c);
}

/* Where the body begins, once all of the answer is there; else NULL. */
static const char *complete(const char *in, size_t n)
{
	const char *body = strstr(in, "\r\n\r\n"), *length;

	if (!body)
		return NULL;
	body += 4;
	length = strcasestr(in, "\r\nContent-Length:");
	if (!length || length > body)
		return body; /* 204 */
	if (n - (size_t)(body - in) <
		strtoul(length + strlen("\r\nContent-Length:"), NULL, 10))
		return NULL;
	return body;
}

struct answer client_ask(struct client *c, const char *method, const char *path,
	const char *body, int expected)
{
	int len = snprintf(c->out, sizeof(c->out),
		"%s %s HTTP/1.1\r\nHost: mayfly\r\nContent-Length: %zu\r\n\r\n"
		"%s",
		method, path, body ? strlen(body) : 0, body ? body : "");
	struct answer a = {0};
	const char *answer = NULL;
	size_t n = 0;

	if (len < 0 || (size_t)len >= sizeof(c->out))
		errx(1, "%s %s: too long", method, path);
	a.sent_ns = clock_ns();
	if (send(c->sock, c->out, (size_t)len, MSG_NOSIGNAL) != len)
		err(1, "%s %s: send", method, path);
	while (!answer) {
		ssize_t got =
			recv(c->sock, c->in + n, sizeof(c->in) - 1 - n, 0);

		if (got <= 0)
			errx(1, "%s %s: the daemon hung up", method, path);
		n += (size_t)got;
		c->in[n] = '\0';
		answer = complete(c->in, n);
	}
	a.answered_ns = clock_ns();
	a.status = n > 12 ? (int)strtol(c->in + 9, NULL, 10) : 0;
	if (a.status != expected)
		errx(1, "%s %s: answered %d, not %d: %s", method, path,
			a.status, expected, answer);
	if (*answer)
		a.body = json_tokener_parse(answer);
	return a;
}
