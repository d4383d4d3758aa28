#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <string.h>

struct size {
	uint32_t columns, rows;
};

static const struct field size_table[] = {
	{"columns", FIELD_UINT, true, offsetof(struct size, columns), 1,
		UINT16_MAX},
	{"rows", FIELD_UINT, true, offsetof(struct size, rows), 1, UINT16_MAX},
	{NULL},
};

static int open_console(const struct api_backend *b, struct api_reader *reader,
	void *arg, struct error *err)
{
	return b->ops->reader_open(b->ctx, arg, reader, err);
}

static ssize_t read_console(const struct api_backend *b,
	struct api_reader *reader, void *arg, char *buf, size_t max)
{
	(void)arg;
	return b->ops->reader_read(reader, buf, max);
}

static void close_console(
	const struct api_backend *b, struct api_reader *reader)
{
	b->ops->reader_close(reader);
}

/* From its oldest byte on, until it ends. arg: the VM's id, needed only by
 * begin(). */
static const struct stream_ops follow_console = {
	.content_type = "application/octet-stream",
	.begin = open_console,
	.read = read_console,
	.end = close_console,
};

void console_get(struct request *r)
{
	const struct api_backend *b = r->backend;
	const char *follow = r->query[0];
	uint64_t dropped;
	struct error err;
	size_t len;
	char *data;

	if (follow && strcmp(follow, "true") == 0) {
		request_reply_stream(r, &follow_console, r->id);
		return;
	}
	if (follow && strcmp(follow, "false") != 0)
		error_field(&err, EINVAL, "follow", "must be true or false");
	else if (b->ops->console(b->ctx, r->id, &data, &len, &dropped, &err) ==
		 0) {
		request_reply_bytes(r, data, len, dropped);
		return;
	}
	request_reply_error(r, &err);
}

void console_put(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct error err;

	request_finish(r,
		b->ops->console_input(
			b->ctx, r->id, r->body, r->body_len, &r->op, &err),
		&err, false, request_reply_done);
}

static int read_size(struct request *r, struct api_update *u, struct error *err)
{
	struct size s = {0, 0};

	u->kind = API_UPDATE_CONSOLE_SIZE;
	if (fields_read(size_table, r->json, "console", false, &s, err) < 0)
		return -err->code;
	u->columns = (uint16_t)s.columns;
	u->rows = (uint16_t)s.rows;
	return 0;
}

void console_patch(struct request *r)
{
	update_run(r, read_size);
}
