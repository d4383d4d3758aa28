#include "net/mmds_serve.h"

#include "base/counter.h"
#include "net/mmds_tcp.h"

#include <stdio.h>
#include <string.h>

_Static_assert(HTTP_HEAD_MAX == TCP_RX_MAX, "a head fits, and no more");
_Static_assert(HTTP_HEAD_MAX <= MMDS_PATH_MAX, "a path is part of a head");

#define TOKEN_PATH "/latest/api/token"
#define TTL_HEADER "X-metadata-token-ttl-seconds"
#define TTL_HEADER_AWS "X-aws-ec2-metadata-token-ttl-seconds"

struct answer {
	unsigned status;
	const char *body;
	size_t body_len;
	bool json;
	bool close;
	char field[80]; /* one more header field with its line's end, or "" */
	char text[MMDS_TOKEN_LEN + 1];
};

static const char *reason(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 401:
		return "Unauthorized";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 501:
		return "Not Implemented";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Bad Request";
	}
}

static void say(struct answer *a, unsigned status, const char *sentence)
{
	a->status = status;
	a->body = sentence;
	a->body_len = strlen(sentence);
}

static void say_value(struct answer *a, const struct mmds_image *img,
	uint32_t off, uint32_t len, bool json)
{
	a->status = 200;
	a->body = (const char *)img + off;
	a->body_len = len;
	a->json = json;
}

/* ---- what is asked for ---- */

static bool has_access(
	struct mmds_service *s, uint64_t now_ns, const struct http_request *r)
{
	return s->version == MMDS_V1 ||
	       mmds_token_valid(&s->tokens, now_ns, r->token.p, r->token.len);
}

static void get(struct mmds_service *s, const struct mmds_image *img,
	uint64_t now_ns, const struct http_request *r, struct answer *a)
{
	bool json = r->json && !s->imds_compat;
	const struct mmds_entry *e;

	if (!has_access(s, now_ns, r)) {
		counter_add(&s->stats->denied, 1);
		say(a, 401,
			"This needs a valid session token in X-metadata-token "
			"or X-aws-ec2-metadata-token.");
		return;
	}
	e = img ? mmds_image_find(img, r->path.p, r->path.len) : NULL;
	if (!e) {
		counter_add(&s->stats->not_found, 1);
		say(a, 404, "There is nothing at this path.");
	} else if (json) {
		say_value(a, img, e->json, e->json_len, true);
	} else if (e->has_text) {
		say_value(a, img, e->text, e->text_len, false);
	} else {
		say(a, 501,
			"This value is neither a string nor an object: only "
			"application/json can hold it.");
	}
}

/* Slashes may be doubled, as in any path here; one at the end is another
 * path. */
static bool is_token_path(struct http_text path)
{
	const char *want = TOKEN_PATH;

	for (size_t i = 0; i < path.len; i++) {
		if (i > 0 && path.p[i] == '/' && path.p[i - 1] == '/')
			continue;
		if (path.p[i] != *want++)
			return false;
	}
	return *want == '\0';
}

/* 0: not a number in range. */
static uint32_t read_ttl(struct http_text t)
{
	uint32_t v = 0;

	for (size_t i = 0; i < t.len; i++) {
		if (t.p[i] < '0' || t.p[i] > '9')
			return 0;
		v = v * 10 + (uint32_t)(t.p[i] - '0');
		if (v > MMDS_TOKEN_TTL_MAX)
			return 0;
	}
	return v;
}

static void put(struct mmds_service *s, uint64_t now_ns,
	const struct http_request *r, struct answer *a)
{
	uint32_t ttl_s = r->ttl.p ? read_ttl(r->ttl) : 0;

	/* A proxy of the guest's must not fetch tokens for its clients. */
	if (r->forwarded) {
		say(a, 400, "X-Forwarded-For is not allowed here.");
	} else if (!is_token_path(r->path)) {
		counter_add(&s->stats->not_found, 1);
		say(a, 404, "PUT is for " TOKEN_PATH " only.");
	} else if (!r->ttl.p) {
		say(a, 400,
			"A token needs its time to live, in " TTL_HEADER
			" or " TTL_HEADER_AWS ".");
	} else if (ttl_s == 0) {
		say(a, 400,
			"A token's time to live must be a number from 1 to "
			"21600.");
	} else {
		counter_add(&s->stats->tokens, 1);
		mmds_token_make(&s->tokens, now_ns, ttl_s, a->text);
		say(a, 200, a->text);
		snprintf(a->field, sizeof(a->field), "%s: %u\r\n",
			r->ttl_is_aws ? TTL_HEADER_AWS : TTL_HEADER,
			(unsigned)ttl_s);
	}
}

static void answer_request(struct mmds_service *s, const struct mmds_image *img,
	uint64_t now_ns, const struct http_request *r, struct answer *a)
{
	counter_add(&s->stats->requests, 1);
	a->close = !r->keep;
	switch (r->method) {
	case HTTP_GET:
		get(s, img, now_ns, r, a);
		break;
	case HTTP_PUT:
		put(s, now_ns, r, a);
		break;
	case HTTP_OTHER_METHOD:
		say(a, 405, r->is_head ? "" : "Only GET and PUT are known.");
		snprintf(a->field, sizeof(a->field), "Allow: GET, PUT\r\n");
		break;
	}
}

static void refuse(struct mmds_service *s, unsigned status, struct answer *a)
{
	counter_add(&s->stats->malformed, 1);
	a->close = true;
	say(a, status,
		status == 431   ? "The request's head is too long."
		: status == 505 ? "Only HTTP/1.0 and HTTP/1.1 are known."
				: "Invalid request: it is malformed, ambiguous "
				  "or has a body.");
}

/* ---- putting it together ---- */

size_t mmds_serve(struct mmds_service *s, const struct mmds_image *img,
	uint64_t now_ns, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close)
{
	struct http_request r = {.is_1_0 = false};
	struct answer a = {.status = 0};
	int used = http_parse(rx, n, &r), len;

	if (used == 0)
		return 0;
	if (used < 0)
		refuse(s, (unsigned)-used, &a);
	else
		answer_request(s, img, now_ns, &r, &a);
	len = snprintf((char *)tx, TCP_TX_MAX - MMDS_VALUE_MAX,
		"HTTP/1.%c %u %s\r\n"
		"Server: Mayfly\r\n"
		"Content-Type: %s\r\n"
		"Content-Length: %zu\r\n"
		"Connection: %s\r\n"
		"%s\r\n",
		r.is_1_0 ? '0' : '1', a.status, reason(a.status),
		a.json ? "application/json" : "text/plain", a.body_len,
		a.close ? "close" : "keep-alive", a.field);
	memcpy(tx + len, a.body, a.body_len);
	*ret_len = (size_t)len + a.body_len;
	*ret_close = a.close;
	return used < 0 ? n : (size_t)used;
}
