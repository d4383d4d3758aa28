#pragma once

/*
 * The port by which a guest says that it is ready for work: any write counts.
 * No state, so no lock: the callback may come from any vCPU thread, any number
 * of times.
 */

#include <stdint.h>

struct ready_port {
	void (*ready)(void *arg);
	void *arg;
};

/* For struct bus_range. */
void ready_port_read(void *dev, uint64_t off, void *data, unsigned len);
void ready_port_write(void *dev, uint64_t off, const void *data, unsigned len);
