#include "jailer/seccomp_programs.h"

#include "base/cleanup.h"
#include "base/seccomp_image.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/mman.h> /* MADV_POPULATE_WRITE */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

#define C (1u << SECCOMP_CONTROL)
#define V (1u << SECCOMP_VCPU)
#define W (1u << SECCOMP_WORKER)
#define ALL (C | V | W)

static const struct seccomp_image *img;

static void make(void)
{
	struct error err;
	_cleanup_close_ int fd = seccomp_image_make(&err);

	ck_assert_int_ge(fd, 0);
	img = seccomp_image_map(fd);
	ck_assert_ptr_nonnull(img);
}

static void unmake(void)
{
	munmap((void *)(uintptr_t)img, sizeof(*img));
}

/* One call by a child behind a program: whether it was killed for it. What the
 * call returned, or else became of the child, is not the program's affair. */
static bool kills(unsigned role, long nr, const unsigned long *a)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (seccomp_image_install(img, role) < 0)
			_exit(99);
		syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		syscall(SYS_exit_group, 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

/* Which roles may make a call with all arguments 0. */
static const struct {
	long nr;
	unsigned roles;
} plain[] = {
	{SYS_futex, ALL},
	{SYS_write, ALL},
	{SYS_clock_gettime, ALL},
	{SYS_rt_sigprocmask, ALL},
	{SYS_rt_sigreturn, ALL},
	{SYS_restart_syscall, ALL},
	{SYS_exit, ALL},
	{SYS_exit_group, ALL},
	{SYS_pread64, C},
	{SYS_lseek, C},
	{SYS_poll, C},
	{SYS_read, C},
	{SYS_recvmsg, C},
	{SYS_sendmsg, C},
	{SYS_close, C | W},
	{SYS_shutdown, W},
	{SYS_munmap, C},
	{SYS_mremap, C},
	{SYS_brk, C},
	{SYS_mprotect, C},
	{SYS_io_uring_enter, W},
};

static unsigned roles_of(long nr)
{
	for (size_t i = 0; i < N(plain); i++)
		if (plain[i].nr == nr)
			return plain[i].roles;
	return 0;
}

/* Every number there is, and some to come. */
START_TEST(a_program_allows_what_is_listed_and_no_other_call)
{
	static const unsigned long none[6];

	for (long nr = 0; nr < 480; nr++) {
		bool allowed = roles_of(nr) & (1u << _i);

		/* uretprobe and uprobe: newer kernels never ask a filter about
		 * them, and kill whoever calls them but their own trampolines.
		 */
		if (nr == 335 || nr == 336)
			continue;
		ck_assert_msg(kills((unsigned)_i, nr, none) == !allowed,
			"system call %ld in role %d", nr, _i);
	}
}
END_TEST

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static const struct {
	long nr;
	unsigned long args[6];
	unsigned roles; /* that may */
} cases[] = {
	/* Memory that is never to be executed. */
	{SYS_mmap, {0, 4096, RW, ANON, -1ul}, C},
	{SYS_mmap, {0, 4096, PROT_NONE, ANON, -1ul}, C},
	{SYS_mmap, {0, 2 << 20, RW, ANON | MAP_HUGETLB, -1ul}, 0},
	{SYS_mmap, {0, 4096, RW | PROT_EXEC, ANON, -1ul}, 0},
	{SYS_mmap, {0, 4096, PROT_EXEC, ANON, -1ul}, 0},
	{SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE, 0}, 0},
	{SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED, 0}, 0},
	{SYS_mprotect, {0, 4096, RW}, C},
	{SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, 0},
	{SYS_pkey_mprotect, {0, 4096, RW, 0}, 0},
	/* KVM, as each thread needs it. */
	{SYS_ioctl, {-1ul, KVM_RUN}, V},
	{SYS_ioctl, {-1ul, KVM_GET_REGS}, V},
	{SYS_ioctl, {-1ul, KVM_KVMCLOCK_CTRL}, V},
	{SYS_ioctl, {-1ul, KVM_SET_REGS}, C},
	{SYS_ioctl, {-1ul, KVM_GET_SREGS}, C},
	{SYS_ioctl, {-1ul, KVM_SET_SREGS}, C},
	/* The kernel ignores the upper half of a request. */
	{SYS_ioctl, {-1ul, KVM_RUN | 0xffffffff00000000ul}, V},
	{SYS_ioctl, {-1ul, KVM_CREATE_VM}, 0},
	{SYS_ioctl, {-1ul, KVM_CREATE_VCPU}, 0},
	{SYS_ioctl, {-1ul, KVM_SET_USER_MEMORY_REGION}, W},
	{SYS_ioctl, {-1ul, KVM_IRQFD}, 0},
	{SYS_ioctl, {-1ul, KVM_IOEVENTFD}, 0},
	{SYS_ioctl, {-1ul, KVM_SET_CPUID2}, 0},
	{SYS_ioctl, {-1ul, KVM_SET_MSRS}, 0},
	{SYS_ioctl, {-1ul, KVM_CREATE_DEVICE}, 0},
	{SYS_ioctl, {0, TIOCSTI}, 0},
	{SYS_ioctl, {0, FIONREAD}, 0},
	/* A tap's offloads, and nothing else of it. */
	{SYS_ioctl, {-1ul, TUNSETOFFLOAD, 0}, W},
	{SYS_ioctl, {-1ul, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4}, W},
	{SYS_ioctl, {-1ul, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_UFO}, 0},
	{SYS_ioctl, {-1ul, TUNSETOFFLOAD, 1ul << 32}, 0},
	{SYS_ioctl, {-1ul, TUNSETIFF}, 0},
	{SYS_ioctl, {-1ul, TUNSETPERSIST, 1}, 0},
	{SYS_ioctl, {-1ul, TUNSETQUEUE}, 0},
	{SYS_ioctl, {-1ul, TUNSETVNETHDRSZ}, 0},
	/* Signals to its own threads: the one for vCPUs, and abort()'s. */
	{SYS_tkill, {1 << 30, SIGUSR1}, C},
	{SYS_tkill, {1 << 30, SIGABRT}, ALL},
	{SYS_tkill, {1 << 30, SIGKILL}, 0},
	{SYS_tkill, {1 << 30, SIGTERM}, 0},
	{SYS_tgkill, {1, 1, SIGUSR1}, 0},
	{SYS_kill, {1 << 30, SIGUSR1}, 0},
	{SYS_rt_sigaction, {SIGABRT}, ALL},
	{SYS_rt_sigaction, {SIGSYS}, 0},
	{SYS_rt_sigaction, {SIGUSR1}, 0},
	/* An assertion's message. */
	{SYS_writev, {2}, ALL},
	{SYS_writev, {1}, 0},
	{SYS_writev, {3}, 0},
	/* The ring's loop, and no flag that it does not use. */
	{SYS_io_uring_enter, {-1ul, 1, 1, IORING_ENTER_GETEVENTS}, W},
	{SYS_io_uring_enter,
		{-1ul, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG}, W},
	{SYS_io_uring_enter, {-1ul, 1, 1, IORING_ENTER_REGISTERED_RING}, W},
	{SYS_io_uring_enter, {-1ul, 1, 1, IORING_ENTER_SQ_WAKEUP}, 0},
	{SYS_io_uring_enter, {-1ul, 1, 1, 1u << 31}, 0},
	/* One file of the ring's at a time. */
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_FILES_UPDATE, 0, 1}, W},
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_FILES_UPDATE, 0, 2}, 0},
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_FILES_UPDATE2, 0, 1}, 0},
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_RESTRICTIONS, 0, 1}, 0},
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_BUFFERS, 0, 1}, 0},
	{SYS_io_uring_register, {-1ul, IORING_REGISTER_PERSONALITY, 0, 0}, 0},
	/* Entropy for the guest, and its memory back for the host. */
	{SYS_getrandom, {0, 0, GRND_NONBLOCK}, W},
	{SYS_getrandom, {0, 0, 0}, 0},
	{SYS_getrandom, {0, 0, GRND_NONBLOCK | GRND_RANDOM}, 0},
	{SYS_madvise, {0, 0, MADV_DONTNEED}, C | W},
	{SYS_madvise, {0, 0, MADV_FREE}, C}, /* free() */
	{SYS_madvise, {0, 0, MADV_WILLNEED}, 0},
	{SYS_madvise, {0, 0, MADV_REMOVE}, 0},
	/* The console's ring, page by page. */
	{SYS_madvise, {0, 0, MADV_POPULATE_WRITE}, ALL},
	{SYS_madvise, {0, 0, MADV_POPULATE_READ}, 0},
	/* Another daemon's eventfd in place of the one before. */
	{SYS_dup3, {-1ul, -1ul, O_CLOEXEC}, C},
	{SYS_dup3, {-1ul, -1ul, 0}, 0},
	{SYS_dup2, {-1ul, -1ul}, 0},
	{SYS_dup, {-1ul}, 0},
	/* Vsock's clients and connections; another daemon. */
	{SYS_accept4, {-1ul, 0, 0, SOCK_CLOEXEC}, C | W},
	{SYS_accept4, {-1ul, 0, 0, 0}, 0},
	{SYS_accept4, {-1ul, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK}, 0},
	{SYS_accept, {-1ul}, 0},
	{SYS_shutdown, {-1ul, SHUT_RD}, W},
	{SYS_shutdown, {-1ul, SHUT_WR}, W},
	{SYS_shutdown, {-1ul, SHUT_RDWR}, W},
	{SYS_shutdown, {-1ul, SHUT_RDWR + 1}, 0},
	{SYS_connect, {-1ul}, 0},
	{SYS_socket, {AF_UNIX, SOCK_STREAM}, 0},
	/* x32's entry to an allowed call. */
	{0x40000000 | SYS_write, {0}, 0},
	{0x40000000 | SYS_close, {0}, 0},
};

START_TEST(arguments_decide_where_they_matter)
{
	for (unsigned role = 0; role < SECCOMP_ROLES; role++)
		ck_assert_msg(kills(role, cases[_i].nr, cases[_i].args) ==
				      !(cases[_i].roles & (1u << role)),
			"role %u", role);
}
END_TEST

/* The architecture is looked at before the number. */
START_TEST(the_32_bit_entry_is_closed)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		long nr = 3; /* read there, close here */

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		seccomp_image_install(img, SECCOMP_CONTROL);
		__asm__ volatile("int $0x80" : "+a"(nr) : "b"(-1) : "memory");
		syscall(SYS_exit_group, 0);
	}
	waitpid(pid, &status, 0);
	/* SIGSEGV: a kernel without that entry. */
	ck_assert(WIFSIGNALED(status) &&
		  (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV));
}
END_TEST

START_TEST(the_image_cannot_be_changed)
{
	struct error err;
	_cleanup_close_ int fd = seccomp_image_make(&err);
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), seals);
	ck_assert_int_eq(pwrite(fd, "", 1, 0), -1);
	ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(an_image_that_is_short_or_empty_is_refused)
{
	_cleanup_close_ int fd = memfd_create("t", MFD_CLOEXEC);
	const struct seccomp_image *empty;

	ck_assert_int_eq(ftruncate(fd, sizeof(*img) - 1), 0);
	ck_assert_ptr_null(seccomp_image_map(fd));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(ftruncate(fd, sizeof(*img)), 0);
	empty = seccomp_image_map(fd);
	ck_assert_ptr_nonnull(empty);
	ck_assert_int_eq(
		seccomp_image_install(empty, SECCOMP_CONTROL), -EINVAL);
	munmap((void *)(uintptr_t)empty, sizeof(*empty));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("seccomp");
	TCase *p = tcase_create("programs"), *i = tcase_create("image");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(p, make, unmake);
	tcase_set_timeout(p, 60);
	tcase_add_loop_test(p,
		a_program_allows_what_is_listed_and_no_other_call, 0,
		SECCOMP_ROLES);
	tcase_add_loop_test(p, arguments_decide_where_they_matter, 0, N(cases));
	tcase_add_test(p, the_32_bit_entry_is_closed);
	tcase_add_test(i, the_image_cannot_be_changed);
	tcase_add_test(i, an_image_that_is_short_or_empty_is_refused);
	suite_add_tcase(s, p);
	suite_add_tcase(s, i);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
