#include "vmm/generation.h"

#include "vmm/layout.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>

#define PAGE 4096ull

#define VMCLOCK_MAGIC 0x4b4c4356u /* "VCLK" */
#define VMCLOCK_VERSION 1u
#define VMCLOCK_COUNTER_INVALID 0xffu
#define VMCLOCK_TIME_TAI 1u
#define VMCLOCK_STATUS_UNKNOWN 0u
#define VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT (1u << 8)
#define VMCLOCK_FLAG_NOTIFICATION_PRESENT (1u << 9)

_Static_assert(offsetof(struct vmclock, seq_count) == 0x0c, "vmclock 1.0");
_Static_assert(offsetof(struct vmclock, flags) == 0x18, "vmclock 1.0");
_Static_assert(offsetof(struct vmclock, counter_value) == 0x28, "vmclock 1.0");
_Static_assert(
	offsetof(struct vmclock, vm_generation_counter) == 0x68, "vmclock 1.0");
_Static_assert(sizeof(struct vmclock) == 0x70, "vmclock 1.0");
_Static_assert(LAYOUT_VMCLOCK == LAYOUT_VMGENID + PAGE, "the next page");

/*
 * The sequence lock of the virtual clock, of which the guest has the reader's
 * side: an odd count before the fields, the next even one after them. Nothing
 * is ever read back from the page.
 */
static void publish(struct generation *g)
{
	uint32_t *seq = &g->clock->seq_count;
	const size_t at = offsetof(struct vmclock, disruption_marker);

	__atomic_store_n(seq, ++g->shown.seq_count, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy((uint8_t *)g->clock + at, (const uint8_t *)&g->shown + at,
		sizeof(g->shown) - at);
	__atomic_store_n(seq, ++g->shown.seq_count, __ATOMIC_RELEASE);
}

int generation_init(struct generation *g, const struct gmem *mem, int irq_fd,
	const uint8_t guid[GENERATION_GUID_BYTES])
{
	*g = (struct generation){.irq_fd = irq_fd};
	g->guid = gmem_range(mem, LAYOUT_VMGENID, 2 * PAGE);
	if (!g->guid)
		return -EINVAL;
	g->clock = (struct vmclock *)(void *)(g->guid + PAGE);
	/*
	 * No counter: nothing here keeps the TSC in step with real time, which
	 * kvmclock and ptp_kvm tell. The clock is there for its marker and its
	 * generation.
	 */
	g->shown = (struct vmclock){
		.magic = VMCLOCK_MAGIC,
		.size = (uint32_t)PAGE,
		.version = VMCLOCK_VERSION,
		.counter_id = VMCLOCK_COUNTER_INVALID,
		.time_type = VMCLOCK_TIME_TAI,
		.clock_status = VMCLOCK_STATUS_UNKNOWN,
		.flags = VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT |
			 VMCLOCK_FLAG_NOTIFICATION_PRESENT,
	};
	memset(g->guid, 0, 2 * PAGE);
	memcpy(g->guid, guid, GENERATION_GUID_BYTES);
	memcpy(g->clock, &g->shown, sizeof(g->shown));
	return 0;
}

void generation_change(
	struct generation *g, const uint8_t guid[GENERATION_GUID_BYTES])
{
	memcpy(g->guid, guid, GENERATION_GUID_BYTES);
	g->shown.disruption_marker++;
	g->shown.vm_generation_counter++;
	publish(g);
	/* The eventfd is a full barrier: the guest's handler sees all of it. */
	(void)eventfd_write(g->irq_fd, 1);
}
