#include "base/clock.h"
#include "tests/unit/rig.h"
#include "virtio/vq_service.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <time.h>

#define V1 (1ull << VIRTIO_F_VERSION_1)
#define BUF(i) (DRIVER_DATA_GPA + 64ull * (i))
#define HOUR_NS 3600000000000ull
#define MS 1000000ull

/* A device that does what the test says. */
static struct {
	struct virtio_dev dev;
	struct virtq vq;
	struct vq_service s;
	unsigned handled, agains;
	bool hold, unwanted, note, greedy;
	uint64_t retry_ns;
	unsigned seen_by_other; /* handled so far, when others had a turn */
	struct worker_op other;
} fake;
static struct rig rig;

static unsigned handled(void)
{
	return __atomic_load_n(&fake.handled, __ATOMIC_ACQUIRE);
}

static void other_came(struct worker_op *op, int32_t res)
{
	(void)op;
	(void)res;
	fake.seen_by_other = fake.handled;
}

static bool wanted(struct vq_service *s)
{
	(void)s;
	return !__atomic_load_n(&fake.unwanted, __ATOMIC_ACQUIRE);
}

/* Tells how many bytes were readable. */
static int64_t handle(struct vq_service *s, uint64_t *ret_retry_ns)
{
	fake.agains += s->again;
	if (fake.note && fake.handled == 0)
		worker_defer(rig.w, &fake.other);
	__atomic_fetch_add(&fake.handled, 1, __ATOMIC_RELEASE);
	if (!__atomic_load_n(&fake.hold, __ATOMIC_ACQUIRE))
		return (int64_t)s->chain.rd.len;
	*ret_retry_ns = __atomic_load_n(&fake.retry_ns, __ATOMIC_ACQUIRE);
	if (*ret_retry_ns == VQ_SERVICE_NEXT_TURN)
		fake.hold = false;
	return VQ_SERVICE_HOLD;
}

static const struct vq_service_ops choosy = {wanted, handle};
static const struct vq_service_ops greedy = {NULL, handle};

static void start_on_worker(void *arg)
{
	(void)arg;
	vq_service_start(&fake.s, fake.greedy ? &greedy : &choosy);
}

static int start(struct virtio_dev *d)
{
	(void)d;
	worker_call(rig.w, start_on_worker, NULL);
	return 0;
}

static void stop_on_worker(void *arg)
{
	(void)arg;
	vq_service_stop(&fake.s);
}

static void stop(struct virtio_dev *d)
{
	(void)d;
	worker_call(rig.w, stop_on_worker, NULL);
}

static int attach(struct virtio_dev *d, struct error *err)
{
	(void)d;
	return vq_service_attach(&fake.s, err);
}

static void destroy(struct virtio_dev *d)
{
	(void)d;
}

static const struct virtio_dev_ops ops = {.id = 42,
	.attach = attach,
	.start = start,
	.stop = stop,
	.destroy = destroy};

static void setup(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.dev = (struct virtio_dev){
		.ops = &ops, .features = V1, .vqs = &fake.vq, .n_vqs = 1};
	fake.vq.size_max = RIG_SIZE;
	fake.other.done = other_came;
	rig_init(&rig);
	vq_service_init(&fake.s, &fake.dev, rig.w, 0, 4);
	rig_plug(&rig, &fake.dev);
}

static void teardown(void)
{
	rig_fini(&rig);
}

static void offer(unsigned i, uint32_t len)
{
	driver_chain(&rig.q[0], (uint16_t)i,
		(struct driver_piece[]){{BUF(i), len, false}, {0}});
	driver_offer(&rig.q[0], (uint16_t)i);
}

static void hold_until(uint64_t retry_ns)
{
	__atomic_store_n(&fake.retry_ns, retry_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&fake.hold, true, __ATOMIC_RELEASE);
}

static void release(void)
{
	__atomic_store_n(&fake.hold, false, __ATOMIC_RELEASE);
}

static void poke_on_worker(void *arg)
{
	(void)arg;
	vq_service_poke(&fake.s);
}

static void poke(void)
{
	worker_call(rig.w, poke_on_worker, NULL);
}

static void await_handled(unsigned n)
{
	uint64_t end = clock_ns() + 10000 * MS;

	while (handled() < n)
		ck_assert_msg(clock_ns() < end, "not handled");
}

START_TEST(chains_are_answered_in_their_order)
{
	rig_up(&rig, V1, 1);
	for (unsigned i = 0; i < 10; i++)
		offer(i, i + 1);
	rig_kick(&rig, 0);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(rig_used(&rig, 0, (uint16_t)i), i + 1);
	ck_assert_uint_eq(fake.agains, 0);
}
END_TEST

START_TEST(what_came_before_driver_ok_is_answered)
{
	driver_negotiate(rig.m, V1);
	driver_queue(rig.m, &rig.q[0], 0);
	offer(0, 7);
	driver_write(rig.m, VIRTIO_MMIO_STATUS, RIG_OK);
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 7);
}
END_TEST

START_TEST(a_turn_is_one_interrupt)
{
	driver_negotiate(rig.m, V1);
	driver_queue(rig.m, &rig.q[0], 0);
	for (unsigned i = 0; i < 3; i++)
		offer(i, 1);
	driver_write(rig.m, VIRTIO_MMIO_STATUS, RIG_OK);
	ck_assert_uint_eq(handled(), 3);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
	rig.q[0].avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	offer(3, 1);
	poke();
	ck_assert_uint_eq(handled(), 4);
	ck_assert_uint_eq(rig_interrupts(&rig), 0);
}
END_TEST

START_TEST(others_have_their_turn_after_so_many)
{
	fake.note = true;
	driver_negotiate(rig.m, V1);
	driver_queue(rig.m, &rig.q[0], 0);
	for (unsigned i = 0; i < 10; i++)
		offer(i, 1);
	driver_write(rig.m, VIRTIO_MMIO_STATUS, RIG_OK);
	for (unsigned i = 0; i < 10; i++)
		rig_used(&rig, 0, (uint16_t)i);
	ck_assert_uint_eq(fake.seen_by_other, 4);
}
END_TEST

START_TEST(a_held_chain_keeps_its_place)
{
	rig_up(&rig, V1, 1);
	hold_until(VQ_SERVICE_POKED);
	offer(3, 30);
	offer(4, 40);
	rig_kick(&rig, 0);
	await_handled(1);
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(handled(), 1);
	ck_assert_int_eq(fake.s.timer.state, WORKER_OP_IDLE);
	poke();
	ck_assert_uint_eq(handled(), 2);
	release();
	poke();
	ck_assert_uint_eq(rig_used(&rig, 0, 3), 30);
	ck_assert_uint_eq(rig_used(&rig, 0, 4), 40);
	ck_assert_uint_eq(handled(), 4);
	ck_assert_uint_eq(fake.agains, 2);
}
END_TEST

START_TEST(a_held_chain_comes_again_in_the_next_turn)
{
	rig_up(&rig, V1, 1);
	hold_until(VQ_SERVICE_NEXT_TURN);
	fake.note = true;
	offer(0, 5);
	rig_kick(&rig, 0);
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 5);
	ck_assert_uint_eq(handled(), 2);
	ck_assert_uint_eq(fake.agains, 1);
	ck_assert_uint_eq(fake.seen_by_other, 1);
}
END_TEST

START_TEST(a_held_chain_comes_again_at_its_time)
{
	uint64_t due = clock_ns() + 50 * MS;

	rig_up(&rig, V1, 1);
	hold_until(due);
	offer(0, 5);
	rig_kick(&rig, 0);
	await_handled(1);
	release();
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 5);
	ck_assert_uint_ge(clock_ns(), due);
	ck_assert_uint_eq(handled(), 2);
}
END_TEST

START_TEST(an_earlier_time_takes_the_place_of_a_later_one)
{
	rig_up(&rig, V1, 1);
	hold_until(clock_ns() + HOUR_NS);
	offer(0, 5);
	rig_kick(&rig, 0);
	await_handled(1);
	hold_until(clock_ns() + 10 * MS);
	poke();
	release();
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 5);
}
END_TEST

START_TEST(kicks_are_off_until_the_ring_is_empty)
{
	rig_up(&rig, V1, 1);
	ck_assert_uint_eq(rig.q[0].used->flags, 0);
	hold_until(VQ_SERVICE_POKED);
	offer(0, 1);
	rig_kick(&rig, 0);
	await_handled(1);
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(rig.q[0].used->flags, VRING_USED_F_NO_NOTIFY);
	release();
	poke();
	rig_used(&rig, 0, 0);
	ck_assert_uint_eq(rig.q[0].used->flags, 0);
}
END_TEST

START_TEST(what_is_not_wanted_stays_in_the_ring)
{
	fake.unwanted = true;
	rig_up(&rig, V1, 1);
	offer(0, 9);
	rig_kick(&rig, 0);
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(handled(), 0);
	__atomic_store_n(&fake.unwanted, false, __ATOMIC_RELEASE);
	poke();
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 9);
}
END_TEST

START_TEST(a_device_need_not_be_choosy)
{
	fake.greedy = true;
	rig_up(&rig, V1, 1);
	offer(0, 9);
	rig_kick(&rig, 0);
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 9);
}
END_TEST

START_TEST(a_worker_with_too_many_files_is_told_of)
{
	const struct worker_config config = {.name = "io", .entries = 8};
	struct vq_service s = {0};
	struct error err = {0};
	struct worker *w;
	unsigned file;

	ck_assert_int_eq(worker_create(&w, &config, &err), 0);
	while (worker_add_file(w, rig.irq, &file) == 0)
		;
	vq_service_init(&s, &fake.dev, w, 0, 1);
	ck_assert_int_eq(vq_service_attach(&s, &err), -ENOSPC);
	ck_assert_int_eq(err.code, ENOSPC);
	worker_destroy(w);
}
END_TEST

START_TEST(a_malformed_ring_needs_a_reset)
{
	rig_up(&rig, V1, 1);
	driver_offer(&rig.q[0], RIG_SIZE);
	rig_kick(&rig, 0);
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	ck_assert_uint_eq(handled(), 0);
	rig_up(&rig, V1, 1);
	offer(0, 1);
	rig_kick(&rig, 0);
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 1);
}
END_TEST

START_TEST(a_stopped_queue_is_left_alone)
{
	rig_up(&rig, V1, 1);
	hold_until(clock_ns() + 10 * MS);
	offer(0, 1);
	rig_kick(&rig, 0);
	await_handled(1);
	rig_reset(&rig);
	release();
	offer(1, 1);
	rig_kick(&rig, 0);
	poke();
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(handled(), 1);
}
END_TEST

/* The turn asked for comes when the driver has gone. */
START_TEST(a_turn_that_comes_too_late_does_nothing)
{
	rig_up(&rig, V1, 1);
	hold_until(VQ_SERVICE_POKED);
	offer(0, 1);
	rig_kick(&rig, 0);
	await_handled(1);
	hold_until(VQ_SERVICE_NEXT_TURN);
	/* On the worker, one behind the other. */
	poke();
	rig_reset(&rig);
	ck_assert_uint_le(handled(), 3);
	rig_up(&rig, V1, 1);
	offer(0, 6);
	rig_kick(&rig, 0);
	ck_assert_uint_eq(rig_used(&rig, 0, 0), 6);
	ck_assert_uint_eq(fake.s.held, false);
}
END_TEST

START_TEST(a_new_driver_does_not_inherit_what_was_held)
{
	rig_up(&rig, V1, 1);
	hold_until(clock_ns() + HOUR_NS);
	offer(0, 1);
	rig_kick(&rig, 0);
	await_handled(1);
	rig_reset(&rig);
	rig_up(&rig, V1, 1);
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(handled(), 1);
	/* And its own times count, whatever was set before. */
	hold_until(clock_ns() + 10 * MS);
	offer(2, 8);
	rig_kick(&rig, 0);
	await_handled(2);
	release();
	ck_assert_uint_eq(rig_used(&rig, 0, 2), 8);
}
END_TEST

START_TEST(a_worker_that_stops_is_not_kept)
{
	rig_up(&rig, V1, 1);
	rig_reset(&rig);
	rig_up(&rig, V1, 1);
	hold_until(clock_ns() + HOUR_NS);
	offer(0, 1);
	rig_kick(&rig, 0);
	await_handled(1);
	worker_stop(rig.w);
	ck_assert_uint_eq(handled(), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vq_service");
	TCase *t = tcase_create("service");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, chains_are_answered_in_their_order);
	tcase_add_test(t, what_came_before_driver_ok_is_answered);
	tcase_add_test(t, a_turn_is_one_interrupt);
	tcase_add_test(t, others_have_their_turn_after_so_many);
	tcase_add_test(t, a_held_chain_keeps_its_place);
	tcase_add_test(t, a_held_chain_comes_again_in_the_next_turn);
	tcase_add_test(t, a_held_chain_comes_again_at_its_time);
	tcase_add_test(t, an_earlier_time_takes_the_place_of_a_later_one);
	tcase_add_test(t, kicks_are_off_until_the_ring_is_empty);
	tcase_add_test(t, what_is_not_wanted_stays_in_the_ring);
	tcase_add_test(t, a_device_need_not_be_choosy);
	tcase_add_test(t, a_worker_with_too_many_files_is_told_of);
	tcase_add_test(t, a_malformed_ring_needs_a_reset);
	tcase_add_test(t, a_stopped_queue_is_left_alone);
	tcase_add_test(t, a_turn_that_comes_too_late_does_nothing);
	tcase_add_test(t, a_new_driver_does_not_inherit_what_was_held);
	tcase_add_test(t, a_worker_that_stops_is_not_kept);
	suite_add_tcase(suite, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
