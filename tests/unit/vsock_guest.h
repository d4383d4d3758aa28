#pragma once

/*
 * A guest with a virtio-vsock device and a host around it, for tests: the
 * device on a worker of its own, its queues as a driver lays them out, packets
 * by the fields of their headers, a listening socket for clients.
 *
 * Whoever waits here gives up after some seconds, and the test fails.
 */

#include "virtio/mmio.h"
#include "virtio/vsock.h"

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_CID 42u
#define GUEST_V1 (1ull << 32)
#define GUEST_INDIRECT (1ull << 28)
#define GUEST_EVENT_IDX (1ull << 29)

#define GUEST_QUEUE 128u /* descriptors */
#define GUEST_TX_BYTES 0x4000u
#define GUEST_RX_BYTES 0x1000u /* header and payload, like Linux */

struct guest_queue {
	unsigned index;
	void *desc, *avail, *used, *indirect;
	uint64_t gpa, data_gpa;
	uint16_t used_seen;
	uint16_t n_offered; /* ever */
};

struct vsock_guest {
	struct gmem mem;
	struct worker *worker;
	struct virtio_dev *dev;
	struct virtio_mmio *m;
	struct vsock_stats stats;
	struct guest_queue rx, tx;
	int irq, listen_fd;
	char path[64];
	bool split_headers; /* over several descriptors; else one a packet */
	bool indirect;
	bool holds_kicks; /* the device hears of nothing new */
	unsigned needs_reset, wakes, ready; /* how often the device said so */
};

/* All of it, with the driver not up yet. patience_ns: as vsock_config. */
void vsock_guest_make(struct vsock_guest *g, uint64_t patience_ns);
void vsock_guest_free(struct vsock_guest *g);
/* The same with a device that is there already, in 16 MiB of memory at 0, to be
 * freed by whoever made it. */
void vsock_guest_borrow(struct vsock_guest *g, const struct gmem *mem,
	struct virtio_mmio *m, struct virtio_dev *dev, struct worker *worker);
/* A listening socket at g->path, which is removed by the caller then. */
void vsock_guest_listen(struct vsock_guest *g);

/* The driver, up to DRIVER_OK, and n receive buffers. */
void vsock_guest_up(
	struct vsock_guest *g, uint64_t features, unsigned n_buffers);
void vsock_guest_reset(struct vsock_guest *g);

/* Receive buffers, of so many bytes each (header and payload). */
void vsock_guest_give(
	struct vsock_guest *g, unsigned n_buffers, uint32_t bytes);

/* A chain of the queue: pieces of memory with the given lengths, one behind the
 * other (0: the last), kicked. For what is wrong. */
void vsock_guest_offer(struct vsock_guest *g, struct guest_queue *q,
	const uint32_t *lens, bool write);
void *vsock_guest_tx_memory(struct vsock_guest *g); /* of the next chain */

/* Sends a packet; n: how much of the payload goes into the chain. Header fields
 * that are 0: as they should be. Waits for its buffer to come back. */
void vsock_guest_send(struct vsock_guest *g, const struct virtio_vsock_hdr *hdr,
	const void *payload, size_t n);

/* The next packet, which is there or comes soon; its payload in buf (if not
 * NULL, of GUEST_RX_BYTES). Its buffer is given back. */
void vsock_guest_recv(
	struct vsock_guest *g, struct virtio_vsock_hdr *ret, void *buf);
/* Whether one is there now. */
bool vsock_guest_has(struct vsock_guest *g);
/* After what is going on in the device is over: no packet is there. */
bool vsock_guest_is_quiet(struct vsock_guest *g);
/* Until everything that was begun has been done. */
void vsock_guest_sync(struct vsock_guest *g);

/* A client of the listening socket. */
int vsock_guest_client(const struct vsock_guest *g);

/* What a host program has: all of it, within some seconds. */
void vsock_host_read(int fd, void *buf, size_t n);
void vsock_host_write(int fd, const void *buf, size_t n);
bool vsock_host_is_closed(int fd); /* soon, and nothing is left to be read */
