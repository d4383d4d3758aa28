#include "base/cleanup.h"
#include "vmm/console.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define RING 16u

static struct vm_shared *shared;
static size_t shared_bytes;
static struct console console;
static struct error err;
static int wake_fd;

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
	free(shared);
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
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
