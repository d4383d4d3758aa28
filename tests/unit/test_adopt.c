#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/vmm_thread.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

/* A VM between two daemons. */

static struct vmm_thread t;
static bool end; /* the guest is to end itself */

/* A guest that prints without end. */
static int print(struct kvm_run *r, void *arg)
{
	(void)arg;
	fake_kvm.vcpu[0].next_step = 0;
	usleep(200);
	if (__atomic_load_n(&end, __ATOMIC_RELAXED)) {
		r->exit_reason = KVM_EXIT_FAIL_ENTRY;
		r->fail_entry.hardware_entry_failure_reason = 7;
		return 0;
	}
	r->exit_reason = KVM_EXIT_IO;
	r->io.direction = KVM_EXIT_IO_OUT;
	r->io.size = 1;
	r->io.port = 0x3f8;
	r->io.count = 1;
	r->io.data_offset = 4096;
	((uint8_t *)r)[4096] = '.';
	return 0;
}

static void setup(void)
{
	static const fake_step steps[] = {print};

	__atomic_store_n(&end, false, __ATOMIC_RELAXED);
	vmm_thread_make(&t, 1);
	fake_kvm_script(0, steps, 1, NULL);
	vmm_thread_listen(&t);
	vmm_thread_start(&t);
}

static void teardown(void)
{
	vmm_thread_free(&t);
}

/* It ends with its guest, whoever its daemon is. */
static void finish(void)
{
	vm_events_end(&t.vm.events, VM_EXIT_SHUTDOWN, "");
	ck_assert_int_eq(vmm_thread_join(&t), 0);
}

static uint64_t printed(void)
{
	return __atomic_load_n(&t.s.shared->console_head, __ATOMIC_ACQUIRE);
}

static void expect_printing(void)
{
	uint64_t from = printed();

	for (int ms = 0; printed() < from + 3; ms++) {
		ck_assert_msg(ms < 10000, "the guest prints nothing");
		(void)poll(NULL, 0, 1);
	}
}

static bool woken(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

static unsigned count_open(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

START_TEST(a_guest_runs_on_without_a_daemon)
{
	vmm_thread_lose(&t);
	expect_printing();
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_RUNNING);
	vmm_thread_adopt(&t);
	expect_printing();
	finish();
}
END_TEST

START_TEST(another_daemon_is_obeyed)
{
	uint64_t before;
	union msg m;

	vmm_thread_lose(&t);
	vmm_thread_adopt(&t);
	vmm_thread_send_plain(&t, MSG_PAUSE, 60);
	ck_assert_int_eq(vmm_thread_done(&t, 60), 0);
	before = printed();
	ck_assert(vmm_thread_is_silent(&t));
	ck_assert_uint_eq(printed(), before);
	vmm_thread_send_plain(&t, MSG_RESUME, 61);
	ck_assert_int_eq(vmm_thread_done(&t, 61), 0);
	expect_printing();
	vm_events_blk_error(&t.vm.events, 0, EIO);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EVENT);
	__atomic_store_n(&end, true, __ATOMIC_RELAXED);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EXITING);
	ck_assert_uint_eq(m.exiting.reason, VM_EXIT_INTERNAL_ERROR);
	ck_assert_int_eq(vmm_thread_join(&t), 0);
}
END_TEST

START_TEST(it_is_the_other_daemon_that_is_woken)
{
	int first = t.s.prep_fds[MSG_PREPARE_FD_WAKE];

	__atomic_store_n(&t.s.shared->wake, 1, __ATOMIC_SEQ_CST);
	ck_assert(woken(first, 10000));
	vmm_thread_lose(&t);
	vmm_thread_adopt(&t);
	__atomic_store_n(&t.s.shared->wake, 1, __ATOMIC_SEQ_CST);
	ck_assert(woken(t.wake_fd, 10000));
	ck_assert(!woken(first, 0));
	finish();
}
END_TEST

START_TEST(a_paused_guest_waits_for_the_other_daemon)
{
	uint64_t before;

	vmm_thread_send_plain(&t, MSG_PAUSE, 60);
	ck_assert_int_eq(vmm_thread_done(&t, 60), 0);
	before = printed();
	vmm_thread_lose(&t);
	vmm_thread_adopt(&t);
	ck_assert(vmm_thread_is_silent(&t));
	ck_assert_uint_eq(printed(), before);
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_PAUSED);
	vmm_thread_send_plain(&t, MSG_RESUME, 61);
	ck_assert_int_eq(vmm_thread_done(&t, 61), 0);
	expect_printing();
	finish();
}
END_TEST

static void send_bad(int which)
{
	int fds[MSG_MAX_FDS];

	for (unsigned i = 0; i < MSG_MAX_FDS; i++)
		fds[i] = t.s.fds[0];
	switch (which) {
	case 0:
		vmm_thread_send_start(&t);
		break;
	case 1:
		vmm_thread_send_prepare(&t);
		break;
	case 2:
		ck_assert_int_eq(fd_send(t.sock[0], "junk", 4, fds, 3), 0);
		break;
	default: /* none of a daemon's, with what none has */
		ck_assert_int_eq(fd_send(t.sock[0],
					 &(struct msg_plain){{MSG_STARTED, 1}},
					 sizeof(struct msg_plain), fds, 1),
			0);
	}
}

/* The daemon is left, not the guest; nothing of its message stays open. */
START_TEST(a_daemon_that_breaks_the_protocol_is_left_alone)
{
	unsigned before = count_open();
	union msg m;

	send_bad(_i);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 0);
	t.sock[1] = -1;
	ck_assert_uint_eq(count_open(), before - 1);
	expect_printing();
	close_fd(&t.sock[0]);
	/* Another one fares no better, the third is good. */
	vmm_thread_adopt(&t);
	send_bad(_i);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 0);
	close_fd(&t.sock[0]);
	close_fd(&t.wake_fd);
	ck_assert_uint_eq(count_open(), before - 2);
	vmm_thread_adopt(&t);
	expect_printing();
	finish();
}
END_TEST

/* Until nothing waits for the control thread, which is then in poll() or on its
 * way there. */
static void wait_drained(void)
{
	int ms = 0;

	while (poll(&(struct pollfd){t.vm.event_fd, POLLIN, 0}, 1, 0) != 0) {
		ck_assert_int_lt(ms++, 10000);
		(void)poll(NULL, 0, 1);
	}
}

/* They are for a log, and tell of a moment. */
START_TEST(events_are_for_the_daemon_that_is_there)
{
	union msg m;

	vmm_thread_lose(&t);
	vm_events_blk_error(&t.vm.events, 0, EIO);
	wait_drained();
	vmm_thread_adopt(&t);
	ck_assert(vmm_thread_is_silent(&t));
	vm_events_blk_error(&t.vm.events, 0, ENOSPC);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EVENT);
	ck_assert_int_eq(m.event.value, ENOSPC);
	finish();
}
END_TEST

START_TEST(that_a_guest_is_ready_waits_for_a_daemon)
{
	union msg m;

	vmm_thread_lose(&t);
	vm_events_ready(&t.vm.events);
	wait_drained();
	vmm_thread_connect(&t);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_EVENT);
	ck_assert_uint_eq(m.event.kind, MSG_EVENT_GUEST_READY);
	ck_assert(vmm_thread_is_silent(&t));
	finish();
}
END_TEST

START_TEST(the_end_of_a_guest_without_a_daemon_is_in_the_shared_memory)
{
	vmm_thread_lose(&t);
	ck_assert_uint_eq(t.s.shared->exit_reason, VM_EXIT_NONE);
	__atomic_store_n(&end, true, __ATOMIC_RELAXED);
	ck_assert_int_eq(vmm_thread_join(&t), 0);
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_ENDED);
	ck_assert_uint_eq(t.s.shared->exit_reason, VM_EXIT_INTERNAL_ERROR);
	ck_assert_str_eq(t.s.shared->exit_detail,
		"the CPU refused to enter the guest, hardware reason 0x7 at "
		"rip 0x200100");
}
END_TEST

/* Each has the VM to itself until it is gone. */
START_TEST(daemons_stand_in_line)
{
	int first = t.sock[0], second = vmm_thread_connect(&t);

	vmm_thread_send_plain(&t, MSG_PAUSE, 70);
	int third = vmm_thread_connect(&t);
	vmm_thread_send_plain(&t, MSG_RESUME, 80);
	ck_assert(vmm_thread_is_silent(&t));
	t.sock[0] = first;
	vmm_thread_send_plain(&t, MSG_CTRL_ALT_DEL, 60);
	ck_assert_int_eq(vmm_thread_done(&t, 60), 0);
	expect_printing();
	vmm_thread_lose(&t);
	t.sock[0] = second;
	ck_assert_int_eq(vmm_thread_done(&t, 70), 0);
	t.sock[0] = third;
	ck_assert(vmm_thread_is_silent(&t));
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_PAUSED);
	close(second);
	ck_assert_int_eq(vmm_thread_done(&t, 80), 0);
	expect_printing();
	finish();
}
END_TEST

START_TEST(a_daemon_that_leaves_at_once_is_forgotten)
{
	unsigned before;

	vmm_thread_lose(&t);
	before = count_open();
	for (unsigned i = 0; i < 20; i++) {
		vmm_thread_connect(&t);
		close_fd(&t.sock[0]);
	}
	vmm_thread_adopt(&t);
	expect_printing();
	/* The daemon's end, the VMM's and the eventfd, here alone: in the VMM
	 * it is in the place of the other. */
	ck_assert_uint_eq(count_open(), before + 3);
	finish();
}
END_TEST

/* Nothing to do is no work: neither the socket that is gone nor the one that
 * listens keeps the control thread busy. */
START_TEST(a_vm_without_a_daemon_waits)
{
	struct timespec from, to;
	clockid_t clock;

	vmm_thread_lose(&t);
	ck_assert_int_eq(pthread_getcpuclockid(t.thread, &clock), 0);
	(void)poll(NULL, 0, 10);
	clock_gettime(clock, &from);
	(void)poll(NULL, 0, 200);
	clock_gettime(clock, &to);
	ck_assert_int_lt((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec -
				 from.tv_nsec,
		50000000);
	finish();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("adopt");
	TCase *tc = tcase_create("adopt");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_guest_runs_on_without_a_daemon);
	tcase_add_test(tc, another_daemon_is_obeyed);
	tcase_add_test(tc, it_is_the_other_daemon_that_is_woken);
	tcase_add_test(tc, a_paused_guest_waits_for_the_other_daemon);
	tcase_add_loop_test(
		tc, a_daemon_that_breaks_the_protocol_is_left_alone, 0, 4);
	tcase_add_test(tc, events_are_for_the_daemon_that_is_there);
	tcase_add_test(tc, that_a_guest_is_ready_waits_for_a_daemon);
	tcase_add_test(tc,
		the_end_of_a_guest_without_a_daemon_is_in_the_shared_memory);
	tcase_add_test(tc, daemons_stand_in_line);
	tcase_add_test(tc, a_daemon_that_leaves_at_once_is_forgotten);
	tcase_add_test(tc, a_vm_without_a_daemon_waits);
	suite_add_tcase(suite, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
