#pragma once

/* Packet headers of virtio-vsock (virtio 1.2 §5.10.6): from and to a guest. */

#include "virtio/iovs.h"

#include <linux/virtio_vsock.h>
#include <stdint.h>

#define VSOCK_HDR_BYTES sizeof(struct virtio_vsock_hdr)
#define VSOCK_HOST_CID 2u
#define VSOCK_SHUTDOWN_BOTH                                                    \
	((uint32_t)VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/* A header, seen from the host. */
struct vsock_pkt {
	uint64_t host_cid; /* whom the guest meant; ours, unless it is refused
			    */
	uint32_t host_port, guest_port;
	uint32_t len; /* of the payload: 0 but for RW */
	uint32_t flags, buf_alloc, fwd_cnt;
	uint16_t type;
	/* INVALID: one that does not exist, or more payload than came. */
	uint16_t op;
};

enum vsock_verdict {
	VSOCK_TAKE,
	VSOCK_REFUSE, /* not for us: answered with a reset */
	VSOCK_DROP    /* not from this guest, or nothing to answer to */
};

/* rd: the chain's readable part, header and payload. */
enum vsock_verdict vsock_pkt_parse(
	const struct iovs *rd, uint64_t guest_cid, struct vsock_pkt *ret);

/* wr: holds a header at least. */
void vsock_pkt_write(
	const struct iovs *wr, uint64_t guest_cid, const struct vsock_pkt *pkt);
