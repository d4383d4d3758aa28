#include "virtio/uring.h"

#include <errno.h>
#include <string.h>

/* Multishot poll came in the same version as resource tags, 5.13; the kernel
 * announces only these. */
#define URING_FEATURES                                                         \
	(IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS)

/* IORING_FEAT_RW_ATTR, newer than our headers: of 6.14, one after the version
 * which gave each file a life of its own. */
#define FEAT_6_14 (1u << 16)

int uring_create(struct io_uring *ret, unsigned sq_entries, unsigned cq_entries,
	struct error *err)
{
	/* Best first: completions run when we wait for them, by no interrupt
	 * (6.1); or at least when we enter the kernel (5.19). */
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SUBMIT_ALL,
	};
	struct io_uring_params p;
	unsigned i = 0;
	int r;

	do {
		memset(&p, 0, sizeof(p));
		p.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
			  modes[i++];
		p.cq_entries = cq_entries;
		r = io_uring_queue_init_params(sq_entries, ret, &p);
	} while (r == -EINVAL && i < sizeof(modes) / sizeof(modes[0]));
	if (r < 0)
		return error_errno(err, -r, "io_uring_setup");
	if ((p.features & URING_FEATURES) != URING_FEATURES) {
		io_uring_queue_exit(ret);
		return error_set(err, ENOSYS,
			"this kernel's io_uring is too old: 5.19 is needed");
	}
	return 0;
}

int uring_enable(struct io_uring *ring, const int *fds, unsigned n_fds)
{
	/* Flags not required here are refused. */
	static const struct io_uring_restriction only[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_POLL_ADD},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_READV},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_WRITEV},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_RECVMSG},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_SENDMSG},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_FSYNC},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_FALLOCATE},
		{.opcode = IORING_RESTRICTION_SQE_OP,
			.sqe_op = IORING_OP_ASYNC_CANCEL},
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
			.register_op = IORING_REGISTER_FILES_UPDATE},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
			.sqe_flags = IOSQE_FIXED_FILE},
	};
	/* Files block on the bounded ones; the other kind is for sockets. */
	unsigned workers[2] = {URING_MAX_THREADS - 1, 1};
	int r;

	r = io_uring_register_files(ring, fds, n_fds);
	if (r < 0)
		return r;
	r = io_uring_register_iowq_max_workers(ring, workers);
	if (r < 0 && r != -EINVAL) /* before 5.15 */
		return r;
	/* The calls with names of their own are not in liburing 2.3's shared
	 * library. */
	r = io_uring_register((unsigned)ring->ring_fd,
		IORING_REGISTER_RESTRICTIONS, only,
		sizeof(only) / sizeof(only[0]));
	if (r < 0)
		return r;
	return io_uring_register(
		(unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int uring_set_file(struct io_uring *ring, unsigned index, int fd)
{
	struct io_uring_files_update update = {
		.offset = index, .fds = (uintptr_t)&fd};
	int r = io_uring_register((unsigned)ring->ring_fd,
		IORING_REGISTER_FILES_UPDATE, &update, 1);

	return r < 0 ? r : 0;
}

bool uring_holds_files(const struct io_uring *ring)
{
	return !(ring->features & FEAT_6_14);
}
