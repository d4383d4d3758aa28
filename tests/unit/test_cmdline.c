#include "vmm/layout.h"
#include "vmm/limits.h"
#include "vmm/platform_tables.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct platform_virtio devices[] = {
	{0xd0000000, 5}, {0xd0001000, 6}, {0xd0012000, 23}};
static char cmdline[VM_CMDLINE_MAX];
static struct error err;

#define WORD " virtio_mmio.device=4K@0xd0000000:5"

static void set(const char *text)
{
	snprintf(cmdline, sizeof(cmdline), "%s", text);
}

static int add(unsigned n)
{
	struct platform p = {.n_vcpus = 1, .virtio = devices, .n_virtio = n};

	return cmdline_add_virtio(cmdline, &p, &err);
}

START_TEST(each_device_gets_a_word)
{
	set("console=ttyS0 ro");
	ck_assert_int_eq(add(3), 0);
	ck_assert_str_eq(cmdline,
		"console=ttyS0 ro virtio_mmio.device=4K@0xd0000000:5 "
		"virtio_mmio.device=4K@0xd0001000:6 "
		"virtio_mmio.device=4K@0xd0012000:23");
}
END_TEST

START_TEST(no_device_changes_nothing)
{
	set("ro");
	ck_assert_int_eq(add(0), 0);
	ck_assert_str_eq(cmdline, "ro");
}
END_TEST

START_TEST(an_empty_line_gets_no_leading_space)
{
	set("");
	ck_assert_int_eq(add(1), 0);
	ck_assert_str_eq(cmdline, WORD + 1);
}
END_TEST

/* What follows a word "--" is init's. */
START_TEST(words_for_init_stay_behind)
{
	set("ro -- sh -c x--y");
	ck_assert_int_eq(add(1), 0);
	ck_assert_str_eq(cmdline, "ro" WORD " -- sh -c x--y");
	set("-- a");
	ck_assert_int_eq(add(1), 0);
	ck_assert_str_eq(cmdline, "virtio_mmio.device=4K@0xd0000000:5 -- a");
	set("a--b --c ro --");
	ck_assert_int_eq(add(1), 0);
	ck_assert_str_eq(cmdline, "a--b --c ro" WORD " --");
}
END_TEST

START_TEST(a_line_that_just_fits_is_taken_and_one_more_byte_is_not)
{
	size_t room = VM_CMDLINE_MAX - 1 - strlen(WORD);
	char before[VM_CMDLINE_MAX];

	memset(cmdline, 'a', sizeof(cmdline));
	cmdline[room] = '\0';
	ck_assert_int_eq(add(1), 0);
	ck_assert_uint_eq(strlen(cmdline), VM_CMDLINE_MAX - 1);
	ck_assert_str_eq(cmdline + room, WORD);

	memset(cmdline, 'a', sizeof(cmdline));
	cmdline[room + 1] = '\0';
	memcpy(before, cmdline, sizeof(before));
	ck_assert_int_eq(add(1), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.boot_args");
	ck_assert_str_eq(cmdline, before);
}
END_TEST

START_TEST(when_the_second_does_not_fit_the_first_is_taken_back)
{
	size_t room = VM_CMDLINE_MAX - 1 - strlen(WORD);

	memset(cmdline, 'a', sizeof(cmdline));
	cmdline[room] = '\0';
	ck_assert_int_eq(add(3), -EINVAL);
	ck_assert_uint_eq(strlen(cmdline), room);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cmdline");
	TCase *t = tcase_create("virtio");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, each_device_gets_a_word);
	tcase_add_test(t, no_device_changes_nothing);
	tcase_add_test(t, an_empty_line_gets_no_leading_space);
	tcase_add_test(t, words_for_init_stay_behind);
	tcase_add_test(
		t, a_line_that_just_fits_is_taken_and_one_more_byte_is_not);
	tcase_add_test(t, when_the_second_does_not_fit_the_first_is_taken_back);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
