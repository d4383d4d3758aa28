#include "tests/unit/fake_kvm.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/msrs.h"
#include "vmm/regs.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static int vcpu;
static struct fake_vcpu *v;

static void setup(void)
{
	fake_kvm_reset();
	vcpu = kvm_create_vcpu(-1, 0);
	v = &fake_kvm.vcpu[0];
	v->sregs.apic_base = 0xfee00900;
}

START_TEST(linux64_entry_is_in_long_mode)
{
	const struct boot_entry e = {BOOT_LINUX64, 0x1000200, 0x7000};

	ck_assert_int_eq(regs_set_boot(vcpu, &e), 0);
	ck_assert_uint_eq(v->regs.rip, 0x1000200);
	ck_assert_uint_eq(v->regs.rsi, 0x7000);
	ck_assert_uint_eq(v->regs.rbx, 0);
	ck_assert_uint_eq(v->regs.rflags, 2); /* interrupts off */
	ck_assert_uint_eq(v->sregs.cr0, 0x80000011);
	ck_assert_uint_eq(v->sregs.cr3, LAYOUT_PML4);
	ck_assert_uint_eq(v->sregs.cr4, 0x20);
	ck_assert_uint_eq(v->sregs.efer, 0x500);
	ck_assert_uint_eq(v->sregs.cs.selector, 0x10);
	ck_assert_uint_eq(v->sregs.cs.l, 1);
	ck_assert_uint_eq(v->sregs.cs.db, 0);
	ck_assert_uint_eq(v->sregs.ds.selector, 0x18);
	ck_assert_uint_eq(v->sregs.gdt.base, LAYOUT_GDT);
	ck_assert_uint_eq(v->sregs.gdt.limit, BOOT_GDT_BYTES - 1);
	ck_assert_uint_eq(v->sregs.apic_base, 0xfee00900); /* untouched */
}
END_TEST

START_TEST(pvh_entry_is_in_flat_protected_mode)
{
	const struct boot_entry e = {BOOT_PVH, 0x1000000, 0x6000};

	v->sregs.cr4 = 0x20;
	v->sregs.efer = 0x500;
	ck_assert_int_eq(regs_set_boot(vcpu, &e), 0);
	ck_assert_uint_eq(v->regs.rip, 0x1000000);
	ck_assert_uint_eq(v->regs.rbx, 0x6000);
	ck_assert_uint_eq(v->regs.rsi, 0);
	ck_assert_uint_eq(v->regs.rflags, 2);
	ck_assert_uint_eq(v->sregs.cr0, 0x11);
	ck_assert_uint_eq(v->sregs.cr4, 0);
	ck_assert_uint_eq(v->sregs.efer, 0);
	ck_assert_uint_eq(v->sregs.cs.l, 0);
	ck_assert_uint_eq(v->sregs.cs.db, 1);
	ck_assert_uint_eq(v->sregs.cs.limit, 0xffffffff);
	ck_assert_uint_eq(v->sregs.ss.limit, 0xffffffff);
	ck_assert_uint_eq(v->sregs.ss.base, 0);
	ck_assert_uint_eq(v->sregs.tr.limit, 0x67);
	ck_assert_uint_eq(v->sregs.tr.type, 11);
}
END_TEST

START_TEST(what_kvm_refuses_is_reported)
{
	const struct boot_entry e = {BOOT_PVH, 0x1000000, 0x6000};

	fake_kvm.fail[FAKE_SREGS] = -EINVAL;
	ck_assert_int_eq(regs_set_boot(vcpu, &e), -EINVAL);
	fake_kvm.fail[FAKE_SREGS] = 0;
	fake_kvm.fail[FAKE_REGS] = -EBUSY;
	ck_assert_int_eq(regs_set_boot(vcpu, &e), -EBUSY);
	fake_kvm.fail[FAKE_MSRS] = -EFAULT;
	ck_assert_int_eq(msrs_set_boot(vcpu), -EFAULT);
}
END_TEST

START_TEST(memory_is_write_back_and_strings_are_fast)
{
	ck_assert_int_eq(msrs_set_boot(vcpu), 0);
	ck_assert_uint_eq(v->n_msrs, 2);
	ck_assert_uint_eq(v->msrs[0].index, 0x2ff);
	ck_assert_uint_eq(v->msrs[0].data, 0x806);
	ck_assert_uint_eq(v->msrs[1].index, 0x1a0);
	ck_assert_uint_eq(v->msrs[1].data, 0x1801);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("regs");
	TCase *tc = tcase_create("boot");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, linux64_entry_is_in_long_mode);
	tcase_add_test(tc, pvh_entry_is_in_flat_protected_mode);
	tcase_add_test(tc, what_kvm_refuses_is_reported);
	tcase_add_test(tc, memory_is_write_back_and_strings_are_fast);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
