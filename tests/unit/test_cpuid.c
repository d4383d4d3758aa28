#include "vmm/cpuid.h"

#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ONES 0xffffffffu

static struct cpuid_table t;

static void add(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
	uint32_t ecx, uint32_t edx)
{
	ck_assert_uint_lt(t.nent, CPUID_MAX);
	t.entries[t.nent++] = (struct kvm_cpuid_entry2){.function = function,
		.index = index,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx};
}

/* NULL: not there, so a guest reads zeros. */
static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < t.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &t.entries[i];

		if (e->function != function || e->index != index)
			continue;
		ck_assert_ptr_null(found); /* once only */
		found = e;
	}
	return found;
}

static const struct kvm_cpuid_entry2 *must(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = leaf(function, index);

	ck_assert_msg(e != NULL, "leaf 0x%x.%u is missing", function, index);
	return e;
}

static const uint32_t intel_leaves[] = {0x2, 0x5, 0x6, 0xa, 0xb, 0x12, 0x14,
	0x15, 0x16, 0x19, 0x1c, 0x1d, 0x1e, 0x1f, 0x23};
static const uint32_t amd_leaves[] = {
	0x8000000a, 0x8000001b, 0x8000001f, 0x80000022, 0x80000026};

/* A host that has everything: all bits set in what is filtered. */
static void intel(void)
{
	memset(&t, 0, sizeof(t));
	add(0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add(1, 0, 0xc06f2, 0x07100800, ONES, ONES);
	/* data, instruction, level 2 and 3 caches, of a large host */
	add(4, 0, 31u << 26 | 1u << 14 | 1u << 5 | 1, 1, 2, 3);
	add(4, 1, 31u << 26 | 1u << 14 | 1u << 5 | 2, 1, 2, 3);
	add(4, 2, 31u << 26 | 1u << 14 | 2u << 5 | 3, 1, 2, 3);
	add(4, 3, 31u << 26 | 63u << 14 | 3u << 5 | 3, 1, 2, 3);
	add(4, 4, 0, 0, 0, 0);
	add(7, 0, 2, ONES, ONES, ONES);
	add(7, 1, ONES, 0, 0, ONES);
	add(0xd, 0, ONES, 0, 0, 0);
	add(0xd, 1, ONES, 0, 0, 0);
	add(0xd, 2, 256, 576, 0, 0);
	add(0xd, 17, 64, 0, 0, 0);
	add(0xd, 18, 8192, 0, 0, 0);
	add(0x18, 17, 1, 2, 3, 4); /* not AMX, for all its index */
	for (size_t i = 0; i < sizeof(intel_leaves) / sizeof(uint32_t); i++)
		add(intel_leaves[i], 0, ONES, ONES, ONES, ONES);
	add(0x40000000, 0, 0x40000001, 1, 2, 3);
	add(0x40000001, 0, 0x01007efb, 0, 0, 0);
	add(0x80000000, 0, 0x80000008, 0, 0, 0);
	add(0x80000001, 0, 0, 0, 0x121, 0x2c100800);
	add(0x80000007, 0, ONES, ONES, ONES, ONES);
	add(0x80000008, 0, 0x302e, 0, 0x7007, 0);
}

static void amd(void)
{
	memset(&t, 0, sizeof(t));
	add(0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65);
	add(1, 0, 0xa00f11, 0x07100800, ONES, ONES);
	add(0x80000001, 0, 0, 0, ONES, ONES);
	add(0x80000008, 0, 0x3030, 0, 0x7007, 0);
	add(0x8000001d, 0, 1u << 14 | 1u << 5 | 1, 0, 0, 0);
	add(0x8000001d, 3, 15u << 14 | 3u << 5 | 3, 0, 0, 0);
	add(0x8000001e, 0, 7, 0x0103, 0x1, 0);
	for (size_t i = 0; i < sizeof(amd_leaves) / sizeof(uint32_t); i++)
		add(amd_leaves[i], 0, ONES, ONES, ONES, ONES);
}

static void filter(unsigned n_vcpus, bool smt)
{
	const struct cpuid_config c = {.n_vcpus = n_vcpus,
		.smt = smt,
		.tsc_khz = 2500000,
		.tsc_deadline = true};

	ck_assert_int_eq(cpuid_filter(&t, &c), 0);
}

START_TEST(leaves_a_guest_must_not_see_are_gone)
{
	static const uint32_t made_here[] = {0x2, 0x6, 0xb, 0x15, 0x16};

	intel();
	filter(1, false);
	for (size_t i = 0; i < sizeof(intel_leaves) / sizeof(uint32_t); i++) {
		bool made = false;

		for (unsigned k = 0; k < 5; k++)
			made |= made_here[k] == intel_leaves[i];
		if (!made)
			ck_assert_msg(!leaf(intel_leaves[i], 0),
				"leaf 0x%x shows", intel_leaves[i]);
	}
	ck_assert_ptr_null(leaf(0xd, 17));
	ck_assert_ptr_null(leaf(0xd, 18));
	ck_assert_ptr_nonnull(leaf(0xd, 2));
	ck_assert_ptr_nonnull(leaf(0x18, 17));

	amd();
	filter(1, false);
	for (size_t i = 0; i < sizeof(amd_leaves) / sizeof(uint32_t); i++)
		ck_assert_msg(!leaf(amd_leaves[i], 0), "leaf 0x%x shows",
			amd_leaves[i]);
}
END_TEST

/* Everything else in these registers stays as the host said. */
START_TEST(bits_a_guest_must_not_see_are_clear_and_others_stay)
{
	intel();
	filter(2, false);
	ck_assert_uint_eq(must(1, 0)->ecx, ~0xc9fcu);
	ck_assert_uint_eq(must(1, 0)->edx, ~0xa0640000u);
	ck_assert_uint_eq(must(7, 0)->ebx, ~0x02009004u);
	ck_assert_uint_eq(must(7, 0)->ecx, ~0x60802000u);
	ck_assert_uint_eq(must(7, 0)->edx, ~0x034c0020u);
	ck_assert_uint_eq(must(7, 1)->eax, ~0x00200000u);
	ck_assert_uint_eq(must(7, 1)->edx, ~0x00000100u);
	ck_assert_uint_eq(must(0xd, 0)->eax, ~0x00060000u);
	ck_assert_uint_eq(must(0xd, 1)->eax, ~0x00000010u);
	ck_assert_uint_eq(must(0x80000007, 0)->edx, 0x100);
	ck_assert_uint_eq(must(2, 0)->eax, ONES);
	ck_assert_uint_eq(must(0x40000001, 0)->eax, 0x01007efb);
	amd();
	filter(2, false);
	ck_assert_uint_eq(must(0x80000001, 0)->ecx, ~0x3188b40cu);
}
END_TEST

START_TEST(a_hypervisor_with_x2apic_and_arat_shows)
{
	intel();
	for (unsigned i = 0; i < t.nent; i++)
		if (t.entries[i].function == 1)
			t.entries[i].ecx = 0;
	filter(1, false);
	ck_assert_uint_eq(must(1, 0)->ecx, 1u << 31 | 1u << 24 | 1u << 21);
	ck_assert_uint_eq(must(6, 0)->eax, 4);
	ck_assert_uint_eq(must(6, 0)->ecx, 0);
	ck_assert_uint_eq(must(0x40000000, 0)->ebx, 0x4b4d564b);
	ck_assert_uint_eq(must(0x40000000, 0)->ecx, 0x564b4d56);
	ck_assert_uint_eq(must(0x40000000, 0)->edx, 0x4d);
}
END_TEST

START_TEST(tsc_deadline_shows_only_where_kvm_has_it)
{
	const struct cpuid_config c = {.n_vcpus = 1, .tsc_khz = 1000};

	intel();
	ck_assert_int_eq(cpuid_filter(&t, &c), 0);
	ck_assert_uint_eq(must(1, 0)->ecx & 1u << 24, 0);
}
END_TEST

START_TEST(tsc_rate_is_told_on_intel_in_three_leaves)
{
	intel();
	filter(1, false);
	ck_assert_uint_eq(must(0x40000000, 0)->eax, 0x40000010);
	ck_assert_uint_eq(must(0x40000010, 0)->eax, 2500000);
	ck_assert_uint_eq(must(0x40000010, 0)->ebx, 1000000);
	ck_assert_uint_eq((uint64_t)must(0x15, 0)->ecx * must(0x15, 0)->ebx /
				  must(0x15, 0)->eax,
		2500000000u);
	ck_assert_uint_eq(must(0x15, 0)->ecx, 1000000000);
	ck_assert_uint_eq(must(0x16, 0)->eax, 2500);
}
END_TEST

START_TEST(tsc_rate_stays_within_the_announced_range)
{
	intel();
	t.entries[0].eax = 0x14;
	filter(1, false);
	ck_assert_ptr_null(leaf(0x15, 0));
	intel();
	t.entries[0].eax = 0x15;
	filter(1, false);
	ck_assert_ptr_nonnull(leaf(0x15, 0));
	ck_assert_ptr_null(leaf(0x16, 0));
	intel();
	t.entries[0].eax = 0x16;
	filter(1, false);
	ck_assert_ptr_nonnull(leaf(0x16, 0));
}
END_TEST

START_TEST(tsc_rate_is_told_on_amd_in_kvms_leaf_only)
{
	amd();
	add(0x15, 0, 1, 1, 1, 1);
	for (unsigned i = 0; i < t.nent; i++)
		if (t.entries[i].function == 0)
			t.entries[i].eax = 0x20;
	filter(1, false);
	ck_assert_uint_eq(must(0x40000010, 0)->eax, 2500000);
	ck_assert_ptr_null(leaf(0x15, 0));
	ck_assert_ptr_null(leaf(0x16, 0));
}
END_TEST

START_TEST(unknown_tsc_rate_is_not_told)
{
	const struct cpuid_config c = {.n_vcpus = 1};

	intel();
	ck_assert_int_eq(cpuid_filter(&t, &c), 0);
	ck_assert_ptr_null(leaf(0x40000010, 0));
	ck_assert_ptr_null(leaf(0x15, 0));
	ck_assert_uint_eq(must(0x40000000, 0)->eax, 0x40000001);
}
END_TEST

/* n, smt: threads a core, core shift, package shift, and what of leaf 4. */
static const struct {
	unsigned n;
	bool smt;
	uint32_t threads, smt_shift, shift;
	uint32_t core_ids, l1_sharing, l3_sharing; /* less one */
} topologies[] = {
	{1, false, 1, 0, 0, 0, 0, 0},
	{1, true, 1, 0, 0, 0, 0, 0},
	{2, false, 1, 0, 1, 1, 0, 1},
	{2, true, 2, 1, 1, 0, 1, 1},
	{3, false, 1, 0, 2, 3, 0, 3},
	{6, true, 2, 1, 3, 3, 1, 7},
	{32, false, 1, 0, 5, 31, 0, 31},
	{32, true, 2, 1, 5, 15, 1, 31},
};

START_TEST(topology_is_the_vms_own_on_intel)
{
	unsigned n = topologies[_i].n;
	const struct kvm_cpuid_entry2 *e;

	intel();
	filter(n, topologies[_i].smt);
	e = must(0xb, 0);
	ck_assert_uint_eq(e->eax, topologies[_i].smt_shift);
	ck_assert_uint_eq(e->ebx, topologies[_i].threads);
	ck_assert_uint_eq(e->ecx, 0x100);
	e = must(0xb, 1);
	ck_assert_uint_eq(e->eax, topologies[_i].shift);
	ck_assert_uint_eq(e->ebx, n);
	ck_assert_uint_eq(e->ecx, 0x201);
	ck_assert_uint_eq(must(0xb, 2)->ecx, 2);
	ck_assert_uint_eq(must(0xb, 0)->flags, 1);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(must(4, i)->eax >> 14,
			topologies[_i].core_ids << 12 |
				topologies[_i].l1_sharing);
	ck_assert_uint_eq(must(4, 3)->eax >> 14,
		topologies[_i].core_ids << 12 | topologies[_i].l3_sharing);
	ck_assert_uint_eq(must(4, 3)->eax & 0x3fff, 3u << 5 | 3);
	ck_assert_uint_eq(must(4, 4)->eax, 0);
	ck_assert_uint_eq(must(1, 0)->ebx & 0x00ffffff,
		1u << topologies[_i].shift << 16 | 0x0800);
	ck_assert_uint_eq(must(1, 0)->edx >> 28 & 1, n > 1);
	ck_assert_uint_eq(must(0x80000008, 0)->ecx, 0);
	ck_assert_uint_eq(must(0x80000001, 0)->ecx & 2, 0);
}
END_TEST

START_TEST(topology_is_the_vms_own_on_amd)
{
	unsigned n = topologies[_i].n;

	amd();
	filter(n, topologies[_i].smt);
	ck_assert_uint_eq(
		must(0x80000008, 0)->ecx, topologies[_i].shift << 12 | (n - 1));
	ck_assert_uint_eq(must(0x80000001, 0)->ecx & 2, n > 1 ? 2 : 0);
	ck_assert_uint_eq(must(0x8000001d, 0)->eax >> 14 & 0xfff,
		topologies[_i].l1_sharing);
	ck_assert_uint_eq(must(0x8000001d, 3)->eax >> 14 & 0xfff, n - 1);
	ck_assert_uint_eq(
		must(0x8000001e, 0)->ebx, (topologies[_i].threads - 1) << 8);
	ck_assert_uint_eq(must(0x8000001e, 0)->ecx, 0);
}
END_TEST

START_TEST(each_vcpu_has_its_own_apic_id)
{
	amd();
	filter(6, true);
	for (unsigned id = 0; id < 6; id++) {
		cpuid_set_vcpu(&t, id);
		ck_assert_uint_eq(must(1, 0)->ebx, id << 24 | 8u << 16 | 0x800);
		for (unsigned i = 0; i < 3; i++)
			ck_assert_uint_eq(must(0xb, i)->edx, id);
		ck_assert_uint_eq(must(0x8000001e, 0)->eax, id);
		ck_assert_uint_eq(must(0x8000001e, 0)->ebx, 1u << 8 | id / 2);
	}
}
END_TEST

START_TEST(topology_leaf_is_within_the_announced_range)
{
	intel();
	t.entries[0].eax = 0x7;
	filter(2, false);
	ck_assert_uint_eq(must(0, 0)->eax, 0xb);
	ck_assert_ptr_null(leaf(0x15, 0));
}
END_TEST

static void filter_with(const struct msg_cpuid_mod *mods, unsigned n)
{
	const struct cpuid_config c = {.n_vcpus = 2,
		.tsc_khz = 2500000,
		.tsc_deadline = true,
		.mods = mods,
		.n_mods = n};

	ck_assert_int_eq(cpuid_filter(&t, &c), 0);
}

START_TEST(modifiers_change_one_register_of_one_leaf)
{
	const struct msg_cpuid_mod mods[] = {
		{7, 1, 1, VM_CPUID_EAX, 0xff00, 0x21},
		{7, 0, 1, VM_CPUID_EBX, 0, 0x20},
		{7, 0, 1, VM_CPUID_ECX, ~4u, 0}, {7, 0, 1, VM_CPUID_EDX, 0, 0},
		{7, 0, 1, VM_CPUID_EDX, ONES, 3}, /* in their order */
	};

	intel();
	filter_with(mods, 5);
	ck_assert_uint_eq(must(7, 1)->eax, 0xff21);
	ck_assert_uint_eq(must(7, 1)->edx, ~0x100u);
	ck_assert_uint_eq(must(7, 0)->eax, 2);
	ck_assert_uint_eq(must(7, 0)->ebx, 0x20);
	ck_assert_uint_eq(must(7, 0)->ecx, ~0x60802004u);
	ck_assert_uint_eq(must(7, 0)->edx, 3);
	ck_assert_uint_eq(must(7, 0)->flags, 1);
}
END_TEST

/* A bit that is hidden otherwise, and a leaf that is made here. */
START_TEST(modifiers_have_the_last_word_on_features)
{
	const struct msg_cpuid_mod mods[] = {
		{1, 0, 0, VM_CPUID_ECX, ONES, 1u << 5},
		{0x40000001, 0, 0, VM_CPUID_EAX, 1, 0},
		{0x15, 0, 0, VM_CPUID_EAX, 0, 7},
	};

	intel();
	filter_with(mods, 3);
	ck_assert_uint_eq(must(1, 0)->ecx & 1u << 5, 1u << 5);
	ck_assert_uint_eq(must(0x40000001, 0)->eax, 1);
	ck_assert_uint_eq(must(0x15, 0)->eax, 7);
}
END_TEST

START_TEST(topology_and_what_kvm_needs_stay_ours)
{
	const struct msg_cpuid_mod mods[] = {
		{1, 0, 0, VM_CPUID_EBX, 0, 0xab1200cd},
		{1, 0, 0, VM_CPUID_ECX, 0, 0},
		{1, 0, 0, VM_CPUID_EDX, 0, 0},
		{4, 0, 1, VM_CPUID_EAX, 0, ONES},
		{0xb, 0, 1, VM_CPUID_EBX, 0, 99},
		{0x80000008, 0, 0, VM_CPUID_ECX, 0, ONES},
	};

	intel();
	filter_with(mods, 6);
	ck_assert_uint_eq(must(1, 0)->ebx & 0x00ffffff, 0x0200cd);
	ck_assert_uint_eq(must(1, 0)->ecx, 1u << 31 | 1u << 24 | 1u << 21);
	ck_assert_uint_eq(must(1, 0)->edx, 1u << 28);
	ck_assert_uint_eq(must(4, 0)->eax >> 26, 1);
	ck_assert_uint_eq(must(0xb, 0)->ebx, 1);
	ck_assert_uint_eq(must(0x80000008, 0)->ecx, 0);
}
END_TEST

START_TEST(modifiers_of_leaves_that_are_not_there_do_nothing)
{
	const struct msg_cpuid_mod mods[] = {
		{0xa, 0, 0, VM_CPUID_EAX, 0, ONES},
		{0x12345, 0, 0, VM_CPUID_EAX, 0, ONES},
		{7, 9, 1, VM_CPUID_EAX, 0, ONES},
	};

	intel();
	filter_with(mods, 3);
	ck_assert_ptr_null(leaf(0xa, 0));
	ck_assert_ptr_null(leaf(0x12345, 0));
	ck_assert_ptr_null(leaf(7, 9));
}
END_TEST

START_TEST(a_full_table_is_refused)
{
	intel();
	while (t.nent < CPUID_MAX)
		add(0x90000000 + t.nent, 0, 0, 0, 0, 0);
	/* Room comes from what is hidden, so fill that up too. */
	for (unsigned i = 0; i < t.nent; i++)
		if (t.entries[i].function != 0 && t.entries[i].function != 1)
			t.entries[i].function = 0x90000000 + i;
	ck_assert_int_eq(
		cpuid_filter(&t, &(struct cpuid_config){.n_vcpus = 1}), -E2BIG);
}
END_TEST

START_TEST(an_empty_table_gets_what_is_made_here)
{
	memset(&t, 0, sizeof(t));
	filter(2, false);
	ck_assert_ptr_nonnull(leaf(0xb, 0));
	ck_assert_ptr_nonnull(leaf(0x40000000, 0));
	ck_assert_ptr_null(leaf(1, 0));
}
END_TEST

int main(void)
{
	const int n_topologies = sizeof(topologies) / sizeof(topologies[0]);
	Suite *s = suite_create("cpuid");
	TCase *tc = tcase_create("filter");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, leaves_a_guest_must_not_see_are_gone);
	tcase_add_test(tc, bits_a_guest_must_not_see_are_clear_and_others_stay);
	tcase_add_test(tc, a_hypervisor_with_x2apic_and_arat_shows);
	tcase_add_test(tc, tsc_deadline_shows_only_where_kvm_has_it);
	tcase_add_test(tc, tsc_rate_is_told_on_intel_in_three_leaves);
	tcase_add_test(tc, tsc_rate_stays_within_the_announced_range);
	tcase_add_test(tc, tsc_rate_is_told_on_amd_in_kvms_leaf_only);
	tcase_add_test(tc, unknown_tsc_rate_is_not_told);
	tcase_add_loop_test(
		tc, topology_is_the_vms_own_on_intel, 0, n_topologies);
	tcase_add_loop_test(
		tc, topology_is_the_vms_own_on_amd, 0, n_topologies);
	tcase_add_test(tc, each_vcpu_has_its_own_apic_id);
	tcase_add_test(tc, topology_leaf_is_within_the_announced_range);
	tcase_add_test(tc, modifiers_change_one_register_of_one_leaf);
	tcase_add_test(tc, modifiers_have_the_last_word_on_features);
	tcase_add_test(tc, topology_and_what_kvm_needs_stay_ours);
	tcase_add_test(tc, modifiers_of_leaves_that_are_not_there_do_nothing);
	tcase_add_test(tc, a_full_table_is_refused);
	tcase_add_test(tc, an_empty_table_gets_what_is_made_here);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
