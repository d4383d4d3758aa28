#include "net/mmds_serve.h"
#include "net/mmds_tcp.h"
#include "tests/unit/mmds_text.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S 1000000000ull
#define TOKEN_PATH "/latest/api/token"

static struct mmds_stats stats;
static struct mmds_service service;
static uint64_t now;
static char answer[TCP_TX_MAX + 2];
static bool closes;

/* {"a":{"s":"text","n":1}}, by hand. */
static union {
	struct mmds_image img;
	char bytes[1024];
} image;

static uint32_t image_put(const char *s)
{
	uint32_t at = image.img.size;

	memcpy(image.bytes + at, s, strlen(s));
	image.img.size += (uint32_t)strlen(s);
	return at;
}

static void image_add(const char *name, const char *json, const char *text,
	uint32_t child, uint32_t n_children)
{
	struct mmds_entry *e = &image.img.entries[image.img.n_entries++];

	*e = (struct mmds_entry){.name = image_put(name),
		.name_len = (uint32_t)strlen(name),
		.json = image_put(json),
		.json_len = (uint32_t)strlen(json),
		.has_text = text != NULL,
		.text = image_put(text ? text : ""),
		.text_len = text ? (uint32_t)strlen(text) : 0,
		.child = child,
		.n_children = n_children};
}

static void setup(void)
{
	memset(&image, 0, sizeof(image));
	image.img.magic = MMDS_IMAGE_MAGIC;
	image.img.size =
		sizeof(struct mmds_image) + 4 * sizeof(struct mmds_entry);
	image_add("", "{\"a\":{\"s\":\"text\",\"n\":1}}", "a/", 1, 1);
	image_add("a", "{\"s\":\"text\",\"n\":1}", "n\ns", 2, 2);
	image_add("n", "1", NULL, 0, 0);
	image_add("s", "\"text\"", "text", 0, 0);
	ck_assert(mmds_image_ok(&image, image.img.size));
	memset(&stats, 0, sizeof(stats));
	service = (struct mmds_service){.version = MMDS_V2, .stats = &stats};
	now = 100 * S;
	mmds_tokens_init(&service.tokens, (uint8_t[16]){1, 2, 3}, now);
}

/* The answer to one whole request: its status. */
static int serve(const char *request)
{
	size_t n = strlen(request), len = 0;

	memset(answer, 0x55, sizeof(answer));
	closes = false;
	ck_assert_uint_eq(
		mmds_serve(&service, &image.img, now, (const uint8_t *)request,
			n, (uint8_t *)answer, &len, &closes),
		n);
	ck_assert_uint_le(len, TCP_TX_MAX);
	ck_assert_int_eq(answer[len + 1], 0x55);
	answer[len] = '\0';
	return (int)strtol(answer + strlen("HTTP/1.1 "), NULL, 10);
}

static int get(const char *path, const char *fields)
{
	char request[2048];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s\r\n", path,
		fields);
	return serve(request);
}

static int put(const char *path, const char *fields)
{
	char request[2048];

	snprintf(request, sizeof(request), "PUT %s HTTP/1.1\r\n%s\r\n", path,
		fields);
	return serve(request);
}

static const char *body(void)
{
	const char *end = strstr(answer, "\r\n\r\n");
	const char *length = strstr(answer, "\r\nContent-Length: ");

	ck_assert_ptr_nonnull(end);
	ck_assert_ptr_nonnull(length);
	ck_assert_uint_eq(strtoul(length + 18, NULL, 10), strlen(end + 4));
	return end + 4;
}

static bool has(const char *field)
{
	char line[200];

	snprintf(line, sizeof(line), "\r\n%s\r\n", field);
	return strstr(answer, line) != NULL;
}

/* A token in a field, in a buffer of its own. */
static const char *token_field(const char *name, unsigned ttl_s)
{
	static char field[200];
	char ttl[80];

	snprintf(ttl, sizeof(ttl), "X-metadata-token-ttl-seconds: %u\r\n",
		ttl_s);
	ck_assert_int_eq(put(TOKEN_PATH, ttl), 200);
	snprintf(field, sizeof(field), "%s: %s\r\n", name, body());
	return field;
}

START_TEST(v1_needs_no_token_and_takes_any)
{
	service.version = MMDS_V1;
	ck_assert_int_eq(get("/a/s", ""), 200);
	ck_assert_str_eq(body(), "text");
	ck_assert_int_eq(get("/a/s", "X-metadata-token: nonsense\r\n"), 200);
	ck_assert_int_eq(get("/a/s", token_field("X-metadata-token", 1)), 200);
	ck_assert_uint_eq(stats.denied, 0);
	ck_assert_uint_eq(stats.requests, 4);
	ck_assert_uint_eq(stats.tokens, 1);
}
END_TEST

START_TEST(v2_needs_a_token)
{
	ck_assert_int_eq(get("/a/s", ""), 401);
	ck_assert_int_eq(get("/a/s", "X-metadata-token:\r\n"), 401);
	ck_assert_int_eq(get("/a/s", "X-metadata-token: nonsense\r\n"), 401);
	/* Whether there is anything or not. */
	ck_assert_int_eq(get("/none", ""), 401);
	ck_assert_uint_eq(stats.denied, 4);
	ck_assert_uint_eq(stats.not_found, 0);
	ck_assert_int_eq(get("/a/s", token_field("X-metadata-token", 60)), 200);
	ck_assert_int_eq(
		get("/a/s", token_field("X-aws-ec2-metadata-token", 60)), 200);
	ck_assert_str_eq(body(), "text");
	ck_assert_uint_eq(stats.denied, 4);
	ck_assert_uint_eq(stats.requests, 8);
}
END_TEST

START_TEST(an_expired_token_is_denied)
{
	const char *field = token_field("X-metadata-token", 2);

	now += 2 * S - 1;
	ck_assert_int_eq(get("/a/s", field), 200);
	now++;
	ck_assert_int_eq(get("/a/s", field), 401);
}
END_TEST

/* Fields of a request for a token, and the status; told: the field that says
 * how long it lives. */
static const struct {
	const char *path, *fields;
	int status;
	const char *told;
} puts_[] = {
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 1\r\n", 200,
		"X-metadata-token-ttl-seconds: 1"},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 21600\r\n", 200,
		"X-metadata-token-ttl-seconds: 21600"},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 00060\r\n", 200,
		"X-metadata-token-ttl-seconds: 60"},
	{TOKEN_PATH, "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n", 200,
		"X-aws-ec2-metadata-token-ttl-seconds: 60"},
	{"//latest///api//token", "X-metadata-token-ttl-seconds: 1\r\n", 200,
		"X-metadata-token-ttl-seconds: 1"},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 9\r\n", 200,
		"X-metadata-token-ttl-seconds: 9"},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 0\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 21601\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 4294967297\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 18446744073709551617\r\n",
		400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: -1\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 1.5\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: 1 2\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds: x\r\n", 400, NULL},
	{TOKEN_PATH, "X-metadata-token-ttl-seconds:\r\n", 400, NULL},
	{TOKEN_PATH, "", 400, NULL},
	{TOKEN_PATH,
		"X-metadata-token-ttl-seconds: 1\r\nX-Forwarded-For: x\r\n",
		400, NULL},
	{TOKEN_PATH, "x-forwarded-for:\r\nX-metadata-token-ttl-seconds: 1\r\n",
		400, NULL},
	{TOKEN_PATH "/", "X-metadata-token-ttl-seconds: 1\r\n", 404, NULL},
	{TOKEN_PATH "s", "X-metadata-token-ttl-seconds: 1\r\n", 404, NULL},
	{"/latest/api/toke", "X-metadata-token-ttl-seconds: 1\r\n", 404, NULL},
	{"/Latest/api/token", "X-metadata-token-ttl-seconds: 1\r\n", 404, NULL},
	{"/a/s", "X-metadata-token-ttl-seconds: 1\r\n", 404, NULL},
	{"/", "", 404, NULL},
};

START_TEST(tokens_are_given_to_those_who_ask_right)
{
	bool ok = puts_[_i].status == 200;

	ck_assert_int_eq(
		put(puts_[_i].path, puts_[_i].fields), puts_[_i].status);
	ck_assert(has("Content-Type: text/plain"));
	ck_assert_uint_eq(stats.tokens, ok);
	ck_assert_uint_eq(stats.not_found, puts_[_i].status == 404);
	if (ok) {
		ck_assert(has(puts_[_i].told));
		ck_assert(mmds_token_valid(
			&service.tokens, now, body(), strlen(body())));
	} else {
		ck_assert_uint_gt(strlen(body()), 0);
	}
	/* What is missing is told from what is wrong. */
	ck_assert_int_eq(strstr(body(), "needs its time to live") != NULL,
		strcmp(puts_[_i].path, TOKEN_PATH) == 0 &&
			!puts_[_i].fields[0]);
}
END_TEST

static const struct {
	const char *path, *fields;
	bool imds_compat;
	int status;
	const char *type, *body; /* body NULL: some sentence */
} gets[] = {
	{"/a/s", "", false, 200, "text/plain", "text"},
	{"/a/s/", "", false, 200, "text/plain", "text"},
	{"http://169.254.169.254/a/s", "", false, 200, "text/plain", "text"},
	{"/a/s", "Accept: */*\r\n", false, 200, "text/plain", "text"},
	{"/a/s", "Accept: application/json\r\n", false, 200, "application/json",
		"\"text\""},
	{"/a/s", "Accept: application/json\r\n", true, 200, "text/plain",
		"text"},
	{"/a", "", false, 200, "text/plain", "n\ns"},
	{"/a", "Accept: application/json\r\n", false, 200, "application/json",
		"{\"s\":\"text\",\"n\":1}"},
	{"/a", "Accept: application/json\r\n", true, 200, "text/plain", "n\ns"},
	{"/", "", false, 200, "text/plain", "a/"},
	{"/a/n", "Accept: application/json\r\n", false, 200, "application/json",
		"1"},
	{"/a/n", "", false, 501, "text/plain", NULL},
	{"/a/n", "Accept: application/json\r\n", true, 501, "text/plain", NULL},
	{"/a/x", "", false, 404, "text/plain", NULL},
	{"/a/x", "Accept: application/json\r\n", false, 404, "text/plain",
		NULL},
	{"/a/s?x=1", "", false, 404, "text/plain", NULL},
	{TOKEN_PATH, "", false, 404, "text/plain", NULL},
	{"/a/s", "X-Forwarded-For: 1.2.3.4\r\n", false, 200, "text/plain",
		"text"},
};

START_TEST(values_come_in_the_form_that_is_asked_for)
{
	char type[60];

	service.version = MMDS_V1;
	service.imds_compat = gets[_i].imds_compat;
	ck_assert_int_eq(get(gets[_i].path, gets[_i].fields), gets[_i].status);
	snprintf(type, sizeof(type), "Content-Type: %s", gets[_i].type);
	ck_assert(has(type));
	if (gets[_i].body)
		ck_assert_str_eq(body(), gets[_i].body);
	else
		ck_assert_uint_gt(strlen(body()), 0);
	ck_assert_uint_eq(stats.not_found, gets[_i].status == 404);
	ck_assert_uint_eq(stats.requests, 1);
	ck_assert(!closes);
}
END_TEST

START_TEST(without_data_there_is_nothing)
{
	static const char request[] = "GET / HTTP/1.1\r\n\r\n";
	size_t len;

	service.version = MMDS_V1;
	ck_assert_uint_eq(
		mmds_serve(&service, NULL, now, (const uint8_t *)request,
			strlen(request), (uint8_t *)answer, &len, &closes),
		strlen(request));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 404 ", 13), 0);
}
END_TEST

START_TEST(other_methods_are_not_allowed)
{
	ck_assert_int_eq(serve("DELETE / HTTP/1.1\r\n\r\n"), 405);
	ck_assert(has("Allow: GET, PUT"));
	ck_assert_uint_gt(strlen(body()), 0);
	ck_assert_int_eq(serve("PATCH /a HTTP/1.1\r\n\r\n"), 405);
	ck_assert_int_eq(serve("HEAD /a HTTP/1.1\r\n\r\n"), 405);
	ck_assert(has("Allow: GET, PUT"));
	ck_assert_str_eq(body(), "");
	ck_assert(!closes);
}
END_TEST

START_TEST(an_answer_has_its_requests_version_and_says_what_comes_after)
{
	ck_assert_int_eq(serve("GET / HTTP/1.0\r\n\r\n"), 401);
	ck_assert_int_eq(
		strncmp(answer, "HTTP/1.0 401 Unauthorized\r\n", 27), 0);
	ck_assert(closes && has("Connection: close"));
	serve("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	ck_assert(!closes && has("Connection: keep-alive"));
	serve("GET / HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 401 ", 13), 0);
	ck_assert(!closes && has("Connection: keep-alive"));
	serve("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
	ck_assert(closes && has("Connection: close"));
}
END_TEST

START_TEST(a_malformed_request_is_answered_and_the_last)
{
	ck_assert_int_eq(serve("GET / HTTP/1.1\nmore of it"), 400);
	ck_assert(closes && has("Connection: close"));
	ck_assert_ptr_nonnull(strstr(body(), "Invalid request"));
	ck_assert_int_eq(serve("GET / HTTP/3.0\r\n\r\n"), 505);
	ck_assert(closes);
	ck_assert_uint_gt(strlen(body()), 0);
	ck_assert_uint_eq(stats.malformed, 2);
	ck_assert_uint_eq(stats.requests, 0);
}
END_TEST

START_TEST(a_head_that_is_too_long_is_answered)
{
	char *request = malloc(HTTP_HEAD_MAX + 1);

	memset(request, 'G', HTTP_HEAD_MAX);
	request[HTTP_HEAD_MAX] = '\0';
	ck_assert_int_eq(serve(request), 431);
	ck_assert(closes);
	free(request);
}
END_TEST

START_TEST(half_a_request_is_not_answered)
{
	size_t len;

	ck_assert_uint_eq(
		mmds_serve(&service, &image.img, now, (const uint8_t *)"GET /",
			5, (uint8_t *)answer, &len, &closes),
		0);
	ck_assert_uint_eq(stats.requests + stats.malformed, 0);
}
END_TEST

/* The largest value, with the longest head there is. */
START_TEST(the_longest_answer_fits)
{
	static _Alignas(8) char big[MMDS_TEXT_IMAGE(MMDS_VALUE_MAX)];
	static char text[MMDS_VALUE_MAX];
	static const char request[] = "GET / HTTP/1.1\r\n\r\n";
	uint8_t *tx = malloc(TCP_TX_MAX);
	size_t len;

	memset(text, 'x', sizeof(text));
	ck_assert_uint_eq(
		mmds_text_image(big, text, sizeof(text)), sizeof(big));
	ck_assert(mmds_image_ok(big, sizeof(big)));
	service.version = MMDS_V1;
	ck_assert_uint_gt(mmds_serve(&service, (struct mmds_image *)big, now,
				  (const uint8_t *)request, strlen(request), tx,
				  &len, &closes),
		0);
	ck_assert_uint_gt(len, MMDS_VALUE_MAX);
	ck_assert_uint_le(len, TCP_TX_MAX);
	ck_assert_mem_eq(tx + len - MMDS_VALUE_MAX, text, MMDS_VALUE_MAX);
	free(tx);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("mmds_serve");
	TCase *tc = tcase_create("serve");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, v1_needs_no_token_and_takes_any);
	tcase_add_test(tc, v2_needs_a_token);
	tcase_add_test(tc, an_expired_token_is_denied);
	tcase_add_loop_test(
		tc, tokens_are_given_to_those_who_ask_right, 0, N(puts_));
	tcase_add_loop_test(
		tc, values_come_in_the_form_that_is_asked_for, 0, N(gets));
	tcase_add_test(tc, without_data_there_is_nothing);
	tcase_add_test(tc, other_methods_are_not_allowed);
	tcase_add_test(tc,
		an_answer_has_its_requests_version_and_says_what_comes_after);
	tcase_add_test(tc, a_malformed_request_is_answered_and_the_last);
	tcase_add_test(tc, a_head_that_is_too_long_is_answered);
	tcase_add_test(tc, half_a_request_is_not_answered);
	tcase_add_test(tc, the_longest_answer_fits);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
