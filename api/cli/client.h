#pragma once

/*
 * The daemon's API over its Unix socket, by libcurl. One thread; errors are of
 * the control path. What the daemon refuses is an error with its own sentence,
 * and the code ENOENT (404), EEXIST (409), ENOBUFS (429) or EREMOTEIO;
 * ECONNREFUSED and EIO: there was no daemon, or none any more.
 */

#include "base/error.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

/* Where mayflyd listens unless it is told otherwise. */
#define CLIENT_DEFAULT_SOCKET "/run/mayfly/mayfly.sock"

struct client;

int client_create(
	struct client **ret, const char *socket_path, struct error *err);
void client_destroy(struct client *c);

/* An answer of 200 to 299. json: NULL if the body is none. */
struct reply {
	long status;
	char *body;
	size_t len;
	struct json_object *json;
};

void reply_fini(struct reply *r); /* zeroed is fine */

/* body: NULL: none. type: its content type, NULL: JSON. ret: may be NULL. */
int client_request(struct client *c, const char *method, const char *path,
	const char *type, const void *body, size_t len, struct reply *ret,
	struct error *err);
/* The same for one VM: /v1/vms/{id}REST; body: NULL: none; borrowed. */
int client_vm(struct client *c, const char *method, const char *id,
	const char *rest, struct json_object *body, struct reply *ret,
	struct error *err);

/* Types into a VM's console. A guest that does not read at the moment is given
 * a second; what it does not take then is lost: one that has exited will not be
 * back. */
void client_type(
	struct client *c, const char *id, const char *data, size_t len);

/* All VMs with this label (NULL: any) and in this state (NULL: any), page by
 * page: an array, the caller's. */
int client_list(struct client *c, const char *label, const char *state,
	struct json_object **ret, struct error *err);

enum client_step {
	CLIENT_GO_ON,
	CLIENT_NO_INPUT, /* go on, without input from now */
	CLIENT_LEAVE,
};

/* How a stream and what a person types meet. */
struct client_stream {
	enum client_step (*output)(void *arg, const void *data, size_t len);
	int input_fd; /* -1: none */
	enum client_step (*input)(void *arg);
	/* Another descriptor that is listened to in any case; NULL: none. */
	enum client_step (*control)(void *arg);
	int control_fd;
	/* A second went by without anything; NULL: so it does. */
	enum client_step (*idle)(void *arg);
	void *arg;
};

/* Follows until the stream ends (0) or one of the two leaves (1). */
int client_follow(struct client *c, const char *id, const char *rest,
	const struct client_stream *s, struct error *err);

/* The same of the events: of one VM, with a label; NULL: any. all: those that
 * are still known, too. */
int client_follow_events(struct client *c, const char *vm, const char *label,
	bool all, const struct client_stream *s, struct error *err);
