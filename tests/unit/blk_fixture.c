#include "blk_fixture.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SPARE_FILES 4

struct driver d;
struct virtio_dev *dev;
struct virtio_mmio *m;
struct worker *w;
struct blk_stats stats;
int disk = -1, peer = -1, irq = -1;
uint8_t image[BYTES];
unsigned n_errors;
int last_error;
struct error err;

static void on_error(void *arg, int e)
{
	ck_assert_ptr_eq(arg, &stats);
	last_error = e;
	__atomic_fetch_add(&n_errors, 1, __ATOMIC_RELEASE);
}

void make(struct blk_config config)
{
	struct worker_config wc = {.name = "io", .entries = 64};

	memset(&stats, 0, sizeof(stats));
	n_errors = 0;
	config.stats = &stats;
	config.on_error = on_error;
	config.arg = &stats;
	config.size_bytes = BYTES;
	memcpy(config.serial, "a serial of 20 bytes", 20);
	driver_init(&d, SIZE);
	irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(worker_create(&w, &wc, &err), 0);
	worker_reserve_files(w, SPARE_FILES);
	config.fd = disk;
	ck_assert_int_eq(blk_create(&dev, w, &config, &err), 0);
	ck_assert_int_eq(
		virtio_mmio_create(&m, dev, &d.mem, irq, NULL, &err), 0);
	ck_assert_int_eq(dev->ops->attach(dev, &err), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
	/* What it submits from now on is the test's. */
	while (worker_submits(w) == 0)
		sched_yield();
}

void make_image(void)
{
	disk = memfd_create("disk", MFD_CLOEXEC);
	for (unsigned i = 0; i < BYTES; i++)
		image[i] = (uint8_t)(i / 512 + i % 511);
	ck_assert_int_eq(write(disk, image, BYTES), (ssize_t)BYTES);
}

void setup(void)
{
	make_image();
	make((struct blk_config){.writeback = true});
}

void setup_stream(void)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	disk = fds[0];
	peer = fds[1];
	make((struct blk_config){.writeback = true});
}

void teardown(void)
{
	virtio_mmio_destroy(m);
	worker_stop(w);
	dev->ops->destroy(dev);
	worker_destroy(w);
	driver_fini(&d);
	close_fd(&disk);
	close_fd(&peer);
	close_fd(&irq);
}

void kick(void)
{
	driver_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

uint8_t *status_of(unsigned i)
{
	return driver_ptr(&d, STATUS(i));
}

void header(unsigned i, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr hdr = {.type = type, .sector = sector};

	memcpy(driver_ptr(&d, HDR(i)), &hdr, sizeof(hdr));
	*status_of(i) = 0xff;
}

void request(unsigned i, uint32_t type, uint64_t sector, uint32_t data_bytes)
{
	struct driver_piece pieces[] = {{HDR(i), 16, false},
		{BUF(i), data_bytes, type != VIRTIO_BLK_T_OUT},
		{STATUS(i), 1, true}, {0}};

	header(i, type, sector);
	if (data_bytes == 0) {
		pieces[1] = pieces[2];
		pieces[2].len = 0;
	}
	driver_chain(&d, (uint16_t)(3 * i), pieces);
}

void range_request(unsigned i, uint32_t type,
	const struct virtio_blk_discard_write_zeroes *segs, unsigned n)
{
	struct driver_piece pieces[] = {{HDR(i), 16, false},
		{BUF(i), (uint32_t)(n * sizeof(*segs)), false},
		{STATUS(i), 1, true}, {0}};

	header(i, type, 0);
	memcpy(driver_ptr(&d, BUF(i)), segs, n * sizeof(*segs));
	driver_chain(&d, (uint16_t)(3 * i), pieces);
}

void pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

uint32_t next_used_of(struct driver *q, uint32_t *ret_len)
{
	uint64_t end = clock_ns() + 10000000000ull;
	uint32_t id = 0;

	while (!driver_used(q, &id, ret_len)) {
		ck_assert_msg(clock_ns() < end, "no answer");
		sched_yield();
	}
	return id;
}

uint32_t next_used(uint32_t *ret_len)
{
	return next_used_of(&d, ret_len);
}

uint8_t run(unsigned i, uint32_t *ret_len)
{
	driver_offer(&d, (uint16_t)(3 * i));
	kick();
	ck_assert_uint_eq(next_used(ret_len), 3ull * i);
	return *status_of(i);
}

uint64_t signals(void)
{
	uint64_t n;

	return read(irq, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

void check_image(void)
{
	static uint8_t now[BYTES];

	ck_assert_int_eq(pread(disk, now, BYTES, 0), (ssize_t)BYTES);
	ck_assert_mem_eq(now, image, BYTES);
}

void read_space(struct virtio_blk_config *ret)
{
	for (unsigned i = 0; i < sizeof(*ret); i += 4)
		virtio_mmio_read(
			m, VIRTIO_MMIO_CONFIG + i, (uint8_t *)ret + i, 4);
}

void wait_count(const uint64_t *counter, uint64_t n)
{
	uint64_t end = clock_ns() + 10000000000ull;

	while (__atomic_load_n(counter, __ATOMIC_RELAXED) < n &&
		clock_ns() < end)
		pause_ms(1);
	pause_ms(5);
	ck_assert_uint_eq(__atomic_load_n(counter, __ATOMIC_RELAXED), n);
}
