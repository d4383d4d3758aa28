#pragma once

/*
 * An io_uring with few powers. Its requests are invisible to seccomp, so the
 * ring itself is told what it may ever be asked: reads, writes, messages,
 * syncs, allocation, polls and their cancellation, on the registered files
 * alone, and no registration after that but another file in one of their
 * places.
 */

#include "base/error.h"

#include <liburing.h>
#include <stdbool.h>

/* Kernel threads which may run blocking requests of one ring; they count as
 * the process's own (RLIMIT_NPROC, pids.max). */
#define URING_MAX_THREADS 8

/* Creates the ring, disabled, with whichever of the kernel's faster modes it
 * has; cq_entries: at least so many. Undone by io_uring_queue_exit(). */
int uring_create(struct io_uring *ret, unsigned sq_entries, unsigned cq_entries,
	struct error *err);

/* On the one thread that will use it: registers the files (-1: none there yet),
 * restricts the ring and enables it. 0 or a negative errno. */
int uring_enable(struct io_uring *ring, const int *fds, unsigned n_fds);

/* On that thread: another file at an index, -1: none. 0 or a negative errno. */
int uring_set_file(struct io_uring *ring, unsigned index, int fd);

/* Whether a file that is replaced stays open until everything that was
 * submitted before has completed, on whatever file: so it is before 6.13. */
bool uring_holds_files(const struct io_uring *ring);
