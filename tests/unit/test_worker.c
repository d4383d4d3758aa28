#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "virtio/worker_loop.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 16u
#define N_OPS 200u
#define MS 1000000ull

static struct worker *w;
static int file_fd = -1, kick_fd = -1;
static unsigned file, kick_file;
static struct error err;

/* An op whose results are counted; sem is posted with each. */
struct probe {
	struct worker_op op;
	unsigned done;
	int32_t res;
	uint64_t when;
	sem_t sem;
};

static void probe_done(struct worker_op *op, int32_t res)
{
	struct probe *p = (struct probe *)op;

	p->res = res;
	p->when = clock_ns();
	__atomic_fetch_add(&p->done, 1, __ATOMIC_RELEASE);
	sem_post(&p->sem);
}

static void probe_init(struct probe *p)
{
	*p = (struct probe){.op = {.done = probe_done}};
	sem_init(&p->sem, 0, 0);
}

/* Its tests end in seconds, or not at all. */
static void probe_wait(struct probe *p)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 10;
	while (sem_timedwait(&p->sem, &ts) < 0)
		ck_assert_int_eq(errno, EINTR);
}

static void make_worker(void)
{
	struct worker_config config = {.name = "io", .entries = ENTRIES};

	file_fd = memfd_create("disk", MFD_CLOEXEC);
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_eq(ftruncate(file_fd, 1 << 20), 0);
	ck_assert_int_eq(worker_create(&w, &config, &err), 0);
	ck_assert_int_eq(worker_add_file(w, file_fd, &file), 0);
	ck_assert_int_eq(worker_add_file(w, kick_fd, &kick_file), 0);
}

static void start(void)
{
	make_worker();
	ck_assert_int_eq(worker_start(w, &err), 0);
}

static void end(void)
{
	worker_destroy(w);
	w = NULL;
	close_fd(&file_fd);
	close_fd(&kick_fd);
}

/* File I/O */

static struct probe ops[N_OPS];
static uint8_t blocks[N_OPS][512];
static struct iovec iov[N_OPS];

static void submit_writes(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < N_OPS; i++) {
		memset(blocks[i], (int)i, sizeof(blocks[i]));
		iov[i] = (struct iovec){blocks[i], sizeof(blocks[i])};
		worker_writev(w, &ops[i].op, file, &iov[i], 1, i * 512ull);
	}
}

static void submit_reads(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < N_OPS; i++) {
		memset(blocks[i], 0xee, sizeof(blocks[i]));
		worker_readv(w, &ops[i].op, file, &iov[i], 1, i * 512ull);
	}
}

/* Many times what the ring holds. */
START_TEST(all_of_a_flood_is_carried_out)
{
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	worker_call(w, submit_writes, NULL);
	for (unsigned i = 0; i < N_OPS; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, 512);
	}
	worker_call(w, submit_reads, NULL);
	for (unsigned i = 0; i < N_OPS; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, 512);
		ck_assert_uint_eq(blocks[i][0], (uint8_t)i);
		ck_assert_uint_eq(blocks[i][511], (uint8_t)i);
		ck_assert_uint_eq(ops[i].done, 2);
	}
}
END_TEST

static void submit_few(void *arg)
{
	uint64_t *before = arg;

	*before = worker_submits(w);
	for (unsigned i = 0; i < ENTRIES - 4; i++) {
		iov[i] = (struct iovec){blocks[i], sizeof(blocks[i])};
		worker_readv(w, &ops[i].op, file, &iov[i], 1, i * 512ull);
	}
}

START_TEST(a_batch_is_one_io_uring_enter)
{
	uint64_t before;

	for (unsigned i = 0; i < ENTRIES; i++)
		probe_init(&ops[i]);
	worker_call(w, submit_few, &before);
	for (unsigned i = 0; i < ENTRIES - 4; i++)
		probe_wait(&ops[i]);
	ck_assert_uint_eq(worker_submits(w), before + 1);
}
END_TEST

static void submit_sync(void *arg)
{
	worker_fdatasync(w, arg, file);
}

static void submit_punch(void *arg)
{
	worker_fallocate(w, arg, file,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
}

static void submit_punch_nothing(void *arg)
{
	worker_fallocate(w, arg, file,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 0);
}

static void submit_beyond(void *arg)
{
	worker_readv(w, arg, file, iov, 1, 1 << 20);
}

static void submit_bad(void *arg)
{
	static struct iovec nowhere = {(void *)8, 512};

	worker_readv(w, arg, file, &nowhere, 1, 0);
}

START_TEST(results_are_those_of_the_system_call)
{
	probe_init(&ops[0]);
	iov[0] = (struct iovec){blocks[0], 512};
	worker_call(w, submit_sync, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, 0);
	worker_call(w, submit_beyond, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, 0);
	worker_call(w, submit_bad, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, -EFAULT);
}
END_TEST

/* Exactly what was asked for, and no more. */
START_TEST(a_hole_is_punched)
{
	static uint8_t all[1 << 16];
	struct stat st;

	memset(all, 7, sizeof(all));
	ck_assert_int_eq(pwrite(file_fd, all, sizeof(all), 0), sizeof(all));
	probe_init(&ops[0]);
	worker_call(w, submit_punch, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, 0);
	ck_assert_int_eq(fstat(file_fd, &st), 0);
	ck_assert_int_eq(st.st_size, 1 << 20);
	ck_assert_int_eq(st.st_blocks, (sizeof(all) - 8192) / 512);
	ck_assert_int_eq(pread(file_fd, all, sizeof(all), 0), sizeof(all));
	for (unsigned i = 0; i < sizeof(all); i++)
		ck_assert_uint_eq(all[i], i >= 4096 && i < 12288 ? 0 : 7);
	worker_call(w, submit_punch_nothing, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, -EINVAL);
}
END_TEST

/* Kicks */

static struct probe kick;

static void start_watching(void (*done)(struct worker_op *, int32_t))
{
	make_worker();
	probe_init(&kick);
	kick.op.done = done;
	ck_assert_int_eq(worker_watch(w, &kick.op, kick_file), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
}

/* One by one, each has to be seen, although nobody reads the counter. */
START_TEST(each_signal_wakes_the_worker)
{
	start_watching(probe_done);
	for (unsigned i = 0; i < 20000; i++) {
		fd_notify(kick_fd);
		probe_wait(&kick);
	}
	end();
}
END_TEST

/* As a queue does: what a signal tells of is looked for after it. */
static uint64_t produced, consumed;

static void consume(struct worker_op *op, int32_t res)
{
	struct probe *p = (struct probe *)op;

	(void)res;
	consumed = __atomic_load_n(&produced, __ATOMIC_ACQUIRE);
	if (consumed == 200000)
		sem_post(&p->sem);
}

START_TEST(no_signal_is_lost_in_a_storm)
{
	produced = 0;
	consumed = 0;
	start_watching(consume);
	for (unsigned i = 0; i < 200000; i++) {
		__atomic_store_n(&produced, produced + 1, __ATOMIC_RELEASE);
		fd_notify(kick_fd);
	}
	probe_wait(&kick);
	end();
}
END_TEST

START_TEST(a_signal_from_before_the_start_counts)
{
	make_worker();
	probe_init(&kick);
	ck_assert_int_eq(worker_watch(w, &kick.op, kick_file), 0);
	fd_notify(kick_fd);
	ck_assert_int_eq(worker_start(w, &err), 0);
	probe_wait(&kick);
	end();
}
END_TEST

#define N_WATCHES (3 * ENTRIES)

/* More than go to the kernel at once. */
START_TEST(there_may_be_many_watches)
{
	static struct probe kicks[N_WATCHES];
	int fds[N_WATCHES];
	unsigned index;

	make_worker();
	for (unsigned i = 0; i < N_WATCHES; i++) {
		probe_init(&kicks[i]);
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ck_assert_int_eq(worker_add_file(w, fds[i], &index), 0);
		ck_assert_int_eq(worker_watch(w, &kicks[i].op, index), 0);
	}
	ck_assert_int_eq(worker_start(w, &err), 0);
	for (unsigned i = 0; i < N_WATCHES; i++) {
		fd_notify(fds[i]);
		probe_wait(&kicks[i]);
		ck_assert_uint_eq(kicks[i].done, 1);
	}
	end();
	for (unsigned i = 0; i < N_WATCHES; i++)
		close(fds[i]);
}
END_TEST

START_TEST(watches_have_an_end)
{
	unsigned n = 0;

	make_worker();
	probe_init(&kick);
	while (worker_watch(w, &kick.op, kick_file) == 0)
		ck_assert_uint_lt(n++, WORKER_MAX_FILES);
	ck_assert_uint_eq(n, WORKER_MAX_FILES - 1);
	ck_assert_int_eq(worker_watch(w, &kick.op, kick_file), -ENOSPC);
	end();
}
END_TEST

/* Files that come and go */

struct install {
	int fd, result;
	unsigned index;
};

static void install(void *arg)
{
	struct install *i = arg;

	i->result = worker_install_file(w, i->fd, &i->index);
}

static int install_fd(int fd, unsigned *ret_index)
{
	struct install i = {.fd = fd};

	worker_call(w, install, &i);
	*ret_index = i.index;
	return i.result;
}

static void remove_file(void *arg)
{
	worker_remove_file(w, *(unsigned *)arg);
}

static struct {
	struct probe *p;
	unsigned file;
	short events;
} wait_args;

static struct msghdr message;

static void submit_poll(void *arg)
{
	(void)arg;
	worker_poll(w, &wait_args.p->op, wait_args.file, wait_args.events);
}

static void start_with_spares(unsigned n)
{
	make_worker();
	worker_reserve_files(w, n);
	probe_init(&kick);
	ck_assert_int_eq(worker_watch(w, &kick.op, kick_file), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
}

START_TEST(a_poll_tells_once_what_has_come)
{
	int fds[2];

	start_with_spares(1);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	probe_init(&ops[0]);
	wait_args.p = &ops[0];
	wait_args.events = POLLIN;
	ck_assert_int_eq(install_fd(fds[0], &wait_args.file), 0);
	worker_call(w, submit_poll, NULL);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, POLLIN);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	fd_notify(kick_fd);
	probe_wait(&kick);
	ck_assert_uint_eq(ops[0].done, 1);
	close(fds[1]);
	worker_call(w, submit_poll, NULL);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, POLLIN | POLLHUP);
	end();
	close(fds[0]);
}
END_TEST

static void submit_message(void *arg)
{
	if (arg)
		worker_sendmsg(w, &wait_args.p->op, wait_args.file, &message);
	else
		worker_recvmsg(w, &wait_args.p->op, wait_args.file, &message);
}

static int32_t exchange(bool send)
{
	worker_call(w, submit_message, send ? &message : NULL);
	probe_wait(&ops[0]);
	return ops[0].res;
}

START_TEST(messages_do_not_wait_and_raise_no_signal)
{
	static char text[8];
	struct iovec v = {text, sizeof(text)};
	int fds[2];

	message = (struct msghdr){.msg_iov = &v, .msg_iovlen = 1};
	start_with_spares(1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	probe_init(&ops[0]);
	wait_args.p = &ops[0];
	ck_assert_int_eq(install_fd(fds[0], &wait_args.file), 0);
	ck_assert_int_eq(exchange(false), -EAGAIN);
	ck_assert_int_eq(write(fds[1], "hello", 5), 5);
	ck_assert_int_eq(exchange(false), 5);
	ck_assert_mem_eq(text, "hello", 5);
	ck_assert_int_eq(exchange(true), 8);
	ck_assert_int_eq(read(fds[1], text, sizeof(text)), 8);
	/* Until it is full. */
	while (exchange(true) > 0)
		;
	ck_assert_int_eq(ops[0].res, -EAGAIN);
	close(fds[1]);
	ck_assert_int_eq(exchange(true), -EPIPE);
	end();
	close(fds[0]);
}
END_TEST

/* Idle connections by the hundred leave the ring to the others. */
START_TEST(polls_leave_room_for_the_rest)
{
	static struct probe polls[1000];
	int fds[2];

	start_with_spares(1);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(install_fd(fds[0], &wait_args.file), 0);
	wait_args.events = POLLIN;
	for (unsigned i = 0; i < 1000; i++) {
		probe_init(&polls[i]);
		wait_args.p = &polls[i];
		worker_call(w, submit_poll, NULL);
	}
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	worker_call(w, submit_writes, NULL);
	for (unsigned i = 0; i < N_OPS; i++)
		probe_wait(&ops[i]);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	for (unsigned i = 0; i < 1000; i++) {
		probe_wait(&polls[i]);
		ck_assert_int_eq(polls[i].res, POLLIN);
		ck_assert_uint_eq(polls[i].done, 1);
	}
	end();
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(spare_places_are_used_again_and_have_an_end)
{
	unsigned a, b, c;

	start_with_spares(2);
	ck_assert_int_eq(install_fd(file_fd, &a), 0);
	ck_assert_int_eq(install_fd(kick_fd, &b), 0);
	ck_assert_uint_ne(a, b);
	ck_assert_int_eq(install_fd(kick_fd, &c), -ENOSPC);
	worker_call(w, remove_file, &a);
	ck_assert_int_eq(install_fd(1 << 20, &c), -EBADF);
	ck_assert_int_eq(install_fd(file_fd, &c), 0);
	ck_assert_uint_eq(c, a);
	ck_assert_int_eq(install_fd(kick_fd, &c), -ENOSPC);
	worker_call(w, remove_file, &b);
	worker_call(w, remove_file, &a);
	ck_assert_int_eq(install_fd(file_fd, &c), 0);
	ck_assert_int_eq(install_fd(file_fd, &c), 0);
	ck_assert_int_eq(install_fd(file_fd, &c), -ENOSPC);
	worker_stop(w);
	ck_assert_int_eq(install_fd(file_fd, &c), -ECANCELED);
	worker_call(w, remove_file, &a);
	end();
}
END_TEST

static void read_spare(void *arg)
{
	static struct iovec v = {blocks, 1};

	worker_readv(w, arg, wait_args.file, &v, 1, (uint64_t)-1);
}

/* Requests and watches older than a removal, which wait all the time, keep
 * nothing open, and notice nothing (but a kick more). */
START_TEST(a_removed_file_is_let_go_of)
{
	int gone[2], quiet[2], reader[2];
	unsigned index, reader_file;
	struct pollfd hup;

	start_with_spares(3);
	ck_assert_int_eq(pipe2(gone, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(quiet, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(reader, O_CLOEXEC), 0);
	probe_init(&ops[0]);
	probe_init(&ops[1]);
	ck_assert_int_eq(install_fd(reader[0], &reader_file), 0);
	wait_args.file = reader_file;
	worker_call(w, read_spare, &ops[1].op);
	ck_assert_int_eq(install_fd(quiet[0], &wait_args.file), 0);
	wait_args.p = &ops[0];
	wait_args.events = POLLIN;
	worker_call(w, submit_poll, NULL);
	ck_assert_int_eq(install_fd(gone[1], &index), 0);
	worker_call(w, remove_file, &index);
	close(gone[1]);
	hup = (struct pollfd){.fd = gone[0]};
	ck_assert_int_eq(poll(&hup, 1, 10000), 1);
	ck_assert_int_eq(hup.revents, POLLHUP);
	ck_assert_uint_eq(ops[0].done, 0);
	ck_assert_uint_eq(ops[1].done, 0);
	ck_assert_int_eq(write(quiet[1], "x", 1), 1);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, POLLIN);
	ck_assert_int_eq(write(reader[1], "y", 1), 1);
	probe_wait(&ops[1]);
	ck_assert_int_eq(ops[1].res, 1);
	ck_assert_int_eq(blocks[0][0], 'y');
	while (sem_trywait(&kick.sem) == 0)
		;
	fd_notify(kick_fd);
	probe_wait(&kick);
	end();
	close(gone[0]);
	close(quiet[0]);
	close(quiet[1]);
	close(reader[0]);
	close(reader[1]);
}
END_TEST

static void hold_files(void *arg)
{
	(void)arg;
	w->renews = true;
}

static void renew_all(void *arg)
{
	unsigned *n = arg;

	*n = 0;
	for (struct worker_op *op = w->submitted; op; op = op->next)
		++*n;
	worker_loop_renew(w);
}

static void write_pipe(void *arg)
{
	static struct iovec v = {blocks, 1};

	worker_writev(w, arg, wait_args.file, &v, 1, (uint64_t)-1);
}

/* As it is with kernels before 6.13, on any. */
START_TEST(what_is_submitted_anew_notices_nothing)
{
	static uint8_t full[1 << 20];
	int in[2], out[2];
	unsigned in_file, n;

	start_with_spares(2);
	worker_call(w, hold_files, NULL);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_gt(write(out[1], full, sizeof(full)), 0);
	/* Before io_uring notes that it never waits. */
	ck_assert_int_eq(fcntl(out[1], F_SETFL, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		probe_init(&ops[i]);
	ck_assert_int_eq(install_fd(in[0], &in_file), 0);
	ck_assert_int_eq(install_fd(out[1], &wait_args.file), 0);
	worker_call(w, write_pipe, &ops[0].op);
	wait_args.file = in_file;
	worker_call(w, read_spare, &ops[1].op);
	wait_args.p = &ops[2];
	wait_args.events = POLLIN;
	worker_call(w, submit_poll, NULL);
	fd_notify(kick_fd);
	probe_wait(&kick);
	for (unsigned i = 0; i < 3; i++) {
		worker_call(w, renew_all, &n);
		ck_assert_uint_eq(n, 3);
		/* Of a watch it is another kick. */
		probe_wait(&kick);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(ops[i].done, 0);
	ck_assert_int_gt(read(out[0], full, sizeof(full)), 0);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, 1);
	worker_call(w, renew_all, &n);
	ck_assert_uint_eq(n, 2);
	probe_wait(&kick);
	ck_assert_int_eq(write(in[1], "xy", 2), 2);
	probe_wait(&ops[1]);
	ck_assert_int_eq(ops[1].res, 1);
	probe_wait(&ops[2]);
	ck_assert_int_eq(ops[2].res, POLLIN);
	worker_call(w, renew_all, &n);
	ck_assert_uint_eq(n, 0);
	probe_wait(&kick);
	fd_notify(kick_fd);
	probe_wait(&kick);
	end();
	for (unsigned i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}
END_TEST

/* Whichever of them ends first. */
START_TEST(what_has_ended_is_not_submitted_anew)
{
	int fds[2][2];
	unsigned n;

	start_with_spares(2);
	worker_call(w, hold_files, NULL);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(pipe2(fds[i], O_CLOEXEC), 0);
		ck_assert_int_eq(install_fd(fds[i][0], &wait_args.file), 0);
		probe_init(&ops[i]);
		wait_args.p = &ops[i];
		wait_args.events = POLLIN;
		worker_call(w, submit_poll, NULL);
	}
	ck_assert_int_eq(write(fds[_i][1], "x", 1), 1);
	probe_wait(&ops[_i]);
	worker_call(w, renew_all, &n);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(write(fds[!_i][1], "x", 1), 1);
	probe_wait(&ops[!_i]);
	end();
	for (unsigned i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}
END_TEST

static void renew_and_cancel(void *arg)
{
	unsigned n;

	renew_all(&n);
	worker_cancel(w, arg);
}

START_TEST(its_owner_can_still_cancel_it)
{
	int in[2];

	start_with_spares(1);
	worker_call(w, hold_files, NULL);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	probe_init(&ops[0]);
	ck_assert_int_eq(install_fd(in[0], &wait_args.file), 0);
	worker_call(w, read_spare, &ops[0].op);
	fd_notify(kick_fd);
	probe_wait(&kick);
	worker_call(w, renew_and_cancel, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, -ECANCELED);
	end();
	close(in[0]);
	close(in[1]);
}
END_TEST

/* A kick more tells of the one renewal that several removals ask for. */
START_TEST(removals_are_renewed_for_together)
{
	unsigned index[4];

	start_with_spares(4);
	worker_call(w, hold_files, NULL);
	fd_notify(kick_fd);
	probe_wait(&kick);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(install_fd(file_fd, &index[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		worker_call(w, remove_file, &index[i]);
	probe_wait(&kick);
	nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
	ck_assert_uint_eq(kick.done, 2);
	end();
}
END_TEST

/* What the kernel has in its hands ends where it began. */
START_TEST(a_read_in_flight_keeps_its_file)
{
	int old[2], new[2];
	unsigned again;

	start_with_spares(1);
	ck_assert_int_eq(pipe2(old, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(new, O_CLOEXEC), 0);
	probe_init(&ops[0]);
	ck_assert_int_eq(install_fd(old[0], &wait_args.file), 0);
	worker_call(w, read_spare, &ops[0].op);
	fd_notify(kick_fd);
	probe_wait(&kick); /* it is submitted by now */
	worker_call(w, remove_file, &wait_args.file);
	ck_assert_int_eq(install_fd(new[0], &again), 0);
	ck_assert_uint_eq(again, wait_args.file);
	ck_assert_int_eq(write(new[1], "n", 1), 1);
	ck_assert_int_eq(write(old[1], "o", 1), 1);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, 1);
	ck_assert_int_eq(blocks[0][0], 'o');
	end();
	for (unsigned i = 0; i < 2; i++) {
		close(old[i]);
		close(new[i]);
	}
}
END_TEST

/* Timers, deferral, cancellation */

static struct {
	struct probe *p;
	uint64_t deadline;
} timer_args[3];

static void set_timers(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 3; i++)
		if (timer_args[i].p)
			worker_timer(w, &timer_args[i].p->op,
				timer_args[i].deadline);
}

START_TEST(timers_come_in_their_order_and_not_before)
{
	uint64_t now = clock_ns();

	for (unsigned i = 0; i < 3; i++) {
		probe_init(&ops[i]);
		timer_args[i].p = &ops[i];
	}
	timer_args[0].deadline = now + 40 * MS;
	timer_args[1].deadline = now + 10 * MS;
	timer_args[2].deadline = now - 10 * MS;
	worker_call(w, set_timers, NULL);
	for (unsigned i = 0; i < 3; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, -ETIME);
		ck_assert_uint_ge(ops[i].when, timer_args[i].deadline);
		ck_assert_uint_eq(ops[i].done, 1);
	}
	ck_assert_uint_le(ops[2].when, ops[1].when);
	ck_assert_uint_lt(ops[1].when, ops[0].when);
	ck_assert_uint_lt(ops[0].when, now + 5000 * MS);
}
END_TEST

static void cancel(void *arg)
{
	worker_cancel(w, arg);
}

START_TEST(a_cancelled_timer_comes_at_once)
{
	probe_init(&ops[0]);
	probe_init(&ops[1]);
	timer_args[0].p = &ops[0];
	timer_args[0].deadline = clock_ns() + 3600000 * MS;
	timer_args[1].p = &ops[1];
	timer_args[1].deadline = clock_ns() + 7200000 * MS;
	timer_args[2].p = NULL;
	worker_call(w, set_timers, NULL);
	worker_call(w, cancel, &ops[1].op);
	probe_wait(&ops[1]);
	ck_assert_int_eq(ops[1].res, -ECANCELED);
	ck_assert_uint_eq(ops[0].done, 0);
	worker_call(w, cancel, &ops[0].op);
	probe_wait(&ops[0]);
	ck_assert_int_eq(ops[0].res, -ECANCELED);
	/* Now it is nowhere: nothing to cancel. */
	worker_call(w, cancel, &ops[0].op);
	ck_assert_uint_eq(ops[0].done, 1);
}
END_TEST

static pthread_t self;

static void note_self(void *arg)
{
	(void)arg;
	self = pthread_self();
}

static uint64_t cpu_of(clockid_t clock)
{
	struct timespec ts;

	ck_assert_int_eq(clock_gettime(clock, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* A deadline that never comes is not one that has passed. */
START_TEST(the_last_deadline_there_is_costs_no_cpu)
{
	uint64_t cpu_ns;
	struct timespec ts = {0, 50 * (long)MS};
	clockid_t clock;

	probe_init(&ops[0]);
	timer_args[0].p = &ops[0];
	timer_args[0].deadline = UINT64_MAX;
	timer_args[1].p = NULL;
	timer_args[2].p = NULL;
	worker_call(w, set_timers, NULL);
	worker_call(w, note_self, NULL);
	ck_assert_int_eq(pthread_getcpuclockid(self, &clock), 0);
	cpu_ns = cpu_of(clock);
	nanosleep(&ts, NULL);
	ck_assert_uint_lt(cpu_of(clock) - cpu_ns, 10 * MS);
	worker_call(w, cancel, &ops[0].op);
	probe_wait(&ops[0]);
}
END_TEST

static uint64_t now[3];

static void ask_the_time(struct worker_op *op, int32_t res)
{
	now[2] = worker_now(w);
	probe_done(op, res);
}

static void ask_twice(void *arg)
{
	uint64_t begin = clock_ns();

	(void)arg;
	now[0] = worker_now(w);
	while (clock_ns() < begin + 2 * MS)
		;
	now[1] = worker_now(w);
	worker_timer(w, &ops[0].op, begin + 4 * MS);
}

START_TEST(the_time_is_one_for_all_of_a_turn)
{
	uint64_t begin = clock_ns();

	probe_init(&ops[0]);
	ops[0].op.done = ask_the_time;
	worker_call(w, ask_twice, NULL);
	probe_wait(&ops[0]);
	ck_assert_uint_ge(now[0], begin);
	ck_assert_uint_eq(now[0], now[1]);
	ck_assert_uint_ge(now[2], begin + 4 * MS);
	ck_assert_uint_le(now[2], clock_ns());
}
END_TEST

static int order[8];
static unsigned n_order;

static void note_0(struct worker_op *op, int32_t res)
{
	order[n_order++] = 0;
	if (n_order < 3)
		worker_defer(w, op);
	else
		probe_done(op, res);
}

static void note_1(struct worker_op *op, int32_t res)
{
	order[n_order++] = 1;
	probe_done(op, res);
}

static void defer_two(void *arg)
{
	(void)arg;
	worker_defer(w, &ops[0].op);
	worker_defer(w, &ops[1].op);
}

START_TEST(what_is_deferred_again_waits_for_the_others)
{
	static const int want[] = {0, 1, 0};

	n_order = 0;
	probe_init(&ops[0]);
	probe_init(&ops[1]);
	ops[0].op.done = note_0;
	ops[1].op.done = note_1;
	worker_call(w, defer_two, NULL);
	probe_wait(&ops[0]);
	probe_wait(&ops[1]);
	ck_assert_mem_eq(order, want, sizeof(want));
	ck_assert_int_eq(ops[1].res, 0);
}
END_TEST

/* A read of an empty pipe waits for ever: that one can be cancelled. More of
 * them than the ring has room for: some are cancelled before they got there. */
static unsigned pipe_file;

static void read_pipe(void *arg)
{
	static struct iovec v = {blocks, 1};

	(void)arg;
	for (unsigned i = 0; i < N_OPS; i++)
		worker_readv(w, &ops[i].op, pipe_file, &v, 1, (uint64_t)-1);
}

static void cancel_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < N_OPS; i++)
		worker_cancel(w, &ops[i].op);
}

static void read_and_cancel(void *arg)
{
	read_pipe(arg);
	cancel_all(arg);
}

START_TEST(what_waits_can_be_cancelled)
{
	int fds[2];

	make_worker();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(worker_add_file(w, fds[0], &pipe_file), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	if (_i < 2) {
		worker_call(w, read_pipe, NULL);
		/* More than the submission queue takes are in flight then. */
		if (_i == 0)
			nanosleep(
				&(struct timespec){.tv_nsec = 30000000}, NULL);
		worker_call(w, cancel_all, NULL);
	} else {
		worker_call(w, read_and_cancel, NULL);
	}
	for (unsigned i = 0; i < N_OPS; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, -ECANCELED);
		ck_assert_uint_eq(ops[i].done, 1);
	}
	end();
	close(fds[0]);
	close(fds[1]);
}
END_TEST

static void read_pipe_and_sync(void *arg)
{
	static struct iovec v = {blocks, 1};

	(void)arg;
	for (unsigned i = 0; i < ENTRIES + 4; i++)
		worker_readv(w, &ops[i].op, pipe_file, &v, 1, (uint64_t)-1);
	worker_fdatasync(w, &kick.op, file);
}

/* More than the submission queue takes, and none of them ends. */
START_TEST(what_is_behind_a_full_queue_is_carried_out)
{
	int fds[2];

	make_worker();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(worker_add_file(w, fds[0], &pipe_file), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
	probe_init(&kick);
	for (unsigned i = 0; i < ENTRIES + 4; i++)
		probe_init(&ops[i]);
	/* By then it sleeps, and nothing else wakes it. */
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	worker_call(w, read_pipe_and_sync, NULL);
	probe_wait(&kick);
	ck_assert_int_eq(kick.res, 0);
	close(fds[1]);
	for (unsigned i = 0; i < ENTRIES + 4; i++)
		probe_wait(&ops[i]);
	end();
	close(fds[0]);
}
END_TEST

static void queue_cancel_queue(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		worker_readv(w, &ops[i].op, file, &iov[i], 1, 0);
		if (i == 1)
			worker_cancel(w, &ops[1].op);
	}
}

START_TEST(what_follows_a_cancelled_one_is_carried_out)
{
	start();
	for (unsigned i = 0; i < 3; i++) {
		iov[i] = (struct iovec){blocks[i], 512};
		probe_init(&ops[i]);
	}
	worker_call(w, queue_cancel_queue, NULL);
	for (unsigned i = 0; i < 3; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, i == 1 ? -ECANCELED : 512);
	}
	end();
}
END_TEST

/* Calls, start and stop */

static pthread_t called_on;

static void note_thread(void *arg)
{
	unsigned *n = arg;

	called_on = pthread_self();
	++*n;
}

static void call_from_itself(void *arg)
{
	pthread_t outer = pthread_self();

	worker_call(w, note_thread, arg);
	ck_assert(pthread_equal(outer, called_on));
}

START_TEST(a_call_runs_on_the_worker_while_there_is_one)
{
	unsigned n = 0;

	make_worker();
	worker_call(w, note_thread, &n);
	ck_assert(pthread_equal(called_on, pthread_self()));
	ck_assert_int_eq(worker_start(w, &err), 0);
	worker_call(w, note_thread, &n);
	ck_assert(!pthread_equal(called_on, pthread_self()));
	worker_call(w, call_from_itself, &n);
	worker_stop(w);
	worker_call(w, note_thread, &n);
	ck_assert(pthread_equal(called_on, pthread_self()));
	ck_assert_uint_eq(n, 4);
	end();
}
END_TEST

static void *call_many(void *arg)
{
	for (unsigned i = 0; i < 2000; i++)
		worker_call(w, note_thread, arg);
	return NULL;
}

/* The counter is plain: calls are one at a time. */
START_TEST(calls_of_many_threads_are_all_run)
{
	pthread_t threads[4];
	unsigned n = 0;

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, call_many, &n);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(n, 8000);
}
END_TEST

START_TEST(calls_that_meet_the_stop_are_run_as_well)
{
	for (unsigned round = 0; round < 50; round++) {
		pthread_t threads[2];
		unsigned n = 0;

		start();
		for (unsigned i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, call_many, &n);
		worker_stop(w);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		ck_assert_uint_eq(n, 4000);
		end();
	}
}
END_TEST

START_TEST(stop_waits_for_what_is_in_flight_and_cancels_timers)
{
	start();
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	probe_init(&kick);
	timer_args[0].p = &kick;
	timer_args[0].deadline = clock_ns() + 3600000 * MS;
	timer_args[1].p = NULL;
	timer_args[2].p = NULL;
	worker_call(w, set_timers, NULL);
	worker_call(w, submit_writes, NULL);
	worker_stop(w);
	worker_stop(w);
	for (unsigned i = 0; i < N_OPS; i++) {
		ck_assert_uint_eq(ops[i].done, 1);
		ck_assert_int_eq(ops[i].res, 512);
	}
	ck_assert_uint_eq(kick.done, 1);
	ck_assert_int_eq(kick.res, -ECANCELED);
	end();
}
END_TEST

static void begin_at_the_stop(struct worker_op *op, int32_t res)
{
	worker_writev(w, &ops[1].op, file, &iov[1], 1, 0);
	probe_done(op, res);
}

static void defer_at_the_stop(struct worker_op *op, int32_t res)
{
	worker_defer(w, &ops[1].op);
	probe_done(op, res);
}

/* From what the stop cancels. */
START_TEST(what_is_begun_at_the_stop_is_finished)
{
	start();
	probe_init(&ops[0]);
	probe_init(&ops[1]);
	ops[0].op.done = _i ? defer_at_the_stop : begin_at_the_stop;
	iov[1] = (struct iovec){blocks[1], 512};
	timer_args[0].p = &ops[0];
	timer_args[0].deadline = clock_ns() + 3600000 * MS;
	timer_args[1].p = NULL;
	timer_args[2].p = NULL;
	worker_call(w, set_timers, NULL);
	worker_stop(w);
	ck_assert_uint_eq(ops[0].done, 1);
	ck_assert_uint_eq(ops[1].done, 1);
	ck_assert_int_eq(ops[1].res, _i ? 0 : 512);
	end();
}
END_TEST

static void *stop_it(void *arg)
{
	worker_stop(arg);
	return NULL;
}

/* A device that ends after its worker has begun to: it cancels what the worker
 * waits for. */
START_TEST(calls_are_run_while_the_stop_waits)
{
	pthread_t thread;
	int fds[2];

	make_worker();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(worker_add_file(w, fds[0], &pipe_file), 0);
	ck_assert_int_eq(worker_start(w, &err), 0);
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	worker_call(w, read_pipe, NULL);
	pthread_create(&thread, NULL, stop_it, w);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	worker_call(w, cancel_all, NULL);
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < N_OPS; i++)
		ck_assert_uint_eq(ops[i].done, 1);
	end();
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* Before the thread there is nobody to submit it, afterwards nobody any more:
 * nothing is left without an answer. */
START_TEST(what_comes_too_late_is_cancelled)
{
	make_worker();
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	probe_init(&kick);
	worker_call(w, submit_writes, NULL);
	ck_assert_uint_eq(ops[0].done, 0);
	worker_stop(w);
	ck_assert_uint_eq(ops[0].done, 1);
	ck_assert_uint_eq(ops[N_OPS - 1].done, 1);
	ck_assert_int_eq(ops[0].res, -ECANCELED);
	worker_call(w, submit_sync, &ops[0].op);
	ck_assert_uint_eq(ops[0].done, 2);
	ck_assert_int_eq(ops[0].res, -ECANCELED);
	timer_args[0].p = &kick;
	worker_call(w, set_timers, NULL);
	ck_assert_int_eq(kick.res, -ECANCELED);
	end();
}
END_TEST

START_TEST(what_was_queued_before_the_start_is_carried_out)
{
	make_worker();
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	worker_call(w, submit_writes, NULL);
	ck_assert_int_eq(worker_start(w, &err), 0);
	for (unsigned i = 0; i < N_OPS; i++) {
		probe_wait(&ops[i]);
		ck_assert_int_eq(ops[i].res, 512);
	}
	end();
}
END_TEST

static int refuse(void *arg)
{
	*(pthread_t *)arg = pthread_self();
	return -EPERM;
}

START_TEST(a_thread_that_cannot_start_is_an_error)
{
	struct worker_config config = {.name = "io",
		.entries = ENTRIES,
		.thread_start = refuse,
		.arg = &called_on};

	ck_assert_int_eq(worker_create(&w, &config, &err), 0);
	ck_assert_int_eq(worker_start(w, &err), -EPERM);
	ck_assert_int_eq(err.code, EPERM);
	ck_assert(!pthread_equal(called_on, pthread_self()));
	worker_destroy(w);
	worker_destroy(NULL);
}
END_TEST

START_TEST(files_have_an_end)
{
	unsigned index, n = 0;

	make_worker();
	while (worker_add_file(w, file_fd, &index) == 0)
		ck_assert_uint_lt(n++, WORKER_MAX_FILES);
	ck_assert_uint_eq(index, WORKER_MAX_FILES - 1);
	ck_assert_int_eq(worker_add_file(w, file_fd, &index), -ENOSPC);
	end();
}
END_TEST

/*
 * The system calls a running worker makes, and no other: what the seccomp
 * program for workers may be as narrow as. rt_sigprocmask, madvise, munmap and
 * exit are of the thread's end.
 */
#define ALLOW(name)                                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1),                 \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int install_filter(void *arg)
{
	static struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr)),
		ALLOW(io_uring_enter),
		ALLOW(io_uring_register),
		ALLOW(futex),
		ALLOW(write),
		ALLOW(clock_gettime),
		ALLOW(rt_sigprocmask),
		ALLOW(madvise),
		ALLOW(munmap),
		ALLOW(exit),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = {sizeof(insns) / sizeof(insns[0]), insns};

	(void)arg;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}

static void notify(void *arg)
{
	fd_notify(*(int *)arg);
}

static void forbidden(void *arg)
{
	*(long *)arg = syscall(SYS_getppid);
}

static void jailed(bool break_out)
{
	struct worker_config config = {.name = "io",
		.entries = ENTRIES,
		.thread_start = install_filter};
	unsigned spare;
	long got;

	file_fd = memfd_create("disk", MFD_CLOEXEC);
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker_create(&w, &config, &err);
	worker_add_file(w, file_fd, &file);
	worker_add_file(w, kick_fd, &kick_file);
	probe_init(&kick);
	worker_watch(w, &kick.op, kick_file);
	worker_reserve_files(w, 1);
	if (worker_start(w, &err) < 0)
		_exit(2);
	if (install_fd(file_fd, &spare) < 0)
		_exit(3);
	worker_call(w, remove_file, &spare);
	for (unsigned i = 0; i < N_OPS; i++)
		probe_init(&ops[i]);
	timer_args[0].p = &ops[0];
	timer_args[0].deadline = clock_ns() + 1 * MS;
	worker_call(w, set_timers, NULL);
	sem_wait(&ops[0].sem);
	worker_call(w, submit_writes, NULL);
	for (unsigned i = 0; i < N_OPS; i++)
		sem_wait(&ops[i].sem);
	worker_call(w, submit_sync, &ops[0].op);
	sem_wait(&ops[0].sem);
	worker_call(w, cancel, &ops[0].op);
	worker_call(w, notify, &kick_fd);
	sem_wait(&kick.sem);
	if (break_out)
		worker_call(w, forbidden, &got);
	worker_stop(w);
	_exit(0);
}

START_TEST(it_lives_in_its_seccomp_filter)
{
	int wstatus;
	pid_t pid = fork();

	if (pid == 0)
		jailed(_i == 1);
	ck_assert_int_eq(waitpid(pid, &wstatus, 0), pid);
	if (_i == 0) {
		ck_assert(WIFEXITED(wstatus));
		ck_assert_int_eq(WEXITSTATUS(wstatus), 0);
	} else {
		ck_assert(WIFSIGNALED(wstatus));
		ck_assert_int_eq(WTERMSIG(wstatus), SIGSYS);
	}
}
END_TEST

static TCase *files_case(void)
{
	TCase *t = tcase_create("files");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_poll_tells_once_what_has_come);
	tcase_add_test(t, messages_do_not_wait_and_raise_no_signal);
	tcase_add_test(t, polls_leave_room_for_the_rest);
	tcase_add_test(t, spare_places_are_used_again_and_have_an_end);
	tcase_add_test(t, a_removed_file_is_let_go_of);
	tcase_add_test(t, what_is_submitted_anew_notices_nothing);
	tcase_add_loop_test(t, what_has_ended_is_not_submitted_anew, 0, 2);
	tcase_add_test(t, its_owner_can_still_cancel_it);
	tcase_add_test(t, removals_are_renewed_for_together);
	tcase_add_test(t, a_read_in_flight_keeps_its_file);
	return t;
}

static TCase *life_case(void)
{
	TCase *t = tcase_create("life");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_call_runs_on_the_worker_while_there_is_one);
	tcase_add_test(t, calls_that_meet_the_stop_are_run_as_well);
	tcase_add_test(t, a_signal_from_before_the_start_counts);
	tcase_add_loop_test(t, what_waits_can_be_cancelled, 0, 3);
	tcase_add_test(t, what_follows_a_cancelled_one_is_carried_out);
	tcase_add_test(t, what_is_behind_a_full_queue_is_carried_out);
	tcase_add_test(t, stop_waits_for_what_is_in_flight_and_cancels_timers);
	tcase_add_loop_test(t, what_is_begun_at_the_stop_is_finished, 0, 2);
	tcase_add_test(t, calls_are_run_while_the_stop_waits);
	tcase_add_test(t, what_comes_too_late_is_cancelled);
	tcase_add_test(t, what_was_queued_before_the_start_is_carried_out);
	tcase_add_test(t, a_thread_that_cannot_start_is_an_error);
	tcase_add_test(t, files_have_an_end);
	return t;
}

/* Sanitizers have threads and system calls of their own. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||           \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

int main(void)
{
	Suite *s = suite_create("worker");
	TCase *io = tcase_create("io"), *kicks = tcase_create("kicks");
	TCase *jail = tcase_create("jail");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(io, 30);
	tcase_set_timeout(kicks, 30);
	tcase_set_timeout(jail, 30);
	tcase_add_checked_fixture(io, start, end);
	tcase_add_test(io, all_of_a_flood_is_carried_out);
	tcase_add_test(io, a_batch_is_one_io_uring_enter);
	tcase_add_test(io, results_are_those_of_the_system_call);
	tcase_add_test(io, a_hole_is_punched);
	tcase_add_test(io, timers_come_in_their_order_and_not_before);
	tcase_add_test(io, a_cancelled_timer_comes_at_once);
	tcase_add_test(io, the_last_deadline_there_is_costs_no_cpu);
	tcase_add_test(io, what_is_deferred_again_waits_for_the_others);
	tcase_add_test(io, the_time_is_one_for_all_of_a_turn);
	tcase_add_test(io, calls_of_many_threads_are_all_run);
	tcase_add_test(kicks, each_signal_wakes_the_worker);
	tcase_add_test(kicks, no_signal_is_lost_in_a_storm);
	tcase_add_test(kicks, there_may_be_many_watches);
	tcase_add_test(kicks, watches_have_an_end);
	tcase_add_loop_test(
		jail, it_lives_in_its_seccomp_filter, 0, SANITIZED ? 0 : 2);
	suite_add_tcase(s, io);
	suite_add_tcase(s, kicks);
	suite_add_tcase(s, files_case());
	suite_add_tcase(s, life_case());
	suite_add_tcase(s, jail);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
