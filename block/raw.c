#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Of the buffer that what is not aligned goes through, in parts. */
#define BOUNCE_BYTES (64u << 10)

#define SECTOR_BYTES 512u

struct raw {
	struct worker *worker;
	unsigned file;
	uint32_t align; /* 1: any */
	/* One at a time goes through the buffer; the others wait in line. */
	struct iovec bounce;
	struct raw_io *bounced; /* the one, and behind it those which wait */
};

static struct raw_io *io_of(struct worker_op *op)
{
	return (struct raw_io *)((char *)op - offsetof(struct raw_io, op));
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
		io->done(io, -res);
		return;
	}
	n = progress(io->raw, res);
	if (n == io->len) {
		io->done(io, 0);
		return;
	}
	if (n == 0 || io->cancelled) {
		io->done(io, n == 0 ? EIO : ECANCELED);
		return;
	}
	advance(io, n);
	transfer(io, io->iov, io->n);
}

static void sync_done(struct worker_op *op, int32_t res)
{
	struct raw_io *io = io_of(op);

	io->done(io, res < 0 ? -res : 0);
}

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
	io->done(io, err);
	while ((io = r->bounced) && io->op.state == WORKER_OP_IDLE) {
		if (!io->cancelled) {
			bounce_part(r);
			continue;
		}
		r->bounced = io->next;
		io->done(io, ECANCELED);
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

void raw_submit(struct raw *r, struct raw_io *io)
{
	struct raw_io **at = &r->bounced;

	io->raw = r;
	io->cancelled = false;
	if (io->kind == RAW_SYNC) {
		io->op.done = sync_done;
		worker_fdatasync(r->worker, &io->op, r->file);
		return;
	}
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

void raw_cancel(struct raw *r, struct raw_io *io)
{
	io->cancelled = true;
	worker_cancel(r->worker, &io->op);
}

/* Guests may write single sectors: where the host's blocks are larger than
 * that, its page cache puts them together. */
static int leave_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return -errno;
	return 0;
}

int raw_create(struct raw **ret, struct worker *w, int fd,
	uint32_t direct_align, struct error *err)
{
	struct raw *r;
	void *buf;
	int e;

	if (direct_align & (direct_align - 1))
		return error_set(err, EINVAL,
			"direct I/O in units of %u bytes makes no sense",
			direct_align);
	if (direct_align > SECTOR_BYTES) {
		e = leave_direct(fd);
		if (e < 0)
			return error_errno(err, -e, "leaving direct I/O");
		direct_align = 0;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return error_errno(err, ENOMEM, "raw disk");
	r->worker = w;
	r->align = direct_align ? direct_align : 1;
	r->bounce.iov_base = MAP_FAILED;
	e = worker_add_file(w, fd, &r->file);
	if (e < 0) {
		raw_destroy(r);
		return error_errno(err, -e, "raw disk");
	}
	/* Pages nobody touches cost nothing. */
	buf = mmap(NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r->bounce.iov_base = buf;
	if (buf == MAP_FAILED) {
		raw_destroy(r);
		return error_errno(err, ENOMEM, "raw disk");
	}
	*ret = r;
	return 0;
}

void raw_destroy(struct raw *r)
{
	if (!r)
		return;
	if (r->bounce.iov_base != MAP_FAILED)
		munmap(r->bounce.iov_base, BOUNCE_BYTES);
	free(r);
}
