#include "base/error.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(set_returns_the_negative_code_and_clears_the_field)
{
	struct error e = {.field = "old"};

	ck_assert_int_eq(error_set(&e, ENOENT, "no %s", "kernel"), -ENOENT);
	ck_assert_int_eq(e.code, ENOENT);
	ck_assert_str_eq(e.field, "");
	ck_assert_str_eq(e.msg, "no kernel");
}
END_TEST

START_TEST(field_names_what_is_at_fault)
{
	struct error e = {0};

	error_field(&e, EINVAL, "machine-config.vcpu_count", "must be 1 to 32");
	ck_assert_str_eq(e.field, "machine-config.vcpu_count");
	ck_assert_str_eq(e.msg, "must be 1 to 32");
}
END_TEST

START_TEST(errno_appends_what_the_code_means)
{
	struct error e = {0};

	error_errno(&e, EACCES, "open /x");
	ck_assert_str_eq(e.msg, "open /x: Permission denied");
}
END_TEST

START_TEST(wrap_prefixes_context_and_keeps_code_and_field)
{
	struct error e = {0};

	error_field(&e, EINVAL, "drives", "too many");
	ck_assert_int_eq(error_wrap(&e, "vm %d", 7), -EINVAL);
	ck_assert_str_eq(e.msg, "vm 7: too many");
	ck_assert_str_eq(e.field, "drives");
}
END_TEST

START_TEST(long_messages_are_cut_and_terminated)
{
	struct error e = {0};
	char longer[2 * ERROR_MSG_MAX];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	error_set(&e, EIO, "%s", longer);
	ck_assert_uint_eq(strlen(e.msg), ERROR_MSG_MAX - 1);
	error_wrap(&e, "%s", longer);
	ck_assert_uint_eq(strlen(e.msg), ERROR_MSG_MAX - 1);
	error_errno(&e, EIO, "%s", longer);
	ck_assert_uint_eq(strlen(e.msg), ERROR_MSG_MAX - 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("error");
	TCase *t = tcase_create("error");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, set_returns_the_negative_code_and_clears_the_field);
	tcase_add_test(t, field_names_what_is_at_fault);
	tcase_add_test(t, errno_appends_what_the_code_means);
	tcase_add_test(t, wrap_prefixes_context_and_keeps_code_and_field);
	tcase_add_test(t, long_messages_are_cut_and_terminated);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
