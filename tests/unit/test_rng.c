#include "base/clock.h"
#include "tests/unit/rig.h"
#include "virtio/rng.h"

#include <check.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define V1 (1ull << VIRTIO_F_VERSION_1)
#define F_ALL                                                                  \
	(V1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                            \
		1ull << VIRTIO_RING_F_EVENT_IDX)
#define BUF(i) (DRIVER_DATA_GPA + 0x1000ull * (i))
#define MARK 0x5a
#define S 1000000000ull
#define MS 1000000ull

static struct rig rig;
static struct rng_stats stats;

static void plug(const struct rate_limiter_config *limiter)
{
	struct rng_config config = {.stats = &stats};
	struct virtio_dev *dev;
	struct error err;

	if (limiter)
		config.limiter = *limiter;
	memset(&stats, 0, sizeof(stats));
	rig_init(&rig);
	ck_assert_int_eq(rng_create(&dev, rig.w, &config, &err), 0);
	rig_plug(&rig, dev);
	memset(rig_ptr(&rig, BUF(0)), MARK, 0x40000);
}

static void setup(void)
{
	plug(NULL);
}

static void teardown(void)
{
	rig_fini(&rig);
}

static bool marked(uint64_t gpa, size_t len)
{
	const uint8_t *p = rig_ptr(&rig, gpa);

	for (size_t i = 0; i < len; i++)
		if (p[i] != MARK)
			return false;
	return true;
}

static uint32_t ask(const struct driver_piece *pieces)
{
	rig_send(&rig, 0, 0, pieces);
	return rig_used(&rig, 0, 0);
}

START_TEST(it_is_an_entropy_device)
{
	ck_assert_uint_eq(driver_read(rig.m, VIRTIO_MMIO_DEVICE_ID), 4);
	ck_assert_uint_eq(rig.dev->features, F_ALL);
	rig_up_mask(&rig, V1, 0);
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

START_TEST(a_request_is_filled_to_its_last_byte_and_no_further)
{
	uint8_t first[64];

	rig_up(&rig, F_ALL, 1);
	ck_assert_uint_eq(
		ask((struct driver_piece[]){{BUF(0), 64, true}, {0}}), 64);
	ck_assert(!marked(BUF(0), 32) && !marked(BUF(0) + 32, 32));
	ck_assert(marked(BUF(0) + 64, 4096));
	memcpy(first, rig_ptr(&rig, BUF(0)), 64);
	ask((struct driver_piece[]){{BUF(0), 64, true}, {0}});
	ck_assert_mem_ne(first, rig_ptr(&rig, BUF(0)), 64);
	ck_assert_uint_eq(stats.requests, 2);
	ck_assert_uint_eq(stats.bytes, 128);
	ck_assert_uint_eq(stats.errors + stats.malformed + stats.throttled, 0);
}
END_TEST

START_TEST(a_request_may_be_in_pieces)
{
	rig_up(&rig, F_ALL, 1);
	ck_assert_uint_eq(
		ask((struct driver_piece[]){{BUF(0), 40, true},
			{BUF(2), 1, true}, {BUF(4), 4096, true}, {0}}),
		4137);
	ck_assert(!marked(BUF(0), 40) && marked(BUF(0) + 40, 4056));
	ck_assert(marked(BUF(2) + 1, 4095));
	ck_assert(!marked(BUF(4), 4096) && marked(BUF(5), 4096));
}
END_TEST

/* One large piece, and the limit within the second of two. */
static const uint32_t first_pieces[] = {
	0x20000, RNG_REQ_BYTES_MAX - 7, RNG_REQ_BYTES_MAX};

START_TEST(a_request_gets_no_more_than_the_most)
{
	uint32_t n = first_pieces[_i];
	uint64_t end = BUF(0) + RNG_REQ_BYTES_MAX;

	rig_up(&rig, V1, 1);
	ck_assert_uint_eq(ask((struct driver_piece[]){{BUF(0), n, true},
				  {BUF(0) + n, 0x1000, true}, {0}}),
		RNG_REQ_BYTES_MAX);
	ck_assert(!marked(end - 16, 16));
	ck_assert(marked(end, 4096));
	ck_assert_uint_eq(stats.bytes, RNG_REQ_BYTES_MAX);
	ck_assert_uint_eq(stats.errors, 0);
}
END_TEST

static const struct driver_piece bad[][3] = {
	{{BUF(0), 16, false}, {0}},
	{{BUF(0), 16, false}, {BUF(1), 16, true}, {0}},
};

START_TEST(what_is_readable_is_malformed)
{
	rig_up(&rig, V1, 1);
	ck_assert_uint_eq(ask(bad[_i]), 0);
	ck_assert_uint_eq(stats.malformed, 1);
	ck_assert_uint_eq(stats.requests, 0);
	ck_assert(marked(BUF(0), 0x2000));
	ck_assert_uint_eq(rig_status(&rig), RIG_OK);
}
END_TEST

/* As a region of the guest may be that cannot be written. */
START_TEST(memory_that_cannot_be_written_ends_a_request)
{
	rig_up(&rig, V1, 1);
	ck_assert_int_eq(mprotect(rig_ptr(&rig, BUF(1)), 4096, PROT_READ), 0);
	ck_assert_uint_eq(
		ask((struct driver_piece[]){{BUF(0), 100, true},
			{BUF(1), 100, true}, {BUF(2), 100, true}, {0}}),
		100);
	ck_assert_uint_eq(stats.errors, 1);
	ck_assert_uint_eq(stats.bytes, 100);
	ck_assert(marked(BUF(2), 100));
	mprotect(rig_ptr(&rig, BUF(1)), 4096, PROT_READ | PROT_WRITE);
}
END_TEST

START_TEST(many_requests_are_all_answered)
{
	rig_up(&rig, V1, 1);
	for (uint16_t i = 0; i < RIG_SIZE; i++) {
		driver_chain(&rig.q[0], i,
			(struct driver_piece[]){{BUF(i), 32, true}, {0}});
		driver_offer(&rig.q[0], i);
	}
	rig_kick(&rig, 0);
	for (uint16_t i = 0; i < RIG_SIZE; i++) {
		ck_assert_uint_eq(rig_used(&rig, 0, i), 32);
		ck_assert(!marked(BUF(i), 32));
	}
}
END_TEST

START_TEST(a_limit_makes_requests_wait)
{
	const struct rate_limiter_config limiter = {
		.bytes = {.size = 1000, .refill_ns = 100 * MS}};
	uint64_t begin;

	teardown();
	plug(&limiter);
	rig_up(&rig, V1, 1);
	begin = clock_ns();
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(
			ask((struct driver_piece[]){{BUF(0), 1000, true}, {0}}),
			1000);
	ck_assert_uint_ge(clock_ns() - begin, 199 * MS);
	ck_assert_uint_eq(stats.throttled, 2);
	ck_assert_uint_eq(stats.requests, 3);
}
END_TEST

START_TEST(a_reset_while_limited_leaves_memory_alone)
{
	const struct rate_limiter_config limiter = {
		.ops = {.size = 1, .refill_ns = 500 * MS}};

	teardown();
	plug(&limiter);
	rig_up(&rig, V1, 1);
	ask((struct driver_piece[]){{BUF(0), 8, true}, {0}});
	rig_send(&rig, 0, 0, (struct driver_piece[]){{BUF(1), 8, true}, {0}});
	ck_assert(rig_idle(&rig, 0));
	rig_kick(&rig, 0);
	ck_assert(rig_idle(&rig, 0));
	rig_reset(&rig);
	for (unsigned i = 0; i < 30; i++)
		ck_assert(rig_idle(&rig, 0));
	ck_assert(marked(BUF(1), 8));
	ck_assert_uint_eq(stats.throttled, 1);
}
END_TEST

START_TEST(a_malformed_ring_needs_a_reset)
{
	rig_up(&rig, V1, 1);
	rig_send(&rig, 0, 0,
		(struct driver_piece[]){{1ull << 40, 8, true}, {0}});
	ck_assert(rig_idle(&rig, 0));
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_up(&rig, V1, 1);
	ck_assert_uint_eq(
		ask((struct driver_piece[]){{BUF(0), 8, true}, {0}}), 8);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("rng");
	TCase *t = tcase_create("requests");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, it_is_an_entropy_device);
	tcase_add_test(t, a_request_is_filled_to_its_last_byte_and_no_further);
	tcase_add_test(t, a_request_may_be_in_pieces);
	tcase_add_loop_test(
		t, a_request_gets_no_more_than_the_most, 0, N(first_pieces));
	tcase_add_loop_test(t, what_is_readable_is_malformed, 0, N(bad));
	tcase_add_test(t, memory_that_cannot_be_written_ends_a_request);
	tcase_add_test(t, many_requests_are_all_answered);
	tcase_add_test(t, a_limit_makes_requests_wait);
	tcase_add_test(t, a_reset_while_limited_leaves_memory_alone);
	tcase_add_test(t, a_malformed_ring_needs_a_reset);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
