#include "vmm/memory_plan.h"

#include "vmm/layout.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct msg_start m;
static struct msg_prepare machine;
static struct memory_plan plan;
static struct error err;

static void setup(void)
{
	memset(&m, 0, sizeof(m));
	memset(&machine, 0, sizeof(machine));
	memset(&plan, 0xaa, sizeof(plan));
	err = (struct error){0};
	machine.mem_bytes = 128 * MIB;
	machine.n_cpuid = 2;
	machine.cpuid[0].function = 1;
	machine.cpuid[1].function = 0x80000008;
	machine.cpuid[1].eax = 39;
}

static void add_hotplug(uint64_t region)
{
	m.has_memory_hotplug = 1;
	m.memory_hotplug = (struct msg_memory_hotplug){.region_bytes = region,
		.block_bytes = 2 * MIB,
		.slot_bytes = 128 * MIB};
}

static void add_pmem(uint64_t size)
{
	m.pmem[m.n_pmem].size_bytes = size;
	m.pmem[m.n_pmem++].file_bytes = size;
}

static int make(void)
{
	return memory_plan(&plan, &m, machine.mem_bytes,
		memory_plan_address_bits(&machine), &err);
}

START_TEST(without_device_memory_there_is_nothing_to_place)
{
	ck_assert_int_eq(make(), 0);
	ck_assert_uint_eq(plan.hotplug_gpa, 0);
	ck_assert_uint_eq(plan.pmem_gpa[0], 0);
}
END_TEST

START_TEST(regions_lie_above_4_gib_even_with_little_ram)
{
	add_hotplug(GIB);
	add_pmem(2 * MIB);
	add_pmem(130 * MIB);
	add_pmem(2 * MIB);
	ck_assert_int_eq(make(), 0);
	ck_assert_uint_eq(plan.hotplug_gpa, 4 * GIB);
	ck_assert_uint_eq(plan.pmem_gpa[0], 5 * GIB);
	ck_assert_uint_eq(plan.pmem_gpa[1], 5 * GIB + 128 * MIB);
	ck_assert_uint_eq(plan.pmem_gpa[2], 5 * GIB + 384 * MIB);
	ck_assert_uint_eq(plan.pmem_gpa[3], 0);
}
END_TEST

START_TEST(regions_lie_above_ram)
{
	machine.mem_bytes = 6 * GIB + 2 * MIB; /* to 7 GiB and 2 MiB */
	add_hotplug(GIB);
	add_pmem(2 * MIB);
	ck_assert_int_eq(make(), 0);
	ck_assert_uint_eq(plan.hotplug_gpa, 8 * GIB);
	ck_assert_uint_eq(plan.pmem_gpa[0], 9 * GIB);
	m.has_memory_hotplug = 0;
	ck_assert_int_eq(make(), 0);
	ck_assert_uint_eq(plan.hotplug_gpa, 0);
	ck_assert_uint_eq(plan.pmem_gpa[0], 7 * GIB + 128 * MIB);
}
END_TEST

static const struct {
	uint32_t eax, mod_reg, keep, set; /* keep and set 0: no change */
	unsigned bits;
} widths[] = {
	{32, 0, 0, 0, 32}, {39, 0, 0, 0, 39}, {52, 0, 0, 0, 52},
	{53, 0, 0, 0, 36}, {31, 0, 0, 0, 36}, {0, 0, 0, 0, 36},
	{48 << 16 | 52, 0, 0, 0, 48}, {48 << 16 | 46, 0, 0, 0, 46},
	{0x3027, 0, 0, 0, 39},       /* virtual ones beside them */
	{46, 0, 0xffffff00, 39, 39}, /* a template changes it */
	{46, 1, 0xffffff00, 39, 46}, /* or another register */
};

START_TEST(the_width_is_what_the_guest_will_read)
{
	machine.cpuid[1].eax = widths[_i].eax;
	if (widths[_i].set) {
		machine.n_cpuid_mods = 1;
		machine.cpuid_mods[0].leaf = 0x80000008;
		machine.cpuid_mods[0].reg = widths[_i].mod_reg;
		machine.cpuid_mods[0].keep = widths[_i].keep;
		machine.cpuid_mods[0].set = widths[_i].set;
	}
	ck_assert_uint_eq(memory_plan_address_bits(&machine), widths[_i].bits);
}
END_TEST

START_TEST(without_the_leaf_it_is_36_bits)
{
	machine.n_cpuid = 1;
	ck_assert_uint_eq(memory_plan_address_bits(&machine), 36);
	machine.n_cpuid_mods = 1;
	machine.cpuid_mods[0].leaf = 7;
	machine.cpuid_mods[0].set = 40;
	ck_assert_uint_eq(memory_plan_address_bits(&machine), 36);
	/* What lies behind the entries is none. */
	machine.n_cpuid_mods = 0;
	machine.cpuid_mods[0].leaf = 0x80000008;
	machine.cpuid_mods[0].set = 40;
	ck_assert_uint_eq(memory_plan_address_bits(&machine), 36);
}
END_TEST

START_TEST(what_does_not_fit_is_refused_by_its_field)
{
	machine.cpuid[1].eax = 36;
	/* To the last byte. */
	machine.mem_bytes = 63 * GIB;
	ck_assert_int_eq(make(), 0);
	machine.mem_bytes++;
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	add_hotplug(60 * GIB);
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	machine.mem_bytes = 128 * MIB;
	ck_assert_int_eq(make(), 0);
	m.memory_hotplug.region_bytes += 128 * MIB;
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "memory-hotplug.total_size_mib");
	ck_assert_ptr_nonnull(strstr(err.msg, "36 bits"));
	m.memory_hotplug.region_bytes -= 128 * MIB;
	add_pmem(2 * MIB);
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "pmem.path_on_host");
	/* Nothing wraps around. */
	m.has_memory_hotplug = 0;
	m.pmem[0].size_bytes = UINT64_MAX - 2 * MIB + 1;
	ck_assert_int_eq(make(), -EINVAL);
	m.pmem[0].size_bytes = 2 * MIB;
	machine.mem_bytes = UINT64_MAX;
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
}
END_TEST

START_TEST(a_plan_that_fails_is_not_written)
{
	struct memory_plan before = plan;

	add_hotplug(GIB);
	add_pmem(3 * MIB);
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_mem_eq(&before, &plan, sizeof(plan));
}
END_TEST

static const struct {
	uint64_t total, block, slot, requested;
	const char *field; /* NULL: fine */
} sizes[] = {
	{GIB, 2 * MIB, 128 * MIB, 0, NULL},
	{GIB, 128 * MIB, 128 * MIB, GIB, NULL},
	{GIB, GIB, GIB, 0, NULL},
	{260 * MIB, 2 * MIB, 130 * MIB, 2 * MIB, NULL},
	{GIB, 0, 128 * MIB, 0, "memory-hotplug.block_size_mib"},
	{GIB, MIB, 128 * MIB, 0, "memory-hotplug.block_size_mib"},
	{1008 * MIB, 6 * MIB, 126 * MIB, 0, "memory-hotplug.block_size_mib"},
	{GIB, 2 * MIB, 0, 0, "memory-hotplug.slot_size_mib"},
	{GIB, 2 * MIB, 64 * MIB, 0, "memory-hotplug.slot_size_mib"},
	{GIB, 256 * MIB, 128 * MIB, 0, "memory-hotplug.slot_size_mib"},
	{258 * MIB, 4 * MIB, 129 * MIB, 0, "memory-hotplug.slot_size_mib"},
	{0, 2 * MIB, 128 * MIB, 0, "memory-hotplug.total_size_mib"},
	{GIB + 2 * MIB, 2 * MIB, 128 * MIB, 0, "memory-hotplug.total_size_mib"},
	{64 * MIB, 2 * MIB, 128 * MIB, 0, "memory-hotplug.total_size_mib"},
	{512 * GIB, 2 * MIB, 128 * MIB, 0, NULL},
	{512 * GIB + 128 * MIB, 2 * MIB, 128 * MIB, 0,
		"memory-hotplug.total_size_mib"},
	{GIB, 2 * MIB, 128 * MIB, GIB + 2 * MIB,
		"memory-hotplug.requested_size_mib"},
	{GIB, 4 * MIB, 128 * MIB, 2 * MIB, "memory-hotplug.requested_size_mib"},
};

START_TEST(hotplug_sizes_obey_their_rules)
{
	machine.cpuid[1].eax = 46;
	m.has_memory_hotplug = 1;
	m.memory_hotplug =
		(struct msg_memory_hotplug){.region_bytes = sizes[_i].total,
			.block_bytes = sizes[_i].block,
			.slot_bytes = sizes[_i].slot,
			.requested_bytes = sizes[_i].requested};
	if (!sizes[_i].field) {
		ck_assert_msg(make() == 0, "%s", err.msg);
		return;
	}
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, sizes[_i].field);
}
END_TEST

START_TEST(a_pmem_region_is_whole_pages_for_a_whole_file)
{
	add_pmem(4 * MIB);
	m.pmem[0].file_bytes = 2 * MIB + 1;
	ck_assert_int_eq(make(), 0);
	m.pmem[0].file_bytes = 4 * MIB + 1;
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.field, "pmem.path_on_host");
	m.pmem[0].file_bytes = 0;
	ck_assert_int_eq(make(), -EINVAL);
	m.pmem[0].file_bytes = m.pmem[0].size_bytes = MIB;
	ck_assert_int_eq(make(), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory_plan");
	TCase *t = tcase_create("plan");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, without_device_memory_there_is_nothing_to_place);
	tcase_add_test(t, regions_lie_above_4_gib_even_with_little_ram);
	tcase_add_test(t, regions_lie_above_ram);
	tcase_add_loop_test(t, the_width_is_what_the_guest_will_read, 0,
		sizeof(widths) / sizeof(widths[0]));
	tcase_add_test(t, without_the_leaf_it_is_36_bits);
	tcase_add_test(t, what_does_not_fit_is_refused_by_its_field);
	tcase_add_test(t, a_plan_that_fails_is_not_written);
	tcase_add_loop_test(t, hotplug_sizes_obey_their_rules, 0,
		sizeof(sizes) / sizeof(sizes[0]));
	tcase_add_test(t, a_pmem_region_is_whole_pages_for_a_whole_file);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
