#include "virtio/balloon_pages.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define GPA 0x100000ull
#define PFN(i) ((uint32_t)(GPA / PAGE + (i)))
#define PAGES ((size_t)1024)

/* madvise() as the code under test calls it. */
static unsigned calls;
static int fail_with;

int madvise(void *addr, size_t len, int advice)
{
	ck_assert_int_eq(advice, MADV_DONTNEED);
	calls++;
	if (fail_with) {
		errno = fail_with;
		return -1;
	}
	/* What it does to private anonymous memory. */
	memset(addr, 0, len);
	return 0;
}

static uint8_t *ram, *high;
static struct gmem mem;
static struct balloon_drop drop;

static void setup(void)
{
	uint8_t *all = mmap(NULL, 2 * PAGES * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(all, MAP_FAILED);
	ram = all;
	high = all + (PAGES + 8) * PAGE;
	memset(all, 0x5a, 2 * PAGES * PAGE);
	mem = (struct gmem){.n = 0};
	ck_assert_int_eq(gmem_add(&mem, GPA, ram, PAGES * PAGE), 0);
	/* The highest pages that have numbers. */
	ck_assert_int_eq(
		gmem_add(&mem, (1ull << 44) - 4 * PAGE, high, 4 * PAGE), 0);
	drop = (struct balloon_drop){0};
	calls = 0;
	fail_with = 0;
}

static void teardown(void)
{
	munmap(ram, 2 * PAGES * PAGE);
}

static bool gone(size_t page)
{
	return ram[page * PAGE] == 0 && ram[page * PAGE + PAGE - 1] == 0;
}

/* Exactly those. */
static void check_gone(size_t from, size_t to)
{
	for (size_t i = 0; i < PAGES; i++)
		ck_assert_msg(gone(i) == (i >= from && i < to), "page %zu", i);
}

/* ---- by number ---- */

/* Orders in which a guest may name pages 10 to 13; calls they take. */
static const struct {
	uint32_t pfns[6];
	unsigned n, calls;
} orders[] = {
	{{10, 11, 12, 13}, 4, 1},
	{{13, 12, 11, 10}, 4, 1},
	{{12, 10, 13, 11}, 4, 1},
	{{10, 10, 11, 13, 12, 13}, 6, 1},
};

START_TEST(neighbours_in_any_order_go_at_once)
{
	uint32_t pfns[6];

	for (unsigned i = 0; i < orders[_i].n; i++)
		pfns[i] = PFN(orders[_i].pfns[i]);
	balloon_drop_pfns(&mem, pfns, orders[_i].n, &drop);
	check_gone(10, 14);
	ck_assert_uint_eq(calls, orders[_i].calls);
	ck_assert_uint_eq(drop.pages, orders[_i].n);
	ck_assert_uint_eq(drop.bytes, 4 * PAGE);
	ck_assert_uint_eq(drop.unknown + drop.errors, 0);
}
END_TEST

START_TEST(each_run_is_a_call)
{
	uint32_t pfns[] = {PFN(7), PFN(3), PFN(4), PFN(1)};

	balloon_drop_pfns(&mem, pfns, 4, &drop);
	ck_assert_uint_eq(calls, 3);
	for (size_t i = 0; i < 10; i++)
		ck_assert_int_eq(gone(i), i == 1 || i == 3 || i == 4 || i == 7);
	ck_assert_uint_eq(drop.bytes, 4 * PAGE);
}
END_TEST

START_TEST(pages_outside_memory_are_counted_and_left)
{
	uint32_t pfns[] = {PFN(0) - 1, PFN(PAGES), 0, PFN(PAGES - 1), PFN(0),
		UINT32_MAX - 4, 1u << 31};

	balloon_drop_pfns(&mem, pfns, 7, &drop);
	ck_assert_uint_eq(drop.unknown, 5);
	ck_assert_uint_eq(drop.pages, 2);
	ck_assert_uint_eq(drop.bytes, 2 * PAGE);
	for (size_t i = 0; i < PAGES; i++)
		ck_assert_int_eq(gone(i), i == 0 || i == PAGES - 1);
	ck_assert_uint_eq(ram[PAGES * PAGE], 0x5a);
	ck_assert_uint_eq(high[-1], 0x5a);
}
END_TEST

/* Numbers are shifted as 64 bits. */
START_TEST(the_last_number_is_a_page_and_the_end)
{
	uint32_t pfns[] = {UINT32_MAX, UINT32_MAX - 1};

	balloon_drop_pfns(&mem, pfns, 2, &drop);
	ck_assert_uint_eq(drop.pages, 2);
	ck_assert_uint_eq(calls, 1);
	ck_assert_uint_eq(high[2 * PAGE], 0);
	ck_assert_uint_eq(high[4 * PAGE - 1], 0);
	ck_assert_uint_eq(high[2 * PAGE - 1], 0x5a);
	ck_assert_uint_eq(high[4 * PAGE], 0x5a);
}
END_TEST

START_TEST(a_refused_call_is_counted)
{
	uint32_t pfns[] = {PFN(1), PFN(3)};

	fail_with = EINVAL;
	balloon_drop_pfns(&mem, pfns, 2, &drop);
	ck_assert_uint_eq(drop.errors, 2);
	ck_assert_uint_eq(drop.bytes, 0);
	ck_assert_uint_eq(drop.pages, 2);
}
END_TEST

START_TEST(no_numbers_are_no_call)
{
	uint32_t none = PFN(0);

	balloon_drop_pfns(&mem, &none, 0, &drop);
	ck_assert_uint_eq(calls, 0);
}
END_TEST

/* ---- ranges ---- */

static struct iovec iov[3];
static struct iovs view = {.v = iov};

static void range(unsigned i, size_t from_bytes, size_t len)
{
	iov[i] = (struct iovec){ram + from_bytes, len};
	if (i == 0)
		view.len = 0;
	view.n = i + 1;
	view.len += len;
}

START_TEST(a_range_goes_at_once)
{
	range(0, 3 * PAGE, 100 * PAGE);
	balloon_drop_view(&mem, &view, 0, view.len, &drop);
	check_gone(3, 103);
	ck_assert_uint_eq(calls, 1);
	ck_assert_uint_eq(drop.bytes, 100 * PAGE);
}
END_TEST

/* From and to, in bytes, and the pages that are wholly within. */
static const struct {
	size_t from, to, first, end;
} cuts[] = {
	{1, 3 * PAGE, 1, 3},
	{PAGE - 1, 3 * PAGE, 1, 3},
	{PAGE, 3 * PAGE - 1, 1, 2},
	{PAGE, 3 * PAGE + 1, 1, 3},
	{PAGE + 1, 2 * PAGE - 1, 0, 0},
	{PAGE + 1, 3 * PAGE - 1, 0, 0},
	{PAGE, PAGE + 1, 0, 0},
	{PAGE, 2 * PAGE, 1, 2},
};

START_TEST(pages_cut_by_a_ranges_ends_stay)
{
	range(0, cuts[_i].from, cuts[_i].to - cuts[_i].from);
	balloon_drop_view(&mem, &view, 0, view.len, &drop);
	check_gone(cuts[_i].first, cuts[_i].end);
	ck_assert_uint_eq(drop.bytes, (cuts[_i].end - cuts[_i].first) * PAGE);
	ck_assert_uint_eq(calls, cuts[_i].end > cuts[_i].first);
}
END_TEST

/* A part of three ranges of 4 pages each, at pages 0, 10 and 20. */
static const struct {
	size_t off, len;
	const char *gone;
} parts[] = {
	{0, 12, "####......####......####"},
	{0, 4, "####...................."},
	{0, 5, "####......#............."},
	{3, 2, "...#......#............."},
	{4, 4, "..........####.........."},
	{5, 6, "...........###......###."},
	{8, 4, "....................####"},
	{12, 4, "........................"},
	{11, 4, ".......................#"},
	{4, 0, "........................"},
};

START_TEST(a_part_of_some_ranges_goes)
{
	for (unsigned i = 0; i < 3; i++)
		range(i, 10 * PAGE * i, 4 * PAGE);
	balloon_drop_view(
		&mem, &view, parts[_i].off * PAGE, parts[_i].len * PAGE, &drop);
	for (size_t i = 0; parts[_i].gone[i]; i++)
		ck_assert_msg(
			gone(i) == (parts[_i].gone[i] == '#'), "page %zu", i);
}
END_TEST

START_TEST(huge_pages_stay)
{
	uint32_t pfns[] = {PFN(0), PFN(1)};

	mem.huge = true;
	range(0, 0, PAGES * PAGE);
	balloon_drop_view(&mem, &view, 0, view.len, &drop);
	balloon_drop_pfns(&mem, pfns, 2, &drop);
	check_gone(0, 0);
	ck_assert_uint_eq(calls, 0);
	ck_assert_uint_eq(drop.pages, 2);
	ck_assert_uint_eq(drop.bytes + drop.errors + drop.unknown, 0);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("balloon_pages");
	TCase *p = tcase_create("numbers"), *v = tcase_create("ranges");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(p, setup, teardown);
	tcase_add_loop_test(
		p, neighbours_in_any_order_go_at_once, 0, N(orders));
	tcase_add_test(p, each_run_is_a_call);
	tcase_add_test(p, pages_outside_memory_are_counted_and_left);
	tcase_add_test(p, the_last_number_is_a_page_and_the_end);
	tcase_add_test(p, a_refused_call_is_counted);
	tcase_add_test(p, no_numbers_are_no_call);
	suite_add_tcase(s, p);
	tcase_add_checked_fixture(v, setup, teardown);
	tcase_add_test(v, a_range_goes_at_once);
	tcase_add_loop_test(v, pages_cut_by_a_ranges_ends_stay, 0, N(cuts));
	tcase_add_loop_test(v, a_part_of_some_ranges_goes, 0, N(parts));
	tcase_add_test(v, huge_pages_stay);
	suite_add_tcase(s, v);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
