#pragma once

/*
 * A VM's vCPUs: one thread each, which enters the guest, and takes its exits to
 * the buses, until it is told to pause or to stop, or the guest ends.
 *
 * Told how: want changes under the lock, immediate_exit is set in each vCPU's
 * run page, and each thread gets a signal. If the thread is on its way into
 * KVM_RUN, KVM sees the one; if it is in there, the other; either way KVM
 * first completes the access it had exited for and returns -EINTR, the only
 * place where a thread looks at want. Nothing is checked on the way of an
 * exit.
 *
 * One thread controls (begin .. destroy); vcpus_end() may be called by any.
 */

#include "base/error.h"
#include "vmm/bus.h"
#include "vmm/cpuid.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum vcpus_want { VCPUS_PAUSE, VCPUS_RUN, VCPUS_STOP };

struct vcpus;

struct vcpu {
	struct vcpus *set;
	struct kvm_run *run;
	struct vcpu_counters *counters;
	pthread_t thread;
	int fd;
	unsigned id;
	bool has_thread;
	bool entered; /* the guest has run: it may have a clock */
};

struct vcpus_config {
	const struct bus *pio, *mmio; /* borrowed */
	struct vm_shared *shared;     /* borrowed: counters, first entry */
	/* First thing on each thread (the VMM installs the seccomp filter in
	 * it); a negative errno makes vcpus_ready() fail. */
	int (*thread_start)(void *arg);
	/* The guest ended by what vCPU threads saw; called once at most by
	 * each, after vcpus_end(). */
	void (*ended)(
		void *arg, enum vm_exit_reason reason, const char *detail);
	void *arg;
};

struct vcpus {
	struct vcpus_config config;
	size_t run_bytes;
	unsigned n;
	struct vcpu cpu[VM_MAX_VCPUS];

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum vcpus_want want;
	unsigned started; /* threads whose thread_start() has returned */
	unsigned parked;  /* threads that wait, or have ended */
	int start_error;
};

/* Once per process, before any vCPU: the signal that interrupts KVM_RUN. */
int vcpus_init_signal(void);

/*
 * The start, in three steps, so that the threads get into their filters while
 * the caller makes the VM: begin starts n threads, create makes the vCPUs they
 * are to run (the first one is the boot processor), ready returns when each
 * thread is as thread_start() made it, and waits. run_bytes:
 * kvm_vcpu_mmap_bytes(). After a failure: destroy.
 */
int vcpus_begin(struct vcpus *s, unsigned n, const struct vcpus_config *config,
	struct error *err);
int vcpus_create(struct vcpus *s, int vm, int run_bytes, struct error *err);
int vcpus_ready(struct vcpus *s, struct error *err);

/* Lets them run, from the start or from a pause. */
void vcpus_run(struct vcpus *s);

/* Returns when none runs guest code any more. -ESHUTDOWN: they are ending. */
int vcpus_pause(struct vcpus *s);

/* No vCPU enters the guest again, and neither does the caller's if it is one;
 * does not wait. */
void vcpus_end(struct vcpus *s);

/* Ends and joins the threads. */
void vcpus_stop(struct vcpus *s);

/* Stops, closes. A zeroed struct is fine. */
void vcpus_destroy(struct vcpus *s);
