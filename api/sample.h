#pragma once

/*
 * What one VM has to tell in a scrape, taken at one moment and kept until it
 * has been sent: its devices, each with its labels and numbers, and no more
 * than it has.
 */

#include "api/counters.h"

struct sampled_device {
	unsigned group;     /* of counter_groups */
	const char *labels; /* 'vm="a",drive="b"' */
	const uint64_t *values;
	const struct histogram *histograms;
};

struct vm_sample {
	char labels[VM_ID_MAX + 8]; /* 'vm="a"' */
	char state[16];
	uint64_t console_bytes;
	bool has_memory;
	uint64_t pss_bytes, touched_bytes;
	unsigned n_devices;
	struct sampled_device *devices; /* one allocation for all behind it */
};

/* counters NULL: it has none. False: out of memory. */
bool vm_sample_take(struct vm_sample *ret, const struct api_vm *vm,
	const struct api_counters *counters);
void vm_sample_fini(struct vm_sample *s);
