#include "blk_fixture.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A disk that is put onto other files while its driver goes on. */

static int filled(uint8_t byte, size_t n_bytes)
{
	int fd = memfd_create("other", MFD_CLOEXEC);
	uint8_t sector[512];

	memset(sector, byte, sizeof(sector));
	for (size_t i = 0; i < n_bytes; i += sizeof(sector))
		ck_assert_int_eq(
			write(fd, sector, sizeof(sector)), sizeof(sector));
	return fd;
}

static uint8_t read_sector(unsigned i, uint64_t sector)
{
	uint32_t len;

	request(i, VIRTIO_BLK_T_IN, sector, 512);
	if (run(i, &len) != VIRTIO_BLK_S_OK)
		return 0xff;
	return *(uint8_t *)driver_ptr(&d, BUF(i));
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static uint64_t capacity(void)
{
	struct virtio_blk_config space;

	read_space(&space);
	return space.capacity;
}

START_TEST(requests_go_to_the_new_file)
{
	int fd = filled(7, 3 * BYTES);
	uint32_t generation, len;

	driver_up(m, &d, F_ALL);
	ck_assert_uint_eq(read_sector(0, 3), image[3ul * 512]);
	generation = driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION);
	signals();
	ck_assert_int_eq(blk_set_file(dev, fd, 3 * BYTES, 0), 0);
	ck_assert(!is_open(fd));
	ck_assert_uint_eq(capacity(), 3 * SECTORS);
	ck_assert_uint_ne(
		driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	ck_assert_uint_eq(signals(), 1);
	ck_assert(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS) &
		  VIRTIO_MMIO_INT_CONFIG);
	ck_assert_uint_eq(read_sector(0, 3), 7);
	ck_assert_uint_eq(read_sector(1, 3 * SECTORS - 1), 7);
	request(2, VIRTIO_BLK_T_OUT, 1, 512);
	ck_assert_uint_eq(run(2, &len), VIRTIO_BLK_S_OK);
	/* The old one is as it was. */
	check_image();
}
END_TEST

START_TEST(a_file_can_be_exchanged_for_itself_grown)
{
	driver_up(m, &d, F_ALL);
	ck_assert_uint_eq(read_sector(0, SECTORS), 0xff);
	ck_assert_int_eq(ftruncate(disk, 2 * (off_t)BYTES), 0);
	ck_assert_int_eq(blk_set_file(dev, dup(disk), 2 * BYTES, 0), 0);
	ck_assert_uint_eq(capacity(), 2 * SECTORS);
	ck_assert_uint_eq(read_sector(0, SECTORS), 0);
	ck_assert_uint_eq(read_sector(0, 5), image[5ul * 512]);
	ck_assert_uint_eq(stats.malformed, 1);
}
END_TEST

START_TEST(a_disk_that_shrinks_ends_earlier)
{
	driver_up(m, &d, F_ALL);
	ck_assert_int_eq(blk_set_file(dev, filled(7, BYTES), 512, 0), 0);
	ck_assert_uint_eq(capacity(), 1);
	ck_assert_uint_eq(read_sector(0, 0), 7);
	ck_assert_uint_eq(read_sector(0, 1), 0xff);
	ck_assert_uint_eq(stats.malformed, 1);
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

static const struct {
	uint64_t size_bytes;
	uint32_t direct_align;
} nonsense[] = {
	{0, 0}, {511, 0}, {513, 0}, {BYTES + 1, 0}, {BYTES, 3}, {BYTES, 4096}};

START_TEST(nonsense_is_refused_and_changes_nothing)
{
	int fd = filled(7, BYTES);

	driver_up(m, &d, F_ALL);
	ck_assert_int_eq(blk_set_file(dev, fd, nonsense[_i].size_bytes,
				 nonsense[_i].direct_align),
		-EINVAL);
	ck_assert(!is_open(fd));
	ck_assert_uint_eq(capacity(), SECTORS);
	ck_assert_uint_eq(read_sector(0, 3), image[3ul * 512]);
}
END_TEST

START_TEST(alignment_is_the_new_files)
{
	uint32_t len;

	driver_up(m, &d, F_ALL);
	ck_assert_int_eq(blk_set_file(dev, filled(7, BYTES), BYTES, 512), 0);
	/* One that has to go through the bounce buffer. */
	header(0, VIRTIO_BLK_T_IN, 1);
	driver_chain(&d, 0,
		(struct driver_piece[]){
			{HDR(0), 16, false}, {BUF(0) + 1, 513, true}, {0}});
	driver_offer(&d, 0);
	kick();
	next_used(&len);
	ck_assert_uint_eq(len, 513);
	ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, BUF(0) + 1), 7);
	ck_assert_uint_eq(
		*(uint8_t *)driver_ptr(&d, BUF(0) + 513), VIRTIO_BLK_S_OK);
}
END_TEST

static bool peer_is_alone(int timeout_ms)
{
	struct pollfd p = {.fd = peer};

	return poll(&p, 1, timeout_ms) == 1 && p.revents & POLLERR;
}

/* The old file gives its data to what waited for it, and is let go of then. */
START_TEST(what_is_in_flight_ends_where_it_began)
{
	uint8_t sector[512] = {42};
	uint32_t len;

	driver_up(m, &d, V1);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	kick();
	pause_ms(10);
	close_fd(&disk); /* the ring has it */
	ck_assert_int_eq(blk_set_file(dev, filled(7, BYTES), BYTES, 0), 0);
	ck_assert_uint_eq(read_sector(1, 0), 7);
	ck_assert(!peer_is_alone(0));
	ck_assert_int_eq(write(peer, sector, 512), 512);
	ck_assert_uint_eq(next_used(&len), 0);
	ck_assert_uint_eq(*status_of(0), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, BUF(0)), 42);
	ck_assert(peer_is_alone(10000));
}
END_TEST

START_TEST(a_reset_ends_what_is_in_flight_on_both)
{
	driver_up(m, &d, V1);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	driver_offer(&d, 0);
	kick();
	pause_ms(10);
	close_fd(&disk);
	ck_assert_int_eq(blk_set_file(dev, filled(7, BYTES), BYTES, 0), 0);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 0);
	ck_assert(peer_is_alone(10000));
	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, DRIVER_RAM_BYTES);
	d.used_seen = 0;
	driver_up(m, &d, V1);
	ck_assert_uint_eq(capacity(), SECTORS);
	ck_assert_uint_eq(read_sector(1, 0), 7);
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

/* As many files of before as there are places for, still in use. */
START_TEST(files_that_cannot_be_let_go_of_have_an_end)
{
	int fds[2], r = 0, fd = -1;
	int peers[8], n = 0;
	uint32_t len;

	driver_up(m, &d, V1);
	for (; r == 0 && n < 8; n++) {
		request((unsigned)n, VIRTIO_BLK_T_IN, 0, 512);
		driver_offer(&d, (uint16_t)(3 * n));
		kick();
		pause_ms(5);
		ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
		peers[n] = fds[1];
		fd = fds[0];
		r = blk_set_file(dev, fd, BYTES, 0);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_int_eq(n, 5);
	ck_assert(!is_open(fd));
	/* It works on with the one before: all of them tell of their end. */
	for (int i = 0; i < n; i++)
		close(peers[i]);
	close_fd(&peer);
	for (int i = 0; i < n; i++)
		next_used(&len);
	ck_assert_uint_eq(read_sector(6, 0), 0xff);
	ck_assert_uint_eq(stats.errors, (uint64_t)n + 1);
}
END_TEST

/* Files of before may take a moment to be synced and let go of. */
static void change(int fd, uint64_t size_bytes, uint32_t align)
{
	int r;

	do {
		r = blk_set_file(dev, dup(fd), size_bytes, align);
		if (r == -ENOSPC)
			pause_ms(1);
	} while (r == -ENOSPC);
	ck_assert_int_eq(r, 0);
	close(fd);
}

static uint8_t guest_stops;

/* All sectors of a file are the same; a read is of one file alone. */
static void *read_for_ever(void *arg)
{
	unsigned *n = arg;

	while (!__atomic_load_n(&guest_stops, __ATOMIC_RELAXED)) {
		uint8_t *at = driver_ptr(&d, BUF(0));
		uint32_t len;

		request(0, VIRTIO_BLK_T_IN, *n % 60, 2048);
		ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
		ck_assert(!memcmp(at, at + 1, 2047));
		++*n;
	}
	return NULL;
}

START_TEST(it_may_change_at_any_moment)
{
	pthread_t guest;
	unsigned n = 0;

	driver_up(m, &d, F_ALL);
	ck_assert_int_eq(blk_set_file(dev, filled(1, BYTES), BYTES, 0), 0);
	guest_stops = 0;
	pthread_create(&guest, NULL, read_for_ever, &n);
	for (unsigned i = 0; i < 200; i++)
		change(filled((uint8_t)i, BYTES / 2 + 1024), BYTES / 2 + 1024,
			i % 2 ? 512 : 0);
	__atomic_store_n(&guest_stops, 1, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_eq(read_sector(1, 0), 199);
}
END_TEST

static void *reset_for_ever(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&guest_stops, __ATOMIC_RELAXED)) {
		uint32_t len;

		memset(driver_ptr(&d, DRIVER_RAM_GPA), 0,
			DRIVER_DATA_GPA - DRIVER_RAM_GPA);
		d.used_seen = 0;
		driver_up(m, &d, F_ALL);
		request(0, VIRTIO_BLK_T_IN, 0, 512);
		ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
		driver_offer(&d, 0);
		kick();
		driver_write(m, VIRTIO_MMIO_STATUS, 0);
	}
	return NULL;
}

START_TEST(resets_may_come_in_between)
{
	pthread_t guest;

	guest_stops = 0;
	pthread_create(&guest, NULL, reset_for_ever, NULL);
	for (unsigned i = 0; i < 200; i++)
		change(filled((uint8_t)i, 1024), 512 + 512 * (i % 2), 0);
	__atomic_store_n(&guest_stops, 1, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
	ck_assert_uint_eq(capacity(), 2);
}
END_TEST

/* What was written there is stable soon after. */
START_TEST(the_old_file_is_synced_where_there_is_a_cache)
{
	uint64_t before;

	make_image();
	make((struct blk_config){.writeback = _i != 0, .read_only = _i == 2});
	driver_up(m, &d, V1);
	ck_assert_uint_ne(read_sector(0, 0), 0xff);
	before = worker_submits(w);
	ck_assert_int_eq(blk_set_file(dev, filled(7, BYTES), BYTES, 0), 0);
	for (unsigned i = 0; i < 1000 && worker_submits(w) == before; i++)
		pause_ms(_i == 1 ? 10 : 0);
	ck_assert_uint_eq(worker_submits(w), before + (_i == 1));
	teardown();
}
END_TEST

START_TEST(a_worker_that_stopped_takes_no_file)
{
	int fd = filled(7, BYTES);

	driver_up(m, &d, V1);
	worker_stop(w);
	ck_assert_int_eq(blk_set_file(dev, fd, BYTES, 0), -ECANCELED);
	ck_assert(!is_open(fd));
	ck_assert_uint_eq(capacity(), SECTORS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blk_live");
	TCase *t = tcase_create("files"), *stream = tcase_create("stream");
	TCase *sync = tcase_create("sync");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, requests_go_to_the_new_file);
	tcase_add_test(t, a_file_can_be_exchanged_for_itself_grown);
	tcase_add_test(t, a_disk_that_shrinks_ends_earlier);
	tcase_add_loop_test(t, nonsense_is_refused_and_changes_nothing, 0,
		sizeof(nonsense) / sizeof(nonsense[0]));
	tcase_add_test(t, alignment_is_the_new_files);
	tcase_add_test(t, it_may_change_at_any_moment);
	tcase_add_test(t, resets_may_come_in_between);
	tcase_add_test(t, a_worker_that_stopped_takes_no_file);
	tcase_set_timeout(stream, 30);
	tcase_add_checked_fixture(stream, setup_stream, teardown);
	tcase_add_test(stream, what_is_in_flight_ends_where_it_began);
	tcase_add_test(stream, a_reset_ends_what_is_in_flight_on_both);
	tcase_add_test(stream, files_that_cannot_be_let_go_of_have_an_end);
	tcase_add_loop_test(
		sync, the_old_file_is_synced_where_there_is_a_cache, 0, 3);
	suite_add_tcase(s, t);
	suite_add_tcase(s, stream);
	suite_add_tcase(s, sync);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
