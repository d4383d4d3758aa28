#include "daemon/images.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define SECTOR_BYTES 512u

void vm_images_init(struct vm_images *im)
{
	*im = (struct vm_images){.kernel_fd = -1, .initrd_fd = -1};
	for (unsigned i = 0; i < VM_MAX_DRIVES; i++)
		im->drives[i].fd = -1;
	for (unsigned i = 0; i < VM_MAX_PMEM; i++)
		im->pmem[i].fd = -1;
}

void vm_images_close(struct vm_images *im)
{
	close_fd(&im->kernel_fd);
	close_fd(&im->initrd_fd);
	for (unsigned i = 0; i < im->n_drives; i++)
		close_fd(&im->drives[i].fd);
	for (unsigned i = 0; i < im->n_pmem; i++)
		close_fd(&im->pmem[i].fd);
	vm_images_init(im);
}

/* Opening by the O_PATH descriptor opens just what was looked at. O_NONBLOCK:
 * not even a lease that somebody holds makes us wait. */
static int reopen(int path_fd, int flags)
{
	return paths_reopen(path_fd, flags | O_NONBLOCK | O_NOCTTY);
}

static int refuse_open(
	const char *field, const char *path, int code, struct error *err)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), path);
	switch (code) {
	case ENOENT:
		return error_field(err, code, field, "%s is not there", quoted);
	case EACCES:
	case EPERM:
		return error_field(
			err, code, field, "%s may not be opened", quoted);
	case EAGAIN:
		return error_field(err, code, field,
			"%s is leased to another process", quoted);
	default:
		error_errno(err, code, "%s cannot be opened", quoted);
		snprintf(err->field, sizeof(err->field), "%s", field);
		return -code;
	}
}

/* An O_PATH descriptor of a regular file or, if allowed, a block device. */
static int look_at(const struct vm_host *host, const char *field,
	const char *path, bool block_too, struct error *err)
{
	_cleanup_close_ int fd = -1;
	char quoted[160];
	struct stat st = {0};
	int r = paths_look(host, path, &fd);

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return refuse_open(field, path, -r, err);
	if (S_ISREG(st.st_mode) || (block_too && S_ISBLK(st.st_mode)))
		return take_fd(&fd);
	log_quote(quoted, sizeof(quoted), path);
	if (S_ISDIR(st.st_mode))
		return error_field(
			err, EISDIR, field, "%s is a directory", quoted);
	return error_field(err, EINVAL, field, "%s is not a regular file%s",
		quoted, block_too ? " or block device" : "");
}

static int open_to_read(const struct vm_host *host, const char *field,
	const char *path, struct error *err)
{
	_cleanup_close_ int at = look_at(host, field, path, false, err);
	int fd;

	if (at < 0)
		return at;
	fd = reopen(at, O_RDONLY);
	return fd < 0 ? refuse_open(field, path, -fd, err) : fd;
}

int images_open_boot_source(const struct vm_host *host,
	const struct vm_boot_source *b, int *ret_kernel, int *ret_initrd,
	struct error *err)
{
	_cleanup_close_ int kernel = -1;
	int initrd = -1;

	kernel = open_to_read(host, "boot-source.kernel_image_path",
		b->kernel_image_path, err);
	if (kernel < 0)
		return kernel;
	if (b->initrd_path) {
		initrd = open_to_read(
			host, "boot-source.initrd_path", b->initrd_path, err);
		if (initrd < 0)
			return initrd;
	}
	*ret_kernel = take_fd(&kernel);
	*ret_initrd = initrd;
	return 0;
}

/* Whether a direct read at this alignment works: how to know where statx does
 * not tell. */
static bool reads_direct(int fd, size_t align)
{
	_cleanup_free_ void *buf = NULL;

	if (posix_memalign(&buf, align, align) != 0)
		return false;
	return pread(fd, buf, align, 0) >= 0;
}

/* The alignment direct I/O on fd needs, 0 when there is no direct I/O. */
static uint32_t direct_alignment(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		(sx.stx_mask & STATX_DIOALIGN)) {
		uint32_t a = sx.stx_dio_offset_align;

		if (sx.stx_dio_mem_align > a)
			a = sx.stx_dio_mem_align;
		return a < 512 && a > 0 ? 512 : a;
	}
	for (uint32_t a = 512; a <= 4096; a *= 8)
		if (reads_direct(fd, a))
			return a;
	return 0;
}

static int set_flags(int fd, int set, int clear)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, (flags | set) & ~clear);
}

/*
 * What a guest writes bypasses the page cache where it can: the guest has its
 * own. What it only reads does not: many VMs then share one copy of a common
 * root disk. Nor does it where the host's blocks are larger than the sectors a
 * guest may write: its page cache puts them together.
 */
static void choose_direct(struct drive_image *im, bool read_only)
{
	im->direct_align = 0;
	if (read_only || set_flags(im->fd, O_DIRECT, 0) < 0)
		return;
	im->direct_align = direct_alignment(im->fd);
	if (im->direct_align == 0 || im->direct_align > SECTOR_BYTES) {
		im->direct_align = 0;
		set_flags(im->fd, 0, O_DIRECT);
	}
}

int images_measure(const char *vm, const struct vm_drive *d,
	struct drive_image *im, struct error *err)
{
	off_t end = lseek(im->fd, 0, SEEK_END);
	char quoted[160];

	if (end < 0)
		return refuse_open(
			"drives.path_on_host", d->path_on_host, errno, err);
	log_quote(quoted, sizeof(quoted), d->path_on_host);
	if (end < 512)
		return error_field(err, EINVAL, "drives.path_on_host",
			"%s is smaller than one sector of 512 bytes", quoted);
	/* Once, unless it has another size by the time of the start. */
	if (end % 512 && im->size_bytes != ((uint64_t)end & ~511ull))
		log_warn("drive_rounded_down",
			"vm=%s drive=%s path=%s bytes=%lld lost=%lld", vm,
			d->drive_id, quoted, (long long)end,
			(long long)(end % 512));
	im->size_bytes = (uint64_t)end & ~511ull;
	return 0;
}

/* A power of two that a guest can be told, in sectors of 512 bytes at least. */
static uint32_t storage_block(int fd)
{
	unsigned bytes = 0;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 512;
	if (!S_ISBLK(st.st_mode) || ioctl(fd, BLKPBSZGET, &bytes) < 0)
		bytes = (unsigned)st.st_blksize;
	return bytes < 512 || bytes > 65536 || (bytes & (bytes - 1)) ? 512
								     : bytes;
}

int images_open_drive(const char *vm, const struct vm_host *host,
	const struct vm_drive *d, struct drive_image *ret, struct error *err)
{
	static const char field[] = "drives.path_on_host";
	_cleanup_close_ int at =
		look_at(host, field, d->path_on_host, true, err);
	_cleanup_close_ int fd = -1;
	struct drive_image im = {0};

	if (at < 0)
		return at;
	fd = reopen(at, d->is_read_only ? O_RDONLY : O_RDWR);
	if (fd < 0)
		return refuse_open(field, d->path_on_host, -fd, err);
	/* io_uring would take it to mean: never wait for the disk. */
	if (set_flags(fd, 0, O_NONBLOCK) < 0)
		return error_errno(err, errno, "fcntl");
	im.fd = fd;
	if (images_measure(vm, d, &im, err) < 0)
		return -err->code;
	im.block_bytes = storage_block(fd);
	choose_direct(&im, d->is_read_only);
	*ret = im;
	take_fd(&fd);
	return 0;
}

int images_measure_pmem(
	const struct vm_pmem *p, struct pmem_image *im, struct error *err)
{
	off_t end = lseek(im->fd, 0, SEEK_END);
	char quoted[160];

	if (end < 0)
		return refuse_open(
			"pmem.path_on_host", p->path_on_host, errno, err);
	log_quote(quoted, sizeof(quoted), p->path_on_host);
	if (end == 0)
		return error_field(err, EINVAL, "pmem.path_on_host",
			"%s is empty", quoted);
	im->file_bytes = (uint64_t)end;
	return 0;
}

/* Buffered: what it is for is the page cache it shares with the guest. */
int images_open_pmem(const struct vm_host *host, const struct vm_pmem *p,
	struct pmem_image *ret, struct error *err)
{
	static const char field[] = "pmem.path_on_host";
	_cleanup_close_ int at =
		look_at(host, field, p->path_on_host, true, err);
	_cleanup_close_ int fd = -1;
	struct pmem_image im = {0};

	if (at < 0)
		return at;
	fd = reopen(at, p->read_only ? O_RDONLY : O_RDWR);
	if (fd < 0)
		return refuse_open(field, p->path_on_host, -fd, err);
	if (set_flags(fd, 0, O_NONBLOCK) < 0)
		return error_errno(err, errno, "fcntl");
	im.fd = fd;
	if (images_measure_pmem(p, &im, err) < 0)
		return -err->code;
	*ret = im;
	take_fd(&fd);
	return 0;
}

int images_open_all(const char *vm, const struct vm_config *c,
	struct vm_images *ret, struct error *err)
{
	if (c->boot_source.kernel_image_path &&
		images_open_boot_source(&c->host, &c->boot_source,
			&ret->kernel_fd, &ret->initrd_fd, err) < 0)
		return -err->code;
	for (unsigned i = 0; i < c->n_drives; i++) {
		if (images_open_drive(vm, &c->host, &c->drives[i],
			    &ret->drives[i], err) < 0)
			return -err->code;
		ret->n_drives++;
	}
	for (unsigned i = 0; i < c->n_pmem; i++) {
		if (images_open_pmem(
			    &c->host, &c->pmem[i], &ret->pmem[i], err) < 0)
			return -err->code;
		ret->n_pmem++;
	}
	return 0;
}
