#include "vmm/boot.h"

#include "base/fd.h"
#include "vmm/kernel_image.h"
#include "vmm/layout.h"
#include "vmm/limits.h"
#include "vmm/memory_map.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define INITRD_FIELD "boot-source.initrd_path"
#define CMDLINE_FIELD "boot-source.boot_args"
#define MEMORY_FIELD "machine-config.mem_size_mib"

#define PAGE 4096ull
#define MIB (1ull << 20)

#define BZIMAGE_MAGIC "HdrS"
#define BZIMAGE_MAGIC_AT 0x202u

/* The size of an open file or block device, which must not be empty. */
static int image_size(int fd, const char *field, const char *what,
	uint64_t *ret, struct error *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return error_field(err, errno, field,
			"the size of the %s cannot be read: %s", what,
			strerror(errno));
	if (end == 0)
		return error_field(
			err, EINVAL, field, "the %s is an empty file", what);
	*ret = (uint64_t)end;
	return 0;
}

int kernel_read(const struct kernel_file *file, void *buf, uint64_t len,
	uint64_t off, const char *what, struct error *err)
{
	int r;

	if (off > file->size || len > file->size - off)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel image is truncated: it has %llu bytes, and "
			"its %s takes %llu from byte %llu on",
			(unsigned long long)file->size, what,
			(unsigned long long)len, (unsigned long long)off);
	r = fd_pread_full(file->fd, buf, len, off);
	if (r < 0)
		return error_field(err, -r, KERNEL_FIELD,
			"the kernel image cannot be read: %s", strerror(-r));
	return 0;
}

int kernel_place(const struct gmem *mem, const struct kernel_file *file,
	uint64_t off, uint64_t file_len, uint64_t gpa, uint64_t mem_len,
	uint64_t limit, struct error *err)
{
	void *to;

	if (gpa < LAYOUT_HIGH_RAM || gpa > limit || mem_len > limit - gpa)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel wants %llu bytes at 0x%llx, which is not "
			"between 1 MiB and %llu MiB",
			(unsigned long long)mem_len, (unsigned long long)gpa,
			limit / MIB);
	to = gmem_range(mem, gpa, mem_len);
	if (!to)
		return error_field(err, EINVAL, KERNEL_FIELD,
			"the kernel does not fit: it needs memory up to %llu "
			"MiB, and the guest's ends at %llu MiB",
			(gpa + mem_len + MIB - 1) / MIB,
			memory_map_low_end(mem) / MIB);
	return kernel_read(file, to, file_len, off, "code", err);
}

static int load_kernel(const struct gmem *mem, int fd, struct kernel_image *ret,
	struct error *err)
{
	struct kernel_file file = {.fd = fd};
	char elf_magic[SELFMAG], bz_magic[sizeof(BZIMAGE_MAGIC) - 1];
	int r = image_size(fd, KERNEL_FIELD, "kernel image", &file.size, err);

	if (r == 0)
		r = kernel_read(&file, elf_magic, sizeof(elf_magic), 0,
			"first header", err);
	if (r < 0)
		return r;
	if (memcmp(elf_magic, ELFMAG, SELFMAG) == 0)
		return elf_load(mem, &file, ret, err);
	if (file.size >= BZIMAGE_MAGIC_AT + sizeof(bz_magic)) {
		r = kernel_read(&file, bz_magic, sizeof(bz_magic),
			BZIMAGE_MAGIC_AT, "setup header", err);
		if (r < 0)
			return r;
		if (memcmp(bz_magic, BZIMAGE_MAGIC, sizeof(bz_magic)) == 0)
			return bzimage_load(mem, &file, ret, err);
	}
	return error_field(err, EINVAL, KERNEL_FIELD,
		"the kernel image is neither an ELF file nor a bzImage");
}

/* At the top of low memory, where the kernel allows: it stays clear of the
 * kernel, and of where a kernel that moves itself would rather go. */
static int load_initrd(const struct gmem *mem, int fd, struct boot_info *info,
	struct error *err)
{
	uint64_t top = memory_map_low_end(mem), size = 0, floor, room;
	void *to = NULL;
	int r = image_size(fd, INITRD_FIELD, "initrd", &size, err);

	if (r < 0)
		return r;
	if (info->kernel->initrd_last < top)
		top = info->kernel->initrd_last + 1;
	floor = (info->kernel->end_gpa + PAGE - 1) & ~(PAGE - 1);
	room = top > floor ? top - floor : 0;
	if (size <= room) {
		info->initrd_gpa = (top - size) & ~(PAGE - 1);
		to = gmem_range(mem, info->initrd_gpa, size);
	}
	if (!to)
		return error_field(err, EINVAL, INITRD_FIELD,
			"the initrd of %llu bytes does not fit in guest "
			"memory: %llu MiB are free between the kernel and "
			"%llu MiB",
			(unsigned long long)size, room / MIB, top / MIB);
	r = fd_pread_full(fd, to, size, 0);
	if (r < 0)
		return error_field(err, -r, INITRD_FIELD,
			"the initrd cannot be read: %s", strerror(-r));
	info->initrd_len = size;
	return 0;
}

static int load_cmdline(const struct gmem *mem, const char *cmdline,
	uint32_t max, struct error *err)
{
	size_t len = strnlen(cmdline, VM_CMDLINE_MAX);
	char *to;

	if (max > VM_CMDLINE_MAX - 1)
		max = VM_CMDLINE_MAX - 1;
	if (len > max)
		return error_field(err, EINVAL, CMDLINE_FIELD,
			"the command line, with what is added for the devices, "
			"is %s%zu bytes long; this kernel takes %u",
			len == VM_CMDLINE_MAX ? "at least " : "", len, max);
	to = gmem_range(mem, LAYOUT_CMDLINE, VM_CMDLINE_MAX);
	if (!to)
		return error_field(err, EINVAL, MEMORY_FIELD,
			"there is no memory for the command line");
	memcpy(to, cmdline, len);
	to[len] = '\0';
	return 0;
}

int boot_load(const struct gmem *mem, const struct boot_images *images,
	struct boot_entry *ret, struct error *err)
{
	struct kernel_image kernel = {0};
	struct boot_info info = {
		.kernel = &kernel, .rsdp_gpa = images->rsdp_gpa};
	int r;

	if (memory_map_low_end(mem) <= LAYOUT_HIGH_RAM)
		return error_field(err, EINVAL, MEMORY_FIELD,
			"a kernel needs more than 1 MiB of memory");
	r = load_kernel(mem, images->kernel_fd, &kernel, err);
	if (r == 0)
		r = load_cmdline(mem, images->cmdline, kernel.cmdline_max, err);
	if (r == 0 && images->initrd_fd >= 0)
		r = load_initrd(mem, images->initrd_fd, &info, err);
	if (r == 0)
		r = kernel.protocol == BOOT_PVH
			    ? pvh_write(mem, &info, err)
			    : zero_page_write(mem, &info, err);
	if (r < 0)
		return r;
	ret->protocol = kernel.protocol;
	ret->entry_gpa = kernel.entry_gpa;
	ret->info_gpa = kernel.protocol == BOOT_PVH ? LAYOUT_PVH_INFO
						    : LAYOUT_ZERO_PAGE;
	return 0;
}
