#include "tests/unit/kernel_images.h"
#include "tests/unit/vm_fixture.h"
#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static unsigned position(enum fake_call call)
{
	for (unsigned i = 0; i < fake_kvm.n_order; i++)
		if (fake_kvm.order[i] == call)
			return i;
	ck_abort_msg("call %d was not made", call);
	return 0;
}

/* ---- vm_create ---- */

START_TEST(memory_comes_before_the_irqchip_and_that_before_vcpus)
{
	vm_start_make(&s, 1);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_lt(position(FAKE_MEMORY), position(FAKE_IRQCHIP));
	ck_assert_uint_lt(position(FAKE_TSS), position(FAKE_IRQCHIP));
	ck_assert_uint_lt(position(FAKE_IDENTITY), position(FAKE_VCPU));
	ck_assert_uint_lt(position(FAKE_CAP), position(FAKE_VCPU));
	ck_assert_uint_lt(position(FAKE_IRQCHIP), position(FAKE_IRQFD));
	ck_assert_uint_lt(position(FAKE_IRQCHIP), position(FAKE_VCPU));
	ck_assert_uint_lt(position(FAKE_VCPU), position(FAKE_CPUID));
	ck_assert_uint_eq(fake_kvm.calls[FAKE_RUN], 0);
}
END_TEST

START_TEST(memory_goes_around_the_hole)
{
	vm_start_make(&s, 0);
	s.prep.prepare.mem_bytes = LAYOUT_HOLE + 64 * MIB;
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MEMORY], 2);
	ck_assert_uint_eq(fake_kvm.slots[0].gpa, 0);
	ck_assert_uint_eq(fake_kvm.slots[0].len, LAYOUT_HOLE);
	ck_assert_uint_eq(fake_kvm.slots[1].gpa, 1ull << 32);
	ck_assert_uint_eq(fake_kvm.slots[1].len, 64 * MIB);
}
END_TEST

START_TEST(each_drive_has_its_page_its_pin_and_its_kick)
{
	uint32_t magic = 0;

	vm_start_make(&s, 3);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IRQFD], 6);
	ck_assert_uint_eq(fake_kvm.irqfds[0].gsi, LAYOUT_IRQ_SERIAL);
	ck_assert_uint_eq(fake_kvm.irqfds[1].gsi, LAYOUT_IRQ_KEYBOARD);
	ck_assert_int_eq(fake_kvm.irqfds[0].fd, vm.serial_irq_fd);
	ck_assert_int_eq(fake_kvm.irqfds[1].fd, vm.keyboard_irq_fd);
	ck_assert_uint_eq(fake_kvm.irqfds[2].gsi, LAYOUT_IRQ_GENERATION);
	ck_assert_int_eq(fake_kvm.irqfds[2].fd, vm.generation_irq_fd);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IOEVENTFD], 3);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t gpa = 0xd0000000 + 0x1000 * (uint64_t)i;

		ck_assert_uint_eq(fake_kvm.irqfds[3 + i].gsi, 5 + i);
		ck_assert_int_eq(fake_kvm.irqfds[3 + i].fd, vm.slots[i].irq_fd);
		ck_assert_uint_eq(fake_kvm.ioeventfds[i].gpa, gpa + 0x50);
		ck_assert_uint_eq(fake_kvm.ioeventfds[i].match, 0);
		ck_assert_int_eq(fake_kvm.ioeventfds[i].fd,
			virtio_mmio_kick_fd(vm.slots[i].transport, 0));
		bus_read(&vm.mmio, gpa, &magic, 4);
		ck_assert_uint_eq(magic, 0x74726976);
	}
}
END_TEST

START_TEST(without_drives_there_is_no_worker)
{
	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_ptr_null(vm.workers[VM_WORKER_IO]);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IOEVENTFD], 0);
}
END_TEST

START_TEST(each_vcpu_is_set_up)
{
	vm_start_make(&s, 0);
	s.prep.prepare.vcpu_count = 3;
	ck_assert_msg(create() == 0, "%s", err.msg);
	for (unsigned i = 0; i < 3; i++) {
		const struct fake_vcpu *v = &fake_kvm.vcpu[i];

		ck_assert_uint_eq(v->n_msrs, 2);
		ck_assert_uint_eq(v->cpuid.entries[0].function, 1);
		ck_assert_uint_eq(v->cpuid.entries[0].ebx >> 24, i);
		ck_assert_uint_eq(v->cpuid.entries[0].ecx & 1u << 24, 1u << 24);
		/* The TSC's rate is KVM's. */
		for (unsigned k = 0; k < v->cpuid.nent; k++)
			if (v->cpuid.entries[k].function == 0x40000010)
				ck_assert_uint_eq(
					v->cpuid.entries[k].eax, 2500000);
	}
}
END_TEST

/* On every vCPU; the APIC id stays ours, whatever a modifier says. */
START_TEST(a_cpu_configuration_reaches_each_vcpu)
{
	vm_start_make(&s, 0);
	s.prep.prepare.vcpu_count = 2;
	s.prep.prepare.n_cpuid_mods = 2;
	s.prep.prepare.cpuid_mods[0] = (struct msg_cpuid_mod){
		.leaf = 1, .reg = VM_CPUID_EAX, .keep = 0xff, .set = 0x600};
	s.prep.prepare.cpuid_mods[1] = (struct msg_cpuid_mod){
		.leaf = 1, .reg = VM_CPUID_EBX, .set = 0x77000000};
	s.prep.prepare.cpuid[0].eax = 0xabcd;
	s.prep.prepare.n_msr_mods = 1;
	s.prep.prepare.msr_mods[0] =
		(struct msg_msr_mod){.index = 0x10a, .keep = 0xf0, .set = 1};
	fake_kvm.msr_reset = 0xabc;
	ck_assert_msg(create() == 0, "%s", err.msg);
	for (unsigned i = 0; i < 2; i++) {
		const struct fake_vcpu *v = &fake_kvm.vcpu[i];

		ck_assert_uint_eq(v->cpuid.entries[0].eax, 0x6cd);
		ck_assert_uint_eq(v->cpuid.entries[0].ebx >> 24, i);
		ck_assert_uint_eq(v->n_msrs, 3);
		ck_assert_uint_eq(v->msrs[2].index, 0x10a);
		ck_assert_uint_eq(v->msrs[2].data, 0xb1);
	}
}
END_TEST

START_TEST(a_cpu_configuration_kvm_refuses_is_told_by_its_field)
{
	vm_start_make(&s, 0);
	s.prep.prepare.n_cpuid_mods = 1;
	s.prep.prepare.cpuid_mods[0].leaf = 1;
	fake_kvm.fail[FAKE_CPUID] = -EINVAL;
	ck_assert_int_eq(create(), -EINVAL);
	ck_assert_str_eq(err.field, "cpu-config.cpuid_modifiers");
	teardown();
	setup();
	vm_start_make(&s, 0);
	s.prep.prepare.n_msr_mods = 1;
	s.prep.prepare.msr_mods[0].index = 0x1234;
	fake_kvm.unknown_msr = 0x1234;
	ck_assert_int_eq(create(), -EINVAL);
	ck_assert_str_eq(err.field, "cpu-config.msr_modifiers");
}
END_TEST

START_TEST(process_ready_is_when_main_began)
{
	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(s.shared->moments[VM_MOMENT_PROCESS_READY], 1234);
}
END_TEST

static const enum fake_call needed[] = {FAKE_CREATE_VM, FAKE_MEMORY, FAKE_TSS,
	FAKE_IDENTITY, FAKE_IRQCHIP, FAKE_IRQFD, FAKE_IOEVENTFD, FAKE_VCPU,
	FAKE_CPUID, FAKE_MSRS};
#define N_NEEDED ((int)(sizeof(needed) / sizeof(needed[0])))

START_TEST(what_kvm_refuses_fails_the_start)
{
	vm_start_make(&s, 1);
	fake_kvm.fail[needed[_i]] = -ENOSPC;
	ck_assert_int_eq(create(), -ENOSPC);
	ck_assert_int_eq(err.code, ENOSPC);
	ck_assert_str_ne(err.msg, "");
}
END_TEST

START_TEST(a_kvm_that_cannot_hide_its_counters_will_do)
{
	vm_start_make(&s, 0);
	fake_kvm.fail[FAKE_CAP] = -EINVAL;
	ck_assert_msg(create() == 0, "%s", err.msg);
}
END_TEST

/* The part that may lie ready for long: nothing in it is of one guest. */
START_TEST(a_prepared_machine_has_its_vcpus_and_no_device)
{
	vm_start_make(&s, 2);
	vm_start_add_pmem(&s, 4096, false);
	ck_assert_int_eq(vm_prepare(&vm, &s.prep.prepare, s.prep_fds, &err), 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MEMORY], 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_VCPU], 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CPUID], 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IRQFD], 3);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IOEVENTFD], 0);
	ck_assert_uint_eq(vm.n_slots, 0);
	ck_assert_ptr_null(vm.workers[VM_WORKER_IO]);
	ck_assert_msg(
		vm_create(&vm, &s.msg.start, s.fds, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MEMORY], 2);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_VCPU], 1);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IRQFD], 6);
	ck_assert_uint_eq(vm.n_slots, 3);
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_RUN], 0);
}
END_TEST

/* A drive has a queue for each vCPU, whichever message told their number. */
START_TEST(a_drive_has_a_queue_for_each_vcpu)
{
	vm_start_make(&s, 1);
	s.prep.prepare.vcpu_count = 3;
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IOEVENTFD], 3);
}
END_TEST

/* What is wrong with a message, and the field an API user is told. */
static const struct {
	const char *what, *field;
	int code;
} wrong[] = {
	{"protocol", "", EPROTO},
	{"no vCPU", "machine-config.vcpu_count", EINVAL},
	{"33 vCPUs", "machine-config.vcpu_count", EINVAL},
	{"no memory", "machine-config.mem_size_mib", EINVAL},
	{"shared size", "", EPROTO},
	{"shared file", "", EPROTO},
	{"shared version", "", EPROTO},
	{"console ring", "", EPROTO},
	{"seccomp", "", EINVAL},
};
#define N_WRONG ((int)(sizeof(wrong) / sizeof(wrong[0])))

START_TEST(a_message_that_makes_no_sense_is_refused)
{
	struct msg_prepare *m = &s.prep.prepare;
	const char *what = wrong[_i].what;

	vm_start_make(&s, 0);
	if (strcmp(what, "protocol") == 0)
		m->protocol++;
	else if (strcmp(what, "no vCPU") == 0)
		m->vcpu_count = 0;
	else if (strcmp(what, "33 vCPUs") == 0)
		m->vcpu_count = 33;
	else if (strcmp(what, "no memory") == 0)
		m->mem_bytes = 0;
	else if (strcmp(what, "shared size") == 0)
		m->shared_bytes = sizeof(struct vm_shared) - 1;
	else if (strcmp(what, "shared file") == 0)
		ck_assert_int_eq(
			ftruncate(s.prep_fds[MSG_PREPARE_FD_SHARED], 4096), 0);
	else if (strcmp(what, "shared version") == 0)
		s.shared->version++;
	else if (strcmp(what, "console ring") == 0)
		s.shared->console_bytes = 1u << 30;
	else
		ck_assert_int_eq(
			ftruncate(s.prep_fds[MSG_PREPARE_FD_SECCOMP], 16), 0);
	ck_assert_int_eq(create(), -wrong[_i].code);
	ck_assert_str_eq(err.field, wrong[_i].field);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_CREATE_VM], 0);
}
END_TEST

/* ---- vm_load ---- */

START_TEST(the_kernel_is_told_of_everything)
{
	const char *cmdline;

	vm_start_make(&s, 2);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	cmdline = gmem_range(&vm.mem, LAYOUT_CMDLINE, VM_CMDLINE_MAX);
	ck_assert_str_eq(cmdline,
		"console=ttyS0 virtio_mmio.device=4K@0xd0000000:5"
		" virtio_mmio.device=4K@0xd0001000:6");
	ck_assert_mem_eq(gmem_range(&vm.mem, LAYOUT_ACPI, 8), "RSD PTR ", 8);
	ck_assert_mem_eq(gmem_range(&vm.mem, LAYOUT_EBDA, 4), "_MP_", 4);
	ck_assert_mem_eq(gmem_range(&vm.mem, LAYOUT_RESET_VECTOR, 7),
		"\xb0\xfe\xe6\x64\xf4\xeb\xfd", 7);
	ck_assert_uint_eq(fake_kvm.vcpu[0].regs.rip, ELF_ENTRY);
	ck_assert_uint_eq(fake_kvm.vcpu[0].regs.rsi, LAYOUT_ZERO_PAGE);
}
END_TEST

/* Two VMs are two generations, each in its page. */
START_TEST(each_vm_is_a_generation_of_its_own)
{
	uint8_t first[GENERATION_GUID_BYTES], none[GENERATION_GUID_BYTES] = {0};
	const void *guid;

	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	memcpy(first, gmem_range(&vm.mem, LAYOUT_VMGENID, 16), 16);
	ck_assert_mem_ne(first, none, 16);
	ck_assert_mem_eq(gmem_range(&vm.mem, LAYOUT_VMCLOCK, 4), "VCLK", 4);
	teardown();
	setup();
	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0 && load() == 0, "%s", err.msg);
	guid = gmem_range(&vm.mem, LAYOUT_VMGENID, 16);
	ck_assert_mem_ne(guid, first, 16);
}
END_TEST

START_TEST(a_bad_kernel_is_told_by_its_field)
{
	vm_start_make(&s, 0);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(ftruncate(s.fds[MSG_START_FD_KERNEL], 10), 0);
	ck_assert_int_lt(load(), 0);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
}
END_TEST

START_TEST(memory_too_small_for_the_tables_is_told_by_its_field)
{
	vm_start_make(&s, 0);
	s.prep.prepare.mem_bytes = 512u << 10;
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm");
	TCase *tc_create = tcase_create("create");
	TCase *tc_load = tcase_create("load");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc_create, setup, teardown);
	tcase_add_test(tc_create,
		memory_comes_before_the_irqchip_and_that_before_vcpus);
	tcase_add_test(tc_create, memory_goes_around_the_hole);
	tcase_add_test(tc_create, each_drive_has_its_page_its_pin_and_its_kick);
	tcase_add_test(tc_create, without_drives_there_is_no_worker);
	tcase_add_test(tc_create, each_vcpu_is_set_up);
	tcase_add_test(tc_create, a_cpu_configuration_reaches_each_vcpu);
	tcase_add_test(tc_create,
		a_cpu_configuration_kvm_refuses_is_told_by_its_field);
	tcase_add_test(
		tc_create, a_prepared_machine_has_its_vcpus_and_no_device);
	tcase_add_test(tc_create, a_drive_has_a_queue_for_each_vcpu);
	tcase_add_test(tc_create, process_ready_is_when_main_began);
	tcase_add_loop_test(
		tc_create, what_kvm_refuses_fails_the_start, 0, N_NEEDED);
	tcase_add_test(tc_create, a_kvm_that_cannot_hide_its_counters_will_do);
	tcase_add_loop_test(tc_create, a_message_that_makes_no_sense_is_refused,
		0, N_WRONG);
	suite_add_tcase(suite, tc_create);

	tcase_add_checked_fixture(tc_load, setup, teardown);
	tcase_add_test(tc_load, the_kernel_is_told_of_everything);
	tcase_add_test(tc_load, each_vm_is_a_generation_of_its_own);
	tcase_add_test(tc_load, a_bad_kernel_is_told_by_its_field);
	tcase_add_test(
		tc_load, memory_too_small_for_the_tables_is_told_by_its_field);
	suite_add_tcase(suite, tc_load);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
