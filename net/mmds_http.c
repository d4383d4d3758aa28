#include "net/mmds_http.h"

#include <string.h>
#include <strings.h>

static bool is(struct http_text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.p, word, t.len) == 0;
}

/* RFC 9110, 5.6.2. There is no NUL in a head. */
static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') || strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(struct http_text t)
{
	for (size_t i = 0; i < t.len; i++)
		if (!is_token_char(t.p[i]))
			return false;
	return t.len > 0;
}

static struct http_text trim(struct http_text t)
{
	while (t.len && (t.p[0] == ' ' || t.p[0] == '\t'))
		t.p++, t.len--;
	while (t.len && (t.p[t.len - 1] == ' ' || t.p[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/* What is before the first c, which is taken off *t with it; all of it when
 * there is none. */
static struct http_text cut(struct http_text *t, char c)
{
	const char *at = memchr(t->p, c, t->len);
	struct http_text before = {t->p, at ? (size_t)(at - t->p) : t->len};
	size_t used = before.len + (at ? 1 : 0);

	t->p += used;
	t->len -= used;
	return before;
}

/*
 * Where the head ends, 0: not here, or -400 as soon as it cannot become one: a
 * byte that is in no line, or half an end of one.
 */
static int head_length(const uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (buf[i] == '\n' && (i == 0 || buf[i - 1] != '\r'))
			return -400;
		if (i > 0 && buf[i - 1] == '\r' && buf[i] != '\n')
			return -400;
		if ((buf[i] < ' ' && !strchr("\t\r\n", buf[i])) ||
			buf[i] == '\0' || buf[i] == 0x7f)
			return -400;
		if (i >= 3 && memcmp(buf + i - 3, "\r\n\r\n", 4) == 0)
			return (int)i + 1;
	}
	return n >= HTTP_HEAD_MAX ? -431 : 0;
}

/* The next line, without its end. */
static struct http_text take_line(struct http_text *head)
{
	struct http_text line = cut(head, '\r');

	cut(head, '\n');
	return line;
}

/* "/path" or "http://host/path" (RFC 9112, 3.2.2). */
static int read_target(struct http_text t, struct http_request *ret)
{
	static const char scheme[] = "http://";
	size_t n = sizeof(scheme) - 1;
	const char *slash;

	if (t.len > n && strncasecmp(t.p, scheme, n) == 0) {
		slash = memchr(t.p + n, '/', t.len - n);
		if (!slash || slash == t.p + n)
			return -400;
		t.len -= (size_t)(slash - t.p);
		t.p = slash;
	}
	if (t.len == 0 || t.p[0] != '/' || memchr(t.p, '\t', t.len))
		return -400;
	ret->path = t;
	return 0;
}

static int read_request_line(struct http_text line, struct http_request *ret)
{
	struct http_text method = cut(&line, ' ');
	struct http_text target = cut(&line, ' ');
	bool is_http = line.len == 8 && memcmp(line.p, "HTTP/", 5) == 0 &&
		       line.p[6] == '.';

	/* Methods and versions, unlike names, tell cases apart. */
	if (!is_token(method) || !is_http)
		return -400;
	if (memcmp(line.p, "HTTP/1.0", 8) == 0)
		ret->is_1_0 = true;
	else if (memcmp(line.p, "HTTP/1.1", 8) != 0)
		return -505;
	ret->keep = !ret->is_1_0;
	ret->method = HTTP_OTHER_METHOD;
	if (method.len == 3 && memcmp(method.p, "GET", 3) == 0)
		ret->method = HTTP_GET;
	if (method.len == 3 && memcmp(method.p, "PUT", 3) == 0)
		ret->method = HTTP_PUT;
	ret->is_head = method.len == 4 && memcmp(method.p, "HEAD", 4) == 0;
	return read_target(target, ret);
}

static void read_connection(struct http_text list, struct http_request *ret)
{
	while (list.len) {
		struct http_text option = trim(cut(&list, ','));

		if (is(option, "close")) {
			ret->keep = false;
			return;
		}
		if (is(option, "keep-alive"))
			ret->keep = true;
	}
}

/* The first type we know decides; weights are not looked at. */
static void read_accept(struct http_text list, struct http_request *ret)
{
	while (list.len) {
		struct http_text range = cut(&list, ',');
		struct http_text type = trim(cut(&range, ';'));

		ret->json = is(type, "application/json");
		if (ret->json || is(type, "text/plain"))
			return;
	}
}

static int take_once(struct http_text *member, struct http_text value)
{
	if (member->p)
		return -400;
	*member = value;
	return 0;
}

/* There is none in any request the service knows. */
static int refuse_body(struct http_text length)
{
	return length.len == 1 && length.p[0] == '0' ? 0 : -400;
}

static int read_field(struct http_text line, struct http_request *ret)
{
	bool has_colon = memchr(line.p, ':', line.len);
	struct http_text name = cut(&line, ':'), value = trim(line);

	/* A line that is folded begins with a space, which no name has. */
	if (!has_colon || !is_token(name))
		return -400;
	if (is(name, "Content-Length"))
		return refuse_body(value);
	if (is(name, "Transfer-Encoding"))
		return -400;
	if (is(name, "Connection"))
		read_connection(value, ret);
	else if (is(name, "Accept"))
		read_accept(value, ret);
	else if (is(name, "X-Forwarded-For"))
		ret->forwarded = true;
	else if (is(name, "X-metadata-token") ||
		 is(name, "X-aws-ec2-metadata-token"))
		return take_once(&ret->token, value);
	else if (is(name, "X-metadata-token-ttl-seconds"))
		return take_once(&ret->ttl, value);
	else if (is(name, "X-aws-ec2-metadata-token-ttl-seconds")) {
		ret->ttl_is_aws = true;
		return take_once(&ret->ttl, value);
	}
	return 0;
}

int http_parse(const uint8_t *buf, size_t n, struct http_request *ret)
{
	size_t limit = n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX;
	int len = head_length(buf, limit), r;
	struct http_text head = {(const char *)buf, (size_t)len};
	unsigned n_fields = 0;

	if (len <= 0)
		return len;
	*ret = (struct http_request){.method = HTTP_OTHER_METHOD};
	r = read_request_line(take_line(&head), ret);
	while (r == 0 && head.len > 2) {
		if (++n_fields > HTTP_FIELDS_MAX)
			return -431;
		r = read_field(take_line(&head), ret);
	}
	return r < 0 ? r : len;
}
