#include "virtio/balloon_stats.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY ((size_t)10)
#define ENTRIES 70u

static struct balloon_state state;
static uint8_t buf[ENTRIES * ENTRY];

static void setup(void)
{
	memset(&state, 0, sizeof(state));
	balloon_stats_clear(&state);
}

static void entry(unsigned i, uint16_t tag, uint64_t value)
{
	memcpy(buf + i * ENTRY, &tag, 2);
	memcpy(buf + i * ENTRY + 2, &value, 8);
}

/* In pieces of at most `piece` bytes. */
static int take(size_t bytes, size_t piece)
{
	struct iovec iov[ENTRIES * ENTRY];
	struct iovs from = {.v = iov, .len = bytes};

	for (size_t off = 0; off < bytes; off += piece)
		iov[from.n++] = (struct iovec){
			buf + off, bytes - off < piece ? bytes - off : piece};
	return balloon_stats_take(&state, &from);
}

START_TEST(nothing_is_told_at_first)
{
	for (unsigned i = 0; i < BALLOON_STATS_MAX; i++)
		ck_assert_uint_eq(state.stats[i], UINT64_MAX);
	ck_assert_uint_eq(state.stats_updates, 0);
}
END_TEST

START_TEST(each_tag_has_its_place)
{
	for (unsigned i = 0; i < BALLOON_STATS_MAX; i++)
		entry(i, (uint16_t)(BALLOON_STATS_MAX - 1 - i),
			0x0102030405060708ull * i);
	ck_assert_int_eq(take(BALLOON_STATS_MAX * ENTRY, 1000), 0);
	for (unsigned i = 0; i < BALLOON_STATS_MAX; i++)
		ck_assert_uint_eq(state.stats[BALLOON_STATS_MAX - 1 - i],
			0x0102030405060708ull * i);
	ck_assert_uint_eq(state.stats_updates, 1);
}
END_TEST

START_TEST(tags_to_come_are_passed_over)
{
	struct balloon_state before;

	entry(0, BALLOON_STATS_MAX, 1);
	entry(1, UINT16_MAX, 2);
	entry(2, 5, 3);
	before = state;
	ck_assert_int_eq(take(3 * ENTRY, 1000), 0);
	before.stats[5] = 3;
	before.stats_updates = 1;
	ck_assert_mem_eq(&state, &before, sizeof(state));
}
END_TEST

START_TEST(what_is_not_told_any_more_is_not_known)
{
	entry(0, 4, 44);
	entry(1, 5, 55);
	take(2 * ENTRY, 1000);
	entry(0, 5, 56);
	take(ENTRY, 1000);
	ck_assert_uint_eq(state.stats[4], UINT64_MAX);
	ck_assert_uint_eq(state.stats[5], 56);
	ck_assert_uint_eq(state.stats_updates, 2);
}
END_TEST

static const size_t pieces[] = {1, 2, 3, 9, 10, 11};

START_TEST(entries_may_be_cut_anywhere)
{
	entry(0, 1, 11);
	entry(1, 2, 22);
	entry(2, 3, 33);
	ck_assert_int_eq(take(3 * ENTRY, pieces[_i]), 0);
	for (unsigned i = 1; i <= 3; i++)
		ck_assert_uint_eq(state.stats[i], i * 11ull);
}
END_TEST

static const size_t short_ones[] = {0, 1, 9};

START_TEST(less_than_an_entry_is_none)
{
	struct balloon_state before = state;

	entry(0, 1, 11);
	ck_assert_int_eq(take(short_ones[_i], 1000), -EPROTO);
	ck_assert_mem_eq(&state, &before, sizeof(state));
}
END_TEST

START_TEST(half_an_entry_at_the_end_is_ignored)
{
	entry(0, 1, 11);
	entry(1, 2, 22);
	ck_assert_int_eq(take(2 * ENTRY - 1, 1000), 0);
	ck_assert_uint_eq(state.stats[1], 11);
	ck_assert_uint_eq(state.stats[2], UINT64_MAX);
}
END_TEST

START_TEST(a_buffer_is_read_no_further_than_64_entries)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		entry(i, 1, i);
	ck_assert_int_eq(take(sizeof(buf), 1000), 0);
	ck_assert_uint_eq(state.stats[1], 63);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("balloon_stats");
	TCase *t = tcase_create("stats");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, nothing_is_told_at_first);
	tcase_add_test(t, each_tag_has_its_place);
	tcase_add_test(t, tags_to_come_are_passed_over);
	tcase_add_test(t, what_is_not_told_any_more_is_not_known);
	tcase_add_loop_test(t, entries_may_be_cut_anywhere, 0, N(pieces));
	tcase_add_loop_test(t, less_than_an_entry_is_none, 0, N(short_ones));
	tcase_add_test(t, half_an_entry_at_the_end_is_ignored);
	tcase_add_test(t, a_buffer_is_read_no_further_than_64_entries);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
