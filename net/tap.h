#pragma once

/*
 * Taps: the only place with TUN ioctls, but for the one that the VMM makes
 * itself (net_tap.c). On the daemon's side; the VMM gets descriptors that are
 * ready.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define TAP_MAX_QUEUES 8

struct tap_config {
	const char *name;  /* IFNAMSIZ - 1 bytes at most */
	const char *netns; /* a name under /run/netns; NULL: the daemon's own */
	const char *bridge; /* with create: to become a port of; NULL: none */
	/* Make it, and bring it up: it must not exist, and is gone when the
	 * last of its descriptors is closed, wherever that is, and whoever
	 * died. Else it must exist, and be a tap. */
	bool create;
	unsigned n_queues;
	uint32_t mtu; /* with create: set on it; 0: as it comes */
};

struct tap {
	int fds[TAP_MAX_QUEUES]; /* n_queues of them; owned; others -1 */
	uint64_t features;       /* VIRTIO_NET_F_* its offloads allow */
	/* For tap_in_use(): in its namespace, where it has this index. */
	int sock;
	int ifindex;
	uint64_t netns_dev, netns_ino; /* that namespace; 0: not known */
};

/*
 * Opens (and makes) it: non-blocking, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, a
 * vnet header of 12 bytes, little-endian. Errors name the field of
 * network-interfaces; EBUSY: somebody else has it. The caller's thread stays in
 * its network namespace.
 */
int tap_open(
	struct tap *ret, const struct tap_config *config, struct error *err);
/* One that somebody has open, to tell its use: without queues. */
int tap_find(
	struct tap *ret, const struct tap_config *config, struct error *err);
void tap_close_queues(struct tap *t); /* what is left can tell its use */
void tap_close(struct tap *t);

/*
 * Whether its queues are open still, wherever they were passed on to, as far as
 * a tap that is up tells: one that is down is not in use. (What a
 * process leaves in an io_uring, the kernel closes some 30 ms after its end.)
 */
bool tap_in_use(const struct tap *t);

/* Whether both are one device, by whatever names they were opened. */
bool tap_same(const struct tap *a, const struct tap *b);
