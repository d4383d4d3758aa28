#include "virtio/iovs.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * Pieces of these lengths, one of them empty, in memory that goes on behind
 * each. Byte number i of the view has the value i.
 */
static const size_t lens[] = {3, 1, 0, 5, 7};
#define N_PIECES 5
#define LEN 16u
#define GAP 8u

static uint8_t mem[N_PIECES][16];
/* One more than the view has: a decoy of valid memory. */
static struct iovec pieces[N_PIECES + 1];
static struct iovs view;

static void make_view(void)
{
	uint8_t value = 0;

	memset(mem, 0xee, sizeof(mem));
	for (unsigned i = 0; i < N_PIECES; i++) {
		pieces[i] = (struct iovec){mem[i], lens[i]};
		for (size_t k = 0; k < lens[i]; k++)
			mem[i][k] = value++;
	}
	pieces[N_PIECES] = (struct iovec){mem[0] + GAP, GAP};
	view = (struct iovs){pieces, N_PIECES, LEN};
}

START_TEST(read_copies_every_range)
{
	uint8_t buf[LEN + 1];

	for (size_t off = 0; off <= LEN; off++) {
		for (size_t n = 0; off + n <= LEN; n++) {
			memset(buf, 0xaa, sizeof(buf));
			ck_assert_int_eq(iovs_read(&view, off, buf, n), 0);
			for (size_t i = 0; i < n; i++)
				ck_assert_uint_eq(buf[i], off + i);
			ck_assert_uint_eq(buf[n], 0xaa);
		}
	}
}
END_TEST

START_TEST(write_changes_every_range_and_nothing_else)
{
	uint8_t in[LEN], out[LEN];

	memset(in, 0x77, sizeof(in));
	for (size_t off = 0; off <= LEN; off++) {
		for (size_t n = 0; off + n <= LEN; n++) {
			make_view();
			ck_assert_int_eq(iovs_write(&view, off, in, n), 0);
			iovs_read(&view, 0, out, LEN);
			for (size_t i = 0; i < LEN; i++)
				ck_assert_uint_eq(out[i],
					i >= off && i < off + n ? 0x77 : i);
			for (unsigned i = 0; i < N_PIECES; i++)
				ck_assert_uint_eq(mem[i][lens[i]], 0xee);
		}
	}
}
END_TEST

static const struct {
	size_t off, n;
} outside[] = {
	{0, LEN + 1},
	{1, LEN},
	{LEN, 1},
	{LEN + 1, 0},
	{LEN + 1, 1},
	{LEN + 1, SIZE_MAX}, /* their sum is LEN again */
	{1, SIZE_MAX},
	{SIZE_MAX, 1},
	{SIZE_MAX, 2},
	{SIZE_MAX, 0},
};

START_TEST(what_is_outside_is_refused_and_nothing_copied)
{
	uint8_t buf[64];
	struct iovec ret[N_PIECES];
	size_t off = outside[_i].off, n = outside[_i].n;

	memset(buf, 0xaa, sizeof(buf));
	ck_assert_int_eq(iovs_read(&view, off, buf, n), -EFAULT);
	ck_assert_uint_eq(buf[0], 0xaa);
	ck_assert_int_eq(iovs_write(&view, off, buf, n), -EFAULT);
	ck_assert_uint_eq(mem[0][0], 0);
	ck_assert_uint_eq(mem[4][0], 9);
	ck_assert_uint_eq(mem[0][GAP], 0xee);
	ck_assert_int_eq(iovs_slice(&view, off, n, ret, N_PIECES), -EFAULT);
}
END_TEST

START_TEST(slice_is_the_range)
{
	struct iovec ret[N_PIECES];
	uint8_t buf[LEN];

	for (size_t off = 0; off <= LEN; off++) {
		for (size_t n = 0; off + n <= LEN; n++) {
			int k = iovs_slice(&view, off, n, ret, N_PIECES);
			struct iovs part = {ret, (unsigned)k, n};
			size_t sum = 0;

			ck_assert_int_ge(k, 0);
			for (int i = 0; i < k; i++) {
				ck_assert_uint_gt(ret[i].iov_len, 0);
				sum += ret[i].iov_len;
			}
			ck_assert_uint_eq(sum, n);
			ck_assert_int_eq(iovs_read(&part, 0, buf, n), 0);
			for (size_t i = 0; i < n; i++)
				ck_assert_uint_eq(buf[i], off + i);
		}
	}
}
END_TEST

START_TEST(slice_in_place_is_the_same)
{
	uint8_t buf[LEN];

	for (size_t off = 0; off <= LEN; off++) {
		for (size_t n = 0; off + n <= LEN; n++) {
			int k;

			make_view();
			k = iovs_slice(&view, off, n, pieces, N_PIECES);
			view.n = (unsigned)k;
			view.len = n;
			ck_assert_int_eq(iovs_read(&view, 0, buf, n), 0);
			for (size_t i = 0; i < n; i++)
				ck_assert_uint_eq(buf[i], off + i);
		}
	}
}
END_TEST

START_TEST(slice_says_when_there_are_more_pieces_than_room)
{
	struct iovec ret[N_PIECES];

	memset(ret, 0, sizeof(ret));
	ck_assert_int_eq(iovs_slice(&view, 0, LEN, ret, 4), 4);
	ck_assert_int_eq(iovs_slice(&view, 0, LEN, ret, 3), -E2BIG);
	memset(ret, 0, sizeof(ret));
	ck_assert_int_eq(iovs_slice(&view, 2, 3, ret, 2), -E2BIG);
	ck_assert_ptr_null(ret[2].iov_base);
	ck_assert_int_eq(iovs_slice(&view, 2, 3, ret, 3), 3);
	ck_assert_int_eq(iovs_slice(&view, 5, 0, ret, 0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iovs");
	TCase *copy = tcase_create("copy"), *slice = tcase_create("slice");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(copy, make_view, NULL);
	tcase_add_test(copy, read_copies_every_range);
	tcase_add_test(copy, write_changes_every_range_and_nothing_else);
	tcase_add_loop_test(copy, what_is_outside_is_refused_and_nothing_copied,
		0, sizeof(outside) / sizeof(outside[0]));
	tcase_add_checked_fixture(slice, make_view, NULL);
	tcase_add_test(slice, slice_is_the_range);
	tcase_add_test(slice, slice_in_place_is_the_same);
	tcase_add_test(slice, slice_says_when_there_are_more_pieces_than_room);
	suite_add_tcase(s, copy);
	suite_add_tcase(s, slice);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
