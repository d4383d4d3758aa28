#include "jailer/seccomp_programs.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/seccomp_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MAX_ARGS 2

/* One way a system call may be made: what its arguments must be. */
struct rule {
	int nr;
	unsigned n_args;
	struct scmp_arg_cmp args[MAX_ARGS];
};

#define ANY(name)                                                              \
	{                                                                      \
		.nr = SCMP_SYS(name)                                           \
	}
#define ONE(name, arg)                                                         \
	{                                                                      \
		.nr = SCMP_SYS(name), .n_args = 1, .args = { arg }             \
	}
#define TWO(name, arg1, arg2)                                                  \
	{                                                                      \
		.nr = SCMP_SYS(name), .n_args = 2, .args = { arg1, arg2 }      \
	}

/* The kernel looks at the low 32 bits of these only; so must we. */
#define IS32(n, value)                                                         \
	SCMP_CMP64(n, SCMP_CMP_MASKED_EQ, 0xffffffffu, (uint32_t)(value))
#define WITHOUT(n, bits) SCMP_CMP64(n, SCMP_CMP_MASKED_EQ, (bits), 0)
#define WITH(n, bits) SCMP_CMP64(n, SCMP_CMP_MASKED_EQ, (bits), (bits))

#define IOCTL(request) ONE(ioctl, IS32(1, request))

/*
 * All threads. None of them opens, connects, makes a process, a thread or an
 * io_uring, or maps anything to execute: what needs that is done by threads
 * that have no program yet, or end before a guest runs.
 */
static const struct rule every_thread[] = {
	ANY(futex), /* mutexes, condition variables, joining */
	/* Eventfds: interrupts, kicks, the daemon's wake-up. */
	ANY(write),
	/* The vDSO's fallback where the clock source needs the kernel. */
	ANY(clock_gettime),
	ANY(rt_sigprocmask),  /* libc's: at the end of a thread, in raise() */
	ANY(rt_sigreturn),    /* from the handler that ends an idle KVM_RUN */
	ANY(restart_syscall), /* after SIGSTOP and SIGCONT from outside */
	ANY(exit),            /* the end of a thread */
	ANY(exit_group),
	/* A failed assertion ends as a crash, not as a violation of this: it
	 * prints, and raises SIGABRT with its default action. */
	ONE(writev, IS32(0, 2)),
	ONE(tkill, IS32(1, SIGABRT)),
	ONE(rt_sigaction, IS32(0, SIGABRT)),
};

/* Loads the kernel, then waits for messages. */
static const struct rule control[] = {
	ANY(pread64), /* kernel and initrd */
	ANY(lseek),   /* their sizes */
	ANY(poll),    /* messages, events of other threads */
	ANY(read),    /* the eventfd that tells of those */
	ANY(recvmsg),
	ANY(sendmsg),
	ANY(close), /* descriptors that came with a message it refuses */
	/* Another daemon, and its eventfd in place of the one before. */
	ONE(accept4, IS32(3, SOCK_CLOEXEC)),
	ONE(dup3, IS32(2, O_CLOEXEC)),
	/* malloc(), and what a joined thread leaves. Of its descriptors it maps
	 * none any more; nor huge pages, which are in no limit of its own. */
	TWO(mmap, WITHOUT(2, PROT_EXEC),
		SCMP_CMP64(3, SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_HUGETLB,
			MAP_ANONYMOUS)),
	ONE(mprotect, WITHOUT(2, PROT_EXEC)),
	ANY(munmap),
	ANY(mremap),
	ANY(brk),
	/* ... and the console's ring. Not MADV_REMOVE: it would take away what
	 * is shared with the daemon. */
	ONE(madvise, IS32(2, MADV_DONTNEED)),
	ONE(madvise, IS32(2, MADV_FREE)),
	ONE(madvise, IS32(2, MADV_POPULATE_WRITE)),
	/* Gets a vCPU thread out of KVM_RUN. In its pid namespace there are
	 * only threads of its own. */
	ONE(tkill, IS32(1, SIGUSR1)),
	/* Where the first vCPU begins is known once the kernel is loaded. */
	IOCTL(KVM_GET_SREGS),
	IOCTL(KVM_SET_SREGS),
	IOCTL(KVM_SET_REGS),
};

static const struct rule vcpu[] = {
	IOCTL(KVM_RUN),
	IOCTL(KVM_GET_REGS),      /* where the guest was when KVM gave up */
	IOCTL(KVM_KVMCLOCK_CTRL), /* so that a pause is not a soft lockup */
	/* The next page of the console's ring. */
	ONE(madvise, IS32(2, MADV_POPULATE_WRITE)),
};

static const struct rule worker[] = {
	/* On a ring that restricts itself; see virtio/worker.h. */
	ONE(io_uring_enter,
		WITHOUT(3, ~(uint64_t)(IORING_ENTER_GETEVENTS |
				       IORING_ENTER_EXT_ARG |
				       IORING_ENTER_REGISTERED_RING))),
	/* The guest's entropy. */
	ONE(getrandom, IS32(2, GRND_NONBLOCK)),
	/* Vsock: clients of its listening socket, the ends of connections. */
	ONE(accept4, IS32(3, SOCK_CLOEXEC)),
	ONE(shutdown, IS32(1, SHUT_RD)),
	ONE(shutdown, IS32(1, SHUT_WR)),
	ONE(shutdown, IS32(1, SHUT_RDWR)),
	ANY(close),
	/* The balloon's pages go back to the host, what is unplugged of the
	 * guest's memory, and vsock's buffers. */
	ONE(madvise, IS32(2, MADV_DONTNEED)),
	ONE(madvise, IS32(2, MADV_POPULATE_WRITE)), /* the console's ring */
	/* What a tap does for received packets follows what the driver asked
	 * for. Of all descriptors here, taps alone know this request. */
	TWO(ioctl, IS32(1, TUNSETOFFLOAD),
		WITHOUT(2, ~(uint64_t)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 |
				       TUN_F_TSO_ECN))),
	/* What is plugged becomes the guest's, and no longer when it is
	 * unplugged. */
	IOCTL(KVM_SET_USER_MEMORY_REGION),
	/* Another file in one of its ring's spare places. */
	TWO(io_uring_register, IS32(1, IORING_REGISTER_FILES_UPDATE),
		IS32(3, 1)),
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *name;
	const struct rule *rules;
	size_t n;
	int frequent; /* decided first */
} roles[SECCOMP_ROLES] = {
	[SECCOMP_CONTROL] = {"control", control, COUNT(control),
		SCMP_SYS(recvmsg)},
	[SECCOMP_VCPU] = {"vCPU", vcpu, COUNT(vcpu), SCMP_SYS(ioctl)},
	[SECCOMP_WORKER] = {"I/O worker", worker, COUNT(worker),
		SCMP_SYS(io_uring_enter)},
};

static int add_rules(scmp_filter_ctx ctx, const struct rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rules[i].nr,
			rules[i].n_args, rules[i].args);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whatever is not allowed, or comes by another architecture's entry, kills the
 * process: all its threads. */
static int build(scmp_filter_ctx ctx, enum seccomp_role role)
{
	int r = seccomp_attr_set(
		ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (r == 0)
		r = seccomp_syscall_priority(ctx, roles[role].frequent, 255);
	if (r == 0)
		r = add_rules(ctx, roles[role].rules, roles[role].n);
	if (r == 0)
		r = add_rules(ctx, every_thread, COUNT(every_thread));
	return r;
}

/* libseccomp writes programs to descriptors only. */
static int read_back(
	scmp_filter_ctx ctx, struct seccomp_image *img, enum seccomp_role role)
{
	_cleanup_close_ int fd = memfd_create("bpf", MFD_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return -errno;
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((size_t)st.st_size > sizeof(img->insns[role]))
		return -E2BIG;
	img->n_insns[role] =
		(uint32_t)((size_t)st.st_size / sizeof(struct sock_filter));
	return fd_pread_full(fd, img->insns[role], (size_t)st.st_size, 0);
}

static int compile(
	struct seccomp_image *img, enum seccomp_role role, struct error *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx)
		return error_set(err, ENOMEM, "libseccomp did not start");
	r = build(ctx, role);
	if (r == 0)
		r = read_back(ctx, img, role);
	seccomp_release(ctx);
	return r < 0 ? error_errno(err, -r, "%s program", roles[role].name) : 0;
}

static int write_sealed(const struct seccomp_image *img, struct error *err)
{
	_cleanup_close_ int fd =
		memfd_create("mayfly-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return error_errno(err, errno, "memfd_create");
	r = fd_pwrite_full(fd, img, sizeof(*img), 0);
	if (r < 0)
		return error_errno(err, -r, "writing the programs");
	if (fcntl(fd, F_ADD_SEALS,
		    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) <
		0)
		return error_errno(err, errno, "sealing the programs");
	return take_fd(&fd);
}

int seccomp_image_make(struct error *err)
{
	struct seccomp_image *img = calloc(1, sizeof(*img));
	int r = 0;

	if (!img)
		return error_errno(err, ENOMEM, "allocating the programs");
	for (unsigned role = 0; r == 0 && role < SECCOMP_ROLES; role++)
		r = compile(img, role, err);
	if (r == 0)
		r = write_sealed(img, err);
	free(img);
	return r;
}
