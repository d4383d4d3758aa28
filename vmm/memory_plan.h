#pragma once

/*
 * Where the memory that is not RAM lies in the guest: the hotplug region and
 * each pmem region, above RAM and above 4 GiB, within what the guest's CPU can
 * address. None of it is in the memory map that the kernel is given: it hears
 * of it from the device alone.
 */

#include "base/error.h"
#include "vmm/msg.h"

#include <stdint.h>

/* Linux cuts memory into sections of 128 MiB, each of one kind. */
#define MEMORY_PLAN_PMEM_ALIGN (128ull << 20)
/* A memory block of Linux has up to 2 GiB where there is much RAM; what of the
 * region is not in a whole one could not be used. */
#define MEMORY_PLAN_HOTPLUG_ALIGN (2ull << 30)

#define MEMORY_PLAN_MAX_SLOTS VM_MAX_HOTPLUG_SLOTS

struct memory_plan {
	uint64_t hotplug_gpa; /* 0: none */
	uint64_t pmem_gpa[VM_MAX_PMEM];
};

/* Also checks all sizes in m. address_bits: of memory_plan_address_bits().
 * Fails with EINVAL and the field at fault. */
int memory_plan(struct memory_plan *ret, const struct msg_start *m,
	uint64_t ram_bytes, unsigned address_bits, struct error *err);

/* The bits of an address that the guest's CPU has, by what its CPUID will
 * say. */
unsigned memory_plan_address_bits(const struct msg_prepare *m);
