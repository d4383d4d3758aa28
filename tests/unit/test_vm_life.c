#include "tests/unit/kernel_images.h"
#include "tests/unit/vm_fixture.h"
#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

static const struct {
	uint16_t port;
	uint8_t value;
	enum vm_exit_reason reason;
} ways_to_end[] = {
	{0x600, 0x34, VM_EXIT_SHUTDOWN},
	{0x64, 0xfe, VM_EXIT_RESET},
	{0x505, 1, VM_EXIT_PANIC},
};

START_TEST(ports_end_the_guest)
{
	struct msg_exiting m;
	uint64_t n;

	vm_start_make(&s, 1);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	vm_run(&vm);
	ck_assert(!vm_events_ended(&vm.events, &m));
	bus_write(&vm.pio, ways_to_end[_i].port, &ways_to_end[_i].value, 1);
	ck_assert(vm_events_ended(&vm.events, &m));
	ck_assert_uint_eq(m.reason, ways_to_end[_i].reason);
	ck_assert_int_eq(read(vm.event_fd, &n, 8), 8);
	ck_assert_int_eq(vm_pause(&vm), -ESHUTDOWN);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_RUNNING);
	ck_assert_uint_eq(s.shared->exit_reason, VM_EXIT_NONE);
	vm_stop(&vm);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_ENDED);
	ck_assert_uint_eq(s.shared->exit_reason, ways_to_end[_i].reason);
	ck_assert_str_eq(s.shared->exit_detail, "");
}
END_TEST

/* For a daemon that was not there. */
START_TEST(what_a_guest_does_is_told_in_the_shared_memory)
{
	vm_start_make(&s, 1);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_NONE);
	vm_run(&vm);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_RUNNING);
	ck_assert_int_eq(vm_pause(&vm), 0);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_PAUSED);
	vm_run(&vm);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_RUNNING);
	vm_events_end(&vm.events, VM_EXIT_INTERNAL_ERROR, "of the CPU's");
	vm_stop(&vm);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_ENDED);
	ck_assert_uint_eq(s.shared->exit_reason, VM_EXIT_INTERNAL_ERROR);
	ck_assert_str_eq(s.shared->exit_detail, "of the CPU's");
}
END_TEST

START_TEST(a_guest_that_was_stopped_has_no_reason)
{
	vm_start_make(&s, 1);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	vm_run(&vm);
	memset(s.shared->exit_detail, 'x', 4);
	vm_stop(&vm);
	ck_assert_uint_eq(s.shared->run_state, VM_RUN_STATE_ENDED);
	ck_assert_uint_eq(s.shared->exit_reason, VM_EXIT_NONE);
	ck_assert_uint_eq(s.shared->exit_detail[0], 'x'); /* untouched */
}
END_TEST

/* The descriptor that other threads write to is another eventfd from now on. */
START_TEST(another_daemon_is_woken_by_its_own_eventfd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), before;
	uint8_t v = '!';
	uint64_t n;

	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	before = vm.console.wake_fd;
	ck_assert_int_eq(before, s.prep_fds[MSG_PREPARE_FD_WAKE]);
	s.prep_fds[MSG_PREPARE_FD_WAKE] = dup(before); /* the first daemon's */
	ck_assert_int_eq(vm_adopt(&vm, dup(fd)), 0);
	ck_assert_int_eq(vm.console.wake_fd, before);
	s.shared->wake = 1;
	bus_write(&vm.pio, 0x3f8, &v, 1);
	ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
	ck_assert_int_lt(
		read(s.prep_fds[MSG_PREPARE_FD_WAKE], &n, sizeof(n)), 0);
	ck_assert_int_eq(fcntl(before, F_GETFD), FD_CLOEXEC);
	close(before);
	close(fd);
}
END_TEST

START_TEST(what_is_no_descriptor_changes_nothing)
{
	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(vm_adopt(&vm, -1), -EBADF);
	ck_assert_int_ge(fcntl(vm.console.wake_fd, F_GETFD), 0);
}
END_TEST

START_TEST(the_ready_port_marks_its_moment_once)
{
	uint64_t first;
	uint8_t v = 1;

	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(s.shared->moments[VM_MOMENT_GUEST_READY], 0);
	bus_write(&vm.pio, 0x6d66, &v, 1);
	first = s.shared->moments[VM_MOMENT_GUEST_READY];
	ck_assert_uint_ne(first, 0);
	bus_write(&vm.pio, 0x6d66, &v, 1);
	ck_assert_uint_eq(s.shared->moments[VM_MOMENT_GUEST_READY], first);
}
END_TEST

START_TEST(serial_output_reaches_the_shared_ring)
{
	uint8_t v = '!';

	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	bus_write(&vm.pio, 0x3f8, &v, 1);
	ck_assert_uint_eq(s.shared->console_head, 1);
	ck_assert_uint_eq(s.shared->console[0], '!');
}
END_TEST

START_TEST(a_kernel_that_finds_the_serial_port_is_up)
{
	uint64_t *up;
	uint8_t v = 0;

	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	up = &s.shared->moments[VM_MOMENT_KERNEL_UP];
	ck_assert_uint_eq(*up, 0);
	bus_read(&vm.pio, 0x3fd, &v, 1);
	ck_assert_uint_ne(*up, 0);
	*up = 0;
	bus_write(&vm.pio, 0x3f9, &v, 1);
	ck_assert_uint_ne(*up, 0);
	*up = 7;
	bus_write(&vm.pio, 0x3f8, &v, 1);
	ck_assert_uint_eq(*up, 7);
}
END_TEST

START_TEST(a_malformed_queue_is_counted_and_told)
{
	static const struct {
		uint32_t reg, value;
	} writes[] = {{0x70, 0}, {0x70, 1}, {0x70, 3}, {0x24, 1}, {0x20, 1},
		{0x70, 11}, {0x30, 0}, {0x38, 8}, {0x80, 0xffff0000}, {0x44, 1},
		{0x70, 15}};
	struct msg_event event;

	vm_start_make(&s, 2);
	ck_assert_msg(create() == 0, "%s", err.msg);
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++)
		bus_write(&vm.mmio, 0xd0001000 + writes[i].reg,
			&writes[i].value, 4);
	ck_assert_uint_eq(s.shared->guest_faults, 1);
	ck_assert(vm_events_next(&vm.events, 1, &event));
	ck_assert_uint_eq(event.kind, MSG_EVENT_NEEDS_RESET);
	ck_assert_uint_eq(event.index, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm_life");
	TCase *tc = tcase_create("life");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, ports_end_the_guest, 0, 3);
	tcase_add_test(tc, what_a_guest_does_is_told_in_the_shared_memory);
	tcase_add_test(tc, a_guest_that_was_stopped_has_no_reason);
	tcase_add_test(tc, another_daemon_is_woken_by_its_own_eventfd);
	tcase_add_test(tc, what_is_no_descriptor_changes_nothing);
	tcase_add_test(tc, the_ready_port_marks_its_moment_once);
	tcase_add_test(tc, serial_output_reaches_the_shared_ring);
	tcase_add_test(tc, a_kernel_that_finds_the_serial_port_is_up);
	tcase_add_test(tc, a_malformed_queue_is_counted_and_told);
	suite_add_tcase(suite, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
