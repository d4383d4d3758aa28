#include "tests/unit/busy_driver.h"

#include "base/clock.h"

#include <check.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>

#define ROUNDS 6
#define ANSWERS 500
#define LIMIT_NS 20000000000ull

struct busy {
	struct driver *d;
	struct virtio_mmio *m;
	bool resting;
	unsigned answered;
};

static void kick(struct virtio_mmio *m)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* As fast as it can, all of its ring; it kicks only where it has to. */
static void *drive(void *arg)
{
	struct busy *b = arg;
	uint32_t id, len;

	while (!__atomic_load_n(&b->resting, __ATOMIC_RELAXED)) {
		if (!driver_used(b->d, &id, &len))
			continue;
		__atomic_fetch_add(&b->answered, 1, __ATOMIC_RELAXED);
		driver_offer(b->d, (uint16_t)id);
		if (!(__atomic_load_n(&b->d->used->flags, __ATOMIC_RELAXED) &
			    VRING_USED_F_NO_NOTIFY))
			kick(b->m);
	}
	return NULL;
}

static void no_op(void *arg)
{
	(void)arg;
}

static void once(struct driver *d, struct virtio_mmio *m, struct worker *w,
	uint16_t n_chains)
{
	uint64_t end = clock_ns() + LIMIT_NS;
	struct busy b = {.d = d, .m = m};
	pthread_t t;

	memset(d->avail, 0, 128);
	memset(d->used, 0, 512);
	d->used_seen = 0;
	driver_up(m, d, 1ull << VIRTIO_F_VERSION_1);
	for (uint16_t i = 0; i < n_chains; i++)
		driver_offer(d, 2 * i);
	kick(m);
	ck_assert_int_eq(pthread_create(&t, NULL, drive, &b), 0);
	while (__atomic_load_n(&b.answered, __ATOMIC_RELAXED) < ANSWERS) {
		worker_call(w, no_op, NULL);
		ck_assert_msg(clock_ns() < end, "it gets no answers");
	}
	driver_write(m, VIRTIO_MMIO_STATUS, 0);
	for (unsigned i = 0; i < 3; i++)
		worker_call(w, no_op, NULL);
	__atomic_store_n(&b.resting, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
}

void busy_driver(struct driver *d, struct virtio_mmio *m, struct worker *w,
	uint16_t n_chains)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		once(d, m, w, n_chains);
}
