#include "api/errors.h"
#include "api/http.h"
#include "api/json_check.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/*
 * One request and its answer, between microhttpd and the resources.
 *
 * A request counts from the moment its last body byte has arrived: what comes
 * before changes nothing, and what was begun then is carried through, whether
 * its client still listens or not.
 */
struct exchange {
	struct request req; /* first: a handler's pointer leads here */
	struct api_server *server;
	struct MHD_Connection *conn;
	struct hangup hangup;
	struct MHD_Response *response;
	unsigned status;
	char allow[64];
	char *fault; /* of the answer, for who asks at a VM's own socket */
	char *body;
	size_t received; /* of the body, kept or not */
	bool refused;    /* by its head: the body is thrown away */
	bool ambiguous;  /* ... and nobody knows where it ends */
	bool dispatched, suspended;
	bool streamed,
		endless; /* the answer goes on for a while, or for ever */
};

static struct exchange *of_request(struct request *r)
{
	return (struct exchange *)r;
}

static void set_response(
	struct exchange *x, unsigned status, struct MHD_Response *response)
{
	if (x->response)
		MHD_destroy_response(x->response);
	x->response = response;
	x->status = status;
}

void request_reply_json(
	struct request *r, unsigned status, struct json_object *taken)
{
	_cleanup_json_ struct json_object *o = taken;
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct MHD_Response *response =
		MHD_create_response_from_buffer(text ? strlen(text) : 0,
			(void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

	if (response)
		MHD_add_response_header(
			response, "Content-Type", "application/json");
	set_response(of_request(r), status, response);
}

void request_reply_done(struct request *r, const struct error *err)
{
	if (err)
		request_reply_error(r, err);
	else
		request_reply_empty(r);
}

void request_reply_empty(struct request *r)
{
	set_response(of_request(r), 204,
		MHD_create_response_from_buffer(
			0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT));
}

static void reply_fault(
	struct request *r, unsigned status, const struct error *err)
{
	struct json_object *o = json_object_new_object();
	char text[ERROR_FIELD_MAX + ERROR_MSG_MAX + 4];

	snprintf(text, sizeof(text), "%s%s%s", err->field,
		err->field[0] ? ": " : "", err->msg);
	/* A path out of the request may have been cut within a character. */
	utf8_repair(text);
	json_add_string(o, "fault_message", text);
	/* Firecracker knows one status for what cannot be. */
	if (r->at_port && status != 413)
		status = 400;
	request_reply_json(r, status, o);
	if (r->at_port) {
		free(of_request(r)->fault);
		of_request(r)->fault = strdup(text);
	}
}

void request_reply_error(struct request *r, const struct error *err)
{
	reply_fault(r, http_status(err), err);
}

void request_reply_bytes(
	struct request *r, char *data, size_t len, uint64_t dropped)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		len, data, MHD_RESPMEM_MUST_FREE);
	char number[24];

	if (response) {
		snprintf(number, sizeof(number), "%llu",
			(unsigned long long)dropped);
		MHD_add_response_header(
			response, "X-Mayfly-Console-Dropped", number);
		MHD_add_response_header(
			response, "Content-Type", "application/octet-stream");
	} else {
		free(data);
	}
	set_response(of_request(r), 200, response);
}

void request_reply_stream(
	struct request *r, const struct stream_ops *ops, void *arg)
{
	struct exchange *x = of_request(r);
	struct error err;
	struct MHD_Response *response =
		stream_create(x->server, x->conn, ops, arg, &err);

	if (!response) {
		request_reply_error(r, &err);
		return;
	}
	MHD_add_response_header(response, "Content-Type", ops->content_type);
	x->streamed = true;
	x->endless = !ops->ends;
	set_response(x, 200, response);
}

const char *request_header(const struct request *r, const char *name)
{
	const struct exchange *x = (const struct exchange *)r;

	return MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, name);
}

static void resume(struct exchange *x)
{
	hangup_unwatch(&x->hangup);
	x->suspended = false;
	server_resume(x->server, x->conn);
}

static void on_done(struct api_op *op, const struct error *err)
{
	struct exchange *x =
		(struct exchange *)((char *)op - offsetof(struct request, op));

	x->req.finish(&x->req, err);
	resume(x);
}

static void on_gone(struct hangup *h)
{
	struct exchange *x =
		(struct exchange *)((char *)h -
				    offsetof(struct exchange, hangup));

	x->server->backend.ops->cancel(x->server->backend.ctx, &x->req.op);
	resume(x);
}

void request_finish(struct request *r, int result, struct error *err,
	bool cancellable,
	void (*finish)(struct request *r, const struct error *err))
{
	struct exchange *x = of_request(r);

	if (result != API_PENDING) {
		finish(r, result < 0 ? err : NULL);
		return;
	}
	r->finish = finish;
	x->suspended = true;
	MHD_suspend_connection(x->conn);
	if (cancellable)
		hangup_watch(&x->hangup);
}

/* Who asked for which change, and what came of it. The credentials are those
 * the peer had when it connected. */
static void log_change(struct exchange *x, const char *method, const char *url)
{
	int fd = MHD_get_connection_info(
		x->conn, MHD_CONNECTION_INFO_CONNECTION_FD)
			 ->connect_fd;
	struct ucred who = {0, (uid_t)-1, (gid_t)-1};
	socklen_t len = sizeof(who);
	char printable[160], path[200];

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	log_info("api_change",
		"vm=%s method=%s path=%s uid=%u gid=%u pid=%d status=%u "
		"us=%llu",
		x->req.id, method,
		log_quote(path, sizeof(path),
			text_printable(printable, sizeof(printable), url)),
		(unsigned)who.uid, (unsigned)who.gid, (int)who.pid,
		x->response ? x->status : 0,
		(unsigned long long)(clock_ns() - x->req.received_ns) / 1000);
}

/* An answer without end says nothing of how long it took. */
static void count_time(const struct exchange *x)
{
	if (!x->endless)
		route_took(x->req.route, x->status,
			clock_ns() - x->req.received_ns);
}

static void add_retry_after(struct exchange *x)
{
	unsigned seconds = http_retry_after_s(x->status);
	char number[12];

	if (seconds == 0)
		return;
	snprintf(number, sizeof(number), "%u", seconds);
	MHD_add_response_header(x->response, "Retry-After", number);
}

static enum MHD_Result send_response(
	struct exchange *x, const char *method, const char *url)
{
	enum MHD_Result r;

	if (x->dispatched && strcmp(method, "GET") != 0)
		log_change(x, method, url);

	/* Out of memory, or nobody there to answer: hangs up. */
	if (!x->response)
		return MHD_NO;
	if (!x->streamed)
		count_time(x);
	if (x->req.at_port)
		port_served(x->server, x->conn, &x->req, x->status, x->fault);
	add_retry_after(x);
	if (x->status == 405)
		MHD_add_response_header(x->response, "Allow", x->allow);
	r = MHD_queue_response(x->conn, x->status, x->response);
	MHD_destroy_response(take_ptr(&x->response));
	return r;
}

/* The parameters behind "?": only those the route knows, each once. */
static enum MHD_Result take_parameter(
	void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct exchange *x = arg;
	const struct route *route = x->req.route;
	char name[40];
	struct error err;
	size_t len;

	(void)kind;
	for (unsigned i = 0; i < REQUEST_QUERY_MAX && route->query[i]; i++) {
		if (strcmp(route->query[i], key) != 0)
			continue;
		if (value && !x->req.query[i]) {
			/* In microhttpd's own buffer, which it would have
			 * changed the same way by itself. */
			len = MHD_http_unescape((char *)(uintptr_t)value);
			x->req.query[i] = value;
			if (len == strlen(value))
				return MHD_YES;
			error_field(&err, EINVAL, route->query[i],
				"must not contain a NUL");
			request_reply_error(&x->req, &err);
			return MHD_NO;
		}
		error_field(&err, EINVAL, route->query[i],
			value ? "is given twice" : "needs a value");
		request_reply_error(&x->req, &err);
		return MHD_NO;
	}
	text_printable(name, sizeof(name), key);
	error_field(&err, EINVAL, name, "is not a known parameter");
	request_reply_error(&x->req, &err);
	return MHD_NO;
}

static void refuse_body(struct exchange *x)
{
	struct error err;

	if (x->req.route->body == BODY_NONE)
		error_set(&err, EINVAL, "this request takes no body");
	else
		error_set(&err, EMSGSIZE, "the body is longer than %u bytes",
			x->req.route->body_max);
	request_reply_error(&x->req, &err);
	x->refused = true;
}

/* What the head alone tells: a response now means the body is not kept. */
static void take_head(struct exchange *x, const char *method, const char *url)
{
	const char *length = MHD_lookup_connection_value(
		x->conn, MHD_HEADER_KIND, "Content-Length");
	unsigned status;
	struct error err;

	if (route_find(&x->req, method, url, &status, x->allow,
		    sizeof(x->allow), &err) < 0) {
		reply_fault(&x->req, status, &err);
		x->refused = true;
		return;
	}
	MHD_get_connection_values(
		x->conn, MHD_GET_ARGUMENT_KIND, take_parameter, x);
	x->refused = x->response != NULL;
	if (!x->refused && framing_check(x->conn, &err) < 0) {
		request_reply_error(&x->req, &err);
		x->refused = true;
		x->ambiguous = true;
	}
	if (!x->refused && length &&
		strtoull(length, NULL, 10) > x->req.route->body_max)
		refuse_body(x);
}

/* Whether the sender of a refused body should not even be let send it. */
static bool answer_at_once(struct exchange *x)
{
	const char *length = MHD_lookup_connection_value(
		x->conn, MHD_HEADER_KIND, "Content-Length");

	return x->refused &&
	       (x->ambiguous ||
		       (length && strtoull(length, NULL, 10) > API_DRAIN_MAX) ||
		       MHD_lookup_connection_value(
			       x->conn, MHD_HEADER_KIND, "Expect"));
}

/* MHD_NO: hang up. */
static enum MHD_Result take_body(
	struct exchange *x, const char *data, size_t size)
{
	char *more;

	x->received += size;
	if (x->received > API_DRAIN_MAX)
		return MHD_NO;
	if (!x->refused && x->received > x->req.route->body_max)
		refuse_body(x);
	if (x->refused)
		return MHD_YES;
	more = realloc(x->body, x->received);
	if (!more)
		return MHD_NO;
	memcpy(more + x->received - size, data, size);
	x->body = more;
	return MHD_YES;
}

static void dispatch(struct exchange *x)
{
	struct request *r = &x->req;
	struct error err;

	r->body = x->body;
	r->body_len = x->received;
	if ((r->route->body == BODY_JSON || r->route->body == BODY_RAW) &&
		r->body_len == 0) {
		error_set(&err, EINVAL, "this request needs a body");
		request_reply_error(r, &err);
		return;
	}
	if (r->body_len > 0 && r->route->body != BODY_RAW) {
		r->json = json_parse(r->body, r->body_len, &err);
		if (!r->json) {
			request_reply_error(r, &err);
			return;
		}
	}
	r->route->handler(r);
}

/* NULL: out of memory, or the VM whose own socket it was is gone. */
static struct exchange *exchange_new(
	struct api_server *s, struct MHD_Connection *conn)
{
	struct exchange *x;
	const char *id;
	bool at_port = port_of(conn, &id);

	x = at_port && !id ? NULL : calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->req.at_port = at_port;
	if (at_port)
		memcpy(x->req.id, id, strlen(id));
	x->server = s;
	x->conn = conn;
	x->req.backend = &s->backend;
	x->req.received_ns = clock_ns();
	x->req.op.done = on_done;
	x->hangup = (struct hangup){s, conn, on_gone, false};
	s->open_requests++;
	port_busy(conn, true);
	return x;
}

static bool is_orphan(struct MHD_Connection *conn)
{
	const char *id;

	return port_of(conn, &id) && !id;
}

enum MHD_Result exchange_access(void *server, struct MHD_Connection *conn,
	const char *url, const char *method, const char *version,
	const char *data, size_t *size, void **slot)
{
	struct exchange *x = *slot;

	(void)version;
	if (!x) {
		*slot = x = exchange_new(server, conn);
		if (!x)
			return MHD_NO;
		take_head(x, method, url);
		return answer_at_once(x) ? send_response(x, method, url)
					 : MHD_YES;
	}
	if (*size > 0) {
		size_t n = *size;

		*size = 0;
		return take_body(x, data, n);
	}
	if (!x->dispatched && !x->refused) {
		/* While its body came, its VM may have gone. */
		if (is_orphan(conn))
			return MHD_NO;
		x->dispatched = true;
		dispatch(x);
		if (x->suspended)
			return MHD_YES;
	}
	return send_response(x, method, url);
}

void exchange_completed(void *server, struct MHD_Connection *conn, void **slot,
	enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *slot;
	struct api_server *s = server;

	(void)why;
	if (!x)
		return;
	port_busy(conn, false);
	if (x->streamed)
		count_time(x);
	hangup_unwatch(&x->hangup);
	if (x->response)
		MHD_destroy_response(x->response);
	json_object_put(x->req.json);
	free(x->fault);
	free(x->body);
	free(x);
	s->open_requests--;
	*slot = NULL;
}
