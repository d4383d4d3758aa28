#include "vmm/cpuid.h"

#include "vmm/config.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define BIT(n) (1u << (n))

_Static_assert(offsetof(struct cpuid_table, entries) ==
		       offsetof(struct kvm_cpuid2, entries),
	"a table is a struct kvm_cpuid2 with its entries");

enum reg {
	EAX = VM_CPUID_EAX,
	EBX = VM_CPUID_EBX,
	ECX = VM_CPUID_ECX,
	EDX = VM_CPUID_EDX
};

/*
 * What a microVM must not see: performance counters and tracing, nested
 * virtualization, power and thermal management, enclaves, what KVM would need
 * more of us to offer (AMX), and what describes the host's package.
 */
static const uint32_t hidden_leaves[] = {
	0x5,        /* MONITOR, MWAIT */
	0x6,        /* thermal and power management; ARAT is put back */
	0xa,        /* performance counters */
	0xb,        /* topology: made here */
	0x12,       /* SGX */
	0x14,       /* processor trace */
	0x15,       /* TSC and crystal: made here where they belong */
	0x16, 0x19, /* key locker */
	0x1c,       /* last branch records */
	0x1d,       /* AMX */
	0x1e, 0x1f, /* topology, a second time: 0xb is enough */
	0x23,       /* performance counters */
	0x8000000a, /* SVM */
	0x8000001b, /* instruction based sampling */
	0x8000001f, /* SEV */
	0x80000022, /* performance counters */
	0x80000026, /* topology, a second time */
};

#define ANY_INDEX UINT32_MAX

static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t bits;
} hidden_bits[] = {
	/* DTES64, MONITOR, DS-CPL, VMX, SMX, EST, TM2, SDBG, xTPR, PDCM */
	{0x1, ANY_INDEX, ECX,
		BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) |
			BIT(11) | BIT(14) | BIT(15)},
	/* PSN, DS, ACPI (thermal), TM, PBE */
	{0x1, ANY_INDEX, EDX, BIT(18) | BIT(21) | BIT(22) | BIT(29) | BIT(31)},
	/* SGX, PQM, PQE, processor trace */
	{0x7, 0, EBX, BIT(2) | BIT(12) | BIT(15) | BIT(25)},
	/* TME, key locker, ENQCMD, SGX_LC */
	{0x7, 0, ECX, BIT(13) | BIT(23) | BIT(29) | BIT(30)},
	/* UINTR, PCONFIG, ARCH_LBR, AMX_BF16, AMX_TILE, AMX_INT8 */
	{0x7, 0, EDX, BIT(5) | BIT(18) | BIT(19) | BIT(22) | BIT(24) | BIT(25)},
	{0x7, 1, EAX, BIT(21)},           /* AMX_FP16 */
	{0x7, 1, EDX, BIT(8)},            /* AMX_COMPLEX */
	{0xd, 0, EAX, BIT(17) | BIT(18)}, /* AMX state */
	{0xd, 1, EAX, BIT(4)},            /* XFD, for AMX alone */
	/* SVM, ExtApic, IBS, SKINIT, WDT, LWP, NodeId, core and NB counters,
	 * LLC counters, MWAITX */
	{0x80000001, ANY_INDEX, ECX,
		BIT(2) | BIT(3) | BIT(10) | BIT(12) | BIT(13) | BIT(15) |
			BIT(19) | BIT(23) | BIT(24) | BIT(28) | BIT(29)},
	{0x80000007, ANY_INDEX, EDX, ~BIT(8)}, /* but invariant TSC */
};

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg r)
{
	switch (r) {
	case EAX:
		return &e->eax;
	case EBX:
		return &e->ebx;
	case ECX:
		return &e->ecx;
	case EDX:
	default:
		return &e->edx;
	}
}

static struct kvm_cpuid_entry2 *find(
	struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < t->nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == function && e->index == index)
			return e;
	}
	return NULL;
}

/* Adds a leaf, or replaces it. */
static int put(struct cpuid_table *t, struct kvm_cpuid_entry2 leaf)
{
	struct kvm_cpuid_entry2 *e = find(t, leaf.function, leaf.index);

	if (!e && t->nent == CPUID_MAX)
		return -E2BIG;
	if (!e)
		e = &t->entries[t->nent++];
	*e = leaf;
	return 0;
}

static bool hidden_leaf(const struct kvm_cpuid_entry2 *e)
{
	if (e->function == 0xd && (e->index == 17 || e->index == 18))
		return true; /* AMX state */
	for (size_t i = 0; i < sizeof(hidden_leaves) / sizeof(hidden_leaves[0]);
		i++)
		if (e->function == hidden_leaves[i])
			return true;
	return false;
}

/* A leaf that is not there reads as zeros. */
static void hide(struct cpuid_table *t)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < t->nent; i++)
		if (!hidden_leaf(&t->entries[i]))
			t->entries[kept++] = t->entries[i];
	t->nent = kept;
	for (size_t i = 0; i < sizeof(hidden_bits) / sizeof(hidden_bits[0]);
		i++) {
		for (unsigned k = 0; k < t->nent; k++) {
			struct kvm_cpuid_entry2 *e = &t->entries[k];

			if (e->function == hidden_bits[i].function &&
				(hidden_bits[i].index == ANY_INDEX ||
					hidden_bits[i].index == e->index))
				*reg_of(e, hidden_bits[i].reg) &=
					~hidden_bits[i].bits;
		}
	}
}

static void modify(struct cpuid_table *t, const struct cpuid_config *c)
{
	for (unsigned i = 0; i < c->n_mods; i++) {
		const struct msg_cpuid_mod *m = &c->mods[i];
		struct kvm_cpuid_entry2 *e = find(t, m->leaf, m->subleaf);

		if (!e)
			continue;
		e->flags = m->flags;
		*reg_of(e, m->reg) = (*reg_of(e, m->reg) & m->keep) | m->set;
	}
}

/* The bits it takes to number n things. */
static unsigned id_bits(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

/* How many CPUs share a cache of this level, in leaves 4 and 0x8000001D. */
static void set_cache_sharing(
	struct kvm_cpuid_entry2 *e, unsigned threads, unsigned package)
{
	unsigned level = (e->eax >> 5) & 7;
	unsigned sharing = level >= 3 ? package : threads;

	if ((e->eax & 0x1f) == 0)
		return; /* no cache: the list's end */
	e->eax &= ~(0xfffu << 14);
	e->eax |= (sharing - 1) << 14;
}

/* The leaves whose fields lie within what the host said. */
static void patch_topology(struct cpuid_table *t, const struct cpuid_config *c,
	unsigned threads, bool amd)
{
	unsigned package_bits = id_bits(c->n_vcpus);
	unsigned cores = (c->n_vcpus + threads - 1) / threads;

	for (unsigned i = 0; i < t->nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == 0x1) {
			e->ebx &= ~0x00ff0000u;
			e->ebx |= 1u << package_bits << 16;
			e->edx &= ~BIT(28); /* HTT: more than one */
			e->edx |= c->n_vcpus > 1 ? BIT(28) : 0;
		} else if (e->function == 0x4) {
			set_cache_sharing(e, threads, 1u << package_bits);
			e->eax &= 0x03ffffffu;
			if (e->eax & 0x1f)
				e->eax |= ((1u << id_bits(cores)) - 1) << 26;
		} else if (e->function == 0x80000001) {
			e->ecx &= ~BIT(1); /* CmpLegacy */
			e->ecx |= amd && c->n_vcpus > 1 ? BIT(1) : 0;
		} else if (e->function == 0x80000008) {
			e->ecx =
				amd ? package_bits << 12 | (c->n_vcpus - 1) : 0;
		} else if (e->function == 0x8000001d) {
			set_cache_sharing(e, threads, c->n_vcpus);
		} else if (e->function == 0x8000001e) {
			e->ebx = (threads - 1) << 8;
			e->ecx = 0; /* one node */
		}
	}
}

/* Leaf 0xB: the levels of the APIC id (Intel SDM; AMD has the same). */
static int put_topology(
	struct cpuid_table *t, const struct cpuid_config *c, unsigned threads)
{
	const uint32_t flag = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	int r;

	r = put(t, (struct kvm_cpuid_entry2){.function = 0xb,
			   .index = 0,
			   .flags = flag,
			   .eax = id_bits(threads),
			   .ebx = threads,
			   .ecx = 1u << 8 | 0}); /* SMT */
	if (r < 0)
		return r;
	r = put(t, (struct kvm_cpuid_entry2){.function = 0xb,
			   .index = 1,
			   .flags = flag,
			   .eax = id_bits(c->n_vcpus),
			   .ebx = c->n_vcpus,
			   .ecx = 2u << 8 | 1}); /* core */
	if (r < 0)
		return r;
	return put(t,
		(struct kvm_cpuid_entry2){
			.function = 0xb, .index = 2, .flags = flag, .ecx = 2});
}

/* KVM's APIC timer counts ns; the guest hears it as a 1 GHz crystal. */
#define APIC_BUS_KHZ 1000000u

static int put_tsc(
	struct cpuid_table *t, uint32_t tsc_khz, uint32_t max_leaf, bool amd)
{
	int r;

	r = put(t, (struct kvm_cpuid_entry2){.function = 0x40000010,
			   .eax = tsc_khz,
			   .ebx = APIC_BUS_KHZ});
	if (r < 0 || amd || max_leaf < 0x15)
		return r;
	/* TSC Hz = ecx * ebx / eax */
	r = put(t, (struct kvm_cpuid_entry2){.function = 0x15,
			   .eax = APIC_BUS_KHZ,
			   .ebx = tsc_khz,
			   .ecx = APIC_BUS_KHZ * 1000u});
	if (r < 0 || max_leaf < 0x16)
		return r;
	return put(t, (struct kvm_cpuid_entry2){.function = 0x16,
			      .eax = tsc_khz / 1000,
			      .ebx = tsc_khz / 1000,
			      .ecx = 100});
}

static int put_kvm(struct cpuid_table *t, bool with_tsc)
{
	struct kvm_cpuid_entry2 e = {.function = 0x40000000,
		.eax = with_tsc ? 0x40000010 : 0x40000001};

	memcpy(&e.ebx, "KVMK", 4);
	memcpy(&e.ecx, "VMKV", 4);
	memcpy(&e.edx, "M\0\0\0", 4);
	return put(t, e);
}

int cpuid_filter(struct cpuid_table *t, const struct cpuid_config *c)
{
	unsigned threads = c->smt && c->n_vcpus > 1 ? 2 : 1;
	struct kvm_cpuid_entry2 *e = find(t, 0, 0);
	uint32_t max_leaf = 0;
	bool amd = false;
	int r;

	if (e) {
		amd = memcmp(&e->ebx, "Auth", 4) == 0 ||
		      memcmp(&e->ebx, "Hygo", 4) == 0;
		if (e->eax < 0xb)
			e->eax = 0xb;
		max_leaf = e->eax;
	}
	hide(t);
	r = put(t, (struct kvm_cpuid_entry2){
			   .function = 0x6, .eax = BIT(2)}); /* ARAT */
	if (r == 0)
		r = put_kvm(t, c->tsc_khz != 0);
	if (r == 0 && c->tsc_khz)
		r = put_tsc(t, c->tsc_khz, max_leaf, amd);
	if (r < 0)
		return r;
	modify(t, c);
	e = find(t, 1, 0);
	if (e) {
		e->ecx |= BIT(31) | BIT(21); /* a hypervisor; x2APIC */
		e->ecx &= ~BIT(24);
		/* KVM has it with its own APIC, and leaves saying so to us. */
		e->ecx |= c->tsc_deadline ? BIT(24) : 0;
	}
	patch_topology(t, c, threads, amd);
	return put_topology(t, c, threads);
}

void cpuid_set_vcpu(struct cpuid_table *t, unsigned vcpu)
{
	for (unsigned i = 0; i < t->nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == 0x1) {
			e->ebx = (e->ebx & 0x00ffffffu) | vcpu << 24;
		} else if (e->function == 0xb) {
			e->edx = vcpu;
		} else if (e->function == 0x8000001e) {
			unsigned threads = ((e->ebx >> 8) & 0xff) + 1;

			e->eax = vcpu;
			e->ebx = (e->ebx & ~0xffu) | vcpu / threads;
		}
	}
}

const struct kvm_cpuid2 *cpuid_table_kvm(const struct cpuid_table *t)
{
	return (const struct kvm_cpuid2 *)(const void *)t;
}
