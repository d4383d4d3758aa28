#include "vmm/generation.h"

#include "vmm/layout.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB (1u << 20)
#define PAGE 4096u

static const uint8_t first[GENERATION_GUID_BYTES] = "0123456789abcde";
static const uint8_t second[GENERATION_GUID_BYTES] = "fedcba987654321";

static struct gmem mem;
static struct generation g;
static struct error err;
static int irq_fd;

/* Memory in which nothing is zero, so that every byte has to be written. */
static void setup(void)
{
	irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(gmem_create(&mem, MIB, LAYOUT_HOLE, LAYOUT_HOLE_END,
				 false, &err),
		0);
	memset(gmem_range(&mem, 0, MIB), 0xa5, MIB);
	ck_assert_int_eq(generation_init(&g, &mem, irq_fd, first), 0);
}

static void teardown(void)
{
	close(irq_fd);
	gmem_destroy(&mem);
}

static const uint8_t *page(uint64_t gpa)
{
	return gmem_range(&mem, gpa, PAGE);
}

static uint64_t le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static void check_zero(const uint8_t *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		ck_assert_msg(p[i] == 0, "byte %zu is 0x%x", i, p[i]);
}

START_TEST(the_guid_is_alone_in_its_page)
{
	ck_assert_mem_eq(page(LAYOUT_VMGENID), first, sizeof(first));
	check_zero(page(LAYOUT_VMGENID), sizeof(first), PAGE);
}
END_TEST

START_TEST(the_clock_tells_no_time_but_its_generation)
{
	const uint8_t *c = page(LAYOUT_VMCLOCK);

	ck_assert_mem_eq(c, "VCLK\0\x10\0\0\1\0\xff\1", 12);
	check_zero(c, 0x0c, 0x18); /* sequence, marker */
	ck_assert_uint_eq(le(c + 0x18, 8), 1 << 8 | 1 << 9);
	check_zero(c, 0x20, PAGE);
}
END_TEST

START_TEST(pages_around_are_left_alone)
{
	const uint8_t *below = gmem_range(&mem, LAYOUT_VMGENID - 1, 1);
	const uint8_t *above = gmem_range(&mem, LAYOUT_VMCLOCK + PAGE, 1);

	ck_assert_uint_eq(*below, 0xa5);
	ck_assert_uint_eq(*above, 0xa5);
}
END_TEST

START_TEST(memory_without_the_pages_is_refused)
{
	mem.regions[0].len = LAYOUT_VMCLOCK + PAGE - 1;
	ck_assert_int_eq(generation_init(&g, &mem, irq_fd, first), -EINVAL);
	mem.regions[0].len = LAYOUT_VMGENID;
	ck_assert_int_eq(generation_init(&g, &mem, irq_fd, first), -EINVAL);
	mem.regions[0].len = MIB;
}
END_TEST

START_TEST(a_first_generation_is_no_event)
{
	eventfd_t n;

	ck_assert_int_lt(eventfd_read(irq_fd, &n), 0);
}
END_TEST

START_TEST(a_new_generation_changes_all_marks_and_is_told)
{
	const uint8_t *c = page(LAYOUT_VMCLOCK);
	eventfd_t n;

	for (unsigned i = 1; i <= 3; i++) {
		generation_change(&g, i & 1 ? second : first);
		ck_assert_mem_eq(page(LAYOUT_VMGENID), i & 1 ? second : first,
			GENERATION_GUID_BYTES);
		ck_assert_uint_eq(le(c + 0x0c, 4), 2 * (uint64_t)i);
		ck_assert_uint_eq(le(c + 0x10, 8), i);
		ck_assert_uint_eq(le(c + 0x68, 8), i);
		ck_assert_int_eq(eventfd_read(irq_fd, &n), 0);
		ck_assert_uint_eq(n, 1);
	}
	ck_assert_mem_eq(c, "VCLK\0\x10\0\0\1\0\xff\1", 12);
	ck_assert_uint_eq(le(c + 0x18, 8), 1 << 8 | 1 << 9);
}
END_TEST

/* It may write what it likes there: only to deceive itself. */
START_TEST(what_a_guest_writes_into_the_pages_is_not_believed)
{
	memset(gmem_range(&mem, LAYOUT_VMGENID, PAGE), 0xff, PAGE);
	memset(gmem_range(&mem, LAYOUT_VMCLOCK, PAGE), 0xff, PAGE);
	generation_change(&g, second);
	ck_assert_mem_eq(page(LAYOUT_VMGENID), second, sizeof(second));
	ck_assert_uint_eq(le(page(LAYOUT_VMCLOCK) + 0x0c, 4), 2);
	ck_assert_uint_eq(le(page(LAYOUT_VMCLOCK) + 0x68, 8), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("generation");
	TCase *tc = tcase_create("pages");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_guid_is_alone_in_its_page);
	tcase_add_test(tc, the_clock_tells_no_time_but_its_generation);
	tcase_add_test(tc, pages_around_are_left_alone);
	tcase_add_test(tc, memory_without_the_pages_is_refused);
	tcase_add_test(tc, a_first_generation_is_no_event);
	tcase_add_test(tc, a_new_generation_changes_all_marks_and_is_told);
	tcase_add_test(tc, what_a_guest_writes_into_the_pages_is_not_believed);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
