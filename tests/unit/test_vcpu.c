#include "tests/unit/fake_kvm.h"
#include "vmm/vcpu.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PORT 0x3f8
#define MMIO 0xd0000000ull

static unsigned reads, writes; /* of the one device */

static void dev_read(void *d, uint64_t off, void *data, unsigned len)
{
	(void)d;
	(void)off;
	memset(data, 0, len);
	reads++;
}

static void dev_write(void *d, uint64_t off, const void *data, unsigned len)
{
	(void)d;
	(void)off;
	(void)data;
	(void)len;
	writes++;
}

static struct bus pio, mmio;
static struct vm_shared shared;
static struct vcpus vcpus;
static unsigned threads_begun;
static int thread_start_result;

/* What ended() was told, by whichever thread. */
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end_cond = PTHREAD_COND_INITIALIZER;
static enum vm_exit_reason end_reason;
static char end_detail[256];

static int on_thread(void *arg)
{
	(void)arg;
	__atomic_fetch_add(&threads_begun, 1, __ATOMIC_RELAXED);
	return thread_start_result;
}

static void on_end(void *arg, enum vm_exit_reason reason, const char *detail)
{
	(void)arg;
	pthread_mutex_lock(&end_lock);
	end_reason = reason;
	(void)snprintf(end_detail, sizeof(end_detail), "%s", detail);
	pthread_cond_signal(&end_cond);
	pthread_mutex_unlock(&end_lock);
}

static enum vm_exit_reason wait_end(void)
{
	pthread_mutex_lock(&end_lock);
	while (end_reason == VM_EXIT_NONE)
		pthread_cond_wait(&end_cond, &end_lock);
	pthread_mutex_unlock(&end_lock);
	return end_reason;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void setup(void)
{
	const struct bus_range port = {PORT, 8, NULL, dev_read, dev_write};
	const struct bus_range page = {MMIO, 4096, NULL, dev_read, dev_write};

	reads = writes = 0;
	memset(&pio, 0, sizeof(pio));
	memset(&mmio, 0, sizeof(mmio));
	memset(&shared, 0, sizeof(shared));
	memset(&vcpus, 0, sizeof(vcpus));
	end_reason = VM_EXIT_NONE;
	threads_begun = 0;
	thread_start_result = 0;
	fake_kvm_reset();
	ck_assert_int_eq(bus_add(&pio, &port), 0);
	ck_assert_int_eq(bus_add(&mmio, &page), 0);
	ck_assert_int_eq(vcpus_init_signal(), 0);
}

static void teardown(void)
{
	vcpus_destroy(&vcpus);
}

static void create(unsigned n)
{
	const struct vcpus_config config = {.pio = &pio,
		.mmio = &mmio,
		.shared = &shared,
		.thread_start = on_thread,
		.ended = on_end};
	struct error err;

	ck_assert_int_eq(vcpus_begin(&vcpus, n, &config, &err), 0);
	ck_assert_int_eq(vcpus_create(&vcpus, -1, FAKE_KVM_RUN_BYTES, &err), 0);
}

static void create_and_start(unsigned n)
{
	struct error err;

	create(n);
	ck_assert_int_eq(vcpus_ready(&vcpus, &err), 0);
}

/* ---- the loop ---- */

static int exit_shutdown(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

static int exit_out(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = 1;
	run->io.port = PORT;
	run->io.count = 1;
	run->io.data_offset = 4096;
	return 0;
}

static int exit_mmio(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO;
	run->mmio.len = 4;
	return 0;
}

START_TEST(exits_go_to_their_buses_and_are_counted)
{
	static const fake_step steps[] = {
		exit_out, exit_mmio, exit_out, exit_shutdown};

	fake_kvm_script(0, steps, 4, NULL);
	create_and_start(1);
	vcpus_run(&vcpus);
	ck_assert_int_eq(wait_end(), VM_EXIT_TRIPLE_FAULT);
	ck_assert_uint_eq(writes, 2);
	ck_assert_uint_eq(reads, 1);
	ck_assert_uint_eq(load(&shared.vcpu[0].exits_pio), 2);
	ck_assert_uint_eq(load(&shared.vcpu[0].exits_mmio), 1);
	ck_assert_uint_eq(load(&shared.vcpu[0].exits_other), 1);
}
END_TEST

static int run_eagain(struct kvm_run *run, void *arg)
{
	(void)run;
	(void)arg;
	return -EAGAIN;
}

static int exit_intr(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_INTR;
	return 0;
}

START_TEST(a_woken_or_interrupted_vcpu_enters_again)
{
	static const fake_step steps[] = {
		run_eagain, exit_intr, run_eagain, exit_shutdown};

	fake_kvm_script(0, steps, 4, NULL);
	create_and_start(1);
	vcpus_run(&vcpus);
	ck_assert_int_eq(wait_end(), VM_EXIT_TRIPLE_FAULT);
	ck_assert_uint_eq(fake_kvm.vcpu[0].next_step, 4);
}
END_TEST

static int run_efault(struct kvm_run *run, void *arg)
{
	(void)run;
	(void)arg;
	return -EINVAL;
}

START_TEST(a_kvm_run_that_fails_ends_the_guest)
{
	static const fake_step steps[] = {run_efault};

	fake_kvm.vcpu[0].regs.rip = 0x1234;
	fake_kvm_script(0, steps, 1, NULL);
	create_and_start(1);
	vcpus_run(&vcpus);
	ck_assert_int_eq(wait_end(), VM_EXIT_INTERNAL_ERROR);
	ck_assert_str_eq(end_detail, "KVM_RUN failed, errno 22 at rip 0x1234");
}
END_TEST

static void power_off(void *d, uint64_t off, const void *data, unsigned len)
{
	(void)d;
	(void)off;
	(void)data;
	(void)len;
	vcpus_end(&vcpus);
}

static int out_power_off(struct kvm_run *run, void *arg)
{
	exit_out(run, arg);
	run->io.port = 0x600;
	return 0;
}

static int too_far(struct kvm_run *run, void *arg)
{
	(void)run;
	(void)arg;
	ck_abort_msg("the guest ran on after it was switched off");
	return 0;
}

START_TEST(a_device_that_ends_the_guest_stops_its_own_vcpu_at_once)
{
	static const fake_step steps[] = {out_power_off, too_far};
	const struct bus_range r = {0x600, 2, NULL, dev_read, power_off};

	ck_assert_int_eq(bus_add(&pio, &r), 0);
	fake_kvm_script(0, steps, 2, NULL);
	create_and_start(1);
	vcpus_run(&vcpus);
	while (!__atomic_load_n(
		&shared.vcpu[0].exits_interrupted, __ATOMIC_RELAXED))
		sleep_ms(1);
	vcpus_stop(&vcpus);
	ck_assert_uint_eq(fake_kvm.vcpu[0].next_step, 1);
}
END_TEST

/* ---- life ---- */

START_TEST(threads_begin_in_their_filter_and_wait)
{
	create_and_start(4);
	ck_assert_uint_eq(threads_begun, 4);
	sleep_ms(10);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_RUN], 0);
	ck_assert_uint_eq(load(&shared.moments[VM_MOMENT_FIRST_ENTRY]), 0);
}
END_TEST

START_TEST(first_entry_is_marked_by_the_boot_processor)
{
	create_and_start(2);
	vcpus_run(&vcpus);
	while (!load(&shared.moments[VM_MOMENT_FIRST_ENTRY]))
		sleep_ms(1);
	/* No kvmclock can have been stopped before it ever ran. */
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CLOCK_CTRL], 0);
}
END_TEST

START_TEST(a_thread_that_cannot_enter_its_filter_fails_the_start)
{
	struct error err;

	thread_start_result = -EINVAL;
	create(3);
	ck_assert_int_eq(vcpus_ready(&vcpus, &err), -EINVAL);
	ck_assert_int_eq(err.code, EINVAL);
	vcpus_run(&vcpus);
	vcpus_stop(&vcpus);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_RUN], 0);
}
END_TEST

START_TEST(a_vcpu_that_cannot_be_made_fails_the_creation)
{
	const struct vcpus_config config = {
		.shared = &shared, .thread_start = on_thread};
	struct error err;

	ck_assert_int_eq(vcpus_begin(&vcpus, 2, &config, &err), 0);
	ck_assert_int_eq(vcpus_create(&vcpus, -1, 100, &err), -EPROTO);
	fake_kvm.fail[FAKE_VCPU] = -EEXIST;
	ck_assert_int_eq(
		vcpus_create(&vcpus, -1, FAKE_KVM_RUN_BYTES, &err), -EEXIST);
}
END_TEST

START_TEST(pause_waits_for_every_vcpu_and_resume_tells_its_clock)
{
	unsigned runs;

	create_and_start(4);
	vcpus_run(&vcpus);
	while (fake_kvm.calls[FAKE_RUN] < 4)
		sleep_ms(1);
	ck_assert_int_eq(vcpus_pause(&vcpus), 0);
	runs = fake_kvm.calls[FAKE_RUN];
	ck_assert_uint_eq(vcpus.parked, 4);
	ck_assert_int_eq(vcpus_pause(&vcpus), 0); /* again: the same */
	sleep_ms(10);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_RUN], runs);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CLOCK_CTRL], 0);

	vcpus_run(&vcpus);
	while (fake_kvm.calls[FAKE_CLOCK_CTRL] < 4 ||
		fake_kvm.calls[FAKE_RUN] < runs + 4)
		sleep_ms(1);
	ck_assert_int_eq(vcpus_pause(&vcpus), 0);
}
END_TEST

START_TEST(a_resumed_guest_goes_on)
{
	static const fake_step steps[] = {exit_shutdown};

	create_and_start(1);
	vcpus_run(&vcpus);
	while (fake_kvm.calls[FAKE_RUN] < 1)
		sleep_ms(1);
	ck_assert_int_eq(vcpus_pause(&vcpus), 0);
	fake_kvm_script(0, steps, 1, NULL);
	vcpus_run(&vcpus);
	ck_assert_int_eq(wait_end(), VM_EXIT_TRIPLE_FAULT);
}
END_TEST

START_TEST(pausing_and_resuming_at_any_moment_loses_no_vcpu)
{
	create_and_start(4);
	for (unsigned i = 0; i < 2000; i++) {
		vcpus_run(&vcpus);
		if (i % 7 == 0)
			sleep_ms(0);
		ck_assert_int_eq(vcpus_pause(&vcpus), 0);
	}
	vcpus_run(&vcpus);
	vcpus_stop(&vcpus);
}
END_TEST

START_TEST(stop_ends_waiting_running_and_paused_vcpus)
{
	create_and_start(3);
	if (_i > 0)
		vcpus_run(&vcpus);
	if (_i == 1)
		sleep_ms(2);
	if (_i == 2)
		ck_assert_int_eq(vcpus_pause(&vcpus), 0);
	vcpus_stop(&vcpus);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(!vcpus.cpu[i].has_thread);
	vcpus_run(&vcpus); /* has no effect any more */
	ck_assert_int_eq(vcpus_pause(&vcpus), -ESHUTDOWN);
}
END_TEST

START_TEST(pause_of_an_ending_guest_says_so)
{
	static const fake_step steps[] = {exit_shutdown};

	fake_kvm_script(0, steps, 1, NULL);
	create_and_start(2);
	vcpus_run(&vcpus);
	wait_end();
	ck_assert_int_eq(vcpus_pause(&vcpus), -ESHUTDOWN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vcpu");
	TCase *exits = tcase_create("loop");
	TCase *life = tcase_create("life");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(exits, setup, teardown);
	tcase_add_test(exits, exits_go_to_their_buses_and_are_counted);
	tcase_add_test(exits, a_woken_or_interrupted_vcpu_enters_again);
	tcase_add_test(exits, a_kvm_run_that_fails_ends_the_guest);
	tcase_add_test(
		exits, a_device_that_ends_the_guest_stops_its_own_vcpu_at_once);
	suite_add_tcase(s, exits);

	tcase_add_checked_fixture(life, setup, teardown);
	tcase_add_test(life, threads_begin_in_their_filter_and_wait);
	tcase_add_test(life, first_entry_is_marked_by_the_boot_processor);
	tcase_add_test(
		life, a_thread_that_cannot_enter_its_filter_fails_the_start);
	tcase_add_test(life, a_vcpu_that_cannot_be_made_fails_the_creation);
	tcase_add_test(
		life, pause_waits_for_every_vcpu_and_resume_tells_its_clock);
	tcase_add_test(life, a_resumed_guest_goes_on);
	tcase_add_test(life, pausing_and_resuming_at_any_moment_loses_no_vcpu);
	tcase_add_loop_test(
		life, stop_ends_waiting_running_and_paused_vcpus, 0, 3);
	tcase_add_test(life, pause_of_an_ending_guest_says_so);
	suite_add_tcase(s, life);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
