#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * Server-Sent Events (the HTML standard, 9.2): "id:", "event:" and "data:" with
 * a JSON object, an empty line.
 */

/* Whom it is for, and the event that is on its way to them. */
struct follower {
	char vm[VM_ID_MAX + 1]; /* "": all */
	char *label;            /* "key" or "key=value"; NULL: any */
	uint64_t after;
	bool has_after, lost;
	char *text;
	size_t len, sent;
};

/* In the order of enum api_event_kind. */
static const char *const kinds[API_EVENTS] = {"created", "started",
	"guest_ready", "paused", "resumed", "exited", "deleted", "oom",
	"throttled", "adopted"};

static void add_time(struct json_object *o, uint64_t time_ms)
{
	time_t s = (time_t)(time_ms / 1000);
	char text[40];
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%03uZ",
		(unsigned)(time_ms % 1000));
	json_add_string(o, "time", text);
}

static void format(struct follower *f, const struct api_event *e)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	struct json_object *labels;
	char *text = NULL;
	int n;

	add_time(o, e->time_ms);
	json_add_string(o, "type", kinds[e->kind]);
	json_add_string(o, "vm", e->vm);
	labels = json_add_object(o, "labels");
	for (unsigned i = 0; i < e->n_labels; i++)
		json_add_string(labels, e->labels[i].key, e->labels[i].value);
	if (e->pid)
		json_add_int(o, "pid", e->pid);
	if (e->reason)
		json_add_string(o, "reason", e->reason);
	if (e->device)
		json_add_string(o, "device", e->device);
	if (e->detail && e->detail[0])
		json_add_string(o, "detail", e->detail);
	if (e->lost)
		json_add_bool(o, "lost", true);
	n = asprintf(&text, "id: %llu\nevent: %s\ndata: %s\n\n",
		(unsigned long long)e->seq, kinds[e->kind],
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	f->text = n < 0 ? NULL : text;
	f->len = n < 0 ? 0 : (size_t)n;
	f->sent = 0;
}

static int open_events(const struct api_backend *b, struct api_reader *reader,
	void *arg, struct error *err)
{
	const struct follower *f = arg;

	(void)err;
	b->ops->events_open(b->ctx, reader, f->has_after ? &f->after : NULL);
	return 0;
}

/* The next event that is for this follower, as text. */
static int take_next(const struct api_backend *b, struct api_reader *reader,
	struct follower *f)
{
	struct api_event e;
	int r;

	while ((r = b->ops->events_next(reader, &e)) == 1) {
		/* Told with the next event that is for it. */
		f->lost |= e.lost;
		if (f->vm[0] && strcmp(f->vm, e.vm) != 0)
			continue;
		if (f->label && !labels_match(e.labels, e.n_labels, f->label))
			continue;
		e.lost = f->lost;
		f->lost = false;
		format(f, &e);
		if (f->text)
			break;
	}
	return r;
}

static ssize_t read_events(const struct api_backend *b,
	struct api_reader *reader, void *arg, char *buf, size_t max)
{
	struct follower *f = arg;
	size_t n;
	int r;

	if (!f->text) {
		r = take_next(b, reader, f);
		if (r != 1)
			return r;
	}
	n = f->len - f->sent < max ? f->len - f->sent : max;
	memcpy(buf, f->text + f->sent, n);
	f->sent += n;
	if (f->sent == f->len) {
		free(f->text);
		f->text = NULL;
	}
	return (ssize_t)n;
}

static void follower_free(void *arg)
{
	struct follower *f = arg;

	free(f->label);
	free(f->text);
	free(f);
}

static void close_events(const struct api_backend *b, struct api_reader *reader)
{
	b->ops->events_close(reader);
}

static const struct stream_ops follow_events = {
	.content_type = "text/event-stream",
	.begin = open_events,
	.read = read_events,
	.end = close_events,
	.release = follower_free,
};

/* What is no number is not an error: a follower may have been handed its last
 * id by somebody else. */
static bool read_after(const char *s, uint64_t *ret)
{
	char *end;

	if (!s || s[0] < '0' || s[0] > '9')
		return false;
	errno = 0;
	*ret = strtoull(s, &end, 10);
	return !*end && errno == 0;
}

static int read_filter(
	const struct request *r, struct follower *f, struct error *err)
{
	const char *vm = r->query[0], *label = r->query[1];
	const char *after = r->query[2];

	for (size_t i = 0; vm && (vm[i] || i == 0); i++)
		if (i == VM_ID_MAX || !is_id_char(vm[i]))
			return error_field(err, EINVAL, "vm",
				"must be 1 to %d characters of A-Z a-z 0-9 _ -",
				VM_ID_MAX);
	if (vm)
		snprintf(f->vm, sizeof(f->vm), "%s", vm);
	if (label && labels_filter_check(label, err) < 0)
		return -err->code;
	if (label) {
		f->label = strdup(label);
		if (!f->label)
			return error_set(err, ENOMEM, "out of memory");
	}
	f->has_after =
		read_after(request_header(r, "Last-Event-ID"), &f->after);
	if (after && !read_after(after, &f->after))
		return error_field(err, EINVAL, "after",
			"must be the number of an event, or 0");
	f->has_after |= after != NULL;
	return 0;
}

void events_get(struct request *r)
{
	struct follower *f = calloc(1, sizeof(*f));
	struct error err;

	if (!f) {
		error_set(&err, ENOMEM, "out of memory");
		request_reply_error(r, &err);
		return;
	}
	if (read_filter(r, f, &err) < 0) {
		request_reply_error(r, &err);
		follower_free(f);
		return;
	}
	request_reply_stream(r, &follow_events, f);
}
