#include "vmm/config.h"
#include "vmm/cpu_template.h"

#include <errno.h>
#include <stdbool.h>

#define FIELD "machine-config.cpu_template"

/* Which of the templates a row is for. */
#define T2 1u
#define T2S 2u
#define T2CL 4u
#define T2A 8u
#define C3 16u
#define T2_ALL (T2 | T2S | T2CL | T2A)
#define ALL (T2_ALL | C3)

#define EAX VM_CPUID_EAX
#define EBX VM_CPUID_EBX
#define ECX VM_CPUID_ECX
#define EDX VM_CPUID_EDX

/*
 * What Firecracker's static templates make of each register: the bits of clear
 * become those of set. Of leaf 1, T2 and its kin have the signature of a
 * Haswell, C3 that of an Ivy Bridge, both without the management and debug
 * features of real machines (DTES64 .. DCA; PSN, DS, ACPI, SS, TM, PBE); C3
 * also without FMA and MOVBE. Of leaf 7, what came after these CPUs, and TSX.
 */
static const struct {
	uint32_t templates;
	uint32_t leaf, index, flags, reg;
	uint32_t clear, set;
} registers[] = {
	{T2_ALL, 0x1, 0, 0, EAX, 0x0fff3fff, 0x000306f2},
	{C3, 0x1, 0, 0, EAX, 0x0fff3fff, 0x000306e4},
	{T2_ALL, 0x1, 0, 0, ECX, 0x0004cdfc, 0},
	{C3, 0x1, 0, 0, ECX, 0x0040dd3c, 0},
	{T2_ALL, 0x1, 0, 0, EDX, 0xe8641080, 0x00001080},
	{C3, 0x1, 0, 0, EDX, 0xa8641080, 0x00001080},
	{T2_ALL, 0x7, 0, 1, EBX, 0xffefda14, 0x00000200},
	{C3, 0x7, 0, 1, EBX, 0xffafdd3c, 0},
	{T2_ALL, 0x7, 0, 1, ECX, 0x40415f5e, 0},
	{C3, 0x7, 0, 1, ECX, 0x4041481e, 0},
	{T2_ALL, 0x7, 0, 1, EDX, 0x0000011c, 0},
	{C3, 0x7, 0, 1, EDX, 0x0000000c, 0},
	/* state of MPX, AVX-512 and protection keys */
	{ALL, 0xd, 0, 1, EAX, 0x000002f8, 0},
	/* XSAVEC, XGETBV of the index 1, XSAVES */
	{ALL, 0xd, 1, 1, EAX, 0x0000000e, 0},
	/* PREFETCHW and MWAITX; SSE4A and misaligned SSE; SVM; LZCNT */
	{T2 | T2S, 0x80000001, 0, 0, ECX, 0x20000100, 0},
	{T2CL, 0x80000001, 0, 0, ECX, 0x200001c0, 0},
	{T2A, 0x80000001, 0, 0, ECX, 0x200001c4, 0},
	{C3, 0x80000001, 0, 0, ECX, 0x00000120, 0},
	/* 1 GiB pages; AMD's MMX extensions and fast FXSAVE */
	{T2 | T2S | C3, 0x80000001, 0, 0, EDX, 0x04000000, 0},
	{T2CL, 0x80000001, 0, 0, EDX, 0x07c00000, 0},
	{T2A, 0x80000001, 0, 0, EDX, 0x06400000, 0},
	/* WBNOINVD; CLZERO; how IBRS is best used, and LMSLE */
	{T2 | T2S | T2CL, 0x80000008, 0, 0, EBX, 0x00000200, 0},
	{T2A, 0x80000008, 0, 0, EBX, 0x001c0205, 0x001c0004},
};

#define MSR_ARCH_CAPABILITIES 0x10au

/* T2S: what Skylake and Cascade Lake both are; T2CL: what concerns the guest's
 * own mitigations, as the host has it. */
static const struct {
	uint32_t templates;
	uint32_t index;
	uint64_t clear, set;
} msrs[] = {
	{T2S, MSR_ARCH_CAPABILITIES, UINT64_MAX, 0xc4c},
	{T2CL, MSR_ARCH_CAPABILITIES, 0xffffffffe2f51e00, 0},
};

/* By enum vm_cpu_template, from C3 on. */
static const struct {
	const char *name;
	uint32_t bit;
	enum cpu_vendor vendor;
} templates[] = {
	{"C3", C3, CPU_INTEL},
	{"T2", T2, CPU_INTEL},
	{"T2A", T2A, CPU_AMD},
	{"T2CL", T2CL, CPU_INTEL},
	{"T2S", T2S, CPU_INTEL},
};

#define N_TEMPLATES (sizeof(templates) / sizeof(templates[0]))

/* Family 6, model 0x55, stepping 7; later ones have larger model numbers. */
#define CASCADE_LAKE 0x00050657u
#define SIGNATURE 0x0fff0fffu

static bool older_than_cascade_lake(struct msg_prepare *m)
{
	const struct msg_cpuid_entry *e =
		cpu_template_leaf(m->cpuid, m->n_cpuid, 1, 0);

	return !e || (e->eax & SIGNATURE) < CASCADE_LAKE;
}

static int check_host(unsigned i, struct msg_prepare *m, struct error *err)
{
	if (cpu_template_vendor(m) != templates[i].vendor)
		return error_field(err, EINVAL, FIELD,
			"%s is for %s hosts; \"x86-64-v3\" is for either, or "
			"use cpu-config",
			templates[i].name,
			templates[i].vendor == CPU_AMD ? "AMD" : "Intel");
	if (templates[i].bit == T2CL && older_than_cascade_lake(m))
		return error_field(err, EINVAL, FIELD,
			"T2CL is for Cascade Lake and newer CPUs; use T2S");
	return 0;
}

static void add_cpuid(size_t row, struct msg_prepare *m)
{
	m->cpuid_mods[m->n_cpuid_mods++] =
		(struct msg_cpuid_mod){.leaf = registers[row].leaf,
			.subleaf = registers[row].index,
			.flags = registers[row].flags,
			.reg = registers[row].reg,
			.keep = ~registers[row].clear,
			.set = registers[row].set};
}

int cpu_instance_apply(uint32_t which, struct msg_prepare *m, struct error *err)
{
	const size_t n_registers = sizeof(registers) / sizeof(registers[0]);
	const size_t n_msrs = sizeof(msrs) / sizeof(msrs[0]);
	uint32_t i = which - VM_CPU_TEMPLATE_C3;

	if (i >= N_TEMPLATES)
		return error_field(err, EINVAL, FIELD, "there is no such one");
	if (check_host(i, m, err) < 0)
		return -err->code;
	_Static_assert(
		sizeof(registers) / sizeof(registers[0]) <= VM_MAX_CPUID_MODS,
		"a template fits in the message");
	m->n_cpuid_mods = 0;
	m->n_msr_mods = 0;
	for (size_t k = 0; k < n_registers; k++)
		if (registers[k].templates & templates[i].bit)
			add_cpuid(k, m);
	for (size_t k = 0; k < n_msrs; k++)
		if (msrs[k].templates & templates[i].bit)
			m->msr_mods[m->n_msr_mods++] =
				(struct msg_msr_mod){.index = msrs[k].index,
					.keep = ~msrs[k].clear,
					.set = msrs[k].set};
	return 0;
}
