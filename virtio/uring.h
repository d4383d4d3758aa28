#pragma once

/*
 * An io_uring with few powers. Its requests are invisible to seccomp, so the
 * ring itself is told what it may ever be asked: reads, writes, syncs, polls
 * and their cancellation, on the registered files alone, and no registration
 * after that.
 */

#include "base/error.h"

#include <liburing.h>

/* Kernel threads which may run blocking requests of one ring; they count as
 * the process's own (RLIMIT_NPROC, pids.max). */
#define URING_MAX_THREADS 8

/* Creates the ring, disabled, with whichever of the kernel's faster modes it
 * has. Undone by io_uring_queue_exit(). */
int uring_create(struct io_uring *ret, unsigned entries, struct error *err);

/* On the one thread that will use it: registers the files, restricts the ring
 * and enables it. 0 or a negative errno. */
int uring_enable(struct io_uring *ring, const int *fds, unsigned n_fds);
