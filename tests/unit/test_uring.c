#include "base/cleanup.h"
#include "virtio/uring.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int file_fd = -1;
static struct msghdr no_message;
static uint8_t byte[1];
static struct error err;
static struct io_uring ring;

static void make_ring(void)
{
	int fds[] = {-1, -1};

	file_fd = memfd_create("disk", MFD_CLOEXEC);
	fds[0] = file_fd;
	ck_assert_int_eq(uring_create(&ring, 4, 32, &err), 0);
	ck_assert_uint_ge(ring.cq.ring_entries, 32);
	ck_assert_int_eq(uring_enable(&ring, fds, 2), 0);
}

static void end_ring(void)
{
	io_uring_queue_exit(&ring);
	close_fd(&file_fd);
}

static int run_sqe(uint8_t opcode, int fd, unsigned flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	static struct iovec v = {byte, 1};
	struct io_uring_cqe *cqe;
	int res;

	io_uring_prep_rw(opcode, sqe, fd, &v, 1, 0);
	if (opcode == IORING_OP_FSYNC || opcode == IORING_OP_ASYNC_CANCEL) {
		sqe->addr = 0;
		sqe->len = 0;
	} else if (opcode == IORING_OP_SENDMSG || opcode == IORING_OP_RECVMSG) {
		sqe->addr = (uintptr_t)&no_message;
	} else if (opcode == IORING_OP_FALLOCATE) {
		sqe->addr = 4096;
		sqe->len = 0;
	}
	sqe->flags |= (uint8_t)flags;
	ck_assert_int_eq(io_uring_submit(&ring), 1);
	ck_assert_int_eq(io_uring_wait_cqe(&ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return res;
}

START_TEST(only_a_few_opcodes_are_allowed)
{
	ck_assert_int_eq(run_sqe(IORING_OP_WRITEV, 0, IOSQE_FIXED_FILE), 1);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 0, IOSQE_FIXED_FILE), 1);
	ck_assert_int_eq(run_sqe(IORING_OP_FSYNC, 0, IOSQE_FIXED_FILE), 0);
	ck_assert_int_eq(
		run_sqe(IORING_OP_ASYNC_CANCEL, 0, IOSQE_FIXED_FILE), -ENOENT);
	ck_assert_int_eq(run_sqe(IORING_OP_FALLOCATE, 0, IOSQE_FIXED_FILE), 0);
	ck_assert_int_eq(
		run_sqe(IORING_OP_SENDMSG, 0, IOSQE_FIXED_FILE), -ENOTSOCK);
	ck_assert_int_eq(
		run_sqe(IORING_OP_RECVMSG, 0, IOSQE_FIXED_FILE), -ENOTSOCK);
	for (unsigned op = 0; op < IORING_OP_LAST; op++) {
		if (op == IORING_OP_WRITEV || op == IORING_OP_READV ||
			op == IORING_OP_FSYNC || op == IORING_OP_POLL_ADD ||
			op == IORING_OP_ASYNC_CANCEL ||
			op == IORING_OP_SENDMSG || op == IORING_OP_RECVMSG ||
			op == IORING_OP_FALLOCATE)
			continue;
		ck_assert_int_eq(
			run_sqe((uint8_t)op, 0, IOSQE_FIXED_FILE), -EACCES);
	}
}
END_TEST

START_TEST(only_registered_files_are_allowed)
{
	ck_assert_int_eq(run_sqe(IORING_OP_READV, file_fd, 0), -EACCES);
	ck_assert_int_eq(
		run_sqe(IORING_OP_READV, 0, IOSQE_FIXED_FILE | IOSQE_IO_DRAIN),
		-EACCES);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 2, IOSQE_FIXED_FILE), -EBADF);
}
END_TEST

START_TEST(only_single_files_can_be_registered_any_more)
{
	struct io_uring_restriction any = {.opcode = IORING_RESTRICTION_SQE_OP,
		.sqe_op = IORING_OP_OPENAT};
	struct io_uring_rsrc_update2 update = {.offset = 1, .nr = 1};
	int fd = eventfd(0, EFD_CLOEXEC);

	update.data = (uintptr_t)&fd;
	ck_assert_int_lt(io_uring_register_eventfd(&ring, fd), 0);
	ck_assert_int_lt(
		io_uring_register_buffers(&ring, &(struct iovec){byte, 1}, 1),
		0);
	ck_assert_int_lt(io_uring_unregister_files(&ring), 0);
	ck_assert_int_lt(
		syscall(SYS_io_uring_register, ring.ring_fd,
			IORING_REGISTER_FILES_UPDATE2, &update, sizeof(update)),
		0);
	ck_assert_int_lt(syscall(SYS_io_uring_register, ring.ring_fd,
				 IORING_REGISTER_RESTRICTIONS, &any, 1),
		0);
	close(fd);
}
END_TEST

START_TEST(a_place_takes_one_file_after_another)
{
	int fd = memfd_create("other", MFD_CLOEXEC);

	ck_assert_int_eq(write(fd, "xy", 2), 2);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 1, IOSQE_FIXED_FILE), -EBADF);
	ck_assert_int_eq(uring_set_file(&ring, 1, fd), 0);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 1, IOSQE_FIXED_FILE), 1);
	ck_assert_int_eq(byte[0], 'x');
	ck_assert_int_eq(uring_set_file(&ring, 1, file_fd), 0);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 1, IOSQE_FIXED_FILE), 0);
	ck_assert_int_eq(uring_set_file(&ring, 1, -1), 0);
	ck_assert_int_eq(run_sqe(IORING_OP_READV, 1, IOSQE_FIXED_FILE), -EBADF);
	ck_assert_int_eq(uring_set_file(&ring, 2, fd), -EINVAL);
	ck_assert_int_eq(uring_set_file(&ring, 1, 1000), -EBADF);
	close(fd);
}
END_TEST

START_TEST(a_ring_that_cannot_be_made_is_an_error)
{
	struct io_uring none;

	ck_assert_int_eq(
		uring_create(&none, 1u << 30, 1u << 30, &err), -EINVAL);
	ck_assert_int_eq(err.code, EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("uring");
	TCase *t = tcase_create("restrictions");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, make_ring, end_ring);
	tcase_add_test(t, only_a_few_opcodes_are_allowed);
	tcase_add_test(t, only_registered_files_are_allowed);
	tcase_add_test(t, only_single_files_can_be_registered_any_more);
	tcase_add_test(t, a_place_takes_one_file_after_another);
	tcase_add_test(t, a_ring_that_cannot_be_made_is_an_error);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
