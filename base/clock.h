#pragma once

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in ns: the same in the daemon and in every VMM. */
static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
