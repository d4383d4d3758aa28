#include "blk_fixture.h"

#include "base/clock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What it is */

START_TEST(it_offers_what_its_configuration_says)
{
	uint64_t base =
		V1 | F_INDIRECT | F_EVENT_IDX | 1ull << VIRTIO_BLK_F_SIZE_MAX |
		1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
		1ull << VIRTIO_BLK_F_TOPOLOGY;
	struct virtio_blk_config space;

	make_image();
	make((struct blk_config){
		.writeback = _i & 1, .read_only = (_i & 2) != 0});
	ck_assert_uint_eq(
		dev->features, base | (_i & 1 ? F_FLUSH : 0) |
				       (_i & 2 ? 1ull << VIRTIO_BLK_F_RO
					       : F_DISCARD | F_ZEROES));
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_ID), 2);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQ_MAX);
	read_space(&space);
	ck_assert_uint_eq(space.capacity, SECTORS);
	ck_assert_uint_eq(space.blk_size, 512);
	ck_assert_uint_eq(space.size_max, 64 << 10);
	ck_assert_uint_eq(space.seg_max, VIRTQ_MAX - 2);
	teardown();
}
END_TEST

START_TEST(it_does_not_start_without_its_queue)
{
	driver_negotiate(m, V1);
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS),
		15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_up(m, &d, V1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 15);
}
END_TEST

/* Requests */

START_TEST(what_is_written_is_read_back)
{
	uint64_t begin = clock_ns();
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_OUT, 5, 1024);
	memset(driver_ptr(&d, BUF(0)), 0x5a, 1024);
	memset(image + (size_t)5 * 512, 0x5a, 1024);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 1);
	check_image();
	request(1, VIRTIO_BLK_T_IN, 4, 2048);
	ck_assert_uint_eq(run(1, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 2049);
	ck_assert_mem_eq(driver_ptr(&d, BUF(1)), image + (size_t)4 * 512, 2048);
	request(2, VIRTIO_BLK_T_FLUSH, 0, 0);
	ck_assert_uint_eq(run(2, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 1);
	ck_assert_uint_eq(stats.reads, 1);
	ck_assert_uint_eq(stats.read_bytes, 2048);
	ck_assert_uint_eq(stats.writes, 1);
	ck_assert_uint_eq(stats.write_bytes, 1024);
	ck_assert_uint_eq(stats.flushes, 1);
	ck_assert_uint_eq(stats.others + stats.errors + stats.malformed, 0);
	ck_assert_uint_eq(histogram_count(&stats.read_time), 1);
	ck_assert_uint_eq(histogram_count(&stats.write_time), 1);
	ck_assert_uint_eq(histogram_count(&stats.flush_time), 1);
	ck_assert_uint_gt(stats.read_time.sum_ns, 0);
	ck_assert_uint_gt(stats.write_time.sum_ns, 0);
	ck_assert_uint_lt(stats.read_time.sum_ns, clock_ns() - begin);
	ck_assert_uint_lt(stats.write_time.sum_ns, clock_ns() - begin);
}
END_TEST

/* Header, data and status cut anywhere, in the ring or in an indirect table. */
static const struct {
	uint32_t cut;
	bool indirect;
} layouts[] = {{3, true}, {10, true}, {16, true}, {16, false}, {17, false},
	{300, false}, {300, true}, {1024, false}, {1024, true}};

static unsigned cut_up(struct driver_piece *ret, uint64_t gpa, uint32_t len,
	bool write, uint32_t cut)
{
	unsigned n = 0;

	for (uint32_t off = 0; off < len; off += cut)
		ret[n++] = (struct driver_piece){
			gpa + off, len - off < cut ? len - off : cut, write};
	return n;
}

START_TEST(any_layout_will_do)
{
	struct driver_piece pieces[VIRTQ_MAX] = {{0}};
	uint32_t cut = layouts[_i].cut, len;
	unsigned n;

	n = cut_up(pieces, HDR(0), 16, false, cut);
	cut_up(pieces + n, BUF(0), 513, true, cut);
	driver_up(m, &d, F_ALL);
	header(0, VIRTIO_BLK_T_IN, 9);
	if (layouts[_i].indirect)
		driver_chain_indirect(&d, 0, pieces);
	else
		driver_chain(&d, 0, pieces);
	driver_offer(&d, 0);
	kick();
	next_used(&len);
	ck_assert_uint_eq(len, 513);
	ck_assert_mem_eq(driver_ptr(&d, BUF(0)), image + (size_t)9 * 512, 512);
	ck_assert_uint_eq(
		*(uint8_t *)driver_ptr(&d, BUF(0) + 512), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(get_id_gives_the_serial)
{
	uint8_t *at = driver_ptr(&d, BUF(0));
	uint32_t len;

	driver_up(m, &d, F_ALL);
	memset(at, 0xee, 40);
	request(0, VIRTIO_BLK_T_GET_ID, 0, 20);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 21);
	ck_assert_mem_eq(at, "a serial of 20 bytes\xee", 21);
	memset(at, 0xee, 40);
	request(0, VIRTIO_BLK_T_GET_ID, 0, 7);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 8);
	ck_assert_mem_eq(at, "a seria\xee", 8);
	memset(at, 0xee, 40);
	request(0, VIRTIO_BLK_T_GET_ID, 0, 30);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 20);
	ck_assert_uint_eq(at[20], 0xee);
	ck_assert_uint_eq(stats.others, 3);
}
END_TEST

START_TEST(bad_requests_are_answered_and_counted)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_IN, SECTORS, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(len, 0);
	request(0, VIRTIO_BLK_T_OUT, SECTORS - 1, 1024);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(len, 1);
	ck_assert_uint_eq(stats.malformed, 2);
	request(0, 77, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(stats.others, 1);
	/* Without a place for the status it comes back all the same. */
	driver_chain(&d, 3, (struct driver_piece[]){{HDR(1), 16, false}, {0}});
	driver_offer(&d, 3);
	kick();
	ck_assert_uint_eq(next_used(&len), 3);
	ck_assert_uint_eq(len, 0);
	ck_assert_uint_eq(stats.malformed, 3);
	ck_assert_uint_eq(stats.errors, 0);
	ck_assert_uint_eq(n_errors, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 15);
	check_image();
}
END_TEST

START_TEST(a_read_only_disk_stays_as_it_is)
{
	uint32_t len;

	make_image();
	make((struct blk_config){.read_only = true});
	driver_up(m, &d, V1);
	request(0, VIRTIO_BLK_T_OUT, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	check_image();
	teardown();
}
END_TEST

/* On a pipe a sync fails, which tells whether there was one. */
START_TEST(a_flush_is_a_sync_where_there_is_a_cache)
{
	int fds[2];
	uint32_t len;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	disk = fds[0];
	peer = fds[1];
	make((struct blk_config){.writeback = _i == 1});
	driver_up(m, &d, dev->features);
	request(0, VIRTIO_BLK_T_FLUSH, 0, 0);
	ck_assert_uint_eq(
		run(0, &len), _i ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 1);
	ck_assert_uint_eq(stats.errors, _i);
	ck_assert_uint_eq(stats.flushes, !_i);
	teardown();
}
END_TEST

/* Virtio 1.2 §5.2.6.2: a driver that did not take FLUSH, offered, need not
 * flush: each write is stable when it is done. */
START_TEST(writes_are_stable_for_a_driver_that_cannot_flush)
{
	int fds[2];
	uint32_t len;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	disk = fds[1];
	peer = fds[0];
	make((struct blk_config){.writeback = _i < 2});
	driver_up(m, &d, _i == 1 ? V1 | F_FLUSH : V1);
	request(0, VIRTIO_BLK_T_OUT, 0, 512);
	ck_assert_uint_eq(
		run(0, &len), _i == 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(stats.writes, _i != 0);
	teardown();
}
END_TEST

START_TEST(errors_reach_the_guest_and_are_told_once_a_storm)
{
	uint32_t len;

	disk = open("/dev/full", O_RDWR | O_CLOEXEC);
	make((struct blk_config){.writeback = true});
	driver_up(m, &d, F_ALL);
	for (unsigned i = 0; i < 5; i++) {
		request(0, VIRTIO_BLK_T_OUT, 0, 512);
		ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(len, 1);
	}
	ck_assert_uint_eq(stats.errors, 5);
	ck_assert_uint_eq(stats.writes, 0);
	ck_assert_uint_eq(stats.malformed, 0);
	ck_assert_uint_eq(n_errors, 1);
	ck_assert_int_eq(last_error, ENOSPC);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	teardown();
}
END_TEST

/* Batches */

#define N_BATCH 20u

START_TEST(a_batch_is_one_submission)
{
	uint64_t before;
	uint32_t len;

	driver_up(m, &d, V1);
	for (unsigned i = 0; i < N_BATCH; i++) {
		request(i, VIRTIO_BLK_T_IN, i, 512);
		driver_offer(&d, (uint16_t)(3 * i));
	}
	before = worker_submits(w);
	kick();
	for (unsigned i = 0; i < N_BATCH; i++) {
		uint32_t id = next_used(&len) / 3;

		ck_assert_uint_eq(*status_of(id), VIRTIO_BLK_S_OK);
		ck_assert_mem_eq(
			driver_ptr(&d, BUF(id)), image + id * (size_t)512, 512);
	}
	ck_assert_uint_eq(worker_submits(w), before + 1);
}
END_TEST

/* Answers that need no I/O are all there at once: one interrupt. */
START_TEST(a_batch_is_one_interrupt)
{
	uint32_t len;

	driver_up(m, &d, V1);
	for (unsigned i = 0; i < N_BATCH; i++) {
		request(i, VIRTIO_BLK_T_GET_ID, 0, 20);
		driver_offer(&d, (uint16_t)(3 * i));
	}
	kick();
	for (unsigned i = 0; i < N_BATCH; i++)
		next_used(&len);
	pause_ms(20);
	ck_assert_uint_eq(signals(), 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_VRING);
}
END_TEST

START_TEST(a_driver_that_wants_no_interrupt_gets_none)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	*driver_used_event(&d) = 1;
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	run(0, &len);
	pause_ms(20);
	ck_assert_uint_eq(signals(), 0);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	run(0, &len);
	pause_ms(20);
	ck_assert_uint_eq(signals(), 1);
}
END_TEST

START_TEST(a_kick_from_before_driver_ok_counts)
{
	uint32_t len;

	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	kick();
	pause_ms(5);
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(*status_of(0), VIRTIO_BLK_S_OK);
}
END_TEST

/* Breaking and stopping */

START_TEST(a_malformed_ring_needs_reset_and_harms_nothing_else)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	driver_offer(&d, SIZE); /* no such head */
	kick();
	/* What came before it is done. */
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(*status_of(0), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 1000; i++) {
		if (driver_read(m, VIRTIO_MMIO_STATUS) & 0x40)
			break;
		pause_ms(1);
	}
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS),
		15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	ck_assert(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS) &
		  VIRTIO_MMIO_INT_CONFIG);
	kick();
	driver_fini(&d);
	driver_init(&d, SIZE);
	driver_up(m, &d, F_ALL);
	request(1, VIRTIO_BLK_T_IN, 1, 512);
	ck_assert_uint_eq(run(1, &len), VIRTIO_BLK_S_OK);
}
END_TEST

/* One is in the kernel's hands for ever: a reset gets it back, and afterwards
 * nobody writes to the rings or buffers. */
START_TEST(reset_ends_what_is_in_flight)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	for (unsigned i = 0; i < N_BATCH; i++) {
		request(i, VIRTIO_BLK_T_IN, 0, 512);
		driver_offer(&d, (uint16_t)(3 * i));
	}
	kick();
	if (_i)
		pause_ms(10);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 0);
	while (driver_used(&d, &(uint32_t){0}, &len))
		ck_assert_uint_eq(len, 0);
	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0xa5, DRIVER_RAM_BYTES);
	ck_assert_int_eq(write(peer, image, 4096), 4096);
	kick();
	pause_ms(10);
	ck_assert(!memcmp(driver_ptr(&d, DRIVER_RAM_GPA),
		driver_ptr(&d, DRIVER_RAM_GPA + 1), DRIVER_RAM_BYTES - 1));
	ck_assert_uint_eq(stats.errors, 0);
	/* It can begin anew. */
	driver_fini(&d);
	driver_init(&d, SIZE);
	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(driver_ptr(&d, BUF(0)), image, 512);
}
END_TEST

static uint8_t guest_stops;

/* Another CPU of the guest, which does not know of resets. */
static void *kick_for_ever(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&guest_stops, __ATOMIC_RELAXED)) {
		kick();
		sched_yield();
	}
	return NULL;
}

START_TEST(resets_may_come_at_any_moment)
{
	pthread_t guest;
	uint32_t len;

	guest_stops = 0;
	pthread_create(&guest, NULL, kick_for_ever, NULL);
	for (unsigned round = 0; round < 400; round++) {
		memset(driver_ptr(&d, DRIVER_RAM_GPA), 0,
			DRIVER_DATA_GPA - DRIVER_RAM_GPA);
		d.used_seen = 0;
		driver_up(m, &d, F_ALL);
		ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 15);
		for (unsigned i = 0; i < N_BATCH; i++) {
			request(i, i % 3 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_FLUSH,
				i, i % 3 ? 512 : 0);
			driver_offer(&d, (uint16_t)(3 * i));
		}
		for (unsigned i = 0; i < round % N_BATCH; i++)
			next_used(&len);
		if (round % 7 == 0)
			driver_write(m, VIRTIO_MMIO_QUEUE_READY, 0);
		driver_write(m, VIRTIO_MMIO_STATUS, 0);
		/* Nothing is pushed any more. */
		len = d.used->idx;
		sched_yield();
		ck_assert_uint_eq(d.used->idx, len);
	}
	__atomic_store_n(&guest_stops, 1, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
}
END_TEST

/* A guest that offers as fast as it can what needs no I/O: the worker still
 * has time for others. */
static void *offer_for_ever(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&guest_stops, __ATOMIC_RELAXED)) {
		uint16_t used = __atomic_load_n(&d.used->idx, __ATOMIC_ACQUIRE);

		if ((uint16_t)(d.avail->idx - used) < SIZE)
			driver_offer(&d, 0);
	}
	return NULL;
}

static uint64_t answered(void)
{
	return __atomic_load_n(&stats.others, __ATOMIC_RELAXED);
}

static void nothing(void *arg)
{
	(void)arg;
}

START_TEST(a_busy_guest_does_not_keep_the_worker)
{
	pthread_t guest;

	driver_up(m, &d, F_ALL);
	request(0, 99, 0, 0);
	guest_stops = 0;
	pthread_create(&guest, NULL, offer_for_ever, NULL);
	for (unsigned i = 0; i < 200 || answered() < 1000; i++) {
		kick();
		worker_call(w, nothing, NULL);
	}
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	__atomic_store_n(&guest_stops, 1, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
}
END_TEST

/* More than it takes at once, all offered before: none is forgotten. */
START_TEST(all_that_is_offered_is_taken)
{
	uint32_t len;

	driver_up(m, &d, V1);
	request(0, 99, 0, 0);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			driver_offer(&d, 0);
		kick();
		for (unsigned i = 0; i < SIZE; i++)
			next_used(&len);
	}
	ck_assert_uint_eq(stats.others, (uint64_t)50 * SIZE);
}
END_TEST

/* Which of the two ends first must not matter. */
START_TEST(the_worker_may_stop_before_the_device)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	kick();
	worker_stop(w);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 0);
	/* A device on a stopped worker answers, if not with data. */
	d.used_seen = 0;
	memset(d.avail, 0, 4);
	memset(d.used, 0, 4);
	driver_up(m, &d, V1);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	driver_up(m, &d, V1);
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(*status_of(0), VIRTIO_BLK_S_IOERR);
}
END_TEST

static TCase *requests_case(void)
{
	TCase *t = tcase_create("requests");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, it_does_not_start_without_its_queue);
	tcase_add_test(t, what_is_written_is_read_back);
	tcase_add_loop_test(
		t, any_layout_will_do, 0, sizeof(layouts) / sizeof(layouts[0]));
	tcase_add_test(t, get_id_gives_the_serial);
	tcase_add_test(t, bad_requests_are_answered_and_counted);
	tcase_add_test(t, a_batch_is_one_submission);
	tcase_add_test(t, a_batch_is_one_interrupt);
	tcase_add_test(t, a_driver_that_wants_no_interrupt_gets_none);
	tcase_add_test(t, a_kick_from_before_driver_ok_counts);
	tcase_add_test(t, a_malformed_ring_needs_reset_and_harms_nothing_else);
	tcase_add_test(t, resets_may_come_at_any_moment);
	tcase_add_test(t, a_busy_guest_does_not_keep_the_worker);
	tcase_add_test(t, all_that_is_offered_is_taken);
	tcase_add_test(t, the_worker_may_stop_before_the_device);
	return t;
}

int main(void)
{
	Suite *s = suite_create("blk");
	TCase *kinds = tcase_create("kinds"), *stream = tcase_create("stream");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(kinds, it_offers_what_its_configuration_says, 0, 4);
	tcase_add_test(kinds, a_read_only_disk_stays_as_it_is);
	tcase_add_loop_test(
		kinds, a_flush_is_a_sync_where_there_is_a_cache, 0, 2);
	tcase_add_loop_test(
		kinds, writes_are_stable_for_a_driver_that_cannot_flush, 0, 3);
	tcase_add_test(kinds, errors_reach_the_guest_and_are_told_once_a_storm);
	tcase_add_checked_fixture(stream, setup_stream, teardown);
	tcase_add_loop_test(stream, reset_ends_what_is_in_flight, 0, 2);
	suite_add_tcase(s, kinds);
	suite_add_tcase(s, requests_case());
	suite_add_tcase(s, stream);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
