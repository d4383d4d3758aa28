#pragma once

/*
 * One request as the resources see it: parsed, routed, its body whole. No HTTP
 * library and no socket in sight.
 *
 * A handler answers by exactly one of the request_reply functions, or leaves
 * the answer for later with request_finish().
 */

#include "api/backend.h"
#include "api/json.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_QUERY_MAX 4

struct route;

struct request {
	const struct api_backend *backend;
	const struct route *route;
	bool at_port;               /* it came over the VM's own socket */
	char id[VM_ID_MAX + 1];     /* {id} of the path, or of that VM */
	char sub_id[VM_ID_MAX + 1]; /* {drive_id} or so, behind it */
	const char *query[REQUEST_QUERY_MAX]; /* as in route->query; or NULL */
	const char *body;
	size_t body_len;
	struct json_object *json; /* the body, where it is JSON; NULL: none */
	uint64_t received_ns;

	struct api_op op; /* for an operation of the backend */
	void (*finish)(struct request *r, const struct error *err);
};

void request_reply_json(
	struct request *r, unsigned status, struct json_object *taken);
void request_reply_empty(struct request *r); /* 204 */
void request_reply_error(struct request *r, const struct error *err);
/* 204, or the error if there is one. */
void request_reply_done(struct request *r, const struct error *err);
/* Console bytes; data is taken over. dropped: for its header. */
void request_reply_bytes(
	struct request *r, char *data, size_t len, uint64_t dropped);

/* How something is followed by an answer that goes on: const, one for each
 * kind. */
struct stream_ops {
	const char *content_type;
	bool ends; /* by itself: the request lasts until then */
	int (*begin)(const struct api_backend *b, struct api_reader *reader,
		void *arg, struct error *err);
	/* Bytes, at most max; 0: none now, the reader will be woken; -ENODATA:
	 * it has ended; another errno: it has failed, and the client sees that
	 * it is not whole. */
	ssize_t (*read)(const struct api_backend *b, struct api_reader *reader,
		void *arg, char *buf, size_t max);
	/* After begin() has succeeded. */
	void (*end)(const struct api_backend *b, struct api_reader *reader);
	/* In the end, whatever happened; NULL: arg is not its own. */
	void (*release)(void *arg);
};

/* arg: taken over. What fails is answered. */
void request_reply_stream(
	struct request *r, const struct stream_ops *ops, void *arg);
/* A header of the request; NULL: it has none such. */
const char *request_header(const struct request *r, const char *name);

/*
 * For what an operation returned: 0 or a negative errno is finished at once,
 * API_PENDING when op->done() comes. finish(): as above, answers.
 * cancellable: the operation ends when the client hangs up.
 */
void request_finish(struct request *r, int result, struct error *err,
	bool cancellable,
	void (*finish)(struct request *r, const struct error *err));
