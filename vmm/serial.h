#pragma once

/*
 * A 16550A on ttyS0. What the guest sends goes to a callback at once, so the
 * transmitter is always empty; what it receives waits in a bounded queue.
 *
 * Thread-safe: vCPU threads access registers, the control thread types. One
 * mutex, held over the tx callback, which must not call back.
 *
 * Interrupts are edges on an eventfd: one for each condition that newly holds
 * and is enabled.
 */

#include "virtio/rate_limiter.h"
#include "vmm/limits.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_PORTS 8
#define SERIAL_RX_FIFO 64

struct serial {
	pthread_mutex_t lock;
	int irq_fd; /* borrowed */
	void (*tx)(void *arg, const uint8_t *buf, size_t n);
	void *arg;
	struct rate_limiter limiter;
	uint64_t *limited; /* borrowed; NULL: there never is a limit */

	uint8_t ier, lcr, mcr, scr, dll, dlm;
	uint8_t msr_delta; /* MSR bits 0-3: modem lines that changed */
	bool fifo_on;
	bool thri;    /* transmitter went empty, not yet seen in IIR */
	bool overrun; /* LSR OE; only the loopback can outrun its reader */

	uint8_t fifo[SERIAL_RX_FIFO];
	unsigned fifo_head, fifo_n;

	/* Typed, but not yet in the FIFO: the line holds it back until the
	 * driver listens, since drivers flush the FIFO when they start. */
	uint8_t input[VM_CONSOLE_INPUT_MAX];
	unsigned input_head, input_n;
};

void serial_init(struct serial *s, int irq_fd,
	void (*tx)(void *arg, const uint8_t *buf, size_t n), void *arg);
void serial_fini(struct serial *s);

/* For struct bus_range, over SERIAL_PORTS ports. */
void serial_read(void *dev, uint64_t off, void *data, unsigned len);
void serial_write(void *dev, uint64_t off, const void *data, unsigned len);

/* From now on (no guest runs yet) what is over the limit is dropped, and
 * counted in *limited: a vCPU thread waits for nothing. */
void serial_init_limiter(struct serial *s,
	const struct rate_limiter_config *config, uint64_t *limited);
void serial_limit(struct serial *s, const struct rate_limiter_update *u);

/* Types n bytes: all of them, or none and -ENOBUFS when they do not fit. */
int serial_input(struct serial *s, const uint8_t *buf, size_t n);
