#pragma once

/*
 * Which incarnation of the VM this is, as the guest learns of it: a GUID in the
 * page of its VM generation device (VMGENID) and a count in the page of its
 * virtual clock (vmclock). Both stay for as long as the guest goes on in one
 * line; when it goes on from a state that may go on elsewhere too (a snapshot),
 * both change and the guest is told by an interrupt, so that it makes new what
 * must not be the same in two guests: its random numbers before all.
 */

#include "virtio/gmem.h"

#include <stdint.h>

#define GENERATION_GUID_BYTES 16

/* struct vmclock_abi of Linux 6.13 and up, with the generation of 6.20. */
struct vmclock {
	uint32_t magic, size;
	uint16_t version;
	uint8_t counter_id, time_type;
	uint32_t seq_count; /* odd while what follows changes */
	uint64_t disruption_marker;
	uint64_t flags;
	uint8_t pad[2];
	uint8_t clock_status, leap_second_smearing_hint;
	uint16_t tai_offset_sec;
	uint8_t leap_indicator, counter_period_shift;
	uint64_t counter_value;
	uint64_t period_frac_sec, period_esterror, period_maxerror;
	uint64_t time_sec, time_frac_sec, time_esterror, time_maxerror;
	uint64_t vm_generation_counter;
};

struct generation {
	uint8_t *guid;         /* in guest memory, as the clock's page */
	struct vmclock *clock; /* only written: the guest can write it, too */
	struct vmclock shown;  /* what it was last written as */
	int irq_fd;            /* borrowed */
};

/* Fills both pages. -EINVAL: they are not in guest memory. */
int generation_init(struct generation *g, const struct gmem *mem, int irq_fd,
	const uint8_t guid[GENERATION_GUID_BYTES]);

/* A new generation begins, and its guest is told. The vCPUs do not run. */
void generation_change(
	struct generation *g, const uint8_t guid[GENERATION_GUID_BYTES]);
