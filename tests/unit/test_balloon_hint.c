#include "virtio/balloon_hint.h"

#include <check.h>
#include <stdlib.h>

#define STOP VIRTIO_BALLOON_CMD_ID_STOP
#define DONE VIRTIO_BALLOON_CMD_ID_DONE

static struct balloon_hint h;

static void setup(void)
{
	h = (struct balloon_hint){0};
}

START_TEST(no_run_is_the_beginning)
{
	ck_assert(!balloon_hint_running(&h));
	ck_assert(!balloon_hint_take(&h, STOP));
	ck_assert_uint_eq(h.host_cmd, STOP);
	/* What a driver makes up is no run. */
	ck_assert(!balloon_hint_take(&h, 2));
	ck_assert(!balloon_hint_running(&h));
	h.host_cmd = DONE;
	balloon_hint_take(&h, DONE);
	ck_assert(!balloon_hint_running(&h));
}
END_TEST

START_TEST(a_run_goes_from_start_to_done_by_itself)
{
	uint32_t run = balloon_hint_start(&h, true);

	ck_assert_uint_eq(run, 2);
	ck_assert_uint_eq(h.host_cmd, run);
	ck_assert(!balloon_hint_running(&h));
	ck_assert(!balloon_hint_take(&h, run));
	ck_assert(balloon_hint_running(&h));
	ck_assert(balloon_hint_take(&h, STOP));
	ck_assert_uint_eq(h.host_cmd, DONE);
	ck_assert(!balloon_hint_running(&h));
	ck_assert_uint_eq(balloon_hint_start(&h, true), 3);
}
END_TEST

START_TEST(a_run_that_is_not_acknowledged_waits_for_its_stop)
{
	uint32_t run = balloon_hint_start(&h, false);

	balloon_hint_take(&h, run);
	ck_assert(!balloon_hint_take(&h, STOP));
	ck_assert_uint_eq(h.host_cmd, run);
	ck_assert_uint_eq(balloon_hint_stop(&h), DONE);
	ck_assert_uint_eq(h.host_cmd, DONE);
}
END_TEST

START_TEST(the_stop_of_an_older_run_ends_no_newer_one)
{
	uint32_t first = balloon_hint_start(&h, true), second;

	balloon_hint_take(&h, first);
	second = balloon_hint_start(&h, true);
	ck_assert_uint_ne(first, second);
	ck_assert(!balloon_hint_running(&h));
	ck_assert(!balloon_hint_take(&h, STOP));
	ck_assert_uint_eq(h.host_cmd, second);
	balloon_hint_take(&h, second);
	ck_assert(balloon_hint_running(&h));
}
END_TEST

START_TEST(a_stopped_run_takes_no_more_hints)
{
	uint32_t run = balloon_hint_start(&h, true);

	balloon_hint_take(&h, run);
	balloon_hint_stop(&h);
	ck_assert(!balloon_hint_running(&h));
	ck_assert(!balloon_hint_take(&h, STOP));
}
END_TEST

START_TEST(another_word_is_no_stop)
{
	uint32_t run = balloon_hint_start(&h, true);

	balloon_hint_take(&h, run);
	ck_assert(!balloon_hint_take(&h, 77));
	ck_assert(!balloon_hint_running(&h));
	ck_assert_uint_eq(h.host_cmd, run);
}
END_TEST

START_TEST(numbers_go_around_without_the_two_that_have_a_meaning)
{
	h.last_run = UINT32_MAX - 1;
	ck_assert_uint_eq(balloon_hint_start(&h, true), UINT32_MAX);
	ck_assert_uint_eq(balloon_hint_start(&h, true), 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("balloon_hint");
	TCase *t = tcase_create("runs");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, no_run_is_the_beginning);
	tcase_add_test(t, a_run_goes_from_start_to_done_by_itself);
	tcase_add_test(t, a_run_that_is_not_acknowledged_waits_for_its_stop);
	tcase_add_test(t, the_stop_of_an_older_run_ends_no_newer_one);
	tcase_add_test(t, a_stopped_run_takes_no_more_hints);
	tcase_add_test(t, another_word_is_no_stop);
	tcase_add_test(
		t, numbers_go_around_without_the_two_that_have_a_meaning);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
