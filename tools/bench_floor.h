#pragma once

/*
 * The floor under any start: KVM itself, called in the best order with nothing
 * around it. No process, no jail, no thread, no device.
 */

#include "base/error.h"

#include <stdint.h>

struct floor;
struct floor_machine;

/* Loads the guest once; what rounds copy are the pages that it needs. */
int floor_create(struct floor **ret, const char *kernel_path,
	uint64_t mem_bytes, struct error *err);
void floor_destroy(struct floor *f);

/* One VM from nothing to the guest's word on the ready port, and away again. */
int floor_round(struct floor *f, uint64_t *ret_start_ns, uint64_t *ret_end_ns,
	struct error *err);

/* Only to the word: for a process that has one, and is left to the kernel as it
 * is when it ends. */
int floor_start(struct floor *f, struct floor_machine **ret, struct error *err);
