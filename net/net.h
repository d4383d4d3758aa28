#pragma once

/*
 * virtio-net (virtio 1.2 §5.1) on a tap: checksum and segmentation offloads by
 * the vnet header both have, mergeable receive buffers, up to
 * NET_MAX_PAIRS queue pairs with a control queue.
 *
 * Received packets land in guest buffers directly, several of which are posted
 * ahead; transmitted ones are written from them. What goes to the metadata
 * service (net/mmds.h) never reaches the tap.
 */

#include "base/error.h"
#include "net/mmds.h"
#include "net/net_stats.h"
#include "virtio/device.h"
#include "virtio/rate_limiter.h"
#include "virtio/worker.h"

#include <stdbool.h>
#include <stdint.h>

#define NET_MAX_PAIRS 8

struct net_config {
	/* One tap queue each, non-blocking, IFF_VNET_HDR with a 12-byte header
	 * and set up by tap_open(); borrowed until destroy. */
	const int *tap_fds;
	unsigned n_pairs;
	bool has_mac;
	uint8_t mac[6];
	uint16_t mtu; /* 0: not told */
	uint64_t
		tap_features; /* VIRTIO_NET_F_* the tap can do: see net/tap.h */
	struct rate_limiter_config rx_limiter, tx_limiter;
	struct net_stats *stats; /* borrowed; never NULL */
	struct mmds *mmds;       /* NULL: not on this interface; borrowed */
	/* The tap has gone or failed, once per storm. On the worker. */
	void (*on_error)(void *arg, int err);
	void *arg;
};

int net_create(struct virtio_dev **ret, struct worker *w,
	const struct net_config *config, struct error *err);

/* On the control thread. */
int net_limit_rx(struct virtio_dev *d, const struct rate_limiter_update *u);
int net_limit_tx(struct virtio_dev *d, const struct rate_limiter_update *u);
