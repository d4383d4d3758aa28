#include "virtio/vsock_pkt.h"

#include <stdbool.h>

static bool op_is_sound(const struct virtio_vsock_hdr *hdr, size_t payload)
{
	if (hdr->op == VIRTIO_VSOCK_OP_RW)
		return hdr->len <= payload;
	return hdr->op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST;
}

enum vsock_verdict vsock_pkt_parse(
	const struct iovs *rd, uint64_t guest_cid, struct vsock_pkt *ret)
{
	struct virtio_vsock_hdr hdr;

	if (iovs_read(rd, 0, &hdr, sizeof(hdr)) < 0)
		return VSOCK_DROP;
	/* Nobody can be answered who says he is another (§5.10.6.4). */
	if (hdr.src_cid != guest_cid)
		return VSOCK_DROP;
	*ret = (struct vsock_pkt){
		.host_cid = hdr.dst_cid,
		.host_port = hdr.dst_port,
		.guest_port = hdr.src_port,
		.flags = hdr.flags,
		.buf_alloc = hdr.buf_alloc,
		.fwd_cnt = hdr.fwd_cnt,
		.type = hdr.type,
		.op = VIRTIO_VSOCK_OP_INVALID,
	};
	if (op_is_sound(&hdr, rd->len - sizeof(hdr)))
		ret->op = hdr.op;
	if (ret->op == VIRTIO_VSOCK_OP_RW)
		ret->len = hdr.len;
	if (hdr.dst_cid == VSOCK_HOST_CID &&
		hdr.type == VIRTIO_VSOCK_TYPE_STREAM)
		return VSOCK_TAKE;
	/* A reset is never answered with one. */
	return hdr.op == VIRTIO_VSOCK_OP_RST ? VSOCK_DROP : VSOCK_REFUSE;
}

void vsock_pkt_write(
	const struct iovs *wr, uint64_t guest_cid, const struct vsock_pkt *pkt)
{
	const struct virtio_vsock_hdr hdr = {
		.src_cid = pkt->host_cid,
		.dst_cid = guest_cid,
		.src_port = pkt->host_port,
		.dst_port = pkt->guest_port,
		.len = pkt->len,
		.type = pkt->type,
		.op = pkt->op,
		.flags = pkt->flags,
		.buf_alloc = pkt->buf_alloc,
		.fwd_cnt = pkt->fwd_cnt,
	};

	iovs_write(wr, 0, &hdr, sizeof(hdr));
}
