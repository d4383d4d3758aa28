/*
 * Kernel images: bzImage and ELF, as boot_load() meets them. The input is the
 * file, but for its last byte, which chooses the memory's size and whether
 * there is an initrd. What is loaded must lie where kernels may lie, and leave
 * what boot_load() itself writes as it should be.
 */

#include "tests/fuzz/fuzz.h"
#include "tests/unit/kernel_images.h"
#include "vmm/limits.h"

#include <stdbool.h>
#include <stdlib.h>

#define CMDLINE "console=ttyS0"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_loaded(const struct gmem *mem, const struct boot_entry *e)
{
	const char *cmdline = gmem_range(mem, LAYOUT_CMDLINE, sizeof(CMDLINE));
	const uint64_t *pml4 = gmem_range(mem, LAYOUT_PML4, 8);

	check(e->entry_gpa >= LAYOUT_HIGH_RAM);
	check(gmem_range(mem, e->entry_gpa, 1) != NULL);
	check(strcmp(cmdline, CMDLINE) == 0);
	if (e->protocol == BOOT_LINUX64) {
		const struct boot_params *p = gmem_range(
			mem, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
		uint32_t at = p->hdr.ramdisk_image;

		check(*pml4 == ((LAYOUT_PML4 + 0x1000) | 3));
		check(e->entry_gpa < 1024 * MIB);
		check(p->hdr.cmd_line_ptr == LAYOUT_CMDLINE);
		check(p->sentinel == 0 && p->hdr.setup_data == 0);
		if (p->hdr.ramdisk_size > 0)
			check(at >= LAYOUT_HIGH_RAM &&
				gmem_range(mem, at, p->hdr.ramdisk_size));
	} else {
		check(*pml4 == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t choice = size > 0 ? data[size - 1] : 0;
	struct boot_images images = {.cmdline = CMDLINE, .initrd_fd = -1};
	struct boot_entry entry;
	struct gmem mem = {0};
	struct error err = {0};
	int r;

	check(gmem_create(&mem, (choice & 0xf) * MIB + MIB, LAYOUT_HOLE,
		      LAYOUT_HOLE_END, false, &err) == 0);
	images.kernel_fd = image_fd(data, size > 0 ? size - 1 : 0);
	if (choice & 0x10)
		images.initrd_fd = image_fd("initrd", 6);
	r = boot_load(&mem, &images, &entry, &err);
	if (r == 0)
		check_loaded(&mem, &entry);
	else
		check(err.code == -r && err.msg[0] && err.field[0]);
	close(images.kernel_fd);
	if (images.initrd_fd >= 0)
		close(images.initrd_fd);
	gmem_destroy(&mem);
	return 0;
}

/* 16 MiB, with an initrd. */
static size_t finish(uint8_t *buf, size_t cap, const uint8_t *image, size_t n)
{
	check(n + 1 <= cap);
	memcpy(buf, image, n);
	buf[n] = 0x1f;
	return n + 1;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static struct elf_image elf;
	static struct bz bz;

	switch (n) {
	case 0:
		bz_build(&bz);
		return finish(buf, cap, bz.bytes, bz.size);
	case 1:
		elf_build(&elf);
		return finish(buf, cap, elf.bytes, elf.size);
	case 2:
		elf_build_pvh(&elf);
		return finish(buf, cap, elf.bytes, elf.size);
	default:
		return 0;
	}
}
