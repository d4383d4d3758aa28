#pragma once

/*
 * The keyboard controller: a guest resets the machine through it, and the host
 * presses Ctrl-Alt-Del on the one keyboard behind it. No mouse port.
 *
 * Thread-safe: vCPU threads access registers, the control thread presses keys.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define I8042_PORTS 5 /* data at offset 0, status and command at offset 4 */
#define I8042_QUEUE 32

struct i8042 {
	pthread_mutex_t lock;
	int irq_fd; /* borrowed; one signal is one edge */
	void (*reset)(void *arg);
	void *arg;

	uint8_t ctr;     /* the controller's command byte */
	uint8_t command; /* waits for its parameter; 0: none */
	bool last_was_command;
	bool reply_full; /* the controller's own answer, before any key */
	uint8_t reply;

	uint8_t kbd_command; /* the keyboard's, waiting for its parameter */
	uint8_t kbd_last;    /* last byte it sent, for RESEND */
	bool kbd_scanning;
	uint8_t queue[I8042_QUEUE]; /* from the keyboard */
	unsigned queue_head, queue_n;
};

/* reset: called on a vCPU thread with no lock held, any number of times. */
void i8042_init(
	struct i8042 *k, int irq_fd, void (*reset)(void *arg), void *arg);
void i8042_fini(struct i8042 *k);

/* For struct bus_range, over I8042_PORTS ports. */
void i8042_read(void *dev, uint64_t off, void *data, unsigned len);
void i8042_write(void *dev, uint64_t off, const void *data, unsigned len);

/*
 * Presses and releases the three keys. 0; -ENOBUFS when the guest has not taken
 * what was pressed before; -EAGAIN when its driver has told the keyboard to be
 * quiet.
 */
int i8042_ctrl_alt_del(struct i8042 *k);
