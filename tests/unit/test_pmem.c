#include "virtio/pmem.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/busy_driver.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define GPA (4096 * MIB)
#define MS 1000000ull

#define V1 (1ull << VIRTIO_F_VERSION_1)
#define F_ALL                                                                  \
	(V1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                            \
		1ull << VIRTIO_RING_F_EVENT_IDX)

#define REQ(i) (DRIVER_DATA_GPA + 16ull * (i))
#define RESP(i) (REQ(i) + 8)
#define UNSET 0xffffffffu

static struct driver d;
static struct virtio_dev *dev;
static struct virtio_mmio *m;
static struct worker *w;
static struct pmem_stats stats;
static int file = -1, irq = -1;
static struct error err;

static void make(struct pmem_config config)
{
	struct worker_config wc = {.name = "io", .entries = 64};

	memset(&stats, 0, sizeof(stats));
	config.gpa = GPA;
	config.size_bytes = 2 * MIB;
	config.file_bytes = MIB;
	config.fd = file;
	config.stats = &stats;
	driver_init(&d, 32);
	irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(worker_create(&w, &wc, &err), 0);
	ck_assert_int_eq(pmem_create(&dev, w, &config, &err), 0);
	ck_assert_int_eq(
		virtio_mmio_create(&m, dev, &d.mem, irq, NULL, &err), 0);
	ck_assert_int_eq(dev->ops->attach(dev, &err), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
}

static void setup(void)
{
	file = memfd_create("pmem", MFD_CLOEXEC);
	make((struct pmem_config){.read_only = false});
}

/* What cannot be flushed: EINVAL. */
static void setup_pipe(void)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	file = fds[1];
	close(fds[0]);
	make((struct pmem_config){.read_only = false});
}

static void teardown(void)
{
	virtio_mmio_destroy(m);
	worker_stop(w);
	dev->ops->destroy(dev);
	worker_destroy(w);
	driver_fini(&d);
	close_fd(&file);
	close_fd(&irq);
}

static void kick(void)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static uint32_t answer(unsigned i)
{
	uint32_t ret;

	memcpy(&ret, driver_ptr(&d, RESP(i)), sizeof(ret));
	return ret;
}

/* Request i in descriptors 2i and 2i + 1; not offered yet. */
static void request(unsigned i, uint32_t type)
{
	const uint32_t unset = UNSET;
	struct driver_piece pieces[] = {
		{REQ(i), 4, false}, {RESP(i), 4, true}, {0}};

	memcpy(driver_ptr(&d, REQ(i)), &type, sizeof(type));
	memcpy(driver_ptr(&d, RESP(i)), &unset, sizeof(unset));
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

static uint32_t run(uint32_t type)
{
	uint32_t len;

	request(0, type);
	driver_offer(&d, 0);
	kick();
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(len, 4);
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

static void pause_ms(long ms)
{
	struct timespec ts = {0, ms * 1000000};

	nanosleep(&ts, NULL);
}

START_TEST(it_tells_where_its_memory_is)
{
	struct virtio_pmem_config s = {0};

	for (unsigned i = 0; i < sizeof(s); i += 4)
		virtio_mmio_read(
			m, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&s + i, 4);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_ID), 27);
	ck_assert_uint_eq(dev->features, F_ALL);
	ck_assert_uint_eq(s.start, GPA);
	ck_assert_uint_eq(s.size, 2 * MIB);
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

START_TEST(a_flush_is_answered_and_interrupts)
{
	uint64_t n;

	driver_up(m, &d, F_ALL);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	settle();
	ck_assert_uint_eq(stats.flushes, 1);
	ck_assert_uint_eq(stats.errors + stats.malformed + stats.throttled, 0);
	ck_assert_int_eq(read(irq, &n, 8), 8);
	ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(one_flush_serves_all_that_waited)
{
	uint32_t len;

	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	for (uint16_t i = 0; i < 16; i++) {
		request(i, VIRTIO_PMEM_REQ_TYPE_FLUSH);
		driver_offer(&d, 2 * i);
	}
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
	for (unsigned i = 0; i < 16; i++) {
		ck_assert_uint_eq(next_used(&len), 2ull * i);
		ck_assert_uint_eq(answer(i), 0);
	}
	settle();
	ck_assert_uint_eq(stats.flushes, 1);
}
END_TEST

START_TEST(a_flush_that_fails_is_an_error)
{
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 1);
	settle();
	ck_assert_uint_eq(stats.errors, 1);
	ck_assert_uint_eq(stats.flushes, 0);
}
END_TEST

START_TEST(a_read_only_file_is_never_flushed)
{
	teardown();
	file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	make((struct pmem_config){.read_only = true});
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	settle();
	ck_assert_uint_eq(stats.flushes, 1);
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

START_TEST(an_unknown_request_is_an_error)
{
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(1), 1);
	ck_assert_uint_eq(run(UINT32_MAX), 1);
	settle();
	ck_assert_uint_eq(stats.malformed, 2);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
}
END_TEST

START_TEST(any_layout_of_a_request_works)
{
	struct driver_piece pieces[] = {{REQ(0), 1, false},
		{REQ(0) + 1, 2, false}, {REQ(0) + 3, 1, false},
		{RESP(0), 1, true}, {RESP(0) + 1, 1, true},
		{RESP(0) + 2, 1, true}, {RESP(0) + 3, 1, true},
		{RESP(0) + 64, 100, true}, {0}};
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	if (_i == 0)
		driver_chain(&d, 0, pieces);
	else
		driver_chain_indirect(&d, 0, pieces);
	driver_offer(&d, 0);
	kick();
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(len, 4);
	ck_assert_uint_eq(answer(0), 0);
}
END_TEST

static const struct {
	uint32_t rd, wr;
} shapes[] = {{4, 0}, {0, 4}, {3, 4}, {4, 3}, {1, 1}};

START_TEST(a_chain_without_room_does_nothing)
{
	struct driver_piece pieces[3] = {{0}};
	unsigned n = 0;
	uint32_t len;

	driver_up(m, &d, V1);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
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
	ck_assert_uint_eq(answer(0), UNSET);
	settle();
	ck_assert_uint_eq(stats.malformed, 1);
	ck_assert_uint_eq(stats.flushes, 0);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
}
END_TEST

START_TEST(a_broken_ring_needs_a_reset)
{
	driver_up(m, &d, V1);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	d.desc[1].addr = GPA; /* its own memory is none of a device's */
	driver_offer(&d, 0);
	kick();
	for (uint64_t end = clock_ns() + 10000000000ull;
		!(driver_read(m, VIRTIO_MMIO_STATUS) &
			VIRTIO_CONFIG_S_NEEDS_RESET);) {
		ck_assert(clock_ns() < end);
		sched_yield();
	}
}
END_TEST

static void fresh_rings(void)
{
	memset(d.avail, 0, 128);
	memset(d.used, 0, 512);
	d.used_seen = 0;
}

START_TEST(resets_in_mid_flight_leave_nobody_to_answer)
{
	for (unsigned round = 0; round < 60; round++) {
		fresh_rings();
		driver_up(m, &d, V1);
		for (uint16_t i = 0; i < 4; i++) {
			request(i, VIRTIO_PMEM_REQ_TYPE_FLUSH);
			driver_offer(&d, 2 * i);
		}
		kick();
		driver_write(m, VIRTIO_MMIO_STATUS, 0);
		/* From here on the memory is the driver's for other things. */
		memset(d.used, 0xee, 512);
		for (uint16_t i = 0; i < 4; i++)
			request(i, 7);
		settle();
		for (unsigned i = 0; i < 512; i++)
			ck_assert_uint_eq(((uint8_t *)d.used)[i], 0xee);
		for (unsigned i = 0; i < 4; i++)
			ck_assert_uint_eq(answer(i), UNSET);
	}
	fresh_rings();
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
}
END_TEST

/* ---- limits ---- */

static struct pmem_config limited(uint64_t refill_ms)
{
	return (struct pmem_config){.limiter.ops = {
					    .size = 1,
					    .refill_ns = refill_ms * MS,
				    }};
}

START_TEST(a_limited_flush_waits_its_time)
{
	uint64_t begin;

	teardown();
	file = memfd_create("pmem", MFD_CLOEXEC);
	make(limited(60));
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	begin = clock_ns();
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	ck_assert_uint_ge(clock_ns() - begin, 30 * MS);
	settle();
	ck_assert_uint_ge(stats.throttled, 1);
	ck_assert_uint_eq(stats.flushes, 2);
}
END_TEST

START_TEST(the_files_bytes_count)
{
	struct pmem_config config = {.limiter.bytes = {
					     .size = MIB,
					     .refill_ns = 60 * MS,
				     }};
	uint64_t begin;

	teardown();
	file = memfd_create("pmem", MFD_CLOEXEC);
	make(config);
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	begin = clock_ns();
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	ck_assert_uint_ge(clock_ns() - begin, 30 * MS);
}
END_TEST

START_TEST(what_waits_asks_a_new_limit)
{
	const struct rate_limiter_update none = {.has_ops = true};
	uint32_t len;

	teardown();
	file = memfd_create("pmem", MFD_CLOEXEC);
	make(limited(3600000));
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_offer(&d, 0);
	kick();
	pause_ms(20);
	ck_assert_uint_eq(answer(0), UNSET);
	ck_assert_int_eq(pmem_limit(dev, &none), 0);
	next_used(&len);
	ck_assert_uint_eq(answer(0), 0);
}
END_TEST

/* Its timer is a far one. */
START_TEST(a_worker_ends_while_a_flush_is_limited)
{
	teardown();
	file = memfd_create("pmem", MFD_CLOEXEC);
	make(limited(3600000));
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_offer(&d, 0);
	kick();
	pause_ms(20);
	worker_stop(w);
	ck_assert_uint_eq(answer(0), UNSET);
}
END_TEST

START_TEST(a_reset_forgets_what_was_limited_but_not_the_limit)
{
	uint32_t len;

	teardown();
	file = memfd_create("pmem", MFD_CLOEXEC);
	make(limited(100));
	driver_up(m, &d, V1);
	ck_assert_uint_eq(run(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	request(0, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_offer(&d, 0);
	kick();
	settle();
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	fresh_rings();
	request(1, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_offer(&d, 2);
	driver_up(m, &d, V1);
	settle();
	ck_assert_uint_eq(answer(1), UNSET);
	ck_assert_uint_eq(next_used(&len), 2);
	ck_assert_uint_eq(answer(1), 0);
	ck_assert_uint_eq(answer(0), UNSET);
}
END_TEST

START_TEST(a_driver_that_never_rests_does_not_keep_the_worker)
{
	for (uint16_t i = 0; i < 16; i++)
		request(i, 7); /* what is answered at once */
	busy_driver(&d, m, w, 16);
}
END_TEST

START_TEST(flushes_that_keep_coming_are_all_served)
{
	uint32_t len;

	driver_up(m, &d, V1);
	for (uint16_t i = 0; i < 16; i++)
		request(i, VIRTIO_PMEM_REQ_TYPE_FLUSH);
	for (unsigned round = 0; round < 60; round++) {
		for (uint16_t i = 0; i < 16; i++) {
			driver_offer(&d, 2 * i);
			kick();
			if (i % 4 == 0)
				worker_call(w, no_op, NULL);
		}
		for (unsigned i = 0; i < 16; i++)
			next_used(&len);
	}
	settle();
	ck_assert_uint_ge(stats.flushes, 60);
	ck_assert_uint_eq(stats.errors, 0);
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
	ck_assert_uint_eq(stats.malformed, 0);
}
END_TEST

/* ---- its place at the worker ---- */

/* Makes another device at a worker that has room for so many files more. */
static int attach_with_room(unsigned room, bool read_only)
{
	struct worker_config wc = {.name = "io", .entries = 8};
	struct virtio_mmio *other_m;
	struct virtio_dev *other;
	struct worker *full;
	struct pmem_config config = {.gpa = GPA,
		.size_bytes = 2 * MIB,
		.file_bytes = MIB,
		.fd = file,
		.read_only = read_only,
		.stats = &stats};
	unsigned index, n = 0;
	int r;

	ck_assert_int_eq(worker_create(&full, &wc, &err), 0);
	while (worker_add_file(full, irq, &index) == 0)
		n++;
	worker_destroy(full);
	ck_assert_int_eq(worker_create(&full, &wc, &err), 0);
	for (; n > room; n--)
		worker_add_file(full, irq, &index);
	ck_assert_int_eq(pmem_create(&other, full, &config, &err), 0);
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
	ck_assert_int_eq(attach_with_room(2, false), 0);
	ck_assert_int_eq(attach_with_room(1, false), -ENOSPC);
	ck_assert_int_eq(attach_with_room(0, false), -ENOSPC);
	/* What is never flushed takes no place. */
	ck_assert_int_eq(attach_with_room(1, true), 0);
	ck_assert_int_eq(attach_with_room(0, true), -ENOSPC);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pmem");
	TCase *t = tcase_create("pmem"), *failing = tcase_create("failing");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, it_tells_where_its_memory_is);
	tcase_add_test(t, it_does_not_start_without_its_queue);
	tcase_add_test(t, a_flush_is_answered_and_interrupts);
	tcase_add_test(t, one_flush_serves_all_that_waited);
	tcase_add_test(t, a_read_only_file_is_never_flushed);
	tcase_add_test(t, an_unknown_request_is_an_error);
	tcase_add_loop_test(t, any_layout_of_a_request_works, 0, 2);
	tcase_add_loop_test(t, a_chain_without_room_does_nothing, 0,
		sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_test(t, a_broken_ring_needs_a_reset);
	tcase_add_test(t, resets_in_mid_flight_leave_nobody_to_answer);
	tcase_add_test(t, a_limited_flush_waits_its_time);
	tcase_add_test(t, the_files_bytes_count);
	tcase_add_test(t, what_waits_asks_a_new_limit);
	tcase_add_test(t, a_worker_ends_while_a_flush_is_limited);
	tcase_add_test(t, a_reset_forgets_what_was_limited_but_not_the_limit);
	tcase_add_test(t, a_driver_that_never_rests_does_not_keep_the_worker);
	tcase_add_test(t, flushes_that_keep_coming_are_all_served);
	tcase_add_test(t, a_kick_before_the_start_is_nothing);
	tcase_add_test(t, a_worker_without_room_is_an_error);
	tcase_add_checked_fixture(failing, setup_pipe, teardown);
	tcase_add_test(failing, a_flush_that_fails_is_an_error);
	suite_add_tcase(s, t);
	suite_add_tcase(s, failing);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
