/*
 * virtio-vsock between a guest and host programs, all played from the input: a
 * list of commands, each a byte and its arguments. Models of both ends know
 * which bytes must come next on each connection they speak sensibly on; the
 * guest also sends headers of any content. After each input nothing is left.
 */

#include "tests/fuzz/fake_worker.h"
#include "tests/fuzz/fuzz.h"
#include "virtio/mmio.h"
#include "virtio/vsock_dev.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#define CID 42u
#define RAM_GPA 0x100000ull
#define RAM_BYTES (4ull << 20)
#define QUEUE_BYTES (2ull << 20)
#define QUEUE 64u
#define DATA_OFF 0x10000u
#define CHAIN_BYTES 0x4000u
#define HOST_PORT 52u
#define SLOTS 8u
#define CLIENTS 4u

struct queue {
	uint64_t gpa;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t seen, given;
};

/* One connection of the guest's; its port is its place. */
struct slot {
	bool asked, open, wild; /* wild: not modelled any more */
	int fd;                 /* the host program's end */
	uint64_t token;
	uint32_t sent, received; /* by the guest */
	uint32_t read, written;  /* by the host program */
	uint32_t fwd, buf_alloc; /* as the guest was told */
	uint32_t room;           /* as the device was told */
	uint8_t key;
};

static struct gmem mem;
static struct virtio_dev *dev;
static struct virtio_mmio *m;
static struct vsock_stats stats;
static struct queue rx, tx;
static bool rx_given[QUEUE / 2]; /* buffers come back in any order */
static struct slot slots[SLOTS];
static int clients[CLIENTS];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static const uint8_t *input;
static size_t left;
static uint8_t key;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static uint8_t next8(void)
{
	if (left == 0)
		return 0;
	left--;
	return *input++;
}

static uint32_t next16(void)
{
	uint32_t low = next8();

	return low | (uint32_t)next8() << 8;
}

static void next_bytes(void *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = next8();
}

/* ---- the device and its driver ---- */

static void on_connect(void *arg)
{
	(void)arg;
}

static void make(void)
{
	struct vsock_config config = {.guest_cid = CID,
		.patience_ns = 1,
		.stats = &stats,
		.on_connect = on_connect};
	void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct error err;

	must(ram != MAP_FAILED);
	must(gmem_add(&mem, RAM_GPA, ram, RAM_BYTES) == 0);
	config.listen_fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* In no directory, so nothing is left of it. */
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
		"mayfly-fuzz-vsock-%d", getpid());
	must(bind(config.listen_fd, (struct sockaddr *)&address,
		     sizeof(address)) == 0);
	must(listen(config.listen_fd, 64) == 0);
	must(vsock_create(&dev, fake_worker_get(), &config, &err) == 0);
	must(virtio_mmio_create(&m, dev, &mem,
		     eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), NULL, &err) == 0);
	must(dev->ops->attach(dev, &err) == 0);
}

static void reg(uint64_t off, uint32_t value)
{
	virtio_mmio_write(m, off, &value, sizeof(value));
}

static void set_queue(struct queue *q, unsigned index)
{
	uint32_t gpa = (uint32_t)(RAM_GPA + index * QUEUE_BYTES);

	*q = (struct queue){.gpa = gpa};
	q->desc = gmem_range(&mem, gpa, 1);
	q->avail = gmem_range(&mem, gpa + 0x4000, 1);
	q->used = gmem_range(&mem, gpa + 0x8000, 1);
	memset(q->desc, 0, DATA_OFF);
	reg(VIRTIO_MMIO_QUEUE_SEL, index);
	reg(VIRTIO_MMIO_QUEUE_NUM, QUEUE);
	reg(VIRTIO_MMIO_QUEUE_DESC_LOW, gpa);
	reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, gpa + 0x4000);
	reg(VIRTIO_MMIO_QUEUE_USED_LOW, gpa + 0x8000);
	reg(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void up(void)
{
	reg(VIRTIO_MMIO_STATUS, 1);
	reg(VIRTIO_MMIO_STATUS, 3);
	reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	reg(VIRTIO_MMIO_STATUS, 11);
	set_queue(&rx, 0);
	memset(rx_given, 0, sizeof(rx_given));
	set_queue(&tx, 1);
	reg(VIRTIO_MMIO_STATUS, 15);
	fake_worker_run();
}

/* No question stays without an answer, if a late one. */
static void close_slot(struct slot *s)
{
	if (s->asked && s->token != UINT64_MAX)
		vsock_connected(dev, s->token, -1);
	if (s->fd >= 0)
		close(s->fd);
	key++;
	*s = (struct slot){.fd = -1, .token = UINT64_MAX, .key = key};
}

static void down(void)
{
	const struct vsock *v = (struct vsock *)dev;

	reg(VIRTIO_MMIO_STATUS, 0);
	must(stats.connections == 0 && v->n_conns == 0);
	must(v->arena.n_used == 0 && v->arena.n_promised == 0);
	must(TAILQ_EMPTY(&v->talkers) && TAILQ_EMPTY(&v->limited));
	for (unsigned i = 0; i < SLOTS; i++)
		close_slot(&slots[i]);
	must(v->n_asked == 0);
}

static uint8_t *chain_memory(const struct queue *q, unsigned i)
{
	return (uint8_t *)q->desc + DATA_OFF + (size_t)i * CHAIN_BYTES;
}

/* Chain number i, of one piece or cut in two. */
static void offer(
	struct queue *q, unsigned i, uint32_t len, uint32_t cut, bool write)
{
	uint64_t gpa = q->gpa + DATA_OFF + (uint64_t)i * CHAIN_BYTES;
	uint16_t flags = write ? VRING_DESC_F_WRITE : 0;
	struct vring_desc *d = &q->desc[2 * (size_t)i];

	cut = cut > 0 && cut < len ? cut : 0;
	d[0] = (struct vring_desc){gpa, cut ? cut : len,
		(uint16_t)(flags | (cut ? VRING_DESC_F_NEXT : 0)),
		(uint16_t)(2 * i + 1)};
	d[1] = (struct vring_desc){gpa + cut, len - cut, flags, 0};
	q->avail->ring[q->avail->idx % QUEUE] = (uint16_t)(2 * i);
	q->avail->idx++;
	q->given++;
	reg(VIRTIO_MMIO_QUEUE_NOTIFY, q == &tx);
	fake_worker_run();
}

/* As long as the device takes none for want of buffers, nothing is sent. */
static void send_packet(const struct virtio_vsock_hdr *hdr, uint32_t n)
{
	unsigned i = tx.given % (QUEUE / 2);

	if ((uint16_t)(tx.given - tx.used->idx) >= QUEUE / 2)
		return;
	memcpy(chain_memory(&tx, i), hdr, sizeof(*hdr));
	offer(&tx, i, (uint32_t)sizeof(*hdr) + n, n % 7 * 10, false);
}

static void say(uint32_t port, uint16_t op, uint32_t flags, uint32_t n)
{
	struct slot *s = &slots[port % SLOTS];
	const struct virtio_vsock_hdr hdr = {.src_cid = CID,
		.dst_cid = 2,
		.src_port = port,
		.dst_port = HOST_PORT,
		.len = n,
		.type = 1,
		.op = op,
		.flags = flags,
		.buf_alloc = s->room,
		.fwd_cnt = s->received};

	send_packet(&hdr, n);
}

/* ---- the daemon's model ---- */

static void host_answers(uint32_t port, bool there)
{
	struct slot *s = &slots[port];
	int pair[2] = {-1, -1};

	if (!s->asked || s->fd >= 0 || s->token == UINT64_MAX)
		return;
	if (there)
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ==
			0);
	s->fd = pair[0];
	vsock_connected(dev, s->token, pair[1]);
	s->token = UINT64_MAX;
}

/* ---- the guest's model ---- */

/* Whoever the guest says something wild about is not modelled any more. */
static void give_up_on(uint32_t port)
{
	if (port < SLOTS)
		slots[port].wild = true;
}

static void guest_bytes(uint32_t port, uint32_t n)
{
	struct slot *s = &slots[port];
	uint32_t room = s->buf_alloc - (s->sent - s->fwd);
	uint8_t *to = chain_memory(&tx, tx.given % (QUEUE / 2)) +
		      sizeof(struct virtio_vsock_hdr);

	if (!s->open || s->wild ||
		(uint16_t)(tx.given - tx.used->idx) >= QUEUE / 2)
		return;
	if (n > room)
		n = room;
	for (uint32_t i = 0; i < n; i++)
		to[i] = (uint8_t)(s->key + (s->sent + i) * 3);
	s->sent += n;
	say(port, VIRTIO_VSOCK_OP_RW, 0, n);
}

static void guest_hears(const struct virtio_vsock_hdr *hdr, const uint8_t *data)
{
	struct slot *s = &slots[hdr->dst_port % SLOTS];

	if (hdr->dst_port >= SLOTS || hdr->src_port != HOST_PORT ||
		hdr->type != 1 || hdr->src_cid != 2)
		return;
	s->fwd = hdr->fwd_cnt;
	s->buf_alloc = hdr->buf_alloc;
	if (hdr->op == VIRTIO_VSOCK_OP_RESPONSE)
		s->open = true;
	if (hdr->op == VIRTIO_VSOCK_OP_RST) {
		host_answers(hdr->dst_port, false);
		s->asked = s->open = false;
	}
	if (s->wild)
		return;
	/* Nothing was passed on that was not sent. */
	must(s->sent - s->fwd <= s->buf_alloc || !s->open);
	if (hdr->op != VIRTIO_VSOCK_OP_RW)
		return;
	must(s->open && hdr->len > 0);
	for (uint32_t i = 0; i < hdr->len; i++)
		must(data[i] == (uint8_t)(s->key + (s->received + i) * 5));
	s->received += hdr->len;
	must(s->received <= s->written);
}

/* Takes up to n packets; tells how much it has room for if that is asked. */
static void guest_takes(unsigned n, bool tell)
{
	while (n-- > 0 && rx.seen != rx.used->idx) {
		struct vring_used_elem e = rx.used->ring[rx.seen++ % QUEUE];
		struct virtio_vsock_hdr hdr;
		const uint8_t *at = chain_memory(&rx, e.id / 2);

		must(rx_given[e.id / 2]);
		rx_given[e.id / 2] = false;
		if (e.len == 0)
			continue;
		memcpy(&hdr, at, sizeof(hdr));
		must(e.len == sizeof(hdr) + hdr.len && hdr.dst_cid == CID);
		guest_hears(&hdr, at + sizeof(hdr));
		if (hdr.op == VIRTIO_VSOCK_OP_REQUEST) {
			hdr.dst_port ^= hdr.src_port;
			hdr.src_port ^= hdr.dst_port;
			hdr.dst_port ^= hdr.src_port;
			hdr.src_cid = CID;
			hdr.dst_cid = 2;
			hdr.op = VIRTIO_VSOCK_OP_RESPONSE;
			if (hdr.src_port >= SLOTS)
				send_packet(&hdr, 0);
		} else if (tell && hdr.op == VIRTIO_VSOCK_OP_RW &&
			   hdr.dst_port < SLOTS) {
			say(hdr.dst_port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
		}
	}
}

/* Whether it is for this port; others it refuses. */
static bool daemon_is_asked(uint32_t port, uint64_t *ret_token)
{
	const struct vsock_conn *c;
	uint32_t host_port;

	while (vsock_next_connect(dev, ret_token, &host_port)) {
		c = vsock_conn_by_token((struct vsock *)dev, *ret_token);
		must(c && c->host_port == host_port);
		if (c->guest_port == port && host_port == HOST_PORT)
			return true;
		vsock_connected(dev, *ret_token, -1);
	}
	*ret_token = UINT64_MAX;
	return false;
}

static void guest_request(uint32_t port)
{
	struct slot *s = &slots[port];

	if (s->asked || tx.given != tx.used->idx)
		return;
	/* Of the port's last connection nothing is on its way. */
	guest_takes(QUEUE, false);
	close_slot(s);
	s->asked = true;
	s->room = 3000;
	say(port, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	s->wild = !daemon_is_asked(port, &s->token);
}

static void guest_resets(uint32_t port)
{
	struct slot *s = &slots[port];

	guest_takes(QUEUE, false);
	say(port, VIRTIO_VSOCK_OP_RST, 0, 0);
	host_answers(port, false);
	s->asked = s->open = false;
	s->wild = true;
}

static void guest_gives(unsigned n, uint32_t bytes)
{
	for (unsigned i = 0; i < QUEUE / 2 && n > 0; i++) {
		if (rx_given[i])
			continue;
		rx_given[i] = true;
		n--;
		offer(&rx, i, 1 + bytes % (CHAIN_BYTES - 1), bytes % 60, true);
	}
}

/* Any header; mostly of this guest, for the host. */
static void guest_anything(void)
{
	struct virtio_vsock_hdr hdr;
	uint32_t n = next16() % (CHAIN_BYTES - sizeof(hdr));
	uint8_t how = next8();

	next_bytes(&hdr, sizeof(hdr));
	if (how & 1)
		hdr.src_cid = CID;
	if (how & 2)
		hdr.dst_cid = 2;
	if (how & 4)
		hdr.type = 1;
	if (how & 8)
		hdr.op %= 9;
	if (how & 16)
		hdr.dst_port = HOST_PORT;
	if (how & 32)
		hdr.src_port %= 2 * SLOTS;
	give_up_on(hdr.src_port);
	send_packet(&hdr, n);
}

/* ---- host programs ---- */

static void host_writes(uint32_t port, uint32_t n)
{
	struct slot *s = &slots[port];
	uint8_t data[65536];
	ssize_t r;

	if (s->fd < 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		data[i] = (uint8_t)(s->key + (s->written + i) * 5);
	r = send(s->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r > 0)
		s->written += (uint32_t)r;
	fake_worker_run();
}

static void host_reads(uint32_t port, uint32_t n)
{
	struct slot *s = &slots[port];
	uint8_t data[65536];
	ssize_t r;

	if (s->fd < 0)
		return;
	r = recv(s->fd, data, n, MSG_DONTWAIT);
	for (ssize_t i = 0; i < r && !s->wild; i++)
		must(data[i] == (uint8_t)(s->key + (s->read + i) * 3));
	if (r > 0)
		s->read += (uint32_t)r;
	must(s->wild || s->read <= s->sent);
	fake_worker_run();
}

static void host_ends(uint32_t port, bool all)
{
	struct slot *s = &slots[port];

	if (s->fd < 0)
		return;
	shutdown(s->fd, all ? SHUT_RDWR : SHUT_WR);
	if (all)
		close(s->fd);
	if (all)
		s->fd = -1;
	fake_worker_run();
}

static void client(unsigned i, uint8_t n)
{
	char line[64];

	next_bytes(line, n % sizeof(line));
	if (clients[i] <= 0) {
		clients[i] = socket(
			AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(clients[i], (struct sockaddr *)&address,
			sizeof(address));
	}
	if (send(clients[i], line, n % sizeof(line),
		    MSG_DONTWAIT | MSG_NOSIGNAL) <= 0 ||
		n & 128) {
		close(clients[i]);
		clients[i] = 0;
	}
	fake_worker_run();
}

static void command(void)
{
	uint8_t c = next8(), port = c / 16 % SLOTS;

	switch (c % 16) {
	case 0:
		guest_request(port);
		break;
	case 1:
		host_answers(port, c & 128);
		break;
	case 2:
		guest_bytes(port, next16() % 8000);
		break;
	case 3:
		host_writes(port, next16());
		break;
	case 4:
		host_reads(port, next16());
		break;
	case 5:
		if (slots[port].open)
			give_up_on(port);
		say(port, VIRTIO_VSOCK_OP_SHUTDOWN, c / 64, 0);
		break;
	case 6:
		guest_resets(port);
		break;
	case 7:
		guest_anything();
		break;
	case 8:
		guest_gives(c / 16, next16());
		break;
	case 9:
	case 10:
		guest_takes(c / 16, c & 1);
		break;
	case 11:
		slots[port].room = next16();
		say(port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
		break;
	case 12:
		host_ends(port, c & 128);
		break;
	case 13:
		client(port % CLIENTS, next8());
		break;
	case 14:
		fake_worker_expire();
		fake_worker_run();
		break;
	default:
		if (c != 0xff)
			break;
		down();
		up();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!dev)
		make();
	input = data;
	left = size;
	key = 0;
	for (unsigned i = 0; i < SLOTS; i++) {
		slots[i].fd = -1;
		close_slot(&slots[i]);
	}
	up();
	while (left > 0)
		command();
	down();
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (clients[i] > 0)
			close(clients[i]);
		clients[i] = 0;
	}
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const uint8_t life[] = {0xf8, 0xff, 0x0f, 0x00, 0x81, 0xf9, 0x02,
		100, 0, 0x04, 0xff, 0, 0x03, 200, 0, 0xf9, 0x0c, 0xf9, 0x05};
	static const uint8_t stall[] = {0xf8, 0xff, 0x0f, 0x10, 0x91, 0xf9,
		0x12, 0, 31, 0x12, 0, 31, 0x12, 0, 31, 0x12, 0, 31, 0xf9, 0x12,
		0, 31, 0x14, 0xff, 0xff, 0x14, 0xff, 0xff, 0xf9, 0x8c};
	static const uint8_t floods[] = {0xf8, 0xff, 0x0f, 0x20, 0xa1, 0xf9,
		0x2b, 50, 0, 0x23, 0xff, 0xff, 0xf9, 0x23, 0xff, 0xff, 0xf9,
		0xf8, 0, 1, 0xf9, 0xe5, 0xf9};
	static const uint8_t clients_[] = {0xf8, 0xff, 0x0f, 0x0d, 14, 'C', 'O',
		'N', 'N', 'E', 'C', 'T', ' ', '9', '9', '\n', 'x', 'y', 'z',
		0xf9, 0xf9, 0x1d, 3, 'C', 'O', 'N', 0x0e, 0xff};
	static const uint8_t header[] = {0xf8, 0xff, 0x0f, 7, 4, 0, 63, 42, 0,
		0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 52, 0, 0,
		0, 4, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
		0xf9};
	static const struct {
		const uint8_t *bytes;
		size_t size;
	} seeds[] = {{life, sizeof(life)}, {stall, sizeof(stall)},
		{floods, sizeof(floods)}, {clients_, sizeof(clients_)},
		{header, sizeof(header)}};

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || seeds[n].size > cap)
		return 0;
	memcpy(buf, seeds[n].bytes, seeds[n].size);
	return seeds[n].size;
}
