#include "vmm/bus.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Remembers the last access and answers reads with 0x11, 0x22, ... */
struct probe {
	unsigned reads, writes;
	uint64_t off;
	unsigned len;
	uint8_t data[8];
};

static struct bus bus;
static struct probe low, high;

static void probe_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct probe *p = dev;
	uint8_t *d = data;

	p->reads++;
	p->off = off;
	p->len = len;
	for (unsigned i = 0; i < len; i++)
		d[i] = (uint8_t)(0x11 * (i + 1));
}

static void probe_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct probe *p = dev;

	p->writes++;
	p->off = off;
	p->len = len;
	memcpy(p->data, data, len);
}

static int add(uint64_t base, uint64_t len, struct probe *p)
{
	struct bus_range r = {.base = base,
		.len = len,
		.dev = p,
		.read = probe_read,
		.write = probe_write};

	return bus_add(&bus, &r);
}

static void setup(void)
{
	memset(&bus, 0, sizeof(bus));
	memset(&low, 0, sizeof(low));
	memset(&high, 0, sizeof(high));
}

START_TEST(an_access_reaches_its_device_with_the_offset)
{
	uint32_t v = 0, w = 0xaabbccdd;

	ck_assert_int_eq(add(0x2000, 0x1000, &high), 0);
	ck_assert_int_eq(add(0x1000, 0x1000, &low), 0);
	bus_read(&bus, 0x1ffc, &v, 4);
	ck_assert_uint_eq(v, 0x44332211);
	ck_assert_uint_eq(low.off, 0xffc);
	ck_assert_uint_eq(low.len, 4);
	bus_write(&bus, 0x2000, &w, 2);
	ck_assert_uint_eq(high.off, 0);
	ck_assert_uint_eq(high.len, 2);
	ck_assert_mem_eq(high.data, "\xdd\xcc", 2);
	ck_assert_uint_eq(low.reads + low.writes, 1);
	ck_assert_uint_eq(high.reads + high.writes, 1);
}
END_TEST

static const struct {
	uint64_t addr;
	unsigned len;
} outside[] = {
	{0xfff, 1},      /* just below */
	{0x1010, 1},     /* just above */
	{0x100f, 2},     /* runs over the end, into nothing */
	{0x1009, 8},     /* by one byte */
	{0x2fff, 4},     /* runs over the end, into the next range */
	{0x3001, 4},     /* a range shorter than the access */
	{UINT64_MAX, 1}, /* above everything */
	{UINT64_MAX, 8}, /* and around */
	{0, 8},
};

START_TEST(an_access_outside_or_over_an_end_reads_ones_and_writes_nowhere)
{
	uint8_t ones[8], v[8] = {0};

	memset(ones, 0xff, sizeof(ones));
	ck_assert_int_eq(add(0x1000, 0x10, &low), 0);
	ck_assert_int_eq(add(0x2000, 0x1000, &low), 0);
	ck_assert_int_eq(add(0x3000, 2, &high), 0);
	bus_write(&bus, outside[_i].addr, v, outside[_i].len);
	bus_read(&bus, outside[_i].addr, v, outside[_i].len);
	ck_assert_mem_eq(v, ones, outside[_i].len);
	ck_assert_uint_eq(low.reads + low.writes + high.reads + high.writes, 0);
}
END_TEST

START_TEST(the_last_byte_of_the_address_space_can_be_a_device)
{
	uint8_t v;

	ck_assert_int_eq(add(UINT64_MAX - 1, 2, &low), 0);
	bus_read(&bus, UINT64_MAX, &v, 1);
	ck_assert_uint_eq(low.reads, 1);
	ck_assert_uint_eq(low.off, 1);
}
END_TEST

static const struct {
	uint64_t base, len;
	int want;
} second[] = {
	{0x1000, 0x100, -EEXIST}, /* the same */
	{0x0f01, 0x100, -EEXIST}, /* its last byte is our first */
	{0x10ff, 0x100, -EEXIST}, /* its first byte is our last */
	{0x0f00, 0x300, -EEXIST}, /* around us */
	{0x1010, 0x10, -EEXIST},  /* inside */
	{0, UINT64_MAX, -EEXIST}, {0x0f00, 0x100, 0}, /* neighbours */
	{0x1100, 0x100, 0}, {0x3000, 0, -EINVAL}, {0, 0, -EINVAL},
	{UINT64_MAX, 2, -EINVAL}, /* wraps */
};

START_TEST(a_range_that_overlaps_is_refused_and_a_neighbour_is_not)
{
	ck_assert_int_eq(add(0x1000, 0x100, &low), 0);
	ck_assert_int_eq(
		add(second[_i].base, second[_i].len, &high), second[_i].want);
	ck_assert_uint_eq(bus.n, second[_i].want == 0 ? 2 : 1);
}
END_TEST

START_TEST(a_full_table_refuses_one_more)
{
	for (unsigned i = 0; i < BUS_MAX_RANGES; i++)
		ck_assert_int_eq(add(i * 0x10ull, 0x10, &low), 0);
	ck_assert_int_eq(add(0x10000, 0x10, &high), -ENOSPC);
	ck_assert_uint_eq(bus.n, BUS_MAX_RANGES);
}
END_TEST

START_TEST(ranges_added_in_any_order_are_found)
{
	static const uint64_t order[] = {5, 1, 7, 0, 3, 6, 2, 4};
	uint8_t v;

	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(add(order[i] * 0x10, 8, &low), 0);
	for (unsigned i = 0; i < 8; i++) {
		bus_read(&bus, i * 0x10ull + 7, &v, 1);
		ck_assert_uint_eq(low.reads, i + 1);
		ck_assert_uint_eq(low.off, 7);
		bus_read(&bus, i * 0x10ull + 8, &v, 1);
		ck_assert_uint_eq(low.reads, i + 1);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bus");
	TCase *t = tcase_create("access"), *a = tcase_create("add");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, an_access_reaches_its_device_with_the_offset);
	tcase_add_loop_test(t,
		an_access_outside_or_over_an_end_reads_ones_and_writes_nowhere,
		0, sizeof(outside) / sizeof(outside[0]));
	tcase_add_test(t, the_last_byte_of_the_address_space_can_be_a_device);
	tcase_add_checked_fixture(a, setup, NULL);
	tcase_add_loop_test(a,
		a_range_that_overlaps_is_refused_and_a_neighbour_is_not, 0,
		sizeof(second) / sizeof(second[0]));
	tcase_add_test(a, a_full_table_refuses_one_more);
	tcase_add_test(a, ranges_added_in_any_order_are_found);
	suite_add_tcase(s, t);
	suite_add_tcase(s, a);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
