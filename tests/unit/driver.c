#include "driver.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/mman.h>

static void find_rings(struct driver *d)
{
	d->desc = driver_ptr(d, DRIVER_DESC_GPA + d->rings);
	d->avail = driver_ptr(d, DRIVER_AVAIL_GPA + d->rings);
	d->used = driver_ptr(d, DRIVER_USED_GPA + d->rings);
	d->indirect = driver_ptr(d, DRIVER_INDIRECT_GPA + d->rings);
}

void driver_init(struct driver *d, uint16_t size)
{
	void *ram = mmap(NULL, DRIVER_RAM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert(ram != MAP_FAILED);
	*d = (struct driver){.size = size};
	assert(gmem_add(&d->mem, DRIVER_RAM_GPA, ram, DRIVER_RAM_BYTES) == 0);
	find_rings(d);
}

void driver_init_queue(
	struct driver *q, const struct driver *d, unsigned n, uint16_t size)
{
	*q = (struct driver){.mem = d->mem,
		.size = size,
		.rings = DRIVER_RAM_BYTES - n * DRIVER_RINGS_BYTES};
	find_rings(q);
}

void driver_fini(struct driver *d)
{
	munmap(d->mem.regions[0].hva, DRIVER_RAM_BYTES);
	d->mem.n = 0;
}

void *driver_ptr(const struct driver *d, uint64_t gpa)
{
	assert(gpa - DRIVER_RAM_GPA < DRIVER_RAM_BYTES);
	return d->mem.regions[0].hva + (gpa - DRIVER_RAM_GPA);
}

static unsigned lay(struct vring_desc *table, uint16_t first,
	const struct driver_piece *pieces)
{
	unsigned n = 0;

	for (; pieces[n].len; n++)
		table[first + n] = (struct vring_desc){
			.addr = pieces[n].gpa,
			.len = pieces[n].len,
			.flags =
				(uint16_t)((pieces[n].write ? VRING_DESC_F_WRITE
							    : 0) |
					   (pieces[n + 1].len
							   ? VRING_DESC_F_NEXT
							   : 0)),
			.next = (uint16_t)(first + n + 1),
		};
	return n;
}

unsigned driver_chain(
	struct driver *d, uint16_t first, const struct driver_piece *pieces)
{
	return lay(d->desc, first, pieces);
}

void driver_chain_indirect(
	struct driver *d, uint16_t first, const struct driver_piece *pieces)
{
	unsigned n = lay(d->indirect, 0, pieces);

	d->desc[first] = (struct vring_desc){
		.addr = DRIVER_INDIRECT_GPA + d->rings,
		.len = (uint32_t)(n * sizeof(struct vring_desc)),
		.flags = VRING_DESC_F_INDIRECT,
	};
}

void driver_offer(struct driver *d, uint16_t head)
{
	uint16_t idx = d->avail->idx;

	d->avail->ring[idx % d->size] = head;
	__atomic_store_n(&d->avail->idx, (uint16_t)(idx + 1), __ATOMIC_SEQ_CST);
}

bool driver_used(struct driver *d, uint32_t *ret_id, uint32_t *ret_len)
{
	uint16_t idx = __atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE);

	if (idx == d->used_seen)
		return false;
	*ret_id = d->used->ring[d->used_seen % d->size].id;
	*ret_len = d->used->ring[d->used_seen % d->size].len;
	d->used_seen++;
	return true;
}

uint16_t *driver_used_event(struct driver *d)
{
	return &d->avail->ring[d->size];
}

uint16_t *driver_avail_event(struct driver *d)
{
	return (uint16_t *)&d->used->ring[d->size];
}

uint32_t driver_read(struct virtio_mmio *m, uint64_t off)
{
	uint32_t value = 0xdeadbeef;

	virtio_mmio_read(m, off, &value, sizeof(value));
	return value;
}

void driver_write(struct virtio_mmio *m, uint64_t off, uint32_t value)
{
	virtio_mmio_write(m, off, &value, sizeof(value));
}

void driver_negotiate(struct virtio_mmio *m, uint64_t features)
{
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	driver_write(m, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_write(m, VIRTIO_MMIO_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (uint32_t sel = 0; sel < 2; sel++) {
		driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES,
			(uint32_t)(features >> (32 * sel)));
	}
	driver_write(m, VIRTIO_MMIO_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			VIRTIO_CONFIG_S_FEATURES_OK);
}

static void write_gpa(struct virtio_mmio *m, uint64_t low_reg, uint64_t gpa)
{
	driver_write(m, low_reg, (uint32_t)gpa);
	driver_write(m, low_reg + 4, (uint32_t)(gpa >> 32));
}

void driver_queue(struct virtio_mmio *m, const struct driver *d, unsigned q)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, q);
	driver_write(m, VIRTIO_MMIO_QUEUE_NUM, d->size);
	write_gpa(m, VIRTIO_MMIO_QUEUE_DESC_LOW, DRIVER_DESC_GPA + d->rings);
	write_gpa(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, DRIVER_AVAIL_GPA + d->rings);
	write_gpa(m, VIRTIO_MMIO_QUEUE_USED_LOW, DRIVER_USED_GPA + d->rings);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
}

void driver_up(struct virtio_mmio *m, const struct driver *d, uint64_t features)
{
	driver_negotiate(m, features);
	driver_queue(m, d, 0);
	driver_write(m, VIRTIO_MMIO_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			VIRTIO_CONFIG_S_FEATURES_OK |
			VIRTIO_CONFIG_S_DRIVER_OK);
}
