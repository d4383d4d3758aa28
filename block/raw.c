#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Of the buffer that what is not aligned goes through, in parts. */
#define BOUNCE_BYTES (64u << 10)

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

struct raw {
	struct worker *worker;
	unsigned file;
	bool has_file;
	uint32_t align; /* 1: any */
	/* What the file turned out not to be capable of. */
	bool no_punch, no_zero;
	unsigned n_ios; /* submitted and not done */
	bool closing, sync_at_close;
	struct raw_io last_sync;
	/* One at a time goes through the buffer; the others wait in line. */
	struct iovec bounce;
	struct raw_io *bounced; /* the one, and behind it those which wait */
};

/* How far behind the end of a file it is tried what it can do. */
#define PROBE_GAP_BYTES (1u << 20)

/* Never written to: one page of zeroes, mapped many times. */
static uint8_t zeroes[256u << 10] __attribute__((aligned(4096)));

static struct raw_io *io_of(struct worker_op *op)
{
	return (struct raw_io *)((char *)op - offsetof(struct raw_io, op));
}

static void last_sync_done(struct raw_io *io, int err)
{
	/* Nobody is left to hear of it. */
	(void)io;
	(void)err;
}

static void close_if_done(struct raw *r)
{
	if (!r->closing || r->n_ios)
		return;
	if (r->sync_at_close) {
		r->sync_at_close = false;
		r->last_sync.kind = RAW_SYNC;
		r->last_sync.done = last_sync_done;
		raw_submit(r, &r->last_sync);
		return;
	}
	worker_remove_file(r->worker, r->file);
	r->has_file = false;
}

static void finish(struct raw_io *io, int err)
{
	struct raw *r = io->raw;

	/* It may submit again, or be gone. */
	io->done(io, err && io->cancelled ? ECANCELED : err);
	r->n_ios--;
	close_if_done(r);
}

static struct iovs view(const struct raw_io *io)
{
	return (struct iovs){io->iov, io->n, io->len};
}

/* What a transfer moved is a step forward only as far as the next one may
 * begin there. 0: none, or the file ends early. */
static size_t progress(const struct raw *r, int32_t res)
{
	return (uint32_t)res & ~(size_t)(r->align - 1);
}

static void advance(struct raw_io *io, size_t n)
{
	struct iovs all = view(io);

	io->n = (unsigned)iovs_slice(&all, n, io->len - n, io->iov, io->n);
	io->len -= n;
	io->off_bytes += n;
}

static void transfer(struct raw_io *io, const struct iovec *iov, unsigned n)
{
	struct raw *r = io->raw;

	if (io->kind == RAW_READ)
		worker_readv(
			r->worker, &io->op, r->file, iov, n, io->off_bytes);
	else
		worker_writev(
			r->worker, &io->op, r->file, iov, n, io->off_bytes);
}

static void direct_done(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);
	size_t n;

	if (res < 0) {
		finish(io, -res);
		return;
	}
	n = progress(io->raw, res);
	if (n == io->len) {
		finish(io, 0);
		return;
	}
	if (n == 0 || io->cancelled) {
		finish(io, n == 0 ? EIO : ECANCELED);
		return;
	}
	advance(io, n);
	transfer(io, io->iov, io->n);
}

static void sync_done(struct worker_op *op, int32_t res)
{
	finish(io_of(op), res < 0 ? -res : 0);
}

/* ---- ranges ---- */

static void write_zeroes(struct raw_io *io)
{
	io->zeroes.iov_base = zeroes;
	io->zeroes.iov_len =
		io->len < sizeof(zeroes) ? io->len : sizeof(zeroes);
	worker_writev(io->raw->worker, &io->op, io->raw->file, &io->zeroes, 1,
		io->off_bytes);
}

static void zeroes_written(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);
	size_t n = res < 0 ? 0 : progress(io->raw, res);

	if (n == 0 || n == io->len) {
		finish(io, res < 0 ? -res : n == 0 ? EIO : 0);
		return;
	}
	if (io->cancelled) {
		finish(io, ECANCELED);
		return;
	}
	io->len -= n;
	io->off_bytes += n;
	write_zeroes(io);
}

static void allocate(struct raw_io *io, int mode,
	void (*done)(struct worker_op *op, int32_t res))
{
	io->op.done = done;
	worker_fallocate(io->raw->worker, &io->op, io->raw->file, mode,
		io->off_bytes, io->len);
}

/* Not an error of the disk, but none of its abilities: never, or (EINVAL: a
 * block device with larger blocks) not for this range. */
static bool refused(int32_t res, bool *never)
{
	if (res == -EOPNOTSUPP)
		*never = true;
	return res == -EOPNOTSUPP || res == -EINVAL;
}

/* Where the file cannot do it by itself. */
static void zero_by_hand(struct raw_io *io)
{
	io->op.done = zeroes_written;
	write_zeroes(io);
}

static void zero_done(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);

	if (refused(res, &io->raw->no_zero))
		zero_by_hand(io);
	else
		finish(io, -res);
}

static void zero(struct raw_io *io)
{
	if (io->raw->no_zero)
		zero_by_hand(io);
	else
		allocate(io, ZERO, zero_done);
}

static void punch_done(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);

	if (!refused(res, &io->raw->no_punch))
		finish(io, -res);
	else if (io->kind == RAW_DISCARD)
		finish(io, 0);
	else
		zero(io);
}

/* The worker's, for a discard that does nothing. */
static void nothing_done(struct worker_op *op, int32_t res)
{
	(void)res;
	finish(io_of(op), 0);
}

static void submit_range(struct raw *r, struct raw_io *io)
{
	if (io->kind == RAW_ZERO || (r->no_punch && io->kind != RAW_DISCARD)) {
		zero(io);
	} else if (!r->no_punch) {
		allocate(io, PUNCH, punch_done);
	} else {
		io->op.done = nothing_done;
		worker_defer(r->worker, &io->op);
	}
}

/* ---- the bounce buffer ---- */

static void bounce_part(struct raw *r)
{
	struct raw_io *io = r->bounced;
	struct iovs data = view(io);

	r->bounce.iov_len = io->len < BOUNCE_BYTES ? io->len : BOUNCE_BYTES;
	if (io->kind == RAW_WRITE)
		iovs_read(&data, 0, r->bounce.iov_base, r->bounce.iov_len);
	transfer(io, &r->bounce, 1);
}

/* The first in line is done with; on to the next. done() may have put new ones
 * in line, and begun the first of them. */
static void bounce_finish(struct raw *r, int err)
{
	struct raw_io *io = r->bounced;

	r->bounced = io->next;
	finish(io, err);
	while ((io = r->bounced) && io->op.state == WORKER_OP_IDLE) {
		if (!io->cancelled) {
			bounce_part(r);
			continue;
		}
		r->bounced = io->next;
		finish(io, ECANCELED);
	}
}

static void bounce_done(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);
	struct raw *r = io->raw;
	struct iovs data = view(io);
	size_t n = res < 0 ? 0 : progress(r, res);

	if (n == 0) {
		bounce_finish(r, res < 0 ? -res : EIO);
		return;
	}
	if (io->kind == RAW_READ)
		iovs_write(&data, 0, r->bounce.iov_base, n);
	if (n == io->len || io->cancelled) {
		bounce_finish(r, n == io->len ? 0 : ECANCELED);
		return;
	}
	advance(io, n);
	bounce_part(r);
}

static bool is_aligned(const struct raw *r, const struct raw_io *io)
{
	uintptr_t bits = 0;

	for (unsigned i = 0; i < io->n; i++)
		bits |= (uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
	return !(bits & (r->align - 1));
}

static void submit_transfer(struct raw *r, struct raw_io *io)
{
	struct raw_io **at = &r->bounced;

	if (is_aligned(r, io)) {
		io->op.done = direct_done;
		transfer(io, io->iov, io->n);
		return;
	}
	io->op.done = bounce_done;
	io->next = NULL;
	while (*at)
		at = &(*at)->next;
	*at = io;
	if (r->bounced == io)
		bounce_part(r);
}

void raw_submit(struct raw *r, struct raw_io *io)
{
	io->raw = r;
	io->cancelled = false;
	r->n_ios++;
	switch (io->kind) {
	case RAW_READ:
	case RAW_WRITE:
		submit_transfer(r, io);
		break;
	case RAW_SYNC:
		io->op.done = sync_done;
		worker_fdatasync(r->worker, &io->op, r->file);
		break;
	case RAW_DISCARD:
	case RAW_ZERO:
	case RAW_ZERO_UNMAP:
		submit_range(r, io);
		break;
	}
}

void raw_cancel(struct raw_io *io)
{
	io->cancelled = true;
	worker_cancel(io->raw->worker, &io->op);
}

void raw_close(struct raw *r, bool sync)
{
	r->closing = true;
	r->sync_at_close = sync;
	close_if_done(r);
}

bool raw_is_closed(const struct raw *r)
{
	return !r->has_file;
}

bool raw_can_discard(int fd, uint64_t end_bytes)
{
	struct stat st = {0};

	/* Which of them can is known when they are asked. */
	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode))
		return true;
	/* A hole behind the end changes nothing. */
	return fallocate(fd, PUNCH, (off_t)(end_bytes + PROBE_GAP_BYTES),
		       RAW_SECTOR_BYTES) == 0;
}

int raw_create(struct raw **ret, struct worker *w, uint32_t direct_align)
{
	struct raw *r;

	if (direct_align & (direct_align - 1) ||
		direct_align > RAW_SECTOR_BYTES)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->worker = w;
	r->align = direct_align ? direct_align : 1;
	/* Pages nobody touches cost nothing. */
	r->bounce.iov_base = mmap(NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->bounce.iov_base == MAP_FAILED) {
		raw_destroy(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

int raw_add(struct raw *r, int fd)
{
	int e = worker_add_file(r->worker, fd, &r->file);

	r->has_file = e == 0;
	return e;
}

int raw_install(struct raw *r, int fd)
{
	int e = worker_install_file(r->worker, fd, &r->file);

	r->has_file = e == 0;
	return e;
}

void raw_destroy(struct raw *r)
{
	if (!r)
		return;
	if (r->bounce.iov_base != MAP_FAILED)
		munmap(r->bounce.iov_base, BOUNCE_BYTES);
	free(r);
}
