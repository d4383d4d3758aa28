#include "base/cleanup.h"
#include "vsock_talk.h"

#include <dirent.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>

static struct vsock_guest g;
static struct virtio_vsock_hdr hdr;
static char buf[GUEST_RX_BYTES];

static void setup(void)
{
	vsock_guest_make(&g, 0);
	vsock_guest_up(&g, GUEST_V1, 16);
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

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

START_TEST(the_guest_reads_its_cid)
{
	uint64_t cid = 0;

	virtio_mmio_read(g.m, VIRTIO_MMIO_CONFIG, &cid, 4);
	ck_assert_uint_eq(cid, GUEST_CID);
	ck_assert_uint_eq(g.dev->ops->id, VIRTIO_ID_VSOCK);
	/* SEQPACKET is not offered. */
	ck_assert_uint_eq(g.dev->features & 3, 0);
}
END_TEST

/* ---- clients of the host ---- */

START_TEST(a_client_is_told_its_port_when_the_guest_accepts)
{
	struct link l = open_client(&g, 1234);

	ck_assert_uint_eq(l.host_port, FIRST_PORT);
	ck_assert_uint_eq(g.stats.connections, 1);
	ck_assert_uint_eq(g.stats.opened, 1);
	close(l.fd);
}
END_TEST

START_TEST(clients_have_ports_of_their_own)
{
	struct link a = open_client(&g, 1), b = open_client(&g, 1);

	ck_assert_uint_eq(b.host_port, a.host_port + 1);
	close(a.fd);
	close(b.fd);
}
END_TEST

START_TEST(a_client_is_closed_when_the_guest_refuses)
{
	struct link l = begin_client(&g, 1234);

	say(&g, OP(RST), &l);
	ck_assert(vsock_host_is_closed(l.fd));
	ck_assert_uint_eq(g.stats.refused, 1);
	wait_count(&g.stats.connections, 0);
	close(l.fd);
}
END_TEST

/* line; port: 0: refused. */
static const struct {
	const char *line;
	uint32_t port;
} lines[] = {
	{"CONNECT 1\n", 1},
	{"CONNECT 4294967295\n", UINT32_MAX},
	{"connect 00000000000000000000077\n", 77},
	{"CONNECT 4294967296\n", 0},
	{"CONNECT 99999999999999999999999\n", 0},
	{"CONNECT \n", 0},
	{"CONNECT\n", 0},
	{"CONNEC", 0},
	{"\n", 0},
	{"CONNECT -1\n", 0},
	{"CONNECT +1\n", 0},
	{"CONNECT 1 \n", 0},
	{"CONNECT  1\n", 0},
	{" CONNECT 1\n", 0},
	{"CONNECT 0x1\n", 0},
	{"CONNECT 1\r\n", 0},
	{"CONNECT 1\t\n", 0},
	{"CONNECT 1", 0},
	{"CONNECTED 1\n", 0},
	{"OK 1\n", 0},
	{"CONNECT 0000000000000000000000000001\n", 0},
	{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 0},
	{"", 0},
};

START_TEST(a_first_line_names_a_port_or_is_refused)
{
	int fd = vsock_guest_client(&g);

	vsock_host_write(fd, lines[_i].line, strlen(lines[_i].line));
	if (lines[_i].port) {
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(REQUEST));
		ck_assert_uint_eq(hdr.dst_port, lines[_i].port);
	} else {
		/* What has no end is ended by its client. */
		shutdown(fd, SHUT_WR);
		ck_assert(vsock_host_is_closed(fd));
		wait_count(&g.stats.connections, 0);
		ck_assert(vsock_guest_is_quiet(&g));
		ck_assert_uint_eq(g.stats.refused, 1);
	}
	close(fd);
}
END_TEST

START_TEST(a_line_too_long_is_refused_before_it_ends)
{
	int fd = vsock_guest_client(&g);

	vsock_host_write(fd, "CONNECT 00000000000000000000000", 31);
	ck_assert(vsock_guest_is_quiet(&g));
	ck_assert_uint_eq(g.stats.connections, 1);
	vsock_host_write(fd, "0", 1);
	ck_assert(vsock_host_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(a_first_line_may_come_byte_by_byte)
{
	static const char line[] = "CONNECT 65\n";
	int fd = vsock_guest_client(&g);

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		ck_assert(vsock_guest_is_quiet(&g));
		vsock_host_write(fd, line + i, 1);
	}
	vsock_guest_recv(&g, &hdr, NULL);
	ck_assert_uint_eq(hdr.op, OP(REQUEST));
	ck_assert_uint_eq(hdr.dst_port, 65);
	close(fd);
}
END_TEST

START_TEST(what_comes_behind_the_line_is_the_first_the_guest_reads)
{
	struct link l = {.guest_port = 9, .fd = vsock_guest_client(&g)};

	vsock_host_write(l.fd, "CONNECT 9\nearly, ", 17);
	vsock_guest_recv(&g, &hdr, NULL);
	l.host_port = hdr.src_port;
	vsock_host_write(l.fd, "and late", 8);
	ck_assert(vsock_guest_is_quiet(&g));
	say(&g, OP(RESPONSE), &l);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.op, OP(RW));
	ck_assert_uint_eq(hdr.len, 7);
	ck_assert_mem_eq(buf, "early, ", 7);
	vsock_guest_recv(&g, &hdr, buf);
	ck_assert_uint_eq(hdr.op, OP(RW));
	ck_assert_uint_eq(hdr.len, 8);
	ck_assert_mem_eq(buf, "and late", 8);
	close(l.fd);
}
END_TEST

START_TEST(a_client_that_came_before_the_driver_is_served)
{
	struct link l = {.guest_port = 5};

	vsock_guest_reset(&g);
	l.fd = vsock_guest_client(&g);
	vsock_host_write(l.fd, "CONNECT 5\n", 10);
	vsock_guest_up(&g, GUEST_V1, 4);
	vsock_guest_recv(&g, &hdr, NULL);
	ck_assert_uint_eq(hdr.op, OP(REQUEST));
	ck_assert_uint_eq(hdr.dst_port, 5);
	close(l.fd);
}
END_TEST

START_TEST(a_client_waits_no_longer_than_agreed)
{
	struct link l;
	int fd;

	if (_i == 0) {
		/* for its own first line */
		fd = vsock_guest_client(&g);
		vsock_host_write(fd, "CONNECT", 7);
	} else {
		/* for the guest's answer */
		l = begin_client(&g, 7);
		fd = l.fd;
		hear(&g, OP(RST), &l, &hdr);
	}
	ck_assert(vsock_host_is_closed(fd));
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.refused, 1);
	close(fd);
}
END_TEST

START_TEST(an_open_connection_has_all_the_time_in_the_world)
{
	struct link l = open_client(&g, 7);

	usleep(150000);
	send_bytes(&g, &l, "x", 1);
	vsock_host_read(l.fd, buf, 1);
	ck_assert_uint_eq(g.stats.connections, 1);
	close(l.fd);
}
END_TEST

/* ---- the guest's own ---- */

START_TEST(a_guest_is_connected_by_the_daemon)
{
	struct link l = {52, 1000, -1};
	uint64_t token = begin_guest(&g, &l);
	uint32_t port;
	int pair[2];

	ck_assert_uint_eq(g.wakes, 1);
	ck_assert(!vsock_next_connect(g.dev, &token, &port));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	vsock_connected(g.dev, token, pair[1]);
	hear(&g, OP(RESPONSE), &l, &hdr);
	ck_assert_uint_eq(g.stats.opened, 1);
	close(pair[0]);
}
END_TEST

/* Whoever listens there hears of it like of any other. */
START_TEST(a_connection_to_one_port_says_that_the_guest_is_ready)
{
	struct link other = {76, 1000, -1}, l = {77, 1000, -1};

	vsock_connected(g.dev, begin_guest(&g, &other), -1);
	hear(&g, OP(RST), &other, &hdr);
	ck_assert_uint_eq(g.ready, 0);
	vsock_connected(g.dev, begin_guest(&g, &l), -1);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert_uint_eq(g.ready, 1);
}
END_TEST

START_TEST(a_port_without_a_listener_is_refused)
{
	struct link l = {52, 1000, -1};

	vsock_connected(g.dev, begin_guest(&g, &l), -1);
	hear(&g, OP(RST), &l, &hdr);
	wait_count(&g.stats.connections, 0);
	ck_assert_uint_eq(g.stats.refused, 1);
}
END_TEST

START_TEST(an_answer_nobody_waits_for_is_closed)
{
	struct link l = {52, 1000, -1};
	uint64_t token = begin_guest(&g, &l);
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	switch (_i) {
	case 0: /* the guest gave up */
		say(&g, OP(RST), &l);
		break;
	case 1: /* and another has its place */
		say(&g, OP(RST), &l);
		begin_guest(&g, &l);
		break;
	case 2: /* no such place */
		token = 4095;
		break;
	case 3:
		token = UINT32_MAX;
		break;
	default: /* one that was answered */
		vsock_connected(g.dev, token, dup(pair[1]));
		hear(&g, OP(RESPONSE), &l, &hdr);
		break;
	}
	vsock_connected(g.dev, token, pair[1]);
	if (_i < 4)
		ck_assert(vsock_host_is_closed(pair[0]));
	else
		ck_assert(recv(pair[0], buf, 1, MSG_DONTWAIT) < 0 &&
			  errno == EAGAIN);
	ck_assert(vsock_guest_is_quiet(&g));
	close(pair[0]);
}
END_TEST

START_TEST(the_daemon_is_asked_for_a_few_at_a_time)
{
	uint64_t tokens[VSOCK_MAX_CONNECTING + 1];
	struct link l = {52, 0, -1};
	uint32_t port;
	unsigned wakes;

	for (l.guest_port = 0; l.guest_port < 20; l.guest_port++)
		say(&g, OP(REQUEST), &l);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTING; i++)
		ck_assert(vsock_next_connect(g.dev, &tokens[i], &port));
	ck_assert(!vsock_next_connect(g.dev, &tokens[16], &port));
	wakes = g.wakes;
	vsock_connected(g.dev, tokens[3], -1);
	ck_assert_uint_gt(g.wakes, wakes);
	ck_assert(vsock_next_connect(g.dev, &tokens[16], &port));
	ck_assert(!vsock_next_connect(g.dev, &tokens[16], &port));
}
END_TEST

START_TEST(what_the_guest_gives_up_is_not_asked_for)
{
	struct link l = {52, 1000, -1};
	uint64_t token;
	uint32_t port;

	say(&g, OP(REQUEST), &l);
	say(&g, OP(RST), &l);
	ck_assert(!vsock_next_connect(g.dev, &token, &port));
	ck_assert_uint_eq(g.stats.connections, 0);
}
END_TEST

START_TEST(a_daemon_that_does_not_answer_is_a_refusal)
{
	struct link l = {52, 1000, -1};

	begin_guest(&g, &l);
	hear(&g, OP(RST), &l, &hdr);
	wait_count(&g.stats.connections, 0);
}
END_TEST

START_TEST(there_are_only_so_many_connections)
{
	struct link l = {52, 0, -1};
	int fd;

	for (; l.guest_port < VSOCK_MAX_CONNECTIONS; l.guest_port++)
		say(&g, OP(REQUEST), &l);
	ck_assert(vsock_guest_is_quiet(&g));
	ck_assert_uint_eq(g.stats.connections, VSOCK_MAX_CONNECTIONS);
	say(&g, OP(REQUEST), &l);
	hear(&g, OP(RST), &l, &hdr);
	fd = vsock_guest_client(&g);
	ck_assert(vsock_host_is_closed(fd));
	close(fd);
	ck_assert_uint_eq(g.stats.refused, 2);
	/* Each of them is one that can be found, and given up. */
	for (l.guest_port = 0; l.guest_port < VSOCK_MAX_CONNECTIONS;
		l.guest_port++)
		say(&g, OP(RST), &l);
	ck_assert_uint_eq(g.stats.connections, 0);
	begin_guest(&g, &l);
}
END_TEST

/* ---- resets ---- */

START_TEST(a_reset_closes_everything)
{
	unsigned before = open_fds();
	struct link a = open_client(&g, 1), b = begin_client(&g, 2);
	struct link c = open_guest(&g, 3, 3), e = {4, 4, -1};
	int hello = vsock_guest_client(&g);

	begin_guest(&g, &e);
	/* Bytes on their way in both directions. */
	send_bytes(&g, &c, buf, 1000);
	vsock_host_write(a.fd, buf, 1000);
	vsock_guest_reset(&g);
	ck_assert_uint_eq(g.stats.connections, 0);
	ck_assert(vsock_host_is_closed(b.fd));
	ck_assert(vsock_host_is_closed(hello));
	close(a.fd);
	close(b.fd);
	close(c.fd);
	close(hello);
	ck_assert_uint_eq(open_fds(), before);
	vsock_guest_up(&g, GUEST_V1, 16);
	a = open_client(&g, 1);
	close(a.fd);
}
END_TEST

START_TEST(a_reset_in_the_middle_of_traffic_ends_it)
{
	char *big = calloc(1, GUEST_TX_BYTES);

	for (unsigned i = 0; i < 20; i++) {
		struct link a = open_client(&g, 1), b = open_client(&g, 2);
		const uint32_t lens[] = {44 + 4000, 0};

		(void)send(a.fd, big, GUEST_TX_BYTES, MSG_DONTWAIT);
		for (unsigned k = 0; k < 8; k++) {
			struct virtio_vsock_hdr h = {.src_cid = GUEST_CID,
				.dst_cid = 2,
				.src_port = b.guest_port,
				.dst_port = b.host_port,
				.len = 4000,
				.type = VIRTIO_VSOCK_TYPE_STREAM,
				.op = OP(RW),
				.buf_alloc = 1 << 20};

			memcpy(vsock_guest_tx_memory(&g), &h, sizeof(h));
			vsock_guest_offer(&g, &g.tx, lens, false);
		}
		vsock_guest_reset(&g);
		ck_assert_uint_eq(g.stats.connections, 0);
		close(a.fd);
		close(b.fd);
		vsock_guest_up(&g, GUEST_V1, 16);
	}
	free(big);
}
END_TEST

START_TEST(a_queue_never_set_up_needs_reset)
{
	const uint32_t steps[] = {1, 3, 11, 15};

	vsock_guest_reset(&g);
	for (unsigned i = 0; i < 4; i++) {
		uint32_t one = 1, sel = 1;

		if (steps[i] == 11) {
			virtio_mmio_write(
				g.m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, &sel, 4);
			virtio_mmio_write(
				g.m, VIRTIO_MMIO_DRIVER_FEATURES, &one, 4);
		}
		virtio_mmio_write(g.m, VIRTIO_MMIO_STATUS, &steps[i], 4);
	}
	ck_assert_uint_eq(g.needs_reset, 1);
}
END_TEST

START_TEST(a_malformed_ring_needs_reset_and_nothing_more)
{
	struct guest_queue *q = _i ? &g.tx : &g.rx;
	struct link l = open_client(&g, 1);
	uint16_t *avail = q->avail;

	/* A head that is no descriptor. */
	avail[2 + avail[1] % GUEST_QUEUE] = GUEST_QUEUE;
	__atomic_store_n(&avail[1], (uint16_t)(avail[1] + 1), __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 17; i++)
		vsock_host_write(l.fd, "x", 1);
	virtio_mmio_write(
		g.m, VIRTIO_MMIO_QUEUE_NOTIFY, &(uint32_t){(uint32_t)_i}, 4);
	for (unsigned i = 0; i < 16 && _i == 0; i++) {
		vsock_guest_sync(&g);
		vsock_host_write(l.fd, "x", 1);
	}
	vsock_guest_sync(&g);
	ck_assert_uint_ge(g.needs_reset, 1);
	vsock_guest_reset(&g);
	ck_assert_uint_eq(g.stats.connections, 0);
	close(l.fd);
	vsock_guest_up(&g, GUEST_V1, 4);
	l = open_client(&g, 1);
	close(l.fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("vsock");
	TCase *clients = tcase_create("clients");
	TCase *guests = tcase_create("guests");
	TCase *resets = tcase_create("resets");
	TCase *impatient = tcase_create("impatient");

	tcase_add_checked_fixture(clients, setup, teardown);
	tcase_add_test(clients, the_guest_reads_its_cid);
	tcase_add_test(
		clients, a_client_is_told_its_port_when_the_guest_accepts);
	tcase_add_test(clients, clients_have_ports_of_their_own);
	tcase_add_test(clients, a_client_is_closed_when_the_guest_refuses);
	tcase_add_loop_test(clients, a_first_line_names_a_port_or_is_refused, 0,
		sizeof(lines) / sizeof(lines[0]));
	tcase_add_test(clients, a_line_too_long_is_refused_before_it_ends);
	tcase_add_test(clients, a_first_line_may_come_byte_by_byte);
	tcase_add_test(clients,
		what_comes_behind_the_line_is_the_first_the_guest_reads);
	tcase_add_test(clients, a_client_that_came_before_the_driver_is_served);
	suite_add_tcase(s, clients);

	tcase_add_checked_fixture(impatient, setup_impatient, teardown);
	tcase_add_loop_test(
		impatient, a_client_waits_no_longer_than_agreed, 0, 2);
	tcase_add_test(
		impatient, an_open_connection_has_all_the_time_in_the_world);
	tcase_add_test(impatient, a_daemon_that_does_not_answer_is_a_refusal);
	suite_add_tcase(s, impatient);

	tcase_add_checked_fixture(guests, setup, teardown);
	tcase_add_test(guests, a_guest_is_connected_by_the_daemon);
	tcase_add_test(
		guests, a_connection_to_one_port_says_that_the_guest_is_ready);
	tcase_add_test(guests, a_port_without_a_listener_is_refused);
	tcase_add_loop_test(guests, an_answer_nobody_waits_for_is_closed, 0, 5);
	tcase_add_test(guests, the_daemon_is_asked_for_a_few_at_a_time);
	tcase_add_test(guests, what_the_guest_gives_up_is_not_asked_for);
	tcase_add_test(guests, there_are_only_so_many_connections);
	suite_add_tcase(s, guests);

	tcase_add_checked_fixture(resets, setup, teardown);
	tcase_add_test(resets, a_reset_closes_everything);
	tcase_add_test(resets, a_reset_in_the_middle_of_traffic_ends_it);
	tcase_add_test(resets, a_queue_never_set_up_needs_reset);
	tcase_add_loop_test(
		resets, a_malformed_ring_needs_reset_and_nothing_more, 0, 2);
	suite_add_tcase(s, resets);
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
