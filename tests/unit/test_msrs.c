#include "vmm/msrs.h"

#include "tests/unit/fake_kvm.h"
#include "vmm/kvm.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct error err;
static int vcpu;

static void setup(void)
{
	fake_kvm_reset();
	vcpu = kvm_create_vcpu(-1, 0);
}

static void teardown(void)
{
	close(vcpu);
}

static const struct msg_msr_mod mods[] = {
	{.index = 0x10a, .keep = 0xff00000000000000, .set = 0x4c},
	{.index = 0x48, .keep = UINT64_MAX, .set = 1},
	{.index = 0x10a, .keep = ~4ull, .set = 1}, /* once more */
};

START_TEST(registers_are_read_changed_and_written_in_their_order)
{
	fake_kvm.msr_reset = 0x1234567800000030;
	ck_assert_int_eq(msrs_modify(vcpu, mods, 3, &err), 0);
	ck_assert_uint_eq(fake_kvm.vcpu[0].n_msrs, 2);
	ck_assert_uint_eq(fake_kvm.vcpu[0].msrs[0].data, 0x1200000000000049);
	ck_assert_uint_eq(fake_kvm.vcpu[0].msrs[1].data, 0x1234567800000031);
}
END_TEST

START_TEST(boot_registers_are_set_and_what_kvm_says_is_passed_on)
{
	ck_assert_int_eq(msrs_set_boot(vcpu), 0);
	ck_assert_uint_eq(fake_kvm.vcpu[0].n_msrs, 2);
	ck_assert_uint_eq(fake_kvm.vcpu[0].msrs[0].index, 0x2ff);
	ck_assert_uint_eq(fake_kvm.vcpu[0].msrs[0].data, 0x806);
	ck_assert_uint_eq(fake_kvm.vcpu[0].msrs[1].index, 0x1a0);
	fake_kvm.fail[FAKE_MSRS] = -EFAULT;
	ck_assert_int_eq(msrs_set_boot(vcpu), -EFAULT);
}
END_TEST

START_TEST(no_modifiers_touch_no_register)
{
	ck_assert_int_eq(msrs_modify(vcpu, NULL, 0, &err), 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_GET_MSRS], 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MSRS], 0);
}
END_TEST

START_TEST(a_register_kvm_does_not_have_is_named)
{
	fake_kvm.unknown_msr = 0x48;
	ck_assert_int_eq(msrs_modify(vcpu, mods, 3, &err), -EINVAL);
	ck_assert_str_eq(err.field, "cpu-config.msr_modifiers");
	ck_assert_str_eq(err.msg, "this host's KVM has no MSR 0x48");
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MSRS], 1); /* none after it */
}
END_TEST

START_TEST(a_value_kvm_does_not_take_is_named)
{
	fake_kvm.fixed_msr = 0x48;
	ck_assert_int_eq(msrs_modify(vcpu, mods, 3, &err), -EINVAL);
	ck_assert_str_eq(err.field, "cpu-config.msr_modifiers");
	ck_assert_str_eq(
		err.msg, "this host's KVM does not let MSR 0x48 be 0x1");
}
END_TEST

static const enum fake_call calls[] = {FAKE_GET_MSRS, FAKE_MSRS};

START_TEST(a_call_that_fails_is_an_error)
{
	fake_kvm.fail[calls[_i]] = -EFAULT;
	ck_assert_int_eq(msrs_modify(vcpu, mods, 1, &err), -EFAULT);
	ck_assert_str_eq(err.field, "cpu-config.msr_modifiers");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("msrs");
	TCase *tc = tcase_create("modify");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, registers_are_read_changed_and_written_in_their_order);
	tcase_add_test(
		tc, boot_registers_are_set_and_what_kvm_says_is_passed_on);
	tcase_add_test(tc, no_modifiers_touch_no_register);
	tcase_add_test(tc, a_register_kvm_does_not_have_is_named);
	tcase_add_test(tc, a_value_kvm_does_not_take_is_named);
	tcase_add_loop_test(tc, a_call_that_fails_is_an_error, 0, 2);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
