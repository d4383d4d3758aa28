/*
 * The small devices - entropy, balloon, console - under a driver that does
 * anything, through their registers, rings and configuration, while the host
 * changes its mind. The input: the device, then commands of 8 bytes.
 *
 * Their worker is not a thread: timers come when the input says so.
 *
 * Nothing beside guest memory changes, and nothing is counted that cannot be.
 */

#include "tests/fuzz/fake_worker.h"
#include "tests/fuzz/fuzz.h"
#include "virtio/balloon.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "virtio/vconsole.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define RAM_GPA 0x10000ull
#define RAM_PAGES 4u
#define RAM_BYTES (RAM_PAGES * PAGE)
#define GUARD 0x5a

/* Rings of 8 entries, one behind the other. */
#define ENTRIES 8u
#define AVAIL_OFF 0x80u
#define USED_OFF 0xa0u
#define QUEUE_BYTES ((size_t)0x100)
#define QUEUES 5u
#define DATA_OFF 0x600u

enum command {
	CMD_WRITE, /* value at place */
	CMD_DESC,  /* number place of queue a: value is address and length */
	CMD_FLAGS, /* of it */
	CMD_OFFER, /* head value on queue a */
	CMD_UP,    /* features value, queues a */
	CMD_RESET,
	CMD_REGISTER, /* value to the register at place */
	CMD_CONFIG,   /* a bytes of value at place */
	CMD_HOST,     /* whatever the host can ask, by a and value */
	CMD_KICK,     /* queue a */
	CMD_TIMER,    /* all that are set */
	CMD_CODES
};

enum { RNG, BALLOON, CONSOLE, DEVICES };

static struct {
	struct gmem mem;
	uint8_t *guards; /* a page, RAM, a page */
	uint8_t *ram;
	struct worker *w;
	struct virtio_dev *dev[DEVICES];
	struct virtio_mmio *m[DEVICES];
	struct virtio_dev *d; /* under test now */
	struct virtio_mmio *r;
	unsigned kind;
	struct rng_stats rng;
	struct balloon_state balloon;
} f;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void take_output(void *arg, const void *data, size_t len)
{
	check(arg == &f && data && len > 0 && len <= PAGE);
}

static void make(unsigned kind, int r, int irq)
{
	struct error err;

	check(r == 0);
	check(virtio_mmio_create(
		      &f.m[kind], f.dev[kind], &f.mem, irq, NULL, &err) == 0);
	check(f.dev[kind]->ops->attach(f.dev[kind], &err) == 0);
}

static void set_up(void)
{
	const struct rng_config rng = {.stats = &f.rng};
	const struct balloon_config balloon = {.target_pages = 1,
		.deflate_on_oom = true,
		.hinting = true,
		.reporting = true,
		.stats_interval_s = 1,
		.mem = &f.mem,
		.state = &f.balloon};
	const struct vconsole_config console = {
		.write = take_output, .arg = &f};
	int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct error err;

	f.guards = mmap(NULL, RAM_BYTES + 2 * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(f.guards != MAP_FAILED && irq >= 0);
	memset(f.guards, GUARD, RAM_BYTES + 2 * PAGE);
	f.ram = f.guards + PAGE;
	check(gmem_add(&f.mem, RAM_GPA, f.ram, RAM_BYTES) == 0);
	f.w = fake_worker_get();
	make(RNG, rng_create(&f.dev[RNG], f.w, &rng, &err), irq);
	make(BALLOON, balloon_create(&f.dev[BALLOON], f.w, &balloon, &err),
		irq);
	make(CONSOLE, vconsole_create(&f.dev[CONSOLE], f.w, &console, &err),
		irq);
}

static void put(uint32_t reg, uint32_t value)
{
	virtio_mmio_write(f.r, reg, &value, sizeof(value));
}

static void queue_up(unsigned q)
{
	uint32_t at = (uint32_t)(RAM_GPA + q * QUEUE_BYTES);

	put(VIRTIO_MMIO_QUEUE_SEL, q);
	put(VIRTIO_MMIO_QUEUE_NUM, ENTRIES);
	put(VIRTIO_MMIO_QUEUE_DESC_LOW, at);
	put(VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + AVAIL_OFF);
	put(VIRTIO_MMIO_QUEUE_USED_LOW, at + USED_OFF);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
}

/* The rings keep what is offered in them: that is when they are served. */
static void up(uint8_t queues, uint32_t features)
{
	static const uint32_t steps[] = {0, 1, 3};

	for (unsigned i = 0; i < 3; i++)
		put(VIRTIO_MMIO_STATUS, steps[i]);
	for (uint32_t half = 0; half < 2; half++) {
		uint32_t offered = (uint32_t)(f.d->features >> (32 * half));

		put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
		put(VIRTIO_MMIO_DRIVER_FEATURES,
			half ? offered : offered & features);
	}
	put(VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < f.d->n_vqs; q++)
		if (queues & 1u << q)
			queue_up(q);
	put(VIRTIO_MMIO_STATUS, 15);
}

static void host(uint8_t what, uint32_t value)
{
	static const uint8_t typed[PAGE];
	const struct rate_limiter_update u = {.has_bytes = true,
		.config = {.bytes = {.size = value & 0xffff,
				   .refill_ns = value >> 8}}};

	if (f.kind == BALLOON && what % 4 == 0)
		balloon_set_target(f.d, value);
	else if (f.kind == BALLOON && what % 4 == 1)
		balloon_set_stats_interval(f.d, value);
	else if (f.kind == BALLOON && what % 4 == 2)
		balloon_hinting_start(f.d, value & 1);
	else if (f.kind == BALLOON)
		balloon_hinting_stop(f.d);
	else if (f.kind == CONSOLE && what % 3 == 0)
		vconsole_input(f.d, typed, value % (sizeof(typed) + 1));
	else if (f.kind == CONSOLE && what % 3 == 1)
		vconsole_resize(f.d, (uint16_t)value, (uint16_t)(value >> 16));
	else if (f.kind == CONSOLE)
		vconsole_limit(f.d, &u);
}

static struct vring_desc *descriptor(uint8_t q, uint16_t place)
{
	return (struct vring_desc *)(void *)(f.ram + q % QUEUES * QUEUE_BYTES) +
	       place % ENTRIES;
}

static void offer(uint8_t q, uint32_t head)
{
	uint8_t *ring = f.ram + q % QUEUES * QUEUE_BYTES;
	struct vring_avail *avail = (void *)(ring + AVAIL_OFF);

	avail->ring[avail->idx % ENTRIES] = (uint16_t)head;
	avail->idx++;
}

static void run(uint8_t code, uint8_t a, uint16_t place, uint32_t value)
{
	struct vring_desc *d = descriptor(a, place);

	switch ((enum command)(code % CMD_CODES)) {
	case CMD_WRITE:
		memcpy(f.ram + place % (RAM_BYTES - 3), &value, sizeof(value));
		break;
	case CMD_DESC:
		d->addr = RAM_GPA + (value & 0xffff);
		d->len = value >> 16;
		break;
	case CMD_FLAGS:
		d->flags = (uint16_t)value;
		d->next = (uint16_t)(value >> 16);
		break;
	case CMD_OFFER:
		offer(a, value);
		break;
	case CMD_UP:
		up(a, value);
		break;
	case CMD_RESET:
		put(VIRTIO_MMIO_STATUS, 0);
		break;
	case CMD_REGISTER:
		virtio_mmio_write(f.r, place % 0x110, &value, sizeof(value));
		break;
	case CMD_CONFIG:
		virtio_mmio_write(f.r, VIRTIO_MMIO_CONFIG + place % 32, &value,
			1u << a % 3);
		break;
	case CMD_HOST:
		host(a, value);
		break;
	case CMD_KICK:
		put(VIRTIO_MMIO_QUEUE_NOTIFY, a % f.d->n_vqs);
		fake_worker_run();
		break;
	case CMD_TIMER:
		fake_worker_expire();
		fake_worker_run();
		break;
	case CMD_CODES:
		break;
	}
}

static void check_guards(void)
{
	for (unsigned i = 0; i < PAGE; i++)
		check(f.guards[i] == GUARD &&
			f.guards[PAGE + RAM_BYTES + i] == GUARD);
}

static void check_counters(void)
{
	const struct balloon_state *b = &f.balloon;

	check(f.rng.bytes <= f.rng.requests * RNG_REQ_BYTES_MAX);
	check(f.rng.errors <= f.rng.requests);
	check(b->errors == 0);
	check(b->target_pages <= UINT32_MAX && b->actual_pages <= UINT32_MAX);
	check(b->hint_host_cmd <= UINT32_MAX);
	check(b->reported_bytes % PAGE == 0 && b->hinted_bytes % PAGE == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!f.w)
		set_up();
	if (size < 1)
		return 0;
	f.kind = data[0] % DEVICES;
	f.d = f.dev[f.kind];
	f.r = f.m[f.kind];
	memset(f.ram, 0, RAM_BYTES);
	for (data++, size--; size >= 8; data += 8, size -= 8) {
		uint16_t place;
		uint32_t value;

		memcpy(&place, data + 2, 2);
		memcpy(&value, data + 4, 4);
		run(data[0], data[1], place, value);
	}
	check_guards();
	check_counters();
	put(VIRTIO_MMIO_STATUS, 0);
	fake_worker_run();
	return 0;
}

/* ---- seeds ---- */

struct step {
	uint8_t code, a;
	uint16_t place;
	uint32_t value;
};

#define TO(off, len) ((uint32_t)(off) | (uint32_t)(len) << 16)
#define IN VRING_DESC_F_WRITE
#define AND(next) (VRING_DESC_F_NEXT | (uint32_t)(next) << 16)

static const struct step rng_seed[] = {{CMD_UP, 1, 0, UINT32_MAX},
	{CMD_DESC, 0, 0, TO(DATA_OFF, 64)}, {CMD_FLAGS, 0, 0, IN | AND(1)},
	{CMD_DESC, 0, 1, TO(0x1000, 0x1000)}, {CMD_FLAGS, 0, 1, IN},
	{CMD_OFFER, 0, 0, 0}, {CMD_KICK, 0, 0, 0}, {CMD_RESET, 0, 0, 0}};

/* The number of page 2, twice. */
#define PFN (uint32_t)(RAM_GPA / PAGE + 2)

static const struct step balloon_seed[] = {{CMD_CONFIG, 2, 12, 0},
	{CMD_UP, 31, 0, UINT32_MAX}, {CMD_WRITE, 0, DATA_OFF, PFN},
	{CMD_WRITE, 0, DATA_OFF + 4, PFN}, {CMD_DESC, 0, 0, TO(DATA_OFF, 8)},
	{CMD_OFFER, 0, 0, 0}, {CMD_KICK, 0, 0, 0}, {CMD_HOST, 0, 0, 3},
	{CMD_CONFIG, 2, 4, 1}, {CMD_DESC, 1, 0, TO(DATA_OFF, 8)},
	{CMD_OFFER, 1, 0, 0}, {CMD_KICK, 1, 0, 0}};

static const struct step stats_seed[] = {{CMD_UP, 31, 0, UINT32_MAX},
	{CMD_DESC, 2, 0, TO(DATA_OFF, 30)}, {CMD_OFFER, 2, 0, 0},
	{CMD_KICK, 2, 0, 0}, {CMD_HOST, 1, 0, 2}, {CMD_TIMER, 0, 0, 0},
	{CMD_DESC, 4, 0, TO(0x2000, 0x2000)}, {CMD_FLAGS, 4, 0, IN},
	{CMD_OFFER, 4, 0, 0}, {CMD_KICK, 4, 0, 0}};

static const struct step hint_seed[] = {{CMD_UP, 31, 0, UINT32_MAX},
	{CMD_HOST, 2, 0, 1}, {CMD_WRITE, 0, DATA_OFF, 2},
	{CMD_DESC, 3, 0, TO(DATA_OFF, 4)}, {CMD_FLAGS, 3, 0, AND(1)},
	{CMD_DESC, 3, 1, TO(0x3000, 0x1000)}, {CMD_FLAGS, 3, 1, IN},
	{CMD_OFFER, 3, 0, 0}, {CMD_KICK, 3, 0, 0},
	{CMD_DESC, 3, 2, TO(DATA_OFF + 8, 4)}, {CMD_OFFER, 3, 0, 2},
	{CMD_KICK, 3, 0, 0}, {CMD_HOST, 3, 0, 0}};

static const struct step console_seed[] = {{CMD_UP, 3, 0, UINT32_MAX},
	{CMD_DESC, 0, 0, TO(0x1000, 64)}, {CMD_FLAGS, 0, 0, IN},
	{CMD_OFFER, 0, 0, 0}, {CMD_KICK, 0, 0, 0}, {CMD_HOST, 0, 0, 100},
	{CMD_HOST, 2, 0, 100}, {CMD_DESC, 1, 0, TO(DATA_OFF, 0x2000)},
	{CMD_OFFER, 1, 0, 0}, {CMD_KICK, 1, 0, 0}, {CMD_HOST, 1, 0, 80},
	{CMD_HOST, 2, 0, 0}, {CMD_TIMER, 0, 0, 0}};

#define SEED(device, steps)                                                    \
	{                                                                      \
		device, steps, sizeof(steps) / sizeof((steps)[0])              \
	}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const struct {
		uint8_t device;
		const struct step *steps;
		size_t n;
	} seeds[] = {SEED(RNG, rng_seed), SEED(BALLOON, balloon_seed),
		SEED(BALLOON, stats_seed), SEED(BALLOON, hint_seed),
		SEED(CONSOLE, console_seed)};

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || cap < 1 + 8 * seeds[n].n)
		return 0;
	buf[0] = seeds[n].device;
	memcpy(buf + 1, seeds[n].steps, 8 * seeds[n].n);
	return 1 + 8 * seeds[n].n;
}
