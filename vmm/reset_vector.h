#pragma once

#include "base/error.h"
#include "virtio/gmem.h"

/*
 * Writes what runs when a guest jumps to the reset vector in real mode: it
 * resets the machine. Linux does so on machines of hardware-reduced ACPI, to
 * whose other ways of a reset it prefers the (absent) EFI's, then the BIOS's.
 */
int reset_vector_write(const struct gmem *mem, struct error *err);
