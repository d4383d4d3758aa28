#pragma once

/*
 * A run of free page hinting, as both sides tell each other of it by numbers
 * (virtio 1.2 §5.5.6.5, §5.5.6.6): the device gives a run one, the driver
 * repeats it before its hints and sends STOP behind them; then it keeps those
 * pages until the device says DONE.
 *
 * Just the numbers: no memory, no queue.
 */

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>

struct balloon_hint {
	uint32_t host_cmd, guest_cmd; /* the last of either */
	uint32_t last_run;
	bool acknowledge; /* DONE as soon as the driver is */
};

/* Each returns the number the device tells from now on. */
uint32_t balloon_hint_start(struct balloon_hint *h, bool acknowledge);
uint32_t balloon_hint_stop(struct balloon_hint *h);

/* The driver said cmd: whether host_cmd has changed for it. */
bool balloon_hint_take(struct balloon_hint *h, uint32_t cmd);

/* Whether what the driver hints now is of the run there is. */
bool balloon_hint_running(const struct balloon_hint *h);
