#pragma once

/*
 * What a process takes of memory, as the kernel tells in smaps_rollup: it walks
 * all of its page tables for that, some 4 ms for each GiB that is touched.
 */

#include <stdint.h>

struct memory_sample {
	uint64_t pss_bytes; /* huge pages included, as nobody shares them */
	uint64_t anonymous_bytes; /* in memory, swapped or in huge pages */
};

/* From its text. 0, or -EPROTO: that is not one. */
int memory_sample_parse(const char *text, struct memory_sample *ret);
/* From the file. 0 or a negative errno: -ESRCH when the process has ended. */
int memory_sample_read(int fd, struct memory_sample *ret);
