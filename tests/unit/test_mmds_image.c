#include "api/mmds_data.h"
#include "net/mmds_image.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char document[] =
	"{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-1\",\"empty\":\"\","
	"\"obj\":{\"z\":1},\"a/b\":\"slash\",\"~t\":\"tilde\",\"\":\"none\","
	"\"caf\\u00e9\":\"\\u20ac\\n\\\"q\\\"\",\"esc\\u0001\":\"x\"},"
	"\"list\":[0,\"one\",{\"k\":\"v\"},[3,[4]],4,5,6,7,8,9,\"ten\"]},"
	"\"Num\":-1.50e3,\"big\":18446744073709551615,"
	"\"low\":-9223372036854775808,\"t\":true,\"f\":false,\"n\":null,"
	"\"url\":\"http://x/\"}";

static struct error err;
static struct api_mmds_data data;

static void fini(void)
{
	free(data.json);
	free(data.image);
	data = (struct api_mmds_data){NULL};
}

static struct json_object *parse(const char *text)
{
	struct json_object *o = mmds_parse(text, strlen(text), &err);

	ck_assert_msg(o, "%s: %s", text, err.msg);
	return o;
}

static int compile(const char *text)
{
	struct json_object *o = parse(text);
	int r;

	fini();
	r = mmds_compile(o, &data, &err);
	json_object_put(o);
	return r;
}

static const struct mmds_image *image(void)
{
	ck_assert(mmds_image_ok(data.image, data.image_len));
	return data.image;
}

static void compare(uint32_t off, uint32_t len, const char *want)
{
	ck_assert_msg(len == strlen(want) &&
			      memcmp((char *)data.image + off, want, len) == 0,
		"%.*s, not %s", (int)len, (char *)data.image + off, want);
}

/* ---- looking up ---- */

/* text NULL: no IMDS form; json NULL: nothing there. */
static const struct {
	const char *path, *json, *text;
} lookups[] = {
	{"/latest/meta-data/ami-id", "\"ami-1\"", "ami-1"},
	{"/latest/meta-data/ami-id/", "\"ami-1\"", "ami-1"},
	{"//latest///meta-data/ami-id//", "\"ami-1\"", "ami-1"},
	{"/latest/meta-data/empty", "\"\"", ""},
	{"/latest/meta-data/obj", "{\"z\":1}", "z"},
	{"/latest/meta-data/obj/z", "1", NULL},
	{"/latest/meta-data/a~1b", "\"slash\"", "slash"},
	{"/latest/meta-data/~0t", "\"tilde\"", "tilde"},
	{"/latest/meta-data/~t", "\"tilde\"", "tilde"}, /* not an escape */
	{"/latest/meta-data/caf\xc3\xa9", "\"\xe2\x82\xac\\n\\\"q\\\"\"",
		"\xe2\x82\xac\n\"q\""},
	{"/latest/meta-data/esc\x01", "\"x\"", "x"},
	{"/latest", NULL, "list\nmeta-data/"},
	{"/latest/meta-data", NULL,
		"\na/b\nami-id\ncaf\xc3\xa9\nempty\nesc\x01\nobj/\n~t"},
	{"/latest/list/0", "0", NULL},
	{"/latest/list/1", "\"one\"", "one"},
	{"/latest/list/2/k", "\"v\"", "v"},
	{"/latest/list/2", "{\"k\":\"v\"}", "k"},
	{"/latest/list/3", "[3,[4]]", NULL},
	{"/latest/list/3/1/0", "4", NULL},
	{"/latest/list/10", "\"ten\"", "ten"},
	{"/latest/list",
		"[0,\"one\",{\"k\":\"v\"},[3,[4]],4,5,6,7,8,9,\"ten\"]", NULL},
	{"/Num", "-1.50e3", NULL},
	{"/big", "18446744073709551615", NULL},
	{"/low", "-9223372036854775808", NULL},
	{"/t", "true", NULL},
	{"/f", "false", NULL},
	{"/n", "null", NULL},
	{"/url", "\"http://x/\"", "http://x/"},
	{"/", NULL, "Num\nbig\nf\nlatest/\nlow\nn\nt\nurl"},
	{"///", NULL, "Num\nbig\nf\nlatest/\nlow\nn\nt\nurl"},
};

/* What is in no document: prefixes, successors, cases, other spellings. */
static const char *const absent[] = {"", "latest", "/lates", "/latestt",
	"/LATEST", "/latest/list/11", "/latest/list/-1", "/latest/list/01",
	"/latest/list/+1", "/latest/list/", "/latest/meta-data/a/b",
	"/latest/meta-data/a~b", "/latest/meta-data/ami-id/x", "/n/x", "/t/0",
	"/latest/meta-data/caf%C3%A9", "/latest?x", "/~", "/0", "/zzz",
	"/latest/meta-data/~1t"};

START_TEST(every_node_is_found_with_both_its_forms)
{
	const struct mmds_entry *e;

	ck_assert_int_eq(compile(document), 0);
	e = mmds_image_find(
		image(), lookups[_i].path, strlen(lookups[_i].path));
	ck_assert_ptr_nonnull(e);
	if (lookups[_i].json)
		compare(e->json, e->json_len, lookups[_i].json);
	ck_assert_uint_eq(e->has_text, lookups[_i].text != NULL);
	if (lookups[_i].text)
		compare(e->text, e->text_len, lookups[_i].text);
	fini();
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
	const char *path = absent[_i];
	bool is_list = strcmp(path, "/latest/list/") == 0;

	ck_assert_int_eq(compile(document), 0);
	/* A slash at the end is none. */
	ck_assert(!mmds_image_find(image(), path, strlen(path)) != is_list);
	fini();
}
END_TEST

START_TEST(a_path_is_read_no_further_than_its_length)
{
	ck_assert_int_eq(compile("{\"a\":{\"b\":1}}"), 0);
	ck_assert_ptr_eq(mmds_image_find(image(), "/a/b", 2),
		mmds_image_find(image(), "/a", 2));
	ck_assert_ptr_null(mmds_image_find(image(), "/", 0));
	/* An escape that ends behind it is none. */
	ck_assert_int_eq(compile("{\"a/\":1,\"a~\":2}"), 0);
	compare(mmds_image_find(image(), "/a~1", 3)->json, 1, "2");
	compare(mmds_image_find(image(), "/a~1", 4)->json, 1, "1");
	fini();
}
END_TEST

START_TEST(a_name_longer_than_any_path_is_not_found)
{
	char *path = malloc(MMDS_PATH_MAX + 3);

	ck_assert_int_eq(compile("{\"a\":1}"), 0);
	memset(path, 'a', MMDS_PATH_MAX + 3);
	path[0] = '/';
	ck_assert_ptr_null(mmds_image_find(image(), path, MMDS_PATH_MAX + 3));
	ck_assert_ptr_null(mmds_image_find(image(), path, MMDS_PATH_MAX + 1));
	ck_assert_ptr_nonnull(mmds_image_find(image(), path, 2));
	free(path);
	fini();
}
END_TEST

START_TEST(an_empty_object_is_an_image)
{
	const struct mmds_entry *e;

	ck_assert_int_eq(compile("{}"), 0);
	e = mmds_image_find(image(), "/", 1);
	compare(e->json, e->json_len, "{}");
	ck_assert_uint_eq(e->has_text, 1);
	compare(e->text, e->text_len, "");
	ck_assert_ptr_null(mmds_image_find(image(), "/a", 2));
	ck_assert_str_eq(data.json, "{}");
	fini();
}
END_TEST

/* The order of members stays; only listings are sorted. */
START_TEST(the_json_kept_is_what_was_given)
{
	ck_assert_int_eq(compile("{ \"b\" : [ 1 , 2.50 ],\"a\":{\"\\u0041\\/\":"
				 "\"\\t\"} }"),
		0);
	ck_assert_str_eq(data.json, "{\"b\":[1,2.50],\"a\":{\"A/\":\"\\t\"}}");
	fini();
}
END_TEST

START_TEST(many_small_and_one_large_value_fit)
{
	char *text = malloc(VM_MMDS_MAX + 10), *p = text;

	p += sprintf(p, "{\"a\":[1");
	while (p - text < VM_MMDS_MAX - 4)
		p += sprintf(p, ",1");
	sprintf(p, "]}");
	ck_assert_int_eq(compile(text), 0);
	ck_assert(mmds_image_find(image(), "/a/25000", 8));
	memset(text, 'x', VM_MMDS_MAX + 1);
	text[sprintf(text, "{\"a\":\"")] = 'x';
	sprintf(text + VM_MMDS_MAX - 2, "\"}");
	ck_assert_int_eq(compile(text), 0);
	ck_assert(mmds_image_find(image(), "/a", 2));
	/* One more. */
	sprintf(text + VM_MMDS_MAX - 2, "x\"}");
	ck_assert_int_eq(compile(text), -EMSGSIZE);
	ck_assert_str_eq(err.msg, "the metadata would be 51201 bytes of JSON, "
				  "51200 are the most");
	ck_assert_ptr_null(data.json);
	free(text);
	fini();
}
END_TEST

/* ---- what is read ---- */

static void nested(char *text, unsigned levels)
{
	for (unsigned i = 0; i < levels; i++)
		text += sprintf(text, "{\"a\":");
	*text++ = '1';
	memset(text, '}', levels);
	text[levels] = '\0';
}

START_TEST(metadata_may_be_nested_32_levels_deep)
{
	char text[MMDS_MAX_DEPTH * 8 + 16];

	nested(text, MMDS_MAX_DEPTH);
	ck_assert_int_eq(compile(text), 0);
	ck_assert_str_eq(data.json, text);
	image();
	nested(text, MMDS_MAX_DEPTH + 1);
	ck_assert_ptr_null(mmds_parse(text, strlen(text), &err));
	ck_assert_str_eq(err.msg, "the body is nested deeper than 32 levels");
	fini();
}
END_TEST

static const struct {
	const char *text, *message; /* NULL: fine */
} numbers[] = {
	{"{\"a\":18446744073709551615}", NULL},
	{"{\"a\":18446744073709551616}", "the integer at byte 5 does not fit"},
	{"{\"a\":-9223372036854775808}", NULL},
	{"{\"a\":-9223372036854775809}", "the integer at byte 5 does not fit"},
	{"{\"a\":[true,99999999999999999999]}", "the integer at byte 11 does"},
	{"{\"a\":99999999999999999999.0}", NULL},
	{"{\"a\":99999999999999999999e1}", NULL},
	{"{\"a\":99999999999999999999E1}", NULL},
	{"{\"99999999999999999999\":\"\\\"99999999999999999999\"}", NULL},
};

START_TEST(integers_that_would_change_are_refused)
{
	struct json_object *o =
		mmds_parse(numbers[_i].text, strlen(numbers[_i].text), &err);

	ck_assert((o != NULL) == (numbers[_i].message == NULL));
	if (o)
		ck_assert_int_eq(compile(numbers[_i].text), 0);
	else
		ck_assert_ptr_nonnull(strstr(err.msg, numbers[_i].message));
	if (o)
		ck_assert_str_eq(data.json, numbers[_i].text);
	json_object_put(o);
	fini();
}
END_TEST

/* RFC 7396, appendix A (those on objects), and some. */
static const struct {
	const char *target, *patch, *result;
} merges[] = {
	{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
	{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
	{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
	{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
	{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
	{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
	{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		"{\"a\":{\"b\":\"d\"}}"},
	{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
	{"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
	{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
	{"{\"a\":1}", "{\"a\":{\"b\":null,\"c\":2}}", "{\"a\":{\"c\":2}}"},
	{"{\"a\":1}", "{}", "{\"a\":1}"},
	{"{\"a\":{\"b\":{\"c\":1,\"d\":2}},\"x\":1}",
		"{\"a\":{\"b\":{\"c\":null}}}",
		"{\"a\":{\"b\":{\"d\":2}},\"x\":1}"},
	{"{\"a\":[1,null]}", "{\"b\":[null]}", "{\"a\":[1,null],\"b\":[null]}"},
};

START_TEST(a_merge_patch_changes_what_it_names)
{
	struct json_object *target = parse(merges[_i].target);
	struct json_object *patch = parse(merges[_i].patch);
	struct json_object *o = mmds_merge(target, patch);

	/* What it made holds without the others. */
	json_object_put(target);
	json_object_put(patch);
	ck_assert_int_eq(mmds_compile(o, &data, &err), 0);
	ck_assert_str_eq(data.json, merges[_i].result);
	json_object_put(o);
	fini();
}
END_TEST

/* ---- images that are none ---- */

static struct mmds_image *img;

static struct mmds_entry *entry(const char *path)
{
	return (struct mmds_entry *)(uintptr_t)mmds_image_find(
		img, path, strlen(path));
}

static void wrong_magic(void)
{
	img->magic++;
}
static void wrong_size(void)
{
	img->size++;
}
static void no_entries(void)
{
	img->n_entries = 0;
}
static void more_entries_than_fit(void)
{
	img->n_entries = (uint32_t)((data.image_len - sizeof(*img)) /
				    sizeof(img->entries[0])) +
			 1;
}
static void huge_number_of_entries(void)
{
	img->n_entries = UINT32_MAX;
}
static void one_entry_less(void)
{
	img->n_entries--;
}
static void one_entry_more(void)
{
	img->n_entries++;
}
static void name_behind_the_end(void)
{
	entry("/a")->name = img->size;
}
static void name_far_behind_the_end(void)
{
	entry("/a")->name = UINT32_MAX;
}
static void name_over_the_end(void)
{
	entry("/a")->name_len = img->size - entry("/a")->name + 1;
}
static void json_behind_the_end(void)
{
	entry("/b/y")->json = img->size + 1;
}
static void json_over_the_end(void)
{
	entry("/b/y")->json_len = UINT32_MAX;
}
static void text_behind_the_end(void)
{
	entry("/b")->text = img->size;
}
static void text_over_the_end(void)
{
	entry("/b")->text_len = img->size - entry("/b")->text + 1;
}
static void a_child_of_itself(void)
{
	entry("/")->child = 0;
}
static void a_child_of_its_child(void)
{
	entry("/b")->child = 1;
	entry("/b")->n_children = 1;
}
static void children_skipped(void)
{
	entry("/b")->child++;
}
static void children_behind_the_end(void)
{
	entry("/b")->n_children++;
}
static void very_many_children(void)
{
	entry("/b")->n_children = UINT32_MAX;
}
static void children_of_nobody(void)
{
	entry("/b")->n_children--;
}
static void names_out_of_order(void)
{
	struct mmds_entry *x = entry("/b/x"), *y = entry("/b/y"), t = *x;

	*x = *y;
	*y = t;
}
static void the_same_name_twice(void)
{
	entry("/b/xx")->name_len = 1;
}
static void a_longer_name_before_its_prefix(void)
{
	struct mmds_entry *x = entry("/b/x"), *xx = entry("/b/xx");

	x->name = xx->name;
	x->name_len = 2;
	xx->name_len = 1;
}
static void an_orphan_before_its_parent(void)
{
	entry("/")->n_children = 0;
}

static void a_tree_beside_the_root(void)
{
	struct mmds_entry *root = entry("/"), *a = entry("/a");

	root->n_children = 0;
	a->child = 1;
	a->n_children = 2;
}

static void (*const damages[])(void) = {a_tree_beside_the_root, wrong_magic,
	wrong_size, no_entries, more_entries_than_fit, huge_number_of_entries,
	one_entry_less, one_entry_more, name_behind_the_end,
	name_far_behind_the_end, name_over_the_end, json_behind_the_end,
	json_over_the_end, text_behind_the_end, text_over_the_end,
	a_child_of_itself, a_child_of_its_child, children_skipped,
	children_behind_the_end, very_many_children, children_of_nobody,
	names_out_of_order, the_same_name_twice,
	a_longer_name_before_its_prefix, an_orphan_before_its_parent};

START_TEST(a_damaged_image_is_refused)
{
	ck_assert_int_eq(
		compile("{\"a\":1,\"b\":{\"x\":1,\"xx\":2,\"y\":3}}"), 0);
	image();
	img = data.image;
	damages[_i]();
	ck_assert(!mmds_image_ok(img, data.image_len));
	fini();
}
END_TEST

START_TEST(an_image_is_refused_at_every_other_length)
{
	ck_assert_int_eq(compile("{\"a\":1}"), 0);
	for (size_t len = 0; len < data.image_len; len++) {
		void *p = malloc(len + 1);

		memcpy(p, data.image, len);
		ck_assert(!mmds_image_ok(p, len));
		if (len >= sizeof(struct mmds_image)) {
			((struct mmds_image *)p)->size = (uint32_t)len;
			ck_assert(!mmds_image_ok(p, len));
		}
		free(p);
	}
	fini();
}
END_TEST

START_TEST(an_image_or_value_that_is_too_large_is_refused)
{
	struct mmds_image *big = calloc(1, MMDS_IMAGE_MAX + 1);

	*big = (struct mmds_image){.magic = MMDS_IMAGE_MAGIC,
		.n_entries = 1,
		.size = MMDS_IMAGE_MAX};
	big->entries[0] = (struct mmds_entry){
		.json_len = MMDS_VALUE_MAX, .text_len = MMDS_VALUE_MAX};
	ck_assert(mmds_image_ok(big, MMDS_IMAGE_MAX));
	big->entries[0].json_len++;
	ck_assert(!mmds_image_ok(big, MMDS_IMAGE_MAX));
	big->entries[0].json_len--;
	big->entries[0].text_len++;
	ck_assert(!mmds_image_ok(big, MMDS_IMAGE_MAX));
	big->entries[0].text_len--;
	big->size++;
	ck_assert(!mmds_image_ok(big, MMDS_IMAGE_MAX + 1));
	free(big);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("mmds_image");
	TCase *find = tcase_create("find"), *read = tcase_create("read");
	TCase *bad = tcase_create("bad");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(
		find, every_node_is_found_with_both_its_forms, 0, N(lookups));
	tcase_add_loop_test(find, what_is_not_there_is_not_found, 0, N(absent));
	tcase_add_test(find, a_path_is_read_no_further_than_its_length);
	tcase_add_test(find, a_name_longer_than_any_path_is_not_found);
	tcase_add_test(find, an_empty_object_is_an_image);
	tcase_add_test(find, many_small_and_one_large_value_fit);
	suite_add_tcase(s, find);
	tcase_add_test(read, the_json_kept_is_what_was_given);
	tcase_add_test(read, metadata_may_be_nested_32_levels_deep);
	tcase_add_loop_test(
		read, integers_that_would_change_are_refused, 0, N(numbers));
	tcase_add_loop_test(
		read, a_merge_patch_changes_what_it_names, 0, N(merges));
	suite_add_tcase(s, read);
	tcase_add_loop_test(bad, a_damaged_image_is_refused, 0, N(damages));
	tcase_add_test(bad, an_image_is_refused_at_every_other_length);
	tcase_add_test(bad, an_image_or_value_that_is_too_large_is_refused);
	suite_add_tcase(s, bad);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
