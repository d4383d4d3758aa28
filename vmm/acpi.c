#include "vmm/acpi_clocks.h"
#include "vmm/acpi_sleep.h"
#include "vmm/aml.h"
#include "vmm/i8042.h"
#include "vmm/layout.h"
#include "vmm/platform_tables.h"
#include "vmm/serial.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/*
 * ACPI 6.4, hardware-reduced: no PM timer, no SCI, no 8259. Sleep and reset are
 * I/O ports; everything else is in the DSDT. Multi-byte fields of the packed
 * structures below are little-endian, like the one machine they describe.
 */

#define OEM_ID "MAYFLY"         /* 6 bytes */
#define OEM_TABLE_ID "MAYFLYVM" /* 8 bytes */
#define CREATOR_ID "MFLY"       /* 4 bytes */

#define TABLE_ALIGN 16u

struct acpi_gas { /* generic address structure, §5.2.3.2 */
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} __attribute__((packed));

struct acpi_rsdp { /* §5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct acpi_header { /* §5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

#define XSDT_ENTRIES 2u

struct acpi_xsdt { /* §5.2.8 */
	struct acpi_header header;
	uint64_t entries[XSDT_ENTRIES];
} __attribute__((packed));

struct acpi_fadt { /* §5.2.9; what hardware-reduced ignores is zero */
	struct acpi_header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved0, preferred_pm_profile;
	uint8_t fixed_hardware0[63];
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct acpi_gas fixed_hardware1[8];
	struct acpi_gas sleep_control, sleep_status;
	char hypervisor[8];
} __attribute__((packed));

_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 2.0 and up");
_Static_assert(sizeof(struct acpi_header) == 36, "§5.2.6");
_Static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "§5.2.9");
_Static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "§5.2.9");
_Static_assert(sizeof(struct acpi_fadt) == 276, "revision 6");

struct acpi_madt { /* §5.2.12 */
	struct acpi_header header;
	uint32_t lapic_address;
	uint32_t flags; /* PCAT_COMPAT is clear: no 8259 */
} __attribute__((packed));

struct madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

struct madt_lapic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_LAPIC_NMI = 4 };
#define MADT_LAPIC_ENABLED 1u
#define MADT_ALL_CPUS 0xffu

#define GAS_SYSTEM_IO 1u
#define GAS_BYTE_ACCESS 1u

#define PM_PROFILE_SERVER 4u
#define BOOT_LEGACY_DEVICES (1u << 0) /* on an ISA bus: the serial port */
#define BOOT_8042 (1u << 1)
#define BOOT_NO_VGA (1u << 2)
#define BOOT_NO_CMOS_RTC (1u << 5)
#define FLAG_WBINVD (1u << 0)
#define FLAG_NO_POWER_BUTTON (1u << 4)
#define FLAG_NO_SLEEP_BUTTON (1u << 5)
#define FLAG_RESET_REG_SUP (1u << 10)
#define FLAG_HW_REDUCED_ACPI (1u << 20)
#define I8042_PULSE_RESET 0xfeu

/* Tables are written one after the other from LAYOUT_ACPI on. */
struct writer {
	uint8_t *base;
	size_t len, cap;
};

/* Room for the next table, or NULL. */
static void *reserve(struct writer *w, size_t n)
{
	size_t at = (w->len + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);

	if (at > w->cap || n > w->cap - at)
		return NULL;
	w->len = at + n;
	return memset(w->base + at, 0, n);
}

static uint64_t gpa_of(const struct writer *w, const void *table)
{
	return LAYOUT_ACPI + (uint64_t)((const uint8_t *)table - w->base);
}

/* The byte which makes the sum of all of them 0. */
static uint8_t checksum(const void *p, size_t n)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((const uint8_t *)p)[i];
	return (uint8_t)-sum;
}

static void finish_table(struct acpi_header *h, const char *signature,
	uint8_t revision, size_t len)
{
	memcpy(h->signature, signature, sizeof(h->signature));
	h->length = (uint32_t)len;
	h->revision = revision;
	memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
	memcpy(h->oem_table_id, OEM_TABLE_ID, sizeof(h->oem_table_id));
	h->oem_revision = 1;
	memcpy(h->creator_id, CREATOR_ID, sizeof(h->creator_id));
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, len);
}

static void add_legacy_devices(struct aml *a)
{
	size_t dev, crs;

	dev = aml_device(a, "COM1");
	aml_name_eisaid(a, "_HID", "PNP0501");
	aml_name_integer(a, "_UID", 0);
	crs = aml_crs(a);
	aml_crs_io(a, LAYOUT_PORT_SERIAL, SERIAL_PORTS);
	aml_crs_interrupt(a, LAYOUT_IRQ_SERIAL);
	aml_crs_close(a, crs);
	aml_close(a, dev);

	dev = aml_device(a, "KBD_");
	aml_name_eisaid(a, "_HID", "PNP0303");
	crs = aml_crs(a);
	aml_crs_io(a, LAYOUT_PORT_I8042_DATA, 1);
	aml_crs_io(a, LAYOUT_PORT_I8042_CMD, 1);
	aml_crs_interrupt(a, LAYOUT_IRQ_KEYBOARD);
	aml_crs_close(a, crs);
	aml_close(a, dev);
}

/* The methods are the device's documented interface: RDPT tells which events
 * are understood, WRPT reports one. Linux uses the port of _CRS directly. */
static void add_pvpanic(struct aml *a)
{
	size_t dev, crs, method;

	dev = aml_device(a, "PEVT");
	aml_name_string(a, "_HID", "QEMU0001");
	crs = aml_crs(a);
	aml_crs_io(a, LAYOUT_PORT_PVPANIC, 1);
	aml_crs_close(a, crs);
	aml_io_region(a, "PEOR", LAYOUT_PORT_PVPANIC, 1);
	aml_byte_field(a, "PEOR", "PEPT");
	method = aml_method(a, "RDPT", 0);
	aml_return_name(a, "PEPT");
	aml_close(a, method);
	method = aml_method(a, "WRPT", 1);
	aml_store_arg0(a, "PEPT");
	aml_close(a, method);
	aml_close(a, dev);
}

static void add_virtio(struct aml *a, const struct platform *p)
{
	for (unsigned i = 0; i < p->n_virtio; i++) {
		char name[8];
		size_t dev, crs;

		snprintf(name, sizeof(name), "V%03X", i & 0xfff);
		dev = aml_device(a, name);
		aml_name_string(a, "_HID", "LNRO0005");
		aml_name_integer(a, "_UID", i);
		aml_name_integer(a, "_CCA", 1);
		crs = aml_crs(a);
		aml_crs_memory32_fixed(
			a, (uint32_t)p->virtio[i].gpa, LAYOUT_VIRTIO_STRIDE);
		aml_crs_interrupt(a, p->virtio[i].irq);
		aml_crs_close(a, crs);
		aml_close(a, dev);
	}
}

/* The last table, since its length shows only when it is written. */
static uint64_t write_dsdt(struct writer *w, const struct platform *p)
{
	static const uint32_t s5[] = {ACPI_SLEEP_TYPE_S5, 0, 0, 0};
	struct acpi_header *h = reserve(w, sizeof(*h));
	struct aml a = {0};
	size_t scope;

	if (!h)
		return 0;
	a.buf = w->base + w->len;
	a.cap = w->cap - w->len;
	aml_name_package(&a, "_S5_", s5, 4);
	scope = aml_scope(&a, "_SB_");
	add_legacy_devices(&a);
	add_pvpanic(&a);
	acpi_add_clocks(&a);
	add_virtio(&a, p);
	aml_close(&a, scope);
	if (a.overflow)
		return 0;
	w->len += a.len;
	finish_table(h, "DSDT", 2, sizeof(*h) + a.len);
	return gpa_of(w, h);
}

static struct acpi_gas io_port(uint16_t port)
{
	return (struct acpi_gas){
		.space = GAS_SYSTEM_IO,
		.bit_width = 8,
		.access_size = GAS_BYTE_ACCESS,
		.address = port,
	};
}

static void fill_fadt(struct acpi_fadt *f, uint64_t dsdt)
{
	f->dsdt = (uint32_t)dsdt;
	f->x_dsdt = dsdt;
	f->preferred_pm_profile = PM_PROFILE_SERVER;
	f->iapc_boot_arch = BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA |
			    BOOT_NO_CMOS_RTC;
	f->flags = FLAG_WBINVD | FLAG_NO_POWER_BUTTON | FLAG_NO_SLEEP_BUTTON |
		   FLAG_RESET_REG_SUP | FLAG_HW_REDUCED_ACPI;
	f->reset_reg = io_port(LAYOUT_PORT_I8042_CMD);
	f->reset_value = I8042_PULSE_RESET;
	f->minor_version = 4;
	f->sleep_control = io_port(LAYOUT_PORT_SLEEP_CONTROL);
	f->sleep_status = io_port(LAYOUT_PORT_SLEEP_STATUS);
	memcpy(f->hypervisor, OEM_TABLE_ID, sizeof(f->hypervisor));
	finish_table(&f->header, "FACP", 6, sizeof(*f));
}

static size_t madt_size(const struct platform *p)
{
	return sizeof(struct acpi_madt) +
	       p->n_vcpus * sizeof(struct madt_lapic) +
	       sizeof(struct madt_ioapic) + sizeof(struct madt_lapic_nmi);
}

static void fill_madt(struct acpi_madt *m, const struct platform *p)
{
	uint8_t *at = (uint8_t *)(m + 1);
	struct madt_ioapic ioapic = {MADT_IOAPIC, sizeof(ioapic),
		.address = (uint32_t)LAYOUT_IOAPIC};
	struct madt_lapic_nmi nmi = {
		MADT_LAPIC_NMI, sizeof(nmi), .uid = MADT_ALL_CPUS, .lint = 1};

	m->lapic_address = (uint32_t)LAYOUT_LAPIC;
	for (unsigned i = 0; i < p->n_vcpus; i++) {
		struct madt_lapic cpu = {MADT_LAPIC, sizeof(cpu),
			.uid = (uint8_t)i, .apic_id = (uint8_t)i,
			.flags = MADT_LAPIC_ENABLED};

		at = (uint8_t *)memcpy(at, &cpu, sizeof(cpu)) + sizeof(cpu);
	}
	at = (uint8_t *)memcpy(at, &ioapic, sizeof(ioapic)) + sizeof(ioapic);
	memcpy(at, &nmi, sizeof(nmi));
	finish_table(&m->header, "APIC", 5, madt_size(p));
}

static void fill_rsdp(struct acpi_rsdp *r, uint64_t xsdt)
{
	memcpy(r->signature, "RSD PTR ", sizeof(r->signature));
	memcpy(r->oem_id, OEM_ID, sizeof(r->oem_id));
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt = xsdt;
	r->checksum = checksum(r, offsetof(struct acpi_rsdp, length));
	r->extended_checksum = checksum(r, sizeof(*r));
}

int acpi_write(const struct gmem *mem, const struct platform *p,
	uint64_t *ret_rsdp_gpa, struct error *err)
{
	struct writer w = {.cap = LAYOUT_ACPI_END - LAYOUT_ACPI};
	struct acpi_rsdp *rsdp = NULL;
	struct acpi_xsdt *xsdt = NULL;
	struct acpi_fadt *fadt = NULL;
	struct acpi_madt *madt = NULL;
	uint64_t dsdt = 0;

	w.base = gmem_range(mem, LAYOUT_ACPI, w.cap);
	if (w.base) {
		rsdp = reserve(&w, sizeof(*rsdp));
		xsdt = reserve(&w, sizeof(*xsdt));
		fadt = reserve(&w, sizeof(*fadt));
		madt = reserve(&w, madt_size(p));
		dsdt = write_dsdt(&w, p);
	}
	if (!rsdp || !xsdt || !fadt || !madt || !dsdt)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"the ACPI tables do not fit below 1 MiB");
	fill_fadt(fadt, dsdt);
	fill_madt(madt, p);
	xsdt->entries[0] = gpa_of(&w, fadt);
	xsdt->entries[1] = gpa_of(&w, madt);
	finish_table(&xsdt->header, "XSDT", 1, sizeof(*xsdt));
	fill_rsdp(rsdp, gpa_of(&w, xsdt));
	*ret_rsdp_gpa = LAYOUT_ACPI;
	return 0;
}
