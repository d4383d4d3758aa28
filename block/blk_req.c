#include "block/blk_req.h"

#include "block/raw.h"

#include <errno.h>
#include <linux/virtio_blk.h>

#define SECTOR_BYTES RAW_SECTOR_BYTES

static bool in_disk(
	const struct blk_rules *rules, uint64_t sector, uint64_t n_sectors)
{
	return sector <= rules->capacity_sectors &&
	       n_sectors <= rules->capacity_sectors - sector;
}

/* The data of a command which moves some: whole sectors, within the disk. */
static int check_data(
	struct blk_cmd *cmd, uint64_t sector, const struct blk_rules *rules)
{
	if (cmd->len == 0 || cmd->len % SECTOR_BYTES)
		return VIRTIO_BLK_S_IOERR;
	if (cmd->len > BLK_REQ_BYTES_MAX)
		return VIRTIO_BLK_S_IOERR;
	if (!in_disk(rules, sector, cmd->len / SECTOR_BYTES))
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

/* A flag that is not known, or means nothing here: UNSUPP (§5.2.6.2). */
static int check_flags(uint32_t type, uint32_t flags)
{
	uint32_t known = type == VIRTIO_BLK_T_WRITE_ZEROES
				 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
				 : 0;

	return flags & ~known ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_OK;
}

static int take_range(struct blk_cmd *cmd,
	const struct virtio_blk_discard_write_zeroes *seg,
	const struct blk_rules *rules, struct blk_range *ret)
{
	if (check_flags(cmd->type, seg->flags) != VIRTIO_BLK_S_OK)
		return VIRTIO_BLK_S_UNSUPP;
	if (seg->num_sectors == 0 ||
		seg->num_sectors > BLK_RANGE_BYTES_MAX / SECTOR_BYTES)
		return VIRTIO_BLK_S_IOERR;
	if (!in_disk(rules, seg->sector, seg->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	ret->off_bytes = seg->sector * SECTOR_BYTES;
	ret->len_bytes = (uint64_t)seg->num_sectors * SECTOR_BYTES;
	ret->unmap = seg->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	cmd->len += ret->len_bytes;
	cmd->n_ranges++;
	return VIRTIO_BLK_S_OK;
}

/* All of them are looked at, in a copy that stays as it is, before the first
 * is carried out. */
static int take_ranges(struct blk_cmd *cmd, const struct iovs *rd,
	const struct blk_rules *rules, struct blk_range *ret)
{
	struct virtio_blk_discard_write_zeroes segs[BLK_RANGES_MAX];
	size_t len = rd->len - sizeof(struct virtio_blk_outhdr);
	int r = VIRTIO_BLK_S_OK;

	if (len == 0 || len % sizeof(segs[0]) || len > sizeof(segs))
		return VIRTIO_BLK_S_IOERR;
	iovs_read(rd, sizeof(struct virtio_blk_outhdr), segs, len);
	for (size_t i = 0; r == VIRTIO_BLK_S_OK && i < len / sizeof(segs[0]);
		i++)
		r = take_range(cmd, &segs[i], rules, &ret[i]);
	return r;
}

int blk_parse(struct virtq_chain *c, const struct blk_rules *rules,
	struct blk_cmd *ret, struct blk_range ret_ranges[BLK_RANGES_MAX])
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
		return check_data(ret, hdr.sector, rules);
	case VIRTIO_BLK_T_OUT:
		if (rules->read_only)
			return VIRTIO_BLK_S_IOERR;
		take_data(ret, c, &c->rd, sizeof(hdr), c->rd.len - sizeof(hdr));
		return check_data(ret, hdr.sector, rules);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		take_data(ret, c, &c->wr, 0, c->wr.len - 1);
		ret->written_bytes = (uint32_t)ret->len + 1;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
		if (!rules->discard)
			return VIRTIO_BLK_S_UNSUPP;
		return take_ranges(ret, &c->rd, rules, ret_ranges);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (!rules->write_zeroes)
			return VIRTIO_BLK_S_UNSUPP;
		return take_ranges(ret, &c->rd, rules, ret_ranges);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}
