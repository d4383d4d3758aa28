#pragma once

/*
 * The virtio-mmio transport, version 2 (virtio 1.2 §4.2): registers, status
 * machine (§2.1, §3.1), feature negotiation, config space with generation,
 * interrupt status. Registers are decoded into host-owned fields.
 *
 * Any vCPU thread calls read and write; one mutex per transport. The device's
 * data path runs on the worker and raises interrupts through the transport's
 * interrupt() (virtio/device.h), without that mutex.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/gmem.h"

#include <stdint.h>

struct virtio_mmio;

/* Told of what the guest did; called on vCPU threads or on the worker. */
struct virtio_mmio_events {
	void (*driver_ok)(void *arg);   /* DRIVER_OK was set, device started */
	void (*needs_reset)(void *arg); /* DEVICE_NEEDS_RESET was set */
	void *arg;
};

/*
 * dev, mem: borrowed until destroy. irq_fd: an eventfd, borrowed; one signal
 * is one edge. events: copied, may be NULL.
 */
int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_dev *dev,
	const struct gmem *mem, int irq_fd,
	const struct virtio_mmio_events *events, struct error *err);
void virtio_mmio_destroy(struct virtio_mmio *m); /* stops the device first */

/* One register access at an offset in the device's page. */
void virtio_mmio_read(
	struct virtio_mmio *m, uint64_t off, void *data, unsigned len);
void virtio_mmio_write(
	struct virtio_mmio *m, uint64_t off, const void *data, unsigned len);

/* The eventfd of queue q's kicks, to be bound to QueueNotify (offset 0x50,
 * 4 bytes, datamatch q); owned by the transport. */
int virtio_mmio_kick_fd(const struct virtio_mmio *m, unsigned q);
