#include "vsock_talk.h"

#include <stdio.h>

#define MANY 1000u

static struct vsock_guest g;
static struct virtio_vsock_hdr hdr;
static char buf[GUEST_RX_BYTES];

static void setup(void)
{
	vsock_guest_make(&g, 0);
	vsock_guest_up(&g, GUEST_V1, 16);
}

static void setup_bare(void)
{
	vsock_guest_make(&g, 0);
}

static void setup_impatient(void)
{
	vsock_guest_make(&g, 50000000);
	vsock_guest_up(&g, GUEST_V1, 16);
}

static void teardown(void)
{
	vsock_guest_free(&g);
}

/* Bytes that tell where they belong. */
static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static void fill(uint8_t *to, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = byte_at(from + i);
}

static void check_bytes(const uint8_t *got, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(
			got[i] == byte_at(from + i), "byte %zu", from + i);
}

/* What a guest that counts right would tell of its receive buffer. */
static void give_credit(const struct link *l, uint32_t size, uint32_t read)
{
	const struct virtio_vsock_hdr h = {.op = OP(CREDIT_UPDATE),
		.src_port = l->guest_port,
		.dst_port = l->host_port,
		.buf_alloc = size,
		.fwd_cnt = read};

	vsock_guest_send(&g, &h, NULL, 0);
}

/* ---- bytes ---- */

static const struct {
	uint64_t features;
	bool split;
} layouts[] = {
	{GUEST_V1, false},
	{GUEST_V1, true},
	{GUEST_V1 | GUEST_INDIRECT, false},
	{GUEST_V1 | GUEST_INDIRECT, true},
	{GUEST_V1 | GUEST_EVENT_IDX, false},
	{GUEST_V1 | GUEST_INDIRECT | GUEST_EVENT_IDX, true},
};

START_TEST(bytes_go_both_ways_in_any_layout)
{
	static uint8_t out[3 * GUEST_RX_BYTES], in[sizeof(out)];
	struct link l;

	g.split_headers = layouts[_i].split;
	vsock_guest_up(&g, layouts[_i].features, 4);
	l = open_guest(&g, 52, 1000);
	for (size_t done = 0; done < 100000; done += sizeof(out)) {
		fill(out, done, sizeof(out));
		send_bytes(&g, &l, out, sizeof(out));
		vsock_host_read(l.fd, in, sizeof(in));
		check_bytes(in, done, sizeof(in));
		vsock_host_write(l.fd, out, sizeof(out));
		for (size_t got = 0; got < sizeof(out);) {
			vsock_guest_recv(&g, &hdr, buf);
			if (hdr.op == OP(CREDIT_UPDATE))
				continue;
			ck_assert_uint_eq(hdr.op, OP(RW));
			check_bytes((uint8_t *)buf, done + got, hdr.len);
			got += hdr.len;
		}
	}
	ck_assert_uint_eq(g.stats.malformed, 0);
	ck_assert_uint_eq(g.stats.rx_bytes, g.stats.tx_bytes);
	close(l.fd);
}
END_TEST

START_TEST(one_read_fills_several_buffers)
{
	struct link l = open_guest(&g, 52, 1000);
	static uint8_t data[5 * (GUEST_RX_BYTES - 44) + 10];
	size_t got = 0;

	fill(data, 0, sizeof(data));
	vsock_host_write(l.fd, data, sizeof(data));
	for (unsigned i = 0; i < 6; i++) {
		vsock_guest_recv(&g, &hdr, buf);
		ck_assert_uint_eq(hdr.len, i < 5 ? GUEST_RX_BYTES - 44 : 10);
		check_bytes((uint8_t *)buf, got, hdr.len);
		got += hdr.len;
	}
	ck_assert(vsock_guest_is_quiet(&g));
	close(l.fd);
}
END_TEST

/* Packets of n bytes each, of one piece or as lens says, which the device hears
 * of all at once. */
static void send_at_once(const struct link *l, const uint8_t *data,
	unsigned packets, uint32_t n, const uint32_t *lens)
{
	const struct virtio_vsock_hdr h = {.src_cid = GUEST_CID,
		.dst_cid = 2,
		.src_port = l->guest_port,
		.dst_port = l->host_port,
		.len = n,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = OP(RW),
		.buf_alloc = 1 << 20};

	for (unsigned i = 0; i < packets; i++) {
		uint8_t *to = vsock_guest_tx_memory(&g);

		memcpy(to, &h, sizeof(h));
		memcpy(to + sizeof(h), data + (size_t)i * n, n);
		g.holds_kicks = i < packets - 1;
		vsock_guest_offer(&g, &g.tx, lens, false);
	}
}

/* One behind the other, in more pieces than one write takes. */
START_TEST(packets_that_come_together_are_written_in_order)
{
	enum { PACKETS = 20, PIECES = 29, PIECE = 10 };
	static uint8_t data[PACKETS * PIECES * PIECE], back[sizeof(data)];
	uint32_t lens[PIECES + 2] = {sizeof(hdr)};
	struct link l;

	vsock_guest_up(&g, GUEST_V1 | GUEST_INDIRECT, 4);
	l = open_guest(&g, 52, 53);
	for (unsigned i = 1; i <= PIECES; i++)
		lens[i] = PIECE;
	fill(data, 0, sizeof(data));
	send_at_once(&l, data, PACKETS, PIECES * PIECE, lens);
	vsock_host_read(l.fd, back, sizeof(back));
	check_bytes(back, 0, sizeof(back));
	/* All of the chains come back. */
	vsock_guest_sync(&g);
	ck_assert_uint_eq(((uint16_t *)g.tx.used)[1], PACKETS + 1);
	close(l.fd);
}
END_TEST

/* In the middle of a packet, too. */
START_TEST(a_write_that_is_cut_short_goes_on_where_it_ended)
{
	static uint8_t data[16 * 16000], back[sizeof(data)];
	const uint32_t lens[] = {sizeof(hdr) + 16000, 0};
	struct link l = open_guest(&g, 52, 53);

	fill(data, 0, sizeof(data));
	send_at_once(&l, data, 16, 16000, lens);
	vsock_guest_sync(&g);
	/* It could not all be written, and no chain is kept for it. */
	ck_assert_uint_eq(((uint16_t *)g.tx.used)[1], 17);
	vsock_host_read(l.fd, back, sizeof(back));
	check_bytes(back, 0, sizeof(back));
	close(l.fd);
}
END_TEST

START_TEST(many_connections_keep_their_bytes_apart)
{
	struct link *l = calloc(MANY, sizeof(*l));

	for (uint32_t i = 0; i < MANY; i++) {
		if (i % 2)
			l[i] = open_client(&g, 100 + i);
		else
			l[i] = open_guest(&g, 52, 100 + i);
	}
	ck_assert_uint_eq(g.stats.connections, MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		send_bytes(&g, &l[i], &i, sizeof(i));
		vsock_host_write(l[i].fd, &i, sizeof(i));
	}
	for (uint32_t n = 0; n < MANY; n++) {
		uint32_t i = 0;

		vsock_guest_recv(&g, &hdr, buf);
		ck_assert_uint_eq(hdr.op, OP(RW));
		ck_assert_uint_eq(hdr.len, sizeof(i));
		memcpy(&i, buf, sizeof(i));
		ck_assert_uint_eq(hdr.dst_port, l[i].guest_port);
		vsock_host_read(l[n].fd, &i, sizeof(i));
		ck_assert_uint_eq(i, n);
	}
	for (uint32_t i = 0; i < MANY; i++)
		close(l[i].fd);
	free(l);
}
END_TEST

/* ---- credit ---- */

START_TEST(a_guest_gets_no_more_than_it_has_room_for)
{
	struct link l = open_client(&g, 9);
	uint8_t data[3000];

	fill(data, 0, sizeof(data));
	give_credit(&l, 1000, 0);
	vsock_host_write(l.fd, data, sizeof(data));
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.op, OP(RW));
	ck_assert_uint_eq(hdr.len, 1000);
	check_bytes((uint8_t *)buf, 0, 1000);
	/* It is asked once for more. */
	hear(&g, OP(CREDIT_REQUEST), &l, &hdr);
	give_credit(&l, 1000, 0);
	ck_assert(vsock_guest_is_quiet(&g));
	give_credit(&l, 1000, 1);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 1);
	hear(&g, OP(CREDIT_REQUEST), &l, &hdr);
	give_credit(&l, 4000, 1001);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 1999);
	check_bytes((uint8_t *)buf, 1001, 1999);
	close(l.fd);
}
END_TEST

START_TEST(early_bytes_need_credit_too)
{
	struct link l = {.guest_port = 9, .fd = vsock_guest_client(&g)};
	struct virtio_vsock_hdr h = {.op = OP(RESPONSE), .buf_alloc = 4};

	vsock_host_write(l.fd, "CONNECT 9\n1234567", 17);
	vsock_guest_recv(&g, &hdr, NULL);
	l.host_port = h.dst_port = hdr.src_port;
	h.src_port = 9;
	vsock_guest_send(&g, &h, NULL, 0);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 4);
	ck_assert_mem_eq(buf, "1234", 4);
	ck_assert(vsock_guest_is_quiet(&g));
	give_credit(&l, 100, 4);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 3);
	ck_assert_mem_eq(buf, "567", 3);
	close(l.fd);
}
END_TEST

/* Counters beyond what was ever sent are a guest's that counts wrongly. */
START_TEST(a_guest_that_counts_wrongly_gets_nothing)
{
	struct link l = open_client(&g, 9);

	give_credit(&l, 1000, 5);
	vsock_host_write(l.fd, "bytes", 5);
	hear(&g, OP(CREDIT_REQUEST), &l, &hdr);
	ck_assert(vsock_guest_is_quiet(&g));
	give_credit(&l, 1000, 0);
	vsock_guest_recv(&g, &hdr, NULL);
	ck_assert_uint_eq(hdr.op, OP(RW));
	close(l.fd);
}
END_TEST

/* Sends until the guest has no credit: how much. Updates are minded. */
static size_t send_all_credit(const struct link *l, uint32_t *buf_alloc)
{
	static uint8_t data[8192];
	uint32_t fwd = 0;
	size_t sent = 0;

	for (;;) {
		uint32_t n = *buf_alloc - ((uint32_t)sent - fwd);

		if (n > sizeof(data))
			n = sizeof(data);
		if (n == 0 && vsock_guest_is_quiet(&g))
			return sent;
		if (n > 0) {
			fill(data, sent, n);
			send_bytes(&g, l, data, n);
			sent += n;
		}
		while (vsock_guest_has(&g)) {
			hear(&g, OP(CREDIT_UPDATE), l, &hdr);
			fwd = hdr.fwd_cnt;
			*buf_alloc = hdr.buf_alloc;
		}
	}
}

START_TEST(what_a_peer_does_not_read_is_bounded_and_not_lost)
{
	struct link l = begin_client(&g, 9), other = open_guest(&g, 52, 53);
	uint32_t buf_alloc;
	char line[14];
	uint8_t *back;
	size_t sent;

	say(&g, OP(CREDIT_REQUEST), &other);
	hear(&g, OP(CREDIT_UPDATE), &other, &hdr);
	buf_alloc = hdr.buf_alloc;
	say(&g, OP(RESPONSE), &l);
	say(&g, OP(CREDIT_REQUEST), &l);
	hear(&g, OP(CREDIT_UPDATE), &l, &hdr);
	buf_alloc = hdr.buf_alloc;
	ck_assert_uint_eq(buf_alloc, (64u << 12));
	sent = send_all_credit(&l, &buf_alloc);
	ck_assert_uint_gt(sent, buf_alloc);
	ck_assert_uint_lt(sent, 4u << 20);
	/* Who stands behind it is not stopped. */
	send_bytes(&g, &other, "through", 7);
	vsock_host_read(other.fd, buf, 7);
	ck_assert_mem_eq(buf, "through", 7);
	/* Its bytes are all there, in order, once it reads. */
	back = malloc(sent);
	vsock_host_read(l.fd, line, sizeof(line));
	vsock_host_read(l.fd, back, sent);
	check_bytes(back, 0, sent);
	free(back);
	do
		hear(&g, OP(CREDIT_UPDATE), &l, &hdr);
	while (buf_alloc - ((uint32_t)sent - hdr.fwd_cnt) < buf_alloc / 2);
	close(l.fd);
	close(other.fd);
}
END_TEST

START_TEST(a_guest_that_ignores_credit_is_reset)
{
	struct link l = open_guest(&g, 52, 53);
	struct virtio_vsock_hdr h = {.op = OP(RW)};
	uint32_t buf_alloc = (64u << 12);
	size_t sent = send_all_credit(&l, &buf_alloc);
	uint8_t *back = malloc(sent);

	h.src_port = 53;
	h.dst_port = 52;
	vsock_guest_send(&g, &h, "x", 1);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert_uint_eq(g.stats.malformed, 1);
	ck_assert_uint_eq(g.stats.resets, 1);
	wait_count(&g.stats.connections, 0);
	/* The peer's end is closed; what it had got is still its own. */
	while (recv(l.fd, back, sent, 0) > 0)
		;
	free(back);
	close(l.fd);
}
END_TEST

START_TEST(a_guest_that_takes_all_its_credit_is_in_its_right)
{
	struct link l = open_guest(&g, 52, 53);
	uint32_t buf_alloc = (64u << 12);

	send_all_credit(&l, &buf_alloc);
	ck_assert_uint_eq(g.stats.malformed, 0);
	ck_assert_uint_eq(g.stats.connections, 1);
	close(l.fd);
}
END_TEST

/* ---- turns ---- */

START_TEST(a_peer_that_floods_does_not_keep_others_from_the_guest)
{
	struct link flood = open_guest(&g, 52, 1),
		    quiet = open_guest(&g, 52, 2);
	static uint8_t data[160 * 1024];
	unsigned n = 0;

	vsock_guest_sync(&g);
	ck_assert(send(flood.fd, data, sizeof(data), MSG_DONTWAIT) > 100000);
	vsock_guest_sync(&g);
	vsock_host_write(quiet.fd, "x", 1);
	do {
		vsock_guest_recv(&g, &hdr, NULL);
		n++;
	} while (hdr.dst_port != 2);
	/* The buffers that were there, and one round more. */
	ck_assert_uint_le(n, 16 + 33);
	close(flood.fd);
	close(quiet.fd);
}
END_TEST

START_TEST(a_guest_without_buffers_gets_its_bytes_later)
{
	struct link l;

	vsock_guest_up(&g, GUEST_V1, 1);
	l = open_guest(&g, 52, 1);
	vsock_guest_up(&g, GUEST_V1, 0);
	close(l.fd);
	vsock_guest_give(&g, 1, GUEST_RX_BYTES);
	l = open_client(&g, 9);
	for (unsigned i = 0; i < 100; i++) {
		vsock_host_write(l.fd, "x", 1);
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(RW));
	}
	close(l.fd);
}
END_TEST

/* ---- halves and ends ---- */

START_TEST(a_guest_may_close_its_half)
{
	struct link l = open_guest(&g, 52, 1);

	send_bytes(&g, &l, "last", 4);
	say_flags(&g, OP(SHUTDOWN), &l, VIRTIO_VSOCK_SHUTDOWN_SEND);
	vsock_host_read(l.fd, buf, 4);
	ck_assert(vsock_host_is_closed(l.fd));
	/* The other half is open. */
	vsock_host_write(l.fd, "answer", 6);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.op, OP(RW));
	ck_assert_mem_eq(buf, "answer", 6);
	close(l.fd);
	vsock_guest_recv(&g, &hdr, NULL);
	ck_assert_uint_eq(hdr.op, OP(SHUTDOWN));
	ck_assert_uint_eq(hdr.flags & VIRTIO_VSOCK_SHUTDOWN_SEND,
		VIRTIO_VSOCK_SHUTDOWN_SEND);
}
END_TEST

START_TEST(a_guest_that_sends_behind_its_end_is_reset)
{
	struct link l = open_guest(&g, 52, 1);

	say_flags(&g, OP(SHUTDOWN), &l, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_bytes(&g, &l, "x", 1);
	hear(&g, OP(RST), &l, &hdr);
	close(l.fd);
}
END_TEST

START_TEST(a_guest_may_stop_listening)
{
	struct link l = open_guest(&g, 52, 1);

	say_flags(&g, OP(SHUTDOWN), &l, VIRTIO_VSOCK_SHUTDOWN_RCV);
	vsock_guest_sync(&g);
	/* Who writes on hears of it. */
	ck_assert_int_eq(send(l.fd, "x", 1, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EPIPE);
	send_bytes(&g, &l, "still", 5);
	vsock_host_read(l.fd, buf, 5);
	ck_assert(vsock_guest_is_quiet(&g));
	close(l.fd);
	hear(&g, OP(SHUTDOWN), &l, &hdr);
	ck_assert_uint_eq(hdr.flags, SHUT_BOTH);
}
END_TEST

START_TEST(a_peer_may_close_its_half)
{
	struct link l = open_guest(&g, 52, 1);

	vsock_host_write(l.fd, "last", 4);
	shutdown(l.fd, SHUT_WR);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 4);
	hear(&g, OP(SHUTDOWN), &l, &hdr);
	ck_assert_uint_eq(hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_bytes(&g, &l, "answer", 6);
	vsock_host_read(l.fd, buf, 6);
	ck_assert_mem_eq(buf, "answer", 6);
	close(l.fd);
	hear(&g, OP(SHUTDOWN), &l, &hdr);
	ck_assert_uint_eq(hdr.flags, SHUT_BOTH);
	say(&g, OP(RST), &l);
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.resets, 0);
}
END_TEST

START_TEST(a_peer_that_closes_ends_both_halves)
{
	struct link l = open_guest(&g, 52, 1);

	vsock_host_write(l.fd, "last", 4);
	close(l.fd);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.len, 4);
	do
		hear(&g, OP(SHUTDOWN), &l, &hdr);
	while (hdr.flags != SHUT_BOTH);
	/* What was on its way is nobody's. */
	send_bytes(&g, &l, "late", 4);
	ck_assert(vsock_guest_is_quiet(&g));
	if (_i)
		say(&g, OP(RST), &l);
	else
		say_flags(&g, OP(SHUTDOWN), &l, SHUT_BOTH);
	if (!_i)
		hear(&g, OP(RST), &l, &hdr);
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.malformed, 0);
}
END_TEST

START_TEST(a_guest_that_does_not_say_goodbye_is_reset_in_time)
{
	struct link l = open_guest(&g, 52, 1);

	close(l.fd);
	do
		hear(&g, OP(SHUTDOWN), &l, &hdr);
	while (hdr.flags != SHUT_BOTH);
	hear(&g, OP(RST), &l, &hdr);
	wait_count(&g.stats.connections, 0);
}
END_TEST

START_TEST(what_a_guest_sent_before_it_closed_arrives)
{
	struct link l = open_guest(&g, 52, 53), again;
	uint32_t buf_alloc = (64u << 12);
	size_t sent = send_all_credit(&l, &buf_alloc);
	uint8_t *back = malloc(sent);

	if (_i) {
		say_flags(&g, OP(SHUTDOWN), &l, VIRTIO_VSOCK_SHUTDOWN_RCV);
		say_flags(&g, OP(SHUTDOWN), &l, VIRTIO_VSOCK_SHUTDOWN_SEND);
	} else {
		say_flags(&g, OP(SHUTDOWN), &l, SHUT_BOTH);
	}
	/* At once: its ports are free, though its peer has not read. */
	hear(&g, OP(RST), &l, &hdr);
	again = open_guest(&g, 52, 53);
	ck_assert_uint_eq(g.stats.connections, 2);
	vsock_host_read(l.fd, back, sent);
	check_bytes(back, 0, sent);
	ck_assert(vsock_host_is_closed(l.fd));
	wait_count(&g.stats.connections, 1);
	free(back);
	close(l.fd);
	close(again.fd);
}
END_TEST

START_TEST(a_peer_that_goes_with_bytes_unread_is_no_burden)
{
	struct link l = open_guest(&g, 52, 53);
	uint32_t buf_alloc = (64u << 12);

	send_all_credit(&l, &buf_alloc);
	if (_i)
		say_flags(&g, OP(SHUTDOWN), &l, SHUT_BOTH);
	close(l.fd);
	do
		vsock_guest_recv(&g, &hdr, NULL);
	while (hdr.op != OP(RST) && hdr.flags != SHUT_BOTH);
	say(&g, OP(RST), &l);
	wait_count(&g.stats.connections, 0);
}
END_TEST

START_TEST(a_guest_may_reset)
{
	struct link l = open_guest(&g, 52, 1);

	say(&g, OP(RST), &l);
	ck_assert(vsock_host_is_closed(l.fd));
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.resets, 1);
	ck_assert(vsock_guest_is_quiet(&g));
	close(l.fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("vsock_data");
	TCase *bytes = tcase_create("bytes");
	TCase *bare = tcase_create("layouts");
	TCase *ends = tcase_create("ends");
	TCase *impatient = tcase_create("impatient");

	tcase_add_checked_fixture(bare, setup_bare, teardown);
	tcase_add_loop_test(bare, bytes_go_both_ways_in_any_layout, 0,
		sizeof(layouts) / sizeof(layouts[0]));
	suite_add_tcase(s, bare);

	tcase_add_checked_fixture(bytes, setup, teardown);
	tcase_add_test(bytes, one_read_fills_several_buffers);
	tcase_add_test(bytes, packets_that_come_together_are_written_in_order);
	tcase_add_test(bytes, a_write_that_is_cut_short_goes_on_where_it_ended);
	tcase_add_test(bytes, many_connections_keep_their_bytes_apart);
	tcase_add_test(bytes, a_guest_gets_no_more_than_it_has_room_for);
	tcase_add_test(bytes, early_bytes_need_credit_too);
	tcase_add_test(bytes, a_guest_that_counts_wrongly_gets_nothing);
	tcase_add_test(
		bytes, what_a_peer_does_not_read_is_bounded_and_not_lost);
	tcase_add_test(bytes, a_guest_that_ignores_credit_is_reset);
	tcase_add_test(
		bytes, a_guest_that_takes_all_its_credit_is_in_its_right);
	tcase_add_test(
		bytes, a_peer_that_floods_does_not_keep_others_from_the_guest);
	tcase_add_test(bytes, a_guest_without_buffers_gets_its_bytes_later);
	suite_add_tcase(s, bytes);

	tcase_add_checked_fixture(ends, setup, teardown);
	tcase_add_test(ends, a_guest_may_close_its_half);
	tcase_add_test(ends, a_guest_that_sends_behind_its_end_is_reset);
	tcase_add_test(ends, a_guest_may_stop_listening);
	tcase_add_test(ends, a_peer_may_close_its_half);
	tcase_add_loop_test(ends, a_peer_that_closes_ends_both_halves, 0, 2);
	tcase_add_loop_test(
		ends, what_a_guest_sent_before_it_closed_arrives, 0, 2);
	tcase_add_loop_test(
		ends, a_peer_that_goes_with_bytes_unread_is_no_burden, 0, 2);
	tcase_add_test(ends, a_guest_may_reset);
	suite_add_tcase(s, ends);

	tcase_add_checked_fixture(impatient, setup_impatient, teardown);
	tcase_add_test(
		impatient, a_guest_that_does_not_say_goodbye_is_reset_in_time);
	suite_add_tcase(s, impatient);
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
