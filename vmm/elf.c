#include "vmm/kernel_image.h"
#include "vmm/layout.h"
#include "vmm/limits.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

/* A vmlinux has 5 headers and less than 1 KiB of notes. */
#define PHDRS_MAX 64
#define NOTES_MAX 16384

#define XEN_NOTE_NAME "Xen"
#define XEN_NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

/* What a boot loader says of itself where no bzImage header says anything. */
#define BOOT_FLAG 0xaa55u
#define HDR_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_VERSION 0x020fu
#define LOADER_UNKNOWN 0xffu

/* Without a header that allows more: below 2 GiB, as kernels' own do. */
#define INITRD_LAST 0x7fffffffull

struct elf {
	const struct kernel_file *file;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[PHDRS_MAX];
};

static int check_header(const Elf64_Ehdr *eh, struct error *err)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel is a 32-bit ELF file; a 64-bit one is "
			"needed");
	if (eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != EM_X86_64)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel is an ELF file for another machine (%u); "
			"x86-64 (%u) is needed",
			eh->e_machine, EM_X86_64);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel is an ELF file that cannot be executed "
			"(type %u)",
			eh->e_type);
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 ||
		eh->e_phnum > PHDRS_MAX)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel's ELF file has %u program headers of %u "
			"bytes; 1 to %u of %zu are supported",
			eh->e_phnum, eh->e_phentsize, PHDRS_MAX,
			sizeof(Elf64_Phdr));
	return 0;
}

static int read_headers(struct elf *e, struct error *err)
{
	int r = kernel_read(
		e->file, &e->eh, sizeof(e->eh), 0, "ELF header", err);

	if (r == 0)
		r = check_header(&e->eh, err);
	if (r == 0)
		r = kernel_read(e->file, e->ph,
			e->eh.e_phnum * sizeof(e->ph[0]), e->eh.e_phoff,
			"program headers", err);
	return r;
}

/* Whether [a, a + a_len) and [b, b + b_len) meet; neither wraps. */
static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Segment i against those before it, which are known to lie in RAM. */
static int check_overlap(const struct elf *e, unsigned i, struct error *err)
{
	const Elf64_Phdr *p = &e->ph[i];

	for (unsigned k = 0; k < i; k++) {
		const Elf64_Phdr *q = &e->ph[k];

		if (q->p_type == PT_LOAD && q->p_memsz > 0 &&
			overlap(p->p_paddr, p->p_memsz, q->p_paddr, q->p_memsz))
			return error_field(err, EINVAL, KERNEL_FIELD,
				"the kernel's ELF segments %u and %u overlap",
				k, i);
	}
	return 0;
}

static int load_segments(const struct gmem *mem, const struct elf *e,
	uint64_t limit, uint64_t *ret_end, struct error *err)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];
		int r;

		if (p->p_type != PT_LOAD)
			continue;
		if (p->p_filesz > p->p_memsz)
			return error_field(err, EINVAL, KERNEL_FIELD,
				"the kernel's ELF segment %u is larger in the "
				"file than in memory",
				i);
		if (p->p_memsz == 0)
			continue;
		r = kernel_place(mem, e->file, p->p_offset, p->p_filesz,
			p->p_paddr, p->p_memsz, limit, err);
		if (r == 0)
			r = check_overlap(e, i, err);
		if (r < 0)
			return r;
		if (p->p_paddr + p->p_memsz > end)
			end = p->p_paddr + p->p_memsz;
	}
	if (end == 0)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel's ELF file has nothing to load");
	*ret_end = end;
	return 0;
}

/* The value of the PVH note in one segment of notes, or false. */
static bool find_entry_note(
	const uint8_t *notes, size_t len, size_t align, uint64_t *ret)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		const uint8_t *note = notes + at;
		Elf64_Nhdr nh;
		uint64_t desc, end;

		memcpy(&nh, note, sizeof(nh));
		desc = (sizeof(nh) + nh.n_namesz + align - 1) &
		       ~(uint64_t)(align - 1);
		end = desc + nh.n_descsz;
		if (end > len - at)
			return false;
		if (nh.n_type == XEN_NOTE_PHYS32_ENTRY &&
			nh.n_namesz == sizeof(XEN_NOTE_NAME) &&
			memcmp(note + sizeof(nh), XEN_NOTE_NAME,
				sizeof(XEN_NOTE_NAME)) == 0 &&
			(nh.n_descsz == 4 || nh.n_descsz == 8)) {
			*ret = 0;
			memcpy(ret, note + desc, nh.n_descsz);
			return true;
		}
		end = (end + align - 1) & ~(uint64_t)(align - 1);
		if (end > len - at)
			return false;
		at += end;
	}
	return false;
}

/* 1 with the PVH entry, 0 when the kernel has none. */
static int read_pvh_entry(const struct elf *e, uint64_t *ret, struct error *err)
{
	uint8_t notes[NOTES_MAX];

	for (unsigned i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];
		int r;

		if (p->p_type != PT_NOTE)
			continue;
		if (p->p_filesz > sizeof(notes))
			return error_field(err, EINVAL, KERNEL_FIELD,
				"the kernel's ELF notes take %llu bytes; at "
				"most %zu are supported",
				(unsigned long long)p->p_filesz, sizeof(notes));
		r = kernel_read(e->file, notes, p->p_filesz, p->p_offset,
			"ELF notes", err);
		if (r < 0)
			return r;
		if (find_entry_note(
			    notes, p->p_filesz, p->p_align == 8 ? 8 : 4, ret))
			return 1;
	}
	return 0;
}

static int check_entry(const struct elf *e, uint64_t entry, struct error *err)
{
	for (unsigned i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];

		/* Below its begin, the difference is huge. */
		if (p->p_type == PT_LOAD && entry - p->p_paddr < p->p_filesz)
			return 0;
	}
	return error_field(err, EINVAL, KERNEL_FIELD,
		"the kernel's entry point 0x%llx is in none of its ELF "
		"segments",
		(unsigned long long)entry);
}

int elf_load(const struct gmem *mem, const struct kernel_file *file,
	struct kernel_image *ret, struct error *err)
{
	struct elf e = {.file = file};
	uint64_t pvh_entry = 0;
	int r, pvh;

	r = read_headers(&e, err);
	if (r < 0)
		return r;
	pvh = read_pvh_entry(&e, &pvh_entry, err);
	if (pvh < 0)
		return pvh;
	ret->protocol = pvh ? BOOT_PVH : BOOT_LINUX64;
	ret->entry_gpa = pvh ? pvh_entry : e.eh.e_entry;
	r = check_entry(&e, ret->entry_gpa, err);
	if (r == 0)
		r = load_segments(mem, &e,
			pvh ? LAYOUT_HOLE : KERNEL_MAPPED_END, &ret->end_gpa,
			err);
	if (r < 0)
		return r;

	ret->initrd_last = INITRD_LAST;
	ret->cmdline_max = VM_CMDLINE_MAX - 1;
	ret->hdr = (struct setup_header){
		.boot_flag = BOOT_FLAG,
		.header = HDR_MAGIC,
		.version = BOOT_VERSION,
		.type_of_loader = LOADER_UNKNOWN,
		.loadflags = LOADED_HIGH,
	};
	return 0;
}
