/*
 * A virtio-blk request in any layout. The input: flags, numbers of readable and
 * writable pieces, a 16-bit length for each, and the readable bytes. Of what is
 * accepted, data and status lie in the pieces, data within the disk.
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

static void check_accepted(const struct blk_cmd *cmd, const uint8_t *rd,
	size_t rd_len, const uint8_t *wr, size_t wr_len, bool read_only)
{
	const uint8_t *at = NULL;
	size_t sum = 0;

	check(cmd->type != VIRTIO_BLK_T_OUT || !read_only);
	if (cmd->type == VIRTIO_BLK_T_IN || cmd->type == VIRTIO_BLK_T_OUT) {
		check(cmd->len > 0 && cmd->len % 512 == 0);
		check(cmd->off_bytes % 512 == 0);
		check(cmd->len <= CAPACITY * 512);
		check(cmd->off_bytes <= CAPACITY * 512 - cmd->len);
	}
	if (cmd->type == VIRTIO_BLK_T_IN || cmd->type == VIRTIO_BLK_T_GET_ID) {
		at = wr;
		check(cmd->len == wr_len - 1);
	} else if (cmd->type == VIRTIO_BLK_T_OUT) {
		at = rd + 16;
		check(cmd->len == rd_len - 16);
	}
	for (unsigned i = 0; i < cmd->n_data; i++) {
		check(cmd->data[i].iov_base == at + sum);
		sum += cmd->data[i].iov_len;
	}
	check(sum == cmd->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtq_chain chain;
	uint8_t *rd, *wr;
	struct blk_cmd cmd;
	size_t rd_len, wr_len, used;
	size_t n_rd, n_wr;
	bool read_only;
	int r;

	if (size < 3)
		return 0;
	read_only = data[0] & 1;
	n_rd = data[1] % MAX_PIECES;
	n_wr = data[2] % MAX_PIECES;
	used = 3 + 2 * (n_rd + n_wr);
	if (size < used)
		return 0;
	rd = allocate(&chain.rd, chain.iov, data + 3, n_rd);
	wr = allocate(&chain.wr, chain.iov + n_rd, data + 3 + 2 * n_rd, n_wr);
	rd_len = chain.rd.len;
	wr_len = chain.wr.len;
	memcpy(rd, data + used, size - used < rd_len ? size - used : rd_len);
	r = blk_parse(&chain, CAPACITY, read_only, &cmd);
	check((r == -EPROTO) == (wr_len == 0));
	if (r != -EPROTO) {
		check(cmd.status.iov_base == wr + wr_len - 1);
		check(cmd.status.iov_len == 1);
		check(cmd.written_bytes <= wr_len);
		check(cmd.failed_bytes <= wr_len);
	}
	if (r == VIRTIO_BLK_S_OK)
		check_accepted(&cmd, rd, rd_len, wr, wr_len, read_only);
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
	static const struct {
		const uint8_t *layout;
		size_t size;
		uint32_t type;
	} seeds[] = {{plain, sizeof(plain), VIRTIO_BLK_T_IN},
		{write, sizeof(write), VIRTIO_BLK_T_OUT},
		{odd, sizeof(odd), VIRTIO_BLK_T_IN},
		{plain, sizeof(plain), VIRTIO_BLK_T_GET_ID},
		{plain, sizeof(plain), VIRTIO_BLK_T_FLUSH}};
	struct virtio_blk_outhdr hdr = {.sector = 5};

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || cap < 64)
		return 0;
	hdr.type = seeds[n].type;
	memcpy(buf, seeds[n].layout, seeds[n].size);
	memcpy(buf + seeds[n].size, &hdr, sizeof(hdr));
	return seeds[n].size + sizeof(hdr);
}
