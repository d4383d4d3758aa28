#include "vmm/cpu_template.h"

#include "tests/unit/cpuid_tables.h"
#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct msg_prepare m, other;
static struct error err;

static void host(
	struct msg_prepare *to, const struct msg_cpuid_entry *e, size_t n)
{
	memset(to, 0, sizeof(*to));
	memcpy(to->cpuid, e, n * sizeof(*e));
	to->n_cpuid = (uint32_t)n;
	/* Of a cpu-config, which a template takes the place of. */
	to->n_cpuid_mods = to->n_msr_mods = 3;
}

#define HOST(to, table) host(to, table, N(table))

static const struct msg_cpuid_entry *leaf(
	struct msg_prepare *s, uint32_t function, uint32_t index)
{
	return cpu_template_leaf(s->cpuid, s->n_cpuid, function, index);
}

static const struct msg_cpuid_entry *must(uint32_t function, uint32_t index)
{
	const struct msg_cpuid_entry *e = leaf(&m, function, index);

	ck_assert_msg(e != NULL, "leaf 0x%x.%u is missing", function, index);
	return e;
}

static void apply(struct msg_prepare *to, uint32_t which)
{
	ck_assert_msg(cpu_template_apply(which, to, &err) == 0, "%s", err.msg);
}

static void refused(uint32_t which, const char *words)
{
	ck_assert_int_eq(cpu_template_apply(which, &m, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.cpu_template");
	ck_assert_msg(strstr(err.msg, words) != NULL, "%s", err.msg);
}

/* ---- levels ---- */

START_TEST(none_leaves_the_host_as_it_is)
{
	HOST(&m, host_skylake);
	other = m;
	apply(&m, VM_CPU_TEMPLATE_NONE);
	ck_assert_mem_eq(&m, &other, sizeof(m));
}
END_TEST

static const uint32_t levels[] = {
	VM_CPU_TEMPLATE_V2, VM_CPU_TEMPLATE_V3, VM_CPU_TEMPLATE_V4};

static void same_but(const struct msg_prepare *a, const struct msg_prepare *b,
	uint32_t function, uint32_t index)
{
	ck_assert_uint_eq(a->n_cpuid, b->n_cpuid);
	for (uint32_t i = 0; i < a->n_cpuid; i++)
		if (a->cpuid[i].function != function ||
			a->cpuid[i].index != index)
			ck_assert_mem_eq(&a->cpuid[i], &b->cpuid[i],
				sizeof(a->cpuid[i]));
	ck_assert_uint_eq(a->n_msr_mods, b->n_msr_mods);
	ck_assert_mem_eq(a->msr_mods, b->msr_mods,
		a->n_msr_mods * sizeof(a->msr_mods[0]));
}

/* But for the controls against speculation that only the younger has. */
START_TEST(two_generations_of_intel_servers_show_one_cpu)
{
	HOST(&m, host_skylake);
	HOST(&other, host_sapphire_rapids);
	apply(&m, levels[_i]);
	apply(&other, levels[_i]);
	ck_assert_uint_eq(leaf(&m, 7, 2)->edx, 0);
	ck_assert_uint_eq(leaf(&other, 7, 2)->edx, 0x17);
	same_but(&m, &other, 7, 2);
}
END_TEST

START_TEST(two_generations_of_amd_servers_show_one_cpu)
{
	uint32_t *late;

	HOST(&m, host_rome);
	HOST(&other, host_genoa);
	apply(&m, levels[_i]);
	apply(&other, levels[_i]);
	/* PSFD, and LFENCE, null selectors, automatic IBRS. */
	ck_assert_uint_eq(leaf(&m, 0x80000008, 0)->ebx, 0x0304d000);
	ck_assert_uint_eq(leaf(&other, 0x80000008, 0)->ebx, 0x1304d000);
	ck_assert_uint_eq(leaf(&m, 0x80000021, 0)->eax, 0);
	ck_assert_uint_eq(leaf(&other, 0x80000021, 0)->eax, 0x144);
	late = cpu_template_reg(
		cpu_template_leaf(other.cpuid, other.n_cpuid, 0x80000008, 0),
		VM_CPUID_EBX);
	*late = 0x0304d000;
	ck_assert_uint_eq(leaf(&m, 7, 0)->edx, 0);
	ck_assert_uint_eq(leaf(&other, 7, 0)->edx, 0x10000000);
	cpu_template_leaf(other.cpuid, other.n_cpuid, 7, 0)->edx = 0;
	same_but(&m, &other, 0x80000021, 0);
	ck_assert_uint_eq(m.n_msr_mods, 0);
}
END_TEST

START_TEST(level_2_is_exactly_its_features)
{
	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_V2);
	ck_assert_uint_eq(must(0, 0)->eax, 0xb);
	ck_assert_uint_eq(must(0, 0)->ebx, 0x756e6547);
	ck_assert_uint_eq(must(1, 0)->eax, 0x00050654);
	ck_assert_uint_eq(must(1, 0)->ebx, 0x800);
	ck_assert_uint_eq(must(1, 0)->ecx, 0x00982201);
	ck_assert_uint_eq(must(1, 0)->edx, 0x078bfbfd);
	ck_assert_uint_eq(must(7, 0)->eax, 2);
	ck_assert_uint_eq(must(7, 0)->ebx, 0);
	ck_assert_uint_eq(must(7, 0)->ecx, 0);
	ck_assert_uint_eq(must(7, 0)->edx, 0xac000400);
	ck_assert_ptr_null(leaf(&m, 7, 1));
	ck_assert_ptr_null(leaf(&m, 0xd, 0));
	ck_assert_uint_eq(must(0x80000001, 0)->ecx, 1);
	ck_assert_uint_eq(must(0x80000001, 0)->edx, 0x28100800);
}
END_TEST

START_TEST(level_3_is_exactly_its_features)
{
	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(must(0, 0)->eax, 0xd);
	ck_assert_uint_eq(must(1, 0)->ecx, 0x76d83203);
	ck_assert_uint_eq(must(7, 0)->ebx, 0x1a9);
	ck_assert_uint_eq(must(7, 0)->ecx, 0);
	ck_assert_uint_eq(must(0xd, 0)->eax, 7);
	ck_assert_uint_eq(must(0xd, 0)->ebx, 576);
	ck_assert_uint_eq(must(0xd, 0)->ecx, 832);
	ck_assert_uint_eq(must(0xd, 1)->eax, 1);
	ck_assert_uint_eq(must(0xd, 1)->ecx | must(0xd, 1)->edx, 0);
	ck_assert_uint_eq(must(0xd, 2)->eax, 256);
	ck_assert_uint_eq(must(0xd, 2)->ebx, 576);
	ck_assert_ptr_null(leaf(&m, 0xd, 5));
	ck_assert_uint_eq(must(0x80000001, 0)->ecx, 0x21);
	ck_assert_uint_eq(must(0x80000001, 0)->edx, 0x2c100800);
}
END_TEST

START_TEST(level_4_is_exactly_its_features)
{
	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_V4);
	ck_assert_uint_eq(must(1, 0)->ecx, 0x76da3203);
	ck_assert_uint_eq(must(7, 0)->ebx, 0xd19f07a9);
	ck_assert_uint_eq(must(0xd, 0)->eax, 0xe7);
	ck_assert_uint_eq(must(0xd, 0)->ecx, 2688);
	ck_assert_uint_eq(must(0xd, 1)->eax, 0xf);
	ck_assert_uint_eq(must(0xd, 7)->ebx, 1664);
	ck_assert_ptr_null(leaf(&m, 0xd, 9));
	ck_assert_ptr_null(leaf(&m, 0xd, 17));
	ck_assert_ptr_null(leaf(&m, 0x14, 0));
	ck_assert_ptr_null(leaf(&m, 0x1d, 0));
}
END_TEST

START_TEST(amd_has_its_own_xsave_layout_and_repeated_features)
{
	HOST(&m, host_genoa);
	apply(&m, VM_CPU_TEMPLATE_V4);
	ck_assert_uint_eq(must(0xd, 0)->ecx, 2432);
	ck_assert_uint_eq(must(1, 0)->eax, 0x00a10f11);
	ck_assert_uint_eq(must(0x80000001, 0)->eax, 0x00a10f11);
	ck_assert_uint_eq(must(0x80000001, 0)->ecx, 0x00400021);
	ck_assert_uint_eq(must(0x80000001, 0)->edx, 0x2d93fbfd);
	ck_assert_uint_eq(must(0x80000000, 0)->eax, 0x80000021);
	ck_assert_uint_eq(must(0x80000000, 0)->ebx, 0x68747541);
	ck_assert_ptr_nonnull(leaf(&m, 0x8000001e, 0));
	HOST(&m, host_genoa);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(must(1, 0)->eax, 0x00830f10);
	ck_assert_uint_eq(must(0xd, 0)->ecx, 832);
}
END_TEST

START_TEST(what_a_level_fixes_is_the_same_everywhere)
{
	static const struct msg_cpuid_entry wanted[] = {
		{2, 0, 0, 0x00feff01, 0xf0, 0, 0},
		{4, 0, 1, 0x121, 0x01c0003f, 0x3f, 0},
		{4, 1, 1, 0x122, 0x01c0003f, 0x3f, 0},
		{4, 2, 1, 0x143, 0x03c0003f, 0x3ff, 0},
		{4, 3, 1, 0x163, 0x03c0003f, 0x3fff, 0},
		{0x80000000, 0, 0, 0x80000008, 0, 0, 0},
		{0x80000006, 0, 0, 0, 0, 0x04008040, 0},
		{0x80000007, 0, 0, 0, 0, 0, 0x100},
		{0x80000008, 0, 0, 0x3028, 0x0100d000, 0, 0},
		{0x40000001, 0, 0, 0x01007efb, 0, 0, 0},
	};
	char brand[48];

	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_V3);
	for (size_t i = 0; i < N(wanted); i++)
		ck_assert_mem_eq(must(wanted[i].function, wanted[i].index),
			&wanted[i], sizeof(wanted[i]));
	for (uint32_t i = 0; i < 3; i++)
		memcpy(brand + 16 * (size_t)i, &must(0x80000002 + i, 0)->eax,
			16);
	ck_assert_str_eq(brand, "Mayfly x86-64-v3");
	ck_assert_uint_eq(must(0xd, 2)->flags, 1);
	ck_assert_uint_eq(must(7, 0)->flags, 1);
	ck_assert_uint_eq(must(1, 0)->flags, 0);
	HOST(&m, host_rome);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(must(0x8000001d, 3)->flags, 1);
}
END_TEST

/* T2S's T2: it claims no immunity, so that mitigations stay on. */
START_TEST(a_level_is_immune_from_nothing)
{
	HOST(&m, host_skylake);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(m.n_cpuid_mods, 0);
	ck_assert_uint_eq(m.n_msr_mods, 1);
	ck_assert_uint_eq(m.msr_mods[0].index, 0x10a);
	ck_assert_uint_eq(m.msr_mods[0].keep, 0);
	ck_assert_uint_eq(m.msr_mods[0].set, 0x4c);
	/* The guest cannot see the register: it is not touched. */
	HOST(&m, host_skylake);
	cpu_template_leaf(m.cpuid, m.n_cpuid, 7, 0)->edx &= ~(1u << 29);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(m.n_msr_mods, 0);
}
END_TEST

START_TEST(a_real_amd_table_gives_level_3)
{
	HOST(&m, host_emulated_amd);
	apply(&m, VM_CPU_TEMPLATE_V3);
	ck_assert_uint_eq(must(1, 0)->ecx, 0x76d83203);
	ck_assert_uint_eq(must(7, 0)->ebx, 0x1a9);
	ck_assert_uint_eq(must(7, 0)->edx, 0); /* it has the register */
	ck_assert_uint_eq(must(0xd, 0)->eax, 7);
}
END_TEST

START_TEST(what_a_host_lacks_is_named)
{
	HOST(&m, host_emulated_amd);
	refused(VM_CPU_TEMPLATE_V4,
		"this host lacks what x86-64-v4 has: pcid, invpcid, avx512f, "
		"avx512dq, rdseed, avx512cd, avx512bw, avx512vl and 5 more");
	HOST(&m, host_skylake);
	cpu_template_leaf(m.cpuid, m.n_cpuid, 7, 0)->ebx = 0x5000ffff;
	refused(VM_CPU_TEMPLATE_V4,
		"has: avx512f, avx512dq, rdseed, adx, smap, clflushopt, clwb, "
		"avx512vl");
	ck_assert_msg(strstr(err.msg, " more") == NULL, "%s", err.msg);
	HOST(&m, host_software);
	refused(VM_CPU_TEMPLATE_V2,
		"x86-64-v2 has: sse3, ssse3, sse4_1, sse4_2, popcnt, "
		"rdtscp");
	HOST(&m, host_rome);
	refused(VM_CPU_TEMPLATE_V4, "avx512f");
}
END_TEST

/* Each feature that a level has is asked of the host. */
static const struct {
	uint32_t leaf, index, reg, bit;
	const char *name;
} lacking[] = {
	{1, 0, VM_CPUID_ECX, 0, ": sse3"},
	{1, 0, VM_CPUID_EDX, 26, ": sse2"},
	{7, 0, VM_CPUID_EBX, 31, ": avx512vl"},
	{0xd, 0, VM_CPUID_EAX, 2, ": AVX state"},
	{0xd, 1, VM_CPUID_EAX, 3, ": xsaves"},
	{0x80000001, 0, VM_CPUID_ECX, 5, ": abm"},
	{0x80000001, 0, VM_CPUID_EDX, 29, ": lm"},
};

START_TEST(each_register_is_looked_at)
{
	uint32_t *reg;

	HOST(&m, host_sapphire_rapids);
	reg = cpu_template_reg(cpu_template_leaf(m.cpuid, m.n_cpuid,
				       lacking[_i].leaf, lacking[_i].index),
		lacking[_i].reg);
	*reg &= ~(1u << lacking[_i].bit);
	refused(VM_CPU_TEMPLATE_V4, lacking[_i].name);
}
END_TEST

START_TEST(addresses_have_to_be_wide_enough)
{
	static const struct {
		uint32_t eax;
		const char *words;
	} sizes[] = {{0x3027, ": 40 bits of phys"}, {0x2f28, ": 48 bits of"}};

	for (size_t i = 0; i < N(sizes); i++) {
		HOST(&m, host_skylake);
		cpu_template_leaf(m.cpuid, m.n_cpuid, 0x80000008, 0)->eax =
			sizes[i].eax;
		refused(VM_CPU_TEMPLATE_V2, sizes[i].words);
	}
}
END_TEST

START_TEST(other_vendors_are_refused)
{
	HOST(&m, host_skylake);
	m.cpuid[0].ebx++;
	refused(VM_CPU_TEMPLATE_V2, "Intel and AMD");
	refused(VM_CPU_TEMPLATE_T2, "for Intel hosts");
	m.n_cpuid = 0;
	refused(VM_CPU_TEMPLATE_V3, "Intel and AMD");
}
END_TEST

/* ---- Firecracker's ---- */

/* What the modifiers make of a register with all bits set, and with none. */
static void check_mod(uint32_t function, uint32_t index, uint32_t reg,
	uint32_t of_ones, uint32_t of_zeros)
{
	uint32_t ones = UINT32_MAX, zeros = 0;

	for (uint32_t i = 0; i < m.n_cpuid_mods; i++) {
		const struct msg_cpuid_mod *mod = &m.cpuid_mods[i];

		if (mod->leaf != function || mod->subleaf != index ||
			mod->reg != reg)
			continue;
		ones = (ones & mod->keep) | mod->set;
		zeros = (zeros & mod->keep) | mod->set;
	}
	ck_assert_msg(ones == of_ones && zeros == of_zeros,
		"leaf 0x%x.%u register %u: 0x%x 0x%x", function, index, reg,
		ones, zeros);
}

START_TEST(t2_is_a_haswell)
{
	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_T2);
	check_mod(1, 0, VM_CPUID_EAX, 0xf003c000 | 0x306f2, 0x306f2);
	check_mod(1, 0, VM_CPUID_ECX, ~0x4cdfcu, 0);
	check_mod(1, 0, VM_CPUID_EDX, 0x179bffff, 0x1080);
	check_mod(7, 0, VM_CPUID_EBX, 0x001027eb, 0x200);
	check_mod(7, 0, VM_CPUID_ECX, ~0x40415f5eu, 0);
	check_mod(7, 0, VM_CPUID_EDX, ~0x11cu, 0);
	check_mod(0xd, 0, VM_CPUID_EAX, ~0x2f8u, 0);
	check_mod(0xd, 1, VM_CPUID_EAX, ~0xeu, 0);
	check_mod(0x80000001, 0, VM_CPUID_ECX, ~0x20000100u, 0);
	check_mod(0x80000001, 0, VM_CPUID_EDX, ~0x04000000u, 0);
	check_mod(0x80000008, 0, VM_CPUID_EBX, ~0x200u, 0);
	ck_assert_uint_eq(m.n_cpuid_mods, 11);
	ck_assert_uint_eq(m.n_msr_mods, 0);
	ck_assert_uint_eq(m.cpuid_mods[3].flags, 1);
}
END_TEST

START_TEST(t2s_is_a_t2_immune_from_nothing)
{
	HOST(&m, host_skylake);
	HOST(&other, host_skylake);
	apply(&m, VM_CPU_TEMPLATE_T2S);
	apply(&other, VM_CPU_TEMPLATE_T2);
	ck_assert_uint_eq(m.n_cpuid_mods, other.n_cpuid_mods);
	ck_assert_mem_eq(m.cpuid_mods, other.cpuid_mods,
		m.n_cpuid_mods * sizeof(m.cpuid_mods[0]));
	ck_assert_uint_eq(m.n_msr_mods, 1);
	ck_assert_uint_eq(m.msr_mods[0].index, 0x10a);
	ck_assert_uint_eq(m.msr_mods[0].keep, 0);
	ck_assert_uint_eq(m.msr_mods[0].set, 0xc4c);
}
END_TEST

START_TEST(t2cl_wants_a_cascade_lake)
{
	HOST(&m, host_skylake);
	refused(VM_CPU_TEMPLATE_T2CL, "Cascade Lake");
	m.cpuid[1].eax = 0x00050657;
	apply(&m, VM_CPU_TEMPLATE_T2CL);
	check_mod(0x80000001, 0, VM_CPUID_ECX, ~0x200001c0u, 0);
	check_mod(0x80000001, 0, VM_CPUID_EDX, ~0x07c00000u, 0);
	ck_assert_uint_eq(m.n_msr_mods, 1);
	ck_assert_uint_eq(m.msr_mods[0].keep, 0x1d0ae1ff);
	ck_assert_uint_eq(m.msr_mods[0].set, 0);
	HOST(&m, host_sapphire_rapids);
	apply(&m, VM_CPU_TEMPLATE_T2CL);
	m.n_cpuid = 1; /* no leaf 1 to tell */
	refused(VM_CPU_TEMPLATE_T2CL, "Cascade Lake");
}
END_TEST

START_TEST(t2a_is_for_amd)
{
	HOST(&m, host_genoa);
	apply(&m, VM_CPU_TEMPLATE_T2A);
	check_mod(1, 0, VM_CPUID_EAX, 0xf003c000 | 0x306f2, 0x306f2);
	check_mod(0x80000001, 0, VM_CPUID_ECX, ~0x200001c4u, 0);
	check_mod(0x80000001, 0, VM_CPUID_EDX, ~0x06400000u, 0);
	check_mod(0x80000008, 0, VM_CPUID_EBX, 0xfffffdfe, 0x1c0004);
	HOST(&m, host_skylake);
	refused(VM_CPU_TEMPLATE_T2A, "T2A is for AMD hosts");
}
END_TEST

START_TEST(c3_is_an_ivy_bridge)
{
	HOST(&m, host_skylake);
	apply(&m, VM_CPU_TEMPLATE_C3);
	check_mod(1, 0, VM_CPUID_EAX, 0xf003c000 | 0x306e4, 0x306e4);
	check_mod(1, 0, VM_CPUID_ECX, ~0x40dd3cu, 0);
	check_mod(1, 0, VM_CPUID_EDX, 0x579bffff, 0x1080);
	check_mod(7, 0, VM_CPUID_EBX, 0x005022c3, 0);
	check_mod(0x80000001, 0, VM_CPUID_ECX, ~0x120u, 0);
	check_mod(0x80000008, 0, VM_CPUID_EBX, UINT32_MAX, 0);
	HOST(&m, host_rome);
	refused(VM_CPU_TEMPLATE_C3, "C3 is for Intel hosts");
}
END_TEST

START_TEST(what_is_none_of_them_is_refused)
{
	HOST(&m, host_skylake);
	refused(VM_CPU_TEMPLATE_T2S + 1, "no such");
	ck_assert_int_eq(cpu_instance_apply(0, &m, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpu_template");
	TCase *tc = tcase_create("level");
	TCase *tc_instance = tcase_create("instance");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, none_leaves_the_host_as_it_is);
	tcase_add_loop_test(
		tc, two_generations_of_intel_servers_show_one_cpu, 0, 3);
	tcase_add_loop_test(
		tc, two_generations_of_amd_servers_show_one_cpu, 0, 2);
	tcase_add_test(tc, level_2_is_exactly_its_features);
	tcase_add_test(tc, level_3_is_exactly_its_features);
	tcase_add_test(tc, level_4_is_exactly_its_features);
	tcase_add_test(tc, amd_has_its_own_xsave_layout_and_repeated_features);
	tcase_add_test(tc, what_a_level_fixes_is_the_same_everywhere);
	tcase_add_test(tc, a_level_is_immune_from_nothing);
	tcase_add_test(tc, a_real_amd_table_gives_level_3);
	tcase_add_test(tc, what_a_host_lacks_is_named);
	tcase_add_loop_test(tc, each_register_is_looked_at, 0, N(lacking));
	tcase_add_test(tc, addresses_have_to_be_wide_enough);
	tcase_add_test(tc, other_vendors_are_refused);
	suite_add_tcase(s, tc);

	tcase_add_test(tc_instance, t2_is_a_haswell);
	tcase_add_test(tc_instance, t2s_is_a_t2_immune_from_nothing);
	tcase_add_test(tc_instance, t2cl_wants_a_cascade_lake);
	tcase_add_test(tc_instance, t2a_is_for_amd);
	tcase_add_test(tc_instance, c3_is_an_ivy_bridge);
	tcase_add_test(tc_instance, what_is_none_of_them_is_refused);
	suite_add_tcase(s, tc_instance);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
