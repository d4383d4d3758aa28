/*
 * A virtio-blk request in any layout. The input: flags (read-only; discard or
 * zeroes not negotiated), numbers of readable and writable pieces, a 16-bit
 * length for each, and the readable bytes. Of what is accepted, data and status
 * lie in the pieces, data and ranges within the disk.
 */

#include "block/blk_req.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 64ull /* sectors */
#define MAX_PIECES 100u

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* All of side's memory in one block of the heap, of just its size. */
static uint8_t *allocate(
	struct iovs *side, struct iovec *v, const uint8_t *lens, size_t n)
{
	uint8_t *mem;
	size_t off = 0;

	*side = (struct iovs){.v = v, .n = (unsigned)n};
	for (size_t i = 0; i < n; i++) {
		v[i].iov_len = 1u + (lens[2 * i] | lens[2 * i + 1] << 8) % 4096;
		side->len += v[i].iov_len;
	}
	mem = calloc(1, side->len + 1);
	check(mem != NULL);
	for (size_t i = 0; i < n; i++) {
		v[i].iov_base = mem + off;
		off += v[i].iov_len;
	}
	return mem;
}

struct memory {
	const uint8_t *rd, *wr;
	size_t rd_len, wr_len;
};

static void check_transfer(const struct blk_cmd *cmd)
{
	check(cmd->len > 0 && cmd->len % 512 == 0);
	check(cmd->off_bytes % 512 == 0);
	check(cmd->len <= CAPACITY * 512);
	check(cmd->off_bytes <= CAPACITY * 512 - cmd->len);
}

static void check_data(const struct blk_cmd *cmd, const uint8_t *at)
{
	size_t sum = 0;

	for (unsigned i = 0; i < cmd->n_data; i++) {
		check(cmd->data[i].iov_base == at + sum);
		sum += cmd->data[i].iov_len;
	}
	check(sum == cmd->len);
}

static void check_ranges(const struct blk_cmd *cmd, const struct blk_range *r)
{
	size_t sum = 0;

	check(cmd->n_ranges > 0 && cmd->n_ranges <= BLK_RANGES_MAX);
	check(cmd->n_data == 0);
	for (unsigned i = 0; i < cmd->n_ranges; i++) {
		check(r[i].len_bytes > 0 && r[i].len_bytes % 512 == 0);
		check(r[i].off_bytes % 512 == 0);
		check(r[i].len_bytes <= CAPACITY * 512);
		check(r[i].off_bytes <= CAPACITY * 512 - r[i].len_bytes);
		check(!r[i].unmap || cmd->type == VIRTIO_BLK_T_WRITE_ZEROES);
		sum += r[i].len_bytes;
	}
	check(sum == cmd->len);
}

static void check_accepted(const struct blk_cmd *cmd,
	const struct blk_range *ranges, const struct memory *m,
	const struct blk_rules *rules)
{
	switch (cmd->type) {
	case VIRTIO_BLK_T_IN:
		check_transfer(cmd);
		check(cmd->len == m->wr_len - 1);
		check_data(cmd, m->wr);
		break;
	case VIRTIO_BLK_T_OUT:
		check(!rules->read_only);
		check_transfer(cmd);
		check(cmd->len == m->rd_len - 16);
		check_data(cmd, m->rd + 16);
		break;
	case VIRTIO_BLK_T_GET_ID:
		check(cmd->len == m->wr_len - 1);
		check_data(cmd, m->wr);
		break;
	case VIRTIO_BLK_T_DISCARD:
		check(rules->discard);
		check_ranges(cmd, ranges);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		check(rules->write_zeroes);
		check_ranges(cmd, ranges);
		break;
	default:
		check(cmd->type == VIRTIO_BLK_T_FLUSH);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtq_chain chain;
	struct blk_rules rules = {.capacity_sectors = CAPACITY};
	struct blk_range ranges[BLK_RANGES_MAX];
	uint8_t *rd, *wr;
	struct memory m;
	struct blk_cmd cmd;
	size_t used;
	size_t n_rd, n_wr;
	int r;

	if (size < 3)
		return 0;
	rules.read_only = data[0] & 1;
	rules.discard = !(data[0] & 2);
	rules.write_zeroes = !(data[0] & 4);
	n_rd = data[1] % MAX_PIECES;
	n_wr = data[2] % MAX_PIECES;
	used = 3 + 2 * (n_rd + n_wr);
	if (size < used)
		return 0;
	rd = allocate(&chain.rd, chain.iov, data + 3, n_rd);
	wr = allocate(&chain.wr, chain.iov + n_rd, data + 3 + 2 * n_rd, n_wr);
	m = (struct memory){rd, wr, chain.rd.len, chain.wr.len};
	memcpy(rd, data + used,
		size - used < m.rd_len ? size - used : m.rd_len);
	r = blk_parse(&chain, &rules, &cmd, ranges);
	check((r == -EPROTO) == (m.wr_len == 0));
	if (r != -EPROTO) {
		check(cmd.status.iov_base == wr + m.wr_len - 1);
		check(cmd.status.iov_len == 1);
		check(cmd.written_bytes <= m.wr_len);
		check(cmd.failed_bytes <= m.wr_len);
	}
	if (r == VIRTIO_BLK_S_OK)
		check_accepted(&cmd, ranges, &m, &rules);
	free(rd);
	free(wr);
	return 0;
}

/* Lengths stand for themselves plus 1. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const uint8_t plain[] = {0, 1, 2, 15, 0, 255, 1, 0, 0};
	static const uint8_t write[] = {0, 2, 1, 15, 0, 255, 3, 0, 0};
	static const uint8_t odd[] = {0, 3, 2, 6, 0, 6, 0, 1, 0, 0xff, 1, 0, 0};
	static const uint8_t ranges[] = {0, 2, 1, 20, 0, 26, 0, 0, 0};
	static const struct {
		const uint8_t *layout;
		size_t size;
		uint32_t type;
	} seeds[] = {{plain, sizeof(plain), VIRTIO_BLK_T_IN},
		{write, sizeof(write), VIRTIO_BLK_T_OUT},
		{odd, sizeof(odd), VIRTIO_BLK_T_IN},
		{plain, sizeof(plain), VIRTIO_BLK_T_GET_ID},
		{plain, sizeof(plain), VIRTIO_BLK_T_FLUSH},
		{ranges, sizeof(ranges), VIRTIO_BLK_T_DISCARD},
		{ranges, sizeof(ranges), VIRTIO_BLK_T_WRITE_ZEROES}};
	struct virtio_blk_outhdr hdr = {.sector = 5};
	struct virtio_blk_discard_write_zeroes segs[2] = {
		{.sector = 1, .num_sectors = 8},
		{.sector = 60, .num_sectors = 4}};
	uint8_t *at = buf;

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || cap < 64)
		return 0;
	hdr.type = seeds[n].type;
	segs[1].flags = seeds[n].type == VIRTIO_BLK_T_WRITE_ZEROES;
	memcpy(at, seeds[n].layout, seeds[n].size);
	at += seeds[n].size;
	memcpy(at, &hdr, sizeof(hdr));
	at += sizeof(hdr);
	if (seeds[n].layout != ranges)
		return (size_t)(at - buf);
	memcpy(at, segs, sizeof(segs));
	return (size_t)(at + sizeof(segs) - buf);
}
