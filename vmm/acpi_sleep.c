#include "vmm/acpi_sleep.h"

#include <string.h>

#define SLP_TYP_SHIFT 2
#define SLP_TYP_MASK 0x7u
#define SLP_EN 0x20u

/* Control has only write-only bits; status (WAK_STS) stays clear, since no
 * state is ever woken from. */
void acpi_sleep_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0, len);
}

void acpi_sleep_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct acpi_sleep *s = dev;
	uint8_t v = *(const uint8_t *)data;

	(void)len;
	if (off == 0 && (v & SLP_EN) &&
		((v >> SLP_TYP_SHIFT) & SLP_TYP_MASK) == ACPI_SLEEP_TYPE_S5)
		s->power_off(s->arg);
}
