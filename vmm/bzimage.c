#include "vmm/kernel_image.h"
#include "vmm/layout.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Documentation/arch/x86/boot.rst */
#define HDR_OFFSET 0x1f1u
#define HDR_FIXED_END 0x202u  /* its length is counted from here */
#define HDR_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG 0xaa55u
#define VERSION_2_12 0x020cu /* the first which says XLF_KERNEL_64 */
#define SECTOR 512ull
#define PARAGRAPH 16ull
#define ENTRY_64 0x200u
#define LOADER_UNKNOWN 0xffu

static int check_header(const struct setup_header *h, struct error *err)
{
	/* jump is "eb xx": the header ends xx bytes after it. */
	unsigned hdr_end = HDR_FIXED_END + (h->jump >> 8);

	if (h->boot_flag != BOOT_FLAG || h->header != HDR_MAGIC)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the bzImage's boot sector has no valid signature");
	if (h->version < VERSION_2_12)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel speaks boot protocol %u.%u; at least 2.12 "
			"is needed",
			h->version >> 8, h->version & 0xff);
	if (hdr_end <
		HDR_OFFSET + offsetof(struct setup_header, handover_offset))
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the bzImage's setup header is too short");
	if (!(h->loadflags & LOADED_HIGH))
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel is a zImage, which loads below 1 MiB; a "
			"bzImage is needed");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the bzImage has no 64-bit entry point: a 32-bit "
			"kernel?");
	return 0;
}

/* Keeps what a boot loader passes on of the header, sets what it decides. */
static void adopt_header(
	struct setup_header *ret, const struct setup_header *h, uint64_t load)
{
	size_t len = HDR_FIXED_END + (h->jump >> 8) - HDR_OFFSET;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret, h, len < sizeof(*ret) ? len : sizeof(*ret));
	ret->type_of_loader = LOADER_UNKNOWN;
	ret->loadflags = LOADED_HIGH;
	ret->code32_start = (uint32_t)load;
	ret->heap_end_ptr = 0;
	ret->ext_loader_ver = 0;
	ret->ext_loader_type = 0;
	ret->hardware_subarch = X86_SUBARCH_PC;
	ret->hardware_subarch_data = 0;
	ret->setup_data = 0;
}

int bzimage_load(const struct gmem *mem, const struct kernel_file *file,
	struct kernel_image *ret, struct error *err)
{
	struct setup_header h;
	uint64_t setup_len, code_len, mem_len;
	int r;

	r = kernel_read(file, &h, sizeof(h), HDR_OFFSET, "setup header", err);
	if (r == 0)
		r = check_header(&h, err);
	if (r < 0)
		return r;
	setup_len = ((h.setup_sects ? h.setup_sects : 4) + 1) * SECTOR;
	code_len = h.syssize * PARAGRAPH;
	if (code_len <= ENTRY_64)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the bzImage holds no code: its size field says %u "
			"bytes",
			(unsigned)code_len);
	mem_len = h.init_size > code_len ? h.init_size : code_len;
	r = kernel_place(mem, file, setup_len, code_len, h.pref_address,
		mem_len, KERNEL_MAPPED_END, err);
	if (r < 0)
		return r;

	ret->protocol = BOOT_LINUX64;
	ret->entry_gpa = h.pref_address + ENTRY_64;
	ret->end_gpa = h.pref_address + mem_len;
	ret->initrd_last = h.initrd_addr_max;
	ret->cmdline_max = h.cmdline_size;
	adopt_header(&ret->hdr, &h, h.pref_address);
	return 0;
}
