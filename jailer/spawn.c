#include "jailer/spawn.h"

#include "base/cleanup.h"
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where a child failed; it reports by leaving these in the parent's memory. */
struct child {
	const struct spawn *s;
	char title[JAIL_TITLE_BYTES + 1]; /* its second argument */
	const char *volatile step;
	volatile int error;
};

/*
 * The code from here to spawn_process() runs in the child. It shares the
 * parent's memory, so it allocates nothing, takes no lock, and makes the system
 * calls that set ids directly: the C library's would try to change the
 * parent's threads too. ASan must not mark a stack that is left by exec.
 */
#define IN_CHILD __attribute__((no_sanitize("address"), noinline))

IN_CHILD __attribute__((noreturn)) static void fail(
	struct child *c, const char *step)
{
	c->error = errno;
	c->step = step;
	_exit(EXIT_FAILURE);
}

IN_CHILD static void join_cgroup(struct child *c)
{
	for (unsigned i = 0; i < c->s->cgroup.n_procs; i++)
		if (write(c->s->cgroup.procs_fd[i], "0", 1) != 1)
			fail(c, "joining its cgroup");
}

/* The descriptor is closed again: the table is still the parent's. */
IN_CHILD static void reset_oom_score(struct child *c)
{
	int fd;
	bool ok;

	if (!c->s->reset_oom_score)
		return;
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, "0", 1) == 1;
	if (!ok)
		c->error = errno;
	if (fd >= 0)
		close(fd);
	errno = c->error;
	if (!ok)
		fail(c, "resetting its oom_score_adj");
}

IN_CHILD static void enter_namespaces(struct child *c)
{
	if (setns(c->s->ns.net_fd, CLONE_NEWNET) < 0)
		fail(c, "entering the empty network namespace");
	/* This makes the empty root the root and working directory too. */
	if (setns(c->s->ns.mnt_fd, CLONE_NEWNS) < 0)
		fail(c, "entering the empty mount namespace");
	if (unshare(CLONE_NEWNS) < 0)
		fail(c, "making a mount namespace");
	if (sethostname("mayfly", 6) < 0)
		fail(c, "setting the host name");
}

/*
 * The descriptor table is the parent's until it is unshared here without what
 * lies above keep_fd, which at thousands of VMs is nearly all of it. What is
 * left: sock as JAIL_CONTROL_FD, and the executable until it is executed.
 */
IN_CHILD static int keep_two_fds(struct child *c)
{
	int exe, sock;

	if (close_range((unsigned)c->s->keep_fd + 1, ~0u, CLOSE_RANGE_UNSHARE) <
		0)
		fail(c, "unsharing the descriptors");
	exe = fcntl(c->s->exe_fd, F_DUPFD_CLOEXEC, JAIL_CONTROL_FD + 2);
	sock = fcntl(c->s->sock, F_DUPFD_CLOEXEC, JAIL_CONTROL_FD + 2);
	if (exe < 0 || sock < 0 || dup2(sock, JAIL_CONTROL_FD) < 0 ||
		dup3(exe, JAIL_CONTROL_FD + 1, O_CLOEXEC) < 0)
		fail(c, "moving the descriptors");
	if (close_range(JAIL_CONTROL_FD + 2, ~0u, 0) < 0 ||
		close_range(0, JAIL_CONTROL_FD - 1, 0) < 0)
		fail(c, "closing the descriptors");
	return JAIL_CONTROL_FD + 1;
}

IN_CHILD static void set_limits(struct child *c)
{
	const struct {
		__rlimit_resource_t what;
		rlim_t value;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NPROC, c->s->n_tasks},
		{RLIMIT_NOFILE, c->s->n_fds},
		{RLIMIT_MEMLOCK, 8 << 20}, /* io_uring's rings, before 5.12 */
		{RLIMIT_STACK, 8 << 20},
		{RLIMIT_MSGQUEUE, 0},
		{RLIMIT_NICE, 0},
		{RLIMIT_RTPRIO, 0},
		/* It writes disks of any size, and guest memory is large. */
		{RLIMIT_FSIZE, RLIM_INFINITY},
		{RLIMIT_AS, RLIM_INFINITY},
		{RLIMIT_DATA, RLIM_INFINITY},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit l = {limits[i].value, limits[i].value};

		if (setrlimit(limits[i].what, &l) == 0)
			continue;
		/* A daemon without CAP_SYS_RESOURCE: no higher than its own. */
		if (errno != EPERM || getrlimit(limits[i].what, &l) < 0)
			fail(c, "setting its resource limits");
		l.rlim_cur = l.rlim_max;
		if (setrlimit(limits[i].what, &l) < 0)
			fail(c, "setting its resource limits");
	}
}

/* The bounding set is empty already: the daemon gave up its own. */
IN_CHILD static void drop_privileges(struct child *c)
{
	struct __user_cap_header_struct hdr = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	uid_t id = c->s->uid;

	if (prctl(PR_SET_SECUREBITS,
		    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
			    SECBIT_NO_SETUID_FIXUP |
			    SECBIT_NO_SETUID_FIXUP_LOCKED |
			    SECBIT_KEEP_CAPS_LOCKED |
			    SECBIT_NO_CAP_AMBIENT_RAISE |
			    SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) < 0)
		fail(c, "locking its securebits");
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
		syscall(SYS_setresgid, id, id, id) < 0 ||
		syscall(SYS_setresuid, id, id, id) < 0)
		fail(c, "taking its user id");
	/* What is not permitted does not stay in the ambient set either. */
	if (syscall(SYS_capset, &hdr, none) < 0)
		fail(c, "dropping its capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(c, "setting no_new_privs");
}

/* exec resets handlers, but keeps what is ignored or blocked. */
IN_CHILD static void reset_signals(struct child *c)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	/* Refused for SIGKILL, SIGSTOP and the two libc keeps to itself. */
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		(void)sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		fail(c, "resetting its signals");
}

IN_CHILD __attribute__((noreturn)) static void child_main(struct child *c)
{
	char *argv[] = {(char[]){"mayfly-vmm"}, c->title, NULL};
	char *envp[] = {NULL};
	int exe;

	join_cgroup(c);
	reset_oom_score(c);
	enter_namespaces(c);
	exe = keep_two_fds(c);
	set_limits(c);
	umask(077);
	if (setsid() < 0)
		fail(c, "leaving the daemon's session");
	if (personality(PER_LINUX) < 0)
		fail(c, "resetting its personality");
	drop_privileges(c);
	reset_signals(c);
	execveat(exe, "", argv, envp, AT_EMPTY_PATH);
	fail(c, "executing mayfly-vmm");
}

/* clone3() with a stack of its own for the child, which starts in child_main()
 * and cannot return from there. */
static long clone_child(struct clone_args *args, struct child *c)
{
	register long result __asm__("rax") = SYS_clone3;
	register void *arg1 __asm__("rdi") = args;
	register size_t arg2 __asm__("rsi") = sizeof(*args);
	register struct child *to_child __asm__("r8") = c;
	register void (*entry)(struct child *) __asm__("r9") = child_main;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r8, %%rdi\n\t"
			 "call *%%r9\n\t"
			 "ud2\n"
			 "1:"
			 : "+r"(result)
			 : "r"(arg1), "r"(arg2), "r"(to_child), "r"(entry)
			 : "rcx", "r11", "memory", "cc");
	return result;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

int spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd,
	struct error *err)
{
	struct child c = {.s = s};
	int pidfd = -1, dumpable = prctl(PR_GET_DUMPABLE);
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD |
			 CLONE_CLEAR_SIGHAND | CLONE_NEWPID | CLONE_NEWIPC |
			 CLONE_NEWUTS,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)s->stack,
		.stack_size = s->stack_bytes,
	};
	sigset_t all, before;
	long pid;

	memset(c.title, ' ', JAIL_TITLE_BYTES);
	if (s->cgroup.into_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)s->cgroup.into_fd;
	}
	/* A signal that hit the child would run our handler in our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone_child(&args, &c);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return error_errno(err, (int)-pid, "cloning a jailed process");
	/* The child's change of ids took this from the memory we share. */
	if (dumpable == 1)
		prctl(PR_SET_DUMPABLE, 1);
	if (c.step) {
		reap((pid_t)pid);
		close_fd(&pidfd);
		return error_errno(
			err, c.error, "jailing a process: %s", c.step);
	}
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}
