#include "vsock_talk.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

/* What no driver would do. */

static struct vsock_guest g;
static struct virtio_vsock_hdr hdr;

static void setup(void)
{
	vsock_guest_make(&g, 0);
	vsock_guest_up(&g, GUEST_V1, 16);
}

static void teardown(void)
{
	vsock_guest_free(&g);
}

/* ---- packets for nobody ---- */

enum answer { NONE, RESET };

static const struct {
	struct virtio_vsock_hdr hdr;
	size_t payload;
	enum answer answer;
	unsigned malformed;
} strays[] = {
	{{.op = OP(RW), .len = 5}, 5, RESET, 0},
	{{.op = OP(RESPONSE)}, 0, RESET, 0},
	{{.op = OP(SHUTDOWN), .flags = 3}, 0, RESET, 0},
	{{.op = OP(CREDIT_UPDATE)}, 0, RESET, 0},
	{{.op = OP(CREDIT_REQUEST)}, 0, RESET, 0},
	{{.op = OP(RST)}, 0, NONE, 0},
	{{.op = 0}, 0, RESET, 1},
	{{.op = 8}, 0, RESET, 1},
	{{.op = 0xffff}, 0, RESET, 1},
	{{.op = OP(RW), .len = 6}, 5, RESET, 1},
	{{.op = OP(RW), .len = UINT32_MAX}, 5, RESET, 1},
	{{.op = OP(REQUEST), .type = 2}, 0, RESET, 1},
	{{.op = OP(RST), .type = 2}, 0, NONE, 1},
	{{.op = OP(REQUEST), .dst_cid = 1}, 0, RESET, 1},
	{{.op = OP(REQUEST), .dst_cid = GUEST_CID}, 0, RESET, 1},
	{{.op = OP(REQUEST), .dst_cid = UINT64_MAX}, 0, RESET, 1},
	{{.op = OP(RST), .dst_cid = 1}, 0, NONE, 1},
	{{.op = OP(REQUEST), .src_cid = 2}, 0, NONE, 1},
	{{.op = OP(REQUEST), .src_cid = 1ull << 32 | GUEST_CID}, 0, NONE, 1},
};

START_TEST(a_packet_for_nobody_is_answered_by_a_reset)
{
	struct virtio_vsock_hdr h = strays[_i].hdr;

	h.src_port = 77;
	h.dst_port = 88;
	vsock_guest_send(&g, &h, "hello", strays[_i].payload);
	if (strays[_i].answer == RESET) {
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(RST));
		ck_assert_uint_eq(hdr.src_cid, h.dst_cid ? h.dst_cid : 2);
		ck_assert_uint_eq(hdr.dst_cid, GUEST_CID);
		ck_assert_uint_eq(hdr.src_port, 88);
		ck_assert_uint_eq(hdr.dst_port, 77);
		ck_assert_uint_eq(hdr.type, h.type ? h.type : 1);
		ck_assert_uint_eq(hdr.len, 0);
	}
	ck_assert(vsock_guest_is_quiet(&g));
	ck_assert_uint_eq(g.stats.malformed, strays[_i].malformed);
	ck_assert_uint_eq(g.stats.connections, 0);
	ck_assert_uint_eq(g.needs_reset, 0);
}
END_TEST

/* ---- packets a connection does not expect ---- */

static const struct {
	struct virtio_vsock_hdr hdr;
	size_t payload;
} wrong[] = {
	{{.op = OP(REQUEST)}, 0},
	{{.op = OP(RESPONSE)}, 0},
	{{.op = 0}, 0},
	{{.op = 8}, 0},
	{{.op = OP(RW), .len = 6}, 5},
	{{.op = OP(RW), .len = UINT32_MAX}, 5},
};

START_TEST(an_open_connection_is_reset_by_what_it_does_not_expect)
{
	struct link l = open_guest(&g, 52, 53);
	struct virtio_vsock_hdr h = wrong[_i].hdr;

	h.src_port = 53;
	h.dst_port = 52;
	vsock_guest_send(&g, &h, "hello", wrong[_i].payload);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert(vsock_host_is_closed(l.fd));
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.malformed, 1);
	ck_assert_uint_eq(g.stats.resets, 1);
	close(l.fd);
}
END_TEST

/* Before it is open: only an answer, to a client's; nothing, of a guest's. */
static const uint16_t too_early[] = {OP(REQUEST), OP(RW), OP(SHUTDOWN),
	OP(CREDIT_UPDATE), OP(CREDIT_REQUEST), 0, 99};

START_TEST(a_client_that_is_not_answered_is_closed)
{
	struct link l = begin_client(&g, 9);

	say(&g, too_early[_i], &l);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert(vsock_host_is_closed(l.fd));
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.malformed, 1);
	close(l.fd);
}
END_TEST

START_TEST(a_guest_that_does_not_wait_for_its_answer_is_refused)
{
	struct link l = {52, 53, -1};
	uint64_t token = begin_guest(&g, &l);

	say(&g, too_early[_i], &l);
	hear(&g, OP(RST), &l, &hdr);
	wait_count(&g.stats.connections, 0);
	vsock_connected(g.dev, token, -1);
	ck_assert(vsock_guest_is_quiet(&g));
}
END_TEST

START_TEST(a_connection_that_ends_hears_no_more)
{
	struct link l = open_guest(&g, 52, 53);
	struct virtio_vsock_hdr h = {.op = 99, .src_port = 53, .dst_port = 52};

	/* No buffers: the reset waits. */
	vsock_guest_up(&g, GUEST_V1, 0);
	close(l.fd);
	say(&g, OP(REQUEST), &l);
	vsock_guest_send(&g, &h, NULL, 0);
	ck_assert_uint_eq(g.stats.connections, 1);
	for (unsigned op = 1; op < 10; op++)
		if (op != OP(RST))
			say(&g, (uint16_t)op, &l);
	vsock_guest_give(&g, 4, GUEST_RX_BYTES);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert(vsock_guest_is_quiet(&g));
	ck_assert_uint_eq(g.stats.connections, 0);
}
END_TEST

START_TEST(a_reset_that_crosses_ours_is_an_end)
{
	struct link l = open_guest(&g, 52, 53);

	vsock_guest_up(&g, GUEST_V1, 0);
	close(l.fd);
	say(&g, OP(REQUEST), &l);
	say(&g, OP(REQUEST), &l);
	ck_assert_uint_eq(g.stats.connections, 1);
	say(&g, OP(RST), &l);
	ck_assert_uint_eq(g.stats.connections, 0);
	vsock_guest_give(&g, 1, GUEST_RX_BYTES);
	ck_assert(vsock_guest_is_quiet(&g));
}
END_TEST

/* ---- chains ---- */

START_TEST(a_chain_without_a_whole_header_is_given_back)
{
	static const uint32_t lens[][4] = {
		{43, 0}, {1, 0}, {20, 23, 0}, {1, 1, 1, 0}};
	struct vring_used *used = g.tx.used;

	vsock_guest_offer(&g, &g.tx, lens[_i], false);
	vsock_guest_sync(&g);
	ck_assert_uint_eq(used->idx, 1);
	ck_assert_uint_eq(used->ring[0].len, 0);
	ck_assert_uint_eq(g.stats.malformed, 1);
	ck_assert_uint_eq(g.needs_reset, 0);
}
END_TEST

START_TEST(a_packet_in_memory_for_the_device_to_write_is_none)
{
	const uint32_t lens[] = {44, 0};

	vsock_guest_offer(&g, &g.tx, lens, true);
	vsock_guest_sync(&g);
	ck_assert_uint_eq(((struct vring_used *)g.tx.used)->idx, 1);
	ck_assert_uint_eq(g.stats.malformed, 1);
}
END_TEST

START_TEST(a_buffer_without_room_is_given_back_empty)
{
	static const struct {
		uint32_t lens[4];
		bool write;
	} bad[] = {{{44, 0}, true}, {{1, 0}, true}, {{20, 24, 0}, true},
		{{4096, 0}, false}};
	struct vring_used *used;
	struct link l = {52, 53, -1};

	vsock_guest_up(&g, GUEST_V1, 0);
	vsock_guest_offer(&g, &g.rx, bad[_i].lens, bad[_i].write);
	vsock_guest_give(&g, 1, 45);
	say(&g, OP(RW), &l);
	used = g.rx.used;
	vsock_guest_sync(&g);
	ck_assert_uint_eq(used->idx, 2);
	ck_assert_uint_eq(used->ring[0].len, 0);
	ck_assert_uint_eq(used->ring[1].len, 44);
	ck_assert_uint_eq(g.stats.malformed, 1);
}
END_TEST

START_TEST(a_buffer_of_one_byte_carries_one_byte)
{
	struct link l;
	char byte;

	vsock_guest_up(&g, GUEST_V1, 0);
	vsock_guest_give(&g, 3, 45);
	l = open_guest(&g, 52, 53);
	vsock_host_write(l.fd, "abcdef", 6);
	for (unsigned i = 0; i < 6; i++) {
		vsock_guest_recv(&g, &hdr, &byte);
		ck_assert_uint_eq(hdr.len, 1);
		ck_assert_int_eq(byte, "abcdef"[i]);
	}
	close(l.fd);
}
END_TEST

/* Resets nobody takes must not pile up, nor be lost. */
START_TEST(a_guest_that_takes_no_resets_is_not_heard)
{
	const uint32_t lens[] = {44, 0};
	struct virtio_vsock_hdr h = {
		.src_cid = GUEST_CID, .dst_cid = 2, .type = 1, .op = OP(RW)};
	struct vring_used *used;
	unsigned n = 0;

	vsock_guest_up(&g, GUEST_V1, 0);
	used = g.tx.used;
	while (n < 400) {
		h.src_port = n;
		memcpy(vsock_guest_tx_memory(&g), &h, sizeof(h));
		vsock_guest_offer(&g, &g.tx, lens, false);
		n++;
		vsock_guest_sync(&g);
		if (used->idx != (uint16_t)n)
			break;
	}
	ck_assert_uint_eq(n, 257);
	vsock_guest_give(&g, 4, GUEST_RX_BYTES);
	for (unsigned i = 0; i < n; i++) {
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(RST));
		ck_assert_uint_eq(hdr.dst_port, i);
	}
	ck_assert_uint_eq(used->idx, n);
}
END_TEST

/* Kicks as fast as it can, with nothing to say. */
START_TEST(kicks_for_nothing_are_nothing)
{
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t q = i % 4;

		virtio_mmio_write(g.m, VIRTIO_MMIO_QUEUE_NOTIFY, &q, 4);
	}
	ck_assert(vsock_guest_is_quiet(&g));
	ck_assert_uint_eq(g.needs_reset, 0);
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

static Suite *suite(void)
{
	Suite *s = suite_create("vsock_bad");
	TCase *packets = tcase_create("packets");
	TCase *chains = tcase_create("chains");

	tcase_add_checked_fixture(packets, setup, teardown);
	tcase_add_loop_test(packets, a_packet_for_nobody_is_answered_by_a_reset,
		0, N(strays));
	tcase_add_loop_test(packets,
		an_open_connection_is_reset_by_what_it_does_not_expect, 0,
		N(wrong));
	tcase_add_loop_test(packets, a_client_that_is_not_answered_is_closed, 0,
		N(too_early));
	tcase_add_loop_test(packets,
		a_guest_that_does_not_wait_for_its_answer_is_refused, 0,
		N(too_early));
	tcase_add_test(packets, a_connection_that_ends_hears_no_more);
	tcase_add_test(packets, a_reset_that_crosses_ours_is_an_end);
	suite_add_tcase(s, packets);

	tcase_add_checked_fixture(chains, setup, teardown);
	tcase_add_loop_test(
		chains, a_chain_without_a_whole_header_is_given_back, 0, 4);
	tcase_add_test(
		chains, a_packet_in_memory_for_the_device_to_write_is_none);
	tcase_add_loop_test(
		chains, a_buffer_without_room_is_given_back_empty, 0, 4);
	tcase_add_test(chains, a_buffer_of_one_byte_carries_one_byte);
	tcase_add_test(chains, a_guest_that_takes_no_resets_is_not_heard);
	tcase_add_test(chains, kicks_for_nothing_are_nothing);
	suite_add_tcase(s, chains);
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
