#include "base/cleanup.h"
#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int pair[2];

static void make_pair(void)
{
	ck_assert_int_eq(
		socketpair(AF_UNIX,
			SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
}

static void close_pair(void)
{
	close_fd(&pair[0]);
	close_fd(&pair[1]);
}

START_TEST(pread_full_reads_all_or_says_the_file_is_short)
{
	_cleanup_close_ int fd = memfd_create("t", MFD_CLOEXEC);
	char buf[8] = "";

	ck_assert_int_eq(fd_pwrite_full(fd, "abcdef", 6, 0), 0);
	ck_assert_int_eq(fd_pread_full(fd, buf, 4, 2), 0);
	ck_assert_mem_eq(buf, "cdef", 4);
	ck_assert_int_eq(fd_pread_full(fd, buf, 5, 2), -ENODATA);
	ck_assert_int_eq(fd_pread_full(-1, buf, 1, 0), -EBADF);
}
END_TEST

START_TEST(a_descriptor_arrives_as_the_same_file_and_cloexec)
{
	_cleanup_close_ int sent = memfd_create("t", 0);
	_cleanup_close_ int got = -1;
	struct stat a, b;
	unsigned n;
	char c;

	ck_assert_int_eq(fd_send(pair[0], "x", 1, &sent, 1), 0);
	ck_assert_int_eq(fd_recv(pair[1], &c, 1, &got, 1, &n), 1);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(c, 'x');
	fstat(sent, &a);
	fstat(got, &b);
	ck_assert_uint_eq(a.st_ino, b.st_ino);
	ck_assert_int_eq(fcntl(got, F_GETFD), FD_CLOEXEC);
}
END_TEST

/* What a refused message carried must not stay open: the next free number is
 * the same before and after. */
START_TEST(a_message_that_does_not_fit_leaves_no_descriptor_behind)
{
	int fds[3] = {pair[0], pair[1], pair[0]}, got[2], before, after;
	unsigned n = 77;
	char buf[4];

	before = dup(0);
	close(before);
	ck_assert_int_eq(fd_send(pair[0], "x", 1, fds, 3), 0);
	ck_assert_int_eq(fd_recv(pair[1], buf, 4, got, 2, &n), -EMSGSIZE);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(fd_send(pair[0], "xxxxx", 5, fds, 2), 0);
	ck_assert_int_eq(fd_recv(pair[1], buf, 4, got, 2, &n), -EMSGSIZE);
	after = dup(0);
	close(after);
	ck_assert_int_eq(before, after);
}
END_TEST

START_TEST(an_empty_socket_says_again_and_a_closed_one_ends)
{
	unsigned n;
	char c;

	ck_assert_int_eq(fd_recv(pair[1], &c, 1, NULL, 0, &n), -EAGAIN);
	close_fd(&pair[0]);
	ck_assert_int_eq(fd_recv(pair[1], &c, 1, NULL, 0, &n), 0);
	ck_assert_int_eq(fd_send(pair[1], "x", 1, NULL, 0), -EPIPE);
}
END_TEST

START_TEST(what_is_readable_is_told_at_once)
{
	_cleanup_close_ int e = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	ck_assert(!fd_is_readable(e));
	fd_notify(e);
	ck_assert(fd_is_readable(e));
	ck_assert(!fd_is_readable(-1));
}
END_TEST

START_TEST(notify_adds_one_and_never_blocks)
{
	_cleanup_close_ int e = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t v;

	fd_notify(e);
	fd_notify(e);
	ck_assert_int_eq(read(e, &v, 8), 8);
	ck_assert_uint_eq(v, 2);
	v = UINT64_MAX - 1;
	ck_assert_int_eq(write(e, &v, 8), 8);
	fd_notify(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd");
	TCase *files = tcase_create("files"), *t = tcase_create("passing");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(files, pread_full_reads_all_or_says_the_file_is_short);
	tcase_add_test(files, what_is_readable_is_told_at_once);
	tcase_add_test(files, notify_adds_one_and_never_blocks);
	tcase_add_checked_fixture(t, make_pair, close_pair);
	tcase_add_test(t, a_descriptor_arrives_as_the_same_file_and_cloexec);
	tcase_add_test(
		t, a_message_that_does_not_fit_leaves_no_descriptor_behind);
	tcase_add_test(t, an_empty_socket_says_again_and_a_closed_one_ends);
	suite_add_tcase(s, files);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
