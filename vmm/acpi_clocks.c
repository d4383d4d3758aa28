#include "vmm/acpi_clocks.h"

#include "vmm/layout.h"

#define PAGE 4096u
#define NOTIFY_CHANGED 0x80

/* The VM generation ID device: its GUID is where ADDR says (low and high half
 * of the address). Drivers look for the compatible ID. */
static void add_vmgenid(struct aml *a)
{
	static const uint32_t addr[] = {(uint32_t)LAYOUT_VMGENID, 0};
	size_t dev;

	dev = aml_device(a, "VGEN");
	aml_name_string(a, "_HID", "MFLY0001");
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_string(a, "_DDN", "VM_Gen_Counter");
	aml_name_package(a, "ADDR", addr, 2);
	aml_close(a, dev);
}

/* UAPI.13 VMClock, "Discovery via ACPI". */
static void add_vmclock(struct aml *a)
{
	size_t dev, crs;

	dev = aml_device(a, "VCLK");
	aml_name_string(a, "_HID", "AMZNC10C");
	aml_name_string(a, "_CID", "VMCLOCK");
	aml_name_string(a, "_DDN", "VMCLOCK");
	crs = aml_crs(a);
	aml_crs_memory32_fixed(a, (uint32_t)LAYOUT_VMCLOCK, PAGE);
	aml_crs_close(a, crs);
	aml_close(a, dev);
}

/* The generic event device (ACPI 6.4 §5.6.9): of its one interrupt, both
 * devices hear that they have changed. */
static void add_event_device(struct aml *a)
{
	size_t dev, crs, method, branch;

	dev = aml_device(a, "GED_");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_integer(a, "_UID", 0);
	crs = aml_crs(a);
	aml_crs_interrupt(a, LAYOUT_IRQ_GENERATION);
	aml_crs_close(a, crs);
	method = aml_method(a, "_EVT", 1);
	branch = aml_if_arg0_is(a, LAYOUT_IRQ_GENERATION);
	aml_notify(a, "VGEN", NOTIFY_CHANGED);
	aml_notify(a, "VCLK", NOTIFY_CHANGED);
	aml_close(a, branch);
	aml_close(a, method);
	aml_close(a, dev);
}

void acpi_add_clocks(struct aml *a)
{
	add_vmgenid(a);
	add_vmclock(a);
	add_event_device(a);
}
