#include "vmm/pvpanic.h"

#include <string.h>

void pvpanic_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	memset(data, 0xff, len);
	if (off == 0)
		*(uint8_t *)data = PVPANIC_PANICKED;
}

void pvpanic_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct pvpanic *p = dev;

	(void)len;
	if (off == 0 && (*(const uint8_t *)data & PVPANIC_PANICKED))
		p->panicked(p->arg);
}
