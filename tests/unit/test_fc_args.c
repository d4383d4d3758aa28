#include "api/firecracker/args.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct arg table[] = {
	{"flag", 1},
	{"value", 2, true},
	{"many", 3, true, true},
	{NULL},
};

/* "KEY=VALUE;" for each that was taken. */
static char taken[256];
static struct error err;
static int rest;

static int take(void *to, int key, const char *value, struct error *e)
{
	size_t n = strlen(taken);

	(void)to;
	snprintf(taken + n, sizeof(taken) - n, "%d=%s;", key,
		value ? value : "");
	return value && strcmp(value, "bad") == 0
		       ? error_set(e, EINVAL, "%s", "is bad")
		       : 0;
}

static int read_line(int argc, const char *const *argv)
{
	taken[0] = '\0';
	memset(&err, 0, sizeof(err));
	rest = -1;
	return args_read(
		table, argc, (char **)(uintptr_t)argv, take, NULL, &rest, &err);
}

static const struct {
	const char *const argv[8];
	const char *want; /* what is taken, or what the error says */
	int rest;         /* -1: it is an error */
} lines[] = {
	{{"x"}, "", 1},
	{{"x", "--flag", "--value", "v"}, "1=;2=v;", 4},
	{{"x", "--value=v=w", "--flag"}, "2=v=w;1=;", 3},
	{{"x", "--value="}, "2=;", 2},
	{{"x", "--many", "a", "--many=b"}, "3=a;3=b;", 4},
	{{"x", "--flag", "--", "--value"}, "1=;", 3},
	{{"x", "--"}, "", 2},
	{{"x", "--value", "-1"}, "2=-1;", 3},
	{{"x", "--flag", "--flag"}, "--flag is given twice", -1},
	{{"x", "--value", "a", "--value=b"}, "--value is given twice", -1},
	{{"x", "--value"}, "--value needs a value", -1},
	{{"x", "--value", "--flag"}, "--value needs a value", -1},
	{{"x", "--value", "--"}, "--value needs a value", -1},
	{{"x", "--flag=1"}, "--flag takes no value", -1},
	{{"x", "--fla"}, "\"--fla\" is not an option", -1},
	{{"x", "--flags"}, "\"--flags\" is not an option", -1},
	{{"x", "-flag"}, "\"-flag\" is not an option", -1},
	{{"x", "flag"}, "\"flag\" is not an option", -1},
	{{"x", ""}, "\"\" is not an option", -1},
	{{"x", "--value", "bad", "--flag"}, "is bad", -1},
};

START_TEST(a_line_is_read)
{
	int argc = 0, r;

	while (lines[_i].argv[argc])
		argc++;
	r = read_line(argc, lines[_i].argv);
	if (lines[_i].rest < 0) {
		ck_assert_int_eq(r, -EINVAL);
		ck_assert_msg(
			strstr(err.msg, lines[_i].want) != NULL, "%s", err.msg);
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_str_eq(taken, lines[_i].want);
	ck_assert_int_eq(rest, lines[_i].rest);
}
END_TEST

START_TEST(numbers_are_decimal_and_bounded)
{
	static const char *const bad[] = {"", "x", "1x", "-1", "+1", " 1",
		"0x1", "101", "99999999999999999999"};
	unsigned long long n;

	ck_assert_int_eq(args_number("--n", "100", 100, &n, &err), 0);
	ck_assert_uint_eq(n, 100);
	ck_assert_int_eq(args_number("--n", "0", 100, &n, &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(
			args_number("--n", bad[i], 100, &n, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fc_args");
	TCase *tc = tcase_create("args");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(
		tc, a_line_is_read, 0, sizeof(lines) / sizeof(lines[0]));
	tcase_add_test(tc, numbers_are_decimal_and_bounded);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
