#include "daemon/images.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char dir[32];
static char path[64];
static struct error err;

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/mayfly-images-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	memset(&err, 0, sizeof(err));
}

static void tear_down(void)
{
	unlink(path);
	rmdir(dir);
}

static void make_file(off_t size)
{
	_cleanup_close_ int fd =
		open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_eq(ftruncate(fd, size), 0);
}

static int open_drive(bool read_only, struct drive_image *ret)
{
	struct vm_drive d = {.drive_id = (char *)(uintptr_t) "d",
		.path_on_host = path,
		.is_read_only = read_only};

	return images_open_drive("vm", NULL, &d, ret, &err);
}

START_TEST(a_drives_size_is_whole_sectors)
{
	static const struct {
		off_t file;
		uint64_t drive; /* 0: refused */
	} sizes[] = {{0, 0}, {511, 0}, {512, 512}, {513, 512}, {1023, 512},
		{1024, 1024}, {(1LL << 40) + 7, 1ULL << 40}};
	struct drive_image im = {.fd = -1};

	make_file(sizes[_i].file);
	if (sizes[_i].drive == 0) {
		ck_assert_int_eq(open_drive(true, &im), -EINVAL);
		ck_assert_str_eq(err.field, "drives.path_on_host");
		ck_assert_int_eq(im.fd, -1);
		return;
	}
	ck_assert_int_eq(open_drive(true, &im), 0);
	ck_assert_uint_eq(im.size_bytes, sizes[_i].drive);
	close(im.fd);
}
END_TEST

START_TEST(flags_are_what_the_vm_may_do)
{
	struct drive_image im;
	char buf[1] = "x";
	int flags;

	make_file(1 << 20);
	ck_assert_int_eq(open_drive(true, &im), 0);
	flags = fcntl(im.fd, F_GETFL);
	ck_assert_int_eq(flags & O_ACCMODE, O_RDONLY);
	/* io_uring would fail with -EAGAIN instead of waiting. */
	ck_assert_int_eq(flags & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(im.fd, F_GETFD), FD_CLOEXEC);
	ck_assert_uint_eq(im.direct_align, 0);
	ck_assert_int_eq(write(im.fd, buf, 1), -1);
	close(im.fd);
	ck_assert_int_eq(open_drive(false, &im), 0);
	flags = fcntl(im.fd, F_GETFL);
	ck_assert_int_eq(flags & O_ACCMODE, O_RDWR);
	ck_assert_int_eq(flags & O_NONBLOCK, 0);
	/* Direct where the file system can, with its alignment. */
	ck_assert_int_eq((flags & O_DIRECT) != 0, im.direct_align != 0);
	if (im.direct_align) {
		_cleanup_free_ void *block = NULL;

		ck_assert_uint_ge(im.direct_align, 512);
		ck_assert_int_eq(posix_memalign(&block, im.direct_align,
					 im.direct_align),
			0);
		ck_assert_int_eq(pread(im.fd, block, im.direct_align, 0),
			(ssize_t)im.direct_align);
	}
	close(im.fd);
}
END_TEST

/* Opening it for reading would wait for a writer. */
START_TEST(a_fifo_is_refused_without_being_opened)
{
	struct vm_boot_source b = {.kernel_image_path = path};
	struct drive_image im;
	int kernel, initrd;

	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(open_drive(true, &im), -EINVAL);
	ck_assert_int_eq(open_drive(false, &im), -EINVAL);
	ck_assert_int_eq(
		images_open_boot_source(NULL, &b, &kernel, &initrd, &err),
		-EINVAL);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
}
END_TEST

/* Somebody's lease would make a plain open wait for 45 s. */
START_TEST(a_leased_file_is_refused_at_once)
{
	_cleanup_close_ int holder = -1;
	struct drive_image im;

	make_file(1 << 20);
	signal(SIGIO, SIG_IGN);
	holder = open(path, O_RDONLY | O_CLOEXEC);
	if (fcntl(holder, F_SETLEASE, F_RDLCK) < 0)
		return; /* not on this file system */
	ck_assert_int_eq(open_drive(false, &im), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(err.msg, "leased"));
}
END_TEST

START_TEST(all_or_nothing_leaves_no_descriptor_open)
{
	struct vm_config c;
	struct vm_images im;
	int before, after;

	make_file(1 << 20);
	before = dup(0);
	close(before);
	vm_config_init(&c);
	c.boot_source.kernel_image_path = strdup(path);
	c.n_drives = 2;
	c.drives[0] = (struct vm_drive){
		.drive_id = strdup("a"), .path_on_host = strdup(path)};
	c.drives[1] = (struct vm_drive){
		.drive_id = strdup("b"), .path_on_host = strdup("/no/such")};
	vm_images_init(&im);
	ck_assert_int_eq(images_open_all("vm", &c, &im, &err), -ENOENT);
	vm_images_close(&im);
	after = dup(0);
	close(after);
	ck_assert_int_eq(before, after);
	vm_config_fini(&c);
}
END_TEST

static int open_pmem(bool read_only, struct pmem_image *ret)
{
	struct vm_pmem p = {.id = (char *)(uintptr_t) "p",
		.path_on_host = path,
		.read_only = read_only};

	return images_open_pmem(NULL, &p, ret, &err);
}

START_TEST(a_pmem_file_has_any_size_but_none)
{
	struct pmem_image im = {.fd = -1};

	make_file(0);
	ck_assert_int_eq(open_pmem(false, &im), -EINVAL);
	ck_assert_str_eq(err.field, "pmem.path_on_host");
	make_file((2 << 20) + 1);
	ck_assert_int_eq(open_pmem(false, &im), 0);
	ck_assert_uint_eq(im.file_bytes, (2 << 20) + 1);
	/* Through the page cache, and waiting for the disk. */
	ck_assert_int_eq(
		fcntl(im.fd, F_GETFL) & (O_ACCMODE | O_DIRECT | O_NONBLOCK),
		O_RDWR);
	close(im.fd);
	ck_assert_int_eq(open_pmem(true, &im), 0);
	ck_assert_int_eq(fcntl(im.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(im.fd);
}
END_TEST

START_TEST(a_pmem_file_is_measured_again)
{
	struct vm_pmem p = {.path_on_host = path};
	struct pmem_image im = {.fd = -1};

	make_file(1);
	ck_assert_int_eq(open_pmem(false, &im), 0);
	ck_assert_int_eq(ftruncate(im.fd, 12345), 0);
	ck_assert_int_eq(images_measure_pmem(&p, &im, &err), 0);
	ck_assert_uint_eq(im.file_bytes, 12345);
	ck_assert_int_eq(ftruncate(im.fd, 0), 0);
	ck_assert_int_eq(images_measure_pmem(&p, &im, &err), -EINVAL);
	close(im.fd);
}
END_TEST

START_TEST(a_pmem_file_is_no_directory)
{
	struct pmem_image im = {.fd = -1};

	snprintf(path, sizeof(path), "%s", dir);
	ck_assert_int_eq(open_pmem(false, &im), -EISDIR);
	snprintf(path, sizeof(path), "%s/file", dir);
}
END_TEST

START_TEST(a_drive_tells_what_its_storage_likes_to_write)
{
	struct drive_image im = {.fd = -1};

	make_file(4096);
	ck_assert_int_eq(open_drive(false, &im), 0);
	ck_assert_uint_ge(im.block_bytes, 512);
	ck_assert_uint_le(im.block_bytes, 65536);
	ck_assert_uint_eq(im.block_bytes & (im.block_bytes - 1), 0);
	close(im.fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("images");
	TCase *t = tcase_create("open");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, a_drives_size_is_whole_sectors, 0, 7);
	tcase_add_test(t, flags_are_what_the_vm_may_do);
	tcase_add_test(t, a_fifo_is_refused_without_being_opened);
	tcase_add_test(t, a_leased_file_is_refused_at_once);
	tcase_add_test(t, all_or_nothing_leaves_no_descriptor_open);
	tcase_add_test(t, a_pmem_file_has_any_size_but_none);
	tcase_add_test(t, a_pmem_file_is_measured_again);
	tcase_add_test(t, a_pmem_file_is_no_directory);
	tcase_add_test(t, a_drive_tells_what_its_storage_likes_to_write);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
