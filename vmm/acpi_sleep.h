#pragma once

/*
 * The sleep control and status registers of a hardware-reduced ACPI machine
 * (ACPI 6.4 §4.8.3.7): two ports, control at offset 0. The only sleep state is
 * S5, power off. No state, so no lock: the callback may come from any vCPU
 * thread.
 */

#include <stdint.h>

/* SLP_TYP of \_S5; acpi.c puts it into the DSDT. */
#define ACPI_SLEEP_TYPE_S5 5u

struct acpi_sleep {
	void (*power_off)(void *arg);
	void *arg;
};

/* For struct bus_range. */
void acpi_sleep_read(void *dev, uint64_t off, void *data, unsigned len);
void acpi_sleep_write(void *dev, uint64_t off, const void *data, unsigned len);
