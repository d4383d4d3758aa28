#include "virtio/gmem.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More memory than the regions below tell of: an overrun finds it valid. */
static uint8_t ram[0x4000];

static struct gmem make(void)
{
	struct gmem m = {.n = 0};

	ck_assert_int_eq(gmem_add(&m, 0x10000, ram, 0x1000), 0);
	ck_assert_int_eq(gmem_add(&m, 0x11000, ram + 0x1000, 0x1000), 0);
	ck_assert_int_eq(gmem_add(&m, 0x20000, ram + 0x2000, 0x1000), 0);
	return m;
}

static const struct {
	uint64_t gpa, len;
	int off; /* in ram; -1: no such range */
} ranges[] = {
	{0x10000, 1, 0},
	{0x10000, 0x1000, 0},
	{0x10fff, 1, 0xfff},
	{0x11000, 0x1000, 0x1000},
	{0x20800, 0x800, 0x2800},
	{0x10000, 0, -1},
	{0x10800, 0, -1},
	{0xffff, 1, -1},
	{0xffff, 2, -1},
	{0x10000, 0x1001, -1}, /* two regions, even if neighbours */
	{0x10fff, 2, -1},
	{0x12000, 1, -1},
	{0x1ffff, 1, -1},
	{0x20800, 0x801, -1},
	{0x21000, 1, -1},
	{0x21000, 0, -1},
	{0, 1, -1},
	{0, UINT64_MAX, -1},
	{0x10001, UINT64_MAX, -1},
	{0x10000, UINT64_MAX - 0xffff, -1},
	{0x20010, UINT64_MAX - 0xf, -1},
	{UINT64_MAX, 1, -1},
	{UINT64_MAX, UINT64_MAX, -1},
};

START_TEST(range_is_inside_one_region_or_nothing)
{
	struct gmem m = make();
	void *got = gmem_range(&m, ranges[_i].gpa, ranges[_i].len);

	if (ranges[_i].off < 0)
		ck_assert_ptr_null(got);
	else
		ck_assert_ptr_eq(got, ram + ranges[_i].off);
}
END_TEST

START_TEST(add_keeps_regions_sorted)
{
	struct gmem m = {.n = 0};

	ck_assert_int_eq(gmem_add(&m, 0x3000, ram, 0x1000), 0);
	ck_assert_int_eq(gmem_add(&m, 0x1000, ram + 0x1000, 0x1000), 0);
	ck_assert_int_eq(gmem_add(&m, 0x2000, ram + 0x2000, 0x1000), 0);
	ck_assert_uint_eq(m.n, 3);
	ck_assert_uint_eq(m.regions[0].gpa, 0x1000);
	ck_assert_uint_eq(m.regions[1].gpa, 0x2000);
	ck_assert_uint_eq(m.regions[2].gpa, 0x3000);
	ck_assert_ptr_eq(gmem_range(&m, 0x3004, 4), ram + 4);
}
END_TEST

static const struct {
	uint64_t gpa, len;
	int want;
} additions[] = {
	{0x10000, 0x1000, -EEXIST},
	{0x10fff, 1, -EEXIST},
	{0x10800, 0x10000, -EEXIST},
	{0xf000, 0x1001, -EEXIST},
	{0x1f000, 0x1001, -EEXIST},
	{0x1f000, 0x1000, 0},
	{0xf000, 0x1000, 0},
	{0x12000, 0x1000, 0},
	{0x30000, 0, -EINVAL},
	{UINT64_MAX - 0xfff, 0x1001, -EINVAL},
	{UINT64_MAX - 0xffe, 0x1000, -EINVAL},
};

START_TEST(add_refuses_what_overlaps_or_wraps_around)
{
	struct gmem m = make();

	ck_assert_int_eq(
		gmem_add(&m, additions[_i].gpa, ram, additions[_i].len),
		additions[_i].want);
	ck_assert_uint_eq(m.n, additions[_i].want == 0 ? 4 : 3);
}
END_TEST

START_TEST(add_refuses_one_region_too_many)
{
	/* Behind the structure there is memory of ours to look at. */
	struct {
		struct gmem m;
		struct gmem_region after;
	} box = {.after = {.gpa = 7}};

	for (uint64_t i = 0; i < GMEM_MAX_REGIONS; i++)
		ck_assert_int_eq(gmem_add(&box.m, i << 16, ram, 16), 0);
	ck_assert_int_eq(gmem_add(&box.m, 1 << 24, ram, 16), -ENOSPC);
	ck_assert_uint_eq(box.m.n, GMEM_MAX_REGIONS);
	ck_assert_uint_eq(box.after.gpa, 7);
}
END_TEST

START_TEST(create_goes_around_the_hole)
{
	struct error err;
	struct gmem m;
	uint8_t *p;

	ck_assert_int_eq(
		gmem_create(&m, 3 << 20, 2 << 20, 16 << 20, false, &err), 0);
	ck_assert_uint_eq(m.n, 2);
	p = gmem_range(&m, 0, 2 << 20);
	ck_assert_ptr_nonnull(p);
	p[(2 << 20) - 1] = 1;
	p = gmem_range(&m, 16 << 20, 1 << 20);
	ck_assert_ptr_nonnull(p);
	p[(1 << 20) - 1] = 1;
	ck_assert_ptr_null(gmem_range(&m, 2 << 20, 1));
	ck_assert_ptr_null(gmem_range(&m, 17 << 20, 1));
	gmem_destroy(&m);
	ck_assert_uint_eq(m.n, 0);
}
END_TEST

START_TEST(create_below_the_hole_is_one_region)
{
	struct error err;
	struct gmem m;

	ck_assert_int_eq(
		gmem_create(&m, 2 << 20, 2 << 20, 16 << 20, false, &err), 0);
	ck_assert_uint_eq(m.n, 1);
	ck_assert_uint_eq(m.regions[0].len, 2 << 20);
	gmem_destroy(&m);
}
END_TEST

static unsigned long mapped_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	char line[128] = "";

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	fclose(f);
	return strtoul(line, NULL, 10);
}

/* Where huge pages back it, they are to start where the guest's do. */
START_TEST(create_aligns_each_region_to_a_huge_page_and_maps_no_more)
{
	for (uint64_t mib = 3; mib < 6; mib++) {
		unsigned long before = mapped_pages();
		struct error err = {0};
		struct gmem m;

		ck_assert_int_eq(gmem_create(&m, mib << 20, 2 << 20, 16 << 20,
					 false, &err),
			0);
		ck_assert_uint_eq(mapped_pages() - before, mib * 256);
		for (unsigned i = 0; i < m.n; i++) {
			const struct gmem_region *r = &m.regions[i];

			ck_assert_uint_eq((uintptr_t)r->hva % (2 << 20), 0);
			memset(r->hva, 1, r->len);
		}
		gmem_destroy(&m);
		ck_assert_uint_eq(mapped_pages(), before);
	}
}
END_TEST

START_TEST(create_names_the_field_and_leaves_nothing_mapped_when_it_fails)
{
	struct error err = {.code = 0};
	struct gmem m = {.n = 9};
	unsigned long before = mapped_pages();

	ck_assert_int_eq(
		gmem_create(&m, 1ull << 60, 1 << 30, 2ull << 30, false, &err),
		-ENOMEM);
	ck_assert_int_eq(err.code, ENOMEM);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	ck_assert_uint_eq(m.n, 9);
	ck_assert_int_eq(gmem_create(&m, UINT64_MAX - 4095, UINT64_MAX,
				 UINT64_MAX, false, &err),
		-ENOMEM);
	ck_assert_uint_lt(mapped_pages(), before + (1 << 17));
	/* Also when it is the part below the hole that cannot be. */
	ck_assert_int_eq(gmem_create(&m, (1ull << 60) + (1 << 20), 1ull << 60,
				 1ull << 61, false, &err),
		-ENOMEM);
}
END_TEST

START_TEST(create_refuses_to_make_none)
{
	struct error err = {.code = 0};
	struct gmem m;

	ck_assert_int_eq(
		gmem_create(&m, 0, 2 << 20, 16 << 20, false, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
}
END_TEST

START_TEST(create_refuses_a_layout_that_overlaps_itself)
{
	struct error err = {.code = 0};
	struct gmem m;
	unsigned long before = mapped_pages();

	ck_assert_int_eq(
		gmem_create(&m, 3ull << 30, 2ull << 30, 1 << 30, false, &err),
		-EINVAL);
	ck_assert_int_eq(err.code, EINVAL);
	ck_assert_uint_lt(mapped_pages(), before + (1 << 17));
}
END_TEST

/* ---- the hotplug region ---- */

#define BLOCK 0x1000ull
#define PLUG_GPA 0x40000ull
#define N_BLOCKS 200ull

static struct gmem make_hotplug(void)
{
	struct gmem m = make();
	struct error err;

	ck_assert_int_eq(
		gmem_add_hotplug(&m, PLUG_GPA, N_BLOCKS * BLOCK, BLOCK, &err),
		0);
	return m;
}

static void destroy_hotplug(struct gmem *m)
{
	m->n = 0; /* not mapped by it */
	gmem_destroy(m);
	ck_assert_uint_eq(m->hotplug.len, 0);
}

START_TEST(hotplug_memory_is_there_block_by_block)
{
	unsigned long before = mapped_pages();
	struct gmem m = make_hotplug();
	uint8_t *hva = m.hotplug.hva;

	ck_assert_uint_eq(mapped_pages() - before, N_BLOCKS);
	ck_assert_uint_eq((uintptr_t)hva % (2 << 20), 0);
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA, 1));
	gmem_set_blocks(&m, 3 * BLOCK, 2 * BLOCK, true);
	ck_assert_ptr_eq(gmem_range(&m, PLUG_GPA + 3 * BLOCK, 2 * BLOCK),
		hva + 3 * BLOCK);
	ck_assert_ptr_eq(gmem_range(&m, PLUG_GPA + 5 * BLOCK - 1, 1),
		hva + 5 * BLOCK - 1);
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + 3 * BLOCK - 1, 2));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + 5 * BLOCK - 1, 2));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + 3 * BLOCK, 0));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + 3 * BLOCK, UINT64_MAX));
	gmem_set_blocks(&m, 3 * BLOCK, BLOCK, false);
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + 3 * BLOCK, 1));
	ck_assert_ptr_nonnull(gmem_range(&m, PLUG_GPA + 4 * BLOCK, 1));
	/* RAM is as it was. */
	ck_assert_ptr_eq(gmem_range(&m, 0x10000, 0x1000), ram);
	destroy_hotplug(&m);
	ck_assert_uint_eq(mapped_pages(), before);
}
END_TEST

START_TEST(hotplug_memory_ends_with_its_region)
{
	struct gmem m = make_hotplug();

	gmem_set_blocks(&m, 0, N_BLOCKS * BLOCK, true);
	ck_assert_ptr_nonnull(gmem_range(&m, PLUG_GPA, N_BLOCKS * BLOCK));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA, N_BLOCKS * BLOCK + 1));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA - 1, 2));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + N_BLOCKS * BLOCK - 1, 2));
	ck_assert_ptr_null(gmem_range(&m, PLUG_GPA + N_BLOCKS * BLOCK, 1));
	destroy_hotplug(&m);
}
END_TEST

/* Ranges of blocks within, at and over the ends of the bitmap's words. */
static const struct {
	uint64_t first, n;
} runs[] = {{0, 1}, {0, 64}, {63, 1}, {63, 2}, {64, 64}, {1, 126}, {60, 140},
	{128, 72}, {199, 1}, {0, 200}};

START_TEST(runs_of_blocks_change_and_no_others)
{
	struct gmem m = make_hotplug();
	uint64_t first = runs[_i].first, n = runs[_i].n;

	for (int there = 1; there >= 0; there--) {
		gmem_set_blocks(&m, 0, N_BLOCKS * BLOCK, !there);
		gmem_set_blocks(&m, first * BLOCK, n * BLOCK, there);
		for (uint64_t b = 0; b < N_BLOCKS; b++) {
			bool in = b >= first && b < first + n;

			ck_assert(gmem_blocks_are(
				&m, b * BLOCK, BLOCK, in ? there : !there));
			ck_assert(!gmem_blocks_are(
				&m, b * BLOCK, BLOCK, in ? !there : there));
		}
		ck_assert(gmem_blocks_are(&m, first * BLOCK, n * BLOCK, there));
		if (first > 0)
			ck_assert(!gmem_blocks_are(&m, (first - 1) * BLOCK,
				(n + 1) * BLOCK, there));
		if (first + n < N_BLOCKS)
			ck_assert(!gmem_blocks_are(
				&m, first * BLOCK, (n + 1) * BLOCK, there));
	}
	destroy_hotplug(&m);
}
END_TEST

START_TEST(a_hotplug_region_too_large_names_its_field)
{
	struct gmem m = {.n = 0};
	struct error err = {.code = 0};

	ck_assert_int_eq(
		gmem_add_hotplug(&m, PLUG_GPA, 1ull << 62, 1ull << 50, &err),
		-ENOMEM);
	ck_assert_str_eq(err.field, "memory-hotplug.total_size_mib");
	ck_assert_uint_eq(m.hotplug.len, 0);
	ck_assert_ptr_null(m.hotplug.there);
	gmem_destroy(&m);
}
END_TEST

/* ---- huge pages ---- */

static long change_huge_pages(long by)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "r+");
	char text[32] = "";
	long n;

	if (!f)
		return -1;
	n = fgets(text, sizeof(text), f) ? strtol(text, NULL, 10) : 0;
	rewind(f);
	(void)fprintf(f, "%ld", n + by);
	fclose(f);
	return n;
}

START_TEST(too_few_huge_pages_are_told_by_field_and_what_to_do)
{
	struct error err = {.code = 0};
	struct gmem m = {.n = 9};
	uint64_t bytes = 1ull << 46; /* more than any host has */

	ck_assert_int_eq(
		gmem_create(&m, bytes, 3ull << 30, 4ull << 30, true, &err),
		-ENOMEM);
	ck_assert_str_eq(err.field, "machine-config.huge_pages");
	ck_assert_ptr_nonnull(strstr(err.msg, "33554432 free"));
	ck_assert_ptr_nonnull(strstr(err.msg, "/proc/sys/vm/nr_hugepages"));
	ck_assert_uint_eq(m.n, 9);
	m = (struct gmem){.huge = true};
	ck_assert_int_eq(
		gmem_add_hotplug(&m, 1ull << 32, bytes, 1ull << 30, &err),
		-ENOMEM);
	ck_assert_str_eq(err.field, "machine-config.huge_pages");
}
END_TEST

START_TEST(huge_pages_come_in_whole_ones)
{
	struct error err = {.code = 0};
	struct gmem m;

	ck_assert_int_eq(
		gmem_create(&m, 3 << 20, 3ull << 30, 4ull << 30, true, &err),
		-EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	/* And not at all: which is no lack of them. */
	ck_assert_int_eq(gmem_create(&m, 0, 3ull << 30, 4ull << 30, true, &err),
		-EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
}
END_TEST

START_TEST(huge_pages_are_set_aside_at_once)
{
	struct error err = {.code = 0};
	struct gmem m;
	int r;

	if (change_huge_pages(4) < 0)
		return; /* not root's; the integration tests see to it */
	r = gmem_create(&m, 4 << 20, 2 << 20, 16 << 20, true, &err);
	change_huge_pages(-4);
	/* Those of a host so full that it has none to give are none of ours. */
	if (r < 0) {
		ck_assert_str_eq(err.field, "machine-config.huge_pages");
		return;
	}
	ck_assert(m.huge);
	ck_assert_uint_eq(m.regions[0].len + m.regions[1].len, 4 << 20);
	memset(m.regions[0].hva, 1, 2 << 20);
	memset(m.regions[1].hva, 1, 2 << 20);
	gmem_destroy(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gmem");
	TCase *range = tcase_create("range"), *add = tcase_create("add");
	TCase *create = tcase_create("create");
	TCase *plug = tcase_create("hotplug"), *huge = tcase_create("huge");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(range, range_is_inside_one_region_or_nothing, 0,
		sizeof(ranges) / sizeof(ranges[0]));
	tcase_add_test(add, add_keeps_regions_sorted);
	tcase_add_loop_test(add, add_refuses_what_overlaps_or_wraps_around, 0,
		sizeof(additions) / sizeof(additions[0]));
	tcase_add_test(add, add_refuses_one_region_too_many);
	tcase_add_test(create, create_goes_around_the_hole);
	tcase_add_test(create,
		create_aligns_each_region_to_a_huge_page_and_maps_no_more);
	tcase_add_test(create, create_below_the_hole_is_one_region);
	tcase_add_test(create,
		create_names_the_field_and_leaves_nothing_mapped_when_it_fails);
	tcase_add_test(create, create_refuses_to_make_none);
	tcase_add_test(create, create_refuses_a_layout_that_overlaps_itself);
	suite_add_tcase(s, range);
	suite_add_tcase(s, add);
	suite_add_tcase(s, create);
	tcase_add_test(plug, hotplug_memory_is_there_block_by_block);
	tcase_add_test(plug, hotplug_memory_ends_with_its_region);
	tcase_add_loop_test(plug, runs_of_blocks_change_and_no_others, 0,
		sizeof(runs) / sizeof(runs[0]));
	tcase_add_test(plug, a_hotplug_region_too_large_names_its_field);
	tcase_add_test(
		huge, too_few_huge_pages_are_told_by_field_and_what_to_do);
	tcase_add_test(huge, huge_pages_come_in_whole_ones);
	tcase_add_test(huge, huge_pages_are_set_aside_at_once);
	suite_add_tcase(s, plug);
	suite_add_tcase(s, huge);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
