#include "net/mmds_tcp.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define PORT 80
#define SEQ 5000u /* the client's first */

/*
 * The service behind it: requests are lines. "N\n" is answered by N bytes,
 * "qN\n" by N bytes and the end. Byte i of the n-th answer is n + i.
 */
static struct tcp *t;
static struct tcp_out o;
static uint64_t now;
static unsigned n_opened, n_served;

/* One client; what it knows of its connection. */
static struct tcp_peer peer;
static uint32_t cseq, cack;
static uint16_t cwnd;

static uint8_t pattern(unsigned answer, size_t i)
{
	return (uint8_t)(answer + i);
}

static size_t serve(void *arg, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close)
{
	const uint8_t *end = memchr(rx, '\n', n);
	char line[TCP_RX_MAX + 1];
	size_t len;

	ck_assert_ptr_eq(arg, &n_opened);
	ck_assert_uint_gt(n, 0);
	if (!end)
		return 0;
	memcpy(line, rx, n);
	line[n] = '\0';
	*ret_close = line[0] == 'q';
	len = strtoul(line + *ret_close, NULL, 10);
	for (size_t i = 0; i < len; i++)
		tx[i] = pattern(n_served, i);
	n_served++;
	*ret_len = len;
	return (size_t)(end - rx) + 1;
}

static void opened(void *arg)
{
	ck_assert_ptr_eq(arg, &n_opened);
	n_opened++;
}

static void setup(void)
{
	static const uint8_t key[SIPHASH_KEY_BYTES] = "0123456789abcdef";
	const struct tcp_app app = {serve, opened, &n_opened, PORT};

	t = calloc(1, sizeof(*t));
	ck_assert_ptr_nonnull(t);
	tcp_init(t, &app, key);
	now = 1000 * MS;
	n_opened = n_served = 0;
	peer = (struct tcp_peer){
		.mac = {2, 1}, .port = 40000, .local_port = PORT, .ip = 1};
	cseq = SEQ;
	cack = 0;
	cwnd = 65535;
}

static void teardown(void)
{
	free(t);
}

/* As the client sends it, with whatever is in cseq, cack and cwnd. */
static void in(uint8_t flags, const void *data, size_t len)
{
	struct tcp_header h = {
		.seq = cseq, .ack = cack, .window = cwnd, .flags = flags};
	struct iovec v = {(void *)(uintptr_t)data, len};
	struct iovs frame = {&v, 1, len};

	if (flags & TCP_SYN)
		h.mss = 1460;
	tcp_input(t, now, &peer, &h, &frame, 0, len);
}

static void in_text(const char *s)
{
	in(TCP_ACK | TCP_PSH, s, strlen(s));
	cseq += (uint32_t)strlen(s);
}

static void silent(void)
{
	ck_assert(!tcp_output(t, now, &o));
}

static void out(uint8_t flags, size_t len)
{
	ck_assert(tcp_output(t, now, &o));
	ck_assert_uint_eq(o.hdr.flags, flags);
	ck_assert_uint_eq(o.len, len);
}

/* A segment with these flags and nothing after it. */
static void out_only(uint8_t flags, size_t len)
{
	struct tcp_out first;

	out(flags, len);
	first = o;
	silent();
	o = first;
}

static void ack_to(uint32_t ack)
{
	cack = ack;
	in(TCP_ACK, NULL, 0);
}

static void syn(void)
{
	in(TCP_SYN, NULL, 0);
	cseq++;
}

static void open_conn(void)
{
	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	ack_to(o.hdr.seq + 1);
	silent();
}

/* The bytes of an answer from its at-th on are in o. */
static void check_bytes(unsigned answer, size_t at)
{
	for (size_t i = 0; i < o.len; i++)
		ck_assert_uint_eq(o.data[i], pattern(answer, at + i));
}

/* ---- opening ---- */

START_TEST(a_handshake_opens_a_connection)
{
	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, SEQ + 1);
	ck_assert_uint_eq(o.hdr.mss, TCP_SEGMENT_MAX);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX);
	ck_assert_uint_eq(o.peer.port, peer.port);
	ck_assert_uint_eq(o.peer.local_port, PORT);
	ck_assert_mem_eq(o.peer.mac, peer.mac, 6);
	ck_assert_uint_eq(n_opened, 0);
	ack_to(o.hdr.seq + 1);
	silent();
	ck_assert_uint_eq(n_opened, 1);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

/* flags and ack of what is sent to nobody; the answer's flags, seq, ack. */
static const struct {
	uint16_t port;
	uint8_t flags, answer;
	uint32_t seq, ack;
} strays[] = {
	{PORT + 1, TCP_SYN, TCP_RST | TCP_ACK, 0, SEQ + 2},
	{PORT, TCP_SYN | TCP_FIN, TCP_RST | TCP_ACK, 0, SEQ + 3},
	{PORT, TCP_SYN | TCP_ACK, TCP_RST, 77, 0},
	{PORT, TCP_SYN | TCP_RST, 0},
	{PORT, TCP_ACK, TCP_RST, 77, 0},
	{PORT, TCP_ACK | TCP_FIN, TCP_RST, 77, 0},
	{PORT, TCP_FIN, TCP_RST | TCP_ACK, 0, SEQ + 2},
	{PORT, 0, TCP_RST | TCP_ACK, 0, SEQ + 1},
	{PORT, TCP_RST, 0},
	{PORT, TCP_RST | TCP_ACK, 0},
};

START_TEST(what_belongs_to_no_connection_is_reset)
{
	cack = 77;
	peer.local_port = strays[_i].port;
	in(strays[_i].flags, "x", 1);
	if (strays[_i].answer) {
		out_only(strays[_i].answer, 0);
		ck_assert_uint_eq(o.hdr.seq, strays[_i].seq);
		ck_assert_uint_eq(o.hdr.ack, strays[_i].ack);
		ck_assert_uint_eq(o.peer.local_port, strays[_i].port);
	}
	silent();
	ck_assert_uint_eq(n_opened, 0);
}
END_TEST

START_TEST(a_peer_differs_by_address_and_both_ports)
{
	struct tcp_peer first = peer;

	open_conn();
	for (unsigned i = 0; i < 3; i++) {
		peer = first;
		peer.ip += i == 0;
		peer.port += i == 1;
		peer.local_port += i == 2;
		in(TCP_ACK | TCP_PSH, "1\n", 2);
		out_only(TCP_RST, 0);
	}
	ck_assert_uint_eq(n_served, 0);
}
END_TEST

START_TEST(a_lost_syn_ack_is_sent_again)
{
	uint32_t seq;

	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	seq = o.hdr.seq;
	/* By the client's repetition ... */
	cseq--;
	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.seq, seq);
	/* ... and by our clock. */
	ck_assert(tcp_deadline(t) == now + 200 * MS);
	now += 200 * MS;
	out_only(TCP_SYN | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.seq, seq);
	ack_to(seq + 1);
	silent();
	ck_assert_uint_eq(n_opened, 1);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

START_TEST(another_syn_replaces_one_that_was_not_completed)
{
	uint32_t first;

	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	first = o.hdr.seq;
	cseq = 900000;
	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, 900001);
	ck_assert_uint_ne(o.hdr.seq, first);
	/* With an acknowledgement it is none. */
	cseq = 7;
	in(TCP_SYN | TCP_ACK, NULL, 0);
	silent();
}
END_TEST

START_TEST(the_handshake_must_acknowledge_our_number)
{
	syn();
	out_only(TCP_SYN | TCP_ACK, 0);
	ack_to(o.hdr.seq + (_i ? 2 : 0));
	out_only(TCP_RST, 0);
	ck_assert_uint_eq(o.hdr.seq, cack);
	ck_assert_uint_eq(n_opened, 0);
}
END_TEST

/* A client that has guessed our number. */
START_TEST(an_acknowledgement_of_what_was_not_sent_opens_nothing)
{
	syn();
	cack = t->conns[0].tx_seq;
	in(TCP_ACK, "1\n", 2);
	out(TCP_RST, 0);
	ck_assert_uint_eq(n_opened, 0);
	ck_assert_uint_eq(n_served, 0);
}
END_TEST

START_TEST(data_with_the_syn_comes_again)
{
	in(TCP_SYN, "1\n", 2);
	cseq++;
	out_only(TCP_SYN | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, SEQ + 1);
	cack = o.hdr.seq + 1;
	in_text("1\n");
	out_only(TCP_ACK | TCP_PSH, 1);
	ck_assert_uint_eq(n_served, 1);
}
END_TEST

static const struct {
	uint16_t offered, used;
} sizes[] = {{0, 536}, {1, 28}, {28, 28}, {29, 29}, {1459, 1459}, {1460, 1460},
	{1461, 1460}, {65535, 1460}};

START_TEST(segments_are_as_large_as_the_peer_takes_within_bounds)
{
	struct tcp_header h = {.seq = cseq++,
		.window = 65535,
		.mss = sizes[_i].offered,
		.flags = TCP_SYN};

	tcp_input(t, now, &peer, &h, NULL, 0, 0);
	out_only(TCP_SYN | TCP_ACK, 0);
	cack = o.hdr.seq + 1;
	in_text("3000\n");
	out(TCP_ACK | TCP_PSH, sizes[_i].used);
	out(TCP_ACK | TCP_PSH, sizes[_i].used);
	ck_assert_uint_eq(o.hdr.seq, cack + sizes[_i].used);
}
END_TEST

START_TEST(every_connection_begins_at_another_number)
{
	uint32_t seen[8];

	for (unsigned i = 0; i < 8; i++) {
		cseq = SEQ;
		syn();
		out_only(TCP_SYN | TCP_ACK, 0);
		seen[i] = o.hdr.seq;
		for (unsigned k = 0; k < i; k++)
			ck_assert_uint_ne(seen[i], seen[k]);
		in(TCP_RST, NULL, 0);
	}
}
END_TEST

/* ---- requests ---- */

START_TEST(a_request_is_answered_and_acknowledged_at_once)
{
	open_conn();
	in_text("10\n");
	ck_assert(tcp_deadline(t) == UINT64_MAX); /* not sent yet */
	out_only(TCP_ACK | TCP_PSH, 10);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	ck_assert_uint_eq(o.hdr.seq, cack);
	check_bytes(0, 0);
	ack_to(cack + 10);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

START_TEST(a_request_may_come_byte_by_byte)
{
	open_conn();
	in_text("1");
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX - 1);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	in_text("2");
	out_only(TCP_ACK, 0);
	in_text("\n");
	out_only(TCP_ACK | TCP_PSH, 12);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX);
}
END_TEST

START_TEST(what_was_received_before_is_not_taken_twice)
{
	open_conn();
	in_text("1");
	out_only(TCP_ACK, 0);
	cseq--;
	in_text("1"); /* the same */
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	cseq--;
	in_text("12\n"); /* the same and more */
	out_only(TCP_ACK | TCP_PSH, 12);
	ck_assert_uint_eq(o.hdr.ack, cseq);
}
END_TEST

START_TEST(what_comes_too_early_is_dropped_and_asked_for)
{
	uint32_t want;

	open_conn();
	want = cseq;
	cseq = want + 1;
	in_text("2\n");
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, want);
	cseq = want;
	in_text("1");
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, want + 1);
	in_text("2\n");
	out_only(TCP_ACK | TCP_PSH, 12);
}
END_TEST

/* The parts of a frame are anywhere; data begins where its header ends. */
START_TEST(data_is_found_in_a_scattered_frame)
{
	struct iovec v[] = {{(char[]){"xxxx1"}, 5}, {(char[]){"2"}, 1},
		{(char[]){"\n??"}, 3}};
	struct iovs frame = {v, 3, 9};
	struct tcp_header h;

	open_conn();
	h = (struct tcp_header){
		.seq = cseq, .ack = cack, .window = 9999, .flags = TCP_ACK};
	tcp_input(t, now, &peer, &h, &frame, 4, 3);
	out_only(TCP_ACK | TCP_PSH, 12);
	ck_assert_uint_eq(o.hdr.ack, cseq + 3);
}
END_TEST

START_TEST(requests_in_one_segment_are_answered_one_after_another)
{
	open_conn();
	in_text("3\n4\n5\n");
	out_only(TCP_ACK | TCP_PSH, 3);
	ck_assert_uint_eq(n_served, 1);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX - 4);
	ack_to(cack + 3);
	out_only(TCP_ACK | TCP_PSH, 4);
	check_bytes(1, 0);
	ack_to(cack + 4);
	out_only(TCP_ACK | TCP_PSH, 5);
	check_bytes(2, 0);
	ack_to(cack + 5);
	silent();
}
END_TEST

START_TEST(bytes_beyond_the_window_are_not_taken_nor_a_fin_behind_them)
{
	char big[TCP_RX_MAX + 100];

	memset(big, 'x', sizeof(big));
	big[0] = '5';
	big[1] = '\n';
	open_conn();
	in(TCP_ACK | TCP_FIN, big, sizeof(big));
	out_only(TCP_ACK | TCP_PSH, 5);
	ck_assert_uint_eq(o.hdr.ack, cseq + TCP_RX_MAX);
	ck_assert_uint_eq(o.hdr.window, 2);
}
END_TEST

START_TEST(a_closed_window_takes_acknowledgements_only)
{
	char big[TCP_RX_MAX];

	memset(big, 'x', sizeof(big));
	big[0] = '5';
	big[1] = '\n';
	big[2] = '7';
	big[sizeof(big) - 1] = '\n';
	open_conn();
	in(TCP_ACK, big, sizeof(big));
	cseq += TCP_RX_MAX;
	out_only(TCP_ACK | TCP_PSH, 5);
	in(TCP_ACK, "yz", 2); /* two fit, and close it */
	cseq += 2;
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.window, 0);
	/* A probe of the window, which also acknowledges: the next request's
	 * turn comes, and the window opens. */
	cack += 5;
	in(TCP_ACK, "!", 1);
	out_only(TCP_ACK | TCP_PSH, 7);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX - 2);
	ck_assert_uint_eq(n_served, 2);
}
END_TEST

START_TEST(bytes_that_fill_the_window_are_taken_with_their_fin)
{
	char big[TCP_RX_MAX];

	memset(big, 'x', sizeof(big));
	big[0] = '5';
	big[1] = '\n';
	open_conn();
	in(TCP_ACK | TCP_FIN, big, sizeof(big));
	out_only(TCP_ACK | TCP_PSH, 5);
	ck_assert_uint_eq(o.hdr.ack, cseq + TCP_RX_MAX + 1);
}
END_TEST

START_TEST(a_full_buffer_without_a_request_ends_the_connection)
{
	char big[TCP_RX_MAX];

	memset(big, 'x', sizeof(big));
	open_conn();
	in(TCP_ACK, big, sizeof(big) - 1);
	cseq += sizeof(big) - 1;
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.window, 1);
	in(TCP_ACK, big, 1);
	out_only(TCP_RST | TCP_ACK, 0);
	in(TCP_ACK, NULL, 0);
	out_only(TCP_RST, 0);
}
END_TEST

START_TEST(without_ack_a_segment_is_dropped)
{
	open_conn();
	in(TCP_PSH, "1\n", 2);
	silent();
	ck_assert_uint_eq(n_served, 0);
}
END_TEST

START_TEST(urgent_data_ends_the_connection)
{
	open_conn();
	in(TCP_ACK | TCP_URG, "1\n", 2);
	out_only(TCP_RST | TCP_ACK, 0);
	ck_assert_uint_eq(n_served, 0);
}
END_TEST

START_TEST(a_keepalive_is_acknowledged)
{
	open_conn();
	cseq--;
	in(TCP_ACK, NULL, 0);
	out_only(TCP_ACK, 0);
	in(TCP_ACK, "x", 1);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq + 1);
}
END_TEST

/* ---- answers ---- */

START_TEST(a_long_answer_goes_in_full_segments_within_the_window)
{
	cwnd = 4000;
	open_conn();
	in_text("5000\n");
	out(TCP_ACK | TCP_PSH, 1460);
	check_bytes(0, 0);
	/* 1080 more are allowed, and wait for the first's acknowledgement:
	 * they would be a small segment. */
	out_only(TCP_ACK | TCP_PSH, 1460);
	check_bytes(0, 1460);
	ack_to(cack + 1460);
	out(TCP_ACK | TCP_PSH, 1460);
	check_bytes(0, 2920);
	out_only(TCP_ACK | TCP_PSH, 620); /* small, but the last */
	check_bytes(0, 4380);
	ack_to(cack + 3540);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

START_TEST(a_window_smaller_than_a_segment_is_used_when_nothing_is_in_flight)
{
	cwnd = 100;
	open_conn();
	in_text("250\n");
	out_only(TCP_ACK | TCP_PSH, 100);
	ack_to(cack + 60); /* 60 may go, 40 are in flight */
	silent();
	ack_to(cack + 40);
	out_only(TCP_ACK | TCP_PSH, 100);
	check_bytes(0, 100);
	ack_to(cack + 100);
	out_only(TCP_ACK | TCP_PSH, 50);
}
END_TEST

START_TEST(what_is_not_acknowledged_is_sent_again_more_and_more_seldom)
{
	uint64_t wait = 200 * MS;

	open_conn();
	in_text("2000\n");
	out(TCP_ACK | TCP_PSH, 1460);
	out_only(TCP_ACK | TCP_PSH, 540);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert(tcp_deadline(t) == now + wait);
		now += wait - 1;
		silent();
		now++;
		out(TCP_ACK | TCP_PSH, 1460);
		ck_assert_uint_eq(o.hdr.seq, cack);
		check_bytes(0, 0);
		out_only(TCP_ACK | TCP_PSH, 540);
		check_bytes(0, 1460);
		if (i < 6)
			wait *= 2;
	}
	/* Then never. */
	now += wait;
	out_only(TCP_RST | TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.seq, cack + 2000);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

START_TEST(after_progress_only_the_rest_is_sent_again_and_soon)
{
	open_conn();
	in_text("2000\n");
	out(TCP_ACK | TCP_PSH, 1460);
	out_only(TCP_ACK | TCP_PSH, 540);
	now += 200 * MS;
	out(TCP_ACK | TCP_PSH, 1460);
	out_only(TCP_ACK | TCP_PSH, 540);
	ck_assert(tcp_deadline(t) == now + 400 * MS);
	ack_to(cack + 1460);
	silent();
	ck_assert(tcp_deadline(t) == now + 200 * MS);
	now += 200 * MS;
	out_only(TCP_ACK | TCP_PSH, 540);
	check_bytes(0, 1460);
}
END_TEST

/* What was sent again from the beginning, and arrived the first time. */
START_TEST(an_acknowledgement_of_more_than_was_sent_again_skips_it)
{
	open_conn();
	in_text("2000\n");
	out(TCP_ACK | TCP_PSH, 1460);
	out_only(TCP_ACK | TCP_PSH, 540);
	now += 200 * MS;
	out(TCP_ACK | TCP_PSH, 1460);
	ack_to(cack + 2000);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	in_text("7\n");
	out_only(TCP_ACK | TCP_PSH, 7);
	check_bytes(1, 0);
}
END_TEST

START_TEST(an_acknowledgement_of_what_was_never_sent_is_not_believed)
{
	open_conn();
	cack++;
	in_text("1\n");
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.seq, cack - 1);
	ck_assert_uint_eq(o.hdr.ack, cseq - 2);
	ck_assert_uint_eq(n_served, 0);
}
END_TEST

START_TEST(an_old_acknowledgement_brings_data_but_no_window)
{
	open_conn();
	in_text("10\n");
	out_only(TCP_ACK | TCP_PSH, 10);
	ack_to(cack + 10);
	cack--;
	cwnd = 0;
	in_text("20\n");
	out_only(TCP_ACK | TCP_PSH, 20);
	check_bytes(1, 0);
}
END_TEST

START_TEST(a_closed_window_is_probed_with_one_byte_as_long_as_it_is_answered)
{
	uint64_t wait = 200 * MS;

	cwnd = 0;
	open_conn();
	ck_assert(tcp_deadline(t) == UINT64_MAX); /* nothing to ask for */
	in_text("10\n");
	out_only(TCP_ACK, 0);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert(tcp_deadline(t) == now + wait);
		now += wait / 2;
		ack_to(cack); /* changes nothing */
		silent();
		now += wait - wait / 2;
		out_only(TCP_ACK | TCP_PSH, 1);
		ck_assert_uint_eq(o.hdr.seq, cack);
		check_bytes(0, 0);
		if (i < 6)
			wait *= 2;
		ack_to(cack); /* still closed */
		silent();
	}
	/* It did not take the byte, so that comes again. */
	cwnd = 5;
	ack_to(cack);
	out_only(TCP_ACK | TCP_PSH, 5);
	check_bytes(0, 0);
	ck_assert(tcp_deadline(t) == now + 200 * MS);
	cwnd = 100;
	ack_to(cack + 5);
	out_only(TCP_ACK | TCP_PSH, 5);
	check_bytes(0, 5);
}
END_TEST

START_TEST(a_probe_that_is_taken_leads_to_the_next)
{
	cwnd = 0;
	open_conn();
	in_text("10\n");
	out_only(TCP_ACK, 0);
	for (unsigned i = 0; i < 3; i++) {
		now += 200 * MS;
		out_only(TCP_ACK | TCP_PSH, 1);
		check_bytes(0, i);
		ack_to(cack + 1);
		silent();
		ck_assert(tcp_deadline(t) == now + 200 * MS);
	}
}
END_TEST

START_TEST(a_probe_without_any_answer_ends_the_connection)
{
	cwnd = 0;
	open_conn();
	in_text("10\n");
	out_only(TCP_ACK, 0);
	for (unsigned i = 0; i < 8; i++) {
		now = tcp_deadline(t);
		out_only(TCP_ACK | TCP_PSH, 1);
	}
	now = tcp_deadline(t);
	out_only(TCP_RST | TCP_ACK, 0);
}
END_TEST

START_TEST(a_window_that_shrinks_below_what_is_in_flight_stops_it)
{
	open_conn();
	in_text("4000\n");
	out(TCP_ACK | TCP_PSH, 1460);
	out(TCP_ACK | TCP_PSH, 1460);
	cwnd = 100;
	ack_to(cack);
	silent();
	now += 200 * MS;
	out_only(TCP_ACK | TCP_PSH, 100);
	check_bytes(0, 0);
}
END_TEST

/* ---- ends ---- */

START_TEST(the_last_answer_ends_with_fin)
{
	open_conn();
	in_text("q10\n");
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 10);
	ack_to(cack + 11);
	silent();
	/* Its own FIN, then nothing is left. */
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq + 1);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	cseq++;
	in(TCP_ACK, NULL, 0);
	out_only(TCP_RST, 0);
}
END_TEST

START_TEST(a_lost_fin_is_sent_again)
{
	open_conn();
	in_text("q10\n");
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 10);
	ack_to(cack + 10);
	silent();
	now += 200 * MS;
	out_only(TCP_ACK | TCP_FIN, 0);
	ck_assert_uint_eq(o.hdr.seq, cack);
	ack_to(cack + 1);
	silent();
}
END_TEST

START_TEST(a_fin_needs_no_window)
{
	cwnd = 10;
	open_conn();
	in_text("q10\n");
	cwnd = 0;
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 10);
}
END_TEST

START_TEST(what_follows_the_last_request_is_acknowledged_and_thrown_away)
{
	char big[TCP_RX_MAX];

	memset(big, '\n', sizeof(big));
	open_conn();
	in_text("q10\n99\n");
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 10);
	ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX);
	ack_to(cack + 11);
	silent();
	for (unsigned i = 0; i < 3; i++) {
		in(TCP_ACK, big, sizeof(big));
		cseq += sizeof(big);
		out_only(TCP_ACK, 0);
		ck_assert_uint_eq(o.hdr.ack, cseq);
		ck_assert_uint_eq(o.hdr.window, TCP_RX_MAX);
	}
	ck_assert_uint_eq(n_served, 1);
	/* But for what is too early. */
	cseq += 10;
	in(TCP_ACK, big, 100);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq - 10);
}
END_TEST

START_TEST(a_peer_that_never_closes_is_reset)
{
	open_conn();
	in_text("q1\n");
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 1);
	ack_to(cack + 2);
	silent();
	ck_assert(tcp_deadline(t) == now + 5000 * MS);
	/* Its talking does not prolong it. */
	now += 1000 * MS;
	in_text("x");
	out_only(TCP_ACK, 0);
	ck_assert(tcp_deadline(t) == now + 4000 * MS);
	now += 4000 * MS;
	out_only(TCP_RST | TCP_ACK, 0);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	silent();
}
END_TEST

START_TEST(a_client_that_closes_first_is_closed)
{
	open_conn();
	in(TCP_ACK | TCP_FIN, NULL, 0);
	cseq++;
	out_only(TCP_ACK | TCP_FIN, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	ack_to(cack + 1);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	in(TCP_ACK, NULL, 0);
	out_only(TCP_RST, 0);
}
END_TEST

START_TEST(a_half_closed_client_gets_all_its_answers)
{
	open_conn();
	in(TCP_ACK | TCP_FIN, "3\n4\nrest", 8);
	cseq += 9;
	out_only(TCP_ACK | TCP_PSH, 3);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	ack_to(cack + 3);
	out_only(TCP_ACK | TCP_PSH, 4);
	ack_to(cack + 4);
	out_only(TCP_ACK | TCP_FIN, 0);
	ack_to(cack + 1);
	silent();
	ck_assert_uint_eq(n_served, 2);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

START_TEST(a_repeated_fin_is_acknowledged_and_counts_once)
{
	open_conn();
	in_text("3\n");
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK | TCP_PSH, 3);
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq + 1);
	/* And one behind its own. */
	cseq++;
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq);
}
END_TEST

START_TEST(data_behind_a_fin_ends_the_connection)
{
	open_conn();
	in_text("3\n");
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK | TCP_PSH, 3);
	cseq++;
	in(TCP_ACK, "4\n", 2);
	out_only(TCP_RST | TCP_ACK, 0);
	ck_assert_uint_eq(n_served, 1);
}
END_TEST

START_TEST(both_ends_may_close_at_once)
{
	open_conn();
	in_text("q3\n");
	out_only(TCP_ACK | TCP_PSH | TCP_FIN, 3);
	in(TCP_ACK | TCP_FIN, NULL, 0); /* has not seen ours */
	cseq++;
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	ack_to(cack + 4);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	in(TCP_ACK, NULL, 0);
	out_only(TCP_RST, 0);
}
END_TEST

/* Where a reset's number is, from the next one; whether it ends, and whether
 * it is questioned. */
static const struct {
	int32_t at;
	bool ends, questioned;
} resets[] = {{0, true, false}, {1, false, true},
	{(int32_t)TCP_RX_MAX - 1, false, true}, {(int32_t)TCP_RX_MAX, false},
	{-1, false}, {-100000, false}, {100000, false}};

START_TEST(only_an_exact_reset_ends_a_connection)
{
	uint32_t good;

	open_conn();
	good = cseq;
	cseq += (uint32_t)resets[_i].at;
	in(TCP_RST, NULL, 0);
	if (resets[_i].questioned)
		out_only(TCP_ACK, 0);
	silent();
	cseq = good;
	in_text("3\n");
	out_only(resets[_i].ends ? TCP_RST : TCP_ACK | TCP_PSH,
		resets[_i].ends ? 0 : 3);
}
END_TEST

START_TEST(a_syn_within_a_connection_is_questioned)
{
	open_conn();
	in(TCP_SYN, NULL, 0);
	out_only(TCP_ACK, 0);
	ck_assert_uint_eq(o.hdr.ack, cseq);
	cseq--; /* the very first once more */
	in(TCP_SYN, NULL, 0);
	out_only(TCP_ACK, 0);
	cseq++;
	ck_assert_uint_eq(o.hdr.ack, cseq);
	in_text("3\n");
	out_only(TCP_ACK | TCP_PSH, 3);
}
END_TEST

/* ---- bounds ---- */

START_TEST(a_flood_of_syns_leaves_open_connections_alone)
{
	struct tcp_peer first = peer;
	uint32_t seq, ack;

	open_conn();
	seq = cseq;
	ack = cack;
	for (unsigned i = 0; i < 1000; i++) {
		peer.port++;
		cseq = SEQ;
		in(TCP_SYN, NULL, 0);
	}
	/* One reset and one answer for some, nothing endless. */
	for (unsigned i = 0; i < TCP_RESETS; i++)
		out(TCP_RST | TCP_ACK, 0);
	for (unsigned i = 0; i < TCP_CONNS - 1; i++)
		out(TCP_SYN | TCP_ACK, 0);
	silent();
	peer = first;
	cseq = seq;
	cack = ack;
	in_text("3\n");
	out_only(TCP_ACK | TCP_PSH, 3);
}
END_TEST

START_TEST(the_oldest_half_open_connection_gives_way)
{
	uint16_t port = peer.port;

	for (unsigned i = 0; i <= TCP_CONNS; i++) {
		peer.port = (uint16_t)(port + i);
		cseq = SEQ;
		in(TCP_SYN, NULL, 0);
		if (i == TCP_CONNS) {
			out(TCP_RST | TCP_ACK, 0);
			ck_assert_uint_eq(o.peer.port, port);
		}
		out_only(TCP_SYN | TCP_ACK, 0);
		ck_assert_uint_eq(o.peer.port, peer.port);
	}
}
END_TEST

START_TEST(the_longest_unused_connection_gives_way)
{
	uint32_t ack0 = 0, ack1 = 0;
	uint16_t port = peer.port;

	for (unsigned i = 0; i < TCP_CONNS; i++) {
		peer.port = (uint16_t)(port + i);
		cseq = SEQ;
		open_conn();
		ack0 = i == 0 ? cack : ack0;
		ack1 = i == 1 ? cack : ack1;
	}
	peer.port = port; /* used once more: the second is the oldest now */
	cack = ack0;
	cseq = SEQ + 1;
	in_text("1\n");
	out_only(TCP_ACK | TCP_PSH, 1);
	peer.port = 999;
	cseq = SEQ;
	in(TCP_SYN, NULL, 0);
	out(TCP_RST | TCP_ACK, 0);
	ck_assert_uint_eq(o.peer.port, port + 1);
	ck_assert_uint_eq(o.hdr.seq, ack1);
	ck_assert_uint_eq(o.hdr.ack, SEQ + 1);
	out_only(TCP_SYN | TCP_ACK, 0);
}
END_TEST

START_TEST(connections_take_turns_and_keep_apart)
{
	uint32_t acks[3];
	uint16_t port = peer.port;

	for (unsigned i = 0; i < 3; i++) {
		peer.port = (uint16_t)(port + i);
		cseq = SEQ;
		open_conn();
		acks[i] = cack;
	}
	for (unsigned i = 0; i < 3; i++) {
		peer.port = (uint16_t)(port + i);
		cack = acks[i];
		cseq = SEQ + 1;
		in_text("3000\n");
	}
	for (unsigned k = 0; k < 3; k++)
		for (unsigned i = 0; i < 3; i++) {
			out(TCP_ACK | TCP_PSH, k < 2 ? 1460 : 80);
			ck_assert_uint_eq(o.peer.port, port + i);
			ck_assert_uint_eq(o.hdr.seq, acks[i] + 1460 * k);
			check_bytes(i, (size_t)1460 * k);
		}
	silent();
}
END_TEST

START_TEST(a_new_driver_finds_nothing_of_the_old_one)
{
	open_conn();
	in_text("3\n");
	peer.port++;
	in(TCP_ACK, NULL, 0);
	tcp_reset_all(t);
	silent();
	ck_assert(tcp_deadline(t) == UINT64_MAX);
	peer.port--;
	in_text("3\n");
	out_only(TCP_RST, 0);
}
END_TEST

START_TEST(the_clients_numbers_may_wrap)
{
	cseq = UINT32_MAX - 2;
	open_conn();
	in_text("1");
	out_only(TCP_ACK, 0);
	in_text("2\n3");
	out_only(TCP_ACK | TCP_PSH, 12);
	ck_assert_uint_eq(o.hdr.ack, 2);
	ack_to(cack + 12);
	in_text("4\n");
	out_only(TCP_ACK | TCP_PSH, 34);
}
END_TEST

START_TEST(our_numbers_may_wrap_within_an_answer)
{
	size_t got = 0;

	/* With this key it takes some while, the same each time. */
	do {
		peer.port++;
		cseq = SEQ;
		syn();
		out(TCP_SYN | TCP_ACK, 0);
		if (o.hdr.seq < UINT32_MAX - 40000)
			in(TCP_RST, NULL, 0);
	} while (o.hdr.seq < UINT32_MAX - 40000);
	cack = o.hdr.seq + 1;
	in_text("q50000\n");
	while (got < 50000) {
		ck_assert(tcp_output(t, now, &o));
		ck_assert_uint_eq(o.hdr.seq, (uint32_t)(cack + got));
		check_bytes(0, got);
		got += o.len;
	}
	ck_assert_uint_eq(o.hdr.flags, TCP_ACK | TCP_PSH | TCP_FIN);
	/* Lost, all of it: once more. */
	now += 200 * MS;
	for (got = 0; got < 50000; got += o.len) {
		ck_assert(tcp_output(t, now, &o));
		ck_assert_uint_eq(o.hdr.seq, (uint32_t)(cack + got));
		check_bytes(0, got);
	}
	silent();
	ack_to(cack + 50001);
	in(TCP_ACK | TCP_FIN, NULL, 0);
	out_only(TCP_ACK, 0);
	ck_assert(tcp_deadline(t) == UINT64_MAX);
}
END_TEST

static void add_opening(Suite *s)
{
	TCase *tc = tcase_create("opening");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_handshake_opens_a_connection);
	tcase_add_loop_test(tc, what_belongs_to_no_connection_is_reset, 0,
		sizeof(strays) / sizeof(strays[0]));
	tcase_add_test(tc, a_peer_differs_by_address_and_both_ports);
	tcase_add_test(tc, a_lost_syn_ack_is_sent_again);
	tcase_add_test(tc, another_syn_replaces_one_that_was_not_completed);
	tcase_add_loop_test(
		tc, the_handshake_must_acknowledge_our_number, 0, 2);
	tcase_add_test(
		tc, an_acknowledgement_of_what_was_not_sent_opens_nothing);
	tcase_add_test(tc, data_with_the_syn_comes_again);
	tcase_add_loop_test(tc,
		segments_are_as_large_as_the_peer_takes_within_bounds, 0,
		sizeof(sizes) / sizeof(sizes[0]));
	tcase_add_test(tc, every_connection_begins_at_another_number);
	suite_add_tcase(s, tc);
}

static void add_requests(Suite *s)
{
	TCase *tc = tcase_create("requests");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_request_is_answered_and_acknowledged_at_once);
	tcase_add_test(tc, a_request_may_come_byte_by_byte);
	tcase_add_test(tc, what_was_received_before_is_not_taken_twice);
	tcase_add_test(tc, what_comes_too_early_is_dropped_and_asked_for);
	tcase_add_test(tc, data_is_found_in_a_scattered_frame);
	tcase_add_test(
		tc, requests_in_one_segment_are_answered_one_after_another);
	tcase_add_test(tc,
		bytes_beyond_the_window_are_not_taken_nor_a_fin_behind_them);
	tcase_add_test(tc, bytes_that_fill_the_window_are_taken_with_their_fin);
	tcase_add_test(tc, a_closed_window_takes_acknowledgements_only);
	tcase_add_test(tc, a_full_buffer_without_a_request_ends_the_connection);
	tcase_add_test(tc, without_ack_a_segment_is_dropped);
	tcase_add_test(tc, urgent_data_ends_the_connection);
	tcase_add_test(tc, a_keepalive_is_acknowledged);
	suite_add_tcase(s, tc);
}

static void add_answers(Suite *s)
{
	TCase *tc = tcase_create("answers");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, a_long_answer_goes_in_full_segments_within_the_window);
	tcase_add_test(tc,
		a_window_smaller_than_a_segment_is_used_when_nothing_is_in_flight);
	tcase_add_test(tc,
		what_is_not_acknowledged_is_sent_again_more_and_more_seldom);
	tcase_add_test(tc, after_progress_only_the_rest_is_sent_again_and_soon);
	tcase_add_test(
		tc, an_acknowledgement_of_more_than_was_sent_again_skips_it);
	tcase_add_test(
		tc, an_acknowledgement_of_what_was_never_sent_is_not_believed);
	tcase_add_test(tc, an_old_acknowledgement_brings_data_but_no_window);
	tcase_add_test(tc,
		a_closed_window_is_probed_with_one_byte_as_long_as_it_is_answered);
	tcase_add_test(tc, a_probe_that_is_taken_leads_to_the_next);
	tcase_add_test(tc, a_probe_without_any_answer_ends_the_connection);
	tcase_add_test(
		tc, a_window_that_shrinks_below_what_is_in_flight_stops_it);
	suite_add_tcase(s, tc);
}

static void add_ends(Suite *s)
{
	TCase *tc = tcase_create("ends");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_last_answer_ends_with_fin);
	tcase_add_test(tc, a_lost_fin_is_sent_again);
	tcase_add_test(tc, a_fin_needs_no_window);
	tcase_add_test(tc,
		what_follows_the_last_request_is_acknowledged_and_thrown_away);
	tcase_add_test(tc, a_peer_that_never_closes_is_reset);
	tcase_add_test(tc, a_client_that_closes_first_is_closed);
	tcase_add_test(tc, a_half_closed_client_gets_all_its_answers);
	tcase_add_test(tc, a_repeated_fin_is_acknowledged_and_counts_once);
	tcase_add_test(tc, data_behind_a_fin_ends_the_connection);
	tcase_add_test(tc, both_ends_may_close_at_once);
	tcase_add_loop_test(tc, only_an_exact_reset_ends_a_connection, 0,
		sizeof(resets) / sizeof(resets[0]));
	tcase_add_test(tc, a_syn_within_a_connection_is_questioned);
	suite_add_tcase(s, tc);
}

static void add_bounds(Suite *s)
{
	TCase *tc = tcase_create("bounds");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_flood_of_syns_leaves_open_connections_alone);
	tcase_add_test(tc, the_oldest_half_open_connection_gives_way);
	tcase_add_test(tc, the_longest_unused_connection_gives_way);
	tcase_add_test(tc, connections_take_turns_and_keep_apart);
	tcase_add_test(tc, a_new_driver_finds_nothing_of_the_old_one);
	tcase_add_test(tc, the_clients_numbers_may_wrap);
	tcase_add_test(tc, our_numbers_may_wrap_within_an_answer);
	suite_add_tcase(s, tc);
}

int main(void)
{
	Suite *s = suite_create("mmds_tcp");
	SRunner *sr = srunner_create(s);
	int failed;

	add_opening(s);
	add_requests(s);
	add_answers(s);
	add_ends(s);
	add_bounds(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
