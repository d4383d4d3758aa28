#include "vmm/layout.h"
#include "vmm/limits.h"
#include "vmm/platform_tables.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u

static struct gmem mem;
static struct error err;

/* Memory in which nothing is zero, so that every byte has to be written. */
static void setup(void)
{
	ck_assert_int_eq(gmem_create(&mem, 1 << 20, LAYOUT_HOLE,
				 LAYOUT_HOLE_END, false, &err),
		0);
	memset(gmem_range(&mem, 0, 1 << 20), 0xa5, 1 << 20);
}

static void teardown(void)
{
	gmem_destroy(&mem);
}

static uint8_t *write_for(unsigned n_vcpus)
{
	struct platform p = {.n_vcpus = n_vcpus};

	ck_assert_int_eq(mptable_write(&mem, &p, &err), 0);
	return gmem_range(&mem, LAYOUT_EBDA, KIB);
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n-- > 0)
		s += *p++;
	return s;
}

static uint32_t u16(const uint8_t *p)
{
	return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
	return u16(p) | u16(p + 2) << 16;
}

static const unsigned counts[] = {1, 2, 31, VM_MAX_VCPUS};

START_TEST(the_floating_pointer_leads_to_the_table_and_both_add_up)
{
	const uint8_t *f = write_for(counts[_i]), *t = f + 16;

	ck_assert_mem_eq(f, "_MP_", 4);
	ck_assert_uint_eq(u32(f + 4), LAYOUT_EBDA + 16);
	ck_assert_uint_eq(f[8], 1); /* times 16 bytes */
	ck_assert_uint_eq(f[9], 4); /* 1.4 */
	ck_assert_uint_eq(sum(f, 16), 0);
	ck_assert_uint_eq(u32(f + 11), 0); /* no default configuration */
	ck_assert_mem_eq(t, "PCMP", 4);
	ck_assert_uint_eq(t[6], 4);
	ck_assert_uint_eq(sum(t, u16(t + 4)), 0);
	ck_assert_mem_eq(t + 8, "MAYFLY              ", 20);
	ck_assert_uint_eq(u32(t + 36), LAYOUT_LAPIC);
	ck_assert_uint_le(16 + u16(t + 4), LAYOUT_EBDA_END - LAYOUT_EBDA);
	/* Nothing behind it. */
	ck_assert_uint_eq(t[u16(t + 4)], 0xa5);
}
END_TEST

START_TEST(the_entries_are_those_which_the_header_counts)
{
	const uint8_t *t = write_for(counts[_i]) + 16;
	const uint8_t *e = t + 44, *end = t + u16(t + 4);
	unsigned seen[5] = {0}, n = 0;

	for (; e < end; e += e[0] == 0 ? 20 : 8, n++) {
		ck_assert_uint_lt(e[0], 5);
		switch (e[0]) {
		case 0: /* a CPU; the first is the boot CPU */
			ck_assert_uint_eq(e[1], seen[0]);
			ck_assert_uint_eq(e[3], seen[0] == 0 ? 3 : 1);
			break;
		case 1:
			ck_assert_mem_eq(e + 2, "ISA   ", 6);
			break;
		case 2:
			ck_assert_uint_eq(e[3], 1);
			ck_assert_uint_eq(u32(e + 4), LAYOUT_IOAPIC);
			break;
		case 3: /* ISA interrupt n at pin n, as ISA has them */
			ck_assert_uint_eq(e[1], 0);
			ck_assert_uint_eq(u16(e + 2), 0);
			ck_assert_uint_eq(e[5], seen[3]);
			ck_assert_uint_eq(e[7], seen[3]);
			break;
		default: /* ExtINT at LINT0, NMI at LINT1 */
			ck_assert_uint_eq(e[1], seen[4] == 0 ? 3 : 1);
			ck_assert_uint_eq(e[7], seen[4]);
			break;
		}
		seen[e[0]]++;
	}
	ck_assert_ptr_eq(e, end);
	ck_assert_uint_eq(u16(t + 34), n);
	ck_assert_uint_eq(seen[0], counts[_i]);
	ck_assert_uint_eq(seen[1], 1);
	ck_assert_uint_eq(seen[2], 1);
	ck_assert_uint_eq(seen[3], LAYOUT_IRQ_END);
	ck_assert_uint_eq(seen[4], 2);
}
END_TEST

START_TEST(more_cpus_than_fit_are_refused)
{
	struct platform p = {.n_vcpus = 38};

	ck_assert_int_eq(mptable_write(&mem, &p, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.vcpu_count");
	ck_assert_uint_eq(
		*(uint8_t *)gmem_range(&mem, LAYOUT_EBDA_END, 1), 0xa5);
}
END_TEST

START_TEST(memory_that_ends_before_is_refused)
{
	struct platform p = {.n_vcpus = 1};

	mem.regions[0].len = LAYOUT_EBDA + 128;
	ck_assert_int_eq(mptable_write(&mem, &p, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mptable");
	TCase *t = tcase_create("write");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t,
		the_floating_pointer_leads_to_the_table_and_both_add_up, 0,
		sizeof(counts) / sizeof(counts[0]));
	tcase_add_loop_test(t, the_entries_are_those_which_the_header_counts, 0,
		sizeof(counts) / sizeof(counts[0]));
	tcase_add_test(t, more_cpus_than_fit_are_refused);
	tcase_add_test(t, memory_that_ends_before_is_refused);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
