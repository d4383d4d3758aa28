/*
 * The mmio transport against a driver that writes any register at any time. The
 * input is a list of accesses of 12 bytes: what, length, 16-bit offset, 64-bit
 * value. A device is started only with features that were offered and taken,
 * and with queues in guest memory; it is stopped before they go.
 */

#include "virtio/mmio.h"
#include "tests/fuzz/fuzz.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RAM_GPA 0x10000ull
#define RAM_BYTES 0x4000u
#define N_QUEUES 2u
#define OFFERED (1ull << VIRTIO_F_VERSION_1 | 1ull << 29 | 1ull << 28 | 1u << 9)

enum what { READ, WRITE, INTERRUPT, BROKEN, UPDATE, WHATS };

struct access {
	uint8_t what, len;
	uint16_t off;
	uint32_t value, high;
};

static struct {
	struct gmem mem;
	struct virtio_mmio *m;
	struct virtio_dev dev;
	struct virtq vqs[N_QUEUES];
	uint8_t config[12];
	bool live;
	int irq;
} f;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int start(struct virtio_dev *d)
{
	check(!f.live);
	check(!(d->acked & ~OFFERED));
	check(d->acked & (1ull << VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < N_QUEUES; i++) {
		const struct virtq *q = &f.vqs[i];

		if (!q->ready)
			continue;
		check(q->size > 0 && q->size <= q->size_max);
		check(gmem_range(&f.mem, q->desc_gpa, 16ull * q->size) ==
			q->desc);
		check(gmem_range(&f.mem, q->avail_gpa, 6 + 2ull * q->size) ==
			q->avail);
		check(gmem_range(&f.mem, q->used_gpa, 6 + 8ull * q->size) ==
			q->used);
	}
	/* A device wants its first queue. */
	if (!f.vqs[0].ready)
		return -1;
	f.live = true;
	return 0;
}

static void stop(struct virtio_dev *d)
{
	check(f.live && d->acked && f.vqs[0].desc);
	f.live = false;
}

static void config_write(
	struct virtio_dev *d, size_t off, const void *data, size_t len)
{
	check(len > 0 && off + len <= d->config_len);
	d->transport->config_update(d, off, data, len);
}

static const struct virtio_dev_ops ops = {
	.id = 1, .start = start, .stop = stop, .config_write = config_write};

static void check_state(void)
{
	uint32_t status = 0;

	virtio_mmio_read(f.m, VIRTIO_MMIO_STATUS, &status, 4);
	check(!(status & VIRTIO_CONFIG_S_DRIVER_OK) ||
		(status & VIRTIO_CONFIG_S_FEATURES_OK));
	check(!(status & VIRTIO_CONFIG_S_FEATURES_OK) ||
		(status & VIRTIO_CONFIG_S_DRIVER));
	check(!f.live || (status & VIRTIO_CONFIG_S_DRIVER_OK));
	check(f.live || !(status & VIRTIO_CONFIG_S_DRIVER_OK) ||
		(status & VIRTIO_CONFIG_S_NEEDS_RESET));
	for (unsigned i = 0; i < N_QUEUES; i++)
		check(f.vqs[i].size <= f.vqs[i].size_max);
}

static void run(const struct access *a)
{
	static const unsigned lens[] = {4, 1, 2, 8};
	const struct virtio_transport_ops *transport = f.dev.transport;
	uint8_t buf[8];

	check(transport != NULL);
	memcpy(buf, &a->value, sizeof(buf));
	switch ((enum what)(a->what % WHATS)) {
	case READ:
		virtio_mmio_read(f.m, a->off, buf, lens[a->len % 4]);
		break;
	case WRITE:
		virtio_mmio_write(f.m, a->off, buf, lens[a->len % 4]);
		break;
	case INTERRUPT:
		transport->interrupt(&f.dev, &f.vqs[0]);
		break;
	case BROKEN:
		transport->broken(&f.dev);
		break;
	case UPDATE:
		transport->config_update(&f.dev, a->len % 12, buf, 1);
		break;
	case WHATS:
		break;
	}
	check_state();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct access a;
	struct error err;
	uint8_t *ram = calloc(1, RAM_BYTES);

	memset(&f, 0, sizeof(f));
	check(ram && gmem_add(&f.mem, RAM_GPA, ram, RAM_BYTES) == 0);
	f.irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f.vqs[0].size_max = VIRTQ_MAX;
	f.vqs[1].size_max = 16;
	f.dev = (struct virtio_dev){.ops = &ops,
		.features = OFFERED,
		.config = f.config,
		.config_len = sizeof(f.config),
		.vqs = f.vqs,
		.n_vqs = N_QUEUES};
	check(virtio_mmio_create(&f.m, &f.dev, &f.mem, f.irq, NULL, &err) == 0);
	for (; size >= sizeof(a); data += sizeof(a), size -= sizeof(a)) {
		memcpy(&a, data, sizeof(a));
		run(&a);
	}
	virtio_mmio_destroy(f.m);
	check(!f.live);
	close(f.irq);
	free(ram);
	return 0;
}

/* All of a driver's start, some work, and a reset or another start. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const struct access program[] = {
		{READ, 0, VIRTIO_MMIO_MAGIC_VALUE, 0, 0},
		{WRITE, 0, VIRTIO_MMIO_STATUS, 1, 0},
		{WRITE, 0, VIRTIO_MMIO_STATUS, 3, 0},
		{WRITE, 0, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1, 0},
		{READ, 0, VIRTIO_MMIO_DEVICE_FEATURES, 0, 0},
		{WRITE, 0, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1, 0},
		{WRITE, 0, VIRTIO_MMIO_DRIVER_FEATURES, 1, 0},
		{WRITE, 0, VIRTIO_MMIO_STATUS, 11, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_SEL, 0, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_NUM, 8, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x10000, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x11000, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_USED_LOW, 0x12000, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_READY, 1, 0},
		{WRITE, 0, VIRTIO_MMIO_STATUS, 15, 0},
		{WRITE, 0, VIRTIO_MMIO_QUEUE_NOTIFY, 0, 0},
		{INTERRUPT, 0, 0, 0, 0},
		{WRITE, 0, VIRTIO_MMIO_INTERRUPT_ACK, 1, 0},
		{WRITE, 3, VIRTIO_MMIO_CONFIG + 4, 5, 6},
		{READ, 3, VIRTIO_MMIO_CONFIG + 4, 0, 0},
		{UPDATE, 3, 0, 9, 0},
		{READ, 0, VIRTIO_MMIO_CONFIG_GENERATION, 0, 0},
		{BROKEN, 0, 0, 0, 0},
	};
	struct access last = {WRITE, 0, VIRTIO_MMIO_STATUS, 0, 0};

	if (n > 1 || cap < 2 * sizeof(program) + sizeof(last))
		return 0;
	if (n == 1) /* the queue goes, and all again without a reset */
		last.off = VIRTIO_MMIO_QUEUE_READY;
	memcpy(buf, program, sizeof(program));
	memcpy(buf + sizeof(program), &last, sizeof(last));
	memcpy(buf + sizeof(program) + sizeof(last), program, sizeof(program));
	return 2 * sizeof(program) + sizeof(last);
}
