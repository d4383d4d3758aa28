#include "vmm/layout.h"
#include "vmm/platform_tables.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/*
 * MultiProcessor Specification 1.4, §4. One ISA bus whose interrupts 0 to 23
 * arrive at the IOAPIC's pins of the same numbers: edge-triggered and active
 * high, as ISA has them.
 */

struct mp_floating { /* §4.1 */
	char signature[4];
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t revision, checksum, features[5];
} __attribute__((packed));

struct mp_header { /* §4.2 */
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem_id[8], product_id[12];
	uint32_t oem_table;
	uint16_t oem_table_len, entries;
	uint32_t lapic_address;
	uint16_t extended_len;
	uint8_t extended_checksum, reserved;
} __attribute__((packed));

struct mp_cpu { /* §4.3.1 */
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
} __attribute__((packed));

struct mp_bus { /* §4.3.2 */
	uint8_t type, id;
	char name[6];
} __attribute__((packed));

struct mp_ioapic { /* §4.3.3 */
	uint8_t type, id, version, flags;
	uint32_t address;
} __attribute__((packed));

struct mp_interrupt { /* §4.3.4, §4.3.5 */
	uint8_t type, kind;
	uint16_t flags; /* 0: as its bus has them */
	uint8_t bus, bus_irq, apic, pin;
} __attribute__((packed));

enum { MP_CPU, MP_BUS, MP_IOAPIC, MP_INTERRUPT, MP_LOCAL_INTERRUPT };
enum { KIND_INT = 0, KIND_NMI = 1, KIND_EXTINT = 3 };

#define MP_REVISION_1_4 4u
#define MP_ALL_LAPICS 0xffu
#define CPU_ENABLED 0x1u
#define CPU_BOOT 0x2u
#define IOAPIC_ENABLED 0x1u
#define LAPIC_VERSION 0x14u
#define IOAPIC_VERSION 0x11u
#define ISA_BUS 0u
#define IOAPIC_ID 0u /* as its register says after reset */

/* Any of the P6 family with an FPU and an APIC: who wants to know asks CPUID.
 */
#define CPU_SIGNATURE 0x600u
#define CPU_FEATURES 0x201u

static uint8_t checksum(const void *p, size_t n)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((const uint8_t *)p)[i];
	return (uint8_t)-sum;
}

static uint8_t *append(uint8_t *at, const void *entry, size_t n)
{
	memcpy(at, entry, n);
	return at + n;
}

static uint8_t *append_cpus(uint8_t *at, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct mp_cpu cpu = {.type = MP_CPU,
			.apic_id = (uint8_t)i,
			.apic_version = LAPIC_VERSION,
			.flags = CPU_ENABLED | (i == 0 ? CPU_BOOT : 0),
			.signature = CPU_SIGNATURE,
			.features = CPU_FEATURES};

		at = append(at, &cpu, sizeof(cpu));
	}
	return at;
}

static uint8_t *append_interrupts(uint8_t *at)
{
	struct mp_interrupt lint[2] = {
		{MP_LOCAL_INTERRUPT, KIND_EXTINT, .apic = 0, .pin = 0},
		{MP_LOCAL_INTERRUPT, KIND_NMI, .apic = MP_ALL_LAPICS, .pin = 1},
	};

	for (unsigned i = 0; i < LAYOUT_IRQ_END; i++) {
		struct mp_interrupt irq = {MP_INTERRUPT, KIND_INT,
			.bus = ISA_BUS, .bus_irq = (uint8_t)i,
			.apic = IOAPIC_ID, .pin = (uint8_t)i};

		at = append(at, &irq, sizeof(irq));
	}
	return append(at, lint, sizeof(lint));
}

static size_t table_size(unsigned n_vcpus)
{
	return sizeof(struct mp_header) + n_vcpus * sizeof(struct mp_cpu) +
	       sizeof(struct mp_bus) + sizeof(struct mp_ioapic) +
	       (LAYOUT_IRQ_END + 2) * sizeof(struct mp_interrupt);
}

int mptable_write(
	const struct gmem *mem, const struct platform *p, struct error *err)
{
	static const struct mp_bus isa = {MP_BUS, ISA_BUS, "ISA   "};
	static const struct mp_ioapic ioapic = {MP_IOAPIC, IOAPIC_ID,
		IOAPIC_VERSION, IOAPIC_ENABLED, (uint32_t)LAYOUT_IOAPIC};
	struct mp_floating f = {.signature = {'_', 'M', 'P', '_'},
		.table = (uint32_t)(LAYOUT_EBDA + sizeof(f)),
		.length = sizeof(f) / 16,
		.revision = MP_REVISION_1_4};
	struct mp_header h = {.signature = {'P', 'C', 'M', 'P'},
		.length = (uint16_t)table_size(p->n_vcpus),
		.revision = MP_REVISION_1_4,
		.oem_id = {'M', 'A', 'Y', 'F', 'L', 'Y', ' ', ' '},
		.entries = (uint16_t)(p->n_vcpus + 2 + LAYOUT_IRQ_END + 2),
		.lapic_address = (uint32_t)LAYOUT_LAPIC};
	uint8_t *base = NULL, *at;

	if (sizeof(f) + table_size(p->n_vcpus) <= LAYOUT_EBDA_END - LAYOUT_EBDA)
		base = gmem_range(
			mem, LAYOUT_EBDA, sizeof(f) + table_size(p->n_vcpus));
	if (!base)
		return error_field(err, EINVAL, "machine-config.vcpu_count",
			"the MP table of %u CPUs does not fit", p->n_vcpus);

	memset(h.product_id, ' ', sizeof(h.product_id));
	f.checksum = checksum(&f, sizeof(f));
	at = append(base, &f, sizeof(f));
	at = append(at, &h, sizeof(h));
	at = append_cpus(at, p->n_vcpus);
	at = append(at, &isa, sizeof(isa));
	at = append(at, &ioapic, sizeof(ioapic));
	append_interrupts(at);
	base[sizeof(f) + offsetof(struct mp_header, checksum)] =
		checksum(base + sizeof(f), h.length);
	return 0;
}
