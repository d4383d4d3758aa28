#pragma once

/*
 * virtio-console (virtio 1.2 §5.3), one port: the guest's hvc0. Its output goes
 * to the same sink as the serial port's, in pieces instead of bytes.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/rate_limiter.h"
#include "virtio/worker.h"

#include <stddef.h>
#include <stdint.h>

/* What can be typed ahead of a guest that does not read. */
#define VCONSOLE_INPUT_MAX 4096

/* Until somebody tells another size. */
#define VCONSOLE_COLUMNS 80
#define VCONSOLE_ROWS 24

struct vconsole_config {
	/* Takes all of it, at once; on the worker. */
	void (*write)(void *arg, const void *data, size_t len);
	void *arg;
	struct rate_limiter_config limiter; /* what is over it waits */
};

int vconsole_create(struct virtio_dev **ret, struct worker *w,
	const struct vconsole_config *config, struct error *err);

/* Any thread. 0, or -ENOBUFS: the guest does not read; nothing was taken. */
int vconsole_input(struct virtio_dev *d, const uint8_t *buf, size_t n);
int vconsole_resize(struct virtio_dev *d, uint16_t columns, uint16_t rows);
int vconsole_limit(struct virtio_dev *d, const struct rate_limiter_update *u);
