#include "base/clock.h"
#include "tests/unit/rig.h"
#include "virtio/balloon.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(n) (1ull << (n))
#define V1 BIT(VIRTIO_F_VERSION_1)
#define F_STATS BIT(VIRTIO_BALLOON_F_STATS_VQ)
#define F_OOM BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM)
#define F_HINT BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT)
#define F_POISON BIT(VIRTIO_BALLOON_F_PAGE_POISON)
#define F_REPORT BIT(VIRTIO_BALLOON_F_REPORTING)
#define F_RING (BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define F_ALL (V1 | F_STATS | F_HINT | F_REPORT)

#define NUM_PAGES 0
#define ACTUAL 4
#define HINT_CMD 8
#define POISON 12

#define STOP VIRTIO_BALLOON_CMD_ID_STOP
#define DONE VIRTIO_BALLOON_CMD_ID_DONE

/* Queues, as both counts have them when all are there. */
enum { INFLATE, DEFLATE, STATS, HINT, REPORT };

#define NUMBERS DRIVER_DATA_GPA /* of pages */
#define PAGE 4096u
#define PFN(i) ((uint32_t)((DRIVER_RAM_GPA + 0x20000) / PAGE) + (i))
#define PAGE_GPA(i) ((uint64_t)PFN(i) * PAGE)
#define MS 1000000ull

static struct rig rig;
static struct balloon_state state;

/* Calls of it; on the worker alone. */
static unsigned madvised;

int madvise(void *addr, size_t len, int advice)
{
	madvised++;
	return (int)syscall(SYS_madvise, addr, len, advice);
}

static struct virtio_dev *plug(struct balloon_config config)
{
	struct virtio_dev *dev;
	struct error err;

	memset(&state, 0, sizeof(state));
	madvised = 0;
	rig_init(&rig);
	config.mem = &rig.q[0].mem;
	config.state = &state;
	ck_assert_int_eq(balloon_create(&dev, rig.w, &config, &err), 0);
	rig_plug(&rig, dev);
	return dev;
}

static void setup(void)
{
	plug((struct balloon_config){.target_pages = 7,
		.hinting = true,
		.reporting = true,
		.stats_interval_s = 3600});
	memset(rig_ptr(&rig, PAGE_GPA(0)), 0x5a, (size_t)64 * PAGE);
}

static void teardown(void)
{
	rig_fini(&rig);
}

static uint64_t now(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

static bool gone(unsigned page)
{
	const uint8_t *p = rig_ptr(&rig, PAGE_GPA(page));

	return p[0] == 0 && p[PAGE - 1] == 0;
}

/* Sends n page numbers, and a few bytes beyond; returns when they are used. */
static void send_pages(unsigned q, unsigned n, uint32_t odd_bytes)
{
	rig_send(&rig, q, 0,
		(struct driver_piece[]){
			{NUMBERS, n * 4 + odd_bytes, false}, {0}});
	ck_assert_uint_eq(rig_used(&rig, q, 0), 0);
}

static void number(unsigned i, uint32_t pfn)
{
	rig_put32(&rig, NUMBERS + 4ull * i, pfn);
}

/* ---- what it is ---- */

static const struct {
	struct balloon_config config;
	uint64_t features;
	unsigned queues;
} kinds[] = {
	{{.target_pages = 5}, 0, 2},
	{{.deflate_on_oom = true}, F_OOM, 2},
	{{.stats_interval_s = 1}, F_STATS, 5},
	{{.hinting = true}, F_HINT | F_POISON, 5},
	{{.reporting = true}, F_REPORT | F_POISON, 5},
};

START_TEST(it_offers_what_its_configuration_says)
{
	const struct virtio_dev *dev = plug(kinds[_i].config);

	ck_assert_uint_eq(dev->features, V1 | F_RING | kinds[_i].features);
	ck_assert_uint_eq(dev->n_vqs, kinds[_i].queues);
	ck_assert_uint_eq(driver_read(rig.m, VIRTIO_MMIO_DEVICE_ID), 5);
	/* Linux wants 32 entries to report. */
	ck_assert_uint_ge(driver_read(rig.m, VIRTIO_MMIO_QUEUE_NUM_MAX), 32);
	ck_assert_uint_eq(
		rig_config(&rig, NUM_PAGES), kinds[_i].config.target_pages);
	ck_assert_uint_eq(state.target_pages, kinds[_i].config.target_pages);
	ck_assert_uint_eq(state.stats[3], UINT64_MAX);
	teardown();
}
END_TEST

static const unsigned too_few[] = {0, 1, 2};

START_TEST(it_does_not_start_without_its_first_queues)
{
	rig_up_mask(&rig, V1, too_few[_i]);
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_up(&rig, V1, 2);
}
END_TEST

START_TEST(what_is_not_set_up_is_not_served)
{
	rig_up_mask(&rig, F_ALL, 0x13);
	rig_send(&rig, HINT, 0,
		(struct driver_piece[]){{PAGE_GPA(0), PAGE, true}, {0}});
	rig_kick(&rig, STATS);
	ck_assert(rig_idle(&rig, HINT));
	ck_assert_int_eq(balloon_hinting_start(rig.dev, true), -EAGAIN);
	rig_send(&rig, REPORT, 0,
		(struct driver_piece[]){{PAGE_GPA(1), PAGE, true}, {0}});
	rig_used(&rig, REPORT, 0);
	ck_assert(!gone(0) && gone(1));
}
END_TEST

/* Which queue is which: by the specification's numbers, or counting only what
 * the driver took. `report` is where it reports. */
static const struct {
	uint64_t features;
	unsigned mask, report;
} counts[] = {
	{F_ALL, 0x1f, 4},
	{V1 | F_REPORT, 0x07, 2},
	{V1 | F_REPORT, 0x13, 4},
	{V1 | F_STATS | F_REPORT, 0x0f, 3},
	{V1 | F_STATS | F_REPORT, 0x17, 4},
	{V1 | F_HINT | F_REPORT, 0x0f, 3},
	{V1 | F_HINT | F_REPORT, 0x1b, 4},
};

START_TEST(queues_are_counted_in_either_way)
{
	rig_up_mask(&rig, counts[_i].features, counts[_i].mask);
	rig_send(&rig, counts[_i].report, 0,
		(struct driver_piece[]){{PAGE_GPA(2), PAGE, true}, {0}});
	rig_used(&rig, counts[_i].report, 0);
	ck_assert(gone(2));
	ck_assert_uint_eq(now(&state.reported_bytes), PAGE);
}
END_TEST

/* ---- inflating and deflating ---- */

START_TEST(inflated_pages_go_and_come_back_empty)
{
	rig_up(&rig, V1, 2);
	number(0, PFN(3));
	number(1, PFN(2));
	number(2, PFN(9));
	send_pages(INFLATE, 3, 0);
	for (unsigned i = 0; i < 12; i++)
		ck_assert_int_eq(gone(i), i == 2 || i == 3 || i == 9);
	ck_assert_uint_eq(state.inflated_pages, 3);
	send_pages(DEFLATE, 2, 0);
	ck_assert_uint_eq(state.deflated_pages, 2);
	ck_assert_uint_eq(state.malformed + state.errors, 0);
	memset(rig_ptr(&rig, PAGE_GPA(3)), 1, PAGE);
}
END_TEST

START_TEST(pages_that_are_no_memory_are_malformed)
{
	static const uint32_t pfns[] = {0, UINT32_MAX, 0x100000000ull / PAGE,
		(DRIVER_RAM_GPA + DRIVER_RAM_BYTES) / PAGE,
		DRIVER_RAM_GPA / PAGE - 1, 1u << 31};

	rig_up(&rig, V1, 2);
	for (unsigned i = 0; i < 6; i++)
		number(i, pfns[i]);
	number(6, PFN(1));
	send_pages(INFLATE, 7, 0);
	ck_assert_uint_eq(state.malformed, 6);
	ck_assert_uint_eq(state.inflated_pages, 1);
	ck_assert(gone(1) && !gone(0) && !gone(2));
	ck_assert_uint_eq(rig_status(&rig), RIG_OK);
}
END_TEST

static const struct {
	unsigned n;
	uint32_t odd_bytes;
} odd_lengths[] = {{1, 1}, {1, 3}, {0, 2}};

START_TEST(lengths_that_are_no_numbers_are_malformed)
{
	rig_up(&rig, V1, 2);
	number(0, PFN(0));
	number(1, PFN(1));
	send_pages(INFLATE, odd_lengths[_i].n, odd_lengths[_i].odd_bytes);
	ck_assert_uint_eq(state.malformed, 1);
	ck_assert_uint_eq(state.inflated_pages, odd_lengths[_i].n);
	ck_assert_int_eq(gone(0), odd_lengths[_i].n == 1);
	ck_assert(!gone(1));
	send_pages(DEFLATE, odd_lengths[_i].n, odd_lengths[_i].odd_bytes);
	ck_assert_uint_eq(state.malformed, 2);
	ck_assert_uint_eq(state.deflated_pages, odd_lengths[_i].n);
}
END_TEST

START_TEST(a_chain_in_the_wrong_direction_is_malformed)
{
	rig_up(&rig, V1, 2);
	number(0, PFN(0));
	for (unsigned q = INFLATE; q <= DEFLATE; q++) {
		rig_send(&rig, q, 0,
			(struct driver_piece[]){{NUMBERS, 4, true}, {0}});
		ck_assert_uint_eq(rig_used(&rig, q, 0), 0);
		ck_assert_uint_eq(state.malformed, q + 1ull);
	}
	ck_assert(!gone(0));
	ck_assert_uint_eq(state.inflated_pages + state.deflated_pages, 0);
}
END_TEST

START_TEST(numbers_may_be_cut_anywhere)
{
	rig_up(&rig, V1, 2);
	number(0, PFN(5));
	number(1, PFN(6));
	rig_send(&rig, INFLATE, 0,
		(struct driver_piece[]){{NUMBERS, 1, false},
			{NUMBERS + 1, 4, false}, {NUMBERS + 5, 3, false}, {0}});
	rig_used(&rig, INFLATE, 0);
	ck_assert(!gone(4) && gone(5) && gone(6) && !gone(7));
}
END_TEST

/* More than a call takes, and more than a turn: 16 pieces of 64 KiB each, of
 * which the last numbers are the ones looked for. */
START_TEST(a_chain_of_a_quarter_million_numbers_is_done_part_by_part)
{
	struct driver_piece pieces[17] = {{0}};
	uint64_t numbers = DRIVER_RAM_GPA + 0x60000;

	memset(rig_ptr(&rig, numbers), 0xff, 1 << 16);
	rig_up(&rig, V1, 2);
	for (unsigned i = 0; i < 16; i++)
		pieces[i] = (struct driver_piece){numbers, 1 << 16, false};
	rig_put32(&rig, numbers + (1 << 16) - 4, PFN(8));
	rig_send(&rig, INFLATE, 0, pieces);
	ck_assert_uint_eq(rig_used(&rig, INFLATE, 0), 0);
	ck_assert_uint_eq(state.inflated_pages, 16);
	ck_assert_uint_eq(state.malformed, 16 * ((1ull << 14) - 1));
	ck_assert(gone(8) && !gone(7));
	/* The next begins at its beginning. */
	number(0, PFN(10));
	send_pages(INFLATE, 1, 0);
	ck_assert(gone(10));
	ck_assert_uint_eq(state.inflated_pages, 17);
}
END_TEST

/* ---- configuration ---- */

START_TEST(a_new_target_is_told)
{
	uint32_t generation;

	rig_up(&rig, V1, 2);
	generation = driver_read(rig.m, VIRTIO_MMIO_CONFIG_GENERATION);
	rig_interrupts(&rig);
	ck_assert_int_eq(balloon_set_target(rig.dev, 0x12345678), 0);
	ck_assert_uint_eq(rig_config(&rig, NUM_PAGES), 0x12345678);
	ck_assert_uint_eq(state.target_pages, 0x12345678);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
	ck_assert_uint_eq(driver_read(rig.m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
	ck_assert_uint_ne(
		driver_read(rig.m, VIRTIO_MMIO_CONFIG_GENERATION), generation);
}
END_TEST

/* An interrupt for its own word would have the driver write it again. */
START_TEST(what_the_driver_holds_is_taken_quietly)
{
	rig_up(&rig, V1, 2);
	rig_interrupts(&rig);
	rig_write_config(&rig, ACTUAL, 77);
	ck_assert_uint_eq(state.actual_pages, 77);
	ck_assert_uint_eq(rig_config(&rig, ACTUAL), 77);
	ck_assert_uint_eq(rig_interrupts(&rig), 0);
	rig_reset(&rig);
	ck_assert_uint_eq(state.actual_pages, 0);
	ck_assert_uint_eq(rig_config(&rig, ACTUAL), 0);
}
END_TEST

START_TEST(a_driver_writes_its_own_fields_only)
{
	uint8_t bytes[8] = {9, 9, 9, 9, 9, 9, 9, 9};

	rig_up(&rig, V1, 2);
	rig_write_config(&rig, NUM_PAGES, 9);
	rig_write_config(&rig, HINT_CMD, 9);
	ck_assert_uint_eq(rig_config(&rig, NUM_PAGES), 7);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), 0);
	for (unsigned len = 1; len <= 8; len *= 2)
		if (len != 4)
			virtio_mmio_write(
				rig.m, VIRTIO_MMIO_CONFIG + ACTUAL, bytes, len);
	rig_write_config(&rig, ACTUAL + 2, 9);
	rig_write_config(&rig, POISON + 2, 9);
	ck_assert_uint_eq(rig_config(&rig, ACTUAL), 0);
	ck_assert_uint_eq(state.actual_pages, 0);
	rig_write_config(&rig, POISON, 9);
	ck_assert_uint_eq(rig_config(&rig, POISON), 9);
}
END_TEST

/* ---- statistics ---- */

static void stat_entry(unsigned i, uint16_t tag, uint64_t value)
{
	struct virtio_balloon_stat s = {tag, value};

	memcpy(rig_ptr(&rig, NUMBERS + i * sizeof(s)), &s, sizeof(s));
}

static void send_stats(uint64_t free_bytes)
{
	stat_entry(0, VIRTIO_BALLOON_S_MEMFREE, free_bytes);
	stat_entry(1, 999, 1);
	rig_send(&rig, STATS, 0,
		(struct driver_piece[]){{NUMBERS, 20, false}, {0}});
}

static void await(const uint64_t *counter, uint64_t value)
{
	uint64_t end = clock_ns() + 10000 * MS;

	while (now(counter) != value)
		ck_assert_msg(clock_ns() < end, "does not come");
}

START_TEST(statistics_are_taken_and_asked_for_again)
{
	rig_up(&rig, F_ALL, 5);
	send_stats(1000);
	await(&state.stats_updates, 1);
	ck_assert_uint_eq(state.stats[VIRTIO_BALLOON_S_MEMFREE], 1000);
	ck_assert_uint_eq(state.stats[VIRTIO_BALLOON_S_MEMTOT], UINT64_MAX);
	/* The buffer is kept until it is time. */
	ck_assert(rig_idle(&rig, STATS));
	ck_assert_int_eq(balloon_set_stats_interval(rig.dev, 1), 0);
	ck_assert_uint_eq(rig_used(&rig, STATS, 0), 0);
	send_stats(2000);
	await(&state.stats_updates, 2);
	ck_assert_uint_eq(state.stats[VIRTIO_BALLOON_S_MEMFREE], 2000);
	ck_assert_uint_eq(state.malformed, 0);
}
END_TEST

START_TEST(empty_statistics_are_malformed_and_harmless)
{
	rig_up(&rig, F_ALL, 5);
	rig_send(&rig, STATS, 0,
		(struct driver_piece[]){{NUMBERS, 9, false}, {0}});
	await(&state.malformed, 1);
	rig_send(&rig, STATS, 1,
		(struct driver_piece[]){{NUMBERS, 20, true}, {0}});
	ck_assert(rig_idle(&rig, STATS));
	ck_assert_uint_eq(state.stats_updates, 0);
	ck_assert_uint_eq(rig_status(&rig), RIG_OK);
}
END_TEST

START_TEST(a_reset_forgets_what_was_told)
{
	rig_up(&rig, F_ALL, 5);
	send_stats(1000);
	await(&state.stats_updates, 1);
	rig_reset(&rig);
	ck_assert_uint_eq(state.stats[VIRTIO_BALLOON_S_MEMFREE], UINT64_MAX);
	ck_assert_int_eq(balloon_set_stats_interval(rig.dev, 1), 0);
	rig_up(&rig, F_ALL, 5);
	ck_assert(rig_idle(&rig, STATS));
}
END_TEST

START_TEST(statistics_are_not_switched_on_or_off)
{
	ck_assert_int_eq(balloon_set_stats_interval(rig.dev, 0), -EINVAL);
	teardown();
	plug((struct balloon_config){.target_pages = 1});
	ck_assert_int_eq(balloon_set_stats_interval(rig.dev, 1), -ENOTSUP);
	ck_assert_int_eq(balloon_hinting_start(rig.dev, true), -ENOTSUP);
	ck_assert_int_eq(balloon_hinting_stop(rig.dev), -ENOTSUP);
}
END_TEST

/* ---- reporting ---- */

START_TEST(reported_ranges_go)
{
	rig_up(&rig, F_ALL, 5);
	rig_send(&rig, REPORT, 0,
		(struct driver_piece[]){{PAGE_GPA(1), 2 * PAGE, true},
			{PAGE_GPA(10) + 1, 3 * PAGE, true}, {0}});
	ck_assert_uint_eq(rig_used(&rig, REPORT, 0), 0);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(
			gone(i), i == 1 || i == 2 || i == 11 || i == 12);
	ck_assert_uint_eq(state.reported_bytes, 4ull * PAGE);
	ck_assert_uint_eq(state.malformed, 0);
}
END_TEST

START_TEST(a_report_of_nothing_is_malformed)
{
	rig_up(&rig, F_ALL, 5);
	rig_send(&rig, REPORT, 0,
		(struct driver_piece[]){{PAGE_GPA(0), PAGE, false}, {0}});
	ck_assert_uint_eq(rig_used(&rig, REPORT, 0), 0);
	ck_assert(!gone(0));
	ck_assert_uint_eq(state.malformed, 1);
}
END_TEST

/* A driver that checks its free pages for a pattern keeps them. */
static const struct {
	uint64_t features;
	uint32_t poison;
	bool goes;
} patterns[] = {
	{F_ALL | F_POISON, 0xaaaaaaaa, false},
	{F_ALL | F_POISON, 0, true},
	{F_ALL, 0xaaaaaaaa, true},
};

START_TEST(a_pattern_in_free_pages_is_kept)
{
	driver_negotiate(rig.m, patterns[_i].features);
	rig_write_config(&rig, POISON, patterns[_i].poison);
	for (unsigned q = 0; q < 5; q++)
		driver_queue(rig.m, &rig.q[q], q);
	driver_write(rig.m, VIRTIO_MMIO_STATUS, RIG_OK);
	rig_send(&rig, REPORT, 0,
		(struct driver_piece[]){{PAGE_GPA(0), PAGE, true}, {0}});
	rig_used(&rig, REPORT, 0);
	ck_assert_int_eq(gone(0), patterns[_i].goes);
	/* What is in the balloon has none. */
	number(0, PFN(1));
	send_pages(INFLATE, 1, 0);
	ck_assert(gone(1));
	/* Nor has the next driver, unless it says so. */
	rig_up(&rig, F_ALL | F_POISON, 5);
	ck_assert_uint_eq(rig_config(&rig, POISON), 0);
	rig_send(&rig, REPORT, 0,
		(struct driver_piece[]){{PAGE_GPA(2), PAGE, true}, {0}});
	rig_used(&rig, REPORT, 0);
	ck_assert(gone(2));
}
END_TEST

/* 64 MiB a call; the one in which they end is cut in two. */
START_TEST(a_report_of_much_is_done_part_by_part)
{
	struct driver_piece pieces[VIRTQ_MAX] = {{0}};
	const uint32_t range = 0x7f000;
	unsigned n = 255;

	rig_up(&rig, F_ALL | BIT(VIRTIO_RING_F_INDIRECT_DESC), 5);
	for (unsigned i = 0; i < n; i++)
		pieces[i] = (struct driver_piece){PAGE_GPA(0), range, true};
	driver_chain_indirect(&rig.q[REPORT], 0, pieces);
	driver_offer(&rig.q[REPORT], 0);
	rig_kick(&rig, REPORT);
	ck_assert_uint_eq(rig_used(&rig, REPORT, 0), 0);
	ck_assert_uint_eq(state.reported_bytes, (uint64_t)n * range);
	ck_assert_uint_eq(madvised, n + 1);
	ck_assert(gone(0) && gone(63));
}
END_TEST

/* ---- hinting ---- */

static void say(uint32_t cmd)
{
	rig_put32(&rig, NUMBERS, cmd);
	rig_send(&rig, HINT, 0,
		(struct driver_piece[]){{NUMBERS, 4, false}, {0}});
	ck_assert_uint_eq(rig_used(&rig, HINT, 0), 0);
	ck_assert_uint_eq(now(&state.hint_guest_cmd), cmd);
}

static bool hint_goes(unsigned page)
{
	memset(rig_ptr(&rig, PAGE_GPA(page)), 0x5a, PAGE);
	rig_send(&rig, HINT, 0,
		(struct driver_piece[]){{PAGE_GPA(page), PAGE, true}, {0}});
	ck_assert_uint_eq(rig_used(&rig, HINT, 0), 0);
	return gone(page);
}

START_TEST(a_run_of_hints_goes_from_start_to_done)
{
	rig_up(&rig, F_ALL, 5);
	rig_interrupts(&rig);
	ck_assert_int_eq(balloon_hinting_start(rig.dev, true), 0);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), 2);
	ck_assert_uint_eq(state.hint_host_cmd, 2);
	ck_assert(!hint_goes(1));
	say(2);
	ck_assert(hint_goes(1));
	ck_assert_uint_eq(state.hinted_bytes, PAGE);
	say(STOP);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), DONE);
	ck_assert_uint_eq(now(&state.hint_host_cmd), DONE);
	ck_assert(!hint_goes(2));
	ck_assert_uint_eq(state.malformed, 0);
}
END_TEST

START_TEST(a_run_of_hints_may_wait_to_be_stopped)
{
	rig_up(&rig, F_ALL, 5);
	ck_assert_int_eq(balloon_hinting_start(rig.dev, false), 0);
	say(2);
	say(STOP);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), 2);
	rig_interrupts(&rig);
	ck_assert_int_eq(balloon_hinting_stop(rig.dev), 0);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), DONE);
	ck_assert_uint_eq(state.hint_host_cmd, DONE);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
}
END_TEST

START_TEST(a_command_and_its_pages_may_be_one_chain)
{
	rig_up(&rig, F_ALL, 5);
	balloon_hinting_start(rig.dev, true);
	rig_put32(&rig, NUMBERS, 2);
	rig_send(&rig, HINT, 0,
		(struct driver_piece[]){
			{NUMBERS, 4, false}, {PAGE_GPA(0), PAGE, true}, {0}});
	rig_used(&rig, HINT, 0);
	ck_assert(gone(0));
}
END_TEST

START_TEST(half_a_command_is_malformed)
{
	rig_up(&rig, F_ALL, 5);
	balloon_hinting_start(rig.dev, true);
	rig_put32(&rig, NUMBERS, 2);
	rig_send(&rig, HINT, 0,
		(struct driver_piece[]){{NUMBERS, 3, false}, {0}});
	rig_used(&rig, HINT, 0);
	ck_assert_uint_eq(state.malformed, 1);
	ck_assert_uint_eq(state.hint_guest_cmd, STOP);
	ck_assert(!hint_goes(0));
}
END_TEST

START_TEST(the_command_of_a_chain_done_part_by_part_is_taken_once)
{
	struct driver_piece pieces[VIRTQ_MAX] = {{NUMBERS, 3, false}};

	rig_up(&rig, F_ALL | BIT(VIRTIO_RING_F_INDIRECT_DESC), 5);
	balloon_hinting_start(rig.dev, true);
	say(2);
	for (unsigned i = 1; i < 255; i++)
		pieces[i] = (struct driver_piece){PAGE_GPA(0), 0x80000, true};
	driver_chain_indirect(&rig.q[HINT], 0, pieces);
	driver_offer(&rig.q[HINT], 0);
	rig_kick(&rig, HINT);
	rig_used(&rig, HINT, 0);
	ck_assert_uint_eq(state.hinted_bytes, 254ull * 0x80000);
	ck_assert_uint_eq(state.malformed, 1);
}
END_TEST

START_TEST(a_reset_ends_a_run)
{
	rig_up(&rig, F_ALL, 5);
	balloon_hinting_start(rig.dev, true);
	say(2);
	rig_reset(&rig);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), STOP);
	ck_assert_uint_eq(state.hint_host_cmd, STOP);
	ck_assert_uint_eq(state.hint_guest_cmd, STOP);
	ck_assert_int_eq(balloon_hinting_start(rig.dev, true), -EAGAIN);
	ck_assert_int_eq(balloon_hinting_stop(rig.dev), -EAGAIN);
	rig_up(&rig, F_ALL, 5);
	ck_assert(!hint_goes(0));
	say(2);
	ck_assert(!hint_goes(0));
	/* A number that was used is not used again. */
	ck_assert_int_eq(balloon_hinting_start(rig.dev, true), 0);
	ck_assert_uint_eq(rig_config(&rig, HINT_CMD), 3);
}
END_TEST

/* ---- breaking ---- */

START_TEST(any_malformed_ring_needs_a_reset)
{
	rig_up(&rig, F_ALL, 5);
	driver_offer(&rig.q[_i], RIG_SIZE);
	rig_kick(&rig, (unsigned)_i);
	ck_assert(rig_idle(&rig, (unsigned)_i));
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_up(&rig, F_ALL, 5);
	number(0, PFN(0));
	send_pages(INFLATE, 1, 0);
	ck_assert(gone(0));
}
END_TEST

START_TEST(a_reset_balloon_takes_nothing)
{
	rig_up(&rig, F_ALL, 5);
	rig_reset(&rig);
	number(0, PFN(0));
	for (unsigned q = 0; q < 5; q++) {
		rig_send(&rig, q, 0,
			(struct driver_piece[]){{NUMBERS, 4, false},
				{PAGE_GPA(0), PAGE, true}, {0}});
		ck_assert(rig_idle(&rig, q));
	}
	ck_assert(!gone(0));
	ck_assert_uint_eq(state.inflated_pages + state.malformed, 0);
}
END_TEST

/* A balloon that takes the rings' own pages harms its guest alone. */
START_TEST(a_ring_may_be_inflated)
{
	rig_up(&rig, F_ALL, 5);
	number(0, (uint32_t)((DRIVER_AVAIL_GPA) / PAGE));
	number(1, (uint32_t)((DRIVER_USED_GPA) / PAGE));
	number(2, (uint32_t)((DRIVER_DESC_GPA) / PAGE));
	rig_send(&rig, INFLATE, 0,
		(struct driver_piece[]){{NUMBERS, 12, false}, {0}});
	await(&state.inflated_pages, 3);
	rig_kick(&rig, INFLATE);
	rig_idle(&rig, INFLATE);
	rig_up(&rig, F_ALL, 5);
	number(0, PFN(0));
	send_pages(INFLATE, 1, 0);
	ck_assert(gone(0));
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

static TCase *group(Suite *s, const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, teardown);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("balloon");
	TCase *made = tcase_create("made");
	TCase *queues = group(s, "queues"), *pages = group(s, "pages");
	TCase *config = group(s, "config"), *stats = group(s, "stats");
	TCase *report = group(s, "report"), *hint = group(s, "hint");
	TCase *broken = group(s, "broken");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, made);
	tcase_add_loop_test(
		made, it_offers_what_its_configuration_says, 0, N(kinds));
	tcase_add_loop_test(queues, it_does_not_start_without_its_first_queues,
		0, N(too_few));
	tcase_add_test(queues, what_is_not_set_up_is_not_served);
	tcase_add_loop_test(
		queues, queues_are_counted_in_either_way, 0, N(counts));
	tcase_add_test(pages, inflated_pages_go_and_come_back_empty);
	tcase_add_test(pages, pages_that_are_no_memory_are_malformed);
	tcase_add_loop_test(pages, lengths_that_are_no_numbers_are_malformed, 0,
		N(odd_lengths));
	tcase_add_test(pages, a_chain_in_the_wrong_direction_is_malformed);
	tcase_add_test(pages, numbers_may_be_cut_anywhere);
	tcase_add_test(pages,
		a_chain_of_a_quarter_million_numbers_is_done_part_by_part);
	tcase_add_test(config, a_new_target_is_told);
	tcase_add_test(config, what_the_driver_holds_is_taken_quietly);
	tcase_add_test(config, a_driver_writes_its_own_fields_only);
	tcase_add_test(stats, statistics_are_taken_and_asked_for_again);
	tcase_add_test(stats, empty_statistics_are_malformed_and_harmless);
	tcase_add_test(stats, a_reset_forgets_what_was_told);
	tcase_add_test(stats, statistics_are_not_switched_on_or_off);
	tcase_add_test(report, reported_ranges_go);
	tcase_add_test(report, a_report_of_nothing_is_malformed);
	tcase_add_loop_test(
		report, a_pattern_in_free_pages_is_kept, 0, N(patterns));
	tcase_add_test(report, a_report_of_much_is_done_part_by_part);
	tcase_add_test(hint, a_run_of_hints_goes_from_start_to_done);
	tcase_add_test(hint, a_run_of_hints_may_wait_to_be_stopped);
	tcase_add_test(hint, a_command_and_its_pages_may_be_one_chain);
	tcase_add_test(hint, half_a_command_is_malformed);
	tcase_add_test(
		hint, the_command_of_a_chain_done_part_by_part_is_taken_once);
	tcase_add_test(hint, a_reset_ends_a_run);
	tcase_add_loop_test(broken, any_malformed_ring_needs_a_reset, 0, 5);
	tcase_add_test(broken, a_reset_balloon_takes_nothing);
	tcase_add_test(broken, a_ring_may_be_inflated);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
