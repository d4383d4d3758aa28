#include "base/clock.h"
#include "daemon/pool.h"
#include "tests/unit/fake_process.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define WAITS 8

static struct loop *loop;
static struct pool *pool;
static struct process_env env = {.kvm_fd = -1};
static struct msg_prepare small, large;
static struct error err;

/* Who waits, and what each got. */
static struct {
	struct pool_wait wait;
	struct process process;
	int code;
	bool called;
} waits[WAITS];

static void got(
	struct pool_wait *w, const struct process *p, const struct error *e)
{
	size_t i = (size_t)((char *)w - (char *)waits) / sizeof(waits[0]);

	ck_assert(!waits[i].called);
	waits[i].called = true;
	if (p)
		waits[i].process = *p;
	else
		waits[i].code = e->code;
}

static void make_pool(unsigned size)
{
	ck_assert_int_eq(pool_create(&pool, loop, &env, size, &small, &err), 0);
}

static void set_up(void)
{
	ck_assert_int_eq(loop_create(&loop, &err), 0);
	small = (struct msg_prepare){.mem_bytes = 1, .vcpu_count = 1};
	large = (struct msg_prepare){.mem_bytes = 2, .vcpu_count = 1};
	memset(waits, 0, sizeof(waits));
	for (unsigned i = 0; i < WAITS; i++) {
		waits[i].wait.got = got;
		process_init(&waits[i].process);
	}
}

/* Whatever happened to them, all are gone in the end. */
static void tear_down(void)
{
	for (unsigned i = 0; i < WAITS; i++) {
		pool_cancel(&waits[i].wait);
		if (waits[i].process.jail.pid)
			process_destroy(&waits[i].process, &env);
	}
	pool_destroy(pool);
	loop_destroy(loop);
	fakes_reset();
}

/* ---- the loop, until something is so ---- */

static bool (*until)(unsigned n);
static unsigned until_n;
static uint64_t until_ns;

static int look(void *arg)
{
	(void)arg;
	if (until(until_n) || clock_ns() > until_ns)
		loop_stop(loop);
	return 1;
}

static void run_until(bool (*condition)(unsigned n), unsigned n)
{
	until = condition;
	until_n = n;
	until_ns = clock_ns() + 10000000000u;
	loop_run(loop, look, NULL);
	ck_assert(condition(n));
}

static bool are_ready(unsigned n)
{
	return pool_show(pool)->ready == n;
}

static bool are_alive(unsigned n)
{
	return __atomic_load_n(&fakes_alive, __ATOMIC_SEQ_CST) == n;
}

/* Nobody talks to it any more. */
static bool is_let_go(unsigned pid)
{
	struct pollfd p = {.fd = fakes[pid - 1].peer};

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

static bool has_got(unsigned i)
{
	return waits[i].called;
}

static bool wants(unsigned n)
{
	(void)n;
	return pool_wants(pool);
}

static void fill(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		run_until(wants, 0);
		pool_refill(pool);
		run_until(are_ready, i + 1);
	}
}

/* 1: at once. */
static int take(unsigned i, const struct msg_prepare *m)
{
	return pool_take(pool, m, &waits[i].wait, &waits[i].process);
}

static void expect_machine(unsigned i, const struct msg_prepare *m)
{
	ck_assert_int_gt(waits[i].process.jail.pid, 0);
	ck_assert_int_eq(
		memcmp(&fakes[waits[i].process.jail.pid - 1].machine.mem_bytes,
			&m->mem_bytes, sizeof(m->mem_bytes)),
		0);
}

/* ---- */

START_TEST(so_many_wait_and_are_made_again)
{
	make_pool(2);
	ck_assert_uint_eq(pool_show(pool)->target, 2);
	fill(2);
	ck_assert(!pool_wants(pool));
	ck_assert_int_eq(take(0, &small), 1);
	expect_machine(0, &small);
	ck_assert_uint_eq(pool_show(pool)->ready, 1);
	ck_assert_uint_eq(pool_show(pool)->starts_from_pool, 1);
	ck_assert_uint_eq(pool_show(pool)->starts_without, 0);
	ck_assert(pool_wants(pool));
	pool_refill(pool);
	/* One at a time. */
	ck_assert(!pool_wants(pool));
	run_until(are_ready, 2);
}
END_TEST

START_TEST(without_a_pool_each_is_made_when_it_is_asked_for)
{
	make_pool(0);
	ck_assert(!pool_wants(pool));
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(take(i, i == 1 ? &large : &small), 0);
	for (unsigned i = 0; i < 3; i++) {
		run_until(has_got, i);
		expect_machine(i, i == 1 ? &large : &small);
	}
	ck_assert(!pool_wants(pool));
	ck_assert_uint_eq(fakes_made, 3);
	ck_assert_uint_eq(pool_show(pool)->starts_without, 3);
	ck_assert_uint_eq(pool_show(pool)->target, 0);
}
END_TEST

START_TEST(another_machine_is_not_given)
{
	make_pool(1);
	fill(1);
	ck_assert_int_eq(take(0, &large), 0);
	run_until(has_got, 0);
	expect_machine(0, &large);
	/* It is the one taken last that is wanted now; the other goes. */
	run_until(wants, 0);
	pool_refill(pool);
	run_until(are_ready, 2);
	ck_assert_int_eq(take(1, &large), 1);
	expect_machine(1, &large);
}
END_TEST

START_TEST(huge_pages_are_set_aside_for_nobody)
{
	small.huge_pages = 1;
	make_pool(2);
	ck_assert(!pool_wants(pool));
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert(!pool_wants(pool));
}
END_TEST

START_TEST(who_no_longer_waits_leaves_his_to_the_next)
{
	make_pool(0);
	ck_assert_int_eq(take(0, &small), 0);
	pool_cancel(&waits[0].wait);
	pool_cancel(&waits[0].wait);
	ck_assert_int_eq(take(1, &small), 0);
	run_until(has_got, 1);
	ck_assert(!waits[0].called);
	ck_assert_uint_eq(fakes_made, 1);
}
END_TEST

/* ... or to nobody: without a pool none waits for long. */
START_TEST(what_was_made_for_one_who_left_goes)
{
	make_pool(0);
	ck_assert_int_eq(take(0, &small), 0);
	pool_cancel(&waits[0].wait);
	run_until(are_ready, 1);
	run_until(are_ready, 0);
	fake_dies(1);
	run_until(are_alive, 0);
}
END_TEST

START_TEST(what_cannot_be_made_is_told)
{
	make_pool(0);
	fakes_to_fail = 1;
	fakes_error = EPERM;
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert_int_eq(waits[0].code, EPERM);
	/* Of two one may fail. */
	fakes_to_fail = 1;
	ck_assert_int_eq(take(1, &small), 0);
	ck_assert_int_eq(take(2, &small), 0);
	run_until(has_got, 1);
	run_until(has_got, 2);
	ck_assert_int_eq(waits[1].code, EPERM);
	expect_machine(2, &small);
}
END_TEST

START_TEST(without_room_those_that_wait_give_way)
{
	make_pool(1);
	fill(1);
	fakes_to_fail = 2;
	fakes_error = EMFILE;
	ck_assert_int_eq(take(0, &large), 0);
	run_until(are_ready, 0);
	ck_assert(!waits[0].called);
	run_until(has_got, 0);
	expect_machine(0, &large);
	/* Of the one that went, all is gone once it has died. */
	fake_dies(1);
	run_until(are_alive, 1);
}
END_TEST

START_TEST(without_room_and_nobody_to_give_way_that_is_told)
{
	make_pool(1);
	fakes_to_fail = 1;
	fakes_error = ENOSPC;
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert_int_eq(waits[0].code, ENOSPC);
	/* The pool leaves the host alone for a while. */
	ck_assert(!pool_wants(pool));
}
END_TEST

static const struct {
	uint32_t type, seq;
} nonsense[] = {{MSG_DONE, 0}, {MSG_DONE, 7}, {MSG_STARTED, 0}, {MSG_EVENT, 0}};

/* ... or anything at all, from one that is prepared. */
START_TEST(one_that_says_what_it_should_not_is_ended)
{
	fakes_silent = _i > 0;
	make_pool(1);
	run_until(wants, 0);
	pool_refill(pool);
	if (_i == 0)
		run_until(are_ready, 1);
	else
		run_until(are_alive, 1);
	fake_says(1, nonsense[_i].type, nonsense[_i].seq);
	run_until(is_let_go, 1);
	fakes_silent = false;
	ck_assert(are_ready(0));
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert_int_eq(waits[0].process.jail.pid, 2);
	fake_dies(1);
	run_until(are_alive, 1);
	/* That is no reason to hurry. */
	ck_assert(!pool_wants(pool));
}
END_TEST

START_TEST(one_that_dies_is_replaced_after_a_while)
{
	make_pool(1);
	fill(1);
	fake_dies(1);
	run_until(are_alive, 0);
	ck_assert(are_ready(0));
	ck_assert(!pool_wants(pool));
	fill(1);
	ck_assert_int_eq(take(0, &small), 1);
	ck_assert_int_eq(waits[0].process.jail.pid, 2);
}
END_TEST

START_TEST(one_that_has_just_died_is_not_given)
{
	make_pool(2);
	fill(2);
	fake_dies(1);
	fake_dies(2);
	/* The loop has not run: nobody has been told. */
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert_int_gt(waits[0].process.jail.pid, 2);
}
END_TEST

/* With its last words, which tell why that start fails. */
START_TEST(one_that_dies_as_it_is_made_is_given_to_who_waits)
{
	make_pool(0);
	fakes_stillborn = true;
	ck_assert_int_eq(take(0, &small), 0);
	run_until(has_got, 0);
	ck_assert_int_eq(waits[0].process.jail.pid, 1);
	ck_assert_uint_eq(fakes_made, 1);
}
END_TEST

START_TEST(one_that_is_not_prepared_yet_is_given_last)
{
	make_pool(2);
	fakes_silent = true;
	run_until(wants, 0);
	pool_refill(pool);
	run_until(are_alive, 1);
	fakes_silent = false;
	run_until(wants, 0);
	pool_refill(pool);
	run_until(are_ready, 1);
	ck_assert_int_eq(take(0, &small), 1);
	ck_assert_int_eq(waits[0].process.jail.pid, 2);
	ck_assert_int_eq(take(1, &small), 1);
	ck_assert_int_eq(waits[1].process.jail.pid, 1);
}
END_TEST

START_TEST(it_follows_how_many_are_taken)
{
	make_pool(POOL_ADAPTIVE);
	ck_assert_uint_eq(pool_show(pool)->target, 1);
	for (unsigned i = 0; i < 6; i++)
		ck_assert_int_eq(take(i, &small), 0);
	for (unsigned i = 0; i < 6; i++)
		run_until(has_got, i);
	/* All within one second, or two. */
	ck_assert_uint_ge(pool_show(pool)->target, 3);
	ck_assert_uint_le(pool_show(pool)->target, 6);
	fill(pool_show(pool)->target);
	/* The kinds of before are wanted as well. */
	ck_assert_int_eq(take(6, &large), 0);
	run_until(has_got, 6);
	ck_assert_uint_ge(pool_show(pool)->target, 4);
}
END_TEST

START_TEST(the_kinds_asked_for_last_are_kept)
{
	make_pool(POOL_ADAPTIVE);
	fill(1);
	for (unsigned i = 0; i < 5; i++) {
		large.mem_bytes = 10 + i;
		ck_assert_int_eq(take(i, &large), 0);
		run_until(has_got, i);
	}
	/* The first kind was forgotten for it, and what waited with it. */
	run_until(are_ready, 0);
	ck_assert_uint_le(pool_show(pool)->target, 5);
	fake_dies(1);
	run_until(are_alive, 5);
}
END_TEST

/* With one on its way, and one that waits for it. */
START_TEST(it_is_destroyed_at_any_moment)
{
	make_pool(3);
	fill(2);
	pool_refill(pool);
	ck_assert_int_eq(take(0, &large), 0);
	pool_cancel(&waits[0].wait);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pool");
	TCase *t = tcase_create("pool");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, so_many_wait_and_are_made_again);
	tcase_add_test(t, without_a_pool_each_is_made_when_it_is_asked_for);
	tcase_add_test(t, another_machine_is_not_given);
	tcase_add_test(t, huge_pages_are_set_aside_for_nobody);
	tcase_add_test(t, who_no_longer_waits_leaves_his_to_the_next);
	tcase_add_test(t, what_was_made_for_one_who_left_goes);
	tcase_add_test(t, what_cannot_be_made_is_told);
	tcase_add_test(t, without_room_those_that_wait_give_way);
	tcase_add_test(t, without_room_and_nobody_to_give_way_that_is_told);
	tcase_add_loop_test(t, one_that_says_what_it_should_not_is_ended, 0,
		sizeof(nonsense) / sizeof(nonsense[0]));
	tcase_add_test(t, one_that_dies_is_replaced_after_a_while);
	tcase_add_test(t, one_that_has_just_died_is_not_given);
	tcase_add_test(t, one_that_dies_as_it_is_made_is_given_to_who_waits);
	tcase_add_test(t, one_that_is_not_prepared_yet_is_given_last);
	tcase_add_test(t, it_follows_how_many_are_taken);
	tcase_add_test(t, the_kinds_asked_for_last_are_kept);
	tcase_add_test(t, it_is_destroyed_at_any_moment);
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
