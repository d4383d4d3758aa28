#pragma once

/*
 * The CPUID a guest sees: what the host's KVM supports, less what a microVM
 * must not see, with this VM's topology, KVM's signature and the TSC's rate.
 */

#include "vmm/msg.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/* What KVM_GET_SUPPORTED_CPUID gave, and room for the leaves made here. */
#define CPUID_MAX 160

struct cpuid_table {
	uint32_t nent;
	uint32_t pad;
	struct kvm_cpuid_entry2 entries[CPUID_MAX];
};

struct cpuid_config {
	unsigned n_vcpus;
	bool smt;         /* two threads a core */
	uint32_t tsc_khz; /* 0: unknown, the leaves that tell it are left out */
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER */
	/* Changes to what is left, and to the leaves made here but topology;
	 * one to a leaf that is not there or is hidden changes nothing. */
	const struct msg_cpuid_mod *mods;
	unsigned n_mods;
};

/*
 * Filters t in place and adds leaves: once per VM. 0, or -E2BIG when there is
 * no room for the added ones.
 */
int cpuid_filter(struct cpuid_table *t, const struct cpuid_config *c);

/* Makes a filtered table that of one vCPU; its APIC id is its number. May be
 * called again for the next one. */
void cpuid_set_vcpu(struct cpuid_table *t, unsigned vcpu);

/* The table as kvm_set_cpuid() takes it. */
const struct kvm_cpuid2 *cpuid_table_kvm(const struct cpuid_table *t);
