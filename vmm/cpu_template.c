#include "vmm/cpu_template.h"

#include "vmm/config.h"

#include <stddef.h>
#include <string.h>

struct msg_cpuid_entry *cpu_template_leaf(struct msg_cpuid_entry *entries,
	uint32_t n, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < n; i++)
		if (entries[i].function == leaf && entries[i].index == index)
			return &entries[i];
	return NULL;
}

uint32_t *cpu_template_reg(struct msg_cpuid_entry *e, uint32_t reg)
{
	switch (reg) {
	case VM_CPUID_EAX:
		return &e->eax;
	case VM_CPUID_EBX:
		return &e->ebx;
	case VM_CPUID_ECX:
		return &e->ecx;
	default:
		return &e->edx;
	}
}

enum cpu_vendor cpu_template_vendor(const struct msg_prepare *m)
{
	/* EBX, EDX, ECX of leaf 0, in this order. */
	static const char names[][12 + 1] = {"GenuineIntel", "AuthenticAMD"};
	static const enum cpu_vendor vendors[] = {CPU_INTEL, CPU_AMD};

	for (uint32_t i = 0; i < m->n_cpuid; i++) {
		const struct msg_cpuid_entry *e = &m->cpuid[i];
		const uint32_t name[] = {e->ebx, e->edx, e->ecx};

		for (unsigned k = 0; e->function == 0 && k < 2; k++)
			if (memcmp(name, names[k], sizeof(name)) == 0)
				return vendors[k];
	}
	return CPU_OTHER;
}

int cpu_template_apply(uint32_t which, struct msg_prepare *m, struct error *err)
{
	switch (which) {
	case VM_CPU_TEMPLATE_NONE:
		return 0;
	case VM_CPU_TEMPLATE_V2:
		return cpu_level_apply(2, m, err);
	case VM_CPU_TEMPLATE_V3:
		return cpu_level_apply(3, m, err);
	case VM_CPU_TEMPLATE_V4:
		return cpu_level_apply(4, m, err);
	default:
		return cpu_instance_apply(which, m, err);
	}
}
