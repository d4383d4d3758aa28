#pragma once

/*
 * The HTTP/1.0 and 1.1 that the metadata service speaks: requests without a
 * body. Strict where two readers could understand two things (RFC 9112): lines
 * end in CR LF, no folding, no control characters, what counts is given once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 4096u /* bytes, with the empty line */
#define HTTP_FIELDS_MAX 64u

/* A piece of the request; p NULL: not given. */
struct http_text {
	const char *p;
	size_t len;
};

enum http_method { HTTP_GET, HTTP_PUT, HTTP_OTHER_METHOD };

struct http_request {
	enum http_method method;
	struct http_text path; /* begins with "/"; nothing is decoded */
	bool is_1_0;
	bool is_head;   /* HEAD: its answer has no body */
	bool keep;      /* the connection may be used again */
	bool json;      /* asked for application/json */
	bool forwarded; /* X-Forwarded-For */
	struct http_text token;
	struct http_text ttl; /* of a token, s */
	bool ttl_is_aws;      /* by the header of EC2's name */
};

/*
 * Reads one request out of the first n bytes of a conversation: how many of
 * them it is, 0 when its end is not among them, or the negated status it is to
 * be refused with (then nobody knows where the next one begins).
 */
int http_parse(const uint8_t *buf, size_t n, struct http_request *ret);
