#pragma once

/*
 * The memory the daemon and one VMM share: a file in the state directory, which
 * the daemon makes, sizes and hands over; the VMM has it mapped and no
 * descriptor of it. The VMM writes, the daemon reads: a console byte, a counter
 * or a time costs neither of them a system call, and what a guest printed and
 * how it ended outlives both.
 *
 * All up to the console is allocated when the file is made, the console as it
 * is written: whoever touches a page of it for the first time asks for it with
 * madvise(), since a touch for which the file system has no room is a signal.
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

#define VM_SHARED_VERSION 4u

/* What a daemon that finds a VM has to know of it. */
enum vm_run_state {
	VM_RUN_STATE_NONE, /* prepared at most */
	VM_RUN_STATE_RUNNING,
	VM_RUN_STATE_PAUSED,
	VM_RUN_STATE_ENDED /* exit_reason and exit_detail are set */
};

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
	uint64_t received_ns; /* the daemon's: when the start was asked for */
	uint32_t run_state;   /* enum vm_run_state */
	uint32_t exit_reason; /* enum vm_exit_reason */
	char exit_detail[256];

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
