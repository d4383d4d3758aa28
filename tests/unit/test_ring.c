#include "daemon/ring.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CAPACITY 16u
#define PAGE 4096u

static struct ring ring;
static uint64_t pos;
static char buf[3 * PAGE];

/* One page for the ring, and none behind it. */
static void set_up(void)
{
	size_t size = sizeof(struct vm_shared) + PAGE;
	char *p = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(mprotect(p + size, PAGE, PROT_NONE), 0);
	ring.shared = (struct vm_shared *)p;
	ring.capacity = CAPACITY;
	/* Some tests notice each touch. */
	memset(ring.backed, 0xff, sizeof(ring.backed));
	/* A lie: the ring is as long as we made it. */
	ring.shared->console_bytes = UINT32_MAX;
	pos = 0;
}

static void tear_down(void)
{
	munmap(ring.shared, sizeof(struct vm_shared) + 2 * (size_t)PAGE);
}

/* What a well-behaved VM does. */
static void print(const char *s)
{
	uint64_t head = ring.shared->console_head;

	for (; *s; s++)
		ring.shared->console[head++ % CAPACITY] = (uint8_t)*s;
	ring.shared->console_head = head;
}

static const char *read_all(size_t size)
{
	size_t n = ring_read(&ring, &pos, buf, size);

	buf[n] = '\0';
	return buf;
}

START_TEST(bytes_come_in_order_and_once)
{
	ck_assert_str_eq(read_all(32), "");
	print("hello");
	ck_assert_str_eq(read_all(3), "hel");
	ck_assert_str_eq(read_all(32), "lo");
	ck_assert_str_eq(read_all(32), "");
	print("!");
	ck_assert_str_eq(read_all(32), "!");
}
END_TEST

START_TEST(reading_goes_around_the_end)
{
	print("0123456789");
	read_all(32);
	print("abcdefghij");
	ck_assert_str_eq(read_all(32), "abcdefghij");
	ck_assert_uint_eq(pos, 20);
}
END_TEST

START_TEST(who_is_late_gets_what_is_left)
{
	print("0123456789abcdefghij");
	/* The oldest place may be written at this moment: 15 of 16. */
	ck_assert_str_eq(read_all(32), "56789abcdefghij");
	ck_assert_uint_eq(ring_oldest(&ring, ring_head(&ring)), 5);
}
END_TEST

START_TEST(a_ring_that_is_not_there_is_empty)
{
	struct ring none = {.capacity = CAPACITY};

	ck_assert_uint_eq(ring_head(&none), 0);
	ck_assert_uint_eq(ring_read(&none, &pos, buf, 8), 0);
}
END_TEST

static const uint64_t heads[] = {UINT64_MAX, UINT64_MAX - 1, 1ull << 63,
	(1ull << 63) - 1, CAPACITY, CAPACITY - 1, CAPACITY + 1, 1, 0,
	1ull << 32, 0xfffffff1, PAGE, PAGE - 1, PAGE + 1, 3ull * PAGE};

START_TEST(whatever_the_head_says_reads_stay_in_the_ring)
{
	/* The ring ends where the page does: a read beyond it faults. */
	ring.capacity = PAGE;
	/* A position of each kind, too. */
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		size_t n;

		ring.shared->console_head = heads[_i];
		pos = heads[i];
		n = ring_read(&ring, &pos, buf, sizeof(buf));
		ck_assert_uint_le(n, PAGE - 1);
		ck_assert_uint_le(
			pos, heads[_i] > heads[i] ? heads[_i] : heads[i]);
	}
}
END_TEST

START_TEST(a_head_that_moves_back_brings_nothing)
{
	print("0123456789");
	read_all(32);
	ring.shared->console_head = 3;
	ck_assert_str_eq(read_all(32), "");
	ck_assert_uint_eq(pos, 10);
}
END_TEST

static const char *printed_meanwhile;

/* The reader has seen the head and touches its first byte: now the VM prints,
 * and then the copy goes on. */
static void on_fault(int sig)
{
	(void)sig;
	mprotect(ring.shared->console, PAGE, PROT_READ | PROT_WRITE);
	print(printed_meanwhile);
}

static void print_during_next_read(const char *s)
{
	struct sigaction act = {.sa_handler = on_fault};

	printed_meanwhile = s;
	sigaction(SIGSEGV, &act, NULL);
	mprotect(ring.shared->console, PAGE, PROT_NONE);
}

START_TEST(what_is_overwritten_meanwhile_is_never_handed_out)
{
	print("0123456789");
	print_during_next_read("abcdefghij");
	/* 20 printed; the oldest that may be read is number 5. */
	ck_assert_str_eq(read_all(32), "56789");
	ck_assert_str_eq(read_all(32), "abcdefghij");
	signal(SIGSEGV, SIG_DFL);
}
END_TEST

START_TEST(what_is_overwritten_whole_is_read_anew)
{
	print("0123456789");
	print_during_next_read("abcdefghijklmnopqrstuvwxyz");
	ck_assert_str_eq(read_all(32), "lmnopqrstuvwxyz");
	signal(SIGSEGV, SIG_DFL);
}
END_TEST

START_TEST(what_comes_meanwhile_and_overwrites_nothing_waits)
{
	print("01234");
	print_during_next_read("abc");
	ck_assert_str_eq(read_all(32), "01234");
	ck_assert_str_eq(read_all(32), "abc");
	signal(SIGSEGV, SIG_DFL);
}
END_TEST

/* A VM that lies about its head, in a file that has no room for it. */
START_TEST(what_has_no_memory_reads_as_zeroes)
{
	int fd = memfd_create("ring", MFD_CLOEXEC);
	size_t size = sizeof(struct vm_shared) + 2 * (size_t)PAGE;
	struct ring first = ring;
	void *p;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(
		ftruncate(fd, (off_t)sizeof(struct vm_shared) + PAGE), 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	close(fd);
	ring = (struct ring){.shared = p, .capacity = 2 * PAGE};
	ring.shared->console_head = PAGE + 5;
	ring.shared->console[0] = 'a';
	pos = 0;
	ck_assert_uint_eq(ring_read(&ring, &pos, buf, 10), 10);
	ck_assert_int_eq(buf[0], 'a');
	pos = PAGE - 5;
	memset(buf, 'x', 10);
	ck_assert_uint_eq(ring_read(&ring, &pos, buf, 10), 10);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_eq(buf[i], 0);
	/* Once there is memory it is read. */
	ck_assert_uint_ne(ring.backed[0] & 1, 0);
	ck_assert_uint_eq(ring.backed[0] & 2, 0);
	munmap(p, size);
	ring = first;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring");
	TCase *t = tcase_create("read");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, bytes_come_in_order_and_once);
	tcase_add_test(t, reading_goes_around_the_end);
	tcase_add_test(t, who_is_late_gets_what_is_left);
	tcase_add_test(t, a_ring_that_is_not_there_is_empty);
	tcase_add_loop_test(t, whatever_the_head_says_reads_stay_in_the_ring, 0,
		sizeof(heads) / sizeof(heads[0]));
	tcase_add_test(t, a_head_that_moves_back_brings_nothing);
	tcase_add_test(t, what_is_overwritten_meanwhile_is_never_handed_out);
	tcase_add_test(t, what_is_overwritten_whole_is_read_anew);
	tcase_add_test(t, what_comes_meanwhile_and_overwrites_nothing_waits);
	tcase_add_test(t, what_has_no_memory_reads_as_zeroes);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
