#pragma once

/*
 * Named CPU templates: what makes a fleet of different hosts show its guests
 * one CPU. Pure: tables in cpu_level.c and cpu_instance.c, applied to what the
 * host's KVM supports.
 *
 * "x86-64-v2" .. "x86-64-v4" are the levels of the x86-64 psABI, made whole
 * CPUs: each has the features of its level and those which a kernel and its
 * programs expect of any CPU of that level, and nothing else. Signature, brand
 * string, caches, address sizes and XSAVE state are fixed, too. What is left of
 * the host: its vendor (Linux runs other code for either), what guests need
 * against speculation (hiding it would leave them open), and whether the TSC is
 * invariant. A level never shows a host as immune where others are not.
 *
 * "T2", "T2S", "T2CL", "T2A" and "C3" are Firecracker's: modifiers, as in
 * its documents.
 */

#include "base/error.h"
#include "vmm/msg.h"

/*
 * m->cpuid: what KVM supports; it, or the modifiers (in place of those there
 * are), become what which (enum vm_cpu_template) says. An error names the field
 * machine-config.cpu_template and what this host lacks; m is then useless.
 */
int cpu_template_apply(
	uint32_t which, struct msg_prepare *m, struct error *err);

/* level: 2, 3 or 4; which: one of Firecracker's for x86. */
int cpu_level_apply(unsigned level, struct msg_prepare *m, struct error *err);
int cpu_instance_apply(
	uint32_t which, struct msg_prepare *m, struct error *err);

enum cpu_vendor { CPU_OTHER = 0, CPU_INTEL = 1, CPU_AMD = 2, CPU_ANY = 3 };
enum cpu_vendor cpu_template_vendor(const struct msg_prepare *m);

/* NULL: not there. */
struct msg_cpuid_entry *cpu_template_leaf(struct msg_cpuid_entry *entries,
	uint32_t n, uint32_t leaf, uint32_t index);
uint32_t *cpu_template_reg(struct msg_cpuid_entry *e, uint32_t reg);
