#include "api/json.h"
#include "api/json_check.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is JSON, in each rule's corners. */
static const char *const good[] = {
	"{}",
	" \t\r\n{ } \n",
	"{\"a\":null,\"b\":true,\"c\":false}",
	"{\"a\":0,\"b\":-0,\"c\":10,\"d\":-12.50e+3,\"e\":1E-2,\"f\":0.0}",
	"{\"\":\"\"}",
	"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD834\\uDd1e\"}",
	"{\"a\":\"\x7f \xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf\"}",
	"{\"a\":\"\xee\x80\x80 \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf\"}",
	"{\"a\":[],\"b\":[1,[2],{\"c\":{}}]}",
	"{\"a\":[[[[[[[1]]]]]]]}", /* JSON_DEPTH_MAX levels */
	"{\"a\":\"x:y,{\",\"b\":\"\\\":\"}",
	"{\"a\":{\"k\":1},\"b\":{\"k\":1}}",
};

START_TEST(what_is_json_is_taken)
{
	struct error err = {0};
	struct json_object *o = json_parse(good[_i], strlen(good[_i]), &err);

	ck_assert_msg(o != NULL, "%s: %s", good[_i], err.msg);
	json_object_put(o);
}
END_TEST

/* Text, and a word of the refusal. */
static const struct {
	const char *text, *word;
} bad[] = {
	{"", "too early"},
	{" ", "too early"},
	{"{", "too early"},
	{"{\"a\"", "too early"},
	{"{\"a\":", "too early"},
	{"{\"a\":1", "too early"},
	{"{\"a\":\"b", "too early"},
	{"{\"a\":\"b\\", "too early"},
	{"{\"a\":\"\\u12", "too early"},
	{"{\"a\":-", "too early"},
	{"{\"a\":[1", "too early"},
	{"{}1", "follows the end"},
	{"{} {}", "follows the end"},
	{"[]", "must be a JSON object"},
	{"\"{\"", "must be a JSON object"},
	{"1", "must be a JSON object"},
	{"{\"a\":[[[[[[[[1]]]]]]]]}", "deeper than 8"},
	{"{\"a\":00}", "starts with 0"},
	{"{\"a\":-01}", "starts with 0"},
	{"{\"a\":1.}", "digit"},
	{"{\"a\":1.e1}", "digit"},
	{"{\"a\":1e+}", "digit"},
	{"{\"a\":--1}", "digit"},
	{"{\"a\":0x1}", "comma or bracket"},
	{"{\"a\":truex}", "comma or bracket"},
	{"{\"a\":tru}", "unknown word"},
	{"{\"a\":[1}", "comma or bracket"},
	{"{\"a\":[1,]}", "value is missing"},
	{"{\"a\":[,1]}", "value is missing"},
	{"{,}", "string is missing"},
	{"{\"a\":1,}", "string is missing"},
	{"{1:1}", "string is missing"},
	{"{\"a\"=1}", "colon"},
	{"{\"a\":\"\x1f\"}", "control character"},
	{"{\"a\":\"\n\"}", "control character"},
	{"{\"a\":\"\\v\"}", "unknown escape"},
	{"{\"a\":\"\\u00g0\"}", "malformed"},
	{"{\"a\":\"\\u000\"}", "malformed"},
	{"{\"a\":\"\\u0000\"}", "NUL"},
	{"{\"a\":\"\\ud800\"}", "surrogate"},
	{"{\"a\":\"\\ud800x\"}", "surrogate"},
	{"{\"a\":\"\\ud800\\n\"}", "surrogate"},
	{"{\"a\":\"\\ud800\\ue000\"}", "surrogate"},
	{"{\"a\":\"\\udc00\"}", "surrogate"},
	{"{\"a\":\"\x80\"}", "UTF-8"},
	{"{\"a\":\"\xc1\xbf\"}", "UTF-8"},
	{"{\"a\":\"\xe0\x9f\xbf\"}", "UTF-8"},
	{"{\"a\":\"\xed\xa0\x80\"}", "UTF-8"},
	{"{\"a\":\"\xf0\x8f\xbf\xbf\"}", "UTF-8"},
	{"{\"a\":\"\xf4\x90\x80\x80\"}", "UTF-8"},
	{"{\"a\":\"\xf8\x88\x80\x80\x80\"}", "UTF-8"},
	{"{\"a\":\"\xe2\x82\"}", "UTF-8"},
	/* The sequence would go on behind the end. */
	{"{\"a\":\"\xe2\x82", "UTF-8"},
	{"{\"a\":\"\xf0", "UTF-8"},
	{"{\"a\":1,\"a\":1}", "twice"},
	{"{\"x\":[{\"a\":1,\"b\":[],\"\\u0061\":2}]}", "twice"},
	{"{\"x\":{\"a\":\"{\"},\"x\":1}", "twice"},
};

START_TEST(what_is_not_json_is_refused_with_a_reason)
{
	struct error err = {0};
	size_t len = strlen(bad[_i].text);
	/* Exactly as long, so that AddressSanitizer sees a read beyond it. */
	char *text = malloc(len ? len : 1);

	ck_assert_ptr_nonnull(text);
	memcpy(text, bad[_i].text, len);
	ck_assert_msg(
		json_parse(text, len, &err) == NULL, "taken: %s", bad[_i].text);
	ck_assert_int_eq(err.code, EINVAL);
	ck_assert_msg(strstr(err.msg, bad[_i].word) != NULL, "%s: %s",
		bad[_i].text, err.msg);
	free(text);
}
END_TEST

START_TEST(a_duplicate_key_is_named)
{
	static const char text[] = "{\"a\":{\"key\":1,\"b\":2,\"key\":3}}";
	struct error err = {0};

	ck_assert_ptr_null(json_parse(text, strlen(text), &err));
	ck_assert_str_eq(err.field, "key");
}
END_TEST

START_TEST(no_prefix_of_a_document_is_a_document)
{
	static const char text[] =
		"{\"a\":[1,-2.5e3,\"\\ud834\\udd1e\xe2\x82\xac\"],\"b\":null}";
	struct error err;

	for (size_t len = 0; len < strlen(text); len++) {
		char *cut = malloc(len + 1);

		ck_assert_ptr_nonnull(cut);
		memcpy(cut, text, len);
		ck_assert_ptr_null(json_parse(cut, len, &err));
		free(cut);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json");
	TCase *t = tcase_create("parse");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(
		t, what_is_json_is_taken, 0, sizeof(good) / sizeof(good[0]));
	tcase_add_loop_test(t, what_is_not_json_is_refused_with_a_reason, 0,
		sizeof(bad) / sizeof(bad[0]));
	tcase_add_test(t, a_duplicate_key_is_named);
	tcase_add_test(t, no_prefix_of_a_document_is_a_document);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
