#pragma once

/*
 * File descriptors: whole reads and writes, and passing them over a
 * SOCK_SEQPACKET socket. All return 0 (or a count) or a negative errno and
 * never log. EINTR is retried. Received descriptors are CLOEXEC.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The most descriptors one message carries (the kernel's own limit is 253). */
#define FD_PASS_MAX 128

/* Reads exactly len bytes at off: 0; -ENODATA when the file ends before. */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t off);
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);

/* One datagram with n_fds descriptors (borrowed). 0, or -EAGAIN, -EPIPE, ... */
int fd_send(
	int sock, const void *buf, size_t len, const int *fds, unsigned n_fds);

/*
 * One datagram. Returns its length, 0 at end of file, or a negative errno
 * (-EAGAIN; -EMSGSIZE when it, or its descriptors, did not fit: nothing is
 * kept then). The caller owns the n_fds received descriptors.
 */
ssize_t fd_recv(int sock, void *buf, size_t size, int *ret_fds,
	unsigned max_fds, unsigned *ret_n_fds);

/* Whether there is something to be read, or the end; of a pidfd, whether its
 * process has ended. Never blocks. */
bool fd_is_readable(int fd);

/* Adds 1 to an eventfd. Never blocks: a full counter is already a signal. */
void fd_notify(int eventfd);
