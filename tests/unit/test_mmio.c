#include "base/cleanup.h"
#include "driver.h"
#include "virtio/mmio.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define N_QUEUES 2u
#define V1 (1ull << VIRTIO_F_VERSION_1)
#define OFFERED (V1 | 1ull << 35 | 1u << 28 | 1u << 5)

#define ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRV VIRTIO_CONFIG_S_DRIVER
#define FOK VIRTIO_CONFIG_S_FEATURES_OK
#define DOK VIRTIO_CONFIG_S_DRIVER_OK
#define RST VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED VIRTIO_CONFIG_S_FAILED
#define UP (ACK | DRV | FOK | DOK)

/* A device that only remembers. */
static struct {
	struct virtio_dev dev;
	/* One behind those it has: a decoy. */
	struct virtq vqs[N_QUEUES + 1];
	uint8_t config[10];
	uint8_t after_config[16];
	int start_result;
	unsigned starts, stops, config_writes, driver_oks, needs_resets;
	uint64_t acked;
	const void *desc_at_start;
	size_t written_off, written_len;
	uint8_t written[8];
} fake;

static struct driver d;
static struct virtio_mmio *m;
static int irq = -1;

static int fake_start(struct virtio_dev *dev)
{
	fake.starts++;
	fake.acked = dev->acked;
	fake.desc_at_start = dev->vqs[0].desc;
	return fake.start_result;
}

static void fake_stop(struct virtio_dev *dev)
{
	ck_assert_ptr_eq(dev, &fake.dev);
	/* The queues are still there: nothing is taken from under a device. */
	ck_assert_ptr_eq(dev->vqs[0].desc, fake.desc_at_start);
	fake.stops++;
}

static void fake_config_write(
	struct virtio_dev *dev, size_t off, const void *data, size_t len)
{
	ck_assert_ptr_eq(dev, &fake.dev);
	ck_assert_uint_le(len, sizeof(fake.written));
	fake.config_writes++;
	fake.written_off = off;
	fake.written_len = len;
	memcpy(fake.written, data, len);
}

static const struct virtio_dev_ops fake_ops = {.id = 42,
	.start = fake_start,
	.stop = fake_stop,
	.config_write = fake_config_write};

static void on_driver_ok(void *arg)
{
	ck_assert_ptr_eq(arg, &fake);
	fake.driver_oks++;
}

static void on_needs_reset(void *arg)
{
	ck_assert_ptr_eq(arg, &fake);
	fake.needs_resets++;
}

static void setup(void)
{
	struct virtio_mmio_events events = {
		on_driver_ok, on_needs_reset, &fake};
	struct error err;

	memset(&fake, 0, sizeof(fake));
	memset(fake.after_config, 0xcc, sizeof(fake.after_config));
	for (unsigned i = 0; i < sizeof(fake.config); i++)
		fake.config[i] = (uint8_t)(0x10 + i);
	for (unsigned i = 0; i <= N_QUEUES; i++)
		fake.vqs[i].size_max = (uint16_t)(16u << i);
	fake.dev = (struct virtio_dev){.ops = &fake_ops,
		.features = OFFERED,
		.config = fake.config,
		.config_len = sizeof(fake.config),
		.vqs = fake.vqs,
		.n_vqs = N_QUEUES};
	driver_init(&d, 8);
	irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(
		virtio_mmio_create(&m, &fake.dev, &d.mem, irq, &events, &err),
		0);
}

static void teardown(void)
{
	virtio_mmio_destroy(m);
	close_fd(&irq);
	driver_fini(&d);
}

/* How often an eventfd was signalled since it was last asked. */
static uint64_t signals(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static uint32_t status(void)
{
	return driver_read(m, VIRTIO_MMIO_STATUS);
}

static void set_status(uint32_t value)
{
	driver_write(m, VIRTIO_MMIO_STATUS, value);
}

START_TEST(it_says_what_it_is)
{
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_VERSION), 2);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_ID), 42);
	ck_assert_uint_ne(driver_read(m, VIRTIO_MMIO_VENDOR_ID), 0);
	ck_assert_uint_eq(status(), 0);
	for (uint64_t off = VIRTIO_MMIO_SHM_LEN_LOW;
		off <= VIRTIO_MMIO_SHM_BASE_HIGH; off += 4)
		ck_assert_uint_eq(driver_read(m, off), UINT32_MAX);
	/* What is written there goes nowhere, what is nowhere reads as 0. */
	driver_write(m, VIRTIO_MMIO_MAGIC_VALUE, 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_NUM_MAX, 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NOTIFY), 0);
	ck_assert_uint_eq(driver_read(m, 0xfc - 4), 0);
}
END_TEST

START_TEST(accesses_of_another_size_or_place_are_harmless)
{
	uint8_t buf[8];

	for (unsigned len = 1; len <= 8; len *= 2) {
		for (unsigned shift = 0; shift < 4; shift++) {
			if (len == 4 && shift == 0)
				continue;
			memset(buf, 0xaa, sizeof(buf));
			virtio_mmio_read(
				m, VIRTIO_MMIO_MAGIC_VALUE + shift, buf, len);
			for (unsigned i = 0; i < 8; i++)
				ck_assert_uint_eq(buf[i], i < len ? 0 : 0xaa);
			memset(buf, ACK, sizeof(buf));
			virtio_mmio_write(
				m, VIRTIO_MMIO_STATUS + shift, buf, len);
			ck_assert_uint_eq(status(), 0);
			memset(buf, 0, sizeof(buf));
			virtio_mmio_write(
				m, VIRTIO_MMIO_QUEUE_NOTIFY + shift, buf, len);
			ck_assert_uint_eq(
				signals(virtio_mmio_kick_fd(m, 0)), 0);
		}
	}
}
END_TEST

/* Negotiation */

START_TEST(features_are_offered_in_halves)
{
	ck_assert_uint_eq(
		driver_read(m, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)OFFERED);
	driver_write(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_FEATURES),
		(uint32_t)(OFFERED >> 32));
	driver_write(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	driver_write(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0x80000000);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}
END_TEST

static const struct {
	uint64_t features;
	bool ok;
} acks[] = {
	{V1, true},
	{OFFERED, true},
	{V1 | 1u << 5, true},
	{0, false},
	{OFFERED & ~V1, false},
	{V1 | 1u << 6, false},
	{OFFERED | 1ull << 40, false},
	{UINT64_MAX, false},
};

START_TEST(features_ok_is_for_offered_ones_with_version_1)
{
	driver_negotiate(m, acks[_i].features);
	ck_assert_uint_eq(status(), ACK | DRV | (acks[_i].ok ? FOK : 0));
	set_status(UP);
	ck_assert_uint_eq(fake.starts, acks[_i].ok);
	if (acks[_i].ok)
		ck_assert_uint_eq(fake.acked, acks[_i].features);
}
END_TEST

START_TEST(a_driver_may_try_again_with_fewer_features)
{
	driver_negotiate(m, V1 | 1u << 6);
	ck_assert_uint_eq(status(), ACK | DRV);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, 1u << 5);
	set_status(ACK | DRV | FOK);
	ck_assert_uint_eq(status(), ACK | DRV | FOK);
	set_status(UP);
	ck_assert_uint_eq(fake.acked, V1 | 1u << 5);
}
END_TEST

START_TEST(features_are_settled_by_features_ok)
{
	driver_negotiate(m, V1 | 1u << 5);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, 1u << 28);
	set_status(UP);
	ck_assert_uint_eq(fake.acked, V1 | 1u << 5);
	set_status(UP);
	ck_assert_uint_eq(fake.acked, V1 | 1u << 5);
	ck_assert_uint_eq(fake.dev.acked, V1 | 1u << 5);
}
END_TEST

START_TEST(features_of_no_half_are_ignored)
{
	set_status(ACK);
	set_status(ACK | DRV);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, V1 >> 32);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, UINT32_MAX);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	set_status(ACK | DRV | FOK);
	ck_assert_uint_eq(status(), ACK | DRV | FOK);
	ck_assert_uint_eq(fake.dev.acked, V1);
}
END_TEST

/* Status */

START_TEST(a_status_bit_waits_for_the_one_before_it)
{
	set_status(DRV);
	ck_assert_uint_eq(status(), 0);
	set_status(FOK | DOK);
	ck_assert_uint_eq(status(), 0);
	set_status(ACK);
	set_status(ACK | FOK | DOK);
	ck_assert_uint_eq(status(), ACK);
	set_status(ACK | DRV | DOK);
	ck_assert_uint_eq(status(), ACK | DRV);
	ck_assert_uint_eq(fake.starts, 0);
	set_status(ACK | DRV | FAILED);
	ck_assert_uint_eq(status(), ACK | DRV | FAILED);
}
END_TEST

START_TEST(status_bits_are_cleared_by_reset_alone)
{
	driver_up(m, &d, V1);
	set_status(ACK);
	ck_assert_uint_eq(status(), UP);
	set_status(RST | 0x30 | 0xffffff00);
	ck_assert_uint_eq(status(), UP);
	ck_assert_uint_eq(fake.starts, 1);
	ck_assert_uint_eq(fake.stops, 0);
}
END_TEST

START_TEST(driver_ok_starts_the_device_once)
{
	driver_up(m, &d, V1);
	ck_assert_uint_eq(status(), UP);
	ck_assert_uint_eq(fake.starts, 1);
	ck_assert_uint_eq(fake.driver_oks, 1);
	ck_assert_uint_eq(fake.needs_resets, 0);
	ck_assert_ptr_nonnull(fake.vqs[0].desc);
	ck_assert_ptr_null(fake.vqs[1].desc);
	set_status(UP);
	ck_assert_uint_eq(fake.starts, 1);
	ck_assert_uint_eq(signals(irq), 0);
}
END_TEST

START_TEST(a_device_that_cannot_start_needs_reset)
{
	fake.start_result = -EINVAL;
	driver_up(m, &d, V1);
	ck_assert_uint_eq(status(), UP | RST);
	ck_assert_uint_eq(fake.driver_oks, 0);
	ck_assert_uint_eq(fake.needs_resets, 1);
	ck_assert_uint_eq(signals(irq), 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
	set_status(0);
	ck_assert_uint_eq(fake.stops, 0);
	ck_assert_uint_eq(status(), 0);
	fake.start_result = 0;
	driver_up(m, &d, V1);
	ck_assert_uint_eq(status(), UP);
}
END_TEST

START_TEST(a_queue_that_is_wrong_needs_reset)
{
	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	d.size = 3;
	driver_queue(m, &d, 1);
	set_status(UP);
	ck_assert_uint_eq(status(), UP | RST);
	ck_assert_uint_eq(fake.starts, 0);
	ck_assert_uint_eq(fake.needs_resets, 1);
}
END_TEST

/* Nothing remains of what the driver set. */
static void check_pristine(void)
{
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(
		driver_read(m, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)OFFERED);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	ck_assert_uint_eq(fake.dev.acked, 0);
	for (unsigned i = 0; i < N_QUEUES; i++) {
		ck_assert(!fake.vqs[i].ready);
		ck_assert_uint_eq(fake.vqs[i].size, 0);
		ck_assert_uint_eq(fake.vqs[i].desc_gpa, 0);
		ck_assert_ptr_null(fake.vqs[i].desc);
	}
	/* The features of before are not those of now. */
	set_status(ACK);
	set_status(ACK | DRV);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	set_status(ACK | DRV | FOK);
	ck_assert_uint_eq(status(), ACK | DRV);
}

START_TEST(reset_stops_the_device_and_clears_all)
{
	driver_up(m, &d, OFFERED);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 1);
	driver_write(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	driver_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	fake.dev.transport->interrupt(&fake.dev, &fake.vqs[0]);
	fake.dev.transport->broken(&fake.dev);
	set_status(0);
	ck_assert_uint_eq(fake.stops, 1);
	check_pristine();
	set_status(0);
	ck_assert_uint_eq(fake.stops, 1);
}
END_TEST

START_TEST(reset_before_driver_ok_stops_nothing)
{
	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	set_status(0);
	ck_assert_uint_eq(fake.stops, 0);
	check_pristine();
}
END_TEST

START_TEST(destroy_stops_a_live_device)
{
	driver_up(m, &d, V1);
	virtio_mmio_destroy(m);
	ck_assert_uint_eq(fake.stops, 1);
	ck_assert_ptr_null(fake.dev.transport);
	ck_assert_ptr_null(fake.dev.kick_fds);
	m = NULL; /* which destroy takes as well */
}
END_TEST

/* Queues */

static const uint32_t queue_registers[] = {VIRTIO_MMIO_QUEUE_NUM,
	VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
	VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
	VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH,
	VIRTIO_MMIO_QUEUE_READY};

/* Writes all of them and says whether any queue is another than before. */
static bool queues_change(uint32_t value)
{
	struct virtq before[N_QUEUES + 1];
	bool changed = false;

	memcpy(before, fake.vqs, sizeof(before));
	for (unsigned i = 0; i < 8; i++)
		driver_write(m, queue_registers[i], value);
	for (unsigned i = 0; i <= N_QUEUES; i++)
		changed = changed || before[i].size != fake.vqs[i].size ||
			  before[i].ready != fake.vqs[i].ready ||
			  before[i].desc_gpa != fake.vqs[i].desc_gpa ||
			  before[i].avail_gpa != fake.vqs[i].avail_gpa ||
			  before[i].used_gpa != fake.vqs[i].used_gpa;
	return changed;
}

START_TEST(queue_registers_hold_what_is_written)
{
	driver_negotiate(m, V1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), 32);
	driver_write(m, VIRTIO_MMIO_QUEUE_NUM, 32);
	driver_write(m, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x11111111);
	driver_write(m, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x22222222);
	driver_write(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x33333333);
	driver_write(m, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x44444444);
	driver_write(m, VIRTIO_MMIO_QUEUE_USED_LOW, 0x55555555);
	driver_write(m, VIRTIO_MMIO_QUEUE_USED_HIGH, 0x66666666);
	ck_assert_uint_eq(fake.vqs[1].size, 32);
	ck_assert_uint_eq(fake.vqs[1].desc_gpa, 0x1111111122222222);
	ck_assert_uint_eq(fake.vqs[1].avail_gpa, 0x4444444433333333);
	ck_assert_uint_eq(fake.vqs[1].used_gpa, 0x6666666655555555);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	ck_assert_uint_eq(fake.vqs[0].size, 0);
}
END_TEST

START_TEST(a_queue_that_is_not_there_has_no_registers)
{
	driver_negotiate(m, V1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, _i ? UINT32_MAX : N_QUEUES);
	fake.vqs[N_QUEUES].ready = true;
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	fake.vqs[N_QUEUES].ready = false;
	ck_assert(!queues_change(1));
	fake.vqs[N_QUEUES].ready = true;
	ck_assert(!queues_change(0));
}
END_TEST

START_TEST(queue_registers_wait_for_features_ok)
{
	set_status(ACK);
	set_status(ACK | DRV);
	ck_assert(!queues_change(1));
}
END_TEST

START_TEST(the_registers_of_a_ready_queue_stay)
{
	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	ck_assert(!queues_change(1));
}
END_TEST

START_TEST(no_queue_joins_a_running_device)
{
	driver_up(m, &d, V1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 1);
	ck_assert(!queues_change(1));
	ck_assert_uint_eq(status(), UP);
}
END_TEST

START_TEST(a_size_too_large_does_not_become_a_good_one)
{
	static const uint32_t sizes[] = {17, 32, 0x10008, 0x80000008};

	driver_negotiate(m, V1);
	driver_queue(m, &d, 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_NUM, sizes[_i]);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
	set_status(UP);
	ck_assert_uint_eq(status(), UP | RST);
	ck_assert_uint_eq(fake.starts, 0);
}
END_TEST

START_TEST(the_largest_size_is_good)
{
	d.size = 16;
	driver_up(m, &d, V1);
	ck_assert_uint_eq(status(), UP);
	ck_assert_uint_eq(fake.vqs[0].size, 16);
}
END_TEST

START_TEST(ready_is_0_or_1)
{
	driver_negotiate(m, V1);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 2);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 2);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	/* It never ran: nothing has to end. */
	ck_assert_uint_eq(status(), ACK | DRV | FOK);
	ck_assert(queues_change(8));
}
END_TEST

START_TEST(a_queue_taken_from_a_running_device_ends_it)
{
	driver_up(m, &d, V1);
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(fake.stops, 0); /* it was not ready */
	driver_write(m, VIRTIO_MMIO_QUEUE_SEL, 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(fake.stops, 1);
	ck_assert_uint_eq(status(), UP | RST);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_QUEUE_READY), 0);
	set_status(UP);
	ck_assert_uint_eq(fake.starts, 1);
	set_status(0);
	ck_assert_uint_eq(fake.stops, 1);
}
END_TEST

START_TEST(notify_kicks_the_queue)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	ck_assert_uint_eq(signals(virtio_mmio_kick_fd(m, 0)), 0);
	ck_assert_uint_eq(signals(virtio_mmio_kick_fd(m, 1)), 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	ck_assert_uint_eq(signals(virtio_mmio_kick_fd(m, 0)), 1);
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, N_QUEUES);
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0x10000);
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	ck_assert_uint_eq(signals(virtio_mmio_kick_fd(m, 0)), 0);
	ck_assert_uint_eq(signals(virtio_mmio_kick_fd(m, 1)), 0);
	ck_assert_uint_eq(signals(irq), 0);
}
END_TEST

/* Interrupts and configuration */

START_TEST(interrupts_are_told_and_acked_by_bit)
{
	driver_up(m, &d, V1);
	fake.dev.transport->interrupt(&fake.dev, &fake.vqs[0]);
	ck_assert_uint_eq(signals(irq), 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_VRING);
	fake.dev.transport->config_update(&fake.dev, 0, "x", 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	driver_write(m, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
	/* One not handled yet does not hide the next. */
	fake.dev.transport->interrupt(&fake.dev, &fake.vqs[0]);
	fake.dev.transport->interrupt(&fake.dev, &fake.vqs[0]);
	ck_assert_uint_eq(signals(irq), 3);
	driver_write(m, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
END_TEST

START_TEST(a_broken_device_says_so_once)
{
	driver_up(m, &d, V1);
	fake.dev.transport->broken(&fake.dev);
	fake.dev.transport->broken(&fake.dev);
	ck_assert_uint_eq(status(), UP | RST);
	ck_assert_uint_eq(fake.needs_resets, 1);
	ck_assert_uint_eq(signals(irq), 1);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS),
		VIRTIO_MMIO_INT_CONFIG);
	set_status(UP);
	ck_assert_uint_eq(status(), UP | RST);
	set_status(0);
	driver_up(m, &d, V1);
	fake.dev.transport->broken(&fake.dev);
	ck_assert_uint_eq(fake.needs_resets, 2);
}
END_TEST

START_TEST(a_driver_not_up_is_not_interrupted)
{
	driver_negotiate(m, V1);
	fake.dev.transport->broken(&fake.dev);
	fake.dev.transport->config_update(&fake.dev, 0, "x", 1);
	ck_assert_uint_eq(signals(irq), 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(status(), ACK | DRV | FOK | RST);
	ck_assert_uint_eq(fake.needs_resets, 1);
}
END_TEST

START_TEST(config_is_read_up_to_its_end)
{
	uint8_t buf[8];

	for (unsigned off = 0; off < 24; off++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			memset(buf, 0xaa, sizeof(buf));
			virtio_mmio_read(m, VIRTIO_MMIO_CONFIG + off, buf, len);
			for (unsigned i = 0; i < 8; i++) {
				uint8_t want = 0xaa;

				if (i < len)
					want = off + i < 10 ? (uint8_t)(0x10 +
									off + i)
							    : 0;
				ck_assert_uint_eq(buf[i], want);
			}
		}
	}
	virtio_mmio_read(m, UINT64_MAX, buf, 8);
	ck_assert_uint_eq(buf[0], 0);
	virtio_mmio_read(m, VIRTIO_MMIO_CONFIG + (1ull << 32), buf, 8);
	ck_assert_uint_eq(buf[0], 0);
}
END_TEST

START_TEST(config_writes_go_to_the_device_if_they_are_inside)
{
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 2, "abcdefgh", 8);
	ck_assert_uint_eq(fake.config_writes, 1);
	ck_assert_uint_eq(fake.written_off, 2);
	ck_assert_uint_eq(fake.written_len, 8);
	ck_assert_mem_eq(fake.written, "abcdefgh", 8);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 9, "z", 1);
	ck_assert_uint_eq(fake.config_writes, 2);
	ck_assert_uint_eq(fake.written_off, 9);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG, "xy", 2);
	ck_assert_uint_eq(fake.config_writes, 3);
	ck_assert_uint_eq(fake.written_off, 0);
	ck_assert_uint_eq(fake.written_len, 2);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 3, "abcdefgh", 8);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 9, "ab", 2);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 10, "a", 1);
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG + 11, "a", 1);
	virtio_mmio_write(m, UINT64_MAX, "abcdefgh", 8);
	ck_assert_uint_eq(fake.config_writes, 3);
	/* The device, and nobody else, changes it. */
	ck_assert_uint_eq(fake.config[2], 0x12);
}
END_TEST

START_TEST(a_device_need_not_know_of_config_writes)
{
	static const struct virtio_dev_ops deaf = {
		.id = 1, .start = fake_start, .stop = fake_stop};

	fake.dev.ops = &deaf;
	virtio_mmio_write(m, VIRTIO_MMIO_CONFIG, "abcd", 4);
	ck_assert_uint_eq(fake.config_writes, 0);
	ck_assert_uint_eq(fake.config[0], 0x10);
}
END_TEST

START_TEST(a_config_update_has_another_generation)
{
	uint32_t before = driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION);
	uint8_t byte;

	driver_up(m, &d, V1);
	fake.dev.transport->config_update(&fake.dev, 9, "x", 1);
	ck_assert_uint_ne(
		driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION), before);
	virtio_mmio_read(m, VIRTIO_MMIO_CONFIG + 9, &byte, 1);
	ck_assert_uint_eq(byte, 'x');
	ck_assert_uint_eq(signals(irq), 1);
}
END_TEST

START_TEST(a_config_set_is_as_quiet_as_it_is_visible)
{
	uint32_t before = driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION);
	uint8_t byte;

	driver_up(m, &d, V1);
	fake.dev.transport->config_set(&fake.dev, 9, "x", 1);
	ck_assert_uint_ne(
		driver_read(m, VIRTIO_MMIO_CONFIG_GENERATION), before);
	virtio_mmio_read(m, VIRTIO_MMIO_CONFIG + 9, &byte, 1);
	ck_assert_uint_eq(byte, 'x');
	ck_assert_uint_eq(signals(irq), 0);
	ck_assert_uint_eq(driver_read(m, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
END_TEST

START_TEST(no_events_need_be_wanted)
{
	struct virtio_mmio *quiet;
	struct error err;

	virtio_mmio_destroy(m);
	ck_assert_int_eq(
		virtio_mmio_create(&quiet, &fake.dev, &d.mem, irq, NULL, &err),
		0);
	driver_up(quiet, &d, V1);
	fake.dev.transport->broken(&fake.dev);
	ck_assert_uint_eq(driver_read(quiet, VIRTIO_MMIO_STATUS), UP | RST);
	ck_assert_uint_eq(fake.driver_oks + fake.needs_resets, 0);
	m = quiet;
}
END_TEST

START_TEST(without_descriptors_there_is_no_transport)
{
	struct rlimit before, none;
	struct virtio_mmio *not_made = NULL;
	struct error err = {.code = 0};
	int fd = dup(irq);

	close(fd);
	virtio_mmio_destroy(m);
	m = NULL;
	getrlimit(RLIMIT_NOFILE, &before);
	/* Room for the descriptors that were the transport's but for one. */
	none = before;
	none.rlim_cur = (rlim_t)fd - 1;
	setrlimit(RLIMIT_NOFILE, &none);
	ck_assert_int_eq(virtio_mmio_create(
				 &not_made, &fake.dev, &d.mem, irq, NULL, &err),
		-EMFILE);
	setrlimit(RLIMIT_NOFILE, &before);
	ck_assert_int_eq(err.code, EMFILE);
	ck_assert_ptr_null(not_made);
	ck_assert_ptr_null(fake.dev.kick_fds);
	/* The one it could make is closed. */
	ck_assert_int_eq(dup(irq), fd - N_QUEUES);
	close(fd - (int)N_QUEUES);
}
END_TEST

static TCase *queues_case(void)
{
	TCase *t = tcase_create("queues");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, queue_registers_hold_what_is_written);
	tcase_add_loop_test(
		t, a_queue_that_is_not_there_has_no_registers, 0, 2);
	tcase_add_test(t, queue_registers_wait_for_features_ok);
	tcase_add_test(t, the_registers_of_a_ready_queue_stay);
	tcase_add_test(t, no_queue_joins_a_running_device);
	tcase_add_loop_test(
		t, a_size_too_large_does_not_become_a_good_one, 0, 4);
	tcase_add_test(t, the_largest_size_is_good);
	tcase_add_test(t, ready_is_0_or_1);
	tcase_add_test(t, a_queue_taken_from_a_running_device_ends_it);
	tcase_add_test(t, notify_kicks_the_queue);
	return t;
}

static TCase *status_case(void)
{
	TCase *t = tcase_create("status");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, features_are_offered_in_halves);
	tcase_add_loop_test(t, features_ok_is_for_offered_ones_with_version_1,
		0, sizeof(acks) / sizeof(acks[0]));
	tcase_add_test(t, a_driver_may_try_again_with_fewer_features);
	tcase_add_test(t, features_are_settled_by_features_ok);
	tcase_add_test(t, features_of_no_half_are_ignored);
	tcase_add_test(t, a_status_bit_waits_for_the_one_before_it);
	tcase_add_test(t, status_bits_are_cleared_by_reset_alone);
	tcase_add_test(t, driver_ok_starts_the_device_once);
	tcase_add_test(t, a_device_that_cannot_start_needs_reset);
	tcase_add_test(t, a_queue_that_is_wrong_needs_reset);
	tcase_add_test(t, reset_stops_the_device_and_clears_all);
	tcase_add_test(t, reset_before_driver_ok_stops_nothing);
	tcase_add_test(t, destroy_stops_a_live_device);
	return t;
}

int main(void)
{
	Suite *s = suite_create("mmio");
	TCase *access = tcase_create("access"), *irqs = tcase_create("irqs");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(access, setup, teardown);
	tcase_add_test(access, it_says_what_it_is);
	tcase_add_test(access, accesses_of_another_size_or_place_are_harmless);
	tcase_add_checked_fixture(irqs, setup, teardown);
	tcase_add_test(irqs, interrupts_are_told_and_acked_by_bit);
	tcase_add_test(irqs, a_broken_device_says_so_once);
	tcase_add_test(irqs, a_driver_not_up_is_not_interrupted);
	tcase_add_test(irqs, config_is_read_up_to_its_end);
	tcase_add_test(irqs, config_writes_go_to_the_device_if_they_are_inside);
	tcase_add_test(irqs, a_device_need_not_know_of_config_writes);
	tcase_add_test(irqs, a_config_update_has_another_generation);
	tcase_add_test(irqs, a_config_set_is_as_quiet_as_it_is_visible);
	tcase_add_test(irqs, no_events_need_be_wanted);
	tcase_add_test(irqs, without_descriptors_there_is_no_transport);
	suite_add_tcase(s, access);
	suite_add_tcase(s, status_case());
	suite_add_tcase(s, queues_case());
	suite_add_tcase(s, irqs);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
