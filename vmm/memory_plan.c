#include "vmm/memory_plan.h"

#include "vmm/layout.h"

#include <errno.h>

#define MIB (1ull << 20)
#define BLOCK_MIN (2 * MIB)
#define SLOT_MIN (128 * MIB)
#define PMEM_UNIT (2 * MIB)

#define RAM_FIELD "machine-config.mem_size_mib"
#define TOTAL_FIELD "memory-hotplug.total_size_mib"
#define BLOCK_FIELD "memory-hotplug.block_size_mib"
#define SLOT_FIELD "memory-hotplug.slot_size_mib"
#define REQUESTED_FIELD "memory-hotplug.requested_size_mib"
#define PMEM_FIELD "pmem.path_on_host"

/* CPUID 0x80000008: of physical addresses; and, where nested paging reaches
 * less far, of those that it reaches. */
#define LEAF_ADDRESS_BITS 0x80000008u
#define DEFAULT_BITS 36u

unsigned memory_plan_address_bits(const struct msg_prepare *m)
{
	unsigned bits, nested;
	uint32_t eax = 0;

	for (unsigned i = 0; i < m->n_cpuid; i++)
		if (m->cpuid[i].function == LEAF_ADDRESS_BITS)
			eax = m->cpuid[i].eax;
	for (unsigned i = 0; i < m->n_cpuid_mods; i++)
		if (m->cpuid_mods[i].leaf == LEAF_ADDRESS_BITS &&
			m->cpuid_mods[i].reg == 0)
			eax = (eax & m->cpuid_mods[i].keep) |
			      m->cpuid_mods[i].set;
	bits = eax & 0xff;
	nested = eax >> 16 & 0xff;
	if (nested && nested < bits)
		bits = nested;
	if (bits < 32 || bits > 52)
		bits = DEFAULT_BITS;
	return bits;
}

static int check_hotplug(const struct msg_memory_hotplug *h, struct error *err)
{
	uint64_t block = h->block_bytes;

	if (block < BLOCK_MIN || block & (block - 1))
		return error_field(err, EINVAL, BLOCK_FIELD,
			"must be a power of two, 2 or more");
	if (h->slot_bytes < SLOT_MIN || h->slot_bytes % h->block_bytes)
		return error_field(err, EINVAL, SLOT_FIELD,
			"must be a multiple of block_size_mib, 128 or more");
	if (h->region_bytes == 0 || h->region_bytes % h->slot_bytes)
		return error_field(err, EINVAL, TOTAL_FIELD,
			"must be a multiple of slot_size_mib, and not 0");
	if (h->region_bytes / h->slot_bytes > MEMORY_PLAN_MAX_SLOTS)
		return error_field(err, EINVAL, TOTAL_FIELD,
			"must be at most %d slots of slot_size_mib",
			MEMORY_PLAN_MAX_SLOTS);
	if (h->requested_bytes > h->region_bytes ||
		h->requested_bytes % h->block_bytes)
		return error_field(err, EINVAL, REQUESTED_FIELD,
			"must be a multiple of block_size_mib, and at most "
			"total_size_mib");
	return 0;
}

static int check_pmem(const struct msg_pmem *p, struct error *err)
{
	if (p->file_bytes == 0 || p->size_bytes < p->file_bytes ||
		p->size_bytes % PMEM_UNIT)
		return error_field(err, EINVAL, PMEM_FIELD,
			"must be a file that is not empty");
	return 0;
}

/* The next len bytes at a multiple of align, from *at on. Like the address
 * space's end, align is a power of two, and never the larger one. */
static int place(uint64_t *at, uint64_t len, uint64_t align, unsigned bits,
	const char *field, uint64_t *ret, struct error *err)
{
	uint64_t limit = 1ull << bits;
	uint64_t gpa = (*at + align - 1) & ~(align - 1);

	if (len > limit - gpa)
		return error_field(err, EINVAL, field,
			"does not fit into the guest's address space of %u "
			"bits, of which 0x%llx are taken",
			bits, (unsigned long long)*at);
	*at = gpa + len;
	*ret = gpa;
	return 0;
}

static int place_all(struct memory_plan *p, const struct msg_start *m,
	uint64_t ram_bytes, unsigned bits, struct error *err)
{
	const struct msg_memory_hotplug *h = &m->memory_hotplug;
	uint64_t at = LAYOUT_HOLE_END, ram;
	int r = 0;

	if (ram_bytes > LAYOUT_HOLE)
		r = place(&at, ram_bytes - LAYOUT_HOLE, 1, bits, RAM_FIELD,
			&ram, err);
	if (r == 0 && m->has_memory_hotplug)
		r = check_hotplug(h, err);
	if (r == 0 && m->has_memory_hotplug)
		r = place(&at, h->region_bytes, MEMORY_PLAN_HOTPLUG_ALIGN, bits,
			TOTAL_FIELD, &p->hotplug_gpa, err);
	for (unsigned i = 0; r == 0 && i < m->n_pmem; i++) {
		r = check_pmem(&m->pmem[i], err);
		if (r == 0)
			r = place(&at, m->pmem[i].size_bytes,
				MEMORY_PLAN_PMEM_ALIGN, bits, PMEM_FIELD,
				&p->pmem_gpa[i], err);
	}
	return r;
}

int memory_plan(struct memory_plan *ret, const struct msg_start *m,
	uint64_t ram_bytes, unsigned address_bits, struct error *err)
{
	struct memory_plan p = {0};
	int r = place_all(&p, m, ram_bytes, address_bits, err);

	if (r == 0)
		*ret = p;
	return r;
}
