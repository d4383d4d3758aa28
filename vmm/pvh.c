#include "vmm/kernel_image.h"
#include "vmm/layout.h"
#include "vmm/memory_map.h"

#include <errno.h>
#include <stddef.h>

/* The PVH boot ABI: xen/include/public/arch-x86/hvm/start_info.h, which no
 * installed header has. All addresses are physical. */
#define HVM_START_MAGIC 0x336ec578u
#define HVM_START_VERSION 1u

struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct hvm_memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

/* What lies at LAYOUT_PVH_INFO. */
struct pvh_page {
	struct hvm_start_info start;
	struct hvm_modlist_entry initrd;
	struct hvm_memmap_entry map[MEMORY_MAP_MAX];
};

_Static_assert(LAYOUT_PVH_INFO + sizeof(struct pvh_page) <= LAYOUT_ZERO_PAGE,
	"the start info has a page");

int pvh_write(
	const struct gmem *mem, const struct boot_info *info, struct error *err)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	struct pvh_page *page =
		gmem_range(mem, LAYOUT_PVH_INFO, sizeof(struct pvh_page));
	unsigned n = memory_map(mem, map);

	if (!page)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"there is no memory for the boot parameters");
	page->start = (struct hvm_start_info){
		.magic = HVM_START_MAGIC,
		.version = HVM_START_VERSION,
		.cmdline_paddr = LAYOUT_CMDLINE,
		.rsdp_paddr = info->rsdp_gpa,
		.memmap_paddr =
			LAYOUT_PVH_INFO + offsetof(struct pvh_page, map),
		.memmap_entries = n,
	};
	if (info->initrd_len > 0) {
		page->start.nr_modules = 1;
		page->start.modlist_paddr =
			LAYOUT_PVH_INFO + offsetof(struct pvh_page, initrd);
		page->initrd.paddr = info->initrd_gpa;
		page->initrd.size = info->initrd_len;
	}
	for (unsigned i = 0; i < n; i++)
		page->map[i] = (struct hvm_memmap_entry){
			.addr = map[i].gpa,
			.size = map[i].len,
			.type = map[i].type,
		};
	return 0;
}
