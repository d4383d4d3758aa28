#include "jailer/ids.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST 5000

static char lock_path[] = "/tmp/mayfly-test-ids-XXXXXX";
static struct ids *ids;
static struct error err;

static void make(void)
{
	int fd = mkstemp(lock_path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(ids_create(&ids, lock_path, FIRST, 3, &err), 0);
}

static void destroy(void)
{
	ids_destroy(ids);
	unlink(lock_path);
	snprintf(lock_path, sizeof(lock_path), "/tmp/mayfly-test-ids-XXXXXX");
}

START_TEST(each_id_is_given_once_and_then_there_are_none)
{
	uid_t uid;

	for (uid_t want = FIRST; want < FIRST + 3; want++) {
		ck_assert_int_eq(ids_take(ids, &uid, &err), 0);
		ck_assert_uint_eq(uid, want);
	}
	uid = 1;
	ck_assert_int_eq(ids_take(ids, &uid, &err), -ENOSPC);
	ck_assert_uint_eq(uid, 1);
}
END_TEST

START_TEST(a_freed_id_is_used_again_as_late_as_possible)
{
	uid_t a, b;

	ids_take(ids, &a, &err);
	ids_give(ids, a);
	ck_assert_int_eq(ids_take(ids, &b, &err), 0);
	ck_assert_uint_eq(b, FIRST + 1);
	ck_assert_int_eq(ids_take(ids, &b, &err), 0);
	ck_assert_uint_eq(b, FIRST + 2);
	ck_assert_int_eq(ids_take(ids, &b, &err), 0);
	ck_assert_uint_eq(b, FIRST);
}
END_TEST

START_TEST(two_daemons_with_one_range_never_give_the_same_id)
{
	struct ids *other;
	uid_t a, b, c;

	ck_assert_int_eq(ids_create(&other, lock_path, FIRST, 3, &err), 0);
	ck_assert_int_eq(ids_take(ids, &a, &err), 0);
	ck_assert_int_eq(ids_take(other, &b, &err), 0);
	ck_assert_int_eq(ids_take(ids, &c, &err), 0);
	ck_assert_uint_eq(a, FIRST);
	ck_assert_uint_eq(b, FIRST + 1);
	ck_assert_uint_eq(c, FIRST + 2);
	ck_assert_int_eq(ids_take(other, &b, &err), -ENOSPC);
	ids_give(ids, a);
	ck_assert_int_eq(ids_take(other, &b, &err), 0);
	ck_assert_uint_eq(b, a);
	ids_destroy(other);
}
END_TEST

START_TEST(what_a_dead_daemon_held_is_free)
{
	struct ids *other;
	uid_t a, b;

	ck_assert_int_eq(ids_create(&other, lock_path, FIRST, 1, &err), 0);
	ck_assert_int_eq(ids_take(other, &a, &err), 0);
	ids_destroy(other);
	ck_assert_int_eq(ids_take(ids, &b, &err), 0);
	ck_assert_uint_eq(b, a);
}
END_TEST

static const struct {
	uid_t first;
	unsigned count;
	int result;
} ranges[] = {
	{0, 10, -EINVAL},
	{5000, 0, -EINVAL},
	{UINT32_MAX - 1, 1, 0},
	{UINT32_MAX - 1, 2, -EINVAL},
	{UINT32_MAX, 1, -EINVAL},
	{2, UINT32_MAX, -EINVAL},
};

START_TEST(a_range_with_root_or_beyond_the_last_id_is_refused)
{
	struct ids *other = NULL;

	ck_assert_int_eq(ids_create(&other, lock_path, ranges[_i].first,
				 ranges[_i].count, &err),
		ranges[_i].result);
	ids_destroy(other);
}
END_TEST

START_TEST(a_symbolic_link_is_no_lock_file)
{
	struct ids *other;
	char path[64];

	snprintf(path, sizeof(path), "%s.link", lock_path);
	ck_assert_int_eq(symlink(lock_path, path), 0);
	ck_assert_int_eq(ids_create(&other, path, FIRST, 1, &err), -ELOOP);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ids");
	TCase *t = tcase_create("take"), *c = tcase_create("create");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, make, destroy);
	tcase_add_test(t, each_id_is_given_once_and_then_there_are_none);
	tcase_add_test(t, a_freed_id_is_used_again_as_late_as_possible);
	tcase_add_test(t, two_daemons_with_one_range_never_give_the_same_id);
	tcase_add_test(t, what_a_dead_daemon_held_is_free);
	tcase_add_checked_fixture(c, make, destroy);
	tcase_add_loop_test(c,
		a_range_with_root_or_beyond_the_last_id_is_refused, 0,
		sizeof(ranges) / sizeof(ranges[0]));
	tcase_add_test(c, a_symbolic_link_is_no_lock_file);
	suite_add_tcase(s, t);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
