#pragma once

/*
 * A KVM to link instead of vmm/kvm.c: it records what it is asked, fails when
 * told to, and its vCPUs "run" a script of exits. A vCPU whose script is at its
 * end stays in KVM_RUN until a signal, as a guest in an endless loop would.
 */

#include "vmm/cpuid.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_KVM_VCPUS 32
#define FAKE_KVM_RUN_BYTES 12288

enum fake_call {
	FAKE_CREATE_VM,
	FAKE_MEMORY,
	FAKE_TSS,
	FAKE_IDENTITY,
	FAKE_IRQCHIP,
	FAKE_CAP,
	FAKE_IRQFD,
	FAKE_IOEVENTFD,
	FAKE_VCPU,
	FAKE_CPUID,
	FAKE_MSRS,
	FAKE_GET_MSRS,
	FAKE_REGS,
	FAKE_SREGS,
	FAKE_CLOCK_CTRL,
	FAKE_RUN,
	FAKE_CALLS
};

/* Fills run as KVM would on this exit; returns what kvm_run() does. */
typedef int (*fake_step)(struct kvm_run *run, void *arg);

struct fake_vcpu {
	int fd;
	struct kvm_run *run;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_msr_entry msrs[32]; /* as last written, each once */
	unsigned n_msrs;
	struct cpuid_table cpuid;

	const fake_step *steps;
	unsigned n_steps, next_step;
	void *arg;
};

struct fake_kvm {
	unsigned calls[FAKE_CALLS]; /* how many of each */
	enum fake_call order[1024]; /* the first ones, as they came */
	unsigned n_order;

	struct {
		uint64_t gpa, len; /* len 0: not there */
		uint8_t *hva;
		uint32_t flags;
	} slots[64]; /* of memory */
	struct {
		int fd;
		uint32_t gsi;
	} irqfds[64];
	struct {
		int fd;
		uint64_t gpa;
		uint32_t match;
	} ioeventfds[64];
	struct fake_vcpu vcpu[FAKE_KVM_VCPUS];

	int fail[FAKE_CALLS];  /* what this call returns instead, if not 0 */
	bool refuse_read_only; /* memory */
	bool tsc_deadline;
	int tsc_khz;
	int api_version;
	int missing_cap;                   /* -1: has all that are asked for */
	uint32_t unknown_msr, fixed_msr;   /* not there; not written; 0: none */
	uint64_t msr_reset;                /* of every MSR */
	struct kvm_cpuid_entry2 supported; /* the one leaf */
};

extern struct fake_kvm fake_kvm;

void fake_kvm_reset(void);
void fake_kvm_script(
	unsigned vcpu, const fake_step *steps, unsigned n, void *arg);
