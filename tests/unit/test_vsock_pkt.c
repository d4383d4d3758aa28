#include "virtio/vsock_pkt.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define CID 42u

static struct virtio_vsock_hdr hdr;
static struct vsock_pkt pkt;

static void setup(void)
{
	hdr = (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = 11,
		.dst_port = 22,
		.len = 100,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_RW,
		.flags = 33,
		.buf_alloc = 44,
		.fwd_cnt = 55,
	};
}

/* In a chain with so many bytes behind the header. */
static enum vsock_verdict parse(size_t payload)
{
	static uint8_t mem[4096];
	struct iovec v = {mem, sizeof(hdr) + payload};
	struct iovs rd = {&v, 1, v.iov_len};

	memcpy(mem, &hdr, sizeof(hdr));
	return vsock_pkt_parse(&rd, CID, &pkt);
}

START_TEST(fields_are_taken_from_the_hosts_view)
{
	ck_assert_int_eq(parse(100), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.host_cid, 2);
	ck_assert_uint_eq(pkt.guest_port, 11);
	ck_assert_uint_eq(pkt.host_port, 22);
	ck_assert_uint_eq(pkt.len, 100);
	ck_assert_uint_eq(pkt.type, VIRTIO_VSOCK_TYPE_STREAM);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(pkt.flags, 33);
	ck_assert_uint_eq(pkt.buf_alloc, 44);
	ck_assert_uint_eq(pkt.fwd_cnt, 55);
}
END_TEST

START_TEST(a_header_may_lie_in_pieces)
{
	struct iovec v[64];
	struct iovs rd = {v, 64, 64};
	uint8_t mem[64] = {0};

	hdr.len = 20;
	memcpy(mem, &hdr, sizeof(hdr));
	for (unsigned i = 0; i < 64; i++)
		v[i] = (struct iovec){mem + i, 1};
	ck_assert_int_eq(vsock_pkt_parse(&rd, CID, &pkt), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(pkt.fwd_cnt, 55);
}
END_TEST

START_TEST(less_than_a_header_is_dropped)
{
	struct iovec v = {&hdr, sizeof(hdr) - 1};
	struct iovs rd = {&v, 1, v.iov_len}, none = {0};

	ck_assert_int_eq(vsock_pkt_parse(&rd, CID, &pkt), VSOCK_DROP);
	ck_assert_int_eq(vsock_pkt_parse(&none, CID, &pkt), VSOCK_DROP);
}
END_TEST

START_TEST(payload_is_within_the_chain)
{
	ck_assert_int_eq(parse(99), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_INVALID);
	ck_assert_uint_eq(pkt.len, 0);
	ck_assert_int_eq(parse(101), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(pkt.len, 100);
	hdr.len = UINT32_MAX;
	parse(100);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_INVALID);
	hdr.len = 0;
	parse(0);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_RW);
}
END_TEST

START_TEST(only_rw_has_payload)
{
	hdr.op = (uint16_t)_i;
	ck_assert_int_eq(parse(0), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.len, 0);
	ck_assert_uint_eq(pkt.op, _i == VIRTIO_VSOCK_OP_RW ? 0 : _i);
}
END_TEST

START_TEST(an_operation_that_does_not_exist_is_invalid)
{
	static const uint16_t ops[] = {0, 8, 0x100, 0x105, UINT16_MAX};

	hdr.op = ops[_i];
	ck_assert_int_eq(parse(100), VSOCK_TAKE);
	ck_assert_uint_eq(pkt.op, VIRTIO_VSOCK_OP_INVALID);
}
END_TEST

/* What is not for us: refused, with whom it was meant for; a reset is not
 * answered. */
static const struct {
	uint64_t src_cid, dst_cid;
	uint16_t type;
	enum vsock_verdict verdict, of_reset;
} others[] = {
	{CID, 2, VIRTIO_VSOCK_TYPE_SEQPACKET, VSOCK_REFUSE, VSOCK_DROP},
	{CID, 2, 0, VSOCK_REFUSE, VSOCK_DROP},
	{CID, 2, UINT16_MAX, VSOCK_REFUSE, VSOCK_DROP},
	{CID, 1, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_REFUSE, VSOCK_DROP},
	{CID, 3, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_REFUSE, VSOCK_DROP},
	{CID, CID, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_REFUSE, VSOCK_DROP},
	{CID, 1ull << 32 | 2, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_REFUSE,
		VSOCK_DROP},
	{CID + 1, 2, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_DROP, VSOCK_DROP},
	{2, 2, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_DROP, VSOCK_DROP},
	{1ull << 32 | CID, 2, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_DROP, VSOCK_DROP},
	{CID, 2, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_TAKE, VSOCK_TAKE},
};

START_TEST(what_is_not_for_us_is_refused)
{
	hdr.src_cid = others[_i].src_cid;
	hdr.dst_cid = others[_i].dst_cid;
	hdr.type = others[_i].type;
	ck_assert_int_eq(parse(100), others[_i].verdict);
	if (others[_i].verdict != VSOCK_DROP) {
		ck_assert_uint_eq(pkt.host_cid, others[_i].dst_cid);
		ck_assert_uint_eq(pkt.type, others[_i].type);
	}
	hdr.op = VIRTIO_VSOCK_OP_RST;
	ck_assert_int_eq(parse(100), others[_i].of_reset);
}
END_TEST

START_TEST(what_is_written_is_addressed_to_the_guest)
{
	struct virtio_vsock_hdr got;
	struct iovec v[2] = {{&got, 7}, {(uint8_t *)&got + 7, sizeof(got) - 7}};
	struct iovs wr = {v, 2, sizeof(got)};

	parse(100);
	vsock_pkt_write(&wr, CID, &pkt);
	ck_assert_uint_eq(got.src_cid, 2);
	ck_assert_uint_eq(got.dst_cid, CID);
	ck_assert_uint_eq(got.src_port, 22);
	ck_assert_uint_eq(got.dst_port, 11);
	ck_assert_uint_eq(got.len, 100);
	ck_assert_uint_eq(got.type, VIRTIO_VSOCK_TYPE_STREAM);
	ck_assert_uint_eq(got.op, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(got.flags, 33);
	ck_assert_uint_eq(got.buf_alloc, 44);
	ck_assert_uint_eq(got.fwd_cnt, 55);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("vsock_pkt");
	TCase *tc = tcase_create("headers");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, fields_are_taken_from_the_hosts_view);
	tcase_add_test(tc, a_header_may_lie_in_pieces);
	tcase_add_test(tc, less_than_a_header_is_dropped);
	tcase_add_test(tc, payload_is_within_the_chain);
	tcase_add_loop_test(tc, only_rw_has_payload, 1, 8);
	tcase_add_loop_test(
		tc, an_operation_that_does_not_exist_is_invalid, 0, 5);
	tcase_add_loop_test(tc, what_is_not_for_us_is_refused, 0,
		sizeof(others) / sizeof(others[0]));
	tcase_add_test(tc, what_is_written_is_addressed_to_the_guest);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
