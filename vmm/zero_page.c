#include "vmm/kernel_image.h"
#include "vmm/layout.h"
#include "vmm/memory_map.h"

#include <errno.h>
#include <string.h>

/* Page table entries: present and writable; a 2 MiB page. */
#define PTE_TABLE 0x003ull
#define PTE_LARGE 0x083ull
#define PTES 512ull
#define LARGE_SHIFT 21

#define PAGE 4096ull

/* The two selectors which the 64-bit boot protocol asks for: flat 64-bit code
 * at 0x10, flat data at 0x18. */
static const uint64_t gdt[] = {
	0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull};

_Static_assert(sizeof(gdt) == BOOT_GDT_BYTES, "boot.h tells the vCPU");

static void fill_boot_params(struct boot_params *bp, const struct gmem *mem,
	const struct boot_info *info)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	unsigned n = memory_map(mem, map);

	bp->hdr = info->kernel->hdr;
	bp->hdr.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)info->initrd_gpa;
	bp->hdr.ramdisk_size = (uint32_t)info->initrd_len;
	bp->acpi_rsdp_addr = info->rsdp_gpa;
	for (unsigned i = 0; i < n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){
			.addr = map[i].gpa,
			.size = map[i].len,
			.type = map[i].type,
		};
	bp->e820_entries = (uint8_t)n;
}

/* The first GiB, where it is: in 2 MiB pages, which every CPU has. */
static void fill_page_tables(uint64_t *tables)
{
	uint64_t *pml4 = tables, *pdpt = tables + PTES, *pd = tables + 2 * PTES;

	pml4[0] = (LAYOUT_PML4 + PAGE) | PTE_TABLE;
	pdpt[0] = (LAYOUT_PML4 + 2 * PAGE) | PTE_TABLE;
	for (uint64_t i = 0; i < PTES; i++)
		pd[i] = (i << LARGE_SHIFT) | PTE_LARGE;
}

_Static_assert(PTES << LARGE_SHIFT == KERNEL_MAPPED_END, "one directory");
_Static_assert(
	LAYOUT_ZERO_PAGE + sizeof(struct boot_params) <= LAYOUT_BOOT_STACK,
	"the stack grows down to the zero page's end");

int zero_page_write(
	const struct gmem *mem, const struct boot_info *info, struct error *err)
{
	void *params =
		gmem_range(mem, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
	void *tables = gmem_range(mem, LAYOUT_PML4, 3 * PAGE);
	void *descriptors = gmem_range(mem, LAYOUT_GDT, sizeof(gdt));

	if (!params || !tables || !descriptors)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"there is no memory for the boot parameters");
	fill_boot_params(params, mem, info);
	fill_page_tables(tables);
	memcpy(descriptors, gdt, sizeof(gdt));
	return 0;
}
