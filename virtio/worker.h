#pragma once

/*
 * The I/O worker: one thread around one io_uring, on which queue kicks
 * (ioeventfds), file I/O, timers and commands from other threads all arrive.
 *
 * The ring is created disabled; its files are registered; restrictions allow
 * only the opcodes below, only on registered files; then it is enabled and the
 * thread gives up the right to change any of that with its seccomp filter.
 * (io_uring requests are invisible to seccomp.)
 *
 * Life: create, add files, start, ..., stop, destroy. Functions marked [W] are
 * called on the worker's thread only (from a callback), others from any.
 * All return 0 or a negative errno and never log.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Registered before it starts, an eventfd of its own among them; spare ones
 * come in addition. */
#define WORKER_MAX_FILES 1024

struct msghdr;
struct worker;

enum worker_op_state {
	WORKER_OP_IDLE,
	WORKER_OP_WAITING,
	WORKER_OP_SUBMITTED,
	WORKER_OP_TIMER,
	WORKER_OP_READY
};

/*
 * One request; embedded in its owner's, which stays where it is until done()
 * is called, exactly once per submission (for a watch: once per event, until
 * worker_stop()). An op is free for the next submission when done() is called.
 * res: as the system call's, or -errno.
 */
struct worker_op {
	void (*done)(struct worker_op *op, int32_t res); /* [W] */

	/* The worker's own; zero at first. */
	enum worker_op_state state;
	uint8_t opcode;
	bool restart;         /* cancelled by us, not by its owner */
	uint32_t file, n_iov; /* n_iov: or the mode or events asked for */
	const struct iovec *iov;
	struct msghdr *msg;
	uint64_t off_bytes, len_bytes, deadline_ns;
	int32_t res;
	struct worker_op *next, **at; /* at: what points to it, in flight */
};

/*
 * thread_start: run on the new thread after the ring is enabled, before
 * anything else happens there (the VMM installs the seccomp filter in it); a
 * negative errno makes worker_start() fail.
 */
struct worker_config {
	const char *name;       /* the thread's, 15 bytes */
	unsigned entries;       /* submission queue entries: a power of two */
	unsigned n_spare_files; /* for worker_install_file() */
	int (*thread_start)(void *arg);
	void *arg;
};

int worker_create(struct worker **ret, const struct worker_config *config,
	struct error *err);

/* Before start: makes fd (borrowed until it has started) usable by its index. 0
 * or -ENOSPC. */
int worker_add_file(struct worker *w, int fd, unsigned *ret_index);

/* Before start: so many more files for worker_install_file(). */
void worker_reserve_files(struct worker *w, unsigned n);

/* Before start: op->done(op, ...) on each signal of this eventfd. Coalesced
 * signals come as one call; the counter is never read. */
int worker_watch(struct worker *w, struct worker_op *op, unsigned file);

/* Both: the eventfd becomes a file, and is watched. */
static inline int worker_watch_fd(
	struct worker *w, struct worker_op *op, int fd)
{
	unsigned file;
	int r = worker_add_file(w, fd, &file);

	return r < 0 ? r : worker_watch(w, op, file);
}

/* Returns when the thread is in its loop, as thread_start() made it. */
int worker_start(struct worker *w, struct error *err);

/* Optional, before worker_start(), which must follow: starts the thread and
 * does not wait for it, so that the caller can do something else meanwhile. */
int worker_begin(struct worker *w, struct error *err);

/* [W] File I/O at a byte offset. Queued until the callback returns, then all
 * that was queued goes to the kernel in one io_uring_enter; what the ring has
 * no room for waits, in order. iov stays valid until done(). */
void worker_readv(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes);
void worker_writev(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes);
void worker_fdatasync(struct worker *w, struct worker_op *op, unsigned file);
/* mode: FALLOC_FL_*. Punching holes and zeroing, of files and block devices. */
void worker_fallocate(struct worker *w, struct worker_op *op, unsigned file,
	int mode, uint64_t off_bytes, uint64_t len_bytes);
/*
 * On a socket, without waiting (-EAGAIN), which readv and writev do there even
 * where O_NONBLOCK is set; and without SIGPIPE. msg, with no address and no
 * control data, stays valid until done().
 */
void worker_recvmsg(struct worker *w, struct worker_op *op, unsigned file,
	struct msghdr *msg);
void worker_sendmsg(struct worker *w, struct worker_op *op, unsigned file,
	const struct msghdr *msg);
/* Once: res is what has come of events (POLL*). Takes no room from others in
 * the ring while it waits, as a read of a silent peer does: with many peers,
 * poll first. */
void worker_poll(
	struct worker *w, struct worker_op *op, unsigned file, short events);

/*
 * [W] While it runs: makes fd usable by an index, one that is spare or whose
 * file was removed. The ring holds the file: fd may be closed. 0 or -ENOSPC,
 * -ECANCELED (it does not run), or what the kernel says. One system call; so is
 * removing.
 *
 * Removed when nothing is queued on it any more: what the kernel has would end
 * on this file, but what still waits for room in the ring on the index's next
 * one. The kernel lets go of it a little later (before 6.13 about a second):
 * shutdown(2) ends a connection at once.
 */
int worker_install_file(struct worker *w, int fd, unsigned *ret_index);
void worker_remove_file(struct worker *w, unsigned index);

/* [W] done(op, -ETIME) at the given CLOCK_MONOTONIC time, ns; -ECANCELED when
 * the worker stops. Not a system call: the loop waits no longer than its next
 * deadline. */
void worker_timer(struct worker *w, struct worker_op *op, uint64_t deadline_ns);

/* [W] done(op, 0) after the events at hand, before the loop sleeps: to settle
 * once for a whole batch. Deferred again from there, it comes after the next
 * batch, so that nobody else has to wait. */
void worker_defer(struct worker *w, struct worker_op *op);

/* [W] Asks for op->done(op, -ECANCELED), or its result if that is sooner. Does
 * nothing to an op which is not queued. */
void worker_cancel(struct worker *w, struct worker_op *op);

/*
 * Runs fn(arg) on the worker's thread and returns when it has returned: how a
 * vCPU thread starts or stops a device's data path. Directly, if the worker has
 * not been started or has stopped, or if called on its own thread.
 */
void worker_call(struct worker *w, void (*fn)(void *arg), void *arg);

/* Ends the thread, after what is in flight has completed; idempotent. */
void worker_stop(struct worker *w);
void worker_destroy(struct worker *w); /* NULL is fine; stops first */

/* [W] CLOCK_MONOTONIC when the events at hand came, more or less: asked for as
 * often as one likes, the clock is read once for all of a turn. */
uint64_t worker_now(struct worker *w);

/* io_uring_enter calls made so far that submitted something. */
uint64_t worker_submits(const struct worker *w);
