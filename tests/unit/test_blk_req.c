#include "block/blk_req.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 100u /* sectors */

static uint8_t rd_mem[128 << 10], wr_mem[128 << 10];
static struct virtq_chain chain;
static struct blk_cmd cmd;
static struct blk_range ranges[BLK_RANGES_MAX];

/* Everything there is has been negotiated. */
static int parse(uint64_t capacity_sectors, bool read_only)
{
	const struct blk_rules rules = {capacity_sectors, read_only,
		.discard = !read_only, .write_zeroes = !read_only};

	memset(ranges, 0xee, sizeof(ranges));
	return blk_parse(&chain, &rules, &cmd, ranges);
}

/* Readable and writable bytes, each in pieces of at most `piece`. */
static void make(size_t rd, size_t wr, size_t piece)
{
	unsigned n = 0;

	memset(&chain, 0, sizeof(chain));
	for (size_t off = 0; off < rd; off += piece, n++)
		chain.iov[n] = (struct iovec){
			rd_mem + off, rd - off < piece ? rd - off : piece};
	chain.rd = (struct iovs){chain.iov, n, rd};
	chain.wr.v = chain.iov + n;
	for (size_t off = 0; off < wr; off += piece, n++)
		chain.iov[n] = (struct iovec){
			wr_mem + off, wr - off < piece ? wr - off : piece};
	chain.wr.n = n - chain.rd.n;
	chain.wr.len = wr;
	ck_assert_uint_le(n, VIRTQ_MAX);
}

static void header(uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr hdr = {.type = type, .sector = sector};

	memcpy(rd_mem, &hdr, sizeof(hdr));
}

/* The data is this memory, in order, and nothing else. */
static void check_data(const uint8_t *mem, size_t len)
{
	size_t off = 0;

	ck_assert_uint_eq(cmd.len, len);
	for (unsigned i = 0; i < cmd.n_data; i++) {
		ck_assert_ptr_eq(cmd.data[i].iov_base, mem + off);
		off += cmd.data[i].iov_len;
	}
	ck_assert_uint_eq(off, len);
}

/* Chains may name the same memory many times over. */
START_TEST(more_than_a_driver_was_told_of_is_an_error)
{
	header(VIRTIO_BLK_T_IN, 0);
	make(16, 1, 16);
	chain.iov[1].iov_len = BLK_REQ_BYTES_MAX + 1;
	chain.wr.len = BLK_REQ_BYTES_MAX + 1;
	ck_assert_int_eq(parse(1 << 20, false), VIRTIO_BLK_S_OK);
	make(16, 1, 16);
	chain.iov[1].iov_len = BLK_REQ_BYTES_MAX + 513;
	chain.wr.len = BLK_REQ_BYTES_MAX + 513;
	ck_assert_int_eq(parse(1 << 20, false), VIRTIO_BLK_S_IOERR);
}
END_TEST

static const size_t piece_sizes[] = {1 << 20, 512, 16, 7};

START_TEST(a_read_has_its_data_before_the_status)
{
	size_t piece = piece_sizes[_i];

	header(VIRTIO_BLK_T_IN, 98);
	make(16, 1025, piece);
	ck_assert_int_eq(parse(CAPACITY, false), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(cmd.type, VIRTIO_BLK_T_IN);
	ck_assert_uint_eq(cmd.off_bytes, 98 * 512ull);
	check_data(wr_mem, 1024);
	ck_assert_ptr_eq(cmd.status.iov_base, wr_mem + 1024);
	ck_assert_uint_eq(cmd.status.iov_len, 1);
	ck_assert_uint_eq(cmd.written_bytes, 1025);
	ck_assert_uint_eq(cmd.failed_bytes, 0);
}
END_TEST

START_TEST(a_write_has_its_data_behind_the_header)
{
	size_t piece = piece_sizes[_i];

	header(VIRTIO_BLK_T_OUT, 0);
	make(16 + 1536, 1, piece);
	ck_assert_int_eq(parse(CAPACITY, false), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(cmd.off_bytes, 0);
	check_data(rd_mem + 16, 1536);
	ck_assert_ptr_eq(cmd.status.iov_base, wr_mem);
	ck_assert_uint_eq(cmd.written_bytes, 1);
	ck_assert_uint_eq(cmd.failed_bytes, 1);
}
END_TEST

/* The status is the last byte the device may write, wherever that is; what lies
 * before it was not written. */
START_TEST(a_write_with_room_before_the_status)
{
	header(VIRTIO_BLK_T_OUT, 0);
	make(16 + 512, 20, 8);
	ck_assert_int_eq(parse(CAPACITY, false), VIRTIO_BLK_S_OK);
	ck_assert_ptr_eq(cmd.status.iov_base, wr_mem + 19);
	ck_assert_uint_eq(cmd.written_bytes, 0);
	ck_assert_uint_eq(cmd.failed_bytes, 0);
}
END_TEST

START_TEST(flush_and_get_id)
{
	header(VIRTIO_BLK_T_FLUSH, UINT64_MAX);
	make(16, 1, 512);
	ck_assert_int_eq(parse(CAPACITY, true), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(cmd.type, VIRTIO_BLK_T_FLUSH);
	ck_assert_uint_eq(cmd.n_data, 0);
	ck_assert_uint_eq(cmd.written_bytes, 1);
	header(VIRTIO_BLK_T_GET_ID, 0);
	make(16, 21, 6);
	ck_assert_int_eq(parse(CAPACITY, true), VIRTIO_BLK_S_OK);
	check_data(wr_mem, 20);
	ck_assert_ptr_eq(cmd.status.iov_base, wr_mem + 20);
	ck_assert_uint_eq(cmd.written_bytes, 21);
}
END_TEST

static const struct {
	const char *what;
	uint32_t type;
	uint64_t sector;
	size_t rd, wr;
	bool read_only;
	int want;
} requests[] = {
	{"the last sector", VIRTIO_BLK_T_IN, 99, 16, 513, false, 0},
	{"all of the disk", VIRTIO_BLK_T_IN, 0, 16, 51201, false, 0},
	{"the last sector, written", VIRTIO_BLK_T_OUT, 99, 528, 1, false, 0},
	{"more readable than a header", VIRTIO_BLK_T_IN, 0, 24, 513, false, 0},
	{"one sector too far", VIRTIO_BLK_T_IN, 100, 16, 513, false,
		VIRTIO_BLK_S_IOERR},
	{"over the end", VIRTIO_BLK_T_IN, 99, 16, 1025, false,
		VIRTIO_BLK_S_IOERR},
	{"more than the disk", VIRTIO_BLK_T_IN, 0, 16, 51713, false,
		VIRTIO_BLK_S_IOERR},
	{"far away", VIRTIO_BLK_T_IN, 101, 16, 513, false, VIRTIO_BLK_S_IOERR},
	{"around the end of all", VIRTIO_BLK_T_IN, UINT64_MAX, 16, 1025, false,
		VIRTIO_BLK_S_IOERR},
	{"bytes around the end of all", VIRTIO_BLK_T_IN, 1ull << 55, 16, 513,
		false, VIRTIO_BLK_S_IOERR},
	{"over the end, written", VIRTIO_BLK_T_OUT, 99, 16 + 1024, 1, false,
		VIRTIO_BLK_S_IOERR},
	{"nothing", VIRTIO_BLK_T_IN, 0, 16, 1, false, VIRTIO_BLK_S_IOERR},
	{"nothing, written", VIRTIO_BLK_T_OUT, 0, 16, 1, false,
		VIRTIO_BLK_S_IOERR},
	{"part of a sector", VIRTIO_BLK_T_IN, 0, 16, 512, false,
		VIRTIO_BLK_S_IOERR},
	{"a sector and a bit", VIRTIO_BLK_T_OUT, 0, 16 + 513, 1, false,
		VIRTIO_BLK_S_IOERR},
	{"a write to what is read-only", VIRTIO_BLK_T_OUT, 0, 528, 1, true,
		VIRTIO_BLK_S_IOERR},
	{"a read of what is read-only", VIRTIO_BLK_T_IN, 0, 16, 513, true, 0},
	{"a type nobody knows", 3, 0, 16, 513, false, VIRTIO_BLK_S_UNSUPP},
	{"a discard, not negotiated", VIRTIO_BLK_T_DISCARD, 0, 32, 1, true,
		VIRTIO_BLK_S_UNSUPP},
	{"zeroes, not negotiated", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 1, true,
		VIRTIO_BLK_S_UNSUPP},
	{"a legacy barrier", VIRTIO_BLK_T_BARRIER | VIRTIO_BLK_T_OUT, 0, 528, 1,
		false, VIRTIO_BLK_S_UNSUPP},
	{"half a header", VIRTIO_BLK_T_IN, 0, 15, 513, false,
		VIRTIO_BLK_S_IOERR},
	{"no header", VIRTIO_BLK_T_IN, 0, 0, 513, false, VIRTIO_BLK_S_IOERR},
	{"no status", VIRTIO_BLK_T_OUT, 0, 528, 0, false, -EPROTO},
	{"no status and no header", 0, 0, 1, 0, false, -EPROTO},
};

START_TEST(a_request_is_what_it_says_or_is_refused)
{
	header(requests[_i].type, requests[_i].sector);
	make(requests[_i].rd, requests[_i].wr, 4096);
	ck_assert_msg(
		parse(CAPACITY, requests[_i].read_only) == requests[_i].want,
		"%s", requests[_i].what);
	if (requests[_i].want == -EPROTO)
		return;
	ck_assert_ptr_eq(cmd.status.iov_base, wr_mem + requests[_i].wr - 1);
	ck_assert_uint_eq(cmd.status.iov_len, 1);
	ck_assert_uint_eq(cmd.failed_bytes, requests[_i].wr == 1);
}
END_TEST

/* ---- ranges ---- */

#define DISCARD VIRTIO_BLK_T_DISCARD
#define ZEROES VIRTIO_BLK_T_WRITE_ZEROES
#define UNMAP VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define BIG ((uint32_t)(BLK_RANGE_BYTES_MAX / 512))

static void segments(
	const struct virtio_blk_discard_write_zeroes *segs, unsigned n)
{
	memcpy(rd_mem + 16, segs, n * sizeof(*segs));
}

START_TEST(ranges_are_taken_from_any_layout)
{
	struct virtio_blk_discard_write_zeroes segs[BLK_RANGES_MAX];
	size_t len = 0;

	for (unsigned i = 0; i < BLK_RANGES_MAX; i++) {
		segs[i] = (struct virtio_blk_discard_write_zeroes){
			.sector = 5ull * i,
			.num_sectors = i + 1,
			.flags = i % 2};
		len += 512ul * (i + 1);
	}
	header(ZEROES, UINT64_MAX);
	segments(segs, BLK_RANGES_MAX);
	make(16 + sizeof(segs), 1, piece_sizes[_i]);
	ck_assert_int_eq(parse(CAPACITY, false), VIRTIO_BLK_S_OK);
	/* Whatever the guest makes of its memory now. */
	memset(rd_mem, 0xff, sizeof(rd_mem));
	ck_assert_uint_eq(cmd.n_ranges, BLK_RANGES_MAX);
	ck_assert_uint_eq(cmd.n_data, 0);
	ck_assert_uint_eq(cmd.len, len);
	ck_assert_uint_eq(cmd.written_bytes, 1);
	for (unsigned i = 0; i < BLK_RANGES_MAX; i++) {
		ck_assert_uint_eq(ranges[i].off_bytes, 5ull * i * 512);
		ck_assert_uint_eq(ranges[i].len_bytes, (i + 1) * 512ull);
		ck_assert_int_eq(ranges[i].unmap, i % 2);
	}
}
END_TEST

static const struct {
	const char *what;
	uint32_t type;
	int want;
	size_t len;
	struct virtio_blk_discard_write_zeroes segs[2];
} range_requests[] = {
	{"the last sector", DISCARD, 0, 16, {{99, 1, 0}}},
	{"the last sector, zeroed", ZEROES, 0, 16, {{99, 1, 0}}},
	{"all of the disk", DISCARD, 0, 16, {{0, 100, 0}}},
	{"two", DISCARD, 0, 32, {{0, 1, 0}, {50, 50, 0}}},
	{"two, unmapped", ZEROES, 0, 32, {{0, 1, UNMAP}, {50, 50, UNMAP}}},
	{"one sector too far", DISCARD, VIRTIO_BLK_S_IOERR, 16, {{100, 1, 0}}},
	{"over the end", ZEROES, VIRTIO_BLK_S_IOERR, 16, {{99, 2, 0}}},
	{"more than the disk", DISCARD, VIRTIO_BLK_S_IOERR, 16, {{0, 101, 0}}},
	{"far away", ZEROES, VIRTIO_BLK_S_IOERR, 16, {{1ull << 55, 1, 0}}},
	{"around the end of all", DISCARD, VIRTIO_BLK_S_IOERR, 16,
		{{UINT64_MAX, 2, 0}}},
	{"the second too far", DISCARD, VIRTIO_BLK_S_IOERR, 32,
		{{0, 1, 0}, {100, 1, 0}}},
	{"nothing", DISCARD, VIRTIO_BLK_S_IOERR, 16, {{5, 0, 0}}},
	{"nothing, zeroed", ZEROES, VIRTIO_BLK_S_IOERR, 16, {{5, 0, 0}}},
	{"no range", DISCARD, VIRTIO_BLK_S_IOERR, 0, {{0, 1, 0}}},
	{"half a range", DISCARD, VIRTIO_BLK_S_IOERR, 8, {{0, 1, 0}}},
	{"one and a half", ZEROES, VIRTIO_BLK_S_IOERR, 24,
		{{0, 1, 0}, {0, 1, 0}}},
	{"one too many", ZEROES, VIRTIO_BLK_S_IOERR,
		16ul * (BLK_RANGES_MAX + 1), {{0, 1, 0}}},
	{"a discard that unmaps", DISCARD, VIRTIO_BLK_S_UNSUPP, 16,
		{{0, 1, UNMAP}}},
	{"a flag nobody knows", DISCARD, VIRTIO_BLK_S_UNSUPP, 16, {{0, 1, 2}}},
	{"a flag nobody knows, zeroed", ZEROES, VIRTIO_BLK_S_UNSUPP, 16,
		{{0, 1, 3}}},
	{"a flag in the second", ZEROES, VIRTIO_BLK_S_UNSUPP, 32,
		{{0, 1, 1}, {0, 1, 1u << 31}}},
};

START_TEST(a_range_is_within_the_disk_or_refused)
{
	struct virtio_blk_discard_write_zeroes fine[BLK_RANGES_MAX + 1];

	for (unsigned i = 0; i <= BLK_RANGES_MAX; i++)
		fine[i] = (struct virtio_blk_discard_write_zeroes){0, 1, 0};
	segments(fine, BLK_RANGES_MAX + 1);
	header(range_requests[_i].type, 0);
	segments(range_requests[_i].segs, 2);
	make(16 + range_requests[_i].len, 1, 4096);
	ck_assert_msg(parse(CAPACITY, false) == range_requests[_i].want, "%s",
		range_requests[_i].what);
}
END_TEST

START_TEST(a_range_has_a_largest_size)
{
	struct virtio_blk_discard_write_zeroes seg = {7, BIG, 0};

	header(DISCARD, 0);
	make(32, 1, 4096);
	segments(&seg, 1);
	ck_assert_int_eq(parse(1ull << 40, false), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(ranges[0].len_bytes, BLK_RANGE_BYTES_MAX);
	seg.num_sectors++;
	segments(&seg, 1);
	make(32, 1, 4096);
	ck_assert_int_eq(parse(1ull << 40, false), VIRTIO_BLK_S_IOERR);
	seg.num_sectors = UINT32_MAX;
	segments(&seg, 1);
	make(32, 1, 4096);
	ck_assert_int_eq(parse(1ull << 40, false), VIRTIO_BLK_S_IOERR);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blk_req");
	TCase *t = tcase_create("parse");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, more_than_a_driver_was_told_of_is_an_error);
	tcase_add_loop_test(t, a_read_has_its_data_before_the_status, 0, 4);
	tcase_add_loop_test(t, a_write_has_its_data_behind_the_header, 0, 4);
	tcase_add_test(t, a_write_with_room_before_the_status);
	tcase_add_test(t, flush_and_get_id);
	tcase_add_loop_test(t, a_request_is_what_it_says_or_is_refused, 0,
		sizeof(requests) / sizeof(requests[0]));
	tcase_add_loop_test(t, ranges_are_taken_from_any_layout, 0, 4);
	tcase_add_loop_test(t, a_range_is_within_the_disk_or_refused, 0,
		sizeof(range_requests) / sizeof(range_requests[0]));
	tcase_add_test(t, a_range_has_a_largest_size);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
