#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/msrs.h"
#include "vmm/vm_parts.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <string.h>

/* Memory before the irqchip: see kvm.h. */
static int create_vm(struct vm *vm, int kvm, struct error *err)
{
	int r;

	vm->vm_fd = kvm_create_vm(kvm);
	if (vm->vm_fd < 0)
		return error_errno(err, -vm->vm_fd, "KVM_CREATE_VM");
	for (unsigned i = 0; i < vm->mem.n; i++) {
		const struct gmem_region *g = &vm->mem.regions[i];

		r = kvm_set_memory(vm->vm_fd, VM_KVM_SLOT_RAM + i, g->gpa,
			g->hva, g->len, 0);
		if (r < 0)
			return error_errno(
				err, -r, "KVM_SET_USER_MEMORY_REGION");
	}
	r = kvm_set_tss_addr(vm->vm_fd, LAYOUT_TSS);
	if (r < 0)
		return error_errno(err, -r, "KVM_SET_TSS_ADDR");
	r = kvm_set_identity_map_addr(vm->vm_fd, LAYOUT_IDENTITY_MAP);
	if (r < 0)
		return error_errno(err, -r, "KVM_SET_IDENTITY_MAP_ADDR");
	/* Performance counters are hidden from the guest; so that KVM has no
	 * code of theirs in reach of it either. Not every KVM can. */
	(void)kvm_enable_cap(
		vm->vm_fd, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
	/* No 8259 is announced, so nobody masks KVM's: its interrupts must not
	 * reach the first CPU, whose LINT0 KVM opens to them unless told. */
	(void)kvm_enable_cap(vm->vm_fd, KVM_CAP_DISABLE_QUIRKS,
		KVM_X86_QUIRK_LINT0_REENABLED);
	r = kvm_create_irqchip(vm->vm_fd);
	return r < 0 ? error_errno(err, -r, "KVM_CREATE_IRQCHIP") : 0;
}

static int bind_irq(struct vm *vm, int fd, unsigned pin, struct error *err)
{
	int r = kvm_irqfd(vm->vm_fd, fd, pin);

	return r < 0 ? error_errno(err, -r, "KVM_IRQFD for pin %u", pin) : 0;
}

/* Its interrupt and its kicks. */
static int bind_slot(struct vm_slot *slot, struct error *err)
{
	struct vm *vm = slot->vm;
	int r;

	r = bind_irq(vm, slot->irq_fd, LAYOUT_IRQ_VIRTIO + slot->index, err);
	if (r < 0)
		return r;
	for (unsigned q = 0; q < slot->dev->n_vqs; q++) {
		r = kvm_ioeventfd(vm->vm_fd,
			virtio_mmio_kick_fd(slot->transport, q),
			vm_slot_gpa(slot->index) + VIRTIO_MMIO_QUEUE_NOTIFY, q);
		if (r < 0)
			return error_errno(err, -r, "KVM_IOEVENTFD");
	}
	return 0;
}

/* What every VM has. */
static int bind_legacy(struct vm *vm, struct error *err)
{
	int r;

	r = bind_irq(vm, vm->serial_irq_fd, LAYOUT_IRQ_SERIAL, err);
	if (r == 0)
		r = bind_irq(vm, vm->keyboard_irq_fd, LAYOUT_IRQ_KEYBOARD, err);
	if (r == 0)
		r = bind_irq(
			vm, vm->generation_irq_fd, LAYOUT_IRQ_GENERATION, err);
	return r;
}

int vm_bind_devices(struct vm *vm, struct error *err)
{
	int r = vm_map_pmem(vm, err);

	for (unsigned i = 0; r == 0 && i < vm->n_slots; i++)
		r = bind_slot(&vm->slots[i], err);
	return r;
}

static int set_up_cpu(int vcpu, unsigned id, struct cpuid_table *table,
	const struct msg_prepare *m, struct error *err)
{
	int r;

	cpuid_set_vcpu(table, id);
	r = kvm_set_cpuid(vcpu, cpuid_table_kvm(table));
	if (r < 0 && m->n_cpuid_mods)
		return error_field(err, -r, "cpu-config.cpuid_modifiers",
			"this host's KVM refuses the CPUID made by them: %s",
			strerror(-r));
	if (r == 0)
		r = msrs_set_boot(vcpu);
	if (r < 0)
		return error_errno(err, -r, "setting up vCPU %u", id);
	return msrs_modify(vcpu, m->msr_mods, m->n_msr_mods, err);
}

static int set_up_cpus(
	struct vm *vm, const struct msg_prepare *m, struct error *err)
{
	struct cpuid_config config = {
		.n_vcpus = m->vcpu_count,
		.smt = m->smt,
		.tsc_deadline = kvm_check_extension(vm->vm_fd,
					KVM_CAP_TSC_DEADLINE_TIMER) > 0,
		.mods = m->cpuid_mods,
		.n_mods = m->n_cpuid_mods,
	};
	struct cpuid_table table = {.nent = m->n_cpuid};
	int r = kvm_get_tsc_khz(vm->vcpus.cpu[0].fd);

	config.tsc_khz = r > 0 ? (uint32_t)r : 0;
	for (uint32_t i = 0; i < m->n_cpuid; i++) {
		const struct msg_cpuid_entry *e = &m->cpuid[i];

		table.entries[i] =
			(struct kvm_cpuid_entry2){.function = e->function,
				.index = e->index,
				.flags = e->flags,
				.eax = e->eax,
				.ebx = e->ebx,
				.ecx = e->ecx,
				.edx = e->edx};
	}
	r = cpuid_filter(&table, &config);
	if (r < 0)
		return error_errno(err, -r, "making the CPUID table");
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		r = set_up_cpu(vm->vcpus.cpu[i].fd, i, &table, m, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vm_create_machine(struct vm *vm, const struct msg_prepare *m,
	const int *fds, struct error *err)
{
	int kvm = fds[MSG_PREPARE_FD_KVM];
	int r;

	r = create_vm(vm, kvm, err);
	if (r == 0)
		r = bind_legacy(vm, err);
	if (r == 0)
		r = vcpus_create(
			&vm->vcpus, vm->vm_fd, kvm_vcpu_mmap_bytes(kvm), err);
	return r < 0 ? r : set_up_cpus(vm, m, err);
}
