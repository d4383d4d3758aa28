#include "virtio/rate_limiter.h"

#include <check.h>
#include <stdlib.h>

#define MS 1000000ull
#define S (1000 * MS)
#define T0 (12345 * S) /* the clock when a test begins */
#define MAX UINT64_MAX

static struct rate_limiter l;

static void bytes(uint64_t size, uint64_t burst, uint64_t refill_ns)
{
	struct rate_limiter_config config = {.bytes = {size, burst, refill_ns}};

	rate_limiter_init(&l, &config, T0);
}

static void ops(uint64_t size, uint64_t burst, uint64_t refill_ns)
{
	struct rate_limiter_config config = {.ops = {size, burst, refill_ns}};

	rate_limiter_init(&l, &config, T0);
}

static uint64_t take(uint64_t n, uint64_t now_ns)
{
	return rate_limiter_take(&l, n, now_ns);
}

START_TEST(a_size_or_refill_time_of_0_is_no_limit)
{
	static const struct bucket_config none[] = {
		{0, 0, 0}, {0, 0, S}, {5, 0, 0}, {0, 5, S}, {5, 5, 0}};
	struct rate_limiter_config config = {
		.bytes = none[_i], .ops = none[_i]};

	rate_limiter_init(&l, &config, T0);
	ck_assert(!rate_limiter_active(&l));
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_uint_eq(take(MAX, T0), 0);
}
END_TEST

START_TEST(either_bucket_makes_it_active)
{
	bytes(1, 0, 1);
	ck_assert(rate_limiter_active(&l));
	ops(1, 0, 1);
	ck_assert(rate_limiter_active(&l));
}
END_TEST

START_TEST(it_starts_full_and_then_refuses)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(999, T0), 0);
	ck_assert_uint_eq(take(1, T0), 0);
	ck_assert_uint_gt(take(1, T0), T0);
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(1000, T0), 0);
}
END_TEST

START_TEST(it_refills_linearly)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(1000, T0), 0);
	ck_assert_uint_eq(take(500, T0), T0 + S / 2);
	ck_assert_uint_eq(take(500, T0 + S / 2 - 2 * MS), T0 + S / 2);
	ck_assert_uint_ne(take(500, T0 + S / 2 - 1), 0);
	ck_assert_uint_eq(take(500, T0 + S / 2), 0);
	ck_assert_uint_eq(take(250, T0 + S / 2), T0 + 3 * S / 4);
	ck_assert_uint_eq(take(1000, T0 + S), T0 + 3 * S / 2);
	ck_assert_uint_eq(take(500, T0 + S), 0);
}
END_TEST

START_TEST(it_never_holds_more_than_its_size)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(100, T0), 0);
	ck_assert_uint_eq(take(1000, T0 + 100 * S), 0);
	ck_assert_uint_ne(take(1, T0 + 100 * S), 0);
}
END_TEST

/* Each look at it rounds in nobody's favour, and does not eat what is on its
 * way: many looks are as good as one. */
START_TEST(looking_often_loses_nothing)
{
	static const uint64_t sizes[] = {1, 3, 7, 1000, 1001, 999999937};
	uint64_t size = sizes[_i], taken = 0, now;

	bytes(size, 0, S);
	ck_assert_uint_eq(take(size, T0), 0);
	for (now = T0; now <= T0 + 10 * S; now += 12345)
		while (take(1 + size / 1000, now) == 0)
			taken += 1 + size / 1000;
	ck_assert_uint_le(taken, 10 * size);
	ck_assert_uint_ge(taken, 10 * size - size / 100 - 1);
}
END_TEST

START_TEST(a_burst_is_spent_first_and_never_refilled)
{
	bytes(1000, 300, S);
	ck_assert_uint_eq(take(200, T0), 0);
	/* The bucket is still full: nothing is gained by waiting. */
	ck_assert_uint_eq(take(1100, T0 + 10 * S), 0);
	ck_assert_uint_ne(take(1, T0 + 10 * S), 0);
	ck_assert_uint_eq(take(1000, T0 + 20 * S), 0);
	ck_assert_uint_ne(take(1, T0 + 20 * S), 0);
}
END_TEST

START_TEST(what_a_burst_covers_needs_no_tokens)
{
	bytes(10, 1000, S);
	ck_assert_uint_eq(take(1000, T0), 0);
	ck_assert_uint_eq(take(10, T0), 0);
	ck_assert_uint_ne(take(1, T0), 0);
}
END_TEST

START_TEST(what_is_larger_than_the_bucket_leaves_a_debt)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(5000, T0), 0);
	/* 4000 are owed. */
	ck_assert_uint_eq(take(1, T0), T0 + 4 * S + MS);
	ck_assert_uint_eq(take(1000, T0), T0 + 5 * S);
	ck_assert_uint_eq(take(1001, T0), T0 + 4 * S);
	ck_assert_uint_eq(take(1000, T0 + 3 * S), T0 + 5 * S);
	ck_assert_uint_ne(take(1001, T0 + 4 * S - 1), 0);
	ck_assert_uint_eq(take(1001, T0 + 4 * S), 0);
	ck_assert_uint_eq(take(1000, T0 + 5 * S), T0 + 6 * S + MS);
}
END_TEST

START_TEST(a_debt_is_paid_before_there_are_tokens)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(3000, T0), 0);
	ck_assert_uint_ne(take(1, T0 + S), 0);
	ck_assert_uint_ne(take(1, T0 + 2 * S), 0);
	ck_assert_uint_eq(take(500, T0 + 5 * S / 2), 0);
	ck_assert_uint_ne(take(1, T0 + 5 * S / 2), 0);
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(3000, T0), 0);
	ck_assert_uint_eq(take(1000, T0 + 3 * S), 0);
	ck_assert_uint_ne(take(1, T0 + 3 * S), 0);
}
END_TEST

START_TEST(a_burst_reduces_the_debt)
{
	bytes(1000, 500, S);
	ck_assert_uint_eq(take(2500, T0), 0);
	ck_assert_uint_eq(take(1000, T0), T0 + 2 * S);
}
END_TEST

START_TEST(nothing_is_free_to_move_no_bytes)
{
	struct rate_limiter_config config = {
		.bytes = {1000, 0, S}, .ops = {2, 0, S}};

	rate_limiter_init(&l, &config, T0);
	ck_assert_uint_eq(take(3000, T0), 0);
	ck_assert_uint_eq(take(0, T0), 0);
	ck_assert_uint_eq(take(0, T0), T0 + S / 2);
}
END_TEST

START_TEST(both_buckets_are_asked_and_the_slower_one_decides)
{
	struct rate_limiter_config config = {
		.bytes = {1000, 0, S}, .ops = {10, 0, S}};

	rate_limiter_init(&l, &config, T0);
	ck_assert_uint_eq(take(1000, T0), 0);
	ck_assert_uint_eq(take(100, T0), T0 + S / 10);
	for (unsigned i = 0; i < 9; i++)
		ck_assert_uint_eq(take(0, T0), 0);
	ck_assert_uint_eq(take(100, T0), T0 + S / 10);
	ck_assert_uint_eq(take(10, T0), T0 + S / 10);
	ck_assert_uint_eq(take(200, T0), T0 + S / 5);
}
END_TEST

START_TEST(a_refusal_takes_nothing_of_either)
{
	struct rate_limiter_config config = {
		.bytes = {1000, 50, S}, .ops = {1, 1, S}};

	rate_limiter_init(&l, &config, T0);
	ck_assert_uint_eq(take(100, T0), 0);
	/* Bytes refuse: the operation stays. */
	ck_assert_uint_eq(take(1000, T0), T0 + S / 20);
	ck_assert_uint_eq(take(900, T0), 0);
	/* Operations refuse: the bytes stay. */
	ck_assert_uint_eq(take(50, T0), T0 + S);
	ck_assert_uint_eq(take(50, T0), T0 + S);
	ck_assert_uint_eq(l.bytes.tokens + l.bytes.burst, 50);
}
END_TEST

/* A million operations a second are not a million timers a second. */
START_TEST(a_fast_bucket_is_waited_for_in_batches)
{
	uint64_t now = T0, at;
	unsigned tries = 0, done = 0;

	ops(1000000, 0, S);
	while (now < T0 + 2 * S) {
		at = take(0, now);
		if (at == 0) {
			done++;
			continue;
		}
		now = at;
		tries++;
	}
	ck_assert_uint_le(tries, 2000);
	ck_assert_uint_ge(done, 2999000);
	ck_assert_uint_le(done, 3000000);
}
END_TEST

/* But not so long that it runs over. */
START_TEST(no_token_is_lost_to_a_wait)
{
	static const uint64_t sizes[] = {1, 2, 3, 100, 4096};
	uint64_t size = sizes[_i], now = T0, at, done = 0;

	bytes(size, 0, MS / 3);
	while (now < T0 + S) {
		at = take(size, now);
		if (at == 0) {
			done++;
			now += MS / 4; /* the time it takes */
		} else {
			ck_assert_uint_gt(at, now);
			now = at;
		}
	}
	ck_assert_uint_ge(done, 2990);
	ck_assert_uint_le(done, 3002);
}
END_TEST

START_TEST(an_update_fills_what_it_names)
{
	struct rate_limiter_config config = {
		.bytes = {1000, 0, S}, .ops = {10, 0, S}};
	struct rate_limiter_update u = {.has_bytes = true,
		.config = {.bytes = {500, 50, S}, .ops = {99, 99, S}}};

	rate_limiter_init(&l, &config, T0);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(take(100, T0), 0);
	rate_limiter_update(&l, &u, T0 + S / 10);
	/* One operation has come since; the bytes are new. */
	ck_assert_uint_eq(take(550, T0 + S / 10), 0);
	ck_assert_uint_ne(take(1, T0 + S / 10), 0);
	u = (struct rate_limiter_update){
		.has_ops = true, .config = {.ops = {2, 1, S}}};
	rate_limiter_update(&l, &u, T0 + S / 10);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(take(0, T0 + S / 10), 0);
	ck_assert_uint_eq(take(0, T0 + S / 10), T0 + S / 10 + S / 2);
	u = (struct rate_limiter_update){.has_ops = true, .has_bytes = true};
	rate_limiter_update(&l, &u, T0 + S / 10);
	ck_assert(!rate_limiter_active(&l));
	ck_assert_uint_eq(take(MAX, T0 + S / 10), 0);
}
END_TEST

START_TEST(a_clock_that_jumps_back_begins_anew)
{
	bytes(1000, 0, S);
	ck_assert_uint_eq(take(1000, T0), 0);
	ck_assert_uint_eq(take(500, S), S + S / 2);
	ck_assert_uint_eq(take(500, S + S / 2), 0);
	ck_assert_uint_eq(take(1000, 0), S);
}
END_TEST

/* Every corner of 64 bits, against the same in wider arithmetic. */
static const uint64_t corners[] = {1, 2, 3, 999, 1ull << 32, (1ull << 32) - 1,
	1ull << 63, (1ull << 63) - 1, MAX - 1, MAX};
#define N_CORNERS (sizeof(corners) / sizeof(corners[0]))

static void check_wait(uint64_t n, uint64_t now)
{
	uint64_t at = take(n, now);

	if (at == 0)
		return;
	ck_assert(at > now || now == MAX);
	/* Not a moment too late for what it told; saturated: far away. */
	if (at != MAX)
		ck_assert_uint_eq(take(n, at), 0);
}

START_TEST(no_configuration_and_no_clock_overflows)
{
	uint64_t size = corners[(unsigned)_i / N_CORNERS];
	uint64_t refill = corners[(unsigned)_i % N_CORNERS];

	for (unsigned b = 0; b < N_CORNERS; b++)
		for (unsigned n = 0; n < N_CORNERS; n++)
			for (unsigned t = 0; t < N_CORNERS; t++) {
				bytes(size, b ? corners[b] : 0, refill);
				take(corners[n], corners[t]);
				take(corners[n], corners[t]);
				check_wait(corners[n], corners[t]);
				check_wait(size, corners[t]);
				ck_assert_uint_le(l.bytes.tokens, size);
				ck_assert_uint_le(
					l.bytes.burst, b ? corners[b] : 0);
			}
}
END_TEST

/* The longest debt there is, paid in two steps of the longest time. */
START_TEST(the_largest_debt_is_paid_in_time)
{
	uint64_t size = 1ull << 62;

	bytes(size, 0, 1ull << 62);
	ck_assert_uint_eq(take(MAX, 0), 0);
	ck_assert_uint_eq(l.bytes.debt, MAX - size);
	ck_assert_uint_ne(take(1, MAX - size - 1), 0);
	ck_assert_uint_eq(l.bytes.debt, 1);
	ck_assert_uint_eq(take(7, MAX), 0);
	ck_assert_uint_eq(l.bytes.tokens, size - 7);
	/* A gain of more than 64 bits. */
	bytes(MAX, 0, MAX / 4);
	ck_assert_uint_eq(take(MAX, T0), 0);
	l.bytes.debt = MAX;
	ck_assert_uint_ne(take(MAX, T0 + MAX / 3), 0);
	ck_assert_uint_eq(l.bytes.debt, 0);
	ck_assert_uint_eq(take(MAX, T0 + MAX / 2 + 2), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rate_limiter");
	TCase *t = tcase_create("bucket"), *e = tcase_create("edges");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, a_size_or_refill_time_of_0_is_no_limit, 0, 5);
	tcase_add_test(t, either_bucket_makes_it_active);
	tcase_add_test(t, it_starts_full_and_then_refuses);
	tcase_add_test(t, it_refills_linearly);
	tcase_add_test(t, it_never_holds_more_than_its_size);
	tcase_add_loop_test(t, looking_often_loses_nothing, 0, 6);
	tcase_add_test(t, a_burst_is_spent_first_and_never_refilled);
	tcase_add_test(t, what_a_burst_covers_needs_no_tokens);
	tcase_add_test(t, what_is_larger_than_the_bucket_leaves_a_debt);
	tcase_add_test(t, a_debt_is_paid_before_there_are_tokens);
	tcase_add_test(t, a_burst_reduces_the_debt);
	tcase_add_test(t, nothing_is_free_to_move_no_bytes);
	tcase_add_test(t, both_buckets_are_asked_and_the_slower_one_decides);
	tcase_add_test(t, a_refusal_takes_nothing_of_either);
	tcase_add_test(t, a_fast_bucket_is_waited_for_in_batches);
	tcase_add_loop_test(t, no_token_is_lost_to_a_wait, 0, 5);
	tcase_add_test(t, an_update_fills_what_it_names);
	tcase_add_test(e, a_clock_that_jumps_back_begins_anew);
	tcase_add_loop_test(e, no_configuration_and_no_clock_overflows, 0,
		(int)(N_CORNERS * N_CORNERS));
	tcase_add_test(e, the_largest_debt_is_paid_in_time);
	suite_add_tcase(s, t);
	suite_add_tcase(s, e);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
