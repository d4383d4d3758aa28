#include "block/blk_req.h"

#include <errno.h>
#include <linux/virtio_blk.h>

#define SECTOR_BYTES 512u

/* The data of a command which moves some: whole sectors, within the disk. */
static int check_range(
	struct blk_cmd *cmd, uint64_t sector, uint64_t capacity_sectors)
{
	uint64_t n_sectors = cmd->len / SECTOR_BYTES;

	if (cmd->len == 0 || cmd->len % SECTOR_BYTES)
		return VIRTIO_BLK_S_IOERR;
	if (cmd->len > BLK_REQ_BYTES_MAX)
		return VIRTIO_BLK_S_IOERR;
	if (sector > capacity_sectors || n_sectors > capacity_sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	cmd->off_bytes = sector * SECTOR_BYTES;
	return VIRTIO_BLK_S_OK;
}

static void take_data(struct blk_cmd *cmd, struct virtq_chain *c,
	const struct iovs *side, size_t off, size_t len)
{
	/* In place: a slice never has more pieces than its view. */
	cmd->data = c->iov + (side->v - c->iov);
	cmd->n_data = (unsigned)iovs_slice(side, off, len, cmd->data, side->n);
	cmd->len = len;
}

int blk_parse(struct virtq_chain *c, uint64_t capacity_sectors, bool read_only,
	struct blk_cmd *ret)
{
	struct virtio_blk_outhdr hdr;

	*ret = (struct blk_cmd){0};
	if (c->wr.len == 0)
		return -EPROTO;
	iovs_slice(&c->wr, c->wr.len - 1, 1, &ret->status, 1);
	/* What counts is the beginning that was written, and the status comes
	 * at the end (§2.7.8). */
	ret->failed_bytes = c->wr.len == 1 ? 1 : 0;
	ret->written_bytes = ret->failed_bytes;
	if (iovs_read(&c->rd, 0, &hdr, sizeof(hdr)) < 0)
		return VIRTIO_BLK_S_IOERR;
	ret->type = hdr.type;
	switch (hdr.type) {
	case VIRTIO_BLK_T_IN:
		take_data(ret, c, &c->wr, 0, c->wr.len - 1);
		ret->written_bytes = (uint32_t)ret->len + 1;
		return check_range(ret, hdr.sector, capacity_sectors);
	case VIRTIO_BLK_T_OUT:
		if (read_only)
			return VIRTIO_BLK_S_IOERR;
		take_data(ret, c, &c->rd, sizeof(hdr), c->rd.len - sizeof(hdr));
		return check_range(ret, hdr.sector, capacity_sectors);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		take_data(ret, c, &c->wr, 0, c->wr.len - 1);
		ret->written_bytes = (uint32_t)ret->len + 1;
		return VIRTIO_BLK_S_OK;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}
