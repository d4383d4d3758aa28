#include "blk_fixture.h"

#include "base/clock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define F_MQ_ALL (F_ALL | F_MQ | F_DISCARD | F_ZEROES)

/* Rings of queue k > 0: far from those of the others. */
#define RINGS(k) (DRIVER_RAM_GPA + 0x40000ull * (k))

static struct driver other[4];

/* Queue k of this size, ready. */
static void queue(unsigned k, uint16_t size)
{
	struct driver *q = &other[k];
	uint64_t at = RINGS(k);

	*q = d;
	q->size = size;
	q->used_seen = 0;
	q->desc = driver_ptr(&d, at + 0x2000);
	q->avail = driver_ptr(&d, at + 0x6000);
	q->used = driver_ptr(&d, at + 0x8000);
	q->indirect = driver_ptr(&d, at + 0xa000);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, k);
	driver_write(m, VIRTIO_MMIO_QUEUE_NUM, size);
	driver_write(m, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)at + 0x2000);
	driver_write(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)at + 0x6000);
	driver_write(m, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)at + 0x8000);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void up(unsigned n_queues, uint16_t size, uint64_t features)
{
	driver_negotiate(m, features);
	for (unsigned k = 0; k < n_queues; k++)
		queue(k, size);
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
}

static void kick_queue(unsigned k)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, k);
}

/* Request i as one descriptor of each of the queue's heads. */
static void fill(unsigned k, unsigned i, uint32_t type, uint32_t data_bytes)
{
	struct driver_piece pieces[] = {{HDR(i), 16, false},
		{BUF(i), data_bytes, type != VIRTIO_BLK_T_OUT},
		{STATUS(i), 1, true}, {0}};

	header(i, type, 0);
	for (uint16_t head = 0; head < other[k].size; head++) {
		driver_chain_indirect(&other[k], head, pieces);
		other[k].desc[head].addr = RINGS(k) + 0xa000;
	}
}

static void many(struct blk_config config)
{
	make_image();
	config.writeback = true;
	make(config);
}

static void setup_many(void)
{
	many((struct blk_config){.n_queues = 4});
}

static void setup_many_streams(void)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	disk = fds[0];
	peer = fds[1];
	make((struct blk_config){.n_queues = 4});
}

/* Several queues */

START_TEST(it_offers_as_many_queues_as_it_is_told)
{
	struct virtio_blk_config space;

	many((struct blk_config){.n_queues = (unsigned)_i});
	ck_assert_int_eq((dev->features & F_MQ) != 0, _i > 1);
	read_space(&space);
	ck_assert_uint_eq(space.num_queues, _i ? _i : 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, _i > 1 ? (uint32_t)_i - 1 : 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQ_MAX);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, _i > 1 ? (uint32_t)_i : 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	teardown();
}
END_TEST

START_TEST(each_queue_has_its_answers)
{
	uint32_t len;

	up(4, 16, F_MQ_ALL);
	for (unsigned k = 0; k < 4; k++) {
		fill(k, k, VIRTIO_BLK_T_IN, 512);
		driver_offer(&other[k], (uint16_t)k);
		kick_queue(k);
		ck_assert_uint_eq(next_used_of(&other[k], &len), k);
		ck_assert_uint_eq(len, 513);
		ck_assert_uint_eq(*status_of(k), VIRTIO_BLK_S_OK);
		ck_assert_mem_eq(driver_ptr(&d, BUF(k)), image, 512);
	}
	for (unsigned k = 0; k < 4; k++)
		ck_assert_uint_eq(other[k].used->idx, 1);
	ck_assert_uint_eq(stats.reads, 4);
}
END_TEST

START_TEST(all_queues_are_served_at_once)
{
	uint32_t len;

	up(4, 16, F_MQ_ALL);
	fill(0, 0, VIRTIO_BLK_T_IN, 512);
	for (unsigned k = 1; k < 4; k++)
		memcpy(other[k].desc, other[0].desc, (size_t)16 * 16);
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned k = 0; k < 4; k++) {
			for (uint16_t i = 0; i < 16; i++)
				driver_offer(&other[k], i);
			kick_queue(k);
		}
		for (unsigned k = 0; k < 4; k++)
			for (unsigned i = 0; i < 16; i++)
				next_used_of(&other[k], &len);
	}
	ck_assert_uint_eq(stats.reads, 200ull * 4 * 16);
}
END_TEST

/* Its eventfd is there and its memory is not. */
START_TEST(a_queue_that_was_not_set_up_is_left_alone)
{
	uint32_t len;

	up(2, 16, F_MQ_ALL);
	kick_queue(2);
	kick_queue(3);
	fill(1, 1, VIRTIO_BLK_T_IN, 512);
	driver_offer(&other[1], 0);
	kick_queue(1);
	next_used_of(&other[1], &len);
	ck_assert_uint_eq(*status_of(1), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 15);
}
END_TEST

START_TEST(more_queues_need_to_be_negotiated)
{
	uint32_t len;

	up(2, 16, F_ALL);
	fill(1, 1, VIRTIO_BLK_T_IN, 512);
	driver_offer(&other[1], 0);
	kick_queue(1);
	fill(0, 0, VIRTIO_BLK_T_IN, 512);
	driver_offer(&other[0], 0);
	kick_queue(0);
	next_used_of(&other[0], &len);
	pause_ms(20);
	ck_assert_uint_eq(other[1].used->idx, 0);
}
END_TEST

START_TEST(a_malformed_ring_of_any_queue_needs_reset)
{
	up(4, 16, F_MQ_ALL);
	driver_offer(&other[3], 16);
	kick_queue(3);
	for (unsigned i = 0; i < 1000; i++) {
		if (driver_read(m, VIRTIO_MMIO_STATUS) & 0x40)
			break;
		pause_ms(1);
	}
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS),
		15 | VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

START_TEST(the_first_queue_is_not_optional)
{
	driver_negotiate(m, F_MQ_ALL);
	queue(1, 16);
	driver_write(m, VIRTIO_MMIO_STATUS, 15);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS),
		15 | VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

#define CHUNK 16u

static unsigned answers(void)
{
	unsigned n = 0;

	for (unsigned k = 0; k < 3; k++)
		n += __atomic_load_n(&other[k].used->idx, __ATOMIC_ACQUIRE);
	return n;
}

/* Two rings full of what waits for data leave room for one request more:
 * whoever comes last has to wait, but is not forgotten. */
START_TEST(what_finds_no_room_is_served_later)
{
	static const uint8_t sectors[CHUNK * 512];
	const unsigned n = 2 * VIRTQ_MAX + CHUNK;

	up(4, VIRTQ_MAX, F_MQ_ALL & ~(F_DISCARD | F_ZEROES | F_FLUSH));
	for (unsigned k = 0; k < 3; k++) {
		fill(k, k, VIRTIO_BLK_T_IN, 512);
		for (unsigned i = 0; i < (k < 2 ? VIRTQ_MAX : CHUNK); i++)
			driver_offer(&other[k], (uint16_t)i);
		kick_queue(k);
	}
	pause_ms(20);
	ck_assert_uint_eq(answers(), 0);
	for (unsigned done = 0; done < n; done += CHUNK) {
		ck_assert_int_eq(
			write(peer, sectors, sizeof(sectors)), sizeof(sectors));
		while (answers() < done + CHUNK)
			pause_ms(0);
	}
	ck_assert_uint_eq(stats.reads, n);
}
END_TEST

START_TEST(a_reset_ends_what_all_queues_have_in_flight)
{
	up(4, VIRTQ_MAX, F_MQ_ALL & ~(F_DISCARD | F_ZEROES | F_FLUSH));
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned k = 0; k < 4; k++) {
			fill(k, k, VIRTIO_BLK_T_IN, 512);
			for (uint16_t i = 0; i < VIRTQ_MAX; i++)
				driver_offer(&other[k], i);
			kick_queue(k);
		}
		pause_ms(round);
		driver_write(m, VIRTIO_MMIO_STATUS, 0);
		ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 0);
		memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, DRIVER_RAM_BYTES);
		up(4, VIRTQ_MAX, F_MQ_ALL & ~(F_DISCARD | F_ZEROES | F_FLUSH));
	}
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

/* Limits */

static uint64_t submits(void)
{
	return worker_submits(w);
}

static void limited(struct rate_limiter_config config)
{
	many((struct blk_config){.n_queues = 4, .limiter = config});
	up(4, 16, F_MQ_ALL);
	for (unsigned k = 0; k < 4; k++)
		fill(k, k, VIRTIO_BLK_T_IN, 512);
}

static void offer_all(unsigned k)
{
	for (uint16_t i = 0; i < 16; i++)
		driver_offer(&other[k], i);
	kick_queue(k);
}

static void wait_all(unsigned k)
{
	uint32_t len;

	for (unsigned i = 0; i < 16; i++)
		next_used_of(&other[k], &len);
	ck_assert_uint_eq(*status_of(k), VIRTIO_BLK_S_OK);
}

static const struct rate_limiter_config limits[] = {
	{.ops = {4, 0, 80 * MS}},
	{.bytes = {4 * 512ull, 0, 80 * MS}},
	{.ops = {4, 0, 80 * MS}, .bytes = {1000000, 0, 1000 * MS}},
};

/* 16 at 4 in 80 ms, of which the first 4 are free. */
START_TEST(a_limited_queue_takes_its_time)
{
	uint64_t begin;

	limited(limits[_i]);
	begin = clock_ns();
	offer_all(1);
	wait_all(1);
	begin = clock_ns() - begin;
	ck_assert_uint_ge(begin, 240 * MS);
	ck_assert_uint_le(begin, 5000 * MS);
	ck_assert_uint_ge(stats.throttled, 3);
	ck_assert_uint_eq(stats.reads, 16);
	/* All the while one was held, which counts. */
	ck_assert_uint_eq(histogram_count(&stats.read_time), 16);
	ck_assert_uint_ge(stats.read_time.sum_ns, 200 * MS);
	teardown();
}
END_TEST

START_TEST(a_limit_is_shared_by_all_queues)
{
	uint64_t begin;
	uint32_t len;

	limited(limits[0]);
	begin = clock_ns();
	for (unsigned k = 0; k < 4; k++)
		offer_all(k);
	/* None of them waits for all the others. */
	for (unsigned k = 0; k < 4; k++)
		for (unsigned i = 0; i < 4; i++)
			next_used_of(&other[k], &len);
	for (unsigned k = 0; k < 4; k++)
		ck_assert_uint_lt(other[k].used->idx, 16);
	for (unsigned k = 0; k < 4; k++)
		for (unsigned i = 0; i < 12; i++)
			next_used_of(&other[k], &len);
	ck_assert_uint_ge(clock_ns() - begin, 1200 * MS);
	ck_assert_uint_eq(stats.reads, 64);
	teardown();
}
END_TEST

static clockid_t worker_clock;

static void note_clock(void *arg)
{
	(void)arg;
	pthread_getcpuclockid(pthread_self(), &worker_clock);
}

static uint64_t worker_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(worker_clock, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* Kicks are off, and nobody looks. */
START_TEST(waiting_costs_nothing)
{
	uint64_t cpu, before;

	limited((struct rate_limiter_config){.ops = {1, 0, 3600000 * MS}});
	worker_call(w, note_clock, NULL);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, DRIVER_RAM_BYTES);
	up(4, 16, V1 | F_INDIRECT | F_MQ);
	for (unsigned k = 0; k < 4; k++) {
		fill(k, k, VIRTIO_BLK_T_IN, 512);
		offer_all(k);
	}
	for (unsigned k = 0; k < 4; k++)
		while (__atomic_load_n(&other[k].used->flags,
			       __ATOMIC_RELAXED) != VRING_USED_F_NO_NOTIFY)
			pause_ms(1);
	wait_count(&stats.throttled, 1);
	before = submits();
	cpu = worker_cpu_ns();
	pause_ms(200);
	ck_assert_uint_eq(submits(), before);
	ck_assert_uint_lt(worker_cpu_ns() - cpu, 10 * MS);
	ck_assert_uint_eq(stats.reads, 1);
	ck_assert_uint_eq(stats.throttled, 1);
	/* And kicks that come all the same change nothing. */
	for (unsigned i = 0; i < 100; i++)
		kick_queue(i % 4);
	pause_ms(20);
	ck_assert_uint_eq(stats.reads, 1);
	teardown();
}
END_TEST

/* The one that is held is answered, and never carried out; the limiter does
 * not forget what was taken. */
START_TEST(a_reset_ends_the_wait)
{
	limited((struct rate_limiter_config){.ops = {1, 0, 3600000 * MS}});
	for (unsigned round = 0; round < 5; round++) {
		offer_all(1);
		pause_ms((long)round * 5);
		driver_write(m, VIRTIO_MMIO_STATUS, 0);
		ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_STATUS), 0);
		ck_assert_uint_le(stats.reads, 1);
		memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, DRIVER_RAM_BYTES);
		up(4, 16, F_MQ_ALL);
		fill(1, 1, VIRTIO_BLK_T_IN, 512);
	}
	ck_assert_uint_eq(stats.errors, 0);
	teardown();
}
END_TEST

START_TEST(a_worker_may_stop_while_a_queue_waits)
{
	uint32_t len;

	limited((struct rate_limiter_config){.ops = {1, 0, 3600000 * MS}});
	offer_all(1);
	next_used_of(&other[1], &len);
	wait_count(&stats.throttled, 1);
	worker_stop(w);
	ck_assert_uint_eq(next_used_of(&other[1], &len), 1);
	ck_assert_uint_eq(*status_of(1), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(stats.reads, 1);
	teardown();
}
END_TEST

static void set_limit(
	bool bytes, bool ops, const struct rate_limiter_config *config)
{
	struct rate_limiter_update u = {bytes, ops, *config};

	ck_assert_int_eq(blk_limit(dev, &u), 0);
}

START_TEST(a_limit_can_change_while_it_makes_wait)
{
	const struct rate_limiter_config none = {0};
	const struct rate_limiter_config few = {.ops = {3, 2, 3600000 * MS}};
	uint32_t len;

	limited((struct rate_limiter_config){.ops = {1, 0, 3600000 * MS}});
	offer_all(0);
	offer_all(1);
	wait_count(&stats.reads, 1);
	/* The other bucket is not what it waits for. */
	set_limit(true, false, &few);
	wait_count(&stats.reads, 1);
	set_limit(false, true, &few);
	wait_count(&stats.reads, 6);
	set_limit(false, true, &none);
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < 16; i++)
			next_used_of(&other[k], &len);
	set_limit(true, true, &none);
	offer_all(2);
	wait_all(2);
	teardown();
}
END_TEST

/* Bytes: of reads, writes and zeroes. Operations: of all. */
static const struct {
	uint32_t type, data_bytes;
	uint64_t bytes;
} costs[] = {
	{VIRTIO_BLK_T_IN, 512, 512},
	{VIRTIO_BLK_T_OUT, 1024, 1024},
	{VIRTIO_BLK_T_FLUSH, 0, 0},
	{VIRTIO_BLK_T_GET_ID, 20, 0},
	{VIRTIO_BLK_T_DISCARD, 16, 0},
	{VIRTIO_BLK_T_WRITE_ZEROES, 16, 1536},
};

START_TEST(each_request_has_its_price)
{
	struct virtio_blk_discard_write_zeroes seg = {.num_sectors = 3};
	struct rate_limiter_config config = {
		.bytes = {1u << 20, 0, 3600000 * MS},
		.ops = {3, 0, 3600000 * MS}};
	uint32_t len;

	many((struct blk_config){.limiter = config});
	driver_up(m, &d, F_ALL | F_DISCARD | F_ZEROES);
	/* As many bytes as will do for just one more request of 512. */
	request(0, VIRTIO_BLK_T_IN, 0, 1024);
	run(0, &len);
	if (costs[_i].type == VIRTIO_BLK_T_DISCARD ||
		costs[_i].type == VIRTIO_BLK_T_WRITE_ZEROES)
		range_request(1, costs[_i].type, &seg, 1);
	else
		request(1, costs[_i].type, 0, costs[_i].data_bytes);
	ck_assert_uint_eq(run(1, &len), VIRTIO_BLK_S_OK);
	config.bytes = (struct bucket_config){512, 0, 3600000 * MS};
	set_limit(true, false, &config);
	request(2, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert_uint_eq(run(2, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(stats.throttled, 0);
	/* That was the last of the operations. */
	request(3, VIRTIO_BLK_T_GET_ID, 0, 20);
	driver_offer(&d, 9);
	kick();
	wait_count(&stats.throttled, 1);
	/* With operations again, the same request waits for its bytes. */
	config.bytes = (struct bucket_config){
		costs[_i].bytes ? costs[_i].bytes : 1, 0, 3600000 * MS};
	config.ops = (struct bucket_config){100, 0, 3600000 * MS};
	set_limit(true, true, &config);
	ck_assert_uint_eq(next_used(&len), 9);
	if (costs[_i].type == VIRTIO_BLK_T_DISCARD ||
		costs[_i].type == VIRTIO_BLK_T_WRITE_ZEROES)
		range_request(1, costs[_i].type, &seg, 1);
	else
		request(1, costs[_i].type, 0, costs[_i].data_bytes);
	ck_assert_uint_eq(run(1, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(stats.throttled, 1);
	driver_offer(&d, 3);
	kick();
	wait_count(&stats.throttled, 1 + (costs[_i].bytes > 0));
	teardown();
}
END_TEST

/* What is malformed is nobody's I/O. */
START_TEST(a_refused_request_costs_nothing)
{
	uint32_t len;

	many((struct blk_config){.limiter = {.ops = {1, 0, 3600000 * MS}}});
	driver_up(m, &d, F_ALL);
	request(0, VIRTIO_BLK_T_IN, SECTORS, 512);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	request(0, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(stats.throttled, 0);
	teardown();
}
END_TEST

/* Ranges */

static off_t blocks_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_blocks;
}

static const struct {
	uint32_t type, flags;
	bool gives_back;
} kinds[] = {
	{VIRTIO_BLK_T_DISCARD, 0, true},
	{VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, true},
	{VIRTIO_BLK_T_WRITE_ZEROES, 0, false},
};

/* Three ranges, and nothing beside them. */
START_TEST(ranges_are_discarded_or_zeroed)
{
	struct virtio_blk_discard_write_zeroes segs[] = {
		{.sector = 8, .num_sectors = 16},
		{.sector = 40, .num_sectors = 8},
		{.sector = 127, .num_sectors = 1}};
	uint32_t len;

	for (unsigned i = 0; i < 3; i++) {
		segs[i].flags = kinds[_i].flags;
		memset(image + segs[i].sector * 512, 0,
			segs[i].num_sectors * 512ul);
	}
	driver_up(m, &d, F_ALL | F_DISCARD | F_ZEROES);
	range_request(0, kinds[_i].type, segs, 3);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(len, 1);
	check_image();
	ck_assert_int_eq(blocks_of(disk),
		(off_t)(kinds[_i].gives_back ? SECTORS - 24 : SECTORS));
	ck_assert_uint_eq(stats.discards, _i == 0);
	ck_assert_uint_eq(stats.write_zeroes, _i != 0);
}
END_TEST

START_TEST(one_bad_range_spoils_the_request)
{
	struct virtio_blk_discard_write_zeroes segs[] = {
		{.sector = 8, .num_sectors = 16},
		{.sector = SECTORS - 1, .num_sectors = 2}};
	uint32_t len;

	driver_up(m, &d, F_ALL | F_DISCARD | F_ZEROES);
	range_request(0, kinds[_i].type, segs, 2);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	check_image();
	ck_assert_uint_eq(stats.malformed, 1);
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

START_TEST(what_was_not_negotiated_is_not_done)
{
	struct virtio_blk_discard_write_zeroes seg = {.num_sectors = 8};
	uint32_t len;

	driver_up(m, &d,
		kinds[_i].type == VIRTIO_BLK_T_DISCARD ? F_ALL | F_ZEROES
						       : F_ALL | F_DISCARD);
	range_request(0, kinds[_i].type, &seg, 1);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_UNSUPP);
	check_image();
}
END_TEST

/* Whoever cannot flush finds zeroes stable, too: a sync more. */
START_TEST(zeroes_are_stable_for_a_driver_that_cannot_flush)
{
	struct virtio_blk_discard_write_zeroes seg = {
		.num_sectors = 8, .flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
	uint64_t before;
	uint32_t len;

	driver_up(m, &d, _i ? V1 | F_ZEROES : V1 | F_ZEROES | F_FLUSH);
	range_request(0, VIRTIO_BLK_T_WRITE_ZEROES, &seg, 1);
	before = submits();
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(submits() - before, _i ? 2 : 1);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, 0x10000);
	d.used_seen = 0;
	driver_up(m, &d, _i ? V1 | F_DISCARD : V1 | F_DISCARD | F_FLUSH);
	seg.flags = 0;
	range_request(0, VIRTIO_BLK_T_DISCARD, &seg, 1);
	before = submits();
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(submits() - before, 1);
}
END_TEST

START_TEST(errors_of_ranges_reach_the_guest)
{
	struct virtio_blk_discard_write_zeroes segs[2] = {
		{.num_sectors = 8}, {.num_sectors = 8}};
	uint32_t len;

	disk = open("/dev/full", O_RDWR | O_CLOEXEC);
	make((struct blk_config){.writeback = true});
	/* A device that is none for blocks gives no space back. */
	ck_assert_uint_eq(dev->features & F_DISCARD, 0);
	driver_up(m, &d, V1 | F_ZEROES);
	range_request(0, VIRTIO_BLK_T_WRITE_ZEROES, segs, 2);
	ck_assert_uint_eq(run(0, &len), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(stats.errors, 1);
	ck_assert_uint_eq(stats.write_zeroes, 0);
	teardown();
}
END_TEST

static const struct {
	uint32_t block_bytes;
	unsigned exp;
} topologies[] = {{0, 0}, {512, 0}, {1024, 1}, {4096, 3}, {65536, 7}, {256, 0},
	{1000, 0}, {131072, 0}, {1u << 31, 0}};

START_TEST(the_topology_is_the_hosts)
{
	struct virtio_blk_config space;
	unsigned exp = topologies[_i].exp;

	many((struct blk_config){.block_bytes = topologies[_i].block_bytes});
	read_space(&space);
	ck_assert_uint_eq(space.blk_size, 512);
	ck_assert_uint_eq(space.physical_block_exp, exp);
	ck_assert_uint_eq(space.alignment_offset, 0);
	ck_assert_uint_eq(space.min_io_size, 1u << exp);
	ck_assert_uint_eq(space.discard_sector_alignment, 1u << exp);
	ck_assert_uint_eq(space.max_discard_sectors, 131072);
	ck_assert_uint_eq(space.max_discard_seg, 16);
	ck_assert_uint_eq(space.max_write_zeroes_sectors, 131072);
	ck_assert_uint_eq(space.max_write_zeroes_seg, 16);
	ck_assert_uint_eq(space.write_zeroes_may_unmap, 1);
	teardown();
}
END_TEST

static TCase *limits_case(void)
{
	TCase *t = tcase_create("limits");

	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, a_limited_queue_takes_its_time, 0,
		sizeof(limits) / sizeof(limits[0]));
	tcase_add_test(t, a_limit_is_shared_by_all_queues);
	tcase_add_test(t, waiting_costs_nothing);
	tcase_add_test(t, a_reset_ends_the_wait);
	tcase_add_test(t, a_worker_may_stop_while_a_queue_waits);
	tcase_add_test(t, a_limit_can_change_while_it_makes_wait);
	tcase_add_loop_test(t, each_request_has_its_price, 0,
		sizeof(costs) / sizeof(costs[0]));
	tcase_add_test(t, a_refused_request_costs_nothing);
	return t;
}

static TCase *ranges_case(void)
{
	TCase *t = tcase_create("ranges");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, ranges_are_discarded_or_zeroed, 0, 3);
	tcase_add_loop_test(t, one_bad_range_spoils_the_request, 0, 3);
	tcase_add_loop_test(t, what_was_not_negotiated_is_not_done, 0, 3);
	tcase_add_loop_test(
		t, zeroes_are_stable_for_a_driver_that_cannot_flush, 0, 2);
	return t;
}

int main(void)
{
	Suite *s = suite_create("blk_queue");
	TCase *one = tcase_create("kinds"), *q = tcase_create("queues");
	TCase *stream = tcase_create("streams");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(one, it_offers_as_many_queues_as_it_is_told, 0, 5);
	tcase_add_loop_test(one, the_topology_is_the_hosts, 0,
		sizeof(topologies) / sizeof(topologies[0]));
	tcase_add_test(one, errors_of_ranges_reach_the_guest);
	tcase_add_checked_fixture(q, setup_many, teardown);
	tcase_add_test(q, each_queue_has_its_answers);
	tcase_add_test(q, all_queues_are_served_at_once);
	tcase_add_test(q, a_queue_that_was_not_set_up_is_left_alone);
	tcase_add_test(q, more_queues_need_to_be_negotiated);
	tcase_add_test(q, a_malformed_ring_of_any_queue_needs_reset);
	tcase_add_test(q, the_first_queue_is_not_optional);
	tcase_set_timeout(stream, 30);
	tcase_add_checked_fixture(stream, setup_many_streams, teardown);
	tcase_add_test(stream, what_finds_no_room_is_served_later);
	tcase_add_test(stream, a_reset_ends_what_all_queues_have_in_flight);
	suite_add_tcase(s, one);
	suite_add_tcase(s, q);
	suite_add_tcase(s, stream);
	suite_add_tcase(s, limits_case());
	suite_add_tcase(s, ranges_case());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
