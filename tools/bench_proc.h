#pragma once

/* What /proc tells of what a daemon costs; 0 where it does not. */

#include <stdint.h>
#include <sys/types.h>

/* CPU time it has had; and its children that ended and were reaped. */
uint64_t proc_cpu_ns(pid_t pid);
uint64_t proc_children_cpu_ns(pid_t pid);
/* Memory the host could still give. */
uint64_t proc_available_bytes(void);
