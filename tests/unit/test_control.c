#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/kernel_images.h"
#include "tests/unit/vmm_thread.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

static struct vmm_thread t;

static void setup(void)
{
	vmm_thread_make(&t, 1);
}

static void teardown(void)
{
	vmm_thread_free(&t);
}

static void leave(void)
{
	close_fd(&t.sock[0]);
	ck_assert_int_eq(vmm_thread_join(&t), 0);
	t.sock[1] = -1; /* closed */
}

/* Outputs the guest's progress can be told by. */
static unsigned entries(void)
{
	return __atomic_load_n(&fake_kvm.calls[FAKE_RUN], __ATOMIC_RELAXED);
}

START_TEST(a_start_is_answered_when_the_guest_runs)
{
	vmm_thread_start(&t);
	ck_assert_uint_ne(t.s.shared->moments[VM_MOMENT_CONFIGURED], 0);
	ck_assert_uint_ge(t.s.shared->moments[VM_MOMENT_LOADED],
		t.s.shared->moments[VM_MOMENT_CONFIGURED]);
	while (entries() == 0)
		(void)poll(NULL, 0, 1);
	ck_assert_uint_ge(t.s.shared->moments[VM_MOMENT_FIRST_ENTRY],
		t.s.shared->moments[VM_MOMENT_LOADED]);
	leave();
}
END_TEST

START_TEST(a_start_that_fails_says_why_and_ends)
{
	union msg m;

	if (_i == 0)
		ck_assert_int_eq(
			ftruncate(t.s.fds[MSG_START_FD_KERNEL], 10), 0);
	else
		t.s.msg.start.has_memory_hotplug = 1;
	vmm_thread_prepare(&t);
	vmm_thread_send_start(&t);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_FAILED);
	ck_assert_uint_eq(m.hdr.seq, 9);
	ck_assert_int_gt(m.failed.code, 0);
	ck_assert_str_eq(
		m.failed.field, _i == 0 ? "boot-source.kernel_image_path"
					: "memory-hotplug.block_size_mib");
	ck_assert_str_ne(m.failed.text, "");
	ck_assert_int_eq(vmm_thread_join(&t), 1);
	ck_assert_uint_eq(entries(), 0);
}
END_TEST

START_TEST(a_preparation_that_fails_says_why_and_ends)
{
	union msg m;

	t.s.prep.prepare.vcpu_count = VM_MAX_VCPUS + 1;
	vmm_thread_run(&t);
	vmm_thread_send_prepare(&t);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_FAILED);
	ck_assert_uint_eq(m.hdr.seq, VMM_PREPARE_SEQ);
	ck_assert_int_eq(m.failed.code, EINVAL);
	ck_assert_str_eq(m.failed.field, "machine-config.vcpu_count");
	ck_assert_str_ne(m.failed.text, "");
	ck_assert_int_eq(vmm_thread_join(&t), 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CREATE_VM], 0);
}
END_TEST

/* What does not come in its turn. */
static void send_wrong(int which)
{
	switch (which) {
	case 0:
		vmm_thread_send_plain(&t, MSG_RESUME, 1);
		break;
	case 1:
		ck_assert_int_eq(fd_send(t.sock[0], "x", 1, NULL, 0), 0);
		break;
	case 2:
		ck_assert_int_eq(msg_send(t.sock[0], MSG_DAEMON,
					 &(union msg){.hdr.type = MSG_ADOPT},
					 t.s.prep_fds, 1),
			0);
		break;
	default:
		close_fd(&t.sock[0]);
	}
}

/* It ends without a word. */
static void expect_silent_end(void)
{
	union msg m;

	ck_assert_int_eq(vmm_thread_join(&t), 1);
	close_fd(&t.sock[1]);
	if (t.sock[0] >= 0)
		ck_assert_int_eq(vmm_thread_receive(&t, &m), 0);
}

START_TEST(nothing_but_a_preparation_comes_first)
{
	vmm_thread_run(&t);
	if (_i < 4)
		send_wrong(_i);
	else
		vmm_thread_send_start(&t);
	expect_silent_end();
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CREATE_VM], 0);
}
END_TEST

/* As long as it has no guest a VM ends with its daemon, wherever another could
 * find it. */
START_TEST(nothing_but_a_start_follows_it)
{
	vmm_thread_listen(&t);
	vmm_thread_prepare(&t);
	ck_assert(vmm_thread_is_silent(&t));
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_NONE);
	if (_i < 4)
		send_wrong(_i);
	else
		vmm_thread_send_prepare(&t);
	expect_silent_end();
	ck_assert_uint_eq(entries(), 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CREATE_VM], 1);
}
END_TEST

/* How many descriptors there are of the file that fd is one of. */
static unsigned count_of(int fd)
{
	struct stat want, st;
	unsigned n = 0;

	ck_assert_int_eq(fstat(fd, &want), 0);
	for (int i = 0; i < 256; i++)
		n += fstat(i, &st) == 0 && st.st_dev == want.st_dev &&
		     st.st_ino == want.st_ino;
	return n;
}

/* But for those of the daemon, which is the same process here. */
START_TEST(a_guest_finds_no_descriptor_of_what_only_its_start_needed)
{
	int *kvm = &t.s.prep_fds[MSG_PREPARE_FD_KVM];

	close(*kvm);
	*kvm = memfd_create("kvm", MFD_CLOEXEC);
	/* Kernel, initrd, drive. */
	t.s.msg.start.has_initrd = 1;
	t.s.fds[2] = t.s.fds[1];
	t.s.fds[1] = memfd_create("initrd", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(t.s.fds[1], 4096), 0);
	t.s.n_fds = 3;
	vmm_thread_start(&t);
	for (unsigned i = 0; i <= MSG_PREPARE_FD_SECCOMP; i++)
		ck_assert_uint_eq(count_of(t.s.prep_fds[i]), 1);
	for (unsigned i = 0; i < t.s.n_fds; i++)
		ck_assert_uint_eq(count_of(t.s.fds[i]), 1);
	leave();
}
END_TEST

START_TEST(a_process_goes_by_the_name_of_its_vm)
{
	static const struct {
		const char *id;
		bool room;
		char shown[8];
	} cases[] = {
		{"a", true, "a\0\0\0\0\0\0!"},
		{"seven-7", true, "seven-7!"},
		{"eight--8", true, "eight--!"},
		{"none", false, "xxxxxxx!"},
	};
	char title[] = "xxxxxxx!";

	t.vm.title = cases[_i].room ? title : NULL;
	t.vm.title_bytes = 7;
	(void)snprintf(
		t.s.msg.start.id, sizeof(t.s.msg.start.id), "%s", cases[_i].id);
	vmm_thread_start(&t);
	ck_assert_mem_eq(title, cases[_i].shown, sizeof(cases[_i].shown));
	leave();
}
END_TEST

START_TEST(pause_and_resume_are_answered)
{
	unsigned before;

	vmm_thread_start(&t);
	vmm_thread_send_plain(&t, MSG_PAUSE, 20);
	ck_assert_int_eq(vmm_thread_done(&t, 20), 0);
	before = entries();
	ck_assert_uint_eq(t.vm.vcpus.parked, 1);
	vmm_thread_send_plain(&t, MSG_PAUSE, 21);
	ck_assert_int_eq(vmm_thread_done(&t, 21), 0);
	ck_assert_uint_eq(entries(), before);
	vmm_thread_send_plain(&t, MSG_RESUME, 22);
	ck_assert_int_eq(vmm_thread_done(&t, 22), 0);
	while (entries() == before)
		(void)poll(NULL, 0, 1);
	leave();
}
END_TEST

START_TEST(typing_is_answered_and_bounded)
{
	union msg m = {.input = {.hdr = {MSG_CONSOLE_INPUT, 30},
			       .len = VM_CONSOLE_INPUT_MAX}};

	vmm_thread_start(&t);
	ck_assert_int_eq(msg_send(t.sock[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(vmm_thread_done(&t, 30), 0);
	ck_assert_int_eq(msg_send(t.sock[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(vmm_thread_done(&t, 30), ENOBUFS);
	leave();
}
END_TEST

START_TEST(three_keys_reach_the_keyboard)
{
	uint8_t st = 0;

	vmm_thread_start(&t);
	vmm_thread_send_plain(&t, MSG_CTRL_ALT_DEL, 40);
	ck_assert_int_eq(vmm_thread_done(&t, 40), 0);
	bus_read(&t.vm.pio, 0x64, &st, 1);
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
	vmm_thread_start(&t);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
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
	ck_assert_int_eq(vmm_thread_join(&t), 0);
	/* Stopped before it was told. */
	ck_assert(!t.vm.vcpus.cpu[0].has_thread);
}
END_TEST

START_TEST(events_of_devices_are_passed_on)
{
	union msg m;

	vmm_thread_start(&t);
	vm_events_blk_error(&t.vm.events, 0, ENOSPC);
	ck_assert_int_eq(vmm_thread_receive(&t, &m), 1);
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

	vmm_thread_start(&t);
	if (_i == 0)
		vmm_thread_send_start(&t);
	else if (_i == 1)
		vmm_thread_send_prepare(&t);
	else
		ck_assert_int_eq(fd_send(t.sock[0], "junk", 4, NULL, 0), 0);
	ck_assert_int_eq(vmm_thread_join(&t), 0);
	t.sock[1] = -1; /* closed */
	ck_assert(!t.vm.vcpus.cpu[0].has_thread);
	ck_assert_uint_eq(t.s.shared->run_state, VM_RUN_STATE_ENDED);
	ck_assert_uint_eq(t.s.shared->exit_reason, VM_EXIT_NONE);
	ck_assert_int_eq(
		vmm_thread_receive(&t, &m), 0); /* no reason was given */
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
	tcase_add_loop_test(
		tc_start, a_start_that_fails_says_why_and_ends, 0, 2);
	tcase_add_test(tc_start, a_preparation_that_fails_says_why_and_ends);
	tcase_add_loop_test(
		tc_start, nothing_but_a_preparation_comes_first, 0, 5);
	tcase_add_loop_test(tc_start, nothing_but_a_start_follows_it, 0, 5);
	tcase_add_test(tc_start,
		a_guest_finds_no_descriptor_of_what_only_its_start_needed);
	tcase_add_loop_test(
		tc_start, a_process_goes_by_the_name_of_its_vm, 0, 4);
	suite_add_tcase(suite, tc_start);

	tcase_add_checked_fixture(tc_life, setup, teardown);
	tcase_add_test(tc_life, pause_and_resume_are_answered);
	tcase_add_test(tc_life, typing_is_answered_and_bounded);
	tcase_add_test(tc_life, three_keys_reach_the_keyboard);
	tcase_add_loop_test(
		tc_life, the_end_of_a_guest_is_the_last_message, 0, 2);
	tcase_add_test(tc_life, events_of_devices_are_passed_on);
	tcase_add_loop_test(
		tc_life, a_daemon_that_breaks_the_protocol_is_left, 0, 3);
	suite_add_tcase(suite, tc_life);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
