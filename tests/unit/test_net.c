/*
 * virtio-net on taps that are sockets: each datagram a packet with its vnet
 * header, as a tap gives and takes them, and any that a tap never would.
 */

#include "base/clock.h"
#include "net_driver.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(n) (1ull << (n))
#define V1 BIT(VIRTIO_F_VERSION_1)
#define F_EVENT BIT(VIRTIO_RING_F_EVENT_IDX)
#define F_INDIRECT BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define F_MRG BIT(VIRTIO_NET_F_MRG_RXBUF)
#define F_STATUS BIT(VIRTIO_NET_F_STATUS)
#define F_CTRL BIT(VIRTIO_NET_F_CTRL_VQ)
#define F_MQ BIT(VIRTIO_NET_F_MQ)
#define F_CTRL_OFFLOADS BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
#define F_GUEST_CSUM BIT(VIRTIO_NET_F_GUEST_CSUM)
#define F_GUEST_TSO4 BIT(VIRTIO_NET_F_GUEST_TSO4)
#define F_GUEST_TSO6 BIT(VIRTIO_NET_F_GUEST_TSO6)
#define F_GUEST_ECN BIT(VIRTIO_NET_F_GUEST_ECN)
#define F_GUEST (F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN)
#define F_HOST                                                                 \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |                \
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))
#define TAP (F_GUEST | F_HOST)
#define ALL (V1 | F_MRG | F_STATUS | F_CTRL | F_GUEST)

#define RX 0
#define TX 1
#define HDR 12u
#define BIG (65536u + 14 + 8 + HDR)

static struct nd d;
static int taps[8], peers[8];
static unsigned n_pairs;
static uint8_t packet[BIG], got[BIG + 1];

static void make(struct net_config config)
{
	int size = 4 << 20;

	n_pairs = config.n_pairs;
	for (unsigned i = 0; i < n_pairs; i++) {
		int fds[2];

		ck_assert_int_eq(
			socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds),
			0);
		taps[i] = fds[0];
		peers[i] = fds[1];
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size,
			sizeof(size));
	}
	config.tap_fds = taps;
	nd_init(&d, config);
}

static void setup(void)
{
	for (unsigned i = 0; i < sizeof(packet); i++)
		packet[i] = (uint8_t)(i * 7 + i / 251);
	memset(packet, 0, HDR);
	make((struct net_config){.n_pairs = 1, .tap_features = TAP});
}

static void setup_pairs(void)
{
	make((struct net_config){.n_pairs = 3, .tap_features = TAP});
}

static void teardown(void)
{
	nd_fini(&d);
	for (unsigned i = 0; i < n_pairs; i++) {
		close(taps[i]);
		close(peers[i]);
	}
}

/* From the host: a packet of so many bytes, its header included. */
static void host_sends(unsigned tap, size_t len)
{
	ck_assert_int_eq(send(peers[tap], packet, len, 0), (ssize_t)len);
}

/* To the host, within seconds: the length, header included. */
static size_t host_gets(unsigned tap)
{
	uint64_t end = clock_ns() + 10000000000u;
	ssize_t n;

	while ((n = recv(peers[tap], got, sizeof(got), 0)) < 0)
		ck_assert_msg(clock_ns() < end, "no packet");
	return (size_t)n;
}

static bool host_gets_nothing(unsigned tap)
{
	nd_pause_ms(20);
	return recv(peers[tap], got, sizeof(got), 0) < 0;
}

static void offer_rx(unsigned first, unsigned n, uint32_t len)
{
	for (unsigned i = first; i < first + n; i++)
		nd_offer_rx(&d, RX, (uint16_t)i, len);
	nd_kick(&d, RX);
}

/* The next packet in buffers of one piece each, put together in got. */
static size_t guest_gets(unsigned q, unsigned *ret_n_bufs, unsigned *ret_first)
{
	uint16_t n_bufs = UINT16_MAX;
	size_t sum = 0;

	for (unsigned i = 0; i < n_bufs; i++) {
		uint32_t len, id = nd_wait(&d, q, &len);

		memcpy(got + sum, nd_ptr(&d, d.q[q].desc[id].addr), len);
		if (sum + len >= HDR)
			memcpy(&n_bufs, got + 10, 2);
		if (i == 0)
			*ret_first = id;
		ck_assert_uint_le(len, d.q[q].desc[id].len);
		/* All but the last are full. */
		if (i < n_bufs - 1u)
			ck_assert_uint_eq(len, d.q[q].desc[id].len);
		sum += len;
	}
	*ret_n_bufs = n_bufs;
	return sum;
}

/* What it is */

START_TEST(it_offers_what_its_configuration_says)
{
	static const uint8_t mac[6] = {6, 0, 1, 2, 3, 4};
	struct net_config c = {.n_pairs = _i & 1 ? 3 : 1,
		.has_mac = _i & 2,
		.mtu = _i & 4 ? 1400 : 0,
		.tap_features = _i & 8 ? TAP : F_HOST | F_MQ};
	uint64_t want =
		V1 | F_EVENT | F_INDIRECT | F_MRG | F_STATUS | F_CTRL | F_HOST;
	struct virtio_net_config space = {.status = 0};

	memcpy(c.mac, mac, 6);
	want |= _i & 1 ? F_MQ : 0;
	want |= _i & 2 ? BIT(VIRTIO_NET_F_MAC) : 0;
	want |= _i & 4 ? BIT(VIRTIO_NET_F_MTU) : 0;
	want |= _i & 8 ? F_GUEST | F_CTRL_OFFLOADS : 0;
	make(c);
	ck_assert_uint_eq(d.dev->features, want);
	ck_assert_uint_eq(driver_read(d.m, VIRTIO_MMIO_DEVICE_ID), 1);
	ck_assert_uint_eq(
		driver_read(d.m, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQ_MAX);
	for (unsigned i = 0; i < 12; i++)
		virtio_mmio_read(
			d.m, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&space + i, 1);
	ck_assert_int_eq(memcmp(space.mac, mac, 6) == 0, (_i & 2) != 0);
	ck_assert_uint_eq(space.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(space.max_virtqueue_pairs, _i & 1 ? 3 : 0);
	ck_assert_uint_eq(space.mtu, _i & 4 ? 1400 : 0);
	teardown();
}
END_TEST

START_TEST(pairs_of_queues_are_from_1_to_8)
{
	struct virtio_dev *dev;
	struct error err;

	ck_assert_int_eq(net_create(&dev, NULL,
				 &(struct net_config){
					 .n_pairs = _i ? NET_MAX_PAIRS + 1 : 0},
				 &err),
		-EINVAL);
}
END_TEST

START_TEST(it_does_not_start_without_its_first_pair)
{
	nd_up(&d, ALL, (unsigned)_i);
	ck_assert_uint_eq(
		nd_status(&d), 15 | (_i < 2 ? VIRTIO_CONFIG_S_NEEDS_RESET : 0));
}
END_TEST

/* To the host */

START_TEST(what_is_sent_reaches_the_tap_with_its_header)
{
	uint32_t len;

	nd_up(&d, ALL, 3);
	nd_offer_tx(&d, TX, 5, packet + HDR, 100);
	((uint8_t *)nd_ptr(&d, nd_place(TX, 5)))[3] = 0x77;
	nd_kick(&d, TX);
	ck_assert_uint_eq(host_gets(0), 112);
	ck_assert_uint_eq(got[3], 0x77);
	ck_assert_mem_eq(got + HDR, packet + HDR, 100);
	ck_assert_uint_eq(nd_wait(&d, TX, &len), 5);
	ck_assert_uint_eq(len, 0);
	ck_assert(nd_counts(&d.stats.tx_packets, 1));
	ck_assert_uint_eq(d.stats.tx_bytes, 100);
	ck_assert_uint_eq(d.stats.tx_dropped + d.stats.malformed, 0);
}
END_TEST

/* Header and frame cut anywhere. */
static const uint32_t cuts[] = {1, 5, 11, 12, 13, 26, 111};

START_TEST(a_packet_may_lie_in_any_pieces)
{
	struct driver_piece p[130] = {{0}};
	uint64_t at = nd_place(TX, 0);
	uint32_t cut = cuts[_i], n = 0, total = 62, used;

	memcpy(nd_ptr(&d, at), packet, total);
	for (uint32_t off = 0; off < total; off += cut)
		p[n++] = (struct driver_piece){
			at + off, total - off < cut ? total - off : cut, false};
	nd_up(&d, ALL, 3);
	nd_offer(&d, TX, 0, p);
	nd_kick(&d, TX);
	ck_assert_uint_eq(host_gets(0), total);
	ck_assert_mem_eq(got, packet, total);
	nd_wait(&d, TX, &used);
}
END_TEST

static const struct {
	uint32_t readable, writable;
	bool good;
} shapes[] = {{12 + 14, 0, true}, {12 + 13, 0, false}, {12, 0, false},
	{11, 0, false}, {1, 0, false}, {0, 64, false}, {64, 1, false},
	{64, 4096, false}, {BIG, 0, true}, {BIG + 1, 0, false}};

START_TEST(what_is_no_packet_is_dropped_counted_and_given_back)
{
	struct driver_piece p[] = {{ND_DATA, shapes[_i].readable, false},
		{ND_DATA + 0x20000, shapes[_i].writable, true}, {0}};
	uint32_t len, size = 4 << 20;

	setsockopt(taps[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	nd_up(&d, ALL, 3);
	nd_offer(&d, TX, 7, p[0].len ? p : p + 1);
	nd_kick(&d, TX);
	ck_assert_uint_eq(nd_wait(&d, TX, &len), 7);
	ck_assert_uint_eq(len, 0);
	ck_assert(nd_counts(&d.stats.malformed, !shapes[_i].good));
	ck_assert_uint_eq(d.stats.tx_dropped, !shapes[_i].good);
	ck_assert_uint_eq(d.stats.tx_packets, shapes[_i].good);
	if (shapes[_i].good)
		ck_assert_uint_eq(host_gets(0), shapes[_i].readable);
	/* The next one is fine. */
	nd_offer_tx(&d, TX, 9, packet, 60);
	nd_kick(&d, TX);
	ck_assert_uint_eq(nd_wait(&d, TX, &len), 9);
	ck_assert_uint_eq(host_gets(0), 72);
}
END_TEST

/* More than a batch, and more than the socket takes: the host reads one by one
 * and finds all, in order. */
START_TEST(a_tap_that_is_full_delays_and_loses_nothing)
{
	uint32_t len;

	nd_up(&d, ALL | (_i ? F_EVENT : 0), 3);
	for (unsigned round = 0; round < 3; round++) {
		for (uint16_t i = 0; i < ND_SIZE; i++) {
			packet[HDR] = (uint8_t)i;
			nd_offer_tx(&d, TX, i, packet + HDR, 60);
		}
		nd_kick(&d, TX);
		for (unsigned i = 0; i < ND_SIZE; i++) {
			host_gets(0);
			ck_assert_uint_eq(got[HDR], i);
		}
		for (unsigned i = 0; i < ND_SIZE; i++)
			ck_assert_uint_eq(nd_wait(&d, TX, &len), i);
	}
	ck_assert(nd_counts(&d.stats.tx_packets, 3ull * ND_SIZE));
	ck_assert_uint_eq(d.stats.tx_dropped, 0);
}
END_TEST

/* Chains so long that a batch is full before it has its number of packets. */
START_TEST(many_long_chains_are_all_sent)
{
	struct driver_piece p[40] = {{0}};
	uint32_t len;

	nd_up(&d, ALL | F_INDIRECT, 3);
	for (unsigned i = 0; i < 39; i++)
		p[i] = (struct driver_piece){
			nd_place(TX, 0) + 16ull * i, 16, false};
	/* One table for all. */
	nd_offer(&d, TX, 20, p);
	memcpy(nd_ptr(&d, nd_place(TX, 100)), &d.q[TX].desc[20],
		39 * sizeof(struct vring_desc));
	for (unsigned i = 0; i < 39; i++) {
		struct vring_desc *t = nd_ptr(&d, nd_place(TX, 100));

		t[i].next = (uint16_t)(i + 1);
	}
	d.q[TX].avail->idx = 0;
	for (uint16_t i = 0; i < ND_SIZE; i++) {
		d.q[TX].desc[i] = (struct vring_desc){.addr = nd_place(TX, 100),
			.len = 39 * sizeof(struct vring_desc),
			.flags = VRING_DESC_F_INDIRECT};
		d.q[TX].avail->ring[i] = i;
	}
	__atomic_store_n(&d.q[TX].avail->idx, ND_SIZE, __ATOMIC_SEQ_CST);
	nd_kick(&d, TX);
	for (unsigned i = 0; i < ND_SIZE; i++)
		ck_assert_uint_eq(host_gets(0), 624);
	for (unsigned i = 0; i < ND_SIZE; i++)
		ck_assert_uint_eq(nd_wait(&d, TX, &len), i);
}
END_TEST

/* From the host */

START_TEST(what_comes_lands_in_a_buffer)
{
	unsigned n, first;

	nd_up(&d, ALL, 3);
	offer_rx(0, 4, 2048);
	for (unsigned i = 0; i < 4; i++) {
		host_sends(0, 112);
		ck_assert_uint_eq(guest_gets(RX, &n, &first), 112);
		ck_assert_uint_eq(n, 1);
		ck_assert_mem_eq(got + HDR, packet + HDR, 100);
	}
	ck_assert_uint_eq(d.stats.rx_packets, 4);
	ck_assert_uint_eq(d.stats.rx_bytes, 400);
	ck_assert_uint_eq(d.stats.rx_dropped, 0);
}
END_TEST

static const struct {
	uint32_t buffer;
	size_t packet;
} merges[] = {{1, 40}, {7, 63}, {12, 12}, {12, 24}, {64, 64}, {64, 65},
	{256, 1526}, {1526, 1527}, {1530, 9000}, {4096, 9000}, {2048, 65562},
	{4096, BIG}, {4096, 4096}, {4096, 8192}, {1024, 61440}};

START_TEST(a_packet_is_spread_over_as_many_buffers_as_it_needs)
{
	uint32_t buffer = merges[_i].buffer;
	unsigned n, first;

	nd_up(&d, ALL, 3);
	offer_rx(0, ND_SIZE, buffer);
	host_sends(0, merges[_i].packet);
	ck_assert_uint_eq(guest_gets(RX, &n, &first), merges[_i].packet);
	ck_assert_uint_eq(n, (merges[_i].packet + buffer - 1) / buffer);
	ck_assert_mem_eq(got + HDR, packet + HDR, merges[_i].packet - HDR);
	ck_assert_uint_eq(d.stats.rx_dropped, 0);
}
END_TEST

/* Large and small ones in turn: what a read does not need, others get, and
 * none is lost or used twice. */
START_TEST(buffers_that_were_not_needed_are_used_later)
{
	static const size_t sizes[] = {9000, 60, 60, 30000, 1500, 60, 9000};
	bool out[ND_SIZE];
	uint32_t len;

	nd_up(&d, ALL, 3);
	offer_rx(0, ND_SIZE, 1536);
	memset(out, 1, sizeof(out));
	for (unsigned i = 0; i < 300; i++) {
		size_t size = sizes[i % 7], sum = 0;

		host_sends(0, size);
		while (sum < size) {
			uint32_t id = nd_wait(&d, RX, &len);

			ck_assert_uint_lt(id, ND_SIZE);
			ck_assert(out[id]);
			out[id] = false;
			ck_assert_mem_eq(
				(uint8_t *)nd_ptr(&d, nd_place(RX, id)) +
					(sum ? 0 : HDR),
				packet + sum + (sum ? 0 : HDR),
				len - (sum ? 0 : HDR));
			sum += len;
		}
		ck_assert_uint_eq(sum, size);
		for (unsigned b = 0; b < ND_SIZE; b++) {
			if (!out[b])
				nd_offer_rx(&d, RX, (uint16_t)b, 1536);
			out[b] = true;
		}
		nd_kick(&d, RX);
	}
	ck_assert_uint_eq(d.stats.rx_dropped, 0);
}
END_TEST

START_TEST(packets_keep_their_order)
{
	unsigned n, first, sent = 0, seen = 0;

	nd_up(&d, ALL | F_EVENT, 3);
	offer_rx(0, ND_SIZE, 2048);
	while (seen < 2000) {
		memcpy(packet + HDR, &sent, sizeof(sent));
		if (send(peers[0], packet, 80, 0) == 80) {
			sent++;
			continue;
		}
		while (seen < sent) {
			ck_assert_uint_eq(guest_gets(RX, &n, &first), 80);
			ck_assert_mem_eq(got + HDR, &seen, sizeof(seen));
			nd_offer_rx(&d, RX, (uint16_t)first, 2048);
			nd_kick(&d, RX);
			seen++;
		}
	}
}
END_TEST

START_TEST(a_packet_too_large_for_all_buffers_is_dropped)
{
	unsigned n, first;

	nd_up(&d, ALL, 3);
	offer_rx(0, 4, 100);
	host_sends(0, 401);
	ck_assert(nd_counts(&d.stats.rx_dropped, 1));
	host_sends(0, 400);
	ck_assert_uint_eq(guest_gets(RX, &n, &first), 400);
	ck_assert_uint_eq(n, 4);
}
END_TEST

START_TEST(without_mergeable_buffers_a_packet_has_one)
{
	unsigned n, first;

	nd_up(&d, ALL & ~F_MRG, 3);
	offer_rx(0, 4, 200);
	host_sends(0, 201);
	ck_assert(nd_counts(&d.stats.rx_dropped, 1));
	host_sends(0, 200);
	ck_assert_uint_eq(guest_gets(RX, &n, &first), 200);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(d.stats.rx_packets, 1);
}
END_TEST

START_TEST(packets_wait_in_the_tap_until_there_are_buffers)
{
	unsigned n, first;
	uint64_t before;

	nd_up(&d, ALL | (_i ? F_EVENT : 0), 3);
	for (unsigned i = 0; i < 5; i++)
		host_sends(0, 60 + i);
	nd_pause_ms(20);
	before = worker_submits(d.worker);
	nd_pause_ms(20);
	ck_assert_uint_eq(worker_submits(d.worker), before);
	for (unsigned i = 0; i < 5; i++) {
		offer_rx(i, 1, 2048);
		ck_assert_uint_eq(guest_gets(RX, &n, &first), 60 + i);
	}
}
END_TEST

START_TEST(a_buffer_that_can_be_read_is_given_back_empty)
{
	struct driver_piece p[] = {{nd_place(RX, 0), 64, false},
		{nd_place(RX, 1), 2048, _i != 0}, {0}};
	unsigned n, first;
	uint32_t len;

	nd_up(&d, ALL, 3);
	nd_offer(&d, RX, 0, p);
	offer_rx(8, 2, 2048);
	ck_assert_uint_eq(nd_wait(&d, RX, &len), 0);
	ck_assert_uint_eq(len, 0);
	host_sends(0, 100);
	ck_assert_uint_eq(guest_gets(RX, &n, &first), 100);
	ck_assert_uint_ge(first, 8);
	ck_assert_uint_eq(d.stats.malformed, 1);
}
END_TEST

/* What the driver asked for */

static const struct {
	uint64_t acked;
	uint8_t flags, gso;
	bool passes;
	uint8_t flags_after;
} headers[] = {
	{F_GUEST, 1, VIRTIO_NET_HDR_GSO_TCPV4, true, 1},
	{F_GUEST, 2, VIRTIO_NET_HDR_GSO_NONE, true, 2},
	{F_GUEST_CSUM | F_GUEST_TSO4, 1, VIRTIO_NET_HDR_GSO_TCPV4, true, 1},
	{F_GUEST_CSUM | F_GUEST_TSO4, 1, VIRTIO_NET_HDR_GSO_TCPV6, false, 0},
	{F_GUEST_CSUM | F_GUEST_TSO6, 1, VIRTIO_NET_HDR_GSO_TCPV6, true, 1},
	{F_GUEST_CSUM | F_GUEST_TSO6, 1, VIRTIO_NET_HDR_GSO_TCPV4, false, 0},
	{F_GUEST_CSUM | F_GUEST_TSO4, 1,
		VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, false, 0},
	{F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_ECN, 1,
		VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, true, 1},
	{F_GUEST_CSUM, 1, VIRTIO_NET_HDR_GSO_NONE, true, 1},
	{F_GUEST_CSUM, 1, VIRTIO_NET_HDR_GSO_UDP, false, 0},
	{F_GUEST_CSUM, 2, VIRTIO_NET_HDR_GSO_NONE, true, 2},
	{0, 0, VIRTIO_NET_HDR_GSO_NONE, true, 0},
	{0, 1, VIRTIO_NET_HDR_GSO_NONE, false, 0},
	/* Nothing may be told of checksums. */
	{0, 2, VIRTIO_NET_HDR_GSO_NONE, true, 0},
	{0, 0, VIRTIO_NET_HDR_GSO_TCPV4, false, 0},
};

START_TEST(a_packet_the_driver_did_not_ask_for_is_dropped)
{
	unsigned n, first;

	nd_up(&d, (ALL & ~F_GUEST) | headers[_i].acked, 3);
	offer_rx(0, 2, 2048);
	packet[0] = headers[_i].flags;
	packet[1] = headers[_i].gso;
	host_sends(0, 100);
	if (!headers[_i].passes) {
		ck_assert(nd_counts(&d.stats.rx_dropped, 1));
		packet[0] = packet[1] = 0;
		host_sends(0, 101);
	}
	ck_assert_uint_eq(guest_gets(RX, &n, &first), 101 - headers[_i].passes);
	ck_assert_uint_eq(got[0], headers[_i].flags_after);
	ck_assert_uint_eq(got[1], headers[_i].passes ? headers[_i].gso : 0);
	ck_assert_mem_eq(got + HDR, packet + HDR, 80);
	packet[0] = packet[1] = 0;
}
END_TEST

/* The control queue */

static const struct {
	uint8_t class, cmd;
	uint8_t data[8];
	uint8_t len;
	bool ok;
} commands[] = {
	{VIRTIO_NET_CTRL_MQ, 0, {1}, 2, true},
	{VIRTIO_NET_CTRL_MQ, 0, {3}, 2, true},
	{VIRTIO_NET_CTRL_MQ, 0, {0}, 2, false},
	{VIRTIO_NET_CTRL_MQ, 0, {4}, 2, false},
	{VIRTIO_NET_CTRL_MQ, 0, {1, 1}, 2, false},
	{VIRTIO_NET_CTRL_MQ, 0, {1}, 1, false},
	{VIRTIO_NET_CTRL_MQ, 0, {1}, 3, false},
	{VIRTIO_NET_CTRL_MQ, 0, {1}, 0, false},
	{VIRTIO_NET_CTRL_MQ, 1, {1}, 2, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0}, 8, true},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0x82}, 8, true},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0x82, 4}, 8, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {1}, 8, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0, 0, 0, 0, 1}, 8, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0}, 7, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0}, 4, false},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, {0}, 8, false},
	{VIRTIO_NET_CTRL_RX, 0, {1}, 1, false},
	{VIRTIO_NET_CTRL_MAC, 1, {1}, 6, false},
	{255, 255, {0}, 8, false},
};

START_TEST(a_command_is_obeyed_or_refused)
{
	nd_up(&d, ALL | F_MQ | F_CTRL_OFFLOADS, 7);
	ck_assert_uint_eq(nd_ctrl(&d, 6, commands[_i].class, commands[_i].cmd,
				  commands[_i].data, commands[_i].len),
		commands[_i].ok ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
}
END_TEST

START_TEST(without_its_feature_a_command_is_refused)
{
	uint8_t zero[8] = {0}, one[2] = {1};

	/* And without MQ, the control queue is the third. */
	nd_up(&d, ALL, 3);
	ck_assert_uint_eq(
		nd_ctrl(&d, 2, VIRTIO_NET_CTRL_MQ, 0, one, 2), VIRTIO_NET_ERR);
	ck_assert_uint_eq(
		nd_ctrl(&d, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, zero, 8),
		VIRTIO_NET_ERR);
}
END_TEST

/* Pieces of commands: readable bytes, writable bytes, what comes back. */
static const struct {
	uint32_t readable, writable, used;
} odd_commands[] = {{1, 1, 1}, {2, 1, 1}, {0, 1, 1}, {2, 0, 0}, {4, 0, 0},
	{4, 100, 1}, {1, 0, 0}};

START_TEST(a_command_in_any_shape_is_given_back)
{
	uint64_t at = nd_place(2, 0);
	struct driver_piece p[] = {{at, odd_commands[_i].readable, false},
		{at + 64, odd_commands[_i].writable, true}, {0}};
	uint32_t len;

	nd_up(&d, ALL, 3);
	if (!p[0].len)
		p[0] = p[1], p[1].len = 0;
	nd_offer(&d, 2, 3, p);
	nd_kick(&d, 2);
	ck_assert_uint_eq(nd_wait(&d, 2, &len), 3);
	ck_assert_uint_eq(len, odd_commands[_i].used);
	ck_assert_uint_eq(d.stats.malformed, odd_commands[_i].readable < 2);
}
END_TEST

START_TEST(packets_come_on_as_many_queues_as_the_driver_wants)
{
	static const unsigned where[4][3] = {
		{0}, {0, 0, 0}, {0, 2, 0}, {0, 2, 4}};
	uint16_t pairs = (uint16_t)_i;
	unsigned n, first;

	nd_up(&d, ALL | F_MQ, 7);
	for (unsigned q = 0; q < 6; q += 2)
		for (uint16_t i = 0; i < 32; i++)
			nd_offer_rx(&d, q, i, 2048);
	if (pairs != 1)
		ck_assert_uint_eq(
			nd_ctrl(&d, 6, VIRTIO_NET_CTRL_MQ, 0, &pairs, 2),
			VIRTIO_NET_OK);
	for (unsigned q = 0; q < 6; q += 2)
		nd_kick(&d, q);
	/* What was posted before the command goes where it was to go. */
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < 3; i++)
			host_sends(i, 100);
	ck_assert(nd_counts(&d.stats.rx_packets, 9));
	for (unsigned i = 0; i < 3; i++) {
		host_sends(i, 200 + i);
		ck_assert(nd_counts(&d.stats.rx_packets, 10 + i));
		for (;;) {
			uint32_t len = 0, id = 0;

			ck_assert(nd_used(&d, where[_i][i], &id, &len));
			if (len == 200 + i)
				break;
		}
	}
	(void)n;
	(void)first;
}
END_TEST

START_TEST(each_pair_sends_to_its_queue_of_the_tap)
{
	uint16_t pairs = 3;
	uint32_t len;

	nd_up(&d, ALL | F_MQ, 7);
	nd_ctrl(&d, 6, VIRTIO_NET_CTRL_MQ, 0, &pairs, 2);
	for (unsigned i = 0; i < 3; i++) {
		nd_offer_tx(&d, 2 * i + 1, 0, packet, 60 + i);
		nd_kick(&d, 2 * i + 1);
		ck_assert_uint_eq(host_gets(i), 72 + i);
		nd_wait(&d, 2 * i + 1, &len);
	}
}
END_TEST

START_TEST(pairs_that_were_not_set_up_cannot_be_asked_for)
{
	uint16_t two = 2, three = 3;

	d.skipped = 1u << _i; /* of the third pair */
	nd_up(&d, ALL | F_MQ, 7);
	ck_assert_uint_eq(nd_ctrl(&d, 6, VIRTIO_NET_CTRL_MQ, 0, &three, 2),
		VIRTIO_NET_ERR);
	ck_assert_uint_eq(
		nd_ctrl(&d, 6, VIRTIO_NET_CTRL_MQ, 0, &two, 2), VIRTIO_NET_OK);
}
END_TEST

/* Resets and broken rings */

START_TEST(after_a_reset_nothing_comes_any_more)
{
	uint8_t *mem = nd_ptr(&d, nd_place(RX, 0));
	unsigned n, first;
	uint32_t len;

	nd_up(&d, ALL, 3);
	offer_rx(0, ND_SIZE, 4096);
	host_sends(0, 5000); /* so that reads hold many */
	guest_gets(RX, &n, &first);
	nd_pause_ms(10);
	nd_reset(&d);
	memset(mem, 0x55, ND_SIZE * ND_PLACE);
	memset(d.q[RX].used, 0x55, 256);
	host_sends(0, 100);
	nd_kick(&d, RX);
	nd_kick(&d, TX);
	nd_pause_ms(20);
	for (unsigned i = 0; i < ND_SIZE * ND_PLACE; i++)
		ck_assert_uint_eq(mem[i], 0x55);
	ck_assert_uint_eq(d.q[RX].used->idx, 0x5555);
	/* Up again, it has what waited. */
	nd_up(&d, ALL, 3);
	offer_rx(0, 4, 4096);
	ck_assert_uint_eq(guest_gets(RX, &n, &first), 100);
	nd_offer_tx(&d, TX, 0, packet, 60);
	nd_kick(&d, TX);
	nd_wait(&d, TX, &len);
	ck_assert_uint_eq(host_gets(0), 72);
}
END_TEST

START_TEST(a_reset_ends_packets_that_wait_for_the_tap)
{
	uint32_t len;

	nd_up(&d, ALL, 3);
	for (uint16_t i = 0; i < ND_SIZE; i++)
		nd_offer_tx(&d, TX, i, packet, 60);
	nd_kick(&d, TX);
	nd_pause_ms(20); /* the socket is full */
	nd_reset(&d);
	while (recv(peers[0], got, sizeof(got), 0) > 0)
		;
	ck_assert(host_gets_nothing(0));
	nd_up(&d, ALL, 3);
	nd_offer_tx(&d, TX, 0, packet, 61);
	nd_kick(&d, TX);
	ck_assert_uint_eq(host_gets(0), 73);
	nd_wait(&d, TX, &len);
}
END_TEST

START_TEST(a_broken_ring_needs_a_reset_and_harms_no_other)
{
	unsigned q = (unsigned)_i;
	uint64_t end = clock_ns() + 10000000000u;

	nd_up(&d, ALL, 3);
	d.q[q].avail->idx = 1000;
	nd_kick(&d, q);
	while (!(nd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET))
		ck_assert(clock_ns() < end);
	nd_pause_ms(5);
	nd_reset(&d);
	nd_up(&d, ALL, 3);
	ck_assert_uint_eq(nd_status(&d), 15);
	nd_offer_tx(&d, TX, 0, packet, 61);
	nd_kick(&d, TX);
	ck_assert_uint_eq(host_gets(0), 73);
}
END_TEST

/* The third chain of a burst points nowhere. */
START_TEST(what_was_taken_before_the_ring_broke_is_sent)
{
	struct driver_piece bad[] = {{1, 64, false}, {0}};

	nd_up(&d, ALL, 3);
	nd_offer_tx(&d, TX, 0, packet, 61);
	nd_offer_tx(&d, TX, 1, packet, 62);
	nd_offer(&d, TX, 2, bad);
	nd_kick(&d, TX);
	ck_assert_uint_eq(host_gets(0), 73);
	ck_assert_uint_eq(host_gets(0), 74);
	ck_assert(nd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
}
END_TEST

START_TEST(a_driver_that_never_stops_does_not_keep_others_waiting)
{
	uint64_t end = clock_ns() + 100000000u;
	unsigned served = 0;

	/* The ring is always full: the worker finds another chain each time,
	 * and still answers. */
	nd_up(&d, ALL | F_EVENT, 3);
	for (uint16_t i = 0; i < ND_SIZE; i++) {
		struct driver_piece p[] = {{nd_place(TX, i), 4, false}, {0}};

		nd_offer(&d, TX, i, p);
	}
	nd_kick(&d, TX);
	while (clock_ns() < end) {
		uint32_t id = 0, len;

		if (!nd_used(&d, TX, &id, &len))
			continue;
		served++;
		d.q[TX].avail->ring[d.q[TX].avail->idx % ND_SIZE] =
			(uint16_t)id;
		__atomic_store_n(&d.q[TX].avail->idx,
			(uint16_t)(d.q[TX].avail->idx + 1), __ATOMIC_SEQ_CST);
	}
	nd_reset(&d);
	ck_assert_uint_gt(served, 0);
}
END_TEST

/* Errors of the tap */

START_TEST(a_tap_that_fails_is_told_of_once_a_storm)
{
	uint32_t len;

	close(peers[0]);
	peers[0] = -1;
	nd_up(&d, ALL, 3);
	offer_rx(0, 8, 2048);
	for (uint16_t i = 0; i < 16; i++)
		nd_offer_tx(&d, TX, i, packet, 60);
	nd_kick(&d, TX);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_uint_eq(nd_wait(&d, TX, &len), i);
	ck_assert_uint_eq(d.stats.tx_dropped, 16);
	ck_assert_uint_ge(d.stats.tap_errors, 16);
	ck_assert_uint_eq(d.stats.tx_packets, 0);
	ck_assert_uint_eq(__atomic_load_n(&d.n_errors, __ATOMIC_ACQUIRE), 1);
}
END_TEST

/* Rate limits */

static uint64_t sent_in(uint64_t ms, unsigned q)
{
	uint64_t end = clock_ns() + ms * 1000000u, n = 0;
	uint32_t id = 0, len;

	while (clock_ns() < end) {
		while (recv(peers[0], got, sizeof(got), 0) > 0)
			n++;
		while (nd_used(&d, q, &id, &len)) {
			nd_offer_tx(&d, q, (uint16_t)id, packet, 60);
			nd_kick(&d, q);
		}
		nd_pause_ms(1);
	}
	return n;
}

START_TEST(sending_keeps_to_its_limit)
{
	struct rate_limiter_update none = {.has_ops = true, .has_bytes = true};
	uint64_t n, start;

	teardown();
	make((struct net_config){.n_pairs = 1,
		.tx_limiter.ops = {.size = 10, .refill_ns = 100000000}});
	nd_up(&d, ALL & ~F_GUEST, 3);
	for (uint16_t i = 0; i < ND_SIZE; i++)
		nd_offer_tx(&d, TX, i, packet, 60);
	nd_kick(&d, TX);
	start = clock_ns();
	n = sent_in(500, TX);
	/* 10 at once, 10 in each tenth of a second. */
	ck_assert_uint_ge(n, 20);
	ck_assert_uint_le(n, 11 + (clock_ns() - start) / 10000000u);
	ck_assert_uint_ge(d.stats.tx_throttled, 1);
	ck_assert_uint_eq(d.stats.tx_dropped, 0);
	/* Most of the time the next one was seen, and held. */
	ck_assert_uint_ge(histogram_count(&d.stats.tx_time), n);
	ck_assert_uint_ge(d.stats.tx_time.sum_ns, 200000000);
	/* Without a limit, what waited goes at once. */
	net_limit_tx(d.dev, &none);
	ck_assert_uint_ge(sent_in(100, TX), 64);
}
END_TEST

START_TEST(receiving_keeps_to_its_limit)
{
	struct rate_limiter_update none = {.has_ops = true, .has_bytes = true};
	uint64_t n, start, end;

	teardown();
	make((struct net_config){.n_pairs = 1,
		.rx_limiter.bytes = {.size = 500, .refill_ns = 100000000}});
	nd_up(&d, ALL & ~F_GUEST, 3);
	offer_rx(0, ND_SIZE, 2048);
	start = clock_ns();
	end = start + 500000000u;
	while (clock_ns() < end) {
		(void)!send(peers[0], packet, HDR + 50, 0);
		nd_pause_ms(1);
	}
	n = __atomic_load_n(&d.stats.rx_packets, __ATOMIC_RELAXED);
	/* 10 packets, and 10 in each tenth of a second. */
	ck_assert_uint_ge(n, 20);
	ck_assert_uint_le(n, 11 + (clock_ns() - start) / 10000000u);
	ck_assert_uint_ge(d.stats.rx_throttled, 1);
	ck_assert_uint_eq(d.stats.rx_dropped, 0);
	/* Without a limit, what waited comes at once. */
	net_limit_rx(d.dev, &none);
	for (unsigned i = 0; i < 5000 && d.stats.rx_packets == n; i++)
		nd_pause_ms(1);
	ck_assert_uint_gt(d.stats.rx_packets, n);
}
END_TEST

/* Kicks and packets change nothing, and a reset ends it. */
START_TEST(waiting_for_a_limit_costs_nothing)
{
	uint64_t submits;

	teardown();
	make((struct net_config){.n_pairs = 1,
		.rx_limiter.ops = {.size = 1, .refill_ns = 3600000000000},
		.tx_limiter.ops = {.size = 1, .refill_ns = 3600000000000}});
	nd_up(&d, ALL & ~F_GUEST, 3);
	offer_rx(0, 8, 2048);
	for (uint16_t i = 0; i < 4; i++) {
		host_sends(0, 60);
		nd_offer_tx(&d, TX, i, packet, 60);
	}
	nd_kick(&d, TX);
	ck_assert(nd_counts(&d.stats.rx_throttled, 1));
	ck_assert(nd_counts(&d.stats.tx_throttled, 1));
	ck_assert(nd_counts(&d.stats.rx_packets, 1));
	ck_assert(nd_counts(&d.stats.tx_packets, 1));
	nd_pause_ms(10);
	submits = worker_submits(d.worker);
	for (unsigned i = 0; i < 20; i++) {
		nd_kick(&d, TX);
		nd_kick(&d, RX);
		nd_pause_ms(1);
	}
	ck_assert_uint_eq(worker_submits(d.worker), submits);
	nd_reset(&d);
	ck_assert_uint_eq(d.stats.rx_packets, 1);
	ck_assert_uint_eq(d.stats.tx_packets, 1);
}
END_TEST

/* Interrupts */

START_TEST(a_batch_is_one_interrupt)
{
	uint32_t len;

	nd_up(&d, ALL, 3);
	nd_pause_ms(5);
	nd_interrupts(&d);
	for (uint16_t i = 0; i < 8; i++)
		nd_offer_tx(&d, TX, i, packet, 60);
	nd_kick(&d, TX);
	for (unsigned i = 0; i < 8; i++)
		nd_wait(&d, TX, &len);
	nd_pause_ms(5);
	ck_assert_uint_le(nd_interrupts(&d), 2);
}
END_TEST

static TCase *pairs_case(void)
{
	TCase *t = tcase_create("pairs");

	tcase_add_checked_fixture(t, setup_pairs, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, a_command_is_obeyed_or_refused, 0,
		sizeof(commands) / sizeof(commands[0]));
	tcase_add_test(t, without_its_feature_a_command_is_refused);
	tcase_add_loop_test(t, a_command_in_any_shape_is_given_back, 0,
		sizeof(odd_commands) / sizeof(odd_commands[0]));
	tcase_add_loop_test(
		t, packets_come_on_as_many_queues_as_the_driver_wants, 1, 4);
	tcase_add_test(t, each_pair_sends_to_its_queue_of_the_tap);
	tcase_add_loop_test(
		t, pairs_that_were_not_set_up_cannot_be_asked_for, 4, 6);
	return t;
}

static TCase *tx_case(void)
{
	TCase *t = tcase_create("tx");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_sent_reaches_the_tap_with_its_header);
	tcase_add_loop_test(t, a_packet_may_lie_in_any_pieces, 0,
		sizeof(cuts) / sizeof(cuts[0]));
	tcase_add_loop_test(t,
		what_is_no_packet_is_dropped_counted_and_given_back, 0,
		sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_loop_test(
		t, a_tap_that_is_full_delays_and_loses_nothing, 0, 2);
	tcase_add_test(t, many_long_chains_are_all_sent);
	tcase_add_test(t, a_batch_is_one_interrupt);
	return t;
}

static TCase *rx_case(void)
{
	TCase *t = tcase_create("rx");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_comes_lands_in_a_buffer);
	tcase_add_loop_test(t,
		a_packet_is_spread_over_as_many_buffers_as_it_needs, 0,
		sizeof(merges) / sizeof(merges[0]));
	tcase_add_test(t, buffers_that_were_not_needed_are_used_later);
	tcase_add_test(t, packets_keep_their_order);
	tcase_add_test(t, a_packet_too_large_for_all_buffers_is_dropped);
	tcase_add_test(t, without_mergeable_buffers_a_packet_has_one);
	tcase_add_loop_test(
		t, packets_wait_in_the_tap_until_there_are_buffers, 0, 2);
	tcase_add_loop_test(
		t, a_buffer_that_can_be_read_is_given_back_empty, 0, 2);
	tcase_add_loop_test(t, a_packet_the_driver_did_not_ask_for_is_dropped,
		0, sizeof(headers) / sizeof(headers[0]));
	return t;
}

static TCase *trouble_case(void)
{
	TCase *t = tcase_create("trouble");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, it_does_not_start_without_its_first_pair, 0, 4);
	tcase_add_test(t, after_a_reset_nothing_comes_any_more);
	tcase_add_test(t, a_reset_ends_packets_that_wait_for_the_tap);
	tcase_add_loop_test(
		t, a_broken_ring_needs_a_reset_and_harms_no_other, 0, 3);
	tcase_add_test(t, what_was_taken_before_the_ring_broke_is_sent);
	tcase_add_test(
		t, a_driver_that_never_stops_does_not_keep_others_waiting);
	tcase_add_test(t, a_tap_that_fails_is_told_of_once_a_storm);
	tcase_add_test(t, sending_keeps_to_its_limit);
	tcase_add_test(t, receiving_keeps_to_its_limit);
	tcase_add_test(t, waiting_for_a_limit_costs_nothing);
	return t;
}

int main(void)
{
	Suite *s = suite_create("net");
	TCase *what = tcase_create("what");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(what, it_offers_what_its_configuration_says, 0, 16);
	tcase_add_loop_test(what, pairs_of_queues_are_from_1_to_8, 0, 2);
	suite_add_tcase(s, what);
	suite_add_tcase(s, tx_case());
	suite_add_tcase(s, rx_case());
	suite_add_tcase(s, pairs_case());
	suite_add_tcase(s, trouble_case());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
