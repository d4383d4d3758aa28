#pragma once

/* What the system tells of what a daemon costs, 0 where it does not; and who
 * goes first. */

#include <stdint.h>
#include <sys/types.h>

/* CPU time it has had; and its children that ended and were reaped. */
uint64_t proc_cpu_ns(pid_t pid);
uint64_t proc_children_cpu_ns(pid_t pid);
/* Memory the host could still give. */
uint64_t proc_available_bytes(void);
/* For a host with other work to do: this process and its children go first, by
 * SCHED_FIFO. */
void proc_go_first(void);
