#include "api/errors.h"
#include "api/fields.h"
#include "api/rate_limiter.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct thing {
	char *name;
	uint32_t count, colour, paint;
	bool on, off;
	uint64_t huge;
	struct part {
		uint32_t size;
		uint32_t more;
	} part;
};

static const char *const colours[] = {"red", "green", NULL};

/* Even numbers only; in its usual form, without the last two bits. */
static int check_size(void *member, const char *name, struct error *e)
{
	uint32_t *size = member;

	if (*size % 2)
		return error_field(e, EINVAL, name, "must be even");
	*size &= ~3u;
	return 0;
}

static int check_part(void *member, const char *name, struct error *e)
{
	struct part *p = member;

	return p->more > p->size
		       ? error_field(e, EINVAL, name, "has more than there is")
		       : 0;
}

static const struct field part_table[] = {
	{"size", FIELD_UINT, true, offsetof(struct part, size), 1, 100,
		.check = check_size},
	{"more", FIELD_UINT, false, offsetof(struct part, more), 0, 100},
	{NULL},
};

static const struct field table[] = {
	{"name", FIELD_STRING, true, offsetof(struct thing, name), 2, 4, NULL,
		is_word_char, "letters"},
	{"count", FIELD_UINT, false, offsetof(struct thing, count), 3, 5},
	{"colour", FIELD_CHOICE, false, offsetof(struct thing, colour), 0, 0,
		colours},
	{"paint", FIELD_CHOICE_ANY_CASE, false, offsetof(struct thing, paint),
		0, 0, colours},
	{"on", FIELD_BOOL, false, offsetof(struct thing, on)},
	{"off", FIELD_FALSE, false, offsetof(struct thing, off)},
	{"huge", FIELD_UINT64, false, offsetof(struct thing, huge), 7,
		INT64_MAX},
	{"part", FIELD_OBJECT, false, offsetof(struct thing, part), 0,
		sizeof(struct part), .check = check_part, .sub = part_table},
	{"later", FIELD_UNSUPPORTED},
	{"other", FIELD_ELSEWHERE},
	{NULL},
};

static struct thing thing;
static struct error err;

static void set_up(void)
{
	thing = (struct thing){.count = 4};
	memset(&err, 0, sizeof(err));
}

static void tear_down(void)
{
	free(thing.name);
}

static int read_as(const char *text, bool partial)
{
	struct json_object *o = json_parse(text, strlen(text), &err);
	int r;

	ck_assert_msg(o != NULL, "%s: %s", text, err.msg);
	r = fields_read(table, o, "thing", partial, &thing, &err);
	json_object_put(o);
	return r;
}

START_TEST(each_kind_reaches_its_member)
{
	ck_assert_int_eq(
		read_as("{\"name\":\"ab\",\"count\":5,\"colour\":\"green\","
			"\"paint\":\"GReen\","
			"\"on\":true,\"off\":false,\"later\":[],\"other\":7,"
			"\"huge\":9223372036854775807,"
			"\"part\":{\"size\":6,\"more\":2}}",
			false),
		0);
	ck_assert_uint_eq(thing.huge, INT64_MAX);
	ck_assert_uint_eq(thing.part.size, 4);
	ck_assert_uint_eq(thing.part.more, 2);
	ck_assert_str_eq(thing.name, "ab");
	ck_assert_uint_eq(thing.count, 5);
	ck_assert_uint_eq(thing.colour, 1);
	ck_assert_uint_eq(thing.paint, 1);
	ck_assert(thing.on);
}
END_TEST

START_TEST(what_is_not_given_or_null_stays)
{
	ck_assert_int_eq(
		read_as("{\"name\":\"ab\",\"count\":null,\"later\":null}",
			false),
		0);
	ck_assert_uint_eq(thing.count, 4);
}
END_TEST

START_TEST(an_object_is_read_as_a_whole)
{
	thing.part = (struct part){8, 5};
	ck_assert_int_eq(read_as("{\"part\":null,\"later\":{}}", true), 0);
	ck_assert_uint_eq(thing.part.more, 5);
	ck_assert_int_eq(read_as("{\"part\":{\"size\":4}}", true), 0);
	ck_assert_uint_eq(thing.part.size, 4);
	ck_assert_uint_eq(thing.part.more, 0);
}
END_TEST

START_TEST(what_was_not_given_is_not_written)
{
	struct json_object *o = fields_write(table, &thing), *part;

	/* A string, a number below its range, an object of zeros. */
	ck_assert(!json_object_object_get_ex(o, "name", NULL));
	ck_assert(!json_object_object_get_ex(o, "huge", NULL));
	ck_assert(!json_object_object_get_ex(o, "part", NULL));
	ck_assert(json_object_object_get_ex(o, "count", NULL));
	json_object_put(o);
	thing.huge = 7;
	thing.part.size = 1;
	o = fields_write(table, &thing);
	ck_assert(json_object_object_get_ex(o, "huge", NULL));
	ck_assert(json_object_object_get_ex(o, "part", &part));
	/* A 0 that is in its range is given. */
	ck_assert(json_object_object_get_ex(part, "more", NULL));
	json_object_put(o);
}
END_TEST

START_TEST(what_is_written_reads_back)
{
	struct thing first;
	struct json_object *o;

	ck_assert_int_eq(
		read_as("{\"name\":\"abcd\",\"count\":3,\"colour\":\"green\","
			"\"on\":true,\"huge\":7,"
			"\"part\":{\"size\":8,\"more\":3}}",
			false),
		0);
	first = thing;
	o = fields_write(table, &thing);
	thing = (struct thing){0};
	ck_assert_int_eq(fields_read(table, o, "", false, &thing, &err), 0);
	ck_assert_str_eq(thing.name, first.name);
	ck_assert_uint_eq(thing.count, first.count);
	ck_assert_uint_eq(thing.colour, first.colour);
	ck_assert(thing.on && !thing.off);
	ck_assert_uint_eq(thing.huge, 7);
	ck_assert_uint_eq(thing.part.size, 8);
	ck_assert_uint_eq(thing.part.more, 3);
	json_object_put(o);
	free(first.name);
}
END_TEST

static const struct {
	const char *text, *field, *word;
} refused[] = {
	{"{}", "thing.name", "missing"},
	{"{\"name\":null}", "thing.name", "missing"},
	{"{\"name\":1}", "thing.name", "string"},
	{"{\"name\":\"a\"}", "thing.name", "2 to 4"},
	{"{\"name\":\"abcde\"}", "thing.name", "2 to 4"},
	{"{\"name\":\"a b\"}", "thing.name", "only hold letters"},
	{"{\"name\":\"ab\",\"count\":2}", "thing.count", "between 3 and 5"},
	{"{\"name\":\"ab\",\"count\":6}", "thing.count", "between 3 and 5"},
	{"{\"name\":\"ab\",\"count\":-4}", "thing.count", "between 3 and 5"},
	{"{\"name\":\"ab\",\"count\":4294967300}", "thing.count", "between"},
	{"{\"name\":\"ab\",\"count\":18446744073709551620}", "thing.count",
		"between"},
	{"{\"name\":\"ab\",\"count\":4.0}", "thing.count", "integer"},
	{"{\"name\":\"ab\",\"count\":\"4\"}", "thing.count", "integer"},
	{"{\"name\":\"ab\",\"count\":true}", "thing.count", "integer"},
	{"{\"name\":\"ab\",\"colour\":\"blue\"}", "thing.colour",
		"\"red\" or \"green\""},
	{"{\"name\":\"ab\",\"colour\":1}", "thing.colour", "\"red\""},
	{"{\"name\":\"ab\",\"colour\":\"Green\"}", "thing.colour", "\"red\""},
	{"{\"name\":\"ab\",\"paint\":\"greenish\"}", "thing.paint", "\"red\""},
	{"{\"name\":\"ab\",\"on\":1}", "thing.on", "true or false"},
	{"{\"name\":\"ab\",\"off\":true}", "thing.off", "not supported yet"},
	{"{\"name\":\"ab\",\"off\":1}", "thing.off", "true or false"},
	{"{\"name\":\"ab\",\"later\":[1]}", "thing.later", "not supported"},
	{"{\"name\":\"ab\",\"later\":false}", "thing.later", "not supported"},
	{"{\"name\":\"ab\",\"huge\":6}", "thing.huge",
		"between 7 and 9223372036854775807"},
	{"{\"name\":\"ab\",\"huge\":-9}", "thing.huge", "between 7"},
	{"{\"name\":\"ab\",\"huge\":9223372036854775808}", "thing.huge",
		"between 7"},
	{"{\"name\":\"ab\",\"huge\":18446744073709551616}", "thing.huge",
		"between 7"},
	{"{\"name\":\"ab\",\"huge\":-18446744073709551609}", "thing.huge",
		"between 7"},
	{"{\"name\":\"ab\",\"huge\":\"7\"}", "thing.huge", "integer"},
	{"{\"name\":\"ab\",\"part\":{\"size\":4,\"more\":-1}}",
		"thing.part.more", "between 0 and 100"},
	{"{\"name\":\"ab\",\"later\":{\"a\":1}}", "thing.later", "not supp"},
	{"{\"name\":\"ab\",\"part\":7}", "thing.part", "an object"},
	{"{\"name\":\"ab\",\"part\":[]}", "thing.part", "an object"},
	{"{\"name\":\"ab\",\"part\":{}}", "thing.part.size", "missing"},
	{"{\"name\":\"ab\",\"part\":{\"x\":1}}", "thing.part.x", "not a kn"},
	{"{\"name\":\"ab\",\"part\":{\"size\":3}}", "thing.part.size", "even"},
	{"{\"name\":\"ab\",\"part\":{\"size\":4,\"more\":5}}", "thing.part",
		"more than there is"},
	{"{\"name\":\"ab\",\"nome\":1}", "thing.nome", "not a known field"},
	{"{\"name\":\"ab\",\"n\\u00e9\\n\":null}", "thing.n???", "not a known"},
};

START_TEST(what_does_not_fit_is_refused_by_name)
{
	ck_assert_int_eq(read_as(refused[_i].text, false), -EINVAL);
	ck_assert_str_eq(err.field, refused[_i].field);
	ck_assert_msg(strstr(err.msg, refused[_i].word) != NULL, "%s", err.msg);
}
END_TEST

START_TEST(character_classes_hold_what_they_say)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789_";

	for (int i = 0; i < 256; i++) {
		char c = (char)i;
		bool word = c && strchr(letters, c), print = i > 31 && i < 127;

		ck_assert_int_eq(is_word_char(c), word);
		ck_assert_int_eq(is_id_char(c), word || c == '-');
		ck_assert_int_eq(is_cmdline_char(c), print);
		ck_assert_int_eq(is_file_char(c), print && c != '/');
	}
}
END_TEST

START_TEST(a_partial_object_needs_no_required_field_but_one_field)
{
	ck_assert_int_eq(read_as("{\"count\":3}", true), 0);
	ck_assert_uint_eq(thing.count, 3);
	ck_assert_int_eq(read_as("{}", true), -EINVAL);
	ck_assert_int_eq(read_as("{\"count\":null}", true), -EINVAL);
	ck_assert_int_eq(read_as("{\"count\":6}", true), -EINVAL);
}
END_TEST

START_TEST(a_string_that_is_read_again_replaces_the_first)
{
	ck_assert_int_eq(read_as("{\"name\":\"ab\"}", false), 0);
	ck_assert_int_eq(read_as("{\"name\":\"cd\"}", false), 0);
	ck_assert_str_eq(thing.name, "cd");
}
END_TEST

static const struct {
	const char *field;
	int code;
	unsigned status;
} statuses[] = {
	{"", EINVAL, 400},
	{"f", EINVAL, 400},
	{"", ENOENT, 404},
	{"f", ENOENT, 400},
	{"f", EACCES, 400},
	{"", EACCES, 500},
	{"", EEXIST, 409},
	{"", EBUSY, 409},
	{"", EMSGSIZE, 413},
	{"", ENOBUFS, 429},
	{"", ENOMEM, 503},
	{"machine-config.mem_size_mib", ENOMEM, 400},
	{"f", EIO, 500},
	{"f", EMFILE, 503},
	{"", ENFILE, 503},
	{"", EAGAIN, 503},
	{"", ESHUTDOWN, 503},
	{"", ETIMEDOUT, 504},
	{"", 4095, 500},
};

START_TEST(an_errno_has_one_status)
{
	struct error e = {.code = statuses[_i].code};

	snprintf(e.field, sizeof(e.field), "%s", statuses[_i].field);
	ck_assert_uint_eq(http_status(&e), statuses[_i].status);
}
END_TEST

/* ---- rate limiters ---- */

static const struct field limited_table[] = {
	RATE_LIMITER(struct vm_entropy, rate_limiter),
	{NULL},
};

static int read_limiter(const char *text, struct vm_entropy *ret)
{
	struct json_object *o = json_parse(text, strlen(text), &err);
	int r;

	ck_assert_msg(o != NULL, "%s: %s", text, err.msg);
	r = fields_read(limited_table, o, "entropy", false, ret, &err);
	json_object_put(o);
	return r;
}

static const struct {
	const char *bucket;
	bool good;
} buckets[] = {
	{"{\"size\":1,\"refill_time\":1}", true},
	{"{\"size\":9223372036854775807,\"refill_time\":9223372036854,"
	 "\"one_time_burst\":9223372036854775807}",
		true},
	{"{\"size\":0,\"refill_time\":0}", true},
	{"{\"size\":0,\"refill_time\":0,\"one_time_burst\":0}", true},
	{"{\"size\":0,\"refill_time\":1}", false},
	{"{\"size\":1,\"refill_time\":0}", false},
	{"{\"size\":0,\"refill_time\":0,\"one_time_burst\":1}", false},
	{"{\"size\":1,\"refill_time\":9223372036855}", false},
	{"{\"size\":9223372036854775808,\"refill_time\":1}", false},
	{"{\"size\":18446744073709551616,\"refill_time\":1}", false},
	{"{\"size\":1}", false},
	{"{\"refill_time\":1}", false},
};

START_TEST(a_bucket_limits_or_does_not)
{
	static const char *const names[] = {"bandwidth", "ops"};
	struct vm_entropy e = {false};
	char text[256];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "{\"rate_limiter\":{\"%s\":%s}}",
			names[i], buckets[_i].bucket);
		ck_assert_int_eq(
			read_limiter(text, &e), buckets[_i].good ? 0 : -EINVAL);
		if (!buckets[_i].good)
			ck_assert_ptr_nonnull(strstr(err.field, names[i]));
	}
}
END_TEST

static const struct {
	const char *text;
	bool bandwidth, ops;
} updates[] = {
	{"{}", false, false},
	{"{\"l\":null}", false, false},
	{"{\"l\":{}}", false, false},
	{"{\"l\":{\"bandwidth\":null,\"ops\":null}}", false, false},
	{"{\"l\":{\"bandwidth\":{}}}", true, false},
	{"{\"l\":{\"ops\":{}}}", false, true},
	{"{\"l\":{\"ops\":{},\"bandwidth\":{}}}", true, true},
};

START_TEST(an_update_means_the_buckets_it_names)
{
	const struct vm_rate_limiter read = {.ops = {1, 2, 3}};
	struct json_object *o =
		json_parse(updates[_i].text, strlen(updates[_i].text), &err);
	struct api_limiter_update u;

	limiter_update_read(o, "l", &read, &u);
	ck_assert_int_eq(u.has_bandwidth, updates[_i].bandwidth);
	ck_assert_int_eq(u.has_ops, updates[_i].ops);
	ck_assert_uint_eq(u.to.ops.one_time_burst, 2);
	json_object_put(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fields");
	TCase *t = tcase_create("fields");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, each_kind_reaches_its_member);
	tcase_add_test(t, what_is_not_given_or_null_stays);
	tcase_add_test(t, character_classes_hold_what_they_say);
	tcase_add_test(t, an_object_is_read_as_a_whole);
	tcase_add_test(t, what_was_not_given_is_not_written);
	tcase_add_test(t, what_is_written_reads_back);
	tcase_add_loop_test(t, what_does_not_fit_is_refused_by_name, 0,
		sizeof(refused) / sizeof(refused[0]));
	tcase_add_test(
		t, a_partial_object_needs_no_required_field_but_one_field);
	tcase_add_test(t, a_string_that_is_read_again_replaces_the_first);
	tcase_add_loop_test(t, an_errno_has_one_status, 0,
		sizeof(statuses) / sizeof(statuses[0]));
	tcase_add_loop_test(t, a_bucket_limits_or_does_not, 0,
		sizeof(buckets) / sizeof(buckets[0]));
	tcase_add_loop_test(t, an_update_means_the_buckets_it_names, 0,
		sizeof(updates) / sizeof(updates[0]));
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
