#include "vsock_guest.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define RAM_GPA 0x100000ull
#define RAM_BYTES (8ull << 20)
/* Of each queue: rings, an indirect table for each chain, then the data. */
#define QUEUE_BYTES (4ull << 20)
#define AVAIL_OFF 0x4000u
#define USED_OFF 0x8000u
#define INDIRECT_OFF 0x10000u
#define DATA_OFF 0x100000u
#define TABLE_ENTRIES 32u

#define PATIENCE_MS 10000

static void give_up(const char *what)
{
	fprintf(stderr, "vsock_guest: %s\n", what);
	abort();
}

static void nap(void)
{
	struct timespec t = {.tv_nsec = 50000};

	nanosleep(&t, NULL);
}

static void *ptr(const struct vsock_guest *g, uint64_t gpa)
{
	void *p = gmem_range(&g->mem, gpa, 1);

	assert(p);
	return p;
}

static void place(struct vsock_guest *g, struct guest_queue *q, unsigned index)
{
	*q = (struct guest_queue){.index = index};
	q->gpa = RAM_GPA + index * QUEUE_BYTES;
	q->data_gpa = q->gpa + DATA_OFF;
	q->desc = ptr(g, q->gpa);
	q->avail = ptr(g, q->gpa + AVAIL_OFF);
	q->used = ptr(g, q->gpa + USED_OFF);
	q->indirect = ptr(g, q->gpa + INDIRECT_OFF);
	memset(q->desc, 0, INDIRECT_OFF);
}

static void on_connect(void *arg)
{
	struct vsock_guest *g = arg;

	__atomic_fetch_add(&g->wakes, 1, __ATOMIC_RELEASE);
}

static void on_ready(void *arg)
{
	struct vsock_guest *g = arg;

	__atomic_fetch_add(&g->ready, 1, __ATOMIC_RELEASE);
}

static void on_needs_reset(void *arg)
{
	struct vsock_guest *g = arg;

	__atomic_fetch_add(&g->needs_reset, 1, __ATOMIC_RELEASE);
}

void vsock_guest_listen(struct vsock_guest *g)
{
	static unsigned n;
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(g->path, sizeof(g->path), "/tmp/mayfly-vsock-test.%d.%u",
		getpid(), n++);
	memcpy(a.sun_path, g->path, sizeof(g->path));
	g->listen_fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(g->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		listen(g->listen_fd, 4096) < 0)
		give_up("no listening socket");
}

void vsock_guest_make(struct vsock_guest *g, uint64_t patience_ns)
{
	const struct worker_config wc = {.name = "net",
		.entries = 64,
		.n_spare_files = VSOCK_MAX_CONNECTIONS};
	struct virtio_mmio_events events = {
		.needs_reset = on_needs_reset, .arg = g};
	struct vsock_config config = {.guest_cid = GUEST_CID,
		.patience_ns = patience_ns,
		.stats = &g->stats,
		.on_connect = on_connect,
		.on_ready = on_ready,
		.ready_port = 77,
		.arg = g};
	struct error err = {0};
	void *ram;

	memset(g, 0, sizeof(*g));
	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(ram != MAP_FAILED);
	assert(gmem_add(&g->mem, RAM_GPA, ram, RAM_BYTES) == 0);
	vsock_guest_listen(g);
	config.listen_fd = g->listen_fd;
	g->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker_create(&g->worker, &wc, &err) < 0 ||
		vsock_create(&g->dev, g->worker, &config, &err) < 0 ||
		virtio_mmio_create(
			&g->m, g->dev, &g->mem, g->irq, &events, &err) < 0 ||
		g->dev->ops->attach(g->dev, &err) < 0 ||
		worker_start(g->worker, &err) < 0)
		give_up(err.msg);
}

void vsock_guest_borrow(struct vsock_guest *g, const struct gmem *mem,
	struct virtio_mmio *m, struct virtio_dev *dev, struct worker *worker)
{
	g->mem = *mem;
	g->m = m;
	g->dev = dev;
	g->worker = worker;
}

void vsock_guest_free(struct vsock_guest *g)
{
	virtio_mmio_destroy(g->m);
	worker_stop(g->worker);
	g->dev->ops->destroy(g->dev);
	worker_destroy(g->worker);
	close_fd(&g->listen_fd);
	close_fd(&g->irq);
	unlink(g->path);
	munmap(g->mem.regions[0].hva, RAM_BYTES);
}

/* ---- the driver ---- */

static void reg(struct vsock_guest *g, uint64_t off, uint32_t value)
{
	virtio_mmio_write(g->m, off, &value, sizeof(value));
}

static void set_queue(struct vsock_guest *g, const struct guest_queue *q)
{
	reg(g, VIRTIO_MMIO_QUEUE_SEL, q->index);
	reg(g, VIRTIO_MMIO_QUEUE_NUM, GUEST_QUEUE);
	reg(g, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q->gpa);
	reg(g, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
	reg(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q->gpa + AVAIL_OFF);
	reg(g, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
	reg(g, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q->gpa + USED_OFF);
	reg(g, VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
	reg(g, VIRTIO_MMIO_QUEUE_READY, 1);
}

void vsock_guest_reset(struct vsock_guest *g)
{
	reg(g, VIRTIO_MMIO_STATUS, 0);
}

void vsock_guest_up(
	struct vsock_guest *g, uint64_t features, unsigned n_buffers)
{
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	vsock_guest_reset(g);
	place(g, &g->rx, 0);
	place(g, &g->tx, 1);
	g->indirect = features & GUEST_INDIRECT;
	reg(g, VIRTIO_MMIO_STATUS, status);
	for (uint32_t sel = 0; sel < 2; sel++) {
		reg(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		reg(g, VIRTIO_MMIO_DRIVER_FEATURES,
			(uint32_t)(features >> (32 * sel)));
	}
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	reg(g, VIRTIO_MMIO_STATUS, status);
	set_queue(g, &g->rx);
	set_queue(g, &g->tx);
	vsock_guest_give(g, n_buffers, GUEST_RX_BYTES);
	reg(g, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Chain number i of a queue always has the same memory. Without indirect
 * tables, descriptors i * 4 on; so chains of at most 4 pieces then. */
static void lay(struct vsock_guest *g, struct guest_queue *q, unsigned i,
	const uint32_t *lens, bool write)
{
	struct vring_desc *table = q->desc, *first = &table[(size_t)i * 4];
	uint64_t at =
		q->data_gpa + (uint64_t)i * (GUEST_TX_BYTES + GUEST_RX_BYTES);
	uint16_t base = (uint16_t)(i * 4);
	unsigned n = 0;

	if (g->indirect) {
		table = (struct vring_desc *)q->indirect +
			(size_t)i * TABLE_ENTRIES;
		base = 0;
	}
	for (; lens[n]; n++) {
		table[base + n] = (struct vring_desc){
			.addr = at,
			.len = lens[n],
			.flags = (uint16_t)((write ? VRING_DESC_F_WRITE : 0) |
					    (lens[n + 1] ? VRING_DESC_F_NEXT
							 : 0)),
			.next = (uint16_t)(base + n + 1),
		};
		at += lens[n];
	}
	assert(n > 0 && n <= (g->indirect ? TABLE_ENTRIES : 4));
	if (g->indirect)
		*first = (struct vring_desc){
			.addr = q->gpa + INDIRECT_OFF +
				(uint64_t)i * TABLE_ENTRIES * sizeof(*table),
			.len = n * (uint32_t)sizeof(*table),
			.flags = VRING_DESC_F_INDIRECT,
		};
}

static unsigned next_chain(const struct guest_queue *q)
{
	return q->n_offered % (GUEST_QUEUE / 4);
}

static void *chain_memory(
	struct vsock_guest *g, const struct guest_queue *q, unsigned i)
{
	return ptr(g,
		q->data_gpa + (uint64_t)i * (GUEST_TX_BYTES + GUEST_RX_BYTES));
}

void *vsock_guest_tx_memory(struct vsock_guest *g)
{
	return chain_memory(g, &g->tx, next_chain(&g->tx));
}

static void publish(struct vsock_guest *g, struct guest_queue *q, unsigned i)
{
	struct vring_avail *avail = q->avail;

	avail->ring[avail->idx % GUEST_QUEUE] = (uint16_t)(i * 4);
	__atomic_store_n(
		&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_SEQ_CST);
	q->n_offered++;
	if (!g->holds_kicks)
		reg(g, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
}

void vsock_guest_offer(struct vsock_guest *g, struct guest_queue *q,
	const uint32_t *lens, bool write)
{
	unsigned i = next_chain(q);

	lay(g, q, i, lens, write);
	publish(g, q, i);
}

void vsock_guest_give(struct vsock_guest *g, unsigned n_buffers, uint32_t bytes)
{
	const uint32_t lens[] = {bytes, 0}, split[] = {20, 30, bytes - 50, 0};

	for (unsigned i = 0; i < n_buffers; i++)
		vsock_guest_offer(g, &g->rx,
			g->split_headers && bytes > 50 ? split : lens, true);
}

static uint16_t used_idx(const struct guest_queue *q)
{
	const struct vring_used *used = q->used;

	return __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
}

static void wait_used(struct guest_queue *q, const char *what)
{
	for (int ms = 0; used_idx(q) == q->used_seen; ms++) {
		if (ms == 20 * PATIENCE_MS)
			give_up(what);
		nap();
	}
}

void vsock_guest_send(struct vsock_guest *g, const struct virtio_vsock_hdr *hdr,
	const void *payload, size_t n)
{
	const uint32_t whole[] = {(uint32_t)(sizeof(*hdr) + n), 0};
	const uint32_t split[] = {10, 30, (uint32_t)n + 4, 0};
	struct virtio_vsock_hdr h = *hdr;
	uint8_t *to = vsock_guest_tx_memory(g);

	if (!h.src_cid)
		h.src_cid = GUEST_CID;
	if (!h.dst_cid)
		h.dst_cid = 2;
	if (!h.type)
		h.type = VIRTIO_VSOCK_TYPE_STREAM;
	if (!h.len)
		h.len = (uint32_t)n;
	if (!h.buf_alloc)
		h.buf_alloc = 1u << 20;
	memcpy(to, &h, sizeof(h));
	if (n > 0)
		memcpy(to + sizeof(h), payload, n);
	vsock_guest_offer(g, &g->tx, g->split_headers ? split : whole, false);
	wait_used(&g->tx, "a packet was not taken");
	g->tx.used_seen++;
}

bool vsock_guest_has(struct vsock_guest *g)
{
	return used_idx(&g->rx) != g->rx.used_seen;
}

void vsock_guest_recv(
	struct vsock_guest *g, struct virtio_vsock_hdr *ret, void *buf)
{
	const struct vring_used *used = g->rx.used;
	struct vring_used_elem e;
	const uint8_t *from;
	unsigned i;

	wait_used(&g->rx, "no packet came");
	e = used->ring[g->rx.used_seen++ % GUEST_QUEUE];
	i = e.id / 4;
	from = chain_memory(g, &g->rx, i);
	memcpy(ret, from, sizeof(*ret));
	assert(e.len == sizeof(*ret) + ret->len);
	if (buf)
		memcpy(buf, from + sizeof(*ret), ret->len);
	publish(g, &g->rx, i);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Sockets and the ring are at rest when several turns brought nothing. */
void vsock_guest_sync(struct vsock_guest *g)
{
	for (unsigned i = 0; i < 20; i++) {
		worker_call(g->worker, nothing, NULL);
		nap();
	}
}

bool vsock_guest_is_quiet(struct vsock_guest *g)
{
	vsock_guest_sync(g);
	return !vsock_guest_has(g);
}

/* ---- the host ---- */

int vsock_guest_client(const struct vsock_guest *g)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, g->path, sizeof(g->path));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		give_up("a client cannot connect");
	return fd;
}

static void wait_for(int fd, short events, const char *what)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, PATIENCE_MS) != 1)
		give_up(what);
}

void vsock_host_read(int fd, void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r;

		wait_for(fd, POLLIN, "nothing to be read");
		r = read(fd, (uint8_t *)buf + done, n - done);
		if (r <= 0)
			give_up("a host peer's read ended early");
		done += (size_t)r;
	}
}

void vsock_host_write(int fd, const void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r;

		wait_for(fd, POLLOUT, "no room to write");
		r = send(fd, (const uint8_t *)buf + done, n - done,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && errno == EAGAIN)
			continue;
		if (r <= 0)
			give_up("a host peer's write failed");
		done += (size_t)r;
	}
}

bool vsock_host_is_closed(int fd)
{
	char byte;
	ssize_t r;

	wait_for(fd, POLLIN, "not closed");
	r = recv(fd, &byte, 1, MSG_DONTWAIT);
	return r == 0 || (r < 0 && errno == ECONNRESET);
}
