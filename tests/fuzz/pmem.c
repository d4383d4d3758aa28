/*
 * virtio-pmem's queue in any state. The input: flags (read-only, features),
 * then 16-byte descriptors of the ring and of an indirect table, then heads.
 * Addresses are taken modulo the driver's memory, a little beyond. Whatever it
 * is, the device answers each chain once, or wants a reset; after a reset it
 * is as new.
 */

#include "virtio/pmem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define RING 16u
#define N_DESC 24u /* the ring's, then as many of the indirect table's */
#define HEADER_BYTES 2u

static struct driver d;
static struct virtio_dev *dev[2]; /* writable, read-only */
static struct virtio_mmio *transport[2];
static struct worker *w;
static struct pmem_stats stats[2];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void make(void)
{
	struct worker_config wc = {.name = "io", .entries = 64};
	struct error err;
	int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int file = memfd_create("pmem", MFD_CLOEXEC);

	driver_init(&d, RING);
	check(worker_create(&w, &wc, &err) == 0);
	for (unsigned i = 0; i < 2; i++) {
		struct pmem_config config = {.gpa = 1ull << 32,
			.size_bytes = 2 << 20,
			.file_bytes = 2 << 20,
			.fd = file,
			.read_only = i == 1,
			.stats = &stats[i]};

		check(pmem_create(&dev[i], w, &config, &err) == 0);
		check(virtio_mmio_create(&transport[i], dev[i], &d.mem, irq,
			      NULL, &err) == 0);
		check(dev[i]->ops->attach(dev[i], &err) == 0);
	}
	check(worker_start(w, &err) == 0);
}

static void no_op(void *arg)
{
	(void)arg;
}

static void lay(const uint8_t *data, size_t size)
{
	struct vring_desc desc;

	for (unsigned i = 0; i < N_DESC && size >= sizeof(desc); i++) {
		memcpy(&desc, data, sizeof(desc));
		desc.addr = DRIVER_RAM_GPA + desc.addr % (DRIVER_RAM_BYTES + 8);
		desc.next %= RING + 1;
		if (desc.flags & VRING_DESC_F_INDIRECT && i < RING)
			desc.addr = DRIVER_INDIRECT_GPA;
		if (i < RING)
			d.desc[i] = desc;
		else
			d.indirect[i - RING] = desc;
		data += sizeof(desc);
		size -= sizeof(desc);
	}
}

/* A fresh driver's single flush is answered, whatever was before. */
static void check_alive(unsigned which)
{
	static const struct driver_piece pieces[] = {
		{DRIVER_DATA_GPA, 4, false}, {DRIVER_DATA_GPA + 8, 4, true},
		{0}};
	struct virtio_mmio *m = transport[which];
	uint32_t id, len, answer;

	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, 0x20000);
	memset(driver_ptr(&d, DRIVER_DATA_GPA + 8), 0xff, 4);
	d.used_seen = 0;
	driver_chain(&d, 0, pieces);
	driver_offer(&d, 0);
	driver_up(m, &d, 1ull << VIRTIO_F_VERSION_1);
	while (!driver_used(&d, &id, &len))
		worker_call(w, no_op, NULL);
	memcpy(&answer, driver_ptr(&d, DRIVER_DATA_GPA + 8), 4);
	check(id == 0 && len == 4 && answer == 0);
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1;
	size_t heads = HEADER_BYTES + N_DESC * sizeof(struct vring_desc);
	unsigned which, offered = 0;

	if (!w)
		make();
	if (size < HEADER_BYTES)
		return 0;
	which = data[0] & 1;
	if (data[0] & 2)
		features |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	if (data[0] & 4)
		features |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	memset(driver_ptr(&d, DRIVER_RAM_GPA), 0, 0x20000);
	d.used_seen = 0;
	lay(data + HEADER_BYTES, size - HEADER_BYTES);
	for (; heads < size && offered < RING; heads++, offered++)
		driver_offer(&d, data[heads] % (RING + 1));
	if (data[0] & 8)
		d.avail->idx = (uint16_t)(d.avail->idx + data[1]);
	driver_up(transport[which], &d, features);
	for (unsigned i = 0; i < (data[0] >> 4 & 3u); i++) {
		driver_write(transport[which], VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		worker_call(w, no_op, NULL);
	}
	driver_write(transport[which], VIRTIO_MMIO_STATUS, 0);
	check_alive(which);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	struct vring_desc desc[N_DESC] = {
		{0x10000, 4, VRING_DESC_F_NEXT, 1},
		{0x10008, 4, VRING_DESC_F_WRITE, 0},
		{0x10010, 2, VRING_DESC_F_NEXT, 3},
		{0x10012, 9, VRING_DESC_F_NEXT, 4},
		{0x10020, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 5},
		{0x10021, 8, VRING_DESC_F_WRITE, 0},
		{0, 32, VRING_DESC_F_INDIRECT, 0},
	};

	if (n > 3 || cap < HEADER_BYTES + sizeof(desc) + 4)
		return 0;
	desc[RING] = desc[0];
	desc[RING + 1] = desc[1];
	buf[0] = (uint8_t)(n | 0x10);
	buf[1] = 0;
	memcpy(buf + HEADER_BYTES, desc, sizeof(desc));
	memcpy(buf + HEADER_BYTES + sizeof(desc), "\0\2\6\1", 4);
	return HEADER_BYTES + sizeof(desc) + 4;
}
