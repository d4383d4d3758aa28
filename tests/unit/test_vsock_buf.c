#include "virtio/vsock_buf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONNECTIONS 1000u
#define PAGE ((size_t)4096)

static struct vsock_arena a;
static struct vsock_buf b;
static struct error err;
static uint8_t data[300 * 1024];

static void setup(void)
{
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 13 + i / 256);
	memset(&b, 0, sizeof(b));
	ck_assert_int_eq(vsock_arena_init(&a, CONNECTIONS, &err), 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(a.n_used, 0);
	vsock_arena_fini(&a);
}

static void append(struct vsock_buf *to, size_t off, uint32_t len)
{
	/* In two pieces. */
	struct iovec v[2] = {{data, 1000}, {data + 1000, sizeof(data) - 1000}};
	struct iovs view = {v, 2, sizeof(data)};

	vsock_buf_append(&a, to, &view, off, len);
}

/* Drops n bytes, which are those of data from off on. */
static void expect(struct vsock_buf *from, size_t off, uint32_t n)
{
	struct iovec v[8];
	uint32_t bytes;

	while (n > 0) {
		unsigned pieces = vsock_buf_peek(&a, from, v, 8, &bytes);
		uint32_t sum = 0, dropped = 0;

		ck_assert_uint_gt(pieces, 0);
		for (unsigned i = 0; i < pieces; i++) {
			ck_assert_mem_eq(
				v[i].iov_base, data + off + sum, v[i].iov_len);
			sum += (uint32_t)v[i].iov_len;
		}
		ck_assert_uint_eq(sum, bytes);
		dropped = bytes < n ? bytes : n;
		vsock_buf_drop(&a, from, dropped);
		off += dropped;
		n -= dropped;
	}
}

START_TEST(bytes_come_out_as_they_went_in)
{
	append(&b, 0, 10);
	append(&b, 10, PAGE);
	append(&b, PAGE + 10, 2 * PAGE - 10);
	ck_assert_uint_eq(b.len, 3 * PAGE);
	ck_assert_uint_eq(a.n_used, 3);
	expect(&b, 0, PAGE - 1);
	ck_assert_uint_eq(a.n_used, 3);
	expect(&b, PAGE - 1, 1);
	ck_assert_uint_eq(a.n_used, 2);
	append(&b, 3 * PAGE, 1);
	ck_assert_uint_eq(a.n_used, 3);
	expect(&b, PAGE, 2 * PAGE + 1);
	ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(an_empty_buffer_has_nothing)
{
	struct iovec v[1];
	uint32_t bytes = 7;

	ck_assert_uint_eq(vsock_buf_peek(&a, &b, v, 1, &bytes), 0);
	ck_assert_uint_eq(bytes, 0);
	append(&b, 0, 0);
	ck_assert_uint_eq(a.n_used, 0);
	vsock_buf_drop(&a, &b, 0);
}
END_TEST

START_TEST(two_buffers_do_not_mix)
{
	struct vsock_buf c = {0};
	size_t b_off = 0, c_off = 50000;
	unsigned x = 1;

	for (unsigned i = 0; i < 300; i++) {
		uint32_t n = (x = x * 1103515245u + 12345u) >> 20;

		if (b_off + b.len + n < 50000)
			append(&b, b_off + b.len, n);
		if (c_off + c.len + n < sizeof(data))
			append(&c, c_off + c.len, n);
		n = (x = x * 1103515245u + 12345u) >> 20;
		n = n < b.len ? n : b.len / 2;
		expect(&b, b_off, n);
		b_off += n;
		n = n < c.len ? n : c.len / 2;
		expect(&c, c_off, n);
		c_off += n;
	}
	expect(&b, b_off, b.len);
	expect(&c, c_off, c.len);
}
END_TEST

START_TEST(the_first_get_much_and_the_last_enough)
{
	uint32_t credit[CONNECTIONS];
	uint64_t sum = 0;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		credit[i] = vsock_arena_promise(&a);
		ck_assert_uint_ge(credit[i], VSOCK_CREDIT_MIN);
		ck_assert_uint_eq(credit[i] % VSOCK_BLOCK_BYTES, 0);
		if (i > 0)
			ck_assert_uint_le(credit[i], credit[i - 1]);
		sum += credit[i] + VSOCK_BLOCK_BYTES;
	}
	ck_assert(credit[0] == VSOCK_CREDIT_MAX);
	ck_assert_uint_eq(credit[CONNECTIONS - 1], VSOCK_CREDIT_MIN);
	ck_assert_uint_le(sum, (uint64_t)a.n_blocks * VSOCK_BLOCK_BYTES);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		vsock_arena_unpromise(&a, credit[i]);
	ck_assert(vsock_arena_promise(&a) == VSOCK_CREDIT_MAX);
}
END_TEST

/* Of every connection's whole credit, at the worst place in their blocks. */
START_TEST(there_is_room_for_all_that_is_promised)
{
	struct vsock_buf *all = calloc(CONNECTIONS, sizeof(*all));
	uint32_t *credit = calloc(CONNECTIONS, sizeof(*credit));

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		credit[i] = vsock_arena_promise(&a);
		append(&all[i], 0, PAGE);
		expect(&all[i], 0, PAGE - 1);
		append(&all[i], PAGE, credit[i] - 1);
	}
	ck_assert_uint_le(a.n_used, a.n_blocks);
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		ck_assert_uint_eq(all[i].len, credit[i]);
		expect(&all[i], PAGE - 1, credit[i]);
	}
	free(all);
	free(credit);
}
END_TEST

static size_t resident(void)
{
	size_t n = 0;
	unsigned char *in = malloc(a.n_blocks);

	ck_assert_int_eq(mincore(a.mem, (size_t)a.n_blocks * PAGE, in), 0);
	for (uint32_t i = 0; i < a.n_blocks; i++)
		n += in[i] & 1;
	free(in);
	return n;
}

START_TEST(memory_nobody_waits_in_goes_back)
{
	struct vsock_buf c = {0};

	ck_assert_uint_eq(resident(), 0);
	append(&b, 0, 200 * 1024);
	append(&c, 0, 200 * 1024);
	ck_assert_uint_ge(resident(), 100);
	expect(&b, 0, 200 * 1024);
	expect(&c, 0, 200 * 1024);
	ck_assert_uint_eq(resident(), 0);
	/* A little of it is not worth a system call. */
	append(&b, 0, 10);
	expect(&b, 0, 10);
	ck_assert_uint_eq(resident(), 1);
	/* And it is used first the next time. */
	append(&b, 0, 10);
	ck_assert_uint_eq(resident(), 1);
	expect(&b, 0, 10);
}
END_TEST

/* As long as one byte waits somewhere, nothing is given back. */
START_TEST(blocks_are_used_again)
{
	struct vsock_buf c = {0};

	append(&c, 0, 1);
	for (uint32_t i = 0; i < 2 * a.n_blocks; i++) {
		append(&b, 0, 10);
		expect(&b, 0, 10);
	}
	ck_assert_uint_eq(a.n_touched, 2);
	expect(&c, 0, 1);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("vsock_buf");
	TCase *tc = tcase_create("buffers");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bytes_come_out_as_they_went_in);
	tcase_add_test(tc, an_empty_buffer_has_nothing);
	tcase_add_test(tc, two_buffers_do_not_mix);
	tcase_add_test(tc, the_first_get_much_and_the_last_enough);
	tcase_add_test(tc, there_is_room_for_all_that_is_promised);
	tcase_add_test(tc, blocks_are_used_again);
	tcase_add_test(tc, memory_nobody_waits_in_goes_back);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
