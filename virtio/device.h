#pragma once

/*
 * What a virtio device is to its transport, and a transport to its device.
 * A device knows no registers and no VM: it has features, a config space,
 * queues, and a few operations.
 */

#include "base/error.h"
#include "virtio/virtq.h"

#include <stddef.h>
#include <stdint.h>

struct virtio_dev;

/* Const and shared by all devices of a kind: behaviour only. */
struct virtio_dev_ops {
	uint32_t id; /* VIRTIO_ID_* */
	/* It has its transport, and kick_fds: makes its worker watch them.
	 * Once, before the worker starts. */
	int (*attach)(struct virtio_dev *d, struct error *err);
	/* DRIVER_OK was set: queues are validated, begin. 0 or -errno (then
	 * DEVICE_NEEDS_RESET is set). */
	int (*start)(struct virtio_dev *d);
	/* Reset: when it returns, nothing touches guest memory any more. Only
	 * after a successful start. */
	void (*stop)(struct virtio_dev *d);
	/* The driver wrote config space (may be NULL: ignored). */
	void (*config_write)(
		struct virtio_dev *d, size_t off, const void *data, size_t len);
	void (*destroy)(struct virtio_dev *d);
};

/* How a device reaches its driver; filled in by the transport. */
struct virtio_transport_ops {
	/* A used buffer. Any thread, like the others. */
	void (*interrupt)(struct virtio_dev *d, struct virtq *q);
	/* Changes d->config and tells the driver (only so is its generation
	 * right). */
	void (*config_update)(
		struct virtio_dev *d, size_t off, const void *data, size_t len);
	/* The same for what the driver knows already: no interrupt. */
	void (*config_set)(
		struct virtio_dev *d, size_t off, const void *data, size_t len);
	/* -EPROTO from virtq_pop: sets DEVICE_NEEDS_RESET. */
	void (*broken)(struct virtio_dev *d);
};

struct virtio_dev {
	const struct virtio_dev_ops *ops;
	const struct virtio_transport_ops *transport;
	void *transport_data; /* the transport's own */
	uint64_t features;    /* offered; VIRTIO_F_VERSION_1 among them */
	uint64_t acked;       /* valid from start() to stop() */
	void *config;         /* from virtio_mmio_create() on the transport's */
	size_t config_len;
	struct virtq *vqs;
	unsigned n_vqs;
	int *kick_fds; /* one eventfd a queue; owned by the transport */
};
