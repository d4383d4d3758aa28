#pragma once

/*
 * The writing side of the console ring in the page shared with the daemon
 * (vmm/shared.h). Any thread: the serial port writes on vCPU threads, the
 * virtio console on the worker.
 */

#include "base/error.h"
#include "vmm/shared.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct console {
	struct vm_shared *shared; /* borrowed */
	int wake_fd;              /* borrowed */
	uint32_t mask;            /* ring size - 1 */
	pthread_mutex_t lock;     /* what follows, and the ring */
	uint64_t head;            /* ours: the shared one is never read back */
	uint64_t backed;          /* ring bytes there is memory for, from 0 */
};

/*
 * shared_bytes: size of the whole mapping. Fails with EPROTO when the ring it
 * announces is not a power of two, or larger than the mapping.
 */
int console_init(struct console *c, struct vm_shared *shared,
	size_t shared_bytes, int wake_fd, struct error *err);

/* All n bytes (but those for whose place in the ring the host has no room), and
 * at most one wake-up for them. arg: a struct console; the signature of a
 * serial port's output. */
void console_write(void *arg, const uint8_t *buf, size_t n);
