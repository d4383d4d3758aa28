/*
 * A guest and its metadata service. The input is what the guest does, step by
 * step: raw frames, or segments of a client that knows where its connections
 * are and may lie about it; reading what comes; waiting; a new driver. Whatever
 * it is, frames from the service are whole and right, end some time, and the
 * service never asks to be called again at once.
 */

#include "net/mmds.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/mmds_text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDRESS 0xa9fea9feu
#define GUEST 0x0a000002u
#define CLIENTS 20u /* more than there are slots */
#define FRAMES_MAX 100000u

#define IP 14
#define TCP (IP + 20)
#define DATA (TCP + 20)
#define VALUE_BYTES 6000u

enum step { RAW, SEGMENT, REQUEST, READ, WAIT, RESET, STEPS };

/* What the guest does; what is missing is 0. */
static const uint8_t *input;
static size_t left;

static uint64_t now;
static struct mmds_port *port;
static struct {
	uint32_t seq, ack;
} clients[CLIENTS];

static const char *const requests[] = {"GET / HTTP/1.1\r\n\r\n",
	"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n", "GET / HT", "TP/1.1\r\n\r\n", "\n",
	"GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nConnection: close\r\n\r\n"};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static uint64_t fake_clock(void)
{
	return now;
}

static unsigned take(unsigned bytes)
{
	unsigned v = 0;

	for (; bytes; bytes--) {
		v = v << 8 | (left ? *input : 0);
		if (left) {
			input++;
			left--;
		}
	}
	return v;
}

static uint32_t sum_of(const uint8_t *b, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void put(uint8_t *at, unsigned bytes, uint32_t v)
{
	while (bytes--) {
		at[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static uint32_t get(const uint8_t *at, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | at[i];
	return v;
}

/* In two pieces, each of just its size. */
static void send_frame(const uint8_t *frame, size_t len, bool partial_csum)
{
	size_t cut = len / 3;
	uint8_t *a = malloc(cut + 1), *b = malloc(len - cut + 1);
	struct iovec v[2] = {{a, cut}, {b, len - cut}};
	struct iovs view = {v, 2, len};

	check(a && b);
	if (len) {
		memcpy(a, frame, cut);
		memcpy(b, frame + cut, len - cut);
	}
	mmds_port_input(port, &view, 0, len, partial_csum);
	free(a);
	free(b);
}

static void send_segment(unsigned client, unsigned flags, unsigned window,
	const void *data, size_t len)
{
	static uint8_t f[DATA + 70000];
	uint32_t sum;

	memset(f, 0, DATA);
	f[0] = f[6] = 2;
	put(f + 12, 2, 0x0800);
	put(f + IP, 4, 0x45000000u + 40 + (uint32_t)len);
	put(f + IP + 8, 2, 0x4006);
	put(f + IP + 12, 4, GUEST);
	put(f + IP + 16, 4, ADDRESS);
	put(f + IP + 10, 2, ~sum_of(f + IP, 20, 0));
	put(f + TCP, 2, 1000 + client);
	put(f + TCP + 2, 2, 80);
	put(f + TCP + 4, 4, clients[client].seq);
	put(f + TCP + 8, 4, clients[client].ack);
	f[TCP + 12] = 0x50;
	f[TCP + 13] = (uint8_t)flags;
	put(f + TCP + 14, 2, window);
	if (len)
		memcpy(f + DATA, data, len);
	sum = sum_of(f + IP + 12, 8, 6 + 20 + (uint32_t)len);
	put(f + TCP + 16, 2, ~sum_of(f + TCP, 20 + len, sum));
	send_frame(f, DATA + len, false);
}

static void check_frame(const uint8_t *f, size_t len)
{
	size_t tcp_len = len - TCP;
	unsigned client;
	uint32_t sum;

	check(len <= MMDS_FRAME_MAX);
	if (get(f + 12, 2) == 0x0806) {
		check(len == 42);
		return;
	}
	check(len >= DATA && get(f + IP + 2, 2) == len - IP);
	check(sum_of(f + IP, 20, 0) == 0xffff);
	sum = sum_of(f + IP + 12, 8, 6 + (uint32_t)tcp_len);
	check(sum_of(f + TCP, tcp_len, sum) == 0xffff);
	client = get(f + TCP + 2, 2) - 1000;
	if (client >= CLIENTS || f[TCP + 13] & 4)
		return;
	len -= TCP + (f[TCP + 12] >> 4) * 4u;
	clients[client].ack = get(f + TCP + 4, 4) + (uint32_t)len +
			      (f[TCP + 13] & 2 ? 1 : 0) + (f[TCP + 13] & 1);
	clients[client].seq = get(f + TCP + 8, 4);
}

static void read_frames(unsigned max)
{
	uint8_t frame[MMDS_FRAME_MAX];
	unsigned n = 0;
	size_t len;

	while (n < max && (len = mmds_port_output(port, frame)) > 0) {
		check_frame(frame, len);
		n++;
	}
	check(n < FRAMES_MAX);
	if (n < max)
		check(mmds_port_deadline(port) > now);
}

static void step(void)
{
	static uint8_t data[4096];
	unsigned kind = take(1), client = take(1) % CLIENTS, len;
	const char *text;

	switch ((enum step)(kind % STEPS)) {
	case RAW:
		len = take(2) % sizeof(data);
		for (unsigned i = 0; i < len; i++)
			data[i] = (uint8_t)take(1);
		send_frame(data, len, kind & 0x80);
		break;
	case SEGMENT:
		clients[client].seq += (uint32_t)(int8_t)take(1);
		clients[client].ack += (uint32_t)(int8_t)take(1) * 100u;
		kind = take(1);
		len = take(2) % sizeof(data);
		send_segment(client, kind, take(2), data, len);
		break;
	case REQUEST:
		text = requests[take(1) %
				(sizeof(requests) / sizeof(requests[0]))];
		send_segment(client, 0x18, take(2), text, strlen(text));
		break;
	case READ:
		read_frames(kind & 0x80 ? client : FRAMES_MAX);
		break;
	case WAIT:
		now += (uint64_t)(take(1) + 1) * 50000000u;
		break;
	case RESET:
		mmds_port_reset(port);
		break;
	case STEPS:
		break;
	}
}

/* A value of many segments, at the root. */
static struct mmds *service(struct mmds_stats *stats)
{
	static _Alignas(8) uint8_t image[MMDS_TEXT_IMAGE(VALUE_BYTES)];
	static const char text[VALUE_BYTES];
	const struct mmds_config config = {.version = MMDS_V1,
		.ipv4 = ADDRESS,
		.stats = stats,
		.clock = fake_clock};
	struct error err;
	struct mmds *m;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	mmds_text_image(image, text, sizeof(text));
	check(write(fd, image, sizeof(image)) == (ssize_t)sizeof(image));
	check(mmds_create(&m, &config, &err) == 0);
	check(mmds_set_data(m, fd, sizeof(image)) == 0);
	close(fd);
	return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mmds_stats stats;
	static struct mmds *m;
	struct error err;

	if (!m)
		m = service(&stats);
	input = data;
	left = size;
	now = 1000;
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i].seq = clients[i].ack = 0;
	check(mmds_port_create(&port, m, &err) == 0);
	while (left)
		step();
	read_frames(FRAMES_MAX);
	/* Left alone, all of it ends. */
	for (unsigned i = 0; mmds_port_deadline(port) != UINT64_MAX; i++) {
		check(i < 1000);
		now = mmds_port_deadline(port);
		read_frames(FRAMES_MAX);
	}
	mmds_port_destroy(port);
	return 0;
}

#define SYN SEGMENT, 1, 0, 0, 0x02, 0, 0, 0xff, 0xff
#define HANDSHAKE SYN, READ, 0, SEGMENT, 1, 0, 0, 0x10, 0, 0, 0xff, 0xff
#define ACK_ALL READ, 0, SEGMENT, 1, 0, 0, 0x10, 0, 0, 0xff, 0xff

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const uint8_t once[] = {HANDSHAKE, REQUEST, 1, 0, 0xff, 0xff,
		ACK_ALL, SEGMENT, 1, 0, 0, 0x11, 0, 0, 0xff, 0xff, READ, 0};
	static const uint8_t closed_window[] = {HANDSHAKE, REQUEST, 1, 0, 0, 0,
		READ, 0, WAIT, 0, 9, READ, 0, SEGMENT, 1, 0, 0, 0x10, 0, 0, 0,
		99, ACK_ALL};
	static const uint8_t lost[] = {HANDSHAKE, REQUEST, 1, 6, 0xff, 0xff,
		READ | 0x80, 2, WAIT, 0, 9, READ, 0, SEGMENT, 1, 0, 0xf0, 0x10,
		0, 0, 0xff, 0xff, WAIT, 0, 200, ACK_ALL, ACK_ALL};
	static const uint8_t overlap[] = {HANDSHAKE, REQUEST, 1, 3, 0xff, 0xff,
		SEGMENT, 1, 0xfe, 0, 0x18, 0, 9, 0xff, 0xff, REQUEST, 1, 4,
		0xff, 0xff, ACK_ALL, RESET, 0, ACK_ALL};
	static const uint8_t arp[] = {RAW, 0, 0, 42, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2,
		0, 0, 0, 0, 7, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 169, 254, 169,
		254, READ, 0};
	static const struct {
		const uint8_t *bytes;
		size_t size;
	} seeds[] = {{once, sizeof(once)},
		{closed_window, sizeof(closed_window)}, {lost, sizeof(lost)},
		{overlap, sizeof(overlap)}, {arp, sizeof(arp)}};

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || seeds[n].size > cap)
		return 0;
	memcpy(buf, seeds[n].bytes, seeds[n].size);
	return seeds[n].size;
}
