#pragma once

/*
 * What a daemon hands to a VM: MSG_PREPARE and MSG_START with their
 * descriptors, for the fake KVM. The seccomp programs in it allow everything,
 * for the test's sake.
 */

#include "vmm/msg.h"
#include "vmm/vm.h"

struct vm_start {
	union msg prep;
	int prep_fds[MSG_PREPARE_FDS];
	union msg msg;
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	struct vm_shared *shared; /* the daemon's mapping */
};

/* One vCPU, 16 MiB, a small ELF kernel, n_drives disks of 1 MiB. */
void vm_start_make(struct vm_start *s, unsigned n_drives);
/* The next pmem device, of an empty file of so many bytes: its index. */
unsigned vm_start_add_pmem(struct vm_start *s, uint64_t bytes, bool read_only);
void vm_start_free(struct vm_start *s);

/* vm_prepare() and vm_create(). */
int vm_start_create(struct vm *vm, struct vm_start *s, struct error *err);

/* What the process's end does: everything a VM made. */
void vm_start_destroy_vm(struct vm *vm);
