#include "api/cli/client.h"

#include "base/cleanup.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* /wait answers within its own time. */
#define ANSWER_MAX_BYTES ((size_t)64 << 20)
#define TYPE_TRIES 50
#define TYPE_AGAIN_MS 20

struct client {
	char *socket_path;
	CURL *curl;   /* requests */
	CURL *stream; /* what is followed */
};

/* What an answer's body goes into. */
struct body {
	char *data;
	size_t len, cap;
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct body *b = arg;
	size_t len = size * n, cap = b->cap ? b->cap : 4096;
	char *p;

	if (len > ANSWER_MAX_BYTES - b->len)
		return 0;
	while (cap < b->len + len + 1)
		cap *= 2;
	if (cap != b->cap) {
		p = realloc(b->data, cap);
		if (!p)
			return 0;
		b->data = p;
		b->cap = cap;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return len;
}

int client_create(
	struct client **ret, const char *socket_path, struct error *err)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c)
		c->socket_path = strdup(socket_path);
	if (c && curl_global_init(CURL_GLOBAL_NOTHING) == 0) {
		c->curl = curl_easy_init();
		c->stream = curl_easy_init();
	}
	if (!c || !c->socket_path || !c->curl || !c->stream) {
		client_destroy(c);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret = c;
	return 0;
}

void client_destroy(struct client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	curl_easy_cleanup(c->stream);
	free(c->socket_path);
	free(c);
}

void reply_fini(struct reply *r)
{
	free(r->body);
	json_object_put(r->json);
	*r = (struct reply){0};
}

static void prepare(struct client *c, CURL *curl, const char *path)
{
	char url[512];

	curl_easy_reset(curl);
	snprintf(url, sizeof(url), "http://mayfly%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, c->socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
}

static int unreachable(struct client *c, CURLcode code, struct error *err)
{
	bool cut = code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ||
		   code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR;

	if (code == CURLE_COULDNT_CONNECT)
		return error_set(err, ECONNREFUSED,
			"mayflyd does not answer at %s: is it running, and may "
			"you write to its socket? (MAYFLY_SOCKET names "
			"another)",
			c->socket_path);
	if (cut)
		return error_set(err, EIO,
			"mayflyd at %s has ended; VMs run on: ask the next one",
			c->socket_path);
	return error_set(err, EIO, "talking to mayflyd at %s: %s",
		c->socket_path, curl_easy_strerror(code));
}

/* An answer's own sentence where it has one. */
static int refused(long status, const char *body, struct error *err)
{
	struct json_object *o = body ? json_tokener_parse(body) : NULL;
	struct json_object *fault = NULL;
	const char *text = NULL;
	int code = status == 404   ? ENOENT
		   : status == 409 ? EEXIST
		   : status == 429 ? ENOBUFS
				   : EREMOTEIO;
	int r;

	if (json_object_object_get_ex(o, "fault_message", &fault))
		text = json_object_get_string(fault);
	r = text ? error_set(err, code, "%s", text)
		 : error_set(err, code, "mayflyd answered %ld", status);
	json_object_put(o);
	return r;
}

static int perform(struct client *c, struct reply *ret, struct error *err)
{
	struct body body = {NULL};
	CURLcode code;
	long status = 0;
	int r;

	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &body);
	code = curl_easy_perform(c->curl);
	if (code != CURLE_OK) {
		free(body.data);
		return unreachable(c, code, err);
	}
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299) {
		r = refused(status, body.data, err);
		free(body.data);
		return r;
	}
	if (!ret) {
		free(body.data);
		return 0;
	}
	*ret = (struct reply){.status = status,
		.body = body.data,
		.len = body.len,
		.json = body.data && body.data[0] == '{'
				? json_tokener_parse(body.data)
				: NULL};
	return 0;
}

int client_request(struct client *c, const char *method, const char *path,
	const char *type, const void *body, size_t len, struct reply *ret,
	struct error *err)
{
	struct curl_slist *headers = NULL;
	char line[128];
	int r;

	prepare(c, c->curl, path);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	/* Nobody here waits for "100 Continue". */
	headers = curl_slist_append(headers, "Expect:");
	if (body) {
		snprintf(line, sizeof(line), "Content-Type: %s",
			type ? type : "application/json");
		headers = curl_slist_append(headers, line);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(
			c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	}
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	r = perform(c, ret, err);
	curl_slist_free_all(headers);
	return r;
}

/* An id is whatever was typed: no part of it may become another path. */
static int vm_path(struct client *c, const char *id, const char *rest,
	char *ret, size_t size, struct error *err)
{
	char *escaped = curl_easy_escape(c->curl, id, 0);
	int n = escaped ? snprintf(ret, size, "/v1/vms/%s%s", escaped, rest)
			: -1;

	curl_free(escaped);
	if (n < 0 || (size_t)n >= size || !id[0])
		return error_set(err, EINVAL, "\"%.64s\" is no VM's name", id);
	return 0;
}

int client_vm(struct client *c, const char *method, const char *id,
	const char *rest, struct json_object *body, struct reply *ret,
	struct error *err)
{
	const char *text = NULL;
	char path[400];

	if (vm_path(c, id, rest, path, sizeof(path), err) < 0)
		return -err->code;
	if (body)
		text = json_object_to_json_string_ext(
			body, JSON_C_TO_STRING_PLAIN);
	return client_request(
		c, method, path, NULL, text, text ? strlen(text) : 0, ret, err);
}

void client_type(struct client *c, const char *id, const char *data, size_t len)
{
	struct error err;
	char path[400];

	if (vm_path(c, id, "/console", path, sizeof(path), &err) < 0)
		return;
	for (int tries = 0; tries < TYPE_TRIES; tries++) {
		if (client_request(c, "PUT", path, "application/octet-stream",
			    data, len, NULL, &err) == 0 ||
			err.code != ENOBUFS)
			return;
		poll(NULL, 0, TYPE_AGAIN_MS);
	}
}

/* Adds "?name=value", or "&...". */
static int add_query(struct client *c, char *path, size_t size,
	const char *name, const char *value, struct error *err)
{
	size_t n = strlen(path);
	char *escaped;
	int added;

	if (!value)
		return 0;
	escaped = curl_easy_escape(c->curl, value, 0);
	added = escaped ? snprintf(path + n, size - n, "%c%s=%s",
				  strchr(path, '?') ? '&' : '?', name, escaped)
			: -1;
	curl_free(escaped);
	if (added < 0 || (size_t)added >= size - n)
		return error_field(err, EINVAL, name, "is too long");
	return 0;
}

#define PAGE "500"

/* Moves what is in a page to the end of all; the next page's `after` in after,
 * "" after the last one. */
static void take_page(struct json_object *page, struct json_object *all,
	char *after, size_t size)
{
	struct json_object *vms = NULL, *next = NULL;
	size_t n;

	json_object_object_get_ex(page, "vms", &vms);
	n = json_object_is_type(vms, json_type_array)
		    ? json_object_array_length(vms)
		    : 0;
	for (size_t i = 0; i < n; i++)
		json_object_array_add(all,
			json_object_get(json_object_array_get_idx(vms, i)));
	after[0] = '\0';
	if (json_object_object_get_ex(page, "next", &next))
		snprintf(after, size, "%s", json_object_get_string(next));
}

int client_list(struct client *c, const char *label, const char *state,
	struct json_object **ret, struct error *err)
{
	struct json_object *all = json_object_new_array();
	char after[32] = "";

	if (!all)
		return error_set(err, ENOMEM, "out of memory");
	do {
		char path[1400] = "/v1/vms?limit=" PAGE;
		struct reply reply = {0};

		if (add_query(c, path, sizeof(path), "after",
			    after[0] ? after : NULL, err) < 0 ||
			add_query(c, path, sizeof(path), "label", label, err) <
				0 ||
			add_query(c, path, sizeof(path), "state", state, err) <
				0 ||
			client_request(c, "GET", path, NULL, NULL, 0, &reply,
				err) < 0) {
			json_object_put(all);
			return -err->code;
		}
		take_page(reply.json, all, after, sizeof(after));
		reply_fini(&reply);
	} while (after[0]);
	*ret = all;
	return 0;
}

/* One stream that is followed. */
struct follow {
	struct client *c;
	const struct client_stream *s;
	struct body refusal;
	bool no_input, left;
};

static size_t on_stream(char *data, size_t size, size_t n, void *arg)
{
	struct follow *f = arg;
	long status = 0;

	curl_easy_getinfo(f->c->stream, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return on_body(data, size, n, &f->refusal);
	if (f->s->output(f->s->arg, data, size * n) == CLIENT_LEAVE)
		f->left = true;
	return f->left ? 0 : size * n;
}

static void take_step(struct follow *f, enum client_step step)
{
	f->no_input |= step == CLIENT_NO_INPUT;
	f->left |= step == CLIENT_LEAVE;
}

/* Until something comes, or a second is over. */
static void wait_a_little(struct follow *f, CURLM *multi)
{
	const struct client_stream *s = f->s;
	bool listens = s->input_fd >= 0 && !f->no_input;
	struct curl_waitfd fds[2], *in = NULL, *control = NULL;
	unsigned n_fds = 0;
	int n = 0;

	if (listens)
		*(in = &fds[n_fds++]) = (struct curl_waitfd){
			.fd = s->input_fd, .events = CURL_WAIT_POLLIN};
	if (s->control)
		*(control = &fds[n_fds++]) = (struct curl_waitfd){
			.fd = s->control_fd, .events = CURL_WAIT_POLLIN};
	curl_multi_poll(multi, fds, n_fds, 1000, &n);
	if (n == 0 && s->idle)
		take_step(f, s->idle(s->arg));
	if (control && control->revents)
		take_step(f, s->control(s->arg));
	if (in && in->revents && !f->left)
		take_step(f, s->input(s->arg));
}

/* Until the transfer is done, or somebody leaves. */
static CURLcode pump(struct follow *f, CURLM *multi)
{
	int running = 1, n;
	CURLMsg *m;

	while (running && !f->left) {
		if (curl_multi_perform(multi, &running) != CURLM_OK)
			return CURLE_RECV_ERROR;
		if (running && !f->left)
			wait_a_little(f, multi);
	}
	m = curl_multi_info_read(multi, &n);
	return m ? m->data.result : CURLE_OK;
}

static int follow_path(struct client *c, const char *path,
	const struct client_stream *s, struct error *err)
{
	struct follow f = {.c = c, .s = s};
	CURLM *multi = curl_multi_init();
	CURLcode code;
	long status = 0;
	int r = 0;

	if (!multi)
		return error_set(err, ENOMEM, "out of memory");
	prepare(c, c->stream, path);
	curl_easy_setopt(c->stream, CURLOPT_WRITEFUNCTION, on_stream);
	curl_easy_setopt(c->stream, CURLOPT_WRITEDATA, &f);
	curl_multi_add_handle(multi, c->stream);
	code = pump(&f, multi);
	curl_easy_getinfo(c->stream, CURLINFO_RESPONSE_CODE, &status);
	curl_multi_remove_handle(multi, c->stream);
	curl_multi_cleanup(multi);
	if (f.left)
		r = 1;
	else if (code != CURLE_OK)
		r = unreachable(c, code, err);
	else if (status != 200)
		r = refused(status, f.refusal.data, err);
	free(f.refusal.data);
	return r;
}

int client_follow(struct client *c, const char *id, const char *rest,
	const struct client_stream *s, struct error *err)
{
	char path[400];

	if (vm_path(c, id, rest, path, sizeof(path), err) < 0)
		return -err->code;
	return follow_path(c, path, s, err);
}

int client_follow_events(struct client *c, const char *vm, const char *label,
	bool all, const struct client_stream *s, struct error *err)
{
	char path[480] = "/v1/events";

	if (add_query(c, path, sizeof(path), "vm", vm, err) < 0 ||
		add_query(c, path, sizeof(path), "label", label, err) < 0 ||
		add_query(c, path, sizeof(path), "after", all ? "0" : NULL,
			err) < 0)
		return -err->code;
	return follow_path(c, path, s, err);
}
