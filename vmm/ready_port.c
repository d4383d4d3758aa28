#include "vmm/ready_port.h"

#include <string.h>

void ready_port_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0xff, len);
}

void ready_port_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct ready_port *p = dev;

	(void)off;
	(void)data;
	(void)len;
	p->ready(p->arg);
}
