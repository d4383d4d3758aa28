#include "base/cleanup.h"
#include "block/raw.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BYTES ((size_t)1 << 20)
#define N_IOS 3u

static struct worker *w;
static struct raw *raw;
static int disk = -1, peer = -1;
static struct error err;

static struct probe {
	struct raw_io io;
	unsigned done;
	int err;
	sem_t sem;
} ios[N_IOS];
static struct iovec iov[N_IOS][4];
static uint8_t mem[2 * BYTES] __attribute__((aligned(4096)));
static uint8_t image[BYTES];

static void probe_done(struct raw_io *io, int e)
{
	struct probe *p = (struct probe *)io;

	p->err = e;
	p->done++;
	sem_post(&p->sem);
}

static int wait_for(struct probe *p)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 10;
	while (sem_timedwait(&p->sem, &ts) < 0)
		ck_assert_int_eq(errno, EINTR);
	ck_assert_uint_eq(p->done, 1);
	return p->err;
}

static void submit(void *arg)
{
	raw_submit(raw, arg);
}

static void cancel(void *arg)
{
	raw_cancel(arg);
}

/* Ends of pieces: the last is the length. */
static void prepare(unsigned i, enum raw_kind kind, uint64_t off, uint8_t *at,
	const size_t *ends)
{
	size_t from = 0;
	unsigned n;

	ios[i] = (struct probe){.io = {.kind = kind,
					.off_bytes = off,
					.iov = iov[i],
					.done = probe_done}};
	for (n = 0; ends[n]; n++) {
		iov[i][n] = (struct iovec){at + from, ends[n] - from};
		from = ends[n];
	}
	ios[i].io.n = n;
	ios[i].io.len = from;
	sem_init(&ios[i].sem, 0, 0);
}

static void run(int fd, uint32_t align)
{
	struct worker_config config = {.name = "io", .entries = 16};

	ck_assert_int_eq(worker_create(&w, &config, &err), 0);
	worker_reserve_files(w, 2);
	ck_assert_int_eq(raw_create(&raw, w, align), 0);
	ck_assert_int_eq(raw_add(raw, fd), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
	/* What it submits from now on is the test's. */
	while (worker_submits(w) == 0)
		sched_yield();
}

static void fill(uint8_t *at, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		at[i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
}

static void end(void)
{
	worker_destroy(w);
	raw_destroy(raw);
	close_fd(&disk);
	close_fd(&peer);
}

static void make_disk(void)
{
	disk = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fill(image, sizeof(image), 3);
	ck_assert_int_eq(write(disk, image, sizeof(image)), sizeof(image));
}

/* A disk that gives what we feed it, when we do. */
static void make_stream(void)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	disk = fds[0];
	peer = fds[1];
}

/* Buffered, or through the bounce buffer (of 64 KiB): odd addresses, and more
 * than one part. */
START_TEST(reads_and_writes_are_whole)
{
	static const size_t ends[] = {1, 513, 70000, 200 << 10, 0};
	uint8_t *at = mem + 3;

	make_disk();
	run(disk, _i ? 512 : 0);
	prepare(0, RAW_READ, 1024, at, ends);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	ck_assert_mem_eq(at, image + 1024, 200 << 10);
	fill(at, 200 << 10, 77);
	prepare(1, RAW_WRITE, 512, at, ends);
	worker_call(w, submit, &ios[1].io);
	ck_assert_int_eq(wait_for(&ios[1]), 0);
	memcpy(image + 512, at, 200 << 10);
	ck_assert_int_eq(pread(disk, mem, BYTES, 0), BYTES);
	ck_assert_mem_eq(mem, image, BYTES);
	prepare(2, RAW_SYNC, 0, NULL, (size_t[]){0});
	worker_call(w, submit, &ios[2].io);
	ck_assert_int_eq(wait_for(&ios[2]), 0);
	end();
}
END_TEST

static void submit_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < N_IOS; i++)
		raw_submit(raw, &ios[i].io);
}

START_TEST(one_buffer_serves_several)
{
	static const size_t ends[] = {130 << 10, 0};

	make_disk();
	run(disk, 512);
	for (unsigned i = 0; i < N_IOS; i++)
		prepare(i, RAW_READ, i * 512ull, mem + ((size_t)i << 18) + 1,
			ends);
	worker_call(w, submit_all, NULL);
	for (unsigned i = 0; i < N_IOS; i++) {
		ck_assert_int_eq(wait_for(&ios[i]), 0);
		ck_assert_mem_eq(mem + ((size_t)i << 18) + 1,
			image + (size_t)i * 512, 130 << 10);
	}
	end();
}
END_TEST

/* The real thing, where the file system has it. */
START_TEST(direct_io_takes_any_address)
{
	static const size_t ends[] = {5, 1000, 4096, 0};
	int fd = open(".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	disk = fd;
	fill(image, sizeof(image), 5);
	memcpy(mem, image, sizeof(image));
	ck_assert_int_eq(write(fd, mem, sizeof(image)), sizeof(image));
	run(fd, 512);
	prepare(0, RAW_READ, 4096, mem + BYTES + 1, ends);
	prepare(1, RAW_WRITE, 8192, mem + 9, ends);
	prepare(2, RAW_READ, 0, mem + BYTES + 8192, (size_t[]){4096, 0});
	worker_call(w, submit_all, NULL);
	for (unsigned i = 0; i < N_IOS; i++)
		ck_assert_int_eq(wait_for(&ios[i]), 0);
	ck_assert_mem_eq(mem + BYTES + 1, image + 4096, 4096);
	ck_assert_mem_eq(mem + BYTES + 8192, image, 4096);
	ck_assert_int_eq(pread(fd, mem + BYTES, 4096, 8192), 4096);
	ck_assert_mem_eq(mem + BYTES, image + 9, 4096);
	end();
}
END_TEST

START_TEST(an_alignment_is_a_power_of_two_up_to_a_sector)
{
	static const uint32_t bad[] = {3, 768, 513, 1024, 4096, 1u << 31};
	static const uint32_t good[] = {0, 1, 2, 256, 512};
	struct worker_config config = {.name = "io", .entries = 16};

	ck_assert_int_eq(worker_create(&w, &config, &err), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(raw_create(&raw, w, bad[i]), -EINVAL);
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_int_eq(raw_create(&raw, w, good[i]), 0);
		raw_destroy(raw);
	}
	worker_destroy(w);
	raw_destroy(NULL);
}
END_TEST

/* Three parts of what is asked for, in pieces that the parts do not keep to. */
START_TEST(a_short_transfer_is_continued_where_it_stopped)
{
	static const size_t ends[] = {700, 1536, 3000, 4096, 0};
	uint8_t *at = mem + (_i ? 1 : 0);
	struct timespec ms = {.tv_nsec = 20000000};

	make_stream();
	run(disk, _i ? 512 : 0);
	fill(image, 4096, 9);
	prepare(0, RAW_READ, 0, at, ends);
	worker_call(w, submit, &ios[0].io);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(
			write(peer, image + 1024 * (size_t)i, 1024), 1024);
		nanosleep(&ms, NULL);
	}
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	ck_assert_mem_eq(at, image, 4096);
	end();
}
END_TEST

START_TEST(a_file_that_ends_early_is_an_error)
{
	static const size_t ends[] = {1024, 0};

	make_disk();
	run(disk, _i ? 512 : 0);
	ck_assert_int_eq(ftruncate(disk, 1024 + 512), 0);
	prepare(0, RAW_READ, 1024, mem + (_i ? 1 : 0), ends);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), EIO);
	prepare(1, RAW_READ, 8192, mem + (_i ? 1 : 0), ends);
	worker_call(w, submit, &ios[1].io);
	ck_assert_int_eq(wait_for(&ios[1]), EIO);
	/* And the line goes on after an error. */
	prepare(2, RAW_READ, 0, mem + (_i ? 1 : 0), ends);
	worker_call(w, submit, &ios[2].io);
	ck_assert_int_eq(wait_for(&ios[2]), 0);
	end();
}
END_TEST

START_TEST(errors_are_those_of_the_system_call)
{
	static const size_t ends[] = {512, 0};

	disk = open("/dev/full", O_RDWR | O_CLOEXEC);
	run(disk, _i ? 512 : 0);
	prepare(0, RAW_WRITE, 0, mem + (_i ? 1 : 0), ends);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), ENOSPC);
	prepare(1, RAW_SYNC, 0, NULL, (size_t[]){0});
	worker_call(w, submit, &ios[1].io);
	ck_assert_int_eq(wait_for(&ios[1]), EINVAL);
	end();
}
END_TEST

static void cancel_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < N_IOS; i++)
		raw_cancel(&ios[i].io);
}

/* One blocked in the kernel, and, with the buffer, two in line behind it. */
START_TEST(what_waits_can_be_cancelled)
{
	static const size_t ends[] = {512, 0};

	make_stream();
	run(disk, _i ? 512 : 0);
	for (unsigned i = 0; i < N_IOS; i++)
		prepare(i, RAW_READ, 0, mem + (size_t)i * 1024 + (_i ? 1 : 0),
			ends);
	worker_call(w, submit_all, NULL);
	worker_call(w, cancel_all, NULL);
	for (unsigned i = 0; i < N_IOS; i++)
		ck_assert_int_eq(wait_for(&ios[i]), ECANCELED);
	/* What came and went has left nothing behind. */
	prepare(0, RAW_READ, 0, mem + (_i ? 1 : 0), ends);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(write(peer, image, 512), 512);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	end();
}
END_TEST

static void finish_one_cancel_next(struct raw_io *io, int e)
{
	raw_cancel(&ios[1].io);
	probe_done(io, e);
}

/* In line and cancelled by the one before it, while a third waits. */
START_TEST(the_line_goes_on_behind_a_cancelled_one)
{
	static const size_t ends[] = {512, 0};

	make_disk();
	run(disk, 512);
	for (unsigned i = 0; i < N_IOS; i++)
		prepare(i, RAW_READ, 0, mem + (size_t)i * 1024 + 1, ends);
	ios[0].io.done = finish_one_cancel_next;
	worker_call(w, submit_all, NULL);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	ck_assert_int_eq(wait_for(&ios[1]), ECANCELED);
	ck_assert_int_eq(wait_for(&ios[2]), 0);
	end();
}
END_TEST

/* Both are done by the time the first is told of; the second only half. */
START_TEST(a_half_done_transfer_is_not_continued_once_cancelled)
{
	static const size_t half[] = {512, 0}, all[] = {1024, 0};

	make_stream();
	run(disk, _i ? 512 : 0);
	ck_assert_int_eq(write(peer, image, 1024), 1024);
	prepare(0, RAW_READ, 0, mem, half);
	prepare(1, RAW_READ, 0, mem + 8192 + (_i ? 1 : 0), all);
	prepare(2, RAW_SYNC, 0, NULL, (size_t[]){0});
	ios[0].io.done = finish_one_cancel_next;
	worker_call(w, submit_all, NULL);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	ck_assert_int_eq(wait_for(&ios[1]), ECANCELED);
	ck_assert_int_eq(wait_for(&ios[2]), EINVAL);
	end();
}
END_TEST

START_TEST(what_is_aligned_needs_no_buffer)
{
	static const size_t ends[] = {200 << 10, 0};
	uint64_t before;

	make_disk();
	run(disk, 512);
	prepare(0, RAW_READ, 0, mem, ends);
	before = worker_submits(w);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	ck_assert_uint_eq(worker_submits(w) - before, 1);
	end();
}
END_TEST

static void submit_and_cancel(void *arg)
{
	submit(arg);
	cancel(arg);
}

/* Before it began, and after a part of it. */
START_TEST(a_cancelled_transfer_is_not_continued)
{
	static const size_t ends[] = {1024, 0};
	struct timespec ms = {.tv_nsec = 20000000};

	make_stream();
	run(disk, _i % 2 ? 512 : 0);
	ck_assert_int_eq(write(peer, image, 512), 512);
	prepare(0, RAW_READ, 0, mem + (_i % 2 ? 1 : 0), ends);
	if (_i < 2) {
		worker_call(w, submit_and_cancel, &ios[0].io);
	} else {
		worker_call(w, submit, &ios[0].io);
		nanosleep(&ms, NULL);
		worker_call(w, cancel, &ios[0].io);
	}
	ck_assert_int_eq(wait_for(&ios[0]), ECANCELED);
	end();
}
END_TEST

/* ---- ranges ---- */

static void prepare_range(
	unsigned i, enum raw_kind kind, uint64_t off, size_t len)
{
	prepare(i, kind, off, NULL, (size_t[]){0});
	ios[i].io.len = len;
}

static off_t blocks_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_blocks;
}

/* In shared memory: it has holes, but zeroes have to be written, in parts. */
static const struct {
	uint64_t off;
	size_t len;
	enum raw_kind kind;
	bool gives_back;
} ranges[] = {
	{8192, 65536, RAW_DISCARD, true},
	{8192, 65536, RAW_ZERO_UNMAP, true},
	{8192, 65536, RAW_ZERO, false},
	{512, 262144, RAW_ZERO, false},
	{512, 262656, RAW_ZERO, false},
	{1024, 700 << 10, RAW_ZERO, false},
	{0, BYTES, RAW_ZERO, false},
};

START_TEST(a_range_is_zeroed_and_nothing_beside_it)
{
	uint64_t submits;
	off_t before;

	make_disk();
	before = blocks_of(disk);
	run(disk, _i % 2 ? 512 : 0);
	/* What it learns the first time it knows the second time. */
	for (unsigned round = 0; round < 2; round++) {
		prepare_range(
			round, ranges[_i].kind, ranges[_i].off, ranges[_i].len);
		submits = worker_submits(w);
		worker_call(w, submit, &ios[round].io);
		ck_assert_int_eq(wait_for(&ios[round]), 0);
		memset(image + ranges[_i].off, 0, ranges[_i].len);
		ck_assert_int_eq(pread(disk, mem, BYTES, 0), BYTES);
		ck_assert_mem_eq(mem, image, BYTES);
		if (ranges[_i].len == 65536)
			ck_assert_uint_eq(worker_submits(w) - submits,
				ranges[_i].gives_back || round ? 1 : 2);
		if (round == 0)
			ck_assert_int_eq(before - blocks_of(disk),
				ranges[_i].gives_back ? 65536 / 512 : 0);
		memset(image + ranges[_i].off, 1, 512);
		ck_assert_int_eq(pwrite(disk, image + ranges[_i].off, 512,
					 (off_t)ranges[_i].off),
			512);
	}
	ck_assert_int_eq(lseek(disk, 0, SEEK_END), BYTES);
	end();
}
END_TEST

/* The name of this thread: a regular file which has no holes and takes what is
 * written. Zeroes make it "". */
static void make_file_without_holes(void)
{
	disk = open("/proc/thread-self/comm", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(disk, 0);
	ck_assert_int_eq(write(disk, "full", 4), 4);
}

static const enum raw_kind range_kinds[] = {
	RAW_DISCARD, RAW_ZERO, RAW_ZERO_UNMAP};

START_TEST(where_there_are_no_holes_a_discard_does_nothing)
{
	char name[16];

	make_file_without_holes();
	run(disk, 0);
	for (unsigned round = 0; round < 2; round++) {
		ck_assert_int_eq(write(disk, "full", 4), 4);
		prepare_range(round, range_kinds[_i], 0, 8);
		worker_call(w, submit, &ios[round].io);
		ck_assert_int_eq(wait_for(&ios[round]), 0);
		ck_assert_int_gt(pread(disk, name, sizeof(name), 0), 0);
		ck_assert_int_eq(name[0], _i == 0 ? 'f' : '\n');
	}
	end();
}
END_TEST

START_TEST(errors_of_ranges_are_those_of_the_system_call)
{
	make_stream();
	run(peer, 0);
	prepare_range(0, range_kinds[_i], 0, 512);
	worker_call(w, submit, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), ESPIPE);
	end();
	/* No holes, no zeroes, and no space to write them. */
	make_disk();
	ck_assert_int_eq(fcntl(disk, F_ADD_SEALS, F_SEAL_WRITE), 0);
	run(disk, 0);
	prepare_range(1, range_kinds[_i], 0, 512);
	worker_call(w, submit, &ios[1].io);
	ck_assert_int_eq(wait_for(&ios[1]), EPERM);
	end();
}
END_TEST

START_TEST(a_range_can_be_cancelled)
{
	make_disk();
	run(disk, 0);
	prepare_range(0, range_kinds[_i], 0, BYTES);
	worker_call(w, submit_and_cancel, &ios[0].io);
	ck_assert_int_eq(wait_for(&ios[0]), ECANCELED);
	ck_assert_int_eq(pread(disk, mem, BYTES, 0), BYTES);
	ck_assert_mem_eq(mem, image, BYTES);
	end();
}
END_TEST

/* In the middle of its zeroes, by one that was begun with it. */
START_TEST(zeroes_are_not_continued_once_cancelled)
{
	make_disk();
	run(disk, 0);
	prepare_range(2, RAW_ZERO, 0, 512); /* so that it knows */
	worker_call(w, submit, &ios[2].io);
	ck_assert_int_eq(wait_for(&ios[2]), 0);
	prepare(0, RAW_READ, 0, mem, (size_t[]){512, 0});
	prepare_range(1, RAW_ZERO, 0, BYTES);
	prepare(2, RAW_SYNC, 0, NULL, (size_t[]){0});
	ios[0].io.done = finish_one_cancel_next;
	worker_call(w, submit_all, NULL);
	ck_assert_int_eq(wait_for(&ios[1]), ECANCELED);
	ck_assert_int_eq(wait_for(&ios[2]), 0);
	end();
}
END_TEST

START_TEST(what_has_holes_is_known_beforehand)
{
	_cleanup_close_ int read_only = -1;

	make_disk();
	ck_assert(raw_can_discard(disk, BYTES));
	ck_assert_int_eq(lseek(disk, 0, SEEK_END), BYTES);
	ck_assert_int_eq(pread(disk, mem, BYTES, 0), BYTES);
	ck_assert_mem_eq(mem, image, BYTES);
	read_only = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ck_assert(!raw_can_discard(read_only, 4096));
	close_fd(&disk);
	make_stream();
	ck_assert(!raw_can_discard(peer, 4096));
	ck_assert(!raw_can_discard(-1, 4096));
	close_fd(&disk);
	close_fd(&peer);
	make_file_without_holes();
	ck_assert(!raw_can_discard(disk, 4096));
	close_fd(&disk);
}
END_TEST

/* ---- closing ---- */

static bool closed;

static void close_raw(void *arg)
{
	raw_close(raw, *(bool *)arg);
	closed = raw_is_closed(raw);
}

static void look(void *arg)
{
	(void)arg;
	closed = raw_is_closed(raw);
}

START_TEST(it_closes_when_everything_is_done)
{
	static const size_t ends[] = {512, 0};
	bool sync = _i == 1;
	uint64_t before;

	make_stream();
	run(disk, 0);
	prepare(0, RAW_READ, 0, mem, ends);
	worker_call(w, look, NULL);
	ck_assert(!closed);
	worker_call(w, submit, &ios[0].io);
	worker_call(w, close_raw, &sync);
	ck_assert(!closed);
	before = worker_submits(w);
	ck_assert_int_eq(write(peer, image, 512), 512);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	for (unsigned i = 0; i < 1000 && !closed; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		nanosleep(&ms, NULL);
		worker_call(w, look, NULL);
	}
	ck_assert(closed);
	ck_assert_uint_eq(worker_submits(w) - before, sync);
	end();
}
END_TEST

START_TEST(an_idle_one_closes_at_once)
{
	bool sync = false;

	make_disk();
	run(disk, 0);
	worker_call(w, close_raw, &sync);
	ck_assert(closed);
	end();
}
END_TEST

/* A write that is followed by its sync, after the end was announced. */
static void sync_it(struct raw_io *io, int e)
{
	io->kind = RAW_SYNC;
	io->done = probe_done;
	ck_assert_int_eq(e, 0);
	raw_submit(io->raw, io);
}

START_TEST(what_goes_on_from_done_counts)
{
	static const size_t ends[] = {512, 0};
	bool sync = false;

	make_disk();
	run(disk, 0);
	prepare(0, RAW_WRITE, 0, mem, ends);
	ios[0].io.done = sync_it;
	worker_call(w, submit, &ios[0].io);
	worker_call(w, close_raw, &sync);
	ck_assert_int_eq(wait_for(&ios[0]), 0);
	worker_stop(w);
	ck_assert(raw_is_closed(raw));
	end();
}
END_TEST

static TCase *ranges_case(void)
{
	TCase *t = tcase_create("ranges");

	tcase_add_loop_test(t, a_range_is_zeroed_and_nothing_beside_it, 0,
		sizeof(ranges) / sizeof(ranges[0]));
	tcase_add_loop_test(
		t, where_there_are_no_holes_a_discard_does_nothing, 0, 3);
	tcase_add_loop_test(
		t, errors_of_ranges_are_those_of_the_system_call, 0, 3);
	tcase_add_loop_test(t, a_range_can_be_cancelled, 0, 3);
	tcase_add_test(t, zeroes_are_not_continued_once_cancelled);
	tcase_add_test(t, what_has_holes_is_known_beforehand);
	return t;
}

static TCase *closing_case(void)
{
	TCase *t = tcase_create("closing");

	tcase_add_loop_test(t, it_closes_when_everything_is_done, 0, 2);
	tcase_add_test(t, an_idle_one_closes_at_once);
	tcase_add_test(t, what_goes_on_from_done_counts);
	return t;
}

int main(void)
{
	Suite *s = suite_create("raw");
	TCase *t = tcase_create("raw");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, reads_and_writes_are_whole, 0, 2);
	tcase_add_test(t, one_buffer_serves_several);
	tcase_add_test(t, direct_io_takes_any_address);
	tcase_add_test(t, an_alignment_is_a_power_of_two_up_to_a_sector);
	tcase_add_loop_test(
		t, a_short_transfer_is_continued_where_it_stopped, 0, 2);
	tcase_add_loop_test(t, a_file_that_ends_early_is_an_error, 0, 2);
	tcase_add_loop_test(t, errors_are_those_of_the_system_call, 0, 2);
	tcase_add_loop_test(t, what_waits_can_be_cancelled, 0, 2);
	tcase_add_test(t, the_line_goes_on_behind_a_cancelled_one);
	tcase_add_loop_test(t, a_cancelled_transfer_is_not_continued, 0, 4);
	tcase_add_loop_test(
		t, a_half_done_transfer_is_not_continued_once_cancelled, 0, 2);
	tcase_add_test(t, what_is_aligned_needs_no_buffer);
	suite_add_tcase(s, t);
	suite_add_tcase(s, ranges_case());
	suite_add_tcase(s, closing_case());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
