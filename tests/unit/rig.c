#include "tests/unit/rig.h"

#include "base/clock.h"

#include <check.h>
#include <linux/virtio_mmio.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 10000000000ull
#define WHILE_NS 20000000

void rig_init(struct rig *r)
{
	const struct worker_config config = {.name = "io", .entries = 64};
	struct error err;

	memset(r, 0, sizeof(*r));
	driver_init(&r->q[0], RIG_SIZE);
	for (unsigned i = 1; i < RIG_QUEUES; i++)
		driver_init_queue(&r->q[i], &r->q[0], i, RIG_SIZE);
	r->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(r->irq, 0);
	ck_assert_int_eq(worker_create(&r->w, &config, &err), 0);
}

void rig_plug(struct rig *r, struct virtio_dev *dev)
{
	struct error err;

	r->dev = dev;
	ck_assert_int_eq(virtio_mmio_create(
				 &r->m, dev, &r->q[0].mem, r->irq, NULL, &err),
		0);
	ck_assert_int_eq(dev->ops->attach(dev, &err), 0);
	ck_assert_int_eq(worker_start(r->w, &err), 0);
}

void rig_fini(struct rig *r)
{
	virtio_mmio_destroy(r->m);
	worker_stop(r->w);
	if (r->dev)
		r->dev->ops->destroy(r->dev);
	worker_destroy(r->w);
	driver_fini(&r->q[0]);
	close(r->irq);
}

void rig_up_mask(struct rig *r, uint64_t features, unsigned mask)
{
	driver_negotiate(r->m, features);
	for (unsigned i = 0; i < RIG_QUEUES; i++) {
		r->q[i].used_seen = 0;
		r->q[i].avail->idx = 0;
		r->q[i].used->idx = 0;
		if (mask & 1u << i)
			driver_queue(r->m, &r->q[i], i);
	}
	driver_write(r->m, VIRTIO_MMIO_STATUS, RIG_OK);
}

void rig_up(struct rig *r, uint64_t features, unsigned n)
{
	rig_up_mask(r, features, (1u << n) - 1);
	ck_assert_uint_eq(rig_status(r), RIG_OK);
}

uint32_t rig_status(struct rig *r)
{
	return driver_read(r->m, VIRTIO_MMIO_STATUS);
}

void rig_reset(struct rig *r)
{
	driver_write(r->m, VIRTIO_MMIO_STATUS, 0);
}

void rig_kick(struct rig *r, unsigned q)
{
	driver_write(r->m, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

void rig_send(struct rig *r, unsigned q, uint16_t head,
	const struct driver_piece *pieces)
{
	driver_chain(&r->q[q], head, pieces);
	driver_offer(&r->q[q], head);
	rig_kick(r, q);
}

uint32_t rig_used(struct rig *r, unsigned q, uint16_t head)
{
	uint64_t end = clock_ns() + PATIENCE_NS;
	uint32_t id = 0, len = 0;

	while (!driver_used(&r->q[q], &id, &len)) {
		ck_assert_msg(clock_ns() < end, "no answer");
		sched_yield();
	}
	ck_assert_uint_eq(id, head);
	return len;
}

static void ignore(void *arg)
{
	(void)arg;
}

bool rig_idle(struct rig *r, unsigned q)
{
	const struct timespec ts = {0, WHILE_NS};

	nanosleep(&ts, NULL);
	worker_call(r->w, ignore, NULL);
	return __atomic_load_n(&r->q[q].used->idx, __ATOMIC_ACQUIRE) ==
	       r->q[q].used_seen;
}

uint64_t rig_interrupts(struct rig *r)
{
	uint64_t n;

	return read(r->irq, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

uint32_t rig_config(struct rig *r, uint64_t off)
{
	return driver_read(r->m, VIRTIO_MMIO_CONFIG + off);
}

void rig_write_config(struct rig *r, uint64_t off, uint32_t value)
{
	driver_write(r->m, VIRTIO_MMIO_CONFIG + off, value);
}

void *rig_ptr(const struct rig *r, uint64_t gpa)
{
	return driver_ptr(&r->q[0], gpa);
}

void rig_put32(const struct rig *r, uint64_t gpa, uint32_t value)
{
	memcpy(rig_ptr(r, gpa), &value, sizeof(value));
}
