#pragma once

/*
 * The metadata service: what answers at 169.254.169.254 (or the address
 * configured) to a guest, over a TCP/IP of its own that never leaves this
 * process. One for all interfaces of a VM that have it.
 *
 * Ethernet frames go in and come out; nothing here knows queues or taps. All
 * functions are called on one thread, the network's worker, but
 * mmds_set_data(), which any may call.
 */

#include "base/error.h"
#include "net/mmds_image.h"
#include "virtio/iovs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mmds;

enum mmds_version { MMDS_V1, MMDS_V2 };

struct mmds_stats {
	uint64_t requests, denied, not_found, malformed, tokens, connections;
} __attribute__((aligned(64)));

struct mmds_config {
	enum mmds_version version;
	uint32_t ipv4; /* host byte order */
	bool imds_compat;
	struct mmds_stats *stats; /* borrowed; never NULL */
	uint64_t (*clock)(void);  /* ns; NULL: CLOCK_MONOTONIC */
};

int mmds_create(
	struct mmds **ret, const struct mmds_config *config, struct error *err);
void mmds_destroy(struct mmds *m);

/* The data, as mmds_image.h describes it: copied, then checked whole. fd:
 * borrowed. 0 or a negative errno, keeping what there was. */
int mmds_set_data(struct mmds *m, int fd, size_t len);

/* One interface's conversations. */
struct mmds_port;
int mmds_port_create(struct mmds_port **ret, struct mmds *m, struct error *err);
void mmds_port_destroy(struct mmds_port *p);
void mmds_port_reset(struct mmds_port *p); /* the guest's driver began anew */

/*
 * A frame that the guest sent: len bytes at off, behind its vnet header; more
 * than MMDS_FRAME_MAX if it is to be segmented. partial_csum: the header says
 * VIRTIO_NET_HDR_F_NEEDS_CSUM. Whether it was for the service and has been
 * dealt with: then the caller must not send it on.
 */
bool mmds_port_input(struct mmds_port *p, const struct iovs *frame, size_t off,
	size_t len, bool partial_csum);

/* The next frame for the guest, complete with checksums: its length (at most
 * MMDS_FRAME_MAX), or 0. */
#define MMDS_FRAME_MAX 1514
size_t mmds_port_output(struct mmds_port *p, void *buf);
/* When mmds_port_output() may have more although nothing came in (ns,
 * CLOCK_MONOTONIC): retransmissions. UINT64_MAX: never. Not worth a timer while
 * the guest has no buffer for a frame. */
uint64_t mmds_port_deadline(const struct mmds_port *p);
