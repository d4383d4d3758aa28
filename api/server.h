#pragma once

/*
 * The HTTP server, to be driven by somebody else's event loop: it watches its
 * descriptors, and runs when one is readable or the time is up. It never
 * blocks and has no thread.
 */

#include "api/backend.h"

#include <stdio.h>

struct api_server;

/* Descriptors to watch for EPOLLIN. -1: there is none. */
enum {
	API_SERVER_FD_HTTP,
	API_SERVER_FD_HANGUPS,
	API_SERVER_FD_SCRAPES,
	API_SERVER_FDS
};

/*
 * listen_fd: a listening Unix stream socket, taken over on success.
 * idle_timeout_s: a connection on which nothing moves for so long is closed,
 * unless its request is being worked on.
 */
int api_server_create(struct api_server **ret,
	const struct api_backend *backend, int listen_fd,
	unsigned idle_timeout_s, struct error *err);

/* At most once: GET /metrics, and nothing else, for whoever connects to
 * listen_fd, which is taken over on success. */
int api_server_listen_scrapes(
	struct api_server *s, int listen_fd, struct error *err);

/* The descriptors, borrowed. */
void api_server_fds(const struct api_server *s, int fds[API_SERVER_FDS]);

/* One of the descriptors is readable. */
void api_server_run(struct api_server *s);
void api_server_hangups(struct api_server *s);

/* Before the loop waits: does what is due, and says how long it may wait at
 * most, in ms (-1: forever). */
int api_server_prepare(struct api_server *s);

/* No new connections from here on; open ones go on. */
void api_server_quiesce(struct api_server *s);
/* Requests that have not been answered completely. */
unsigned api_server_open_requests(const struct api_server *s);

/* Every pending operation must have been answered. NULL is fine. */
void api_server_destroy(struct api_server *s);

/* For the command line: the document of GET /v1/host, and "METHOD /path" for
 * every route. */
void api_print_host(FILE *out, const struct api_host *h);
void api_print_routes(FILE *out);
