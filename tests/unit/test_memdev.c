#include "virtio/memdev.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/busy_driver.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mem.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define GPA (4096 * MIB)
#define BLOCK (2 * MIB)
#define SLOT (128 * MIB)
#define SLOTS 4
#define REGION (SLOTS * SLOT)
#define IN_SLOT (SLOT / BLOCK)

#define V1 (1ull << VIRTIO_F_VERSION_1)
#define F_ALL                                                                  \
	(V1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                            \
		1ull << VIRTIO_RING_F_EVENT_IDX |                              \
		1ull << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE)

#define REQ(i) (DRIVER_DATA_GPA + 64ull * (i))
#define RESP(i) (REQ(i) + 32)

static struct driver d;
static struct virtio_dev *dev;
static struct virtio_mmio *m;
static struct worker *w;
static struct memdev_state state;
static int irq = -1;
static struct error err;
static unsigned changes;

/* While closed, set_slot() waits at it: a request is in work as long. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int set_slot(void *arg, unsigned slot, bool there)
{
	(void)arg;
	(void)slot;
	(void)there;
	pthread_mutex_lock(&gate);
	__atomic_fetch_add(&changes, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&gate);
	return 0;
}

static void setup(void)
{
	struct worker_config wc = {.name = "io", .entries = 64};
	struct memdev_config config = {.mem = &d.mem,
		.slot_bytes = SLOT,
		.requested_bytes = 2 * SLOT,
		.set_slot = set_slot,
		.state = &state};

	memset(&state, 0, sizeof(state));
	changes = 0;
	driver_init(&d, 16);
	ck_assert_int_eq(gmem_add_hotplug(&d.mem, GPA, REGION, BLOCK, &err), 0);
	irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(worker_create(&w, &wc, &err), 0);
	ck_assert_int_eq(memdev_create(&dev, w, &config, &err), 0);
	ck_assert_int_eq(
		virtio_mmio_create(&m, dev, &d.mem, irq, NULL, &err), 0);
	ck_assert_int_eq(dev->ops->attach(dev, &err), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
}

static void teardown(void)
{
	virtio_mmio_destroy(m);
	worker_stop(w);
	dev->ops->destroy(dev);
	worker_destroy(w);
	gmem_destroy(&d.mem); /* the driver's RAM with it */
	close_fd(&irq);
}

static struct virtio_mem_config space(void)
{
	struct virtio_mem_config s = {0};

	for (unsigned i = 0; i < sizeof(s); i += 4)
		virtio_mmio_read(
			m, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&s + i, 4);
	return s;
}

static void kick(void)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* Request i in descriptors 2i and 2i + 1; not offered yet. */
static void request(unsigned i, uint16_t type, uint64_t addr, uint16_t n)
{
	struct virtio_mem_req req = {.type = type};
	struct driver_piece pieces[] = {{REQ(i), sizeof(req), false},
		{RESP(i), sizeof(struct virtio_mem_resp), true}, {0}};

	req.u.plug.addr = addr;
	req.u.plug.nb_blocks = n;
	memcpy(driver_ptr(&d, REQ(i)), &req, sizeof(req));
	memset(driver_ptr(&d, RESP(i)), 0xff, sizeof(struct virtio_mem_resp));
	driver_chain(&d, (uint16_t)(2 * i), pieces);
}

static uint32_t next_used(uint32_t *ret_len)
{
	uint64_t end = clock_ns() + 10000000000ull;
	uint32_t id = 0;

	while (!driver_used(&d, &id, ret_len)) {
		ck_assert_msg(clock_ns() < end, "no answer");
		sched_yield();
	}
	return id;
}

static uint16_t answer(unsigned i)
{
	struct virtio_mem_resp resp;

	memcpy(&resp, driver_ptr(&d, RESP(i)), sizeof(resp));
	return resp.type;
}

static uint16_t run(uint16_t type, uint64_t block, uint16_t n)
{
	uint32_t len;

	request(0, type, GPA + block * BLOCK, n);
	driver_offer(&d, 0);
	kick();
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(len, sizeof(struct virtio_mem_resp));
	return answer(0);
}

static void no_op(void *arg)
{
	(void)arg;
}

static void settle(void)
{
	for (unsigned i = 0; i < 3; i++)
		worker_call(w, no_op, NULL);
}

START_TEST(it_describes_its_region)
{
	struct virtio_mem_config s = space();

	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_ID), 24);
	ck_assert_uint_eq(dev->features, F_ALL);
	ck_assert_uint_eq(dev->n_vqs, 1);
	ck_assert_uint_eq(s.block_size, BLOCK);
	ck_assert_uint_eq(s.addr, GPA);
	ck_assert_uint_eq(s.region_size, REGION);
	ck_assert_uint_eq(s.usable_region_size, 2 * SLOT);
	ck_assert_uint_eq(s.plugged_size, 0);
	ck_assert_uint_eq(s.requested_size, 2 * SLOT);
	ck_assert_uint_eq(state.requested_bytes, 2 * SLOT);
}
END_TEST

START_TEST(it_does_not_start_without_its_queue)
{
	driver_negotiate(m, V1);
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS),
		15 | VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

START_TEST(requests_are_done_and_counted)
{
	uint64_t signals;

	driver_up(m, &d, F_ALL);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 1, 3), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(space().plugged_size, 3 * BLOCK);
	ck_assert_uint_eq(state.plugged_bytes, 3 * BLOCK);
	ck_assert_ptr_nonnull(gmem_range(&d.mem, GPA + BLOCK, 3 * BLOCK));
	ck_assert_uint_eq(
		run(VIRTIO_MEM_REQ_UNPLUG, 1, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(space().plugged_size, 2 * BLOCK);
	ck_assert_uint_eq(
		run(VIRTIO_MEM_REQ_UNPLUG, 1, 1), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 1, 2 * IN_SLOT - 1),
		VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_STATE, 0, 2), VIRTIO_MEM_RESP_ACK);
	settle();
	ck_assert_uint_eq(state.plugs, 2);
	ck_assert_uint_eq(state.unplugs, 1);
	ck_assert_uint_eq(state.refused, 2);
	ck_assert_uint_eq(state.malformed, 0);
	ck_assert_int_eq(read(irq, &signals, 8), 8);
	/* What it did itself the driver is not told of. */
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
}
END_TEST

START_TEST(requests_over_many_slots_are_done_one_after_the_other)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_MEM_REQ_PLUG, GPA, 2 * IN_SLOT);
	request(1, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	request(2, VIRTIO_MEM_REQ_PLUG, GPA + BLOCK, IN_SLOT);
	for (uint16_t i = 0; i < 3; i++)
		driver_offer(&d, 2 * i);
	kick();
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(next_used(&len), 2ull * i);
		ck_assert_uint_eq(answer(i), VIRTIO_MEM_RESP_ACK);
	}
	ck_assert_uint_eq(space().plugged_size, SLOT);
	ck_assert_uint_eq(changes, 6);
	settle();
	ck_assert_uint_eq(state.plugs, 2);
	ck_assert_uint_eq(state.unplugs, 1);
}
END_TEST

START_TEST(a_new_request_is_told)
{
	uint32_t generation;

	driver_up(m, &d, F_ALL);
	generation = driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION);
	ck_assert_int_eq(memdev_request(dev, 3 * SLOT + BLOCK), 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
	ck_assert_uint_ne(
		driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	ck_assert_uint_eq(space().requested_size, 3 * SLOT + BLOCK);
	ck_assert_uint_eq(space().usable_region_size, REGION);
	ck_assert_uint_eq(state.requested_bytes, 3 * SLOT + BLOCK);
	ck_assert_int_eq(memdev_request(dev, 0), 0);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_NACK);
}
END_TEST

START_TEST(what_cannot_be_requested_is_refused)
{
	ck_assert_int_eq(memdev_request(dev, REGION + BLOCK), -EINVAL);
	ck_assert_int_eq(memdev_request(dev, UINT64_MAX), -EINVAL);
	ck_assert_int_eq(memdev_request(dev, BLOCK + 4096), -EINVAL);
	ck_assert_uint_eq(space().requested_size, 2 * SLOT);
	ck_assert_int_eq(memdev_request(dev, REGION), 0);
}
END_TEST

/* Request and response in pieces, in the ring or in an indirect table. */
START_TEST(any_layout_of_a_request_works)
{
	struct driver_piece pieces[] = {{REQ(0), 1, false},
		{REQ(0) + 1, 10, false}, {REQ(0) + 11, 13, false},
		{REQ(0) + 24, 8, false}, {RESP(0), 1, true},
		{RESP(0) + 1, 3, true}, {RESP(0) + 4, 28, true}, {0}};
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_MEM_REQ_PLUG, GPA, 1);
	if (_i == 0)
		driver_chain(&d, 0, pieces);
	else
		driver_chain_indirect(&d, 0, pieces);
	driver_offer(&d, 0);
	kick();
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(len, sizeof(struct virtio_mem_resp));
	ck_assert_uint_eq(answer(0), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(space().plugged_size, BLOCK);
}
END_TEST

/* Which end empty, or less than whole. */
static const struct {
	uint32_t rd, wr;
} shapes[] = {{24, 0}, {0, 10}, {23, 10}, {24, 9}, {8, 10}, {1, 1}};

START_TEST(a_chain_without_room_does_nothing)
{
	struct driver_piece pieces[3] = {{0}};
	unsigned n = 0;
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_MEM_REQ_PLUG, GPA, 1);
	if (shapes[_i].rd)
		pieces[n++] =
			(struct driver_piece){REQ(0), shapes[_i].rd, false};
	if (shapes[_i].wr)
		pieces[n++] =
			(struct driver_piece){RESP(0), shapes[_i].wr, true};
	driver_chain(&d, 0, pieces);
	driver_offer(&d, 0);
	kick();
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(len, 0);
	ck_assert_uint_eq(answer(0), 0xffff);
	settle();
	ck_assert_uint_eq(state.malformed, 1);
	ck_assert_uint_eq(space().plugged_size, 0);
	/* The next one is fine. */
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ACK);
}
END_TEST

START_TEST(a_broken_ring_needs_a_reset)
{
	driver_up(m, &d, V1);
	request(0, VIRTIO_MEM_REQ_PLUG, GPA, 1);
	d.desc[1].addr = GPA; /* not plugged: no memory of anybody's */
	driver_offer(&d, 0);
	kick();
	for (uint64_t end = clock_ns() + 10000000000ull;
		!(driver_read(m, VIRTIO_MMIO_STATUS) &
			VIRTIO_CONFIG_S_NEEDS_RESET);) {
		ck_assert(clock_ns() < end);
		sched_yield();
	}
	memset(d.avail, 0, 64);
	memset(d.used, 0, 64);
	d.used_seen = 0;
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ACK);
}
END_TEST

START_TEST(rings_may_lie_in_plugged_memory_and_outlive_it)
{
	uint8_t *data;
	uint32_t len;

	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ACK);
	data = gmem_range(&d.mem, GPA, 4096);
	/* A request to unplug what it lies in itself. */
	request(0, VIRTIO_MEM_REQ_UNPLUG, GPA, 1);
	memcpy(data, driver_ptr(&d, REQ(0)), 24);
	d.desc[0].addr = GPA;
	d.desc[1].addr = GPA + 64;
	driver_offer(&d, 0);
	kick();
	next_used(&len);
	ck_assert_uint_eq(space().plugged_size, 0);
	ck_assert_ptr_null(gmem_range(&d.mem, GPA, 1));
	/* Its answer went to memory nobody has any more. */
	ck_assert_uint_eq(data[0], 0);
}
END_TEST

static void *reset(void *arg)
{
	(void)arg;
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	return NULL;
}

START_TEST(a_reset_ends_a_request_in_work_and_keeps_what_is_plugged)
{
	const struct timespec moment = {.tv_nsec = 20000000};
	uint64_t plugged;
	pthread_t t;

	ck_assert_int_eq(memdev_request(dev, REGION), 0);
	driver_up(m, &d, V1);
	request(0, VIRTIO_MEM_REQ_PLUG, GPA, SLOTS * IN_SLOT);
	pthread_mutex_lock(&gate);
	driver_offer(&d, 0);
	kick();
	ck_assert_int_eq(pthread_create(&t, NULL, reset, NULL), 0);
	nanosleep(&moment, NULL); /* for both to come to their places */
	pthread_mutex_unlock(&gate);
	pthread_join(t, NULL);
	settle();
	plugged = space().plugged_size;
	ck_assert_uint_lt(plugged, REGION);
	ck_assert_uint_eq(plugged % SLOT, 0);
	ck_assert_uint_eq(state.plugged_bytes, plugged);
	ck_assert(!plugged || gmem_range(&d.mem, GPA, plugged));
	/* Nothing goes on, and a new driver finds it and starts anew. */
	memset(d.avail, 0, 64);
	memset(d.used, 0, 64);
	d.used_seen = 0;
	driver_up(m, &d, V1);
	settle();
	ck_assert_uint_eq(space().plugged_size, plugged);
	ck_assert_uint_eq(
		run(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(space().plugged_size, 0);
}
END_TEST

START_TEST(a_full_ring_is_served_whole)
{
	uint32_t len;

	driver_up(m, &d, V1);
	for (unsigned round = 0; round < 3; round++) {
		for (uint16_t i = 0; i < 8; i++) {
			request(i,
				round % 2 ? VIRTIO_MEM_REQ_UNPLUG
					  : VIRTIO_MEM_REQ_PLUG,
				GPA + i * BLOCK, 1);
			driver_offer(&d, 2 * i);
		}
		kick();
		for (unsigned i = 0; i < 8; i++) {
			next_used(&len);
			ck_assert_uint_eq(answer(i), VIRTIO_MEM_RESP_ACK);
		}
	}
	ck_assert_uint_eq(space().plugged_size, 8 * BLOCK);
}
END_TEST

START_TEST(a_driver_that_never_rests_does_not_keep_the_worker)
{
	for (uint16_t i = 0; i < 8; i++)
		request(i, VIRTIO_MEM_REQ_STATE, GPA, 1);
	busy_driver(&d, m, w, 8);
}
END_TEST

START_TEST(kicks_are_wanted_again_when_the_ring_is_empty)
{
	driver_up(m, &d, V1);
	run(VIRTIO_MEM_REQ_PLUG, 0, 1);
	settle();
	ck_assert_uint_eq(d.used->flags, 0);
}
END_TEST

START_TEST(a_kick_before_the_start_is_nothing)
{
	kick();
	settle();
	driver_up(m, &d, V1);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	kick();
	settle();
	ck_assert_uint_eq(state.malformed, 0);
}
END_TEST

/* ---- its place at the worker ---- */

/* Makes another device at a worker that has room for so many files more. */
static int attach_with_room(unsigned room)
{
	struct worker_config wc = {.name = "io", .entries = 8};
	struct virtio_mmio *other_m;
	struct virtio_dev *other;
	struct worker *full;
	struct memdev_config config = {.mem = &d.mem,
		.slot_bytes = SLOT,
		.set_slot = set_slot,
		.state = &state};
	unsigned index, n = 0;
	int r;

	ck_assert_int_eq(worker_create(&full, &wc, &err), 0);
	while (worker_add_file(full, irq, &index) == 0)
		n++;
	worker_destroy(full);
	ck_assert_int_eq(worker_create(&full, &wc, &err), 0);
	for (; n > room; n--)
		worker_add_file(full, irq, &index);
	ck_assert_int_eq(memdev_create(&other, full, &config, &err), 0);
	ck_assert_int_eq(
		virtio_mmio_create(&other_m, other, &d.mem, irq, NULL, &err),
		0);
	r = other->ops->attach(other, &err);
	virtio_mmio_destroy(other_m);
	other->ops->destroy(other);
	worker_destroy(full);
	return r;
}

START_TEST(a_worker_without_room_is_an_error)
{
	ck_assert_int_eq(attach_with_room(1), 0);
	ck_assert_int_eq(attach_with_room(0), -ENOSPC);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memdev");
	TCase *t = tcase_create("memdev");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, it_describes_its_region);
	tcase_add_test(t, it_does_not_start_without_its_queue);
	tcase_add_test(t, requests_are_done_and_counted);
	tcase_add_test(
		t, requests_over_many_slots_are_done_one_after_the_other);
	tcase_add_test(t, a_new_request_is_told);
	tcase_add_test(t, what_cannot_be_requested_is_refused);
	tcase_add_loop_test(t, any_layout_of_a_request_works, 0, 2);
	tcase_add_loop_test(t, a_chain_without_room_does_nothing, 0,
		sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_test(t, a_broken_ring_needs_a_reset);
	tcase_add_test(t, rings_may_lie_in_plugged_memory_and_outlive_it);
	tcase_add_test(
		t, a_reset_ends_a_request_in_work_and_keeps_what_is_plugged);
	tcase_add_test(t, a_full_ring_is_served_whole);
	tcase_add_test(t, a_driver_that_never_rests_does_not_keep_the_worker);
	tcase_add_test(t, kicks_are_wanted_again_when_the_ring_is_empty);
	tcase_add_test(t, a_kick_before_the_start_is_nothing);
	tcase_add_test(t, a_worker_without_room_is_an_error);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
