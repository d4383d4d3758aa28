#pragma once

/*
 * Writes ACPI Machine Language (ACPI 6.4 §20): as much of it as our DSDT needs.
 *
 * A writer appends to a buffer. What does not fit is dropped and remembered, so
 * that one look at `overflow` in the end covers all. Objects that contain
 * others are opened, and closed with the mark that opening returned:
 *
 *   mark = aml_device(&a, "COM1");
 *   aml_name_eisaid(&a, "_HID", "PNP0501");
 *   aml_close(&a, mark);
 *
 * Names are single segments of exactly four characters.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf; /* borrowed */
	size_t cap, len;
	bool overflow;
};

size_t aml_scope(struct aml *a, const char *name); /* of the root: \name */
size_t aml_device(struct aml *a, const char *name);
size_t aml_method(struct aml *a, const char *name, unsigned n_args);
void aml_close(struct aml *a, size_t mark);

void aml_name_integer(struct aml *a, const char *name, uint64_t value);
void aml_name_string(struct aml *a, const char *name, const char *value);
/* id: three capital letters and four hexadecimal digits. */
void aml_name_eisaid(struct aml *a, const char *name, const char *id);
/* A package of n integers. */
void aml_name_package(
	struct aml *a, const char *name, const uint32_t *values, unsigned n);

/* Name (_CRS, ResourceTemplate () { ... }): open, resources, close. */
size_t aml_crs(struct aml *a);
void aml_crs_close(struct aml *a, size_t mark);
void aml_crs_io(struct aml *a, uint16_t base, uint8_t len);
void aml_crs_memory32_fixed(struct aml *a, uint32_t base, uint32_t len);
/* An interrupt of ours alone: edge, active high, exclusive. */
void aml_crs_interrupt(struct aml *a, uint32_t gsi);

/* OperationRegion (region, SystemIO, port, len), and one field of its first
 * byte, accessed by bytes. */
void aml_io_region(
	struct aml *a, const char *region, uint16_t port, uint8_t len);
void aml_byte_field(struct aml *a, const char *region, const char *field);

/* Bodies of methods: Return (field), and field = Arg0. */
void aml_return_name(struct aml *a, const char *name);
void aml_store_arg0(struct aml *a, const char *name);

/* If (Arg0 == value) { ... }: open, statements, aml_close(). */
size_t aml_if_arg0_is(struct aml *a, uint64_t value);
void aml_notify(struct aml *a, const char *device, uint64_t value);
