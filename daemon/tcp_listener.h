#pragma once

/* The TCP socket of --metrics-listen. */

#include "base/error.h"

#include <stddef.h>

/*
 * address: "ADDR:PORT", "[ADDR]:PORT" for IPv6, in numbers; port 0: any.
 * Returns the listening socket, or fails with an error that names
 * --metrics-listen. buf: where it listens, in the same form.
 */
int tcp_listen(const char *address, char *buf, size_t size, struct error *err);
