#include "vmm/memory_map.h"

#include "vmm/layout.h"

uint64_t memory_map_low_end(const struct gmem *mem)
{
	if (mem->n == 0 || mem->regions[0].gpa != 0)
		return 0;
	return mem->regions[0].len;
}

unsigned memory_map(const struct gmem *mem, struct memory_map_entry *ret)
{
	uint64_t low_end = memory_map_low_end(mem);
	unsigned n = 0;

	if (low_end >= LAYOUT_HIGH_RAM) {
		ret[n++] =
			(struct memory_map_entry){0, LAYOUT_EBDA, MEMORY_RAM};
		ret[n++] = (struct memory_map_entry){LAYOUT_EBDA,
			LAYOUT_ACPI - LAYOUT_EBDA, MEMORY_RESERVED};
		ret[n++] = (struct memory_map_entry){LAYOUT_ACPI,
			LAYOUT_ACPI_END - LAYOUT_ACPI, MEMORY_ACPI};
		ret[n++] = (struct memory_map_entry){LAYOUT_ACPI_END,
			LAYOUT_HIGH_RAM - LAYOUT_ACPI_END, MEMORY_RESERVED};
	}
	if (low_end > LAYOUT_HIGH_RAM)
		ret[n++] = (struct memory_map_entry){
			LAYOUT_HIGH_RAM, low_end - LAYOUT_HIGH_RAM, MEMORY_RAM};
	for (unsigned i = low_end > 0 ? 1 : 0; i < mem->n; i++)
		ret[n++] = (struct memory_map_entry){
			mem->regions[i].gpa, mem->regions[i].len, MEMORY_RAM};
	return n;
}
