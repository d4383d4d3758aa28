#pragma once

/*
 * The pvpanic port: how a kernel without a crash kernel says that it panicked.
 * Reads tell which events are understood; writing bit 0 reports a panic.
 * One port; no state, so no lock: the callback may come from any vCPU thread.
 */

#include <stdint.h>

#define PVPANIC_PANICKED 0x01u

struct pvpanic {
	void (*panicked)(void *arg);
	void *arg;
};

/* For struct bus_range. */
void pvpanic_read(void *dev, uint64_t off, void *data, unsigned len);
void pvpanic_write(void *dev, uint64_t off, const void *data, unsigned len);
