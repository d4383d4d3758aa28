#pragma once

/*
 * Many HTTP requests over a fixed number of connections to one Unix socket, as
 * fast as they are answered: each connection that has its answer takes the next
 * request. One thread, one epoll loop. Ends the program with a sentence when
 * the server hangs up or answers what is no HTTP.
 */

#include <stdint.h>

struct many;

struct many_request {
	char method[8];
	char path[96];
	const char *body; /* borrowed until it is answered; NULL: none */
};

struct many_answer {
	uint64_t sent_ns, answered_ns; /* just before send(), after recv() */
	int status;
	int retry_after_s; /* -1: the answer has no such header */
	const char *body;  /* borrowed, terminated */
};

struct many_work {
	unsigned n;
	/* Fills in the i-th request: of 0 to n - 1, in order. */
	void (*ask)(void *arg, unsigned i, struct many_request *ret);
	/* Its answer; in any order. */
	void (*answered)(void *arg, unsigned i, const struct many_answer *a);
	void *arg;
	const char *title; /* what is shown while it is done */
};

struct many *many_open(const char *socket_path, unsigned n_connections);
void many_run(struct many *m, const struct many_work *w);
void many_close(struct many *m);
