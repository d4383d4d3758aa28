#include "net_driver.h"

#include "base/clock.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 10000000000ull
#define RING_BYTES 0x4000ull
#define AVAIL_OFF 0x1000
#define USED_OFF 0x2000

static void on_error(void *arg, int err)
{
	struct nd *d = arg;

	d->last_error = err;
	__atomic_fetch_add(&d->n_errors, 1, __ATOMIC_RELEASE);
}

void nd_init(struct nd *d, struct net_config config)
{
	struct worker_config wc = {.name = "net", .entries = 128};
	void *ram = mmap(NULL, ND_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct error err;

	assert(ram != MAP_FAILED);
	memset(d, 0, sizeof(*d));
	assert(gmem_add(&d->mem, ND_GPA, ram, ND_BYTES) == 0);
	d->n_queues = 2 * config.n_pairs + 1;
	for (unsigned i = 0; i < d->n_queues; i++) {
		struct nd_queue *q = &d->q[i];

		q->gpa = ND_GPA + i * RING_BYTES;
		q->size = ND_SIZE;
		q->desc = nd_ptr(d, q->gpa);
		q->avail = nd_ptr(d, q->gpa + AVAIL_OFF);
		q->used = nd_ptr(d, q->gpa + USED_OFF);
	}
	config.stats = &d->stats;
	config.on_error = on_error;
	config.arg = d;
	d->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert(worker_create(&d->worker, &wc, &err) == 0);
	assert(net_create(&d->dev, d->worker, &config, &err) == 0);
	assert(virtio_mmio_create(&d->m, d->dev, &d->mem, d->irq, NULL, &err) ==
		0);
	assert(d->dev->ops->attach(d->dev, &err) == 0);
	assert(worker_start(d->worker, &err) == 0);
}

void nd_fini(struct nd *d)
{
	virtio_mmio_destroy(d->m);
	worker_stop(d->worker);
	d->dev->ops->destroy(d->dev);
	worker_destroy(d->worker);
	close(d->irq);
	munmap(d->mem.regions[0].hva, ND_BYTES);
}

uint64_t nd_place(unsigned q, unsigned i)
{
	return ND_DATA + (q * 256ull + i) * ND_PLACE;
}

void *nd_ptr(const struct nd *d, uint64_t gpa)
{
	assert(gpa - ND_GPA < ND_BYTES);
	return d->mem.regions[0].hva + (gpa - ND_GPA);
}

static void set_addr(struct nd *d, uint32_t low, uint64_t gpa)
{
	driver_write(d->m, low, (uint32_t)gpa);
	driver_write(d->m, low + 4, (uint32_t)(gpa >> 32));
}

void nd_up(struct nd *d, uint64_t features, unsigned n_queues)
{
	driver_negotiate(d->m, features);
	for (unsigned i = 0; i < n_queues; i++) {
		struct nd_queue *q = &d->q[i];

		if (d->skipped & (1u << i))
			continue;
		q->used_seen = 0;
		q->avail->idx = 0;
		q->used->idx = 0;
		driver_write(d->m, VIRTIO_MMIO_QUEUE_SEL, i);
		driver_write(d->m, VIRTIO_MMIO_QUEUE_NUM, q->size);
		set_addr(d, VIRTIO_MMIO_QUEUE_DESC_LOW, q->gpa);
		set_addr(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, q->gpa + AVAIL_OFF);
		set_addr(d, VIRTIO_MMIO_QUEUE_USED_LOW, q->gpa + USED_OFF);
		driver_write(d->m, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	driver_write(d->m, VIRTIO_MMIO_STATUS,
		nd_status(d) | VIRTIO_CONFIG_S_DRIVER_OK);
}

uint32_t nd_status(struct nd *d)
{
	return driver_read(d->m, VIRTIO_MMIO_STATUS);
}

void nd_reset(struct nd *d)
{
	driver_write(d->m, VIRTIO_MMIO_STATUS, 0);
}

void nd_offer(
	struct nd *d, unsigned q, uint16_t first, const struct driver_piece *p)
{
	struct nd_queue *queue = &d->q[q];
	uint16_t idx = queue->avail->idx;

	for (uint16_t n = first; p->len; p++, n++)
		queue->desc[n] = (struct vring_desc){
			.addr = p->gpa,
			.len = p->len,
			.flags =
				(uint16_t)((p->write ? VRING_DESC_F_WRITE : 0) |
					   (p[1].len ? VRING_DESC_F_NEXT : 0)),
			.next = (uint16_t)(n + 1),
		};
	queue->avail->ring[idx % queue->size] = first;
	__atomic_store_n(
		&queue->avail->idx, (uint16_t)(idx + 1), __ATOMIC_SEQ_CST);
}

void nd_offer_rx(struct nd *d, unsigned q, uint16_t i, uint32_t len)
{
	struct driver_piece p[] = {{nd_place(q, i), len, true}, {0}};

	nd_offer(d, q, i, p);
}

void nd_offer_tx(
	struct nd *d, unsigned q, uint16_t i, const void *frame, size_t len)
{
	struct driver_piece p[] = {
		{nd_place(q, i), (uint32_t)(12 + len), false}, {0}};

	memset(nd_ptr(d, p[0].gpa), 0, 12);
	memcpy(nd_ptr(d, p[0].gpa + 12), frame, len);
	nd_offer(d, q, i, p);
}

void nd_kick(struct nd *d, unsigned q)
{
	driver_write(d->m, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

bool nd_used(struct nd *d, unsigned q, uint32_t *ret_id, uint32_t *ret_len)
{
	struct nd_queue *queue = &d->q[q];
	uint16_t idx = __atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE);
	const struct vring_used_elem *e =
		&queue->used->ring[queue->used_seen % queue->size];

	if (idx == queue->used_seen)
		return false;
	*ret_id = e->id;
	*ret_len = e->len;
	queue->used_seen++;
	return true;
}

uint32_t nd_wait(struct nd *d, unsigned q, uint32_t *ret_len)
{
	uint64_t end = clock_ns() + PATIENCE_NS;
	uint32_t id = 0;

	while (!nd_used(d, q, &id, ret_len)) {
		assert(clock_ns() < end);
		sched_yield();
	}
	return id;
}

bool nd_counts(const uint64_t *counter, uint64_t n)
{
	uint64_t end = clock_ns() + PATIENCE_NS;

	while (__atomic_load_n(counter, __ATOMIC_RELAXED) != n) {
		if (clock_ns() > end)
			return false;
		sched_yield();
	}
	return true;
}

uint64_t nd_interrupts(struct nd *d)
{
	uint64_t n;

	return read(d->irq, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

void nd_pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

uint8_t nd_ctrl(struct nd *d, unsigned q, uint8_t class, uint8_t cmd,
	const void *data, uint32_t len)
{
	uint64_t at = nd_place(q, 0);
	struct driver_piece p[] = {
		{at, 2, false}, {at + 16, len, false}, {at + 64, 1, true}, {0}};
	uint8_t *mem = nd_ptr(d, at);
	uint32_t used;

	mem[0] = class;
	mem[1] = cmd;
	mem[64] = 0xee;
	if (len)
		memcpy(mem + 16, data, len);
	else
		p[1] = p[2], p[2].len = 0;
	nd_offer(d, q, 0, p);
	nd_kick(d, q);
	nd_wait(d, q, &used);
	assert(used == 1);
	return mem[64];
}
