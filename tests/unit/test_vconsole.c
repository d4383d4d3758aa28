#include "base/clock.h"
#include "tests/unit/rig.h"
#include "virtio/vconsole.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#define V1 (1ull << VIRTIO_F_VERSION_1)
#define F_INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define F_SIZE (1ull << VIRTIO_CONSOLE_F_SIZE)
#define F_ALL (V1 | F_INDIRECT | 1ull << VIRTIO_RING_F_EVENT_IDX | F_SIZE)
#define BUF(i) (DRIVER_DATA_GPA + 0x1000ull * (i))
#define RX 0
#define TX 1
#define MS 1000000ull

static struct rig rig;
static struct rate_limiter_config limiter;

/* What came out, and in how many pieces. */
static uint8_t output[1 << 20];
static size_t n_output;
static unsigned n_writes;

static void write_output(void *arg, const void *data, size_t len)
{
	ck_assert_ptr_eq(arg, &rig);
	ck_assert(len > 0 && len <= 4096);
	ck_assert_uint_le(len, sizeof(output) - n_output);
	memcpy(output + n_output, data, len);
	n_writes++;
	__atomic_store_n(&n_output, n_output + len, __ATOMIC_RELEASE);
}

static void setup(void)
{
	struct vconsole_config config = {
		.write = write_output, .arg = &rig, .limiter = limiter};
	struct virtio_dev *dev;
	struct error err;

	n_output = 0;
	n_writes = 0;
	rig_init(&rig);
	ck_assert_int_eq(vconsole_create(&dev, rig.w, &config, &err), 0);
	rig_plug(&rig, dev);
}

static void teardown(void)
{
	rig_fini(&rig);
	memset(&limiter, 0, sizeof(limiter));
}

static size_t printed(void)
{
	return __atomic_load_n(&n_output, __ATOMIC_ACQUIRE);
}

static void print(const char *text)
{
	memcpy(rig_ptr(&rig, BUF(0)), text, strlen(text));
	rig_send(&rig, TX, 0,
		(struct driver_piece[]){
			{BUF(0), (uint32_t)strlen(text), false}, {0}});
	ck_assert_uint_eq(rig_used(&rig, TX, 0), 0);
}

static int type(const char *text)
{
	return vconsole_input(rig.dev, (const uint8_t *)text, strlen(text));
}

/* ---- what it is ---- */

START_TEST(it_is_a_console_with_a_size_and_one_port)
{
	ck_assert_uint_eq(driver_read(rig.m, VIRTIO_MMIO_DEVICE_ID), 3);
	ck_assert_uint_eq(rig.dev->features, F_ALL);
	ck_assert_uint_eq(rig_config(&rig, 0), 24u << 16 | 80);
}
END_TEST

START_TEST(it_does_not_start_without_both_queues)
{
	rig_up_mask(&rig, V1, (unsigned)_i);
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_up(&rig, V1, 2);
}
END_TEST

START_TEST(a_new_size_is_told)
{
	rig_up(&rig, F_ALL, 2);
	rig_interrupts(&rig);
	ck_assert_int_eq(vconsole_resize(rig.dev, 132, 43), 0);
	ck_assert_uint_eq(rig_config(&rig, 0), 43u << 16 | 132);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
	ck_assert_uint_eq(driver_read(rig.m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
}
END_TEST

START_TEST(a_driver_cannot_change_the_size)
{
	rig_up(&rig, F_ALL, 2);
	rig_write_config(&rig, 0, 1);
	ck_assert_uint_eq(rig_config(&rig, 0), 24u << 16 | 80);
}
END_TEST

/* ---- output ---- */

START_TEST(output_comes_out_in_one_piece)
{
	rig_up(&rig, F_ALL, 2);
	print("hello");
	print(" world");
	ck_assert_uint_eq(printed(), 11);
	ck_assert_mem_eq(output, "hello world", 11);
	ck_assert_uint_eq(n_writes, 2);
}
END_TEST

START_TEST(output_may_be_cut_anywhere)
{
	rig_up(&rig, V1, 2);
	memcpy(rig_ptr(&rig, BUF(0)), "abcdefgh", 8);
	rig_send(&rig, TX, 3,
		(struct driver_piece[]){{BUF(0), 1, false},
			{BUF(0) + 1, 5, false}, {BUF(0) + 6, 2, false}, {0}});
	ck_assert_uint_eq(rig_used(&rig, TX, 3), 0);
	ck_assert_mem_eq(output, "abcdefgh", 8);
	ck_assert_uint_eq(n_writes, 1);
}
END_TEST

START_TEST(a_long_output_comes_out_in_pieces_and_whole)
{
	struct driver_piece pieces[21] = {{0}};
	uint8_t *data = rig_ptr(&rig, BUF(0));

	for (unsigned i = 0; i < 50000; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	rig_up(&rig, F_ALL, 2);
	for (unsigned i = 0; i < 20; i++)
		pieces[i] = (struct driver_piece){BUF(0), 50000 - i, false};
	driver_chain_indirect(&rig.q[TX], 0, pieces);
	driver_offer(&rig.q[TX], 0);
	rig_kick(&rig, TX);
	rig_used(&rig, TX, 0);
	ck_assert_uint_eq(printed(), 20 * 50000 - 190);
	for (unsigned i = 0, at = 0; i < 20; at += 50000 - i, i++)
		ck_assert_mem_eq(output + at, data, 50000 - i);
	/* The next one begins at its beginning. */
	print("x");
	ck_assert_uint_eq(output[printed() - 1], 'x');
	ck_assert_uint_eq(printed(), 20 * 50000 - 190 + 1);
}
END_TEST

START_TEST(output_that_is_none_is_answered)
{
	rig_up(&rig, V1, 2);
	rig_send(
		&rig, TX, 0, (struct driver_piece[]){{BUF(0), 100, true}, {0}});
	ck_assert_uint_eq(rig_used(&rig, TX, 0), 0);
	ck_assert_uint_eq(printed(), 0);
}
END_TEST

static void setup_limited(void)
{
	limiter.bytes =
		(struct bucket_config){.size = 10, .refill_ns = 3600000 * MS};
	setup();
}

static void limit(uint64_t size, uint64_t refill_ns)
{
	const struct rate_limiter_update u = {.has_bytes = true,
		.config = {.bytes = {.size = size, .refill_ns = refill_ns}}};

	ck_assert_int_eq(vconsole_limit(rig.dev, &u), 0);
}

START_TEST(output_over_the_limit_waits_and_is_not_lost)
{
	rig_up(&rig, V1, 2);
	print("0123456789");
	rig_send(
		&rig, TX, 0, (struct driver_piece[]){{BUF(0), 10, false}, {0}});
	ck_assert(rig_idle(&rig, TX));
	ck_assert_uint_eq(printed(), 10);
	limit(10, 50 * MS);
	ck_assert_uint_eq(rig_used(&rig, TX, 0), 0);
	print("0123456789");
	ck_assert_uint_eq(printed(), 30);
	ck_assert_mem_eq(output + 20, "0123456789", 10);
}
END_TEST

START_TEST(a_limit_that_goes_lets_output_go)
{
	rig_up(&rig, V1, 2);
	print("0123456789");
	rig_send(
		&rig, TX, 0, (struct driver_piece[]){{BUF(0), 10, false}, {0}});
	ck_assert(rig_idle(&rig, TX));
	limit(0, 0);
	rig_used(&rig, TX, 0);
	ck_assert_uint_eq(printed(), 20);
}
END_TEST

START_TEST(a_reset_forgets_what_waited)
{
	rig_up(&rig, V1, 2);
	print("0123456789");
	rig_send(
		&rig, TX, 0, (struct driver_piece[]){{BUF(0), 10, false}, {0}});
	ck_assert(rig_idle(&rig, TX));
	rig_reset(&rig);
	limit(0, 0);
	ck_assert_uint_eq(printed(), 10);
	rig_up(&rig, V1, 2);
	print("again");
	ck_assert_uint_eq(printed(), 15);
	ck_assert_mem_eq(output + 10, "again", 5);
}
END_TEST

/* ---- input ---- */

static void listen(uint16_t head, uint32_t len)
{
	memset(rig_ptr(&rig, BUF(head)), '.', 4096);
	rig_send(&rig, RX, head,
		(struct driver_piece[]){{BUF(head), len, true}, {0}});
}

START_TEST(input_waits_for_a_driver_that_listens)
{
	ck_assert_int_eq(type("ear"), 0);
	rig_up(&rig, F_ALL, 2);
	ck_assert_int_eq(type("ly"), 0);
	listen(0, 64);
	ck_assert_uint_eq(rig_used(&rig, RX, 0), 5);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(0)), "early.", 6);
}
END_TEST

START_TEST(a_driver_that_listens_gets_input_at_once)
{
	rig_up(&rig, F_ALL, 2);
	listen(0, 64);
	listen(1, 64);
	ck_assert(rig_idle(&rig, RX));
	rig_interrupts(&rig);
	ck_assert_int_eq(type("a"), 0);
	/* It is there when vconsole_input() returns. */
	ck_assert_uint_eq(rig.q[RX].used->idx, 1);
	ck_assert_uint_eq(rig_used(&rig, RX, 0), 1);
	ck_assert_uint_eq(rig_interrupts(&rig), 1);
	ck_assert_int_eq(type("bc"), 0);
	ck_assert_uint_eq(rig_used(&rig, RX, 1), 2);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(1)), "bc.", 3);
}
END_TEST

START_TEST(input_is_cut_to_the_buffers_there_are)
{
	rig_up(&rig, V1, 2);
	listen(0, 3);
	rig_send(&rig, RX, 1,
		(struct driver_piece[]){
			{BUF(1), 1, true}, {BUF(2), 1, true}, {0}});
	ck_assert_int_eq(type("abcdefg"), 0);
	ck_assert_uint_eq(rig_used(&rig, RX, 0), 3);
	ck_assert_uint_eq(rig_used(&rig, RX, 1), 2);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(0)), "abc.", 4);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(1)), "d", 1);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(2)), "e", 1);
	listen(3, 64);
	ck_assert_uint_eq(rig_used(&rig, RX, 3), 2);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(3)), "fg.", 3);
}
END_TEST

START_TEST(a_full_queue_takes_all_or_nothing)
{
	static uint8_t big[VCONSOLE_INPUT_MAX];

	ck_assert_int_eq(vconsole_input(rig.dev, big, sizeof(big) - 1), 0);
	ck_assert_int_eq(vconsole_input(rig.dev, big, 2), -ENOBUFS);
	ck_assert_int_eq(vconsole_input(rig.dev, big, 1), 0);
	ck_assert_int_eq(vconsole_input(rig.dev, big, 1), -ENOBUFS);
	ck_assert_int_eq(vconsole_input(rig.dev, big, SIZE_MAX), -ENOBUFS);
	ck_assert_int_eq(vconsole_input(rig.dev, big, 0), 0);
	rig_up(&rig, V1, 2);
	listen(0, 4096);
	ck_assert_uint_eq(rig_used(&rig, RX, 0), 4096);
	ck_assert_int_eq(type("x"), 0);
}
END_TEST

START_TEST(the_queue_goes_around)
{
	static uint8_t chunk[1000];
	uint8_t next = 0, want = 0;

	rig_up(&rig, V1, 2);
	for (unsigned round = 0; round < 13; round++) {
		const uint8_t *got = rig_ptr(&rig, BUF(0));

		for (unsigned i = 0; i < sizeof(chunk); i++)
			chunk[i] = next++;
		ck_assert_int_eq(
			vconsole_input(rig.dev, chunk, sizeof(chunk)), 0);
		listen(0, 4096);
		ck_assert_uint_eq(rig_used(&rig, RX, 0), sizeof(chunk));
		for (unsigned i = 0; i < sizeof(chunk); i++)
			ck_assert_uint_eq(got[i], want++);
	}
}
END_TEST

START_TEST(a_buffer_that_cannot_be_written_takes_nothing)
{
	rig_up(&rig, V1, 2);
	rig_send(
		&rig, RX, 0, (struct driver_piece[]){{BUF(0), 64, false}, {0}});
	ck_assert_int_eq(type("abc"), 0);
	ck_assert_uint_eq(rig_used(&rig, RX, 0), 0);
	listen(1, 64);
	ck_assert_uint_eq(rig_used(&rig, RX, 1), 3);
	ck_assert_mem_eq(rig_ptr(&rig, BUF(1)), "abc.", 4);
}
END_TEST

START_TEST(a_reset_driver_is_not_written_to)
{
	rig_up(&rig, V1, 2);
	listen(0, 64);
	ck_assert(rig_idle(&rig, RX));
	rig_reset(&rig);
	ck_assert_int_eq(type("abc"), 0);
	ck_assert(rig_idle(&rig, RX));
	ck_assert_mem_eq(rig_ptr(&rig, BUF(0)), "...", 3);
	rig_up(&rig, V1, 2);
	listen(1, 64);
	ck_assert_uint_eq(rig_used(&rig, RX, 1), 3);
}
END_TEST

START_TEST(a_malformed_ring_needs_a_reset)
{
	rig_up(&rig, V1, 2);
	driver_offer(&rig.q[_i], RIG_SIZE);
	type("abc");
	rig_kick(&rig, (unsigned)_i);
	ck_assert(rig_idle(&rig, (unsigned)_i));
	ck_assert_uint_eq(
		rig_status(&rig), RIG_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

static TCase *group(Suite *s, const char *name, void (*set_up)(void))
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, set_up, teardown);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("vconsole");
	TCase *config = group(s, "config", setup);
	TCase *out = group(s, "output", setup);
	TCase *limited = group(s, "limited", setup_limited);
	TCase *in = group(s, "input", setup);
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(config, it_is_a_console_with_a_size_and_one_port);
	tcase_add_loop_test(
		config, it_does_not_start_without_both_queues, 0, 3);
	tcase_add_test(config, a_new_size_is_told);
	tcase_add_test(config, a_driver_cannot_change_the_size);
	tcase_add_test(out, output_comes_out_in_one_piece);
	tcase_add_test(out, output_may_be_cut_anywhere);
	tcase_add_test(out, a_long_output_comes_out_in_pieces_and_whole);
	tcase_add_test(out, output_that_is_none_is_answered);
	tcase_add_test(limited, output_over_the_limit_waits_and_is_not_lost);
	tcase_add_test(limited, a_limit_that_goes_lets_output_go);
	tcase_add_test(limited, a_reset_forgets_what_waited);
	tcase_add_test(in, input_waits_for_a_driver_that_listens);
	tcase_add_test(in, a_driver_that_listens_gets_input_at_once);
	tcase_add_test(in, input_is_cut_to_the_buffers_there_are);
	tcase_add_test(in, a_full_queue_takes_all_or_nothing);
	tcase_add_test(in, the_queue_goes_around);
	tcase_add_test(in, a_buffer_that_cannot_be_written_takes_nothing);
	tcase_add_test(in, a_reset_driver_is_not_written_to);
	tcase_add_loop_test(in, a_malformed_ring_needs_a_reset, 0, 2);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
