#pragma once

/*
 * Kernel images: what a loader of one format finds out for boot.c. Inside
 * boot.c's walls only.
 *
 * A kernel lies between LAYOUT_HIGH_RAM and the end of low RAM, so that it
 * cannot meet what we put below (boot information, page tables, ACPI tables).
 */

#include "base/error.h"
#include "virtio/gmem.h"
#include "vmm/boot.h"

#include <asm/bootparam.h>
#include <stdint.h>

#define KERNEL_FIELD "boot-source.kernel_image_path"

/* What the 64-bit entry's page tables cover. */
#define KERNEL_MAPPED_END 0x40000000ull

struct kernel_file {
	int fd; /* borrowed */
	uint64_t size;
};

struct kernel_image {
	enum boot_protocol protocol;
	uint64_t entry_gpa;
	uint64_t end_gpa;        /* of all it needs until it manages memory */
	uint64_t initrd_last;    /* last byte an initrd may use */
	uint32_t cmdline_max;    /* bytes, without the NUL */
	struct setup_header hdr; /* for the zero page */
};

/* Both load and fill in ret, or fail with KERNEL_FIELD. */
int bzimage_load(const struct gmem *mem, const struct kernel_file *file,
	struct kernel_image *ret, struct error *err);
int elf_load(const struct gmem *mem, const struct kernel_file *file,
	struct kernel_image *ret, struct error *err);

/* pread of all of [off, off + len) into buf; what: for the message. */
int kernel_read(const struct kernel_file *file, void *buf, uint64_t len,
	uint64_t off, const char *what, struct error *err);

/*
 * Reads [off, off + file_len) of the file to gpa, where the kernel takes
 * mem_len bytes (at least file_len). Fails unless all of those lie between
 * LAYOUT_HIGH_RAM and limit, in RAM.
 */
int kernel_place(const struct gmem *mem, const struct kernel_file *file,
	uint64_t off, uint64_t file_len, uint64_t gpa, uint64_t mem_len,
	uint64_t limit, struct error *err);

/* Writes boot_params, page tables and GDT (zero_page.c), or the start info
 * (pvh.c). initrd_len 0: none. */
struct boot_info {
	const struct kernel_image *kernel;
	uint64_t initrd_gpa, initrd_len;
	uint64_t rsdp_gpa;
};

int zero_page_write(const struct gmem *mem, const struct boot_info *info,
	struct error *err);
int pvh_write(const struct gmem *mem, const struct boot_info *info,
	struct error *err);
