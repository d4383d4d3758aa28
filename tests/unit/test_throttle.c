#include "daemon/throttle.h"

#include "base/clock.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define S 1000000000ull

static struct loop *loop;
static struct vm *vm;
static struct vm_shared *shared;
static unsigned n_events;
static char last[200];

/* In place of vm_show.c's. */
void vm_publish_throttled(
	const struct vm *of, const char *device, const char *direction)
{
	ck_assert_ptr_eq(of, vm);
	n_events++;
	snprintf(last, sizeof(last), "%s %s", device,
		direction ? direction : "-");
}

static void setup(void)
{
	static char ids[4][8] = {"d0", "d1", "eth0", "p0"};
	struct process p = {.wake_fd = -1};
	struct error err;

	n_events = 0;
	ck_assert_int_eq(loop_create(&loop, &err), 0);
	vm = calloc(1, sizeof(*vm));
	vm->output = output_create(loop);
	p.shared = shared = mmap(NULL, PROCESS_SHARED_BYTES,
		PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	output_attach(vm->output, &p);
	vm->state = VM_RUNNING;
	vm->config.n_drives = 2;
	vm->config.drives[0].drive_id = ids[0];
	vm->config.drives[1].drive_id = ids[1];
	vm->config.n_nets = 1;
	vm->config.nets[0].iface_id = ids[2];
	vm->config.n_pmem = 1;
	vm->config.pmem[0].id = ids[3];
	vm->config.entropy.there = true;
}

static void teardown(void)
{
	output_end_and_put(vm->output);
	free(vm->throttle_seen);
	free(vm);
	loop_destroy(loop);
}

static const struct vm_rate_limiter a_limit = {
	.bandwidth = {.size = 1000, .refill_time_ms = 100}};

/* What each limiter counts, where it is configured, and what is told of it. */
static const struct {
	size_t counter, limiter;
	const char *told;
} limiters[] = {
	{offsetof(struct vm_shared, blk[0].throttled),
		offsetof(struct vm_config, drives[0].rate_limiter),
		"drives/d0 -"},
	{offsetof(struct vm_shared, blk[1].throttled),
		offsetof(struct vm_config, drives[1].rate_limiter),
		"drives/d1 -"},
	{offsetof(struct vm_shared, net[0].rx_throttled),
		offsetof(struct vm_config, nets[0].rx_rate_limiter),
		"network-interfaces/eth0 receive"},
	{offsetof(struct vm_shared, net[0].tx_throttled),
		offsetof(struct vm_config, nets[0].tx_rate_limiter),
		"network-interfaces/eth0 transmit"},
	{offsetof(struct vm_shared, pmem[0].throttled),
		offsetof(struct vm_config, pmem[0].rate_limiter), "pmem/p0 -"},
	{offsetof(struct vm_shared, rng.throttled),
		offsetof(struct vm_config, entropy.rate_limiter), "entropy -"},
	{offsetof(struct vm_shared, console_limited),
		offsetof(struct vm_config, serial.rate_limiter), "serial -"},
};

#define N_LIMITERS (int)(sizeof(limiters) / sizeof(limiters[0]))

static uint64_t *counter(int i)
{
	return (uint64_t *)((char *)shared + limiters[i].counter);
}

static struct vm_rate_limiter *limiter(int i)
{
	return (struct vm_rate_limiter *)((char *)&vm->config +
					  limiters[i].limiter);
}

START_TEST(each_limiter_is_told_of_by_its_name)
{
	*limiter(_i) = a_limit;
	throttle_look(vm, 1, 1 * S);
	ck_assert_uint_eq(n_events, 0);
	*counter(_i) = 3;
	throttle_look(vm, 1, 2 * S);
	ck_assert_uint_eq(n_events, 1);
	ck_assert_str_eq(last, limiters[_i].told);
}
END_TEST

/* Which do not limit: a size or a time of 0. */
static const struct vm_rate_limiter no_limits[] = {
	{.ops = {.size = 10}, .bandwidth = {.refill_time_ms = 100}},
	{.bandwidth = {.size = 10}, .ops = {.refill_time_ms = 100}},
};

/* A VMM that was taken over counts what it likes. */
START_TEST(who_has_no_limiter_is_not_looked_at)
{
	int i = _i / 2;

	*limiter(i) = no_limits[_i % 2];
	throttle_look(vm, 1, 1 * S);
	*counter(i) = 3;
	throttle_look(vm, 1, 2 * S);
	ck_assert_uint_eq(n_events, 0);
	ck_assert_ptr_null(vm->throttle_seen);
	/* Another device's limiter does not change that. */
	*limiter((i + 1) % N_LIMITERS) = a_limit;
	throttle_look(vm, 1, 3 * S);
	*counter(i) = 4;
	throttle_look(vm, 1, 4 * S);
	ck_assert_uint_eq(n_events, 0);
}
END_TEST

START_TEST(it_is_told_once_until_it_has_been_quiet)
{
	uint64_t now = S;

	*limiter(0) = a_limit;
	throttle_look(vm, 1, now);
	for (unsigned i = 0; i < 100; i++) {
		(*counter(0))++;
		throttle_look(vm, 1, now += S);
	}
	ck_assert_uint_eq(n_events, 1);
	/* Not quite long enough ... */
	(*counter(0))++;
	throttle_look(vm, 1, now += THROTTLE_QUIET_NS - 1);
	ck_assert_uint_eq(n_events, 1);
	for (unsigned i = 0; i < 9; i++)
		throttle_look(vm, 1, now += S);
	/* ... and now. */
	(*counter(0))++;
	throttle_look(vm, 1, now += S);
	ck_assert_uint_eq(n_events, 2);
	/* Nothing new, and a count that went down. */
	throttle_look(vm, 1, now += 2 * THROTTLE_QUIET_NS);
	*counter(0) = 1;
	throttle_look(vm, 1, now + 2 * THROTTLE_QUIET_NS);
	ck_assert_uint_eq(n_events, 2);
}
END_TEST

START_TEST(what_was_before_somebody_followed_is_not_told)
{
	*limiter(0) = a_limit;
	*counter(0) = 7;
	vm->received_ns = 4 * S;
	throttle_look(vm, 5 * S, 6 * S);
	ck_assert_uint_eq(n_events, 0);
	*counter(0) = 8;
	throttle_look(vm, 5 * S, 7 * S);
	ck_assert_uint_eq(n_events, 1);
	/* Nobody followed for a while. */
	*counter(0) = 9;
	throttle_look(vm, 30 * S, 30 * S);
	ck_assert_uint_eq(n_events, 1);
	*counter(0) = 10;
	throttle_look(vm, 30 * S, 31 * S);
	ck_assert_uint_eq(n_events, 2);
}
END_TEST

START_TEST(of_a_new_vm_all_is_told)
{
	*limiter(0) = a_limit;
	*counter(0) = 7;
	vm->received_ns = 5 * S + 1;
	throttle_look(vm, 5 * S, 6 * S);
	ck_assert_uint_eq(n_events, 1);
}
END_TEST

START_TEST(a_vm_that_does_not_run_yet_is_left_alone)
{
	*limiter(0) = a_limit;
	*counter(0) = 7;
	vm->received_ns = 2;
	vm->state = VM_STARTING;
	throttle_look(vm, 1, 1 * S);
	vm->state = VM_RUNNING;
	output_reset(vm->output);
	throttle_look(vm, 1, 2 * S);
	ck_assert_uint_eq(n_events, 0);
}
END_TEST

/* ---- the daemon's second ---- */

static struct registry reg;
static struct events *events;
static struct throttle_watch watch;
static struct loop_timer end;

static void on_end(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop);
}

static int prepare(void *arg)
{
	(void)arg;
	return -1;
}

static void run_for(uint64_t ns)
{
	end.fire = on_end;
	loop_set_timer(loop, &end, clock_ns() + ns);
	loop_run(loop, prepare, NULL);
}

static void wake(struct api_reader *r)
{
	(void)r;
}

START_TEST(it_looks_once_a_second_while_somebody_follows)
{
	struct api_reader r = {.wake = wake};
	uint64_t since;

	*limiter(0) = a_limit;
	*counter(0) = 7;
	ck_assert_int_eq(registry_init(&reg), 0);
	registry_add(&reg, vm);
	events = events_create();
	throttle_watch_init(&watch, loop, &reg, events);
	events_reader_open(events, &r, NULL);
	throttle_watch_start(&watch);
	since = watch.since_ns;
	ck_assert_uint_gt(since, 0);
	*counter(0) = 8;
	run_for(THROTTLE_LOOK_NS / 2);
	/* Another follower changes nothing. */
	throttle_watch_start(&watch);
	ck_assert_uint_eq(watch.since_ns, since);
	ck_assert_uint_eq(n_events, 0);
	run_for(THROTTLE_LOOK_NS * 7ull / 10);
	ck_assert_uint_eq(n_events, 1);
	events_reader_close(&r);
	run_for(THROTTLE_LOOK_NS);
	ck_assert_uint_eq(watch.since_ns, 0);
	ck_assert_uint_eq(watch.timer.at, 0);
	throttle_watch_fini(&watch);
	events_destroy(events);
	registry_remove(&reg, vm);
	registry_fini(&reg);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("throttle");
	TCase *t = tcase_create("throttle");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(
		t, each_limiter_is_told_of_by_its_name, 0, N_LIMITERS);
	tcase_add_loop_test(
		t, who_has_no_limiter_is_not_looked_at, 0, 2 * N_LIMITERS);
	tcase_add_test(t, it_is_told_once_until_it_has_been_quiet);
	tcase_add_test(t, what_was_before_somebody_followed_is_not_told);
	tcase_add_test(t, of_a_new_vm_all_is_told);
	tcase_add_test(t, a_vm_that_does_not_run_yet_is_left_alone);
	tcase_add_test(t, it_looks_once_a_second_while_somebody_follows);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
