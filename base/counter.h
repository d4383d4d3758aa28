#pragma once

#include <stdint.h>

/* A counter in memory that others read at any time, the daemon's from another
 * process among them. One writer. */
static inline void counter_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
