#include "net/mmds_http.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct http_request r;

/* On the heap and of this size, so that a sanitizer sees a read beyond it. */
static int parse_bytes(const void *data, size_t n)
{
	uint8_t *exact = malloc(n ? n : 1);
	int ret;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, data, n);
	ret = http_parse(exact, n, &r);
	if (ret > 0)
		ck_assert(r.path.p > (char *)exact &&
			  r.path.p + r.path.len <= (char *)exact + n);
	free(exact);
	return ret;
}

static int parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

#define LINE "GET / HTTP/1.1\r\n"

/* ---- what is taken ---- */

START_TEST(a_plain_request_is_taken)
{
	static const char text[] = LINE "\r\n";

	ck_assert_int_eq(http_parse((const uint8_t *)text, strlen(text), &r),
		(int)strlen(text));
	ck_assert_int_eq(r.method, HTTP_GET);
	ck_assert(r.keep && !r.is_1_0 && !r.json && !r.forwarded && !r.is_head);
	ck_assert_ptr_null(r.token.p);
	ck_assert_ptr_null(r.ttl.p);
	ck_assert_uint_eq(r.path.len, 1);
	ck_assert_int_eq(r.path.p[0], '/');
}
END_TEST

START_TEST(what_follows_a_request_is_the_next_one)
{
	static const char text[] = LINE "\r\n" LINE "\r\n";

	ck_assert_int_eq(parse(text), (int)strlen(text) / 2);
}
END_TEST

START_TEST(a_request_is_incomplete_up_to_its_last_byte)
{
	static const char text[] = LINE "Host: x\r\nAccept: */*\r\n\r\n";

	for (size_t n = 0; n < strlen(text); n++)
		ck_assert_int_eq(parse_bytes(text, n), 0);
	ck_assert_int_eq(parse(text), (int)strlen(text));
}
END_TEST

static const struct {
	const char *line;
	enum http_method method;
	bool is_1_0, is_head;
	const char *path;
} lines[] = {
	{"GET /a/b?c=%20 HTTP/1.0", HTTP_GET, true, false, "/a/b?c=%20"},
	{"PUT /a HTTP/1.1", HTTP_PUT, false, false, "/a"},
	{"POST /a HTTP/1.1", HTTP_OTHER_METHOD, false, false, "/a"},
	{"HEAD /a HTTP/1.1", HTTP_OTHER_METHOD, false, true, "/a"},
	{"get /a HTTP/1.1", HTTP_OTHER_METHOD, false, false, "/a"},
	{"PUTS /a HTTP/1.1", HTTP_OTHER_METHOD, false, false, "/a"},
	{"HEADS /a HTTP/1.1", HTTP_OTHER_METHOD, false, false, "/a"},
	{"GETS /a HTTP/1.1", HTTP_OTHER_METHOD, false, false, "/a"},
	{"X!#$%&'*+-.^_`|~9 /a HTTP/1.1", HTTP_OTHER_METHOD, false, false,
		"/a"},
	{"GET http://169.254.169.254/a HTTP/1.1", HTTP_GET, false, false, "/a"},
	{"GET HTTP://h:80/ HTTP/1.1", HTTP_GET, false, false, "/"},
	{"GET /\xe2\x82\xac HTTP/1.1", HTTP_GET, false, false, "/\xe2\x82\xac"},
};

START_TEST(request_lines_are_read)
{
	char text[200];
	int n = sprintf(text, "%s\r\n\r\n", lines[_i].line);

	ck_assert_int_eq(http_parse((uint8_t *)text, (size_t)n, &r), n);
	ck_assert_int_eq(r.method, lines[_i].method);
	ck_assert_int_eq(r.is_1_0, lines[_i].is_1_0);
	ck_assert_int_eq(r.keep, !lines[_i].is_1_0);
	ck_assert_int_eq(r.is_head, lines[_i].is_head);
	ck_assert_uint_eq(r.path.len, strlen(lines[_i].path));
	ck_assert_mem_eq(r.path.p, lines[_i].path, r.path.len);
}
END_TEST

/* Fields, and whether the connection is kept and JSON asked for. */
static const struct {
	const char *version, *fields;
	bool keep, json;
} fields[] = {
	{"1.1", "Connection: close\r\n", false, false},
	{"1.1", "connection:CLOSE\r\n", false, false},
	{"1.1", "Connection: TE , \tClose\t\r\n", false, false},
	{"1.1", "Connection: close, keep-alive\r\n", false, false},
	{"1.1", "Connection: closed\r\n", true, false},
	{"1.1", "Connection: clos\r\n", true, false},
	{"1.1", "Connection:\r\n", true, false},
	{"1.0", "Connection: keep-alive\r\n", true, false},
	{"1.0", "Connection: x, Keep-Alive\r\n", true, false},
	{"1.0", "Connection: x\r\n", false, false},
	{"1.1", "Accept: application/json\r\n", true, true},
	{"1.1", "ACCEPT:\tApplication/JSON; q=0.5\r\n", true, true},
	{"1.1", "Accept: text/html, application/json\r\n", true, true},
	{"1.1", "Accept: text/plain, application/json\r\n", true, false},
	{"1.1", "Accept: application/json, text/plain\r\n", true, true},
	{"1.1", "Accept: */*\r\n", true, false},
	{"1.1", "Accept:\r\n", true, false},
	{"1.1", "Accept: application/jsonx\r\n", true, false},
	{"1.1", "X: Accept: application/json\r\n", true, false},
	{"1.1", "Bccept: application/json\r\n", true, false},
	{"1.1", "Acceptx: application/json\r\n", true, false},
	{"1.1", "Content-Length: 0\r\n", true, false},
	{"1.1", "Expect: 100-continue\r\n", true, false},
};

START_TEST(fields_are_read)
{
	char text[200];
	int n = sprintf(text, "GET / HTTP/%s\r\n%s\r\n", fields[_i].version,
		fields[_i].fields);

	ck_assert_int_eq(parse(text), n);
	ck_assert_int_eq(r.keep, fields[_i].keep);
	ck_assert_int_eq(r.json, fields[_i].json);
}
END_TEST

static void is_text(struct http_text t, const char *want)
{
	ck_assert_uint_eq(t.len, strlen(want));
	ck_assert_mem_eq(t.p, want, t.len);
}

START_TEST(tokens_and_their_lives_come_under_two_names)
{
	static const char mmds[] = LINE
		"X-Metadata-Token: abc d \r\n"
		"x-metadata-token-ttl-seconds:60\r\nX-Forwarded-For:\r\n\r\n";
	static const char aws[] =
		LINE "X-aws-ec2-metadata-token: \r\n"
		     "X-aws-ec2-metadata-token-ttl-seconds: 7\r\n\r\n";

	ck_assert_int_gt(
		http_parse((const uint8_t *)mmds, strlen(mmds), &r), 0);
	is_text(r.token, "abc d");
	is_text(r.ttl, "60");
	ck_assert(!r.ttl_is_aws && r.forwarded);
	ck_assert_int_gt(http_parse((const uint8_t *)aws, strlen(aws), &r), 0);
	ck_assert_ptr_nonnull(r.token.p);
	is_text(r.token, "");
	is_text(r.ttl, "7");
	ck_assert(r.ttl_is_aws && !r.forwarded);
}
END_TEST

/* RFC 9110, 5.6.2 */
START_TEST(a_name_may_hold_these_characters)
{
	static const char may[] =
		"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char text[] = LINE "AxA: b\r\n\r\n";
	char *x = strchr(text, 'x');

	for (unsigned c = 1; c < 256; c++) {
		*x = (char)c;
		/* A colon ends the name. */
		ck_assert_int_eq(parse(text) > 0,
			strchr(may, (char)c) != NULL || c == ':');
	}
}
END_TEST

/* ---- what is not ---- */

static const struct {
	const char *text;
	int result;
} bad[] = {
	/* Lines. */
	{"\n", -400},
	{"GET / HTTP/1.1\n", -400},
	{"GET / HTTP/1.1\rX", -400},
	{"GET / HTTP/1.1\r\r", -400},
	{LINE "A: b\n\r\n", -400},
	{LINE "A: b\r\n\n", -400},
	{LINE "A: b\x01", -400},
	{LINE "A: b\x7f", -400},
	{"\x16\x03\x01\x02", -400},
	{"\r\n\r\n", -400},
	{"\r\n" LINE "\r\n", -400},
	/* The request line. */
	{"GET\r\n\r\n", -400},
	{"GET \r\n\r\n", -400},
	{"GET /\r\n\r\n", -400},
	{"GET  / HTTP/1.1\r\n\r\n", -400},
	{"GET /  HTTP/1.1\r\n\r\n", -400},
	{"GET / a HTTP/1.1\r\n\r\n", -400},
	{"GET / HTTP/1.1 \r\n\r\n", -400},
	{" GET / HTTP/1.1\r\n\r\n", -400},
	{"GET\t/ HTTP/1.1\r\n\r\n", -400},
	{"GET /\t HTTP/1.1\r\n\r\n", -400},
	{"G(T / HTTP/1.1\r\n\r\n", -400},
	{"G\xe9T / HTTP/1.1\r\n\r\n", -400},
	{"GET / http/1.1\r\n\r\n", -400},
	{"GET / HTTP/11.\r\n\r\n", -400},
	{"GET / HTTP/1.1x\r\n\r\n", -400},
	{"GET / HTTP/1\r\n\r\n", -400},
	{"GET / HTTP/2.0\r\n\r\n", -505},
	{"GET / HTTP/1.2\r\n\r\n", -505},
	{"GET a HTTP/1.1\r\n\r\n", -400},
	{"OPTIONS * HTTP/1.1\r\n\r\n", -400},
	{"GET http:///a HTTP/1.1\r\n\r\n", -400},
	{"GET http://host HTTP/1.1\r\n\r\n", -400},
	{"GET http:// HTTP/1.1\r\n\r\n", -400},
	{"GET https://host/a HTTP/1.1\r\n\r\n", -400},
	{"CONNECT host:80 HTTP/1.1\r\n\r\n", -400},
	/* Fields. */
	{LINE "A\r\n\r\n", -400},
	{LINE "A\r\nB: c\r\n\r\n", -400},
	{LINE ": b\r\n\r\n", -400},
	{LINE "A : b\r\n\r\n", -400},
	{LINE " A: b\r\n\r\n", -400},
	{LINE "A: b\r\n c\r\n\r\n", -400},
	{LINE "A: b\r\n\tc: d\r\n\r\n", -400},
	{LINE "A(: b\r\n\r\n", -400},
	/* A body, or what may be one. */
	{LINE "Content-Length: 1\r\n\r\nx", -400},
	{LINE "Content-Length: 00\r\n\r\n", -400},
	{LINE "Content-Length: +0\r\n\r\n", -400},
	{LINE "Content-Length: -1\r\n\r\n", -400},
	{LINE "Content-Length: 0, 0\r\n\r\n", -400},
	{LINE "Content-Length:\r\n\r\n", -400},
	{LINE "content-length: 18446744073709551616\r\n\r\n", -400},
	{LINE "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -400},
	{LINE "transfer-encoding: identity\r\n\r\n", -400},
	/* Given twice. */
	{LINE "X-metadata-token: a\r\nX-metadata-token: a\r\n\r\n", -400},
	{LINE "X-metadata-token:\r\nX-aws-ec2-metadata-token: a\r\n\r\n", -400},
	{LINE "X-metadata-token-ttl-seconds: 1\r\n"
	      "X-aws-ec2-metadata-token-ttl-seconds: 1\r\n\r\n",
		-400},
	{LINE "X-aws-ec2-metadata-token-ttl-seconds: 1\r\n"
	      "X-metadata-token-ttl-seconds: 1\r\n\r\n",
		-400},
};

START_TEST(what_is_malformed_is_refused)
{
	ck_assert_int_eq(parse(bad[_i].text), bad[_i].result);
}
END_TEST

START_TEST(a_nul_is_refused)
{
	ck_assert_int_eq(parse_bytes("GET /\0 HTTP/1.1\r\n\r\n", 19), -400);
	ck_assert_int_eq(parse_bytes("\0", 1), -400);
}
END_TEST

/* n bytes of a head that is whole, with room for its end. */
static void fill_head(char *buf, size_t n)
{
	int at = sprintf(buf, LINE "A: ");

	memset(buf + at, 'x', n - (size_t)at);
	for (size_t i = 0; i < 4; i++)
		buf[n - 4 + i] = "\r\n\r\n"[i];
}

START_TEST(a_head_may_have_4096_bytes)
{
	char *buf = malloc(HTTP_HEAD_MAX + 2);

	fill_head(buf, HTTP_HEAD_MAX);
	ck_assert_int_eq(parse_bytes(buf, HTTP_HEAD_MAX), HTTP_HEAD_MAX);
	ck_assert_int_eq(parse_bytes(buf, HTTP_HEAD_MAX - 1), 0);
	fill_head(buf, HTTP_HEAD_MAX + 1);
	ck_assert_int_eq(parse_bytes(buf, HTTP_HEAD_MAX - 1), 0);
	ck_assert_int_eq(parse_bytes(buf, HTTP_HEAD_MAX), -431);
	ck_assert_int_eq(parse_bytes(buf, HTTP_HEAD_MAX + 1), -431);
	free(buf);
}
END_TEST

START_TEST(a_request_may_have_64_fields)
{
	char buf[HTTP_HEAD_MAX];
	int at = sprintf(buf, LINE);

	for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++)
		at += sprintf(buf + at, "A:\r\n");
	sprintf(buf + at, "\r\n");
	ck_assert_int_eq(parse(buf), at + 2);
	sprintf(buf + at, "A:\r\n\r\n");
	ck_assert_int_eq(parse(buf), -431);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("mmds_http");
	TCase *tc = tcase_create("http");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, a_plain_request_is_taken);
	tcase_add_test(tc, what_follows_a_request_is_the_next_one);
	tcase_add_test(tc, a_request_is_incomplete_up_to_its_last_byte);
	tcase_add_loop_test(tc, request_lines_are_read, 0, N(lines));
	tcase_add_loop_test(tc, fields_are_read, 0, N(fields));
	tcase_add_test(tc, tokens_and_their_lives_come_under_two_names);
	tcase_add_test(tc, a_name_may_hold_these_characters);
	tcase_add_loop_test(tc, what_is_malformed_is_refused, 0, N(bad));
	tcase_add_test(tc, a_nul_is_refused);
	tcase_add_test(tc, a_head_may_have_4096_bytes);
	tcase_add_test(tc, a_request_may_have_64_fields);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
