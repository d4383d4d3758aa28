#include "virtio/mmio.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

#define MMIO_MAGIC 0x74726976u /* "virt" */
#define MMIO_VERSION 2u
#define MMIO_VENDOR 0x4659414du /* "MAYF" */

struct virtio_mmio {
	struct virtio_dev *dev;
	const struct gmem *mem;
	struct virtio_mmio_events events;
	int irq_fd;

	/*
	 * Lock order: lock, config_lock. The worker never takes the first: a
	 * vCPU thread holds it while it waits for the device to stop.
	 */
	pthread_mutex_t lock;
	uint32_t device_sel, driver_sel, queue_sel; /* under lock, to live */
	uint64_t driver_features;
	bool live; /* from start() to stop() */

	pthread_mutex_t config_lock; /* dev->config and its generation */
	uint32_t config_generation;

	/* Atomic: device threads set bits in them, too. */
	uint32_t status;
	uint32_t interrupt_status;
};

static uint32_t status(const struct virtio_mmio *m)
{
	return __atomic_load_n(&m->status, __ATOMIC_ACQUIRE);
}

static void signal_driver(struct virtio_mmio *m, uint32_t reason)
{
	/* Release: who sees the bit sees what it tells of. */
	__atomic_fetch_or(&m->interrupt_status, reason, __ATOMIC_RELEASE);
	fd_notify(m->irq_fd);
}

static void needs_reset(struct virtio_mmio *m)
{
	uint32_t old = __atomic_fetch_or(
		&m->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_ACQ_REL);

	if (old & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	/* Virtio 1.2 §2.1.2: a driver not up yet will see it in the status. */
	if (old & VIRTIO_CONFIG_S_DRIVER_OK)
		signal_driver(m, VIRTIO_MMIO_INT_CONFIG);
	if (m->events.needs_reset)
		m->events.needs_reset(m->events.arg);
}

static void transport_interrupt(struct virtio_dev *d, struct virtq *q)
{
	(void)q; /* one interrupt for all queues of a device (§4.2.3.3) */
	signal_driver(d->transport_data, VIRTIO_MMIO_INT_VRING);
}

static void transport_config_set(
	struct virtio_dev *d, size_t off, const void *data, size_t len)
{
	struct virtio_mmio *m = d->transport_data;

	assert(off <= d->config_len && len <= d->config_len - off);
	pthread_mutex_lock(&m->config_lock);
	memcpy((uint8_t *)d->config + off, data, len);
	m->config_generation++;
	pthread_mutex_unlock(&m->config_lock);
}

static void transport_config_update(
	struct virtio_dev *d, size_t off, const void *data, size_t len)
{
	struct virtio_mmio *m = d->transport_data;

	transport_config_set(d, off, data, len);
	if (status(m) & VIRTIO_CONFIG_S_DRIVER_OK)
		signal_driver(m, VIRTIO_MMIO_INT_CONFIG);
}

static void transport_broken(struct virtio_dev *d)
{
	needs_reset(d->transport_data);
}

static const struct virtio_transport_ops transport_ops = {
	.interrupt = transport_interrupt,
	.config_update = transport_config_update,
	.config_set = transport_config_set,
	.broken = transport_broken,
};

static void stop(struct virtio_mmio *m)
{
	if (m->live)
		m->dev->ops->stop(m->dev);
	m->live = false;
}

static void start(struct virtio_mmio *m)
{
	struct virtio_dev *d = m->dev;

	for (unsigned i = 0; i < d->n_vqs; i++) {
		if (!d->vqs[i].ready)
			continue;
		if (virtq_activate(&d->vqs[i], m->mem, d->acked) < 0) {
			needs_reset(m);
			return;
		}
	}
	if (d->ops->start(d) < 0) {
		needs_reset(m);
		return;
	}
	m->live = true;
	if (m->events.driver_ok)
		m->events.driver_ok(m->events.arg);
}

static void reset(struct virtio_mmio *m)
{
	struct virtio_dev *d = m->dev;

	stop(m);
	for (unsigned i = 0; i < d->n_vqs; i++)
		virtq_reset(&d->vqs[i]);
	d->acked = 0;
	m->driver_features = 0;
	m->device_sel = 0;
	m->driver_sel = 0;
	m->queue_sel = 0;
	__atomic_store_n(&m->interrupt_status, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&m->status, 0, __ATOMIC_RELEASE);
}

/* Only what was offered, and never without VERSION_1: there is no legacy
 * interface here (§6.1, §2.2). */
static bool features_acceptable(const struct virtio_mmio *m)
{
	if (m->driver_features & ~m->dev->features)
		return false;
	return m->driver_features & (1ull << VIRTIO_F_VERSION_1);
}

/*
 * The driver sets bit by bit (§3.1.1) and clears by a reset alone. A bit whose
 * time has not come stays unset, which the driver sees when it reads back.
 */
static void write_status(struct virtio_mmio *m, uint32_t value)
{
	static const struct {
		uint32_t bit, after;
	} steps[] = {
		{VIRTIO_CONFIG_S_ACKNOWLEDGE, 0},
		{VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_ACKNOWLEDGE},
		{VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER},
		{VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK},
		{VIRTIO_CONFIG_S_FAILED, 0},
	};

	if (value == 0) {
		reset(m);
		return;
	}
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		uint32_t bit = steps[i].bit;

		if (!(value & bit) || (status(m) & bit))
			continue;
		if ((status(m) & steps[i].after) != steps[i].after)
			continue;
		if (bit == VIRTIO_CONFIG_S_FEATURES_OK) {
			if (!features_acceptable(m))
				continue;
			m->dev->acked = m->driver_features;
		}
		__atomic_fetch_or(&m->status, bit, __ATOMIC_ACQ_REL);
		if (bit == VIRTIO_CONFIG_S_DRIVER_OK)
			start(m);
	}
}

/* FEATURES_OK takes them; what comes later has no effect (§3.1.1). */
static void write_driver_features(struct virtio_mmio *m, uint32_t value)
{
	unsigned shift = m->driver_sel * 32;

	if (m->driver_sel > 1)
		return;
	m->driver_features &= ~(0xffffffffull << shift);
	m->driver_features |= (uint64_t)value << shift;
}

static struct virtq *selected(const struct virtio_mmio *m)
{
	if (m->queue_sel >= m->dev->n_vqs)
		return NULL;
	return &m->dev->vqs[m->queue_sel];
}

/* The selected queue while its registers may be written: features are settled,
 * nobody uses it. */
static struct virtq *configurable(const struct virtio_mmio *m)
{
	struct virtq *q = selected(m);

	if (!q || q->ready)
		return NULL;
	if (!(status(m) & VIRTIO_CONFIG_S_FEATURES_OK))
		return NULL;
	if (status(m) & VIRTIO_CONFIG_S_DRIVER_OK)
		return NULL;
	return q;
}

static void write_queue_num(struct virtio_mmio *m, uint32_t value)
{
	struct virtq *q = configurable(m);

	if (!q)
		return;
	/* A size the register cannot hold must not turn into one it can:
	 * virtq_activate() refuses 0. */
	q->size = value > q->size_max ? 0 : (uint16_t)value;
}

static void write_queue_ready(struct virtio_mmio *m, uint32_t value)
{
	struct virtq *q = selected(m);

	if (value == 1) {
		q = configurable(m);
		if (q)
			q->ready = true;
		return;
	}
	if (value != 0 || !q || !q->ready)
		return;
	/*
	 * One queue cannot leave a running device (that is VIRTIO_F_RING_RESET,
	 * not offered): the device as a whole ends, until it is reset.
	 */
	if (m->live) {
		stop(m);
		needs_reset(m);
	}
	q->ready = false;
}

static void write_queue_addr(
	struct virtio_mmio *m, uint32_t off, uint32_t value)
{
	struct virtq *q = configurable(m);
	uint64_t *gpa;

	if (!q)
		return;
	if (off < VIRTIO_MMIO_QUEUE_AVAIL_LOW)
		gpa = &q->desc_gpa;
	else if (off < VIRTIO_MMIO_QUEUE_USED_LOW)
		gpa = &q->avail_gpa;
	else
		gpa = &q->used_gpa;
	if (off & 4) /* the high half */
		*gpa = (*gpa & 0xffffffffu) | (uint64_t)value << 32;
	else
		*gpa = (*gpa & ~0xffffffffull) | value;
}

static uint32_t read_generation(struct virtio_mmio *m)
{
	uint32_t generation;

	pthread_mutex_lock(&m->config_lock);
	generation = m->config_generation;
	pthread_mutex_unlock(&m->config_lock);
	return generation;
}

static uint32_t read_register(struct virtio_mmio *m, uint64_t off)
{
	const struct virtq *q = selected(m);

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION:
		return MMIO_VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return m->dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return MMIO_VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		if (m->device_sel > 1)
			return 0;
		return (uint32_t)(m->dev->features >> (m->device_sel * 32));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? q->size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q ? q->ready : 0;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return __atomic_load_n(&m->interrupt_status, __ATOMIC_ACQUIRE);
	case VIRTIO_MMIO_STATUS:
		return status(m);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no such region (§4.2.2.1) */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return read_generation(m);
	default:
		return 0;
	}
}

static void write_register(struct virtio_mmio *m, uint64_t off, uint32_t value)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->device_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->driver_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_driver_features(m, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
		write_queue_num(m, value);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		write_queue_ready(m, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		write_queue_addr(m, (uint32_t)off, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		__atomic_fetch_and(
			&m->interrupt_status, ~value, __ATOMIC_ACQ_REL);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(m, value);
		break;
	default:
		break;
	}
}

static void read_config(
	struct virtio_mmio *m, uint64_t off, void *data, unsigned len)
{
	const struct virtio_dev *d = m->dev;

	if (off >= d->config_len)
		return;
	if (len > d->config_len - off)
		len = (unsigned)(d->config_len - off);
	pthread_mutex_lock(&m->config_lock);
	memcpy(data, (const uint8_t *)d->config + off, len);
	pthread_mutex_unlock(&m->config_lock);
}

static void write_config(
	struct virtio_mmio *m, uint64_t off, const void *data, unsigned len)
{
	struct virtio_dev *d = m->dev;

	if (off >= d->config_len || len > d->config_len - off)
		return;
	if (d->ops->config_write)
		d->ops->config_write(d, off, data, len);
}

void virtio_mmio_read(
	struct virtio_mmio *m, uint64_t off, void *data, unsigned len)
{
	uint32_t value;

	memset(data, 0, len);
	if (off >= VIRTIO_MMIO_CONFIG) {
		read_config(m, off - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	/* Registers are read and written whole (§4.2.2.2). */
	if (len != sizeof(value))
		return;
	pthread_mutex_lock(&m->lock);
	value = read_register(m, off);
	pthread_mutex_unlock(&m->lock);
	memcpy(data, &value, sizeof(value));
}

void virtio_mmio_write(
	struct virtio_mmio *m, uint64_t off, const void *data, unsigned len)
{
	uint32_t value;

	if (off < VIRTIO_MMIO_CONFIG && len != sizeof(value))
		return;
	if (off == VIRTIO_MMIO_QUEUE_NOTIFY) {
		/* Seldom: KVM takes most of these to the eventfd itself. */
		memcpy(&value, data, sizeof(value));
		if (value < m->dev->n_vqs)
			fd_notify(m->dev->kick_fds[value]);
		return;
	}
	pthread_mutex_lock(&m->lock);
	if (off >= VIRTIO_MMIO_CONFIG) {
		write_config(m, off - VIRTIO_MMIO_CONFIG, data, len);
	} else {
		memcpy(&value, data, sizeof(value));
		write_register(m, off, value);
	}
	pthread_mutex_unlock(&m->lock);
}

int virtio_mmio_kick_fd(const struct virtio_mmio *m, unsigned q)
{
	assert(q < m->dev->n_vqs);
	return m->dev->kick_fds[q];
}

static int make_kick_fds(struct virtio_dev *d)
{
	d->kick_fds = calloc(d->n_vqs, sizeof(*d->kick_fds));
	if (!d->kick_fds)
		return -ENOMEM;
	for (unsigned i = 0; i < d->n_vqs; i++)
		d->kick_fds[i] = -1;
	for (unsigned i = 0; i < d->n_vqs; i++) {
		d->kick_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->kick_fds[i] < 0)
			return -errno;
	}
	return 0;
}

static void assert_sane(const struct virtio_dev *d)
{
	assert(d->features & (1ull << VIRTIO_F_VERSION_1));
	assert(d->n_vqs > 0);
	for (unsigned i = 0; i < d->n_vqs; i++)
		assert(d->vqs[i].size_max > 0 &&
			d->vqs[i].size_max <= VIRTQ_MAX);
}

int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_dev *dev,
	const struct gmem *mem, int irq_fd,
	const struct virtio_mmio_events *events, struct error *err)
{
	struct virtio_mmio *m;
	int r;

	assert_sane(dev);
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_errno(err, ENOMEM, "virtio-mmio transport");
	m->dev = dev;
	m->mem = mem;
	m->irq_fd = irq_fd;
	if (events)
		m->events = *events;
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->config_lock, NULL);
	dev->transport = &transport_ops;
	dev->transport_data = m;
	r = make_kick_fds(dev);
	if (r < 0) {
		virtio_mmio_destroy(m);
		return error_errno(err, -r, "virtio-mmio kick eventfds");
	}
	*ret = m;
	return 0;
}

void virtio_mmio_destroy(struct virtio_mmio *m)
{
	struct virtio_dev *d;

	if (!m)
		return;
	d = m->dev;
	stop(m);
	for (unsigned i = 0; d->kick_fds && i < d->n_vqs; i++)
		close_fd(&d->kick_fds[i]);
	free(d->kick_fds);
	d->kick_fds = NULL;
	d->transport = NULL;
	d->transport_data = NULL;
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->config_lock);
	free(m);
}
