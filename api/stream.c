#include "api/http.h"

#include <errno.h>

/* What one read hands to microhttpd, and so one chunk. */
#define CHUNK_BYTES 16384

/*
 * Something that is followed: microhttpd asks for bytes; where there are none
 * the connection is suspended until there are, or its client has gone.
 */
struct stream {
	struct api_server *server;
	struct MHD_Connection *conn;
	const struct stream_ops *ops;
	struct api_reader reader;
	struct hangup hangup;
	bool suspended, gone;
	void *arg;
};

static void resume(struct stream *st)
{
	if (!st->suspended)
		return;
	st->suspended = false;
	hangup_unwatch(&st->hangup);
	server_resume(st->server, st->conn);
}

static void on_wake(struct api_reader *r)
{
	resume((struct stream *)((char *)r - offsetof(struct stream, reader)));
}

static void on_gone(struct hangup *h)
{
	struct stream *st =
		(struct stream *)((char *)h - offsetof(struct stream, hangup));

	st->gone = true;
	resume(st);
}

static ssize_t next_chunk(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct stream *st = arg;
	ssize_t n;

	(void)pos;
	if (st->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	n = st->ops->read(&st->server->backend, &st->reader, st->arg, buf, max);
	if (n > 0)
		return n;
	if (n < 0)
		return n == -ENODATA ? MHD_CONTENT_READER_END_OF_STREAM
				     : MHD_CONTENT_READER_END_WITH_ERROR;
	st->suspended = true;
	MHD_suspend_connection(st->conn);
	hangup_watch(&st->hangup);
	return 0;
}

static void release(const struct stream_ops *ops, void *arg)
{
	if (ops->release)
		ops->release(arg);
}

static void stream_free(void *arg)
{
	struct stream *st = arg;

	hangup_unwatch(&st->hangup);
	st->ops->end(&st->server->backend, &st->reader);
	release(st->ops, st->arg);
	free(st);
}

struct MHD_Response *stream_create(struct api_server *s,
	struct MHD_Connection *conn, const struct stream_ops *ops, void *arg,
	struct error *err)
{
	struct stream *st = calloc(1, sizeof(*st));
	struct MHD_Response *response;

	if (!st) {
		release(ops, arg);
		error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	st->server = s;
	st->conn = conn;
	st->ops = ops;
	st->arg = arg;
	st->reader.wake = on_wake;
	st->hangup = (struct hangup){s, conn, on_gone, false};
	if (ops->begin(&s->backend, &st->reader, arg, err) < 0) {
		release(ops, arg);
		free(st);
		return NULL;
	}
	response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, CHUNK_BYTES, next_chunk, st, stream_free);
	if (!response) {
		stream_free(st);
		error_set(err, ENOMEM, "out of memory");
	}
	return response;
}
