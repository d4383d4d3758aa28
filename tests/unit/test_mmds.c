#include "net/mmds.h"
#include "tests/unit/mmds_text.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The whole service, by frames; the client builds and checks them byte by byte,
 * with nothing of the service's own. */

#define MS 1000000ull
#define ADDRESS 0xa9fea9feu
#define GUEST 0xc0a80002u

#define FIN 1
#define SYN 2
#define RST 4
#define PSH 8
#define ACK 16

static uint64_t now;
static struct mmds *m;
static struct mmds_port *p;
static struct mmds_stats stats;

static const uint8_t guest_mac[6] = {6, 0, 0, 0, 0, 7};
static uint8_t service_mac[6];

/* What the client knows of its connection. */
static uint16_t port;
static uint32_t seq, ack;

/* The last frame the service sent. */
static uint8_t reply[MMDS_FRAME_MAX];
static size_t reply_len;

static uint64_t fake_clock(void)
{
	return now;
}

/* An image of one string at the root. */
static int set_text(const char *text)
{
	_Alignas(8) char image[MMDS_TEXT_IMAGE(1000)];
	size_t len = mmds_text_image(image, text, strlen(text));
	int fd = memfd_create("test", MFD_CLOEXEC), r;

	ck_assert_int_eq(write(fd, image, len), (ssize_t)len);
	r = mmds_set_data(m, fd, len);
	close(fd);
	return r;
}

static void setup(void)
{
	const struct mmds_config config = {.version = MMDS_V1,
		.ipv4 = ADDRESS,
		.stats = &stats,
		.clock = fake_clock};
	struct error err;

	now = 5000 * MS;
	memset(&stats, 0, sizeof(stats));
	ck_assert_int_eq(mmds_create(&m, &config, &err), 0);
	ck_assert_int_eq(mmds_port_create(&p, m, &err), 0);
	ck_assert_int_eq(set_text("hello"), 0);
	port = 33000;
	seq = 0xfffffffe;
	ack = 0;
}

static void teardown(void)
{
	mmds_port_destroy(p);
	mmds_destroy(m);
}

/* ---- frames ---- */

struct frame {
	uint8_t b[6000];
	size_t len;
};

#define IP 14
#define TCP (IP + 20)
#define DATA (TCP + 20)

static void put16(struct frame *f, size_t at, unsigned v)
{
	f->b[at] = (uint8_t)(v >> 8);
	f->b[at + 1] = (uint8_t)v;
}

static void put32(struct frame *f, size_t at, uint32_t v)
{
	put16(f, at, v >> 16);
	put16(f, at + 2, v & 0xffff);
}

static uint32_t get32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
	       (uint32_t)b[2] << 8 | b[3];
}

static uint32_t sum_of(const uint8_t *b, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t tcp_sum(const uint8_t *frame, size_t frame_len)
{
	size_t len = frame_len - TCP;
	uint32_t sum = sum_of(frame + IP + 12, 8, 6 + (uint32_t)len);

	return sum_of(frame + TCP, len, sum);
}

static void finish_ip(struct frame *f)
{
	put16(f, IP + 10, 0);
	put16(f, IP + 10, ~sum_of(f->b + IP, 20, 0));
}

static void finish(struct frame *f)
{
	finish_ip(f);
	put16(f, TCP + 16, 0);
	put16(f, TCP + 16, ~tcp_sum(f->b, f->len));
}

static void make_ip(struct frame *f, const void *data, size_t len)
{
	memset(f, 0, sizeof(*f));
	memset(f->b, 0xee, 6); /* whoever: its address decides */
	memcpy(f->b + 6, guest_mac, 6);
	put16(f, 12, 0x0800);
	f->b[IP] = 0x45;
	put16(f, IP + 2, (unsigned)len + 40);
	f->b[IP + 8] = 64;
	f->b[IP + 9] = 6;
	put32(f, IP + 12, GUEST);
	put32(f, IP + 16, ADDRESS);
	memcpy(f->b + DATA, data, len);
	f->len = DATA + len;
}

static void make(struct frame *f, uint8_t flags, const void *data, size_t len)
{
	make_ip(f, data, len);
	put16(f, TCP, port);
	put16(f, TCP + 2, 80);
	put32(f, TCP + 4, seq);
	put32(f, TCP + 8, ack);
	f->b[TCP + 12] = 0x50;
	f->b[TCP + 13] = flags;
	put16(f, TCP + 14, 60000);
	finish(f);
}

/* Behind 12 other bytes, and with more of them behind it. */
static bool input_with(const struct frame *f, bool partial_csum, size_t more)
{
	size_t len = f->len + more;
	uint8_t *exact = malloc(len + 12);
	struct iovec v = {exact, len + 12};
	struct iovs view = {&v, 1, len + 12};
	bool ours;

	memcpy(exact + 12, f->b, len);
	ours = mmds_port_input(p, &view, 12, f->len, partial_csum);
	free(exact);
	return ours;
}

static bool input(const struct frame *f, bool partial_csum)
{
	return input_with(f, partial_csum, 0);
}

static void silent(void)
{
	uint8_t buf[MMDS_FRAME_MAX];

	ck_assert_uint_eq(mmds_port_output(p, buf), 0);
}

/* A segment from the service, whole and right. */
static void next_segment(uint8_t flags)
{
	reply_len = mmds_port_output(p, reply);
	ck_assert_uint_ge(reply_len, DATA);
	ck_assert_mem_eq(reply, guest_mac, 6);
	memcpy(service_mac, reply + 6, 6);
	ck_assert_int_eq(service_mac[0] & 3, 2); /* unicast, local */
	ck_assert_mem_eq(reply + 12, "\x08\x00\x45", 3);
	ck_assert_uint_eq(
		(unsigned)reply[IP + 2] << 8 | reply[IP + 3], reply_len - IP);
	ck_assert_mem_eq(reply + IP + 6, "\x40\x00\x40\x06", 4);
	ck_assert_uint_eq(sum_of(reply + IP, 20, 0), 0xffff);
	ck_assert_uint_eq(get32(reply + IP + 12), ADDRESS);
	ck_assert_uint_eq(get32(reply + IP + 16), GUEST);
	ck_assert_uint_eq((unsigned)reply[TCP] << 8 | reply[TCP + 1], 80);
	ck_assert_uint_eq((unsigned)reply[TCP + 2] << 8 | reply[TCP + 3], port);
	ck_assert_uint_eq(tcp_sum(reply, reply_len), 0xffff);
	ck_assert_uint_eq(reply[TCP + 13], flags);
}

static void send_flags(uint8_t flags, const char *data)
{
	struct frame f;

	make(&f, flags, data, strlen(data));
	ck_assert(input(&f, false));
	seq += (uint32_t)strlen(data) + !!(flags & (SYN | FIN));
}

static void open_conn(void)
{
	send_flags(SYN, "");
	next_segment(SYN | ACK);
	ck_assert_uint_eq(get32(reply + TCP + 8), seq);
	ck_assert_uint_eq(reply_len, DATA + 4);
	ck_assert_int_eq(reply[TCP + 12], 0x60);
	ck_assert_mem_eq(reply + DATA, "\x02\x04\x05\xb4", 4); /* MSS 1460 */
	ack = get32(reply + TCP + 4) + 1;
	send_flags(ACK, "");
	silent();
}

/* The answer, which has one segment. */
static const char *ask(const char *request)
{
	static char text[MMDS_FRAME_MAX + 1];

	send_flags(ACK | PSH, request);
	next_segment(ACK | PSH);
	ck_assert_uint_eq(get32(reply + TCP + 4), ack);
	ck_assert_uint_eq(get32(reply + TCP + 8), seq);
	memcpy(text, reply + DATA, reply_len - DATA);
	text[reply_len - DATA] = '\0';
	ack += (uint32_t)(reply_len - DATA);
	send_flags(ACK, "");
	silent();
	return text;
}

#define GET "GET / HTTP/1.1\r\n\r\n"

static bool ends_with(const char *s, const char *end)
{
	return strlen(s) >= strlen(end) &&
	       strcmp(s + strlen(s) - strlen(end), end) == 0;
}

/* ---- conversations ---- */

START_TEST(a_guest_reads_its_metadata)
{
	open_conn();
	ck_assert(ends_with(ask(GET), "\r\n\r\nhello"));
	ck_assert(ends_with(ask(GET), "\r\n\r\nhello"));
	send_flags(ACK | FIN, "");
	next_segment(ACK | FIN);
	ack++;
	send_flags(ACK, "");
	silent();
	ck_assert_uint_eq(stats.connections, 1);
	ck_assert_uint_eq(stats.requests, 2);
	ck_assert_uint_eq(stats.malformed, 0);
}
END_TEST

START_TEST(a_request_may_be_split_over_many_segments)
{
	open_conn();
	for (const char *c = GET; c[1]; c++) {
		send_flags(ACK, (char[]){*c, 0});
		next_segment(ACK);
		ck_assert_uint_eq(get32(reply + TCP + 8), seq);
	}
	ck_assert(ends_with(ask("\n"), "\r\n\r\nhello"));
}
END_TEST

START_TEST(new_data_is_seen_at_once_and_an_answer_is_of_one_time)
{
	open_conn();
	send_flags(ACK, GET);
	ck_assert_int_eq(set_text("changed"), 0);
	/* Asked before, answered with what was then; sent twice, the same. */
	for (unsigned i = 1; i <= 2; i++) {
		next_segment(ACK | PSH);
		ck_assert_mem_eq(reply + reply_len - 9, "\r\n\r\nhello", 9);
		silent();
		ck_assert(mmds_port_deadline(p) == now + 200 * MS * i);
		now += i == 1 ? 200 * MS : 0;
	}
	ack += (uint32_t)(reply_len - DATA);
	send_flags(ACK, "");
	ck_assert(mmds_port_deadline(p) == UINT64_MAX);
	ck_assert(ends_with(ask(GET), "\r\n\r\nchanged"));
}
END_TEST

START_TEST(what_is_no_data_is_refused_and_the_old_stays)
{
	struct mmds_image none = {.size = 0};
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_eq(write(fd, &none, sizeof(none)), (ssize_t)sizeof(none));
	ck_assert_int_eq(mmds_set_data(m, fd, sizeof(none)), -EINVAL);
	ck_assert_int_eq(mmds_set_data(m, fd, 0), -EINVAL);
	ck_assert_int_eq(mmds_set_data(m, fd, sizeof(none) - 1), -EINVAL);
	ck_assert_int_eq(mmds_set_data(m, fd, MMDS_IMAGE_MAX + 1), -EINVAL);
	ck_assert_int_eq(mmds_set_data(m, fd, SIZE_MAX), -EINVAL);
	ck_assert_int_eq(mmds_set_data(m, fd, 4096), -ENODATA);
	close(fd);
	ck_assert_int_eq(mmds_set_data(m, -1, 4096), -EBADF);
	open_conn();
	ck_assert(ends_with(ask(GET), "\r\n\r\nhello"));
}
END_TEST

START_TEST(interfaces_have_conversations_of_their_own)
{
	struct mmds_port *first = p, *second;
	struct error err;

	open_conn();
	ck_assert_int_eq(mmds_port_create(&second, m, &err), 0);
	p = second;
	send_flags(ACK, GET);
	next_segment(RST);
	p = first;
	silent();
	mmds_port_destroy(second);
}
END_TEST

START_TEST(a_new_driver_begins_anew)
{
	struct frame f;

	open_conn();
	make(&f, ACK, GET, strlen(GET));
	mmds_port_reset(p);
	ck_assert(mmds_port_deadline(p) == UINT64_MAX);
	ck_assert(input(&f, false));
	next_segment(RST);
	mmds_port_reset(p);
	silent();
}
END_TEST

START_TEST(two_vms_have_different_tokens)
{
	static const char request[] =
		"PUT /latest/api/token HTTP/1.1\r\n"
		"X-metadata-token-ttl-seconds: 60\r\n\r\n";
	char first[65];
	const char *text;

	open_conn();
	text = ask(request);
	snprintf(first, sizeof(first), "%s", text + strlen(text) - 64);
	teardown();
	setup();
	open_conn();
	text = ask(request);
	ck_assert(!ends_with(text, first));
	ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n"));
	ck_assert_uint_eq(strlen(strstr(text, "\r\n\r\n")), 4 + 64);
}
END_TEST

/* ---- frames that are ours, and others ---- */

START_TEST(a_frame_may_be_scattered_and_padded)
{
	struct frame f;
	struct iovec v[200];
	struct iovs view = {v, 0, 0};

	open_conn();
	make(&f, ACK, GET, strlen(GET));
	memset(f.b + f.len, 0xff, 30);
	f.len += 30;
	for (size_t i = 0; i < f.len; i++)
		v[view.n++] = (struct iovec){f.b + i, 1};
	view.len = f.len;
	ck_assert(mmds_port_input(p, &view, 0, f.len, false));
	seq += strlen(GET);
	next_segment(ACK | PSH);
	ck_assert_uint_eq(get32(reply + TCP + 8), seq);
}
END_TEST

START_TEST(an_unsegmented_frame_with_a_partial_checksum_is_taken)
{
	struct frame f;
	char request[3000] = "GET / HTTP/1.1\r\nX: ";

	memset(request + 19, 'x', sizeof(request) - 19);
	memcpy(request + sizeof(request) - 5, "\r\n\r\n", 5);
	open_conn();
	make(&f, ACK, request, strlen(request));
	f.b[TCP + 16] ^= 0xff;
	ck_assert(input(&f, false));
	silent();
	ck_assert_uint_eq(stats.malformed, 1);
	ck_assert(input(&f, true));
	seq += (uint32_t)strlen(request);
	next_segment(ACK | PSH);
	ck_assert_uint_eq(get32(reply + TCP + 8), seq);
	ck_assert_uint_eq(stats.malformed, 1);
}
END_TEST

/* A SYN with some bytes changed. sum: with right checksums. ours: consumed.
 * counted: as malformed. All are silent. */
static const struct {
	const char *what;
	size_t at;
	uint8_t value;
	bool sum, ours, counted;
} changes[] = {
	{"another destination", IP + 19, 0xfd, true, false, false},
	{"another type", 13, 0x06 ^ 1, true, false, false},
	{"IPv6", 12, 0x86, true, false, false},
	{"version 6", IP, 0x65, true, true, true},
	{"version 0", IP, 0x05, true, true, true},
	{"options", IP, 0x46, true, true, true},
	{"a short header", IP, 0x44, true, true, true},
	{"a total over the end", IP + 3, 41, true, true, true},
	{"a total of 256 more", IP + 2, 1, true, true, true},
	{"a total below the header", IP + 3, 19, true, true, true},
	{"a total below TCP's", IP + 3, 39, true, true, true},
	{"more fragments", IP + 6, 0x20, true, true, true},
	{"a later fragment", IP + 7, 1, true, true, true},
	{"a far fragment", IP + 6, 0x10, true, true, true},
	{"the reserved bit", IP + 6, 0x80, true, true, true},
	{"a wrong header checksum", IP + 8, 63, false, true, true},
	{"UDP", IP + 9, 17, true, true, false},
	{"ICMP", IP + 9, 1, true, true, false},
	{"from a multicast address", IP + 12, 224, true, true, true},
	{"from a reserved address", IP + 12, 240, true, true, true},
	{"from a multicast interface", 6, 7, true, true, true},
	{"from port 0", TCP, 0, true, true, true},
	{"a short TCP header", TCP + 12, 0x40, true, true, true},
	{"a TCP header over the end", TCP + 12, 0x60, true, true, true},
	{"a wrong checksum", TCP + 4, 1, false, true, true},
	{"a reset", TCP + 13, RST, true, true, false},
};

START_TEST(what_is_malformed_ends_here_in_silence)
{
	struct frame f;

	port = 0x0100; /* its low byte is 0 */
	make(&f, SYN, "", 0);
	f.b[changes[_i].at] = changes[_i].value;
	if (changes[_i].sum)
		finish(&f);
	/* Checksums that are right are not needed. */
	ck_assert_msg(input_with(&f, changes[_i].sum, 300) == changes[_i].ours,
		"%s", changes[_i].what);
	silent();
	ck_assert_msg(
		stats.malformed == changes[_i].counted, "%s", changes[_i].what);
	ck_assert_uint_eq(stats.connections, 0);
}
END_TEST

START_TEST(harmless_variations_are_taken)
{
	struct frame f;

	for (unsigned i = 0; i < 4; i++) {
		port++;
		make(&f, SYN, "", 0);
		f.b[IP + 6] = i == 0 ? 0x40 : 0;    /* don't fragment */
		f.b[IP + 1] = i == 1 ? 0xb8 : 0;    /* a class */
		f.b[IP + 8] = i == 2 ? 1 : 64;      /* a short life */
		f.b[TCP + 13] |= i == 3 ? 0xc0 : 0; /* ECN's offer */
		finish(&f);
		ck_assert(input(&f, false));
		next_segment(SYN | ACK);
	}
}
END_TEST

START_TEST(a_guest_with_the_services_own_or_no_address_is_not_answered)
{
	static const uint32_t from[] = {ADDRESS, 0, 0xffffffff};
	struct frame f;

	make(&f, SYN, "", 0);
	put32(&f, IP + 12, from[_i]);
	finish(&f);
	ck_assert(input(&f, false));
	silent();
	ck_assert_uint_eq(stats.malformed, 1);
}
END_TEST

START_TEST(frames_cut_short_are_not_read_beyond_their_end)
{
	struct frame f;
	size_t whole;

	make(&f, SYN, "", 0);
	whole = f.len;
	for (f.len = 0; f.len < whole; f.len++) {
		/* Without an address nobody knows whose it is. */
		ck_assert_int_eq(input(&f, true), f.len >= TCP);
		ck_assert_int_eq(
			input_with(&f, true, whole - f.len), f.len >= TCP);
		silent();
	}
	ck_assert(input(&f, false));
	next_segment(SYN | ACK);
}
END_TEST

START_TEST(a_view_shorter_than_it_says_is_not_ours)
{
	struct frame f;
	struct iovec v = {f.b, 0};
	struct iovs view = {&v, 1, 0};

	make(&f, SYN, "", 0);
	for (size_t n = 0; n < TCP; n++) {
		v.iov_len = view.len = n;
		ck_assert(!mmds_port_input(p, &view, 0, f.len, false));
	}
	for (size_t n = TCP; n < f.len; n++) {
		v.iov_len = view.len = n;
		ck_assert(mmds_port_input(p, &view, 0, f.len, true));
		silent();
	}
}
END_TEST

START_TEST(whatever_goes_to_the_services_interface_ends_here)
{
	struct frame f;

	open_conn();
	make(&f, SYN, "", 0);
	memcpy(f.b, service_mac, 6);
	put32(&f, IP + 16, 0x08080808);
	finish(&f);
	ck_assert(input(&f, false));
	f.b[12] = 0x86; /* IPv6 */
	f.b[13] = 0xdd;
	ck_assert(input(&f, false));
	f.len = 14;
	ck_assert(input(&f, false));
	silent();
	f.b[5] ^= 1;
	ck_assert(!input(&f, false));
}
END_TEST

/* Options of a SYN, their length; the MSS they stand for, 0: dropped. */
static const struct {
	const char *bytes;
	unsigned len, mss;
} options[] = {
	{"", 0, 536},
	{"\x02\x04\x02\x00", 4, 512},
	{"\x01\x01\x01\x01\x02\x04\x02\x00", 8, 512},
	{"\x03\x03\x07\x02\x04\x02\x00\x00", 8, 512},
	{"\x00\x00\x00\x00\x02\x04\x02\x00", 8, 536}, /* behind the end */
	{"\x04\x02\x08\x0a\0\0\0\0\0\0\0\0\x02\x04\x02\x00", 16, 512},
	{"\x02\x03\x02\x00", 4, 536}, /* not of its length */
	{"\x02\x06\x02\x00\x00\x00\x00\x00", 8, 536},
	{"\x02\x00\x02\x00", 4, 0},
	{"\x02\x01\x02\x00", 4, 0},
	{"\x02\x05\x02\x00", 4, 0},
	{"\x01\x01\x01\x02", 4, 0},
	{"\x01\x01\x02\x04", 4, 0},
	{"\xff\xff\x02\x00", 4, 0},
	{"\x01\x01\x04\x02", 4, 536}, /* the last has two bytes */
	{"\x1e\x04\x02\x00", 4, 536}, /* another of that length */
	{"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
	 "\1\1\1\1\1\1\1\1\1\x02",
		40, 0},
	{"\x09\x00\x00\x00", 4, 0},
};

START_TEST(options_of_a_syn_are_read)
{
	char text[900] = "";
	struct frame f;

	make_ip(&f, options[_i].bytes, options[_i].len);
	put16(&f, TCP, port);
	put16(&f, TCP + 2, 80);
	put32(&f, TCP + 4, seq);
	f.b[TCP + 12] = (uint8_t)((5 + options[_i].len / 4) << 4);
	f.b[TCP + 13] = SYN;
	put16(&f, TCP + 14, 60000);
	finish(&f);
	ck_assert(input(&f, false));
	ck_assert_uint_eq(stats.malformed, options[_i].mss == 0);
	if (options[_i].mss == 0) {
		silent();
		return;
	}
	next_segment(SYN | ACK);
	seq++;
	ack = get32(reply + TCP + 4) + 1;
	memset(text, 'x', sizeof(text) - 1);
	ck_assert_int_eq(set_text(text), 0);
	send_flags(ACK, GET);
	next_segment(ACK | PSH);
	ck_assert_uint_eq(reply_len - DATA, options[_i].mss);
}
END_TEST

/* Of segments within a connection options are skipped, whatever they are. */
START_TEST(data_is_behind_the_options)
{
	struct frame f;

	open_conn();
	make(&f, ACK, "\xff\xff\xff\xff" GET, 4 + strlen(GET));
	f.b[TCP + 12] = 0x60;
	finish(&f);
	ck_assert(input(&f, false));
	seq += strlen(GET);
	next_segment(ACK | PSH);
	ck_assert_uint_eq(get32(reply + TCP + 8), seq);
	ck_assert_uint_eq(stats.requests, 1);
}
END_TEST

START_TEST(a_header_shorter_than_a_header_is_refused_of_any_segment)
{
	struct frame f;

	open_conn();
	make(&f, ACK, GET, strlen(GET));
	f.b[TCP + 12] = 0x40;
	finish(&f);
	ck_assert(input(&f, false));
	silent();
	ck_assert_uint_eq(stats.malformed, 1);
}
END_TEST

/* ---- ARP ---- */

static void make_arp(
	struct frame *f, unsigned op, uint32_t from, uint32_t target)
{
	memset(f, 0, sizeof(*f));
	memset(f->b, 0xff, 6);
	memcpy(f->b + 6, guest_mac, 6);
	put16(f, 12, 0x0806);
	put16(f, 14, 1);
	put16(f, 16, 0x0800);
	f->b[18] = 6;
	f->b[19] = 4;
	put16(f, 20, op);
	memcpy(f->b + 22, guest_mac, 6);
	put32(f, 28, from);
	put32(f, 38, target);
	f->len = 42;
}

START_TEST(arp_requests_for_the_address_are_answered)
{
	/* From an address; probing (RFC 5227); claiming it. */
	static const uint32_t from[] = {GUEST, 0, ADDRESS};
	struct frame f, want;

	make_arp(&f, 1, from[_i], ADDRESS);
	f.len = _i ? 60 : 42; /* padded or not */
	ck_assert(input(&f, false));
	reply_len = mmds_port_output(p, reply);
	ck_assert_uint_eq(reply_len, 42);
	memcpy(service_mac, reply + 6, 6);
	ck_assert_int_eq(service_mac[0] & 3, 2);
	make_arp(&want, 2, ADDRESS, from[_i]);
	memcpy(want.b, guest_mac, 6);
	memcpy(want.b + 6, service_mac, 6);
	memcpy(want.b + 22, service_mac, 6);
	memcpy(want.b + 32, guest_mac, 6);
	ck_assert_mem_eq(reply, want.b, 42);
	silent();
}
END_TEST

START_TEST(many_arp_requests_get_one_reply_and_no_new_driver_gets_it)
{
	struct frame f;

	make_arp(&f, 1, GUEST, ADDRESS);
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(input(&f, false));
	ck_assert_uint_eq(mmds_port_output(p, reply), 42);
	silent();
	ck_assert(input(&f, false));
	mmds_port_reset(p);
	silent();
}
END_TEST

/* A byte of a request for the address that is changed, and whether it is still
 * for the service, which does not answer it. */
static const struct {
	size_t at;
	uint8_t value;
	bool ours;
} arps[] = {{41, 0xfd, false}, {15, 2, false}, {16, 0x86, false},
	{18, 5, false}, {19, 6, false}, {21, 2, true}, {21, 3, true},
	{20, 1, true}, {22, 7, true}};

START_TEST(other_arp_is_not_answered)
{
	struct frame f;

	make_arp(&f, 1, GUEST, ADDRESS);
	f.b[arps[_i].at] = arps[_i].value;
	ck_assert_int_eq(input(&f, false), arps[_i].ours);
	silent();
}
END_TEST

START_TEST(short_arp_is_not_ours)
{
	struct frame f;

	make_arp(&f, 1, GUEST, ADDRESS);
	for (f.len = 0; f.len < 42; f.len++) {
		ck_assert(!input(&f, false));
		ck_assert(!input_with(&f, false, 60));
	}
	silent();
}
END_TEST

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("mmds");
	TCase *talk = tcase_create("talk"), *frames = tcase_create("frames");
	TCase *arp = tcase_create("arp");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(talk, setup, teardown);
	tcase_add_test(talk, a_guest_reads_its_metadata);
	tcase_add_test(talk, a_request_may_be_split_over_many_segments);
	tcase_add_test(
		talk, new_data_is_seen_at_once_and_an_answer_is_of_one_time);
	tcase_add_test(talk, what_is_no_data_is_refused_and_the_old_stays);
	tcase_add_test(talk, interfaces_have_conversations_of_their_own);
	tcase_add_test(talk, a_new_driver_begins_anew);
	tcase_add_test(talk, two_vms_have_different_tokens);
	suite_add_tcase(s, talk);

	tcase_add_checked_fixture(frames, setup, teardown);
	tcase_add_test(frames, a_frame_may_be_scattered_and_padded);
	tcase_add_test(
		frames, an_unsegmented_frame_with_a_partial_checksum_is_taken);
	tcase_add_loop_test(
		frames, what_is_malformed_ends_here_in_silence, 0, N(changes));
	tcase_add_test(frames, harmless_variations_are_taken);
	tcase_add_loop_test(frames,
		a_guest_with_the_services_own_or_no_address_is_not_answered, 0,
		3);
	tcase_add_test(frames, frames_cut_short_are_not_read_beyond_their_end);
	tcase_add_test(frames, a_view_shorter_than_it_says_is_not_ours);
	tcase_add_test(
		frames, whatever_goes_to_the_services_interface_ends_here);
	tcase_add_loop_test(frames, options_of_a_syn_are_read, 0, N(options));
	tcase_add_test(frames, data_is_behind_the_options);
	tcase_add_test(frames,
		a_header_shorter_than_a_header_is_refused_of_any_segment);
	suite_add_tcase(s, frames);

	tcase_add_checked_fixture(arp, setup, teardown);
	tcase_add_loop_test(
		arp, arp_requests_for_the_address_are_answered, 0, 3);
	tcase_add_test(
		arp, many_arp_requests_get_one_reply_and_no_new_driver_gets_it);
	tcase_add_loop_test(arp, other_arp_is_not_answered, 0, N(arps));
	tcase_add_test(arp, short_arp_is_not_ours);
	suite_add_tcase(s, arp);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
