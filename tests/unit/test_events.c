#include "daemon/events.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct events *events;
static unsigned woken;

static void wake(struct api_reader *r)
{
	(void)r;
	woken++;
}

static struct api_reader reader(void)
{
	return (struct api_reader){.wake = wake};
}

static void setup(void)
{
	events = events_create();
	ck_assert_ptr_nonnull(events);
	woken = 0;
}

static void teardown(void)
{
	events_destroy(events);
}

static void publish(const char *vm)
{
	struct api_event e = {.kind = API_EVENT_STARTED, .vm = vm};

	events_publish(events, &e);
}

START_TEST(a_follower_sees_what_happens_from_then_on)
{
	struct api_reader r = reader();
	struct api_event e;

	publish("before");
	events_reader_open(events, &r, NULL);
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	publish("after");
	ck_assert_uint_eq(woken, 1);
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert_str_eq(e.vm, "after");
	ck_assert(!e.lost);
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	events_reader_close(&r);
}
END_TEST

START_TEST(only_who_waits_is_woken)
{
	struct api_reader r = reader();

	events_reader_open(events, &r, NULL);
	publish("a");
	ck_assert_uint_eq(woken, 0);
	events_reader_close(&r);
}
END_TEST

START_TEST(a_follower_goes_on_where_it_was)
{
	struct api_reader first = reader(), second = reader();
	struct api_event e;
	uint64_t after;

	events_reader_open(events, &first, NULL);
	publish("a");
	publish("b");
	publish("c");
	ck_assert_int_eq(events_reader_next(&first, &e), 1);
	after = e.seq;
	events_reader_close(&first);
	events_reader_open(events, &second, &after);
	ck_assert_int_eq(events_reader_next(&second, &e), 1);
	ck_assert_str_eq(e.vm, "b");
	ck_assert_uint_eq(e.seq, after + 1);
	ck_assert(!e.lost);
	events_reader_close(&second);
}
END_TEST

START_TEST(what_was_forgotten_is_told_of)
{
	struct api_reader r = reader();
	struct api_event e;
	char name[16];
	uint64_t after;

	events_reader_open(events, &r, NULL);
	publish("first");
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	after = e.seq;
	events_reader_close(&r);
	for (unsigned i = 0; i < EVENTS_MAX + 10; i++) {
		snprintf(name, sizeof(name), "%u", i);
		publish(name);
	}
	events_reader_open(events, &r, &after);
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert(e.lost);
	ck_assert_str_eq(e.vm, "10");
	for (unsigned i = 1; i < EVENTS_MAX; i++) {
		ck_assert_int_eq(events_reader_next(&r, &e), 1);
		ck_assert(!e.lost);
	}
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	events_reader_close(&r);
}
END_TEST

START_TEST(a_number_from_elsewhere_means_from_now_on)
{
	static const uint64_t after[] = {UINT64_MAX, UINT64_MAX - 1};
	struct api_reader r = reader();
	struct api_event e;

	publish("old");
	events_reader_open(events, &r, &after[_i]);
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	publish("new");
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert_str_eq(e.vm, "new");
	events_reader_close(&r);
}
END_TEST

START_TEST(zero_means_all_there_is)
{
	struct api_reader r = reader();
	uint64_t zero = 0;
	struct api_event e;

	publish("a");
	events_reader_open(events, &r, &zero);
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert_str_eq(e.vm, "a");
	ck_assert(!e.lost);
	events_reader_close(&r);
}
END_TEST

START_TEST(an_event_is_a_copy)
{
	struct vm_label label = {strdup("tier"), strdup("gold")};
	char vm[] = "vm", reason[] = "panic", detail[] = "why";
	struct api_event e = {.kind = API_EVENT_EXITED,
		.vm = vm,
		.labels = &label,
		.n_labels = 1,
		.reason = reason,
		.detail = detail};
	struct api_reader r = reader();

	events_reader_open(events, &r, NULL);
	events_publish(events, &e);
	free(label.key);
	free(label.value);
	vm[0] = reason[0] = detail[0] = '?';
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert_str_eq(e.vm, "vm");
	ck_assert_str_eq(e.reason, "panic");
	ck_assert_str_eq(e.detail, "why");
	ck_assert_uint_eq(e.n_labels, 1);
	ck_assert_str_eq(e.labels[0].key, "tier");
	ck_assert_str_eq(e.labels[0].value, "gold");
	events_reader_close(&r);
}
END_TEST

START_TEST(the_end_comes_after_what_there_is)
{
	struct api_reader r = reader();
	struct api_event e;

	events_reader_open(events, &r, NULL);
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	publish("last");
	events_end(events);
	publish("too late");
	ck_assert_int_eq(events_reader_next(&r, &e), 1);
	ck_assert_str_eq(e.vm, "last");
	ck_assert_int_eq(events_reader_next(&r, &e), -ENODATA);
	ck_assert_uint_eq(woken, 1);
	events_reader_close(&r);
}
END_TEST

START_TEST(a_waiting_follower_hears_of_the_end)
{
	struct api_reader r = reader();
	struct api_event e;

	events_reader_open(events, &r, NULL);
	ck_assert_int_eq(events_reader_next(&r, &e), 0);
	events_end(events);
	ck_assert_uint_eq(woken, 1);
	ck_assert_int_eq(events_reader_next(&r, &e), -ENODATA);
	events_reader_close(&r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("events");
	TCase *t = tcase_create("events");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_follower_sees_what_happens_from_then_on);
	tcase_add_test(t, only_who_waits_is_woken);
	tcase_add_test(t, a_follower_goes_on_where_it_was);
	tcase_add_test(t, what_was_forgotten_is_told_of);
	tcase_add_loop_test(t, a_number_from_elsewhere_means_from_now_on, 0, 2);
	tcase_add_test(t, zero_means_all_there_is);
	tcase_add_test(t, an_event_is_a_copy);
	tcase_add_test(t, the_end_comes_after_what_there_is);
	tcase_add_test(t, a_waiting_follower_hears_of_the_end);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
