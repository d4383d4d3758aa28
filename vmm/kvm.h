#pragma once

/*
 * KVM, typed: the only place with its ioctls. Each function is one ioctl; it
 * returns 0 (or what its comment says) or a negative errno and never logs.
 * tests/unit/fake_kvm.c implements this header for unit tests.
 */

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

/* On /dev/kvm. */
int kvm_api_version(int kvm);
int kvm_vcpu_mmap_bytes(int kvm);
int kvm_create_vm(int kvm); /* the VM's descriptor */
/* ids->nent: capacity in, count out; -E2BIG: more than the capacity. */
int kvm_get_supported_cpuid(int kvm, struct kvm_cpuid2 *ids);

/* On /dev/kvm or a VM: 0 when absent, else a positive value. */
int kvm_check_extension(int fd, unsigned cap);

/* On a VM. Memory slots first, then the irqchip: a change of slots or buses
 * that KVM has readers of waits milliseconds for them. */
int kvm_set_memory(int vm, uint32_t slot, uint64_t gpa, void *hva, uint64_t len,
	uint32_t flags); /* KVM_MEM_*; len 0: the slot goes */
int kvm_set_tss_addr(int vm, uint64_t gpa);
int kvm_set_identity_map_addr(int vm, uint64_t gpa);
int kvm_create_irqchip(int vm);
int kvm_enable_cap(int vm, unsigned cap, uint64_t arg0);
/* One signal of fd is one edge on the pin. */
int kvm_irqfd(int vm, int fd, uint32_t gsi);
/* A 4-byte write of match at gpa signals fd instead of exiting. */
int kvm_ioeventfd(int vm, int fd, uint64_t gpa, uint32_t match);
int kvm_create_vcpu(int vm, unsigned long id); /* the vCPU's descriptor */

/* On a vCPU. */
int kvm_map_run(int vcpu, size_t bytes, struct kvm_run **ret);
void kvm_unmap_run(struct kvm_run *run, size_t bytes);
int kvm_set_cpuid(int vcpu, const struct kvm_cpuid2 *ids);
int kvm_get_tsc_khz(int vcpu);                           /* the rate */
int kvm_get_msrs(int vcpu, struct kvm_msrs *msrs);       /* how many it knew */
int kvm_set_msrs(int vcpu, const struct kvm_msrs *msrs); /* how many it took */
int kvm_get_regs(int vcpu, struct kvm_regs *ret);
int kvm_set_regs(int vcpu, const struct kvm_regs *regs);
int kvm_get_sregs(int vcpu, struct kvm_sregs *ret);
int kvm_set_sregs(int vcpu, const struct kvm_sregs *sregs);
/* Tells the guest's kvmclock that it was stopped on purpose, so that its
 * watchdogs keep quiet. -EINVAL: the guest has no kvmclock. */
int kvm_clock_ctrl(int vcpu);
int kvm_run(int vcpu); /* 0: look at the exit; -EINTR; -EAGAIN */
