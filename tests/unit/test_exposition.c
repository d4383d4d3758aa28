#include "api/exposition.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct exposition e;

static void teardown(void)
{
	exposition_fini(&e);
}

static void expect(const char *text)
{
	ck_assert(!e.failed);
	ck_assert_uint_eq(e.len, strlen(text));
	ck_assert_mem_eq(e.text, text, e.len);
}

START_TEST(a_metric_has_a_head_and_samples)
{
	exposition_head(&e, "vm_things", "_total", "counter", "what it is");
	exposition_sample(&e, "vm_things", "_total", "vm=\"a\"", 0);
	exposition_sample(&e, "vm_things", "_total", "", UINT64_MAX);
	expect("# HELP mayfly_vm_things_total what it is\n"
	       "# TYPE mayfly_vm_things_total counter\n"
	       "mayfly_vm_things_total{vm=\"a\"} 0\n"
	       "mayfly_vm_things_total 18446744073709551615\n");
}
END_TEST

/* The lines behind the first one with this in it. */
static const char *from(const char *text)
{
	const char *at = strstr(e.text, text);

	ck_assert_ptr_nonnull(at);
	return at;
}

START_TEST(a_histogram_is_cumulative_and_in_seconds)
{
	struct histogram h = {0};

	histogram_add(&h, 25000);
	histogram_add(&h, 300000);
	histogram_add(&h, 20000000000u);
	exposition_histogram(&e, "t", "op=\"read\"", &h);
	exposition_sample(&e, "", "", "", 0);
	e.text[e.len - 1] = '\0';
	ck_assert_ptr_eq(from("mayfly_t_bucket{op=\"read\",le=\"2.5e-05\"} 1\n"
			      "mayfly_t_bucket{op=\"read\",le=\"5e-05\"} 1\n"),
		e.text);
	from("le=\"0.00025\"} 1\nmayfly_t_bucket{op=\"read\",le=\"0.0005\"} "
	     "2\n");
	from("le=\"10\"} 2\nmayfly_t_bucket{op=\"read\",le=\"+Inf\"} 3\n"
	     "mayfly_t_sum{op=\"read\"} 20.000325000\n"
	     "mayfly_t_count{op=\"read\"} 3\n");
}
END_TEST

START_TEST(a_histogram_may_have_no_label)
{
	struct histogram h = {0};

	exposition_histogram(&e, "t", "", &h);
	exposition_sample(&e, "", "", "", 0);
	e.text[e.len - 1] = '\0';
	ck_assert_ptr_eq(from("mayfly_t_bucket{le=\"2.5e-05\"} 0\n"), e.text);
	from("mayfly_t_bucket{le=\"+Inf\"} 0\nmayfly_t_sum 0.000000000\n"
	     "mayfly_t_count 0\n");
}
END_TEST

START_TEST(it_grows_to_any_length)
{
	for (unsigned i = 0; i < 10000; i++)
		exposition_sample(&e, "a", "", "", i);
	ck_assert(!e.failed);
	/* 10 numbers of one digit, 90 of two, 900 of three, 9000 of four. */
	ck_assert_uint_eq(e.len, 10000 * strlen("mayfly_a \n") + 38890);
	ck_assert_mem_eq(e.text + e.len - 14, "mayfly_a 9999\n", 14);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("exposition");
	TCase *t = tcase_create("exposition");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, a_metric_has_a_head_and_samples);
	tcase_add_test(t, a_histogram_is_cumulative_and_in_seconds);
	tcase_add_test(t, a_histogram_may_have_no_label);
	tcase_add_test(t, it_grows_to_any_length);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
