#pragma once

/*
 * Loading a guest: kernel image, initrd, command line, boot information.
 * Everything goes through gmem_range(); the images are untrusted, every header
 * field is checked before it is used. Errors carry the API field at fault:
 * "boot-source.kernel_image_path", "boot-source.initrd_path",
 * "boot-source.boot_args" or "machine-config.mem_size_mib".
 *
 * Runs once, on the control thread, after its seccomp filter is in place:
 * pread64 and lseek (to the end, for a size) on the given descriptors are the
 * only system calls it makes.
 */

#include "base/error.h"
#include "virtio/gmem.h"

#include <stdbool.h>
#include <stdint.h>

enum boot_protocol {
	BOOT_LINUX64, /* 64-bit entry: RSI = info_gpa (boot_params) */
	BOOT_PVH,     /* 32-bit protected mode: EBX = info_gpa (start info) */
};

/* The GDT which BOOT_LINUX64 leaves at LAYOUT_GDT, and its selectors. */
#define BOOT_GDT_BYTES 32u
#define BOOT_GDT_CS 0x10u
#define BOOT_GDT_DS 0x18u

struct boot_entry {
	enum boot_protocol protocol;
	uint64_t entry_gpa;
	uint64_t info_gpa;
};

struct boot_images {
	int kernel_fd;       /* borrowed */
	int initrd_fd;       /* borrowed; -1: none */
	const char *cmdline; /* complete; shorter than VM_CMDLINE_MAX */
	uint64_t rsdp_gpa;   /* 0: no ACPI tables */
};

/*
 * Tells bzImage and ELF apart by magic, loads kernel and initrd, writes the
 * zero page (64-bit entry, with identity page tables of the first GiB and GDT
 * at their layout addresses) or the PVH start info.
 *
 * mem: as gmem_create() made it, all zero; what is to be zero (a kernel's bss)
 * is not written.
 */
int boot_load(const struct gmem *mem, const struct boot_images *images,
	struct boot_entry *ret, struct error *err);
