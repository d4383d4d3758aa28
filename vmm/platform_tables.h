#pragma once

/*
 * How a kernel learns of the machine: ACPI tables, and for kernels without
 * ACPI the MP table and virtio_mmio.device= words of the command line. All
 * three are made from this one description.
 */

#include "base/error.h"
#include "virtio/gmem.h"

#include <stdint.h>

struct platform_virtio {
	uint64_t gpa;
	uint32_t irq;
};

struct platform {
	unsigned n_vcpus;
	const struct platform_virtio *virtio;
	unsigned n_virtio;
};

/* Writes RSDP, XSDT, FADT, MADT, DSDT at LAYOUT_ACPI.. (ACPI 6.4). */
int acpi_write(const struct gmem *mem, const struct platform *p,
	uint64_t *ret_rsdp_gpa, struct error *err);

/* Writes the MP floating pointer and table at LAYOUT_EBDA (MP spec 1.4). */
int mptable_write(
	const struct gmem *mem, const struct platform *p, struct error *err);

/*
 * Adds " virtio_mmio.device=4K@0x...:irq" for each device to the kernel's words
 * of the NUL-ended cmdline of capacity VM_CMDLINE_MAX: before a "--". Fails
 * with field boot-source.boot_args, leaving cmdline as it was, when it does not
 * fit.
 */
int cmdline_add_virtio(
	char *cmdline, const struct platform *p, struct error *err);
