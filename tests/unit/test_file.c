#include "base/cleanup.h"
#include "base/file.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char dir[32], path[64], buf[16];

static const char *in(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	_cleanup_fclose_ FILE *f = fopen(in(name), "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
}

static void set_up(void)
{
	strcpy(dir, "/tmp/file-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mkdir(in("root"), 0755), 0);
	memset(buf, 'x', sizeof(buf));
}

static void tear_down(void)
{
	static const char *const names[] = {"root/made", "root/etc/there",
		"root/etc", "root/link", "root/up", "root", "there", ""};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		remove(in(names[i]));
}

/* Whatever happens, buf is a string. */
static int read_text(int dir_fd, const char *name, size_t size)
{
	int r = file_read_text(dir_fd, name, buf, size);

	ck_assert_ptr_nonnull(memchr(buf, '\0', size));
	return r;
}

START_TEST(a_file_is_read_as_far_as_there_is_room)
{
	_cleanup_close_ int dir_fd = -1;

	put("there", "0123456789");
	ck_assert_int_eq(read_text(AT_FDCWD, in("there"), sizeof(buf)), 0);
	ck_assert_str_eq(buf, "0123456789");
	ck_assert_int_eq(read_text(AT_FDCWD, in("there"), 5), 0);
	ck_assert_str_eq(buf, "0123");
	dir_fd = open(dir, O_PATH | O_CLOEXEC);
	ck_assert_int_eq(read_text(dir_fd, "there", sizeof(buf)), 0);
	ck_assert_str_eq(buf, "0123456789");
	put("there", "");
	ck_assert_int_eq(read_text(dir_fd, "there", sizeof(buf)), 0);
	ck_assert_str_eq(buf, "");
}
END_TEST

START_TEST(what_cannot_be_read_is_empty)
{
	ck_assert_int_eq(
		read_text(AT_FDCWD, in("there"), sizeof(buf)), -ENOENT);
	ck_assert_str_eq(buf, "");
	buf[0] = 'x';
	ck_assert_int_eq(read_text(AT_FDCWD, dir, sizeof(buf)), -EISDIR);
	ck_assert_str_eq(buf, "");
}
END_TEST

static void assert_reads(int fd, const char *text)
{
	_cleanup_close_ int owned = fd;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	memset(buf, 0, sizeof(buf));
	ck_assert_int_eq(read(owned, buf, sizeof(buf)), strlen(text));
	ck_assert_str_eq(buf, text);
}

/* ... by whatever name. */
START_TEST(the_root_is_all_there_is)
{
	static const char *const names[] = {"etc/there", "/etc/there",
		"../etc/there", "/../../etc/./there", "link", "up"};
	char root[40];

	snprintf(root, sizeof(root), "%s/root", dir);
	ck_assert_int_eq(mkdir(in("root/etc"), 0755), 0);
	put("root/etc/there", "inner");
	put("there", "outer");
	ck_assert_int_eq(symlink("/etc/there", in("root/link")), 0);
	ck_assert_int_eq(symlink("../etc/there", in("root/up")), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_reads(
			file_open_below(root, names[i], O_RDONLY, 0), "inner");
	ck_assert_int_eq(
		file_open_below(root, "../there", O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(
		file_open_below(root, "link", O_RDONLY | O_NOFOLLOW, 0),
		-ELOOP);
	ck_assert_int_eq(
		file_open_below(in("there"), "x", O_RDONLY, 0), -ENOTDIR);
}
END_TEST

START_TEST(what_is_made_below_a_root_has_its_mode)
{
	char root[40];
	struct stat st;
	int fd;

	snprintf(root, sizeof(root), "%s/root", dir);
	fd = file_open_below(root, "/made", O_WRONLY | O_CREAT | O_EXCL, 0640);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(stat(in("root/made"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("file");
	TCase *t = tcase_create("file");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_file_is_read_as_far_as_there_is_room);
	tcase_add_test(t, what_cannot_be_read_is_empty);
	tcase_add_test(t, the_root_is_all_there_is);
	tcase_add_test(t, what_is_made_below_a_root_has_its_mode);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
