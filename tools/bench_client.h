#pragma once

/*
 * A small HTTP client for one Unix socket and one connection that is kept: what
 * a bench needs so that it measures the server. Ends the program with a
 * sentence when something fails.
 */

#include <json-c/json.h>
#include <stdint.h>

struct client;

/* Waits up to 10 s for the server to listen. */
struct client *client_connect(const char *socket_path);
void client_close(struct client *c);

struct answer {
	uint64_t sent_ns, answered_ns; /* just before send(), after recv() */
	int status;
	struct json_object *body; /* the caller's; NULL: none */
};

/* body: NULL for none. Any status but `expected` ends the program. */
struct answer client_ask(struct client *c, const char *method, const char *path,
	const char *body, int expected);
