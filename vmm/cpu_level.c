#include "vmm/config.h"
#include "vmm/cpu_template.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#define FIELD "machine-config.cpu_template"
#define BIT(n) (1u << (n))

#define EAX VM_CPUID_EAX
#define EBX VM_CPUID_EBX
#define ECX VM_CPUID_ECX
#define EDX VM_CPUID_EDX

#define EXT 0x80000000u
#define ANY CPU_ANY
#define INTEL CPU_INTEL
#define AMD CPU_AMD

/*
 * What each level has, by the names of /proc/cpuinfo: level 2 the psABI's
 * baseline and its x86-64-v2, 3 and 4 what they add. In the order of the
 * registers. Not in the psABI, since user code does not ask for them, or since
 * they are not of general use, but expected of any such CPU:
 *
 *   level 2   what 64-bit kernels need
 *   level 3   AES, PCLMULQDQ, RDRAND, FSGSBASE, SMEP, 1 GiB pages, XSAVEOPT,
 *             which all from Haswell and Zen on have
 *   level 4   PCID, INVPCID, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, XSAVEC,
 *             XSAVES, which all from Skylake's servers and Zen 4 on have
 */
static const struct {
	uint32_t leaf;
	uint8_t index, reg, bit, level;
	const char *name;
} features[] = {
	{0x1, 0, ECX, 0, 2, "sse3"},
	{0x1, 0, ECX, 1, 3, "pclmulqdq"},
	{0x1, 0, ECX, 9, 2, "ssse3"},
	{0x1, 0, ECX, 12, 3, "fma"},
	{0x1, 0, ECX, 13, 2, "cx16"},
	{0x1, 0, ECX, 17, 4, "pcid"},
	{0x1, 0, ECX, 19, 2, "sse4_1"},
	{0x1, 0, ECX, 20, 2, "sse4_2"},
	{0x1, 0, ECX, 22, 3, "movbe"},
	{0x1, 0, ECX, 23, 2, "popcnt"},
	{0x1, 0, ECX, 25, 3, "aes"},
	{0x1, 0, ECX, 26, 3, "xsave"},
	{0x1, 0, ECX, 28, 3, "avx"},
	{0x1, 0, ECX, 29, 3, "f16c"},
	{0x1, 0, ECX, 30, 3, "rdrand"},
	{0x1, 0, EDX, 0, 2, "fpu"},
	{0x1, 0, EDX, 2, 2, "de"},
	{0x1, 0, EDX, 3, 2, "pse"},
	{0x1, 0, EDX, 4, 2, "tsc"},
	{0x1, 0, EDX, 5, 2, "msr"},
	{0x1, 0, EDX, 6, 2, "pae"},
	{0x1, 0, EDX, 7, 2, "mce"},
	{0x1, 0, EDX, 8, 2, "cx8"},
	{0x1, 0, EDX, 9, 2, "apic"},
	{0x1, 0, EDX, 11, 2, "sep"},
	{0x1, 0, EDX, 12, 2, "mtrr"},
	{0x1, 0, EDX, 13, 2, "pge"},
	{0x1, 0, EDX, 14, 2, "mca"},
	{0x1, 0, EDX, 15, 2, "cmov"},
	{0x1, 0, EDX, 16, 2, "pat"},
	{0x1, 0, EDX, 17, 2, "pse36"},
	{0x1, 0, EDX, 19, 2, "clflush"},
	{0x1, 0, EDX, 23, 2, "mmx"},
	{0x1, 0, EDX, 24, 2, "fxsr"},
	{0x1, 0, EDX, 25, 2, "sse"},
	{0x1, 0, EDX, 26, 2, "sse2"},
	{0x7, 0, EBX, 0, 3, "fsgsbase"},
	{0x7, 0, EBX, 3, 3, "bmi1"},
	{0x7, 0, EBX, 5, 3, "avx2"},
	{0x7, 0, EBX, 7, 3, "smep"},
	{0x7, 0, EBX, 8, 3, "bmi2"},
	{0x7, 0, EBX, 9, 4, "erms"},
	{0x7, 0, EBX, 10, 4, "invpcid"},
	{0x7, 0, EBX, 16, 4, "avx512f"},
	{0x7, 0, EBX, 17, 4, "avx512dq"},
	{0x7, 0, EBX, 18, 4, "rdseed"},
	{0x7, 0, EBX, 19, 4, "adx"},
	{0x7, 0, EBX, 20, 4, "smap"},
	{0x7, 0, EBX, 23, 4, "clflushopt"},
	{0x7, 0, EBX, 24, 4, "clwb"},
	{0x7, 0, EBX, 28, 4, "avx512cd"},
	{0x7, 0, EBX, 30, 4, "avx512bw"},
	{0x7, 0, EBX, 31, 4, "avx512vl"},
	{0xd, 0, EAX, 0, 3, "x87 state"},
	{0xd, 0, EAX, 1, 3, "SSE state"},
	{0xd, 0, EAX, 2, 3, "AVX state"},
	{0xd, 0, EAX, 5, 4, "AVX-512 opmask state"},
	{0xd, 0, EAX, 6, 4, "AVX-512 ZMM_Hi256 state"},
	{0xd, 0, EAX, 7, 4, "AVX-512 Hi16_ZMM state"},
	{0xd, 1, EAX, 0, 3, "xsaveopt"},
	{0xd, 1, EAX, 1, 4, "xsavec"},
	{0xd, 1, EAX, 2, 4, "xgetbv1"},
	{0xd, 1, EAX, 3, 4, "xsaves"},
	{EXT + 1, 0, ECX, 0, 2, "lahf_lm"},
	{EXT + 1, 0, ECX, 5, 3, "abm"},
	{EXT + 1, 0, EDX, 11, 2, "syscall"},
	{EXT + 1, 0, EDX, 20, 2, "nx"},
	{EXT + 1, 0, EDX, 26, 3, "pdpe1gb"},
	{EXT + 1, 0, EDX, 27, 2, "rdtscp"},
	{EXT + 1, 0, EDX, 29, 2, "lm"},
};

/* Address sizes: 1 TiB of memory, which every 64-bit host can address. */
#define PHYSICAL_BITS 40u
#define LINEAR_BITS 48u

/*
 * What is the same for all hosts of a vendor, from one level to another. The
 * signatures are those of CPUs for which Linux knows the most mitigations to be
 * needed: of Skylake's servers, of Zen 2, and of Zen 4 where that is the least.
 * (Family 17h believes itself safe from SRSO without SMT: on Zen 3 and 4 give
 * such guests smt.) Caches: 32 KiB of each kind, 1 MiB or 512 KiB, 16 MiB.
 */
static const struct {
	uint32_t leaf;
	uint8_t index, reg, vendor, from, to;
	uint32_t value;
} constants[] = {
	{0x0, 0, EAX, ANY, 2, 2, 0xb}, {0x0, 0, EAX, ANY, 3, 4, 0xd},
	{0x1, 0, EAX, INTEL, 2, 4, 0x00050654},
	{0x1, 0, EAX, AMD, 2, 3, 0x00830f10},
	{0x1, 0, EAX, AMD, 4, 4, 0x00a10f11},
	{0x1, 0, EBX, ANY, 2, 4, 0x0800},       /* CLFLUSH of 64 bytes */
	{0x2, 0, EAX, INTEL, 2, 4, 0x00feff01}, /* see leaf 4 */
	{0x2, 0, EBX, INTEL, 2, 4, 0x000000f0},
	{0x4, 0, EAX, INTEL, 2, 4, 0x121},
	{0x4, 0, EBX, INTEL, 2, 4, 0x01c0003f},
	{0x4, 0, ECX, INTEL, 2, 4, 0x3f}, {0x4, 1, EAX, INTEL, 2, 4, 0x122},
	{0x4, 1, EBX, INTEL, 2, 4, 0x01c0003f},
	{0x4, 1, ECX, INTEL, 2, 4, 0x3f}, {0x4, 2, EAX, INTEL, 2, 4, 0x143},
	{0x4, 2, EBX, INTEL, 2, 4, 0x03c0003f},
	{0x4, 2, ECX, INTEL, 2, 4, 0x3ff}, {0x4, 3, EAX, INTEL, 2, 4, 0x163},
	{0x4, 3, EBX, INTEL, 2, 4, 0x03c0003f},
	{0x4, 3, ECX, INTEL, 2, 4, 0x3fff},
	{0x7, 0, EAX, ANY, 2, 4, 2}, /* subleaves */
	{EXT, 0, EAX, INTEL, 2, 4, EXT + 8},
	{EXT, 0, EAX, AMD, 2, 4, EXT + 0x21},
	{EXT + 1, 0, EAX, AMD, 2, 3, 0x00830f10},
	{EXT + 1, 0, EAX, AMD, 4, 4, 0x00a10f11},
	{EXT + 1, 0, ECX, AMD, 2, 4, BIT(22)}, /* leaves 1Dh, 1Eh */
	{EXT + 5, 0, EAX, AMD, 2, 4, 0xff40ff40},
	{EXT + 5, 0, EBX, AMD, 2, 4, 0xff40ff40},
	{EXT + 5, 0, ECX, AMD, 2, 4, 0x20080140},
	{EXT + 5, 0, EDX, AMD, 2, 4, 0x20080140},
	{EXT + 6, 0, ECX, INTEL, 2, 4, 0x04008040},
	{EXT + 6, 0, ECX, AMD, 2, 4, 0x02006140},
	{EXT + 6, 0, EDX, AMD, 2, 4, 0x00809140},
	{EXT + 8, 0, EAX, ANY, 2, 4, LINEAR_BITS << 8 | PHYSICAL_BITS},
	{EXT + 0x1d, 0, EAX, AMD, 2, 4, 0x121},
	{EXT + 0x1d, 0, EBX, AMD, 2, 4, 0x01c0003f},
	{EXT + 0x1d, 0, ECX, AMD, 2, 4, 0x3f},
	{EXT + 0x1d, 1, EAX, AMD, 2, 4, 0x122},
	{EXT + 0x1d, 1, EBX, AMD, 2, 4, 0x01c0003f},
	{EXT + 0x1d, 1, ECX, AMD, 2, 4, 0x3f},
	{EXT + 0x1d, 2, EAX, AMD, 2, 4, 0x143},
	{EXT + 0x1d, 2, EBX, AMD, 2, 4, 0x01c0003f},
	{EXT + 0x1d, 2, ECX, AMD, 2, 4, 0x3ff},
	{EXT + 0x1d, 3, EAX, AMD, 2, 4, 0x163},
	{EXT + 0x1d, 3, EBX, AMD, 2, 4, 0x03c0003f},
	{EXT + 0x1d, 3, ECX, AMD, 2, 4, 0x3fff},
	{EXT + 0x1e, 0, EAX, AMD, 2, 4, 0}, /* topology: made later */
};

/*
 * What stays the host's: its vendor; what guests use against speculation (not
 * what says that they need not); whether the TSC is invariant; of KVM, what
 * Linux has had since 5.8.
 */
static const struct {
	uint32_t leaf;
	uint8_t index, reg, vendor;
	uint32_t mask;
} passed[] = {
	{0x0, 0, EBX, ANY, UINT32_MAX},
	{0x0, 0, ECX, ANY, UINT32_MAX},
	{0x0, 0, EDX, ANY, UINT32_MAX},
	/* MD_CLEAR, SPEC_CTRL, STIBP, FLUSH_L1D, SSBD; ARCH_CAPABILITIES */
	{0x7, 0, EDX, ANY, BIT(10) | BIT(26) | BIT(27) | BIT(28) | BIT(31)},
	{0x7, 0, EDX, INTEL, BIT(29)},
	{0x7, 2, EDX, ANY, 0x1f}, /* controls: PSFD .. BHI_CTRL */
	{EXT, 0, EBX, AMD, UINT32_MAX},
	{EXT, 0, ECX, AMD, UINT32_MAX},
	{EXT, 0, EDX, AMD, UINT32_MAX},
	{EXT + 7, 0, EDX, ANY, BIT(8)},
	/* IBPB, IBRS, STIBP, how they are best used; SSBD twice, PSFD */
	{EXT + 8, 0, EBX, ANY,
		BIT(12) | BIT(14) | BIT(15) | BIT(17) | BIT(18) | BIT(24) |
			BIT(25) | BIT(28)},
	/* LFENCE waits, null selectors, automatic IBRS, SBPB, IBPB_BRTYPE */
	{EXT + 0x21, 0, EAX, AMD, BIT(2) | BIT(6) | BIT(8) | BIT(27) | BIT(28)},
	{0x40000000, 0, EAX, ANY, UINT32_MAX},
	{0x40000000, 0, EBX, ANY, UINT32_MAX},
	{0x40000000, 0, ECX, ANY, UINT32_MAX},
	{0x40000000, 0, EDX, ANY, UINT32_MAX},
	{0x40000001, 0, EAX, ANY, 0x01007efb},
};

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* In EXT + 1, AMD repeats these of leaf 1: EDX. */
#define AMD_REPEATED 0x0183f3ffu

#define MSR_ARCH_CAPABILITIES 0x10au
/* RSBA: returns may be predicted otherwise. SKIP_L1DFL_VMENTRY and
 * IF_PSCHANGE_MC_NO concern hypervisors, which guests are not. No immunity. */
#define ARCH_CAPABILITIES 0x4cull

static uint32_t flags_of(uint32_t leaf)
{
	return leaf == 0x4 || leaf == 0x7 || leaf == 0xd || leaf == EXT + 0x1d
		       ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX
		       : 0;
}

/* The register of the guest's table, made if need be: there is room for all
 * that the tables name. */
static uint32_t *guest_reg(
	struct msg_prepare *m, uint32_t leaf, uint32_t index, uint32_t reg)
{
	struct msg_cpuid_entry *e =
		cpu_template_leaf(m->cpuid, m->n_cpuid, leaf, index);

	if (!e) {
		e = &m->cpuid[m->n_cpuid++];
		*e = (struct msg_cpuid_entry){.function = leaf,
			.index = index,
			.flags = flags_of(leaf)};
	}
	return cpu_template_reg(e, reg);
}

struct host {
	enum cpu_vendor vendor;
	uint32_t n;
	struct msg_cpuid_entry cpuid[MSG_CPUID_MAX];
};

/* 0 where the host has no such leaf. */
static uint32_t host_reg(
	struct host *h, uint32_t leaf, uint32_t index, uint32_t reg)
{
	struct msg_cpuid_entry *e =
		cpu_template_leaf(h->cpuid, h->n, leaf, index);

	return e ? *cpu_template_reg(e, reg) : 0;
}

/* What a host lacks, for the error: the first few by name. */
#define MISSING_NAMED 8u

struct missing {
	char names[MISSING_NAMED * 32];
	size_t len;
	unsigned n;
};

static void miss(struct missing *s, const char *name)
{
	if (s->n++ < MISSING_NAMED)
		s->len += (size_t)snprintf(s->names + s->len,
			sizeof(s->names) - s->len, "%s%s", s->len ? ", " : "",
			name);
}

static void add_features(struct msg_prepare *m, struct host *h, unsigned level,
	struct missing *missing)
{
	for (size_t i = 0; i < N(features); i++) {
		uint32_t bit = BIT(features[i].bit);

		if (features[i].level > level)
			continue;
		if (!(host_reg(h, features[i].leaf, features[i].index,
			      features[i].reg) &
			    bit))
			miss(missing, features[i].name);
		*guest_reg(m, features[i].leaf, features[i].index,
			features[i].reg) |= bit;
	}
	if ((host_reg(h, EXT + 8, 0, EAX) & 0xff) < PHYSICAL_BITS)
		miss(missing, "40 bits of physical address");
	if ((host_reg(h, EXT + 8, 0, EAX) >> 8 & 0xff) < LINEAR_BITS)
		miss(missing, "48 bits of linear address");
}

static void add_constants(
	struct msg_prepare *m, enum cpu_vendor vendor, unsigned level)
{
	for (size_t i = 0; i < N(constants); i++)
		if (constants[i].from <= level && constants[i].to >= level &&
			(constants[i].vendor & vendor))
			*guest_reg(m, constants[i].leaf, constants[i].index,
				constants[i].reg) |= constants[i].value;
	if (vendor == CPU_AMD)
		*guest_reg(m, EXT + 1, 0, EDX) |=
			*guest_reg(m, 1, 0, EDX) & AMD_REPEATED;
}

static void add_passed(struct msg_prepare *m, struct host *h)
{
	for (size_t i = 0; i < N(passed); i++)
		if (passed[i].vendor & h->vendor)
			*guest_reg(m, passed[i].leaf, passed[i].index,
				passed[i].reg) |=
				host_reg(h, passed[i].leaf, passed[i].index,
					passed[i].reg) &
				passed[i].mask;
}

/* Leaves 80000002h to 80000004h: 48 bytes. */
static void add_brand(struct msg_prepare *m, unsigned level)
{
	uint32_t words[12] = {0};

	(void)snprintf(
		(char *)words, sizeof(words), "Mayfly x86-64-v%u", level);
	for (uint32_t i = 0; i < 12; i++)
		*guest_reg(m, EXT + 2 + i / 4, 0, i % 4) = words[i];
}

#define XSAVE_LEGACY 576u /* FXSAVE area and header */

/* Where each component of the XSAVE area lies is the host's to say: it is the
 * same for all hosts of a vendor, which have the state at all. */
static void add_xsave(struct msg_prepare *m, struct host *h)
{
	uint32_t state = *guest_reg(m, 0xd, 0, EAX), end = XSAVE_LEGACY;

	for (uint32_t i = 2; i < 32; i++) {
		uint32_t size, at;

		if (!(state & BIT(i)))
			continue;
		size = host_reg(h, 0xd, i, EAX);
		at = host_reg(h, 0xd, i, EBX);
		*guest_reg(m, 0xd, i, EAX) = size;
		*guest_reg(m, 0xd, i, EBX) = at;
		*guest_reg(m, 0xd, i, ECX) = host_reg(h, 0xd, i, ECX);
		if (at + size > end)
			end = at + size;
	}
	*guest_reg(m, 0xd, 0, EBX) = XSAVE_LEGACY; /* KVM's: by XCR0 */
	*guest_reg(m, 0xd, 0, ECX) = end;
}

static void add_msrs(struct msg_prepare *m)
{
	m->n_cpuid_mods = 0;
	m->n_msr_mods = 0;
	/* A guest that cannot see the register must not be made to have it. */
	if (*guest_reg(m, 0x7, 0, EDX) & BIT(29))
		m->msr_mods[m->n_msr_mods++] =
			(struct msg_msr_mod){.index = MSR_ARCH_CAPABILITIES,
				.set = ARCH_CAPABILITIES};
}

static int refuse(
	unsigned level, const struct missing *missing, struct error *err)
{
	char more[32] = "";

	if (missing->n > MISSING_NAMED)
		(void)snprintf(more, sizeof(more), " and %u more",
			missing->n - MISSING_NAMED);
	return error_field(err, EINVAL, FIELD,
		"this host lacks what x86-64-v%u has: %s%s", level,
		missing->names, more);
}

int cpu_level_apply(unsigned level, struct msg_prepare *m, struct error *err)
{
	struct host h = {.vendor = cpu_template_vendor(m), .n = m->n_cpuid};
	struct missing missing = {.n = 0};

	if (h.vendor == CPU_OTHER)
		return error_field(err, EINVAL, FIELD,
			"templates are for Intel and AMD hosts, and this is "
			"neither; use cpu-config");
	memcpy(h.cpuid, m->cpuid, h.n * sizeof(h.cpuid[0]));
	m->n_cpuid = 0;
	add_features(m, &h, level, &missing);
	if (missing.n)
		return refuse(level, &missing, err);
	add_constants(m, h.vendor, level);
	add_passed(m, &h);
	add_brand(m, level);
	if (level >= 3)
		add_xsave(m, &h);
	add_msrs(m);
	return 0;
}
