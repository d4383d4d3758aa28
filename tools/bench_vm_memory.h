#pragma once

/* What a VM's process takes beside its guest's memory, which is the mapping as
 * large as that. */

#include <stdint.h>
#include <sys/types.h>

struct vm_memory {
	/* Pages of the page cache are shared by all VMs and counted by share in
	 * Pss. In bytes. */
	uint64_t pss, anonymous, private_bytes;
};

/* Ends the program when the process is not there. */
void vm_memory_measure(pid_t pid, uint64_t guest_bytes, struct vm_memory *ret);
