#include "base/histogram.h"

#include <check.h>
#include <stdlib.h>

START_TEST(a_duration_counts_below_the_first_bound_that_holds_it)
{
	uint64_t bound = histogram_bounds_ns[_i];
	struct histogram h = {0};

	histogram_add(&h, bound - 1);
	histogram_add(&h, bound);
	histogram_add(&h, bound + 1);
	ck_assert_uint_eq(h.buckets[_i], 2);
	ck_assert_uint_eq(h.buckets[_i + 1], 1);
	ck_assert_uint_eq(h.sum_ns, 3 * bound);
	ck_assert_uint_eq(histogram_count(&h), 3);
	if (_i > 0)
		ck_assert_uint_gt(bound, histogram_bounds_ns[_i - 1]);
}
END_TEST

START_TEST(nothing_is_too_short_or_too_long)
{
	struct histogram h = {0}, loaded = {{0}};

	histogram_add(&h, 0);
	histogram_add(&h, UINT64_MAX - 7);
	ck_assert_uint_eq(h.buckets[0], 1);
	ck_assert_uint_eq(h.buckets[HISTOGRAM_BOUNDS], 1);
	histogram_load(&h, &loaded);
	ck_assert_mem_eq(&loaded, &h, sizeof(h));
	ck_assert_uint_eq(histogram_count(&loaded), 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("histogram");
	TCase *t = tcase_create("histogram");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t,
		a_duration_counts_below_the_first_bound_that_holds_it, 0,
		HISTOGRAM_BOUNDS);
	tcase_add_test(t, nothing_is_too_short_or_too_long);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
