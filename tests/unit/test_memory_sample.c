#include "daemon/memory_sample.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD "55bc0bdbd000-7ffef7b15000 ---p 00000000 00:00 0  [rollup]\n"

START_TEST(huge_pages_count_and_what_is_swapped_was_touched)
{
	struct memory_sample m;

	ck_assert_int_eq(memory_sample_parse(HEAD "Rss:              2000 kB\n"
						  "Pss:               400 kB\n"
						  "Pss_Anon:            1 kB\n"
						  "Anonymous:         300 kB\n"
						  "Shared_Hugetlb:   2048 kB\n"
						  "Private_Hugetlb: 40960 kB\n"
						  "Swap:             7000 kB\n"
						  "SwapPss:             5 kB\n",
				 &m),
		0);
	ck_assert_uint_eq(m.pss_bytes, (400 + 2048 + 40960) << 10);
	ck_assert_uint_eq(m.anonymous_bytes, (300 + 2048 + 40960 + 7000) << 10);
}
END_TEST

START_TEST(lines_a_kernel_does_not_have_are_not_missed)
{
	struct memory_sample m;

	ck_assert_int_eq(
		memory_sample_parse(HEAD "Pss:  4 kB\nAnonymous:  3 kB\n", &m),
		0);
	ck_assert_uint_eq(m.pss_bytes, 4096);
	ck_assert_uint_eq(m.anonymous_bytes, 3072);
}
END_TEST

static const char *const not_it[] = {
	"",
	HEAD,
	HEAD "Pss:  4 kB\n",
	HEAD "Anonymous:  4 kB\n",
	HEAD "Anonymous:  4 kB\nxPss:  4 kB\n",
	HEAD "Anonymous:  4 kB\nPss  4 kB\n",
};

START_TEST(what_is_not_one_is_refused)
{
	struct memory_sample m;

	ck_assert_int_eq(memory_sample_parse(not_it[_i], &m), -EPROTO);
}
END_TEST

START_TEST(an_empty_file_is_not_one)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct memory_sample m;

	errno = 0;
	ck_assert_int_eq(memory_sample_read(fd, &m), -EPROTO);
	close(fd);
}
END_TEST

START_TEST(what_a_process_touches_is_seen)
{
	const size_t size = (size_t)32 << 20;
	struct memory_sample before, after;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	char *p;

	ck_assert_int_eq(memory_sample_read(fd, &before), 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, size / 2);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(memory_sample_read(fd, &after), 0);
	/* The share of its libraries goes down when another maps them, too. */
	ck_assert_uint_ge(after.pss_bytes, before.pss_bytes + size / 4);
	ck_assert_uint_ge(
		after.anonymous_bytes, before.anonymous_bytes + size / 2);
	ck_assert_uint_lt(after.anonymous_bytes, before.anonymous_bytes + size);
	close(fd);
	ck_assert_int_eq(memory_sample_read(fd, &after), -EBADF);
	munmap(p, size);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory_sample");
	TCase *t = tcase_create("memory_sample");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, huge_pages_count_and_what_is_swapped_was_touched);
	tcase_add_test(t, lines_a_kernel_does_not_have_are_not_missed);
	tcase_add_loop_test(t, what_is_not_one_is_refused, 0,
		sizeof(not_it) / sizeof(not_it[0]));
	tcase_add_test(t, an_empty_file_is_not_one);
	tcase_add_test(t, what_a_process_touches_is_seen);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
