#pragma once

/*
 * The page the daemon and one VMM share: a memfd which the daemon makes, sizes,
 * seals against resizing (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) and hands
 * over at start. The VMM writes, the daemon reads: a console byte, a counter or
 * a time costs neither of them a system call.
 *
 * The VMM may have been taken over by its guest, so the daemon trusts nothing
 * here: every value is loaded once, into a local, and bounded before use.
 *
 * All fields are accessed with __atomic builtins; relaxed unless said.
 */

#include "block/blk_stats.h"
#include "net/mmds.h"
#include "net/net_stats.h"
#include "virtio/balloon.h"
#include "virtio/memdev.h"
#include "virtio/pmem.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vmm/limits.h"

#include <stdint.h>

#define VM_SHARED_VERSION 3u

/* Moments of a start, in CLOCK_MONOTONIC ns; 0: not reached. */
enum vm_moment {
	VM_MOMENT_PROCESS_READY, /* mayfly-vmm entered main() */
	VM_MOMENT_CONFIGURED,    /* message received, jail complete */
	VM_MOMENT_LOADED,        /* guest memory and kernel in place */
	VM_MOMENT_FIRST_ENTRY,   /* just before the first KVM_RUN */
	VM_MOMENT_KERNEL_UP,     /* serial port found, or first DRIVER_OK */
	VM_MOMENT_GUEST_READY,   /* the guest wrote to the ready port */
	VM_MOMENTS
};

struct vcpu_counters {
	uint64_t exits_pio;
	uint64_t exits_mmio;
	uint64_t exits_other;
	uint64_t exits_interrupted; /* KVM_RUN returned -EINTR */
} __attribute__((aligned(64)));

struct vm_shared {
	uint32_t version;       /* VM_SHARED_VERSION, set by the daemon */
	uint32_t console_bytes; /* capacity of the ring: a power of two */
	uint64_t moments[VM_MOMENTS];

	/*
	 * Console ring. Byte number n of the guest's output is at
	 * console[n % console_bytes]. console_head counts all bytes ever
	 * written: stored with release after the byte. A reader copies, then
	 * reads console_head again (after an acquire fence) and drops what was
	 * overwritten meanwhile: anything below head + 1 - console_bytes, as
	 * the next byte may be on its way.
	 * wake: the daemon stores 1 (seq_cst) when it wants one notification on
	 * the wake eventfd, then looks at console_head once more; the VMM
	 * exchanges it for 0 after it stored console_head, and notifies.
	 */
	uint64_t console_head __attribute__((aligned(64)));
	uint32_t wake;

	uint64_t guest_faults; /* malformed rings and registers, all devices */
	struct vcpu_counters vcpu[VM_MAX_VCPUS];
	uint64_t console_limited; /* bytes a rate limiter threw away */
	struct blk_stats blk[VM_MAX_DRIVES];
	struct net_stats net[VM_MAX_NETS];
	struct pmem_stats pmem[VM_MAX_PMEM];
	struct vsock_stats vsock;
	struct rng_stats rng;
	struct balloon_state balloon;
	struct memdev_state memory;
	struct mmds_stats mmds;

	uint8_t console[] __attribute__((aligned(4096)));
};
