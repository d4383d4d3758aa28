#pragma once

/*
 * Small kernel images for tests: valid as built, and bent field by field by the
 * tests themselves. No image is kept in the tree.
 */

#include "vmm/boot.h"
#include "vmm/layout.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1ull << 20)

/* A memfd with these bytes. */
static inline int image_fd(const void *bytes, size_t n)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd >= 0 && n > 0 && pwrite(fd, bytes, n, 0) != (ssize_t)n) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A bzImage of 1 KiB of setup and 4 KiB of code, loaded at 2 MiB. */
#define BZ_SETUP 1024u
#define BZ_CODE 4096u
#define BZ_PREF (2 * MIB)
#define BZ_INIT_SIZE (1 * MIB)
#define BZ_HEADER 0x1f1u

struct bz {
	uint8_t bytes[BZ_SETUP + BZ_CODE];
	size_t size;
};

static inline struct setup_header *bz_header(struct bz *b)
{
	return (struct setup_header *)(void *)(b->bytes + BZ_HEADER);
}

static inline void bz_build(struct bz *b)
{
	memset(b, 0, sizeof(*b));
	b->size = sizeof(b->bytes);
	/* The boot sector and what is not the header must stay behind. */
	memset(b->bytes, 0xee, BZ_HEADER);
	memset(b->bytes + 0x202 + 0x6a, 0xee, BZ_SETUP - 0x202 - 0x6a);
	for (unsigned i = 0; i < BZ_CODE; i++)
		b->bytes[BZ_SETUP + i] = (uint8_t)(i * 7 + 1);
	*bz_header(b) = (struct setup_header){
		.setup_sects = BZ_SETUP / 512 - 1,
		.syssize = BZ_CODE / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.pref_address = BZ_PREF,
		.init_size = BZ_INIT_SIZE,
	};
}

/*
 * An ELF kernel of two segments, the second with a bss, and a note segment:
 * [headers][segment 0][segment 1][notes]
 */
#define ELF_SEG0 (2 * MIB)
#define ELF_SEG0_LEN 0x800u
#define ELF_SEG1 (4 * MIB)
#define ELF_SEG1_LEN 0x400u
#define ELF_SEG1_MEM 0x3000u
#define ELF_ENTRY (ELF_SEG0 + 0x100)
#define ELF_PVH_ENTRY (ELF_SEG1 + 0x80)
#define ELF_PHDRS 3
#define ELF_DATA_AT 0x200u
#define ELF_NOTES_AT (ELF_DATA_AT + ELF_SEG0_LEN + ELF_SEG1_LEN)
#define ELF_NOTES_MAX 256u

struct elf_image {
	uint8_t bytes[ELF_NOTES_AT + ELF_NOTES_MAX];
	size_t size;
};

static inline Elf64_Ehdr *elf_header(struct elf_image *e)
{
	return (Elf64_Ehdr *)(void *)e->bytes;
}

static inline Elf64_Phdr *elf_phdr(struct elf_image *e, unsigned i)
{
	return (Elf64_Phdr *)(void *)(e->bytes + sizeof(Elf64_Ehdr)) + i;
}

/* Appends a note to the note segment; align: of the segment. */
static inline void elf_add_note(struct elf_image *e, const char *name,
	uint32_t type, const void *desc, uint32_t desc_len, size_t align)
{
	Elf64_Phdr *p = elf_phdr(e, 2);
	uint8_t *at = e->bytes + ELF_NOTES_AT + p->p_filesz;
	Elf64_Nhdr nh = {(uint32_t)strlen(name) + 1, desc_len, type};
	size_t d = (sizeof(nh) + nh.n_namesz + align - 1) / align * align;

	memcpy(at, &nh, sizeof(nh));
	memcpy(at + sizeof(nh), name, nh.n_namesz);
	memcpy(at + d, desc, desc_len);
	p->p_filesz += (d + desc_len + align - 1) / align * align;
	p->p_align = align;
	e->size = ELF_NOTES_AT + p->p_filesz;
}

/* Without notes: the 64-bit entry. */
static inline void elf_build(struct elf_image *e)
{
	memset(e, 0, sizeof(*e));
	e->size = ELF_NOTES_AT;
	for (unsigned i = ELF_DATA_AT; i < ELF_NOTES_AT; i++)
		e->bytes[i] = (uint8_t)(i * 5 + 3);
	*elf_header(e) = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
			ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = ELF_ENTRY,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = ELF_PHDRS,
	};
	*elf_phdr(e, 0) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = ELF_DATA_AT,
		.p_vaddr = 0xffffffff80000000ull + ELF_SEG0,
		.p_paddr = ELF_SEG0,
		.p_filesz = ELF_SEG0_LEN,
		.p_memsz = ELF_SEG0_LEN,
	};
	*elf_phdr(e, 1) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = ELF_DATA_AT + ELF_SEG0_LEN,
		.p_paddr = ELF_SEG1,
		.p_filesz = ELF_SEG1_LEN,
		.p_memsz = ELF_SEG1_MEM,
	};
	*elf_phdr(e, 2) = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = ELF_NOTES_AT,
		.p_align = 4,
	};
}

/* With the PVH note, among others. */
static inline void elf_build_pvh(struct elf_image *e)
{
	uint64_t entry = ELF_PVH_ENTRY, other = 0x1234;

	elf_build(e);
	elf_add_note(e, "GNU", 18, &other, 8, 4);
	elf_add_note(e, "Xen", 6, "l", 2, 4);
	elf_add_note(e, "Xen", 18, &entry, 8, 4);
	elf_add_note(e, "Xen", 5, "tail", 5, 4);
}
