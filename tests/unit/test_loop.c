#include "daemon/loop.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define N 200

static struct loop *loop;
static int calls;

static void set_up(void)
{
	struct error err;

	ck_assert_int_eq(loop_create(&loop, &err), 0);
	calls = 0;
}

static void tear_down(void)
{
	loop_destroy(loop);
}

static int no_limit(void *arg)
{
	(void)arg;
	return -1;
}

static struct loop_source sources[2];

static void removes_both(struct loop_source *s, uint32_t events)
{
	ck_assert_uint_eq(events, EPOLLIN);
	ck_assert_ptr_nonnull(s);
	calls++;
	loop_remove(loop, &sources[0]);
	loop_remove(loop, &sources[1]);
	loop_stop(loop);
}

/* Both are ready and fetched at once: the second must not be called. */
START_TEST(a_source_removed_in_its_batch_is_not_called)
{
	_cleanup_close_ int a = eventfd(1, EFD_CLOEXEC);
	_cleanup_close_ int b = eventfd(1, EFD_CLOEXEC);

	sources[0].ready = sources[1].ready = removes_both;
	ck_assert_int_eq(loop_add(loop, &sources[0], a, EPOLLIN), 0);
	ck_assert_int_eq(loop_add(loop, &sources[1], b, EPOLLIN), 0);
	loop_run(loop, no_limit, NULL);
	ck_assert_int_eq(calls, 1);
	ck_assert_int_eq(sources[0].fd, -1);
	ck_assert_int_eq(sources[1].fd, -1);
	/* Idempotent. */
	loop_remove(loop, &sources[0]);
}
END_TEST

START_TEST(a_closed_descriptor_is_an_error)
{
	sources[0].fd = -1;
	ck_assert_int_eq(loop_add(loop, &sources[0], -1, EPOLLIN), -EBADF);
	ck_assert_int_eq(sources[0].fd, -1);
}
END_TEST

static struct loop_timer timers[N];
static uint64_t last_ns;

static void in_order(struct loop_timer *t)
{
	ck_assert_uint_ge(t->deadline_ns, last_ns);
	ck_assert_uint_le(t->deadline_ns, clock_ns());
	ck_assert_uint_eq(t->at, 0);
	last_ns = t->deadline_ns;
	if (++calls == N / 2)
		loop_stop(loop);
}

START_TEST(timers_fire_once_in_order_unless_cleared)
{
	uint64_t now = clock_ns();

	last_ns = 0;
	srandom(1);
	for (unsigned i = 0; i < N; i++) {
		timers[i] = (struct loop_timer){.fire = in_order};
		/* Set, moved, some of them cleared again. */
		loop_set_timer(
			loop, &timers[i], now + (uint64_t)random() % 20000000);
		loop_set_timer(
			loop, &timers[i], now + (uint64_t)random() % 20000000);
	}
	for (unsigned i = 0; i < N; i += 2) {
		loop_clear_timer(loop, &timers[i]);
		loop_clear_timer(loop, &timers[i]);
	}
	loop_run(loop, no_limit, NULL);
	ck_assert_int_eq(calls, N / 2);
	for (unsigned i = 0; i < N; i++)
		ck_assert_uint_eq(timers[i].at, 0);
}
END_TEST

static void fires_late(struct loop_timer *t)
{
	(void)t;
	calls++;
	loop_stop(loop);
}

START_TEST(a_timer_does_not_fire_early)
{
	struct loop_timer t = {.fire = fires_late};
	uint64_t deadline = clock_ns() + 3500000;

	loop_set_timer(loop, &t, deadline);
	loop_run(loop, no_limit, NULL);
	ck_assert_uint_ge(clock_ns(), deadline);
	ck_assert_int_eq(calls, 1);
}
END_TEST

static int stops_at_third(void *arg)
{
	(void)arg;
	if (++calls == 3)
		loop_stop(loop);
	return 1;
}

START_TEST(prepare_limits_the_wait)
{
	uint64_t start = clock_ns();

	loop_run(loop, stops_at_third, NULL);
	ck_assert_int_eq(calls, 3);
	ck_assert_uint_ge(clock_ns() - start, 1000000);
}
END_TEST

static int idle_answers[8], n_asked, n_worked;

/* The test's answers one after the other; then the end. */
static int next_answer(void *arg)
{
	(void)arg;
	return idle_answers[n_asked++];
}

static void one_piece(void *arg)
{
	(void)arg;
	n_worked++;
}

static int until_asked_enough(void *arg)
{
	if (n_asked == *(int *)arg)
		loop_stop(loop);
	return 1000;
}

static void count_event(struct loop_source *s, uint32_t events)
{
	uint64_t n;

	(void)events;
	calls++;
	ck_assert_int_eq(read(s->fd, &n, sizeof(n)), sizeof(n));
}

START_TEST(idle_work_is_done_when_it_is_time_and_nothing_else_is)
{
	int fd = eventfd(1, EFD_CLOEXEC), enough = 4;

	memcpy(idle_answers, (int[]){0, 0, 1, 0}, 4 * sizeof(int));
	n_asked = n_worked = 0;
	sources[0].ready = count_event;
	ck_assert_int_eq(loop_add(loop, &sources[0], fd, EPOLLIN), 0);
	loop_set_idle(loop, next_answer, one_piece, NULL);
	loop_run(loop, until_asked_enough, &enough);
	/* An event had come the first time. */
	ck_assert_int_eq(calls, 1);
	ck_assert_int_eq(n_worked, 2);
	loop_remove(loop, &sources[0]);
	close(fd);
}
END_TEST

START_TEST(idle_work_is_asked_for_again_in_time)
{
	uint64_t start = clock_ns();
	int enough = 2;

	/* The wait is not the second that nothing else ends. */
	memcpy(idle_answers, (int[]){1, 0}, 2 * sizeof(int));
	n_asked = n_worked = 0;
	loop_set_idle(loop, next_answer, one_piece, NULL);
	loop_run(loop, until_asked_enough, &enough);
	ck_assert_uint_ge(clock_ns() - start, 1000000);
	ck_assert_uint_lt(clock_ns() - start, 900000000);
	ck_assert_int_eq(n_worked, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_source_removed_in_its_batch_is_not_called);
	tcase_add_test(t, a_closed_descriptor_is_an_error);
	tcase_add_test(t, timers_fire_once_in_order_unless_cleared);
	tcase_add_test(t, a_timer_does_not_fire_early);
	tcase_add_test(t, prepare_limits_the_wait);
	tcase_add_test(
		t, idle_work_is_done_when_it_is_time_and_nothing_else_is);
	tcase_add_test(t, idle_work_is_asked_for_again_in_time);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
