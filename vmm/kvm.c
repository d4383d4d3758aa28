#include "vmm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int check(int r)
{
	return r < 0 ? -errno : r;
}

/* For calls which take a pointer that the kernel only reads. */
static int call(int fd, unsigned long request, const void *arg)
{
	return check(ioctl(fd, request, arg));
}

int kvm_api_version(int kvm)
{
	return check(ioctl(kvm, KVM_GET_API_VERSION, 0));
}

int kvm_vcpu_mmap_bytes(int kvm)
{
	return check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
}

int kvm_create_vm(int kvm)
{
	int r;

	/* -EINTR: a signal came while KVM took locks of all of our memory. */
	do
		r = check(ioctl(kvm, KVM_CREATE_VM, 0));
	while (r == -EINTR);
	return r;
}

int kvm_get_supported_cpuid(int kvm, struct kvm_cpuid2 *ids)
{
	return check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, ids));
}

int kvm_check_extension(int fd, unsigned cap)
{
	return check(ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap));
}

int kvm_set_memory(int vm, uint32_t slot, uint64_t gpa, void *hva, uint64_t len,
	uint32_t flags)
{
	struct kvm_userspace_memory_region r = {.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)hva};

	return call(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

int kvm_set_tss_addr(int vm, uint64_t gpa)
{
	return check(ioctl(vm, KVM_SET_TSS_ADDR, (unsigned long)gpa));
}

int kvm_set_identity_map_addr(int vm, uint64_t gpa)
{
	return call(vm, KVM_SET_IDENTITY_MAP_ADDR, &gpa);
}

int kvm_create_irqchip(int vm)
{
	return check(ioctl(vm, KVM_CREATE_IRQCHIP, 0));
}

int kvm_enable_cap(int vm, unsigned cap, uint64_t arg0)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg0}};

	return call(vm, KVM_ENABLE_CAP, &c);
}

int kvm_irqfd(int vm, int fd, uint32_t gsi)
{
	struct kvm_irqfd q = {.fd = (uint32_t)fd, .gsi = gsi};

	return call(vm, KVM_IRQFD, &q);
}

int kvm_ioeventfd(int vm, int fd, uint64_t gpa, uint32_t match)
{
	struct kvm_ioeventfd e = {.datamatch = match,
		.addr = gpa,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

	return call(vm, KVM_IOEVENTFD, &e);
}

int kvm_create_vcpu(int vm, unsigned long id)
{
	return check(ioctl(vm, KVM_CREATE_VCPU, id));
}

int kvm_map_run(int vcpu, size_t bytes, struct kvm_run **ret)
{
	void *p =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

void kvm_unmap_run(struct kvm_run *run, size_t bytes)
{
	munmap(run, bytes);
}

int kvm_set_cpuid(int vcpu, const struct kvm_cpuid2 *ids)
{
	return call(vcpu, KVM_SET_CPUID2, ids);
}

int kvm_get_tsc_khz(int vcpu)
{
	return check(ioctl(vcpu, KVM_GET_TSC_KHZ, 0));
}

int kvm_get_msrs(int vcpu, struct kvm_msrs *msrs)
{
	return check(ioctl(vcpu, KVM_GET_MSRS, msrs));
}

int kvm_set_msrs(int vcpu, const struct kvm_msrs *msrs)
{
	return call(vcpu, KVM_SET_MSRS, msrs);
}

int kvm_get_regs(int vcpu, struct kvm_regs *ret)
{
	return check(ioctl(vcpu, KVM_GET_REGS, ret));
}

int kvm_set_regs(int vcpu, const struct kvm_regs *regs)
{
	return call(vcpu, KVM_SET_REGS, regs);
}

int kvm_get_sregs(int vcpu, struct kvm_sregs *ret)
{
	return check(ioctl(vcpu, KVM_GET_SREGS, ret));
}

int kvm_set_sregs(int vcpu, const struct kvm_sregs *sregs)
{
	return call(vcpu, KVM_SET_SREGS, sregs);
}

int kvm_clock_ctrl(int vcpu)
{
	return check(ioctl(vcpu, KVM_KVMCLOCK_CTRL, 0));
}

int kvm_run(int vcpu)
{
	return check(ioctl(vcpu, KVM_RUN, 0));
}
