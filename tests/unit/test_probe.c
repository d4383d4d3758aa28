#include "tests/unit/fake_kvm.h"
#include "vmm/probe.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CPUID1_XSAVE (1u << 26)
#define CPUID1_CMPXCHG16B (1u << 13)
#define DONE_PORT 0x10

static struct kvm_probe p;
static struct error err;

static void setup(void)
{
	fake_kvm_reset();
	memset(&p, 0xa5, sizeof(p));
}

/* The loop is interrupted, by the probe's own alarm: nothing was counted. */
static int loop(struct kvm_run *run, void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED))
		;
	return -EINTR;
}

/* It was, and had counted this far. */
static int fast_loop(struct kvm_run *run, void *arg)
{
	int r = loop(run, arg);

	fake_kvm.vcpu[0].regs.rcx = 2000000000;
	return r;
}

static int done(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_IO;
	run->io.port = DONE_PORT;
	return 0;
}

static int broken(struct kvm_run *run, void *arg)
{
	(void)arg;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	return 0;
}

static int other_port(struct kvm_run *run, void *arg)
{
	done(run, arg);
	run->io.port = DONE_PORT + 1;
	return 0;
}

static void probe(const fake_step *steps, unsigned n)
{
	fake_kvm_script(0, steps, n, NULL);
	ck_assert_msg(kvm_probe(-1, &p, &err) == 0, "%s", err.msg);
}

START_TEST(a_fast_kvm_with_its_instructions_can)
{
	static const fake_step steps[] = {fast_loop, done, done};

	fake_kvm.supported = (struct kvm_cpuid_entry2){
		.function = 1, .ecx = CPUID1_XSAVE | CPUID1_CMPXCHG16B};
	probe(steps, 3);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_CAN);
	ck_assert_uint_ge(p.ring0_mips, 100);
	ck_assert_int_eq(p.xsave, KVM_INSN_WORKS);
	ck_assert_int_eq(p.cmpxchg16b, KVM_INSN_WORKS);
	ck_assert_int_eq(p.api_version, KVM_API_VERSION);
	for (unsigned i = 0; i < KVM_PROBE_CAPS; i++)
		ck_assert_int_eq(p.caps[i], 1);
	ck_assert_ptr_nonnull(strstr(p.reason, "can run Linux"));
	ck_assert_ptr_null(strstr(p.reason, "cannot"));
}
END_TEST

START_TEST(instructions_that_cpuid_does_not_offer_are_not_tried)
{
	static const fake_step steps[] = {fast_loop};

	fake_kvm.supported.function = 1;
	probe(steps, 1);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_CAN);
	ck_assert_int_eq(p.xsave, KVM_INSN_ABSENT);
	ck_assert_int_eq(p.cmpxchg16b, KVM_INSN_ABSENT);
}
END_TEST

START_TEST(a_slow_kvm_cannot)
{
	static const fake_step steps[] = {loop, loop, loop, loop, loop};

	probe(steps, 5);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_SOFTWARE);
	ck_assert_uint_eq(p.ring0_mips, 0);
	ck_assert_ptr_nonnull(
		strstr(p.reason, "software KVM, cannot run Linux"));
}
END_TEST

START_TEST(a_kvm_whose_instructions_fail_cannot)
{
	/* cmpxchg16b is tried first, then xsave */
	static const struct {
		fake_step steps[3];
		enum kvm_probe_insn xsave, cmpxchg16b;
		const char *without;
	} kinds[] = {
		{{fast_loop, done, broken}, KVM_INSN_FAILS, KVM_INSN_WORKS,
			", without XSAVE"},
		{{fast_loop, broken, done}, KVM_INSN_WORKS, KVM_INSN_FAILS,
			", without CMPXCHG16B"},
		{{fast_loop, other_port, broken}, KVM_INSN_FAILS,
			KVM_INSN_FAILS, ", without XSAVE and CMPXCHG16B"},
	};
	size_t end;

	fake_kvm.supported = (struct kvm_cpuid_entry2){
		.function = 1, .ecx = CPUID1_XSAVE | CPUID1_CMPXCHG16B};
	probe(kinds[_i].steps, 3);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_SOFTWARE);
	ck_assert_int_eq(p.xsave, kinds[_i].xsave);
	ck_assert_int_eq(p.cmpxchg16b, kinds[_i].cmpxchg16b);
	end = strlen(p.reason) - strlen(kinds[_i].without);
	ck_assert_str_eq(p.reason + end, kinds[_i].without);
}
END_TEST

START_TEST(another_api_version_is_unusable)
{
	fake_kvm.api_version = 11;
	probe(NULL, 0);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_UNUSABLE);
	ck_assert_str_eq(p.reason, "KVM's API has version 11, not 12");
}
END_TEST

START_TEST(a_missing_capability_is_unusable_if_it_is_needed)
{
	const struct kvm_probe_cap *cap = &kvm_probe_caps[_i];
	static const fake_step steps[] = {fast_loop};

	fake_kvm.missing_cap = (int)cap->cap;
	if (cap->cap == KVM_CAP_TSC_DEADLINE_TIMER)
		fake_kvm.tsc_deadline = false;
	probe(steps, 1);
	ck_assert_int_eq(p.caps[_i], 0);
	if (cap->required) {
		ck_assert_int_eq(p.verdict, KVM_VERDICT_UNUSABLE);
		ck_assert_ptr_nonnull(strstr(p.reason, cap->name));
	} else {
		ck_assert_int_eq(p.verdict, KVM_VERDICT_CAN);
	}
}
END_TEST

START_TEST(a_kvm_that_makes_no_vm_is_unusable)
{
	fake_kvm.fail[FAKE_CREATE_VM] = -ENOMEM;
	probe(NULL, 0);
	ck_assert_int_eq(p.verdict, KVM_VERDICT_UNUSABLE);
	ck_assert_ptr_nonnull(strstr(p.reason, strerror(ENOMEM)));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("probe");
	TCase *tc = tcase_create("probe");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, a_fast_kvm_with_its_instructions_can);
	tcase_add_test(
		tc, instructions_that_cpuid_does_not_offer_are_not_tried);
	tcase_add_test(tc, a_slow_kvm_cannot);
	tcase_add_loop_test(tc, a_kvm_whose_instructions_fail_cannot, 0, 3);
	tcase_add_test(tc, another_api_version_is_unusable);
	tcase_add_loop_test(tc,
		a_missing_capability_is_unusable_if_it_is_needed, 0,
		KVM_PROBE_CAPS);
	tcase_add_test(tc, a_kvm_that_makes_no_vm_is_unusable);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
