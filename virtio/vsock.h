#pragma once

/*
 * virtio-vsock (virtio 1.2 §5.10) over Unix sockets, by Firecracker's protocol:
 *
 *  - host to guest: a client connects to the listening socket, sends
 *    "CONNECT <port>\n" and gets "OK <host port>\n" once the guest has
 * accepted, or its connection is closed.
 *  - guest to host: a connection to CID 2, port P, becomes a connection to
 *    "<uds_path>_P", which the daemon makes (this process opens no path): the
 *    device asks by on_connect, the answer is vsock_connected().
 *
 * Credit-based flow control both ways; what a peer does not read stays with its
 * sender, so that each connection buffers a bounded amount and stalls alone.
 */

#include "base/error.h"
#include "virtio/device.h"
#include "virtio/worker.h"

#include <stdint.h>

#define VSOCK_MAX_CONNECTIONS 4096
#define VSOCK_HOST_PORT_FIRST (1u << 30)
#define VSOCK_MAX_CONNECTING 16        /* asked of the daemon at a time */
#define VSOCK_MEMORY_BYTES (64u << 20) /* at most, for all it keeps */

struct vsock_stats {
	uint64_t connections, opened, refused, resets; /* connections: now */
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes; /* rx: by guest */
	uint64_t errors, malformed;
} __attribute__((aligned(64)));

struct vsock_config {
	uint64_t guest_cid;
	int listen_fd; /* non-blocking, borrowed until destroy */
	/* How long each other side may take to begin or end a connection; 0:
	 * 10 s. */
	uint64_t patience_ns;
	struct vsock_stats *stats;
	/* On the worker: vsock_next_connect() has something to give. */
	void (*on_connect)(void *arg);
	/* On the worker: the guest connects to this port of the host's,
	 * whatever comes of it. NULL: nobody minds. */
	void (*on_ready)(void *arg);
	uint32_t ready_port;
	void *arg;
};

/* Needs a worker with worker_config.n_spare_files for its connections. */
int vsock_create(struct virtio_dev **ret, struct worker *w,
	const struct vsock_config *config, struct error *err);

/* A guest's connection that waits for its host side: any thread. At most
 * VSOCK_MAX_CONNECTING of them are given out and not yet answered. */
bool vsock_next_connect(
	struct virtio_dev *d, uint64_t *ret_token, uint32_t *ret_port);
/* The answer: fd (a connected stream socket, taken over) or -1: refused. A
 * token that is not waited for any more is fine. Any thread. */
void vsock_connected(struct virtio_dev *d, uint64_t token, int fd);
