#include "api/json.h"
#include "api/resources.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vm_config c;
static struct error err;

static void setup(void)
{
	vm_config_init(&c);
}

static void teardown(void)
{
	vm_config_fini(&c);
}

static int read_text(const char *text)
{
	_cleanup_json_ struct json_object *o =
		json_parse(text, strlen(text), &err);

	ck_assert_msg(o != NULL, "%s", err.msg);
	return cpu_config_read(o, &c, &err);
}

static void taken(const char *text)
{
	ck_assert_msg(read_text(text) == 0, "%s: %s", err.field, err.msg);
}

static void shown_as(const char *text)
{
	_cleanup_json_ struct json_object *shown = cpu_config_write(&c), *want;

	want = json_parse(text, strlen(text), &err);
	ck_assert_ptr_nonnull(want);
	ck_assert_msg(json_object_equal(shown, want), "%s",
		json_object_to_json_string(shown));
}

/* Firecracker's own example. */
START_TEST(an_example_is_read_to_the_bit)
{
	taken("{\"kvm_capabilities\": [\"!56\", \"121\"], \"cpuid_modifiers\": "
	      "["
	      "{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 0, "
	      "\"modifiers\": [{\"register\": \"eax\", \"bitmap\": "
	      "\"0bxxxx000000000011xx00011011110010\"}]}], "
	      "\"msr_modifiers\": [{\"addr\": \"0x10a\", \"bitmap\": "
	      "\"0b0000000000000000000000000000000000000000000000000000000000"
	      "000000\"}]}");
	ck_assert_uint_eq(c.cpu.n_caps, 2);
	ck_assert(c.cpu.caps[0].not_needed && !c.cpu.caps[1].not_needed);
	ck_assert_uint_eq(c.cpu.caps[0].cap, 56);
	ck_assert_uint_eq(c.cpu.caps[1].cap, 121);
	ck_assert_uint_eq(c.cpu.n_cpuid, 1);
	ck_assert_uint_eq(c.cpu.cpuid[0].leaf, 1);
	ck_assert_uint_eq(c.cpu.cpuid[0].reg, VM_CPUID_EAX);
	ck_assert_uint_eq(c.cpu.cpuid[0].keep, 0xf000c000);
	ck_assert_uint_eq(c.cpu.cpuid[0].set, 0x000306f2);
	ck_assert_uint_eq(c.cpu.n_msrs, 1);
	ck_assert_uint_eq(c.cpu.msrs[0].index, 0x10a);
	ck_assert_uint_eq(c.cpu.msrs[0].keep, 0);
	ck_assert_uint_eq(c.cpu.msrs[0].set, 0);
}
END_TEST

START_TEST(a_short_bitmap_leaves_the_rest_as_it_is)
{
	taken("{\"cpuid_modifiers\": [{\"leaf\": \"0b111\", \"subleaf\": "
	      "\"0xffffffff\", \"flags\": 7, \"modifiers\": ["
	      "{\"register\": \"edx\", \"bitmap\": \"0b1_0x_\"},"
	      "{\"register\": \"ecx\", \"bitmap\": \"0b0\"}]}],"
	      "\"msr_modifiers\": [{\"addr\": \"0xC0000080\", \"bitmap\": "
	      "\"0b1xx\"}]}");
	ck_assert_uint_eq(c.cpu.n_cpuid, 2);
	ck_assert_uint_eq(c.cpu.cpuid[0].leaf, 7);
	ck_assert_uint_eq(c.cpu.cpuid[0].subleaf, UINT32_MAX);
	ck_assert_uint_eq(c.cpu.cpuid[0].flags, 7);
	ck_assert_uint_eq(c.cpu.cpuid[0].reg, VM_CPUID_EDX);
	ck_assert_uint_eq(c.cpu.cpuid[0].keep, ~6u);
	ck_assert_uint_eq(c.cpu.cpuid[0].set, 4);
	ck_assert_uint_eq(c.cpu.cpuid[1].reg, VM_CPUID_ECX);
	ck_assert_uint_eq(c.cpu.cpuid[1].keep, ~1u);
	ck_assert_uint_eq(c.cpu.cpuid[1].set, 0);
	ck_assert_uint_eq(c.cpu.msrs[0].index, 0xc0000080);
	ck_assert_uint_eq(c.cpu.msrs[0].keep, ~4ull);
	ck_assert_uint_eq(c.cpu.msrs[0].set, 4);
}
END_TEST

START_TEST(what_is_read_is_shown_by_leaves)
{
	static const char text[] =
		"{\"kvm_capabilities\": [\"!1\", \"2147483647\"],"
		"\"cpuid_modifiers\": [{\"leaf\": \"0x7\", \"subleaf\": "
		"\"0x1\","
		"\"flags\": 1, \"modifiers\": ["
		"{\"register\": \"ebx\","
		"\"bitmap\": \"0b01xxxxxxxxxxxxxxxxxxxxxxxxxxxxx1\"},"
		"{\"register\": \"eax\","
		"\"bitmap\": \"0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0\"}]},"
		"{\"leaf\": \"0x7\", \"subleaf\": \"0x0\",\"flags\": 1,"
		"\"modifiers\": [{\"register\": \"eax\","
		"\"bitmap\": \"0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0\"}]}],"
		"\"msr_modifiers\": [{\"addr\": \"0x10a\", \"bitmap\": \"0b1x0x"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"\"}]}";

	taken(text);
	shown_as(text);
}
END_TEST

START_TEST(nothing_is_shown_as_nothing)
{
	taken("{}");
	ck_assert_ptr_null(cpu_config_write(&c));
	taken("{\"kvm_capabilities\": null, \"cpuid_modifiers\": [],"
	      "\"msr_modifiers\": [], \"vcpu_features\": [], "
	      "\"reg_modifiers\": null}");
	ck_assert_ptr_null(cpu_config_write(&c));
}
END_TEST

START_TEST(a_later_one_replaces_an_earlier_one)
{
	taken("{\"kvm_capabilities\": [\"1\"], \"msr_modifiers\": [{\"addr\": "
	      "\"0x1\", \"bitmap\": \"0b1\"}]}");
	taken("{\"kvm_capabilities\": [\"2\"]}");
	shown_as("{\"kvm_capabilities\": [\"2\"], \"cpuid_modifiers\": [], "
		 "\"msr_modifiers\": []}");
}
END_TEST

START_TEST(a_template_and_a_configuration_exclude_each_other)
{
	_cleanup_json_ struct json_object *machine = NULL;
	static const char text[] = "{\"vcpu_count\": 1, \"mem_size_mib\": 1, "
				   "\"cpu_template\": \"x86-64-v3\"}";

	taken("{\"kvm_capabilities\": [\"1\"]}");
	machine = json_parse(text, strlen(text), &err);
	ck_assert_int_eq(machine_config_read(machine, false, &c, &err), 0);
	ck_assert_uint_eq(c.machine_config.cpu_template, VM_CPU_TEMPLATE_V3);
	ck_assert_ptr_null(cpu_config_write(&c));
	ck_assert_int_eq(read_text("{\"kvm_capabilities\": [\"1\"]}"), -EINVAL);
	ck_assert_str_eq(err.field, "cpu-config");
}
END_TEST

#define LEAF(leaf, subleaf, flags, mods)                                       \
	"{\"cpuid_modifiers\": [{\"leaf\": " leaf ", \"subleaf\": " subleaf    \
	", \"flags\": " flags ", \"modifiers\": " mods "}]}"
#define REG(reg, bitmap)                                                       \
	LEAF("\"0x1\"", "\"0x0\"", "0",                                        \
		"[{\"register\": " reg ", \"bitmap\": " bitmap "}]")
#define EAX "[{\"register\": \"eax\", \"bitmap\": \"0b1\"}]"
#define MSR(addr, bitmap)                                                      \
	"{\"msr_modifiers\": [{\"addr\": " addr ", \"bitmap\": " bitmap "}]}"
#define ONES8 "11111111"
#define ONES32 ONES8 ONES8 ONES8 ONES8
#define LEAF_FIELD "cpu-config.cpuid_modifiers[0]."
#define REG_FIELD LEAF_FIELD "modifiers[0]."
#define MSR_FIELD "cpu-config.msr_modifiers[0]."

static const struct {
	const char *text, *field, *words;
} malformed[] = {
	{"{\"cpuid\": []}", "cpu-config.cpuid", "is not a known"},
	{"{\"vcpu_features\": [{\"index\": 0, \"bitmap\": \"0b1\"}]}",
		"cpu-config.vcpu_features", "is for Arm hosts only"},
	{"{\"reg_modifiers\": [1]}", "cpu-config.reg_modifiers", "Arm"},
	{"{\"reg_modifiers\": {}}", "cpu-config.reg_modifiers", "Arm"},
	/* capabilities */
	{"{\"kvm_capabilities\": \"1\"}", "cpu-config.kvm_capabilities",
		"must be an array"},
	{"{\"kvm_capabilities\": [1]}", "cpu-config.kvm_capabilities[0]",
		"must be \"N\" or \"!N\""},
	{"{\"kvm_capabilities\": [null]}", "cpu-config.kvm_capabilities[0]",
		"between 0 and 2147483647"},
	{"{\"kvm_capabilities\": [\"\"]}", "cpu-config.kvm_capabilities[0]",
		"must be"},
	{"{\"kvm_capabilities\": [\"1\", \"!\"]}",
		"cpu-config.kvm_capabilities[1]", "must be"},
	{"{\"kvm_capabilities\": [\"!!1\"]}", "cpu-config.kvm_capabilities[0]",
		"must be"},
	{"{\"kvm_capabilities\": [\"0x1\"]}", "cpu-config.kvm_capabilities[0]",
		"must be"},
	{"{\"kvm_capabilities\": [\"-1\"]}", "cpu-config.kvm_capabilities[0]",
		"must be"},
	{"{\"kvm_capabilities\": [\"2147483648\"]}",
		"cpu-config.kvm_capabilities[0]", "must be"},
	{"{\"kvm_capabilities\": [\"99999999999999999999999999\"]}",
		"cpu-config.kvm_capabilities[0]", "must be"},
	/* leaves */
	{"{\"cpuid_modifiers\": {}}", "cpu-config.cpuid_modifiers",
		"must be an array"},
	{"{\"cpuid_modifiers\": [1]}", "cpu-config.cpuid_modifiers[0]",
		"must be an object"},
	{"{\"cpuid_modifiers\": [null]}", "cpu-config.cpuid_modifiers[0]",
		"must be an object"},
	{"{\"cpuid_modifiers\": [{}]}", LEAF_FIELD "leaf", "is missing"},
	{LEAF("1", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "a string"},
	{LEAF("\"1\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf",
		"must be a number of 32 bits, as \"0x..\" or \"0b..\""},
	{LEAF("\"0x\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be"},
	{LEAF("\"0b2\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be"},
	{LEAF("\"0xg\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be"},
	{LEAF("\"0x100000000\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf",
		"must be"},
	{LEAF("\"0x1_0\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be"},
	{LEAF("\" 0x1\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be"},
	{LEAF("\"\"", "\"0x0\"", "0", EAX), LEAF_FIELD "leaf", "must be 1 to"},
	{LEAF("\"0x1\"", "\"0b" ONES32 "0\"", "0", EAX), LEAF_FIELD "subleaf",
		"must be a number of 32 bits"},
	{LEAF("\"0x1\"", "null", "0", EAX), LEAF_FIELD "subleaf", "is missing"},
	{LEAF("\"0x1\"", "\"0x0\"", "8", EAX), LEAF_FIELD "flags",
		"must be between 0 and 7"},
	{LEAF("\"0x1\"", "\"0x0\"", "-1", EAX), LEAF_FIELD "flags",
		"must be between"},
	{LEAF("\"0x1\"", "\"0x0\"", "\"0\"", EAX), LEAF_FIELD "flags",
		"must be an integer"},
	{LEAF("\"0x1\"", "\"0x0\"", "null", EAX), LEAF_FIELD "flags",
		"is missing"},
	{LEAF("\"0x1\"", "\"0x0\"", "0", "null"), LEAF_FIELD "modifiers",
		"is missing"},
	{LEAF("\"0x1\"", "\"0x0\"", "0", "[]"), LEAF_FIELD "modifiers",
		"must hold 1 to 256 registers"},
	{LEAF("\"0x1\"", "\"0x0\"", "0", "{}"), LEAF_FIELD "modifiers",
		"must be an array"},
	{LEAF("\"0x1\"", "\"0x0\"", "0", "[7]"), LEAF_FIELD "modifiers[0]",
		"must be an object"},
	/* registers */
	{REG("\"rax\"", "\"0b1\""), REG_FIELD "register",
		"must be \"eax\" or \"ebx\" or \"ecx\" or \"edx\""},
	{REG("\"EAX\"", "\"0b1\""), REG_FIELD "register", "must be"},
	{REG("0", "\"0b1\""), REG_FIELD "register", "must be"},
	{REG("null", "\"0b1\""), REG_FIELD "register", "is missing"},
	{REG("\"eax\"", "null"), REG_FIELD "bitmap", "is missing"},
	{REG("\"eax\"", "1"), REG_FIELD "bitmap", "must be a string"},
	{REG("\"eax\"", "\"\""), REG_FIELD "bitmap", "must be 1 to"},
	{REG("\"eax\"", "\"1\""), REG_FIELD "bitmap",
		"must be \"0b\" and 1 to 32 of 0, 1 and x"},
	{REG("\"eax\"", "\"0b\""), REG_FIELD "bitmap", "must be"},
	{REG("\"eax\"", "\"0b_\""), REG_FIELD "bitmap", "must be"},
	{REG("\"eax\"", "\"0x1\""), REG_FIELD "bitmap", "must be"},
	{REG("\"eax\"", "\"0b2\""), REG_FIELD "bitmap", "must be"},
	{REG("\"eax\"", "\"0bX\""), REG_FIELD "bitmap", "must be"},
	{REG("\"eax\"", "\"0b" ONES32 "x\""), REG_FIELD "bitmap", "must be"},
	/* MSRs */
	{"{\"msr_modifiers\": 1}", "cpu-config.msr_modifiers", "an array"},
	{"{\"msr_modifiers\": [[]]}", "cpu-config.msr_modifiers[0]",
		"must be an object"},
	{MSR("266", "\"0b1\""), MSR_FIELD "addr", "must be a string"},
	{MSR("\"266\"", "\"0b1\""), MSR_FIELD "addr", "must be a number"},
	{MSR("\"0x1\"", "null"), MSR_FIELD "bitmap", "is missing"},
	{MSR("\"0x1\"", "\"0b" ONES32 ONES32 "1\""), MSR_FIELD "bitmap",
		"must be \"0b\" and 1 to 64"},
	{"{\"msr_modifiers\": [{\"addr\": \"0x1\", \"bitmap\": \"0b1\", "
	 "\"x\": 1}]}",
		MSR_FIELD "x", "is not a known field"},
};

START_TEST(what_is_malformed_is_refused_by_name)
{
	ck_assert_int_eq(read_text(malformed[_i].text), -EINVAL);
	ck_assert_str_eq(err.field, malformed[_i].field);
	ck_assert_msg(strstr(err.msg, malformed[_i].words) != NULL, "%s: %s",
		malformed[_i].text, err.msg);
}
END_TEST

/* n times one element: what an array may hold, and one more. */
static const struct {
	const char *before, *element, *after, *field;
	unsigned max;
} limits[] = {
	{"{\"kvm_capabilities\": [", "\"1\"", "]}",
		"cpu-config.kvm_capabilities", VM_MAX_KVM_CAPS},
	{"{\"msr_modifiers\": [", "{\"addr\": \"0x1\", \"bitmap\": \"0b1\"}",
		"]}", "cpu-config.msr_modifiers", VM_MAX_MSR_MODS},
	{"{\"cpuid_modifiers\": [{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", "
	 "\"flags\": 0, \"modifiers\": [",
		"{\"register\": \"eax\", \"bitmap\": \"0b1\"}", "]}]}",
		"cpu-config.cpuid_modifiers", VM_MAX_CPUID_MODS},
};

static char *repeat(unsigned limit, unsigned n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(f);
	fprintf(f, "%s", limits[limit].before);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%s%s", i ? "," : "", limits[limit].element);
	fprintf(f, "%s", limits[limit].after);
	fclose(f);
	return text;
}

START_TEST(there_is_room_for_so_many_and_no_more)
{
	char *text = repeat((unsigned)_i, limits[_i].max);

	taken(text);
	free(text);
	text = repeat((unsigned)_i, limits[_i].max + 1);
	ck_assert_int_eq(read_text(text), -EINVAL);
	ck_assert_str_eq(err.field, limits[_i].field);
	ck_assert_msg(strstr(err.msg, "at most") != NULL, "%s", err.msg);
	free(text);
}
END_TEST

START_TEST(a_copy_is_a_copy)
{
	struct vm_config copy;

	taken(REG("\"ebx\"", "\"0b1\""));
	ck_assert_int_eq(vm_config_copy(&copy, &c), 0);
	vm_config_fini(&c);
	c = copy;
	shown_as("{\"kvm_capabilities\": [], \"cpuid_modifiers\": [{\"leaf\": "
		 "\"0x1\", \"subleaf\": \"0x0\", \"flags\": 0, \"modifiers\": "
		 "[{\"register\": \"ebx\", \"bitmap\": "
		 "\"0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1\"}]}], "
		 "\"msr_modifiers\": []}");
}
END_TEST

int main(void)
{
	const int n_malformed = sizeof(malformed) / sizeof(malformed[0]);
	Suite *s = suite_create("cpu_config");
	TCase *tc = tcase_create("json");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_example_is_read_to_the_bit);
	tcase_add_test(tc, a_short_bitmap_leaves_the_rest_as_it_is);
	tcase_add_test(tc, what_is_read_is_shown_by_leaves);
	tcase_add_test(tc, nothing_is_shown_as_nothing);
	tcase_add_test(tc, a_later_one_replaces_an_earlier_one);
	tcase_add_test(tc, a_template_and_a_configuration_exclude_each_other);
	tcase_add_loop_test(
		tc, what_is_malformed_is_refused_by_name, 0, n_malformed);
	tcase_add_loop_test(tc, there_is_room_for_so_many_and_no_more, 0, 3);
	tcase_add_test(tc, a_copy_is_a_copy);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
