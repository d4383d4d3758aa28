#pragma once

/*
 * Taps: the only place with TUN ioctls. On the daemon's side; the VMM gets
 * descriptors that are ready.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tap_config {
	const char *name;  /* IFNAMSIZ - 1 bytes at most */
	const char *netns; /* a name under /run/netns; NULL: the daemon's own */
	const char *bridge; /* to become a port of; NULL: none */
	bool create;        /* must not exist; else it must, and be a tap */
	unsigned n_queues;
	uint32_t mtu; /* set on it if it is created; 0: as it comes */
};

struct tap {
	int fds[8];        /* n_queues of them; owned */
	uint64_t features; /* VIRTIO_NET_F_* its offloads allow */
};

/*
 * Opens (and makes) it: non-blocking, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, a
 * vnet header of 12 bytes, little-endian. Errors name the field of
 * network-interfaces; EBUSY: somebody else has it.
 */
int tap_open(
	struct tap *ret, const struct tap_config *config, struct error *err);
void tap_close(struct tap *t);
/* Removes one that was created. 0 or a negative errno. */
int tap_remove(const struct tap_config *config);
