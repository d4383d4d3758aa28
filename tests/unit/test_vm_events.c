#include "vmm/vm_events.h"

#include <check.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct vm_events e;

static void setup(void)
{
	vm_events_init(&e, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void teardown(void)
{
	close(e.fd);
}

static uint64_t signals(void)
{
	uint64_t n;

	return read(e.fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

START_TEST(the_first_end_counts)
{
	struct msg_exiting m = {0};

	ck_assert(!vm_events_ended(&e, &m));
	vm_events_end(&e, VM_EXIT_RESET, "first");
	vm_events_end(&e, VM_EXIT_TRIPLE_FAULT, "second");
	ck_assert_uint_ge(signals(), 1);
	ck_assert(vm_events_ended(&e, &m));
	ck_assert_uint_eq(m.reason, VM_EXIT_RESET);
	ck_assert_str_eq(m.detail, "first");
}
END_TEST

START_TEST(each_device_is_told_of_once_until_taken)
{
	struct msg_event m;

	vm_events_needs_reset(&e, 3);
	vm_events_needs_reset(&e, 3);
	vm_events_needs_reset(&e, 0);
	vm_events_blk_error(&e, 15, 5);
	vm_events_blk_error(&e, 15, 28);
	vm_events_net_error(&e, 7, 5);
	vm_events_net_error(&e, 7, 77);
	ck_assert_uint_eq(signals(), 7);
	ck_assert(vm_events_next(&e, 1, &m));
	ck_assert_uint_eq(m.kind, MSG_EVENT_NEEDS_RESET);
	ck_assert_uint_eq(m.index, 0);
	ck_assert(vm_events_next(&e, 1, &m));
	ck_assert_uint_eq(m.index, 3);
	ck_assert(vm_events_next(&e, 1, &m));
	ck_assert_uint_eq(m.kind, MSG_EVENT_BLK_ERROR);
	ck_assert_uint_eq(m.index, 15);
	ck_assert_int_eq(m.value, 28);
	ck_assert(vm_events_next(&e, 1, &m));
	ck_assert_uint_eq(m.kind, MSG_EVENT_NET_ERROR);
	ck_assert_uint_eq(m.index, 7);
	ck_assert_int_eq(m.value, 77);
	ck_assert(!vm_events_next(&e, 1, &m));
}
END_TEST

START_TEST(a_storm_is_held_back_and_ends)
{
	struct msg_event m;
	unsigned passed = 0;

	for (unsigned i = 0; i < 1000; i++) {
		vm_events_needs_reset(&e, 0);
		passed += vm_events_next(&e, 1000 + i, &m);
	}
	ck_assert_uint_eq(passed, 20);
	vm_events_needs_reset(&e, 0);
	ck_assert(vm_events_next(&e, 11000000000u, &m));
}
END_TEST

START_TEST(ready_is_told_once_and_in_any_storm)
{
	struct msg_event m;

	for (unsigned i = 0; i < 100; i++) {
		vm_events_needs_reset(&e, 0);
		vm_events_next(&e, 1, &m);
	}
	signals();
	vm_events_ready(&e);
	vm_events_ready(&e);
	ck_assert_uint_eq(signals(), 1);
	ck_assert(vm_events_next(&e, 1, &m));
	ck_assert_uint_eq(m.kind, MSG_EVENT_GUEST_READY);
	vm_events_ready(&e);
	ck_assert(!vm_events_next(&e, 1, &m));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vm_events");
	TCase *tc = tcase_create("vm_events");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_first_end_counts);
	tcase_add_test(tc, each_device_is_told_of_once_until_taken);
	tcase_add_test(tc, ready_is_told_once_and_in_any_storm);
	tcase_add_test(tc, a_storm_is_held_back_and_ends);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
