#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/kernel_images.h"
#include "tests/unit/vm_start.h"
#include "vmm/control.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct vm vm;
static struct vm_start s;
static int sock[2]; /* the daemon's end, the VMM's */
static pthread_t thread;
static int status; /* what control_run() returned */

static void setup(void)
{
	fake_kvm_reset();
	ck_assert_int_eq(vm_init(&vm, 1), 0);
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
	vm_start_make(&s, 1);
	status = -1;
}

static void teardown(void)
{
	vm_start_destroy_vm(&vm);
	vm_start_free(&s);
	close_fd(&sock[0]);
	close_fd(&sock[1]);
}

static void *run(void *arg)
{
	(void)arg;
	status = control_run(&vm, sock[1]);
	return NULL;
}

/* The next message from the VMM; 0 at its end. */
static int receive(union msg *m)
{
	struct pollfd p = {.fd = sock[0], .events = POLLIN};
	int fds[MSG_MAX_FDS];
	unsigned n_fds;

	ck_assert_msg(poll(&p, 1, 10000) == 1, "no answer");
	return msg_recv(sock[0], MSG_DAEMON, m, fds, &n_fds);
}

static void send_plain(uint32_t type, uint32_t seq)
{
	union msg m = {.plain = {.hdr = {type, seq}}};

	ck_assert_int_eq(msg_send(sock[0], MSG_DAEMON, &m, NULL, 0), 0);
}

static void send_start(void)
{
	ck_assert_int_eq(
		msg_send(sock[0], MSG_DAEMON, &s.msg, s.fds, s.n_fds), 0);
}

/* A thread in the VMM's place, and a message to it; its guest runs. */
static void start(void)
{
	union msg m;

	ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
	send_start();
	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_STARTED);
	ck_assert_uint_eq(m.hdr.seq, 9);
}

static int done(uint32_t seq)
{
	union msg m;

	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_DONE);
	ck_assert_uint_eq(m.hdr.seq, seq);
	return m.done.code;
}

static void leave(void)
{
	close_fd(&sock[0]);
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 0);
}

/* Outputs the guest's progress can be told by. */
static unsigned entries(void)
{
	return __atomic_load_n(&fake_kvm.calls[FAKE_RUN], __ATOMIC_RELAXED);
}

START_TEST(a_start_is_answered_when_the_guest_runs)
{
	start();
	ck_assert_uint_ne(s.shared->moments[VM_MOMENT_CONFIGURED], 0);
	ck_assert_uint_ge(s.shared->moments[VM_MOMENT_LOADED],
		s.shared->moments[VM_MOMENT_CONFIGURED]);
	while (entries() == 0)
		(void)poll(NULL, 0, 1);
	ck_assert_uint_ge(s.shared->moments[VM_MOMENT_FIRST_ENTRY],
		s.shared->moments[VM_MOMENT_LOADED]);
	leave();
}
END_TEST

START_TEST(a_start_that_fails_says_why_and_ends)
{
	union msg m;

	ck_assert_int_eq(ftruncate(s.fds[MSG_START_FD_KERNEL], 10), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
	send_start();
	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_FAILED);
	ck_assert_uint_eq(m.hdr.seq, 9);
	ck_assert_int_gt(m.failed.code, 0);
	ck_assert_str_eq(m.failed.field, "boot-source.kernel_image_path");
	ck_assert_str_ne(m.failed.text, "");
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 1);
	ck_assert_uint_eq(entries(), 0);
}
END_TEST

START_TEST(nothing_but_a_start_comes_first)
{
	ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
	if (_i == 0)
		send_plain(MSG_RESUME, 1);
	else if (_i == 1)
		ck_assert_int_eq(fd_send(sock[0], "x", 1, NULL, 0), 0);
	else
		close_fd(&sock[0]);
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CREATE_VM], 0);
}
END_TEST

START_TEST(pause_and_resume_are_answered)
{
	unsigned before;

	start();
	send_plain(MSG_PAUSE, 20);
	ck_assert_int_eq(done(20), 0);
	before = entries();
	ck_assert_uint_eq(vm.vcpus.parked, 1);
	send_plain(MSG_PAUSE, 21);
	ck_assert_int_eq(done(21), 0);
	ck_assert_uint_eq(entries(), before);
	send_plain(MSG_RESUME, 22);
	ck_assert_int_eq(done(22), 0);
	while (entries() == before)
		(void)poll(NULL, 0, 1);
	leave();
}
END_TEST

START_TEST(typing_is_answered_and_bounded)
{
	union msg m = {.input = {.hdr = {MSG_CONSOLE_INPUT, 30},
			       .len = VM_CONSOLE_INPUT_MAX}};

	start();
	ck_assert_int_eq(msg_send(sock[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(done(30), 0);
	ck_assert_int_eq(msg_send(sock[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(done(30), ENOBUFS);
	leave();
}
END_TEST

START_TEST(three_keys_reach_the_keyboard)
{
	uint8_t st = 0;

	start();
	send_plain(MSG_CTRL_ALT_DEL, 40);
	ck_assert_int_eq(done(40), 0);
	bus_read(&vm.pio, 0x64, &st, 1);
	ck_assert_uint_eq(st & 1, 1);
	leave();
}
END_TEST

static int exit_triple(struct kvm_run *r, void *arg)
{
	(void)arg;
	r->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

static int exit_fail_entry(struct kvm_run *r, void *arg)
{
	(void)arg;
	r->exit_reason = KVM_EXIT_FAIL_ENTRY;
	r->fail_entry.hardware_entry_failure_reason = 7;
	return 0;
}

START_TEST(the_end_of_a_guest_is_the_last_message)
{
	static const fake_step ends[] = {exit_triple, exit_fail_entry};
	union msg m;

	fake_kvm_script(0, &ends[_i], 1, NULL);
	start();
	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EXITING);
	ck_assert_uint_eq(m.hdr.seq, 0);
	if (_i == 0) {
		ck_assert_uint_eq(m.exiting.reason, VM_EXIT_TRIPLE_FAULT);
		ck_assert_str_eq(m.exiting.detail, "");
	} else {
		ck_assert_uint_eq(m.exiting.reason, VM_EXIT_INTERNAL_ERROR);
		ck_assert_str_eq(m.exiting.detail,
			"the CPU refused to enter the guest, hardware reason "
			"0x7 at rip 0x200100");
	}
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 0);
	/* Stopped before it was told. */
	ck_assert(!vm.vcpus.cpu[0].has_thread);
}
END_TEST

START_TEST(events_of_devices_are_passed_on)
{
	union msg m;

	start();
	vm_events_blk_error(&vm.events, 0, ENOSPC);
	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EVENT);
	ck_assert_uint_eq(m.event.kind, MSG_EVENT_BLK_ERROR);
	ck_assert_uint_eq(m.event.index, 0);
	ck_assert_int_eq(m.event.value, ENOSPC);
	leave();
}
END_TEST

START_TEST(a_daemon_that_breaks_the_protocol_is_left)
{
	union msg m;

	start();
	if (_i == 0)
		send_start();
	else
		ck_assert_int_eq(fd_send(sock[0], "junk", 4, NULL, 0), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 0);
	ck_assert(!vm.vcpus.cpu[0].has_thread);
	close_fd(&sock[1]);
	ck_assert_int_eq(receive(&m), 0); /* no reason was given */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("control");
	TCase *tc_start = tcase_create("start");
	TCase *tc_life = tcase_create("life");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc_start, setup, teardown);
	tcase_add_test(tc_start, a_start_is_answered_when_the_guest_runs);
	tcase_add_test(tc_start, a_start_that_fails_says_why_and_ends);
	tcase_add_loop_test(tc_start, nothing_but_a_start_comes_first, 0, 3);
	suite_add_tcase(suite, tc_start);

	tcase_add_checked_fixture(tc_life, setup, teardown);
	tcase_add_test(tc_life, pause_and_resume_are_answered);
	tcase_add_test(tc_life, typing_is_answered_and_bounded);
	tcase_add_test(tc_life, three_keys_reach_the_keyboard);
	tcase_add_loop_test(
		tc_life, the_end_of_a_guest_is_the_last_message, 0, 2);
	tcase_add_test(tc_life, events_of_devices_are_passed_on);
	tcase_add_loop_test(
		tc_life, a_daemon_that_breaks_the_protocol_is_left, 0, 2);
	suite_add_tcase(suite, tc_life);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
