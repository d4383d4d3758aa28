#include "base/cleanup.h"
#include "vmm/console.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define RING 16u

static struct vm_shared *shared;
static size_t shared_bytes;
static struct console console;
static struct error err;
static int wake_fd;

/* Another ring, in a file, as the daemon makes it. */
#define PAGE ((size_t)4096)
#define FILE_RING (8 * PAGE)

static int file_fd = -1;
static struct vm_shared *in_file;

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	shared_bytes = sizeof(*shared) + RING;
	/* Rounded up, as aligned_alloc() wants it. */
	shared = aligned_alloc(4096, (shared_bytes + 4095) & ~4095ul);
	memset(shared, 0, shared_bytes);
	shared->console_bytes = RING;
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(
		console_init(&console, shared, shared_bytes, wake_fd, &err), 0);
}

static void teardown(void)
{
	close_fd(&wake_fd);
	close_fd(&file_fd);
	if (in_file)
		munmap(in_file, shared_bytes);
	else
		free(shared);
	in_file = NULL;
}

static void say(const char *text)
{
	console_write(&console, (const uint8_t *)text, strlen(text));
}

static uint64_t wakes(void)
{
	uint64_t v = 0;

	return read(wake_fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

START_TEST(bytes_appear_in_order_and_are_counted)
{
	say("hello ");
	say("world");
	ck_assert_uint_eq(shared->console_head, 11);
	ck_assert_mem_eq(shared->console, "hello world\0", 12);
}
END_TEST

START_TEST(the_ring_goes_around_and_the_count_goes_on)
{
	say("0123456789abcdef");
	ck_assert_uint_eq(shared->console_head, 16);
	say("XY");
	ck_assert_uint_eq(shared->console_head, 18);
	ck_assert_mem_eq(shared->console, "XY23456789abcdef", 16);
}
END_TEST

START_TEST(a_text_longer_than_the_ring_leaves_its_end)
{
	say("................................tail of a long text");
	ck_assert_uint_eq(shared->console_head, 51);
	for (unsigned i = 35; i < 51; i++)
		ck_assert_int_eq(shared->console[i % RING],
			"................................tail of a long text"
				[i]);
}
END_TEST

/* The head in shared memory is ours to tell, not to believe. */
START_TEST(a_head_changed_by_the_other_side_is_not_read_back)
{
	say("ab");
	shared->console_head = UINT64_MAX;
	say("c");
	ck_assert_uint_eq(shared->console_head, 3);
	ck_assert_mem_eq(shared->console, "abc", 3);
}
END_TEST

START_TEST(a_reader_is_woken_once_for_each_time_it_asked)
{
	say("a");
	ck_assert_uint_eq(wakes(), 0);
	shared->wake = 1;
	say("bcd");
	ck_assert_uint_eq(shared->wake, 0);
	say("e");
	ck_assert_uint_eq(wakes(), 1);
	shared->wake = 1;
	say("");
	ck_assert_uint_eq(wakes(), 0);
	say("f");
	ck_assert_uint_eq(wakes(), 1);
}
END_TEST

static void *say_much(void *arg)
{
	for (unsigned i = 0; i < 50000; i++)
		say(arg);
	return arg;
}

START_TEST(two_writers_at_once_lose_nothing)
{
	static char text[] = "abcdefg";
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, say_much, text), 0);
	say_much(text);
	pthread_join(t, NULL);
	ck_assert_uint_eq(shared->console_head, 2 * 50000ull * 7);
}
END_TEST

/* A console on that file: no page of its ring is there yet. */
static void use_file(int fd)
{
	ck_assert_int_ge(fd, 0);
	file_fd = fd;
	free(shared);
	shared = NULL;
	shared_bytes = sizeof(*shared) + FILE_RING;
	ck_assert_int_eq(ftruncate(fd, (off_t)shared_bytes), 0);
	ck_assert_int_eq(posix_fallocate(fd, 0, sizeof(*shared)), 0);
	in_file = mmap(
		NULL, shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(in_file, MAP_FAILED);
	shared = in_file;
	shared->console_bytes = FILE_RING;
	ck_assert_int_eq(
		console_init(&console, shared, shared_bytes, wake_fd, &err), 0);
}

/* How many pages of the ring the file has. */
static uint64_t pages(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(file_fd, &st), 0);
	return ((uint64_t)st.st_blocks * 512 - sizeof(*shared)) / PAGE;
}

static void say_n(size_t n)
{
	static char text[FILE_RING];

	memset(text, 'x', sizeof(text));
	console_write(&console, (const uint8_t *)text, n);
}

START_TEST(a_page_of_the_ring_is_there_once_it_is_used)
{
	use_file(memfd_create("ring", MFD_CLOEXEC));
	ck_assert_uint_eq(pages(), 0);
	say("a");
	ck_assert_uint_eq(pages(), 1);
	say_n(PAGE - 1);
	ck_assert_uint_eq(pages(), 1);
	say("b");
	ck_assert_uint_eq(pages(), 2);
	say_n(3 * PAGE);
	ck_assert_uint_eq(pages(), 5);
	say_n(3 * PAGE);
	ck_assert_uint_eq(pages(), 8);
	say_n(FILE_RING);
	ck_assert_uint_eq(shared->console_head, 7 * PAGE + 1 + FILE_RING);
	ck_assert_uint_eq(pages(), 8);
}
END_TEST

/* What lies behind the end of a file can no more be had than what its file
 * system has no room for. */
START_TEST(bytes_without_a_page_are_lost_and_nothing_else)
{
	off_t cut = (off_t)(sizeof(*shared) + 2 * PAGE);

	use_file(memfd_create("ring", MFD_CLOEXEC));
	ck_assert_int_eq(ftruncate(file_fd, cut), 0);
	shared->wake = 1;
	say_n(3 * PAGE);
	ck_assert_uint_eq(shared->console_head, 2 * PAGE);
	ck_assert_uint_eq(wakes(), 1);
	say("more");
	ck_assert_uint_eq(shared->console_head, 2 * PAGE);
	/* What comes when there is room is there. */
	ck_assert_int_eq(ftruncate(file_fd, (off_t)shared_bytes), 0);
	say("hello");
	ck_assert_uint_eq(shared->console_head, 2 * PAGE + 5);
	ck_assert_mem_eq(shared->console + 2 * PAGE, "hello", 6);
}
END_TEST

/* A file system of so many pages, which nobody else sees. */
static int small_tmpfs(unsigned n_pages)
{
	_cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char size[32];

	ck_assert_int_ge(fs, 0);
	(void)snprintf(size, sizeof(size), "%zu", n_pages * PAGE);
	ck_assert_int_eq(fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0), 0);
	ck_assert_int_eq(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), 0);
	return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

START_TEST(a_full_file_system_costs_output_and_no_signal)
{
	const unsigned header = (unsigned)(sizeof(*shared) / PAGE);
	_cleanup_close_ int root = small_tmpfs(header + 3);
	_cleanup_close_ int other = -1;

	ck_assert_int_ge(root, 0);
	other = openat(root, "other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(posix_fallocate(other, 0, PAGE), 0);
	use_file(openat(root, "ring", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	say_n(FILE_RING);
	ck_assert_uint_eq(shared->console_head, 2 * PAGE);
	say("more");
	ck_assert_uint_eq(shared->console_head, 2 * PAGE);
	ck_assert_int_eq(ftruncate(other, 0), 0);
	say("hello");
	ck_assert_uint_eq(shared->console_head, 2 * PAGE + 5);
	say_n(PAGE);
	ck_assert_uint_eq(shared->console_head, 3 * PAGE);
}
END_TEST

static const struct {
	uint32_t ring;
	int off; /* mapping's size less header and ring */
	int want;
} sizes[] = {
	{RING, 0, 0},
	{1, 0, 0},
	{RING, -1, -EPROTO},
	{0, 0, -EPROTO},
	{12, 4, -EPROTO},
	{1u << 31, -(1 << 30), -EPROTO},
};

START_TEST(only_a_ring_that_fits_and_is_a_power_of_two_is_taken)
{
	shared->console_bytes = sizes[_i].ring;
	ck_assert_int_eq(console_init(&console, shared,
				 sizeof(*shared) + sizes[_i].ring +
					 (size_t)(ssize_t)sizes[_i].off,
				 wake_fd, &err),
		sizes[_i].want);
}
END_TEST

START_TEST(a_mapping_smaller_than_the_header_is_refused)
{
	ck_assert_int_eq(console_init(&console, shared, sizeof(*shared) - 1,
				 wake_fd, &err),
		-EPROTO);
	ck_assert_int_eq(
		console_init(&console, shared, sizeof(*shared), wake_fd, &err),
		-EPROTO);
	ck_assert_int_eq(
		console_init(&console, shared, 0, wake_fd, &err), -EPROTO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("console");
	TCase *t = tcase_create("ring");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, bytes_appear_in_order_and_are_counted);
	tcase_add_test(t, the_ring_goes_around_and_the_count_goes_on);
	tcase_add_test(t, a_text_longer_than_the_ring_leaves_its_end);
	tcase_add_test(t, a_head_changed_by_the_other_side_is_not_read_back);
	tcase_add_test(t, a_reader_is_woken_once_for_each_time_it_asked);
	tcase_add_test(t, two_writers_at_once_lose_nothing);
	tcase_add_loop_test(t,
		only_a_ring_that_fits_and_is_a_power_of_two_is_taken, 0,
		sizeof(sizes) / sizeof(sizes[0]));
	tcase_add_test(t, a_mapping_smaller_than_the_header_is_refused);
	tcase_add_test(t, a_page_of_the_ring_is_there_once_it_is_used);
	tcase_add_test(t, bytes_without_a_page_are_lost_and_nothing_else);
	if (geteuid() == 0) /* who may mount */
		tcase_add_test(
			t, a_full_file_system_costs_output_and_no_signal);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
