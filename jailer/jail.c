#include "jailer/jail.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "jailer/cgroup.h"
#include "jailer/empty_ns.h"
#include "jailer/ids.h"
#include "jailer/seccomp_programs.h"
#include "jailer/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Common to all daemons of a host; see ids.h. */
#define IDS_LOCK_PATH "/run/mayfly-ids.lock"

/* Ids that somebody else turns out to have, one after the other. */
#define BUSY_TRIES 64
#define STACK_BYTES (64u << 10)
#define GUARD_BYTES 4096u

/* Beside its own threads: io_uring's kernel workers and KVM's, which count as
 * the process's own. */
#define KERNEL_TASKS 64u

/* A network device's queues and vsock's connections among them; the table of
 * files that a ring registers may not be longer either. */
#define MAX_FDS 8192u

struct jail {
	struct empty_ns ns;
	struct cgroup_tree cgroups;
	struct ids *ids;
	int seccomp_fd;
	int exe_fd;
	/* A reserved number: during a spawn it is the child's end of the
	 * control socket, else a copy of exe_fd. Both are made at start, so
	 * they are low and nothing above them needs to be copied. */
	int slot_fd;
	bool reset_oom_score;
	void *stack; /* with a guard page at its low end */
};

static int open_exe(struct jail *j, const char *path, struct error *err)
{
	struct stat st;

	j->exe_fd = open(path, O_PATH | O_CLOEXEC);
	if (j->exe_fd < 0 || fstat(j->exe_fd, &st) < 0)
		return error_errno(err, errno, "opening %s", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH))
		return error_set(err, EACCES,
			"%s must be a file that everybody may execute: it runs "
			"under user ids of its own",
			path);
	j->slot_fd = fcntl(j->exe_fd, F_DUPFD_CLOEXEC, 0);
	if (j->slot_fd < 0)
		return error_errno(err, errno, "duplicating a descriptor");
	return 0;
}

static int make_stack(struct jail *j, struct error *err)
{
	void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (p == MAP_FAILED)
		return error_errno(err, errno, "mapping a stack");
	j->stack = p;
	if (mprotect(p, GUARD_BYTES, PROT_NONE) < 0)
		return error_errno(err, errno, "guarding a stack");
	return 0;
}

/*
 * What the daemon executes must have no capabilities. Its own stay, the
 * bounding set only limits exec; and each VM, which inherits an empty one, is
 * spared some forty system calls.
 */
static int empty_bounding_set(struct error *err)
{
	for (unsigned long cap = 0;; cap++) {
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) < 0)
			return 0; /* beyond the last */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return error_errno(err, errno,
				"emptying the capability bounding set");
	}
}

static bool oom_score_is_lowered(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/oom_score_adj", "re");
	char score[16];

	return f && fgets(score, sizeof(score), f) && score[0] == '-';
}

static int open_cgroups(struct jail *j, const char *name, struct error *err)
{
	struct error why;

	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
		return error_set(
			err, EINVAL, "\"%s\" is not a name for a cgroup", name);
	cgroup_tree_open(&j->cgroups, "/proc/self/mountinfo", name, &why);
	if (j->cgroups.version == JAIL_CGROUP_NONE) {
		char quoted[ERROR_MSG_MAX];

		log_warn("cgroups_unusable", "effect=%s reason=%s",
			"vms_unlimited",
			log_quote(quoted, sizeof(quoted), why.msg));
	} else if (!j->cgroups.memory || !j->cgroups.pids) {
		log_warn("cgroup_controller_missing", "memory=%d pids=%d",
			j->cgroups.memory, j->cgroups.pids);
	}
	return 0;
}

static int set_up(
	struct jail *j, const struct jail_config *config, struct error *err)
{
	int r;

	if (geteuid() != 0)
		return error_set(err, EPERM,
			"jails are made by root: run mayflyd as root");
	r = open_exe(j, config->exe_path, err);
	if (r < 0)
		return r;
	r = ids_create(&j->ids, IDS_LOCK_PATH, config->uid_first,
		config->uid_count, err);
	if (r < 0)
		return r;
	r = make_stack(j, err);
	if (r < 0)
		return r;
	j->seccomp_fd = seccomp_image_make(err);
	if (j->seccomp_fd < 0)
		return error_wrap(err, "compiling the seccomp programs");
	r = empty_ns_make(&j->ns, err);
	if (r < 0)
		return error_wrap(err, "making the empty root and network");
	r = empty_bounding_set(err);
	if (r < 0)
		return r;
	j->reset_oom_score = oom_score_is_lowered();
	return open_cgroups(j, config->cgroup_name, err);
}

int jail_create(
	struct jail **ret, const struct jail_config *config, struct error *err)
{
	struct jail *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return error_errno(err, ENOMEM, "allocating the jail");
	j->ns = (struct empty_ns){-1, -1};
	j->cgroups.fast_fd = -1;
	j->seccomp_fd = j->exe_fd = j->slot_fd = -1;
	r = set_up(j, config, err);
	if (r < 0) {
		jail_destroy(j);
		return r;
	}
	*ret = j;
	return 0;
}

void jail_destroy(struct jail *j)
{
	if (!j)
		return;
	cgroup_tree_close(&j->cgroups);
	ids_destroy(j->ids);
	close_fd(&j->ns.mnt_fd);
	close_fd(&j->ns.net_fd);
	close_fd(&j->seccomp_fd);
	close_fd(&j->exe_fd);
	close_fd(&j->slot_fd);
	if (j->stack)
		munmap(j->stack, STACK_BYTES);
	free(j);
}

enum jail_cgroup jail_cgroup_version(const struct jail *j)
{
	return j->cgroups.version;
}

int jail_seccomp_fd(const struct jail *j)
{
	return j->seccomp_fd;
}

/* Gives back what a process had, whether it has been all taken or not. */
static void give_back(struct jail *j, struct jail_process *p)
{
	close_fd(&p->sock);
	close_fd(&p->pidfd);
	if (p->name[0] != '\0') {
		int r = cgroup_remove(&j->cgroups, p->name);

		if (r < 0)
			log_warn("cgroup_left_behind", "cgroup=%s error=%d",
				p->name, -r);
		p->name[0] = '\0';
	}
	if (p->uid != 0)
		ids_give(j->ids, p->uid);
	p->uid = 0;
	p->pid = 0;
}

/* The child's end goes to the reserved slot. */
static int make_sockets(
	struct jail *j, struct jail_process *p, struct error *err)
{
	_cleanup_close_ int theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "making a control socket");
	p->sock = pair[0];
	theirs = pair[1];
	if (fcntl(p->sock, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, errno, "setting up a control socket");
	if (dup3(theirs, j->slot_fd, O_CLOEXEC) < 0)
		return error_errno(err, errno, "placing a control socket");
	return 0;
}

/*
 * Beside the guest's memory: page tables, for us and in KVM (3% where KVM
 * shadows them), what KVM keeps per page, the console ring, stacks, and some
 * page cache so that disk I/O is not squeezed.
 */
static uint64_t memory_limit(uint64_t guest_bytes)
{
	return guest_bytes + guest_bytes / 32 + (64u << 20);
}

static int start(struct jail *j, const struct cgroup_limits *limits,
	struct jail_process *p, struct error *err)
{
	struct spawn s = {.exe_fd = j->exe_fd,
		.sock = j->slot_fd,
		.keep_fd = j->slot_fd > j->exe_fd ? j->slot_fd : j->exe_fd,
		.ns = j->ns,
		.uid = p->uid,
		.n_tasks = limits->tasks,
		.n_fds = MAX_FDS,
		.reset_oom_score = j->reset_oom_score,
		.stack = j->stack,
		.stack_bytes = STACK_BYTES};
	int r = make_sockets(j, p, err);

	if (r < 0)
		return r;
	r = cgroup_make(&j->cgroups, p->name, limits, &s.cgroup, err);
	if (r < 0) {
		p->name[0] = '\0'; /* not ours to remove */
	} else {
		r = spawn_process(&s, &p->pid, &p->pidfd, err);
		cgroup_entry_close(&s.cgroup);
	}
	dup3(j->exe_fd, j->slot_fd, O_CLOEXEC); /* the child's end is its own */
	return r;
}

/* -EBUSY: there are processes in the group of that id. */
static int spawn_once(struct jail *j, const char *name,
	const struct cgroup_limits *limits, struct jail_process *ret,
	struct error *err)
{
	struct jail_process p = {.pidfd = -1, .sock = -1};
	int n, r;

	r = ids_take(j->ids, &p.uid, err);
	if (r < 0)
		return r;
	n = snprintf(p.name, sizeof(p.name), "%s-%u", name, p.uid);
	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') ||
		(size_t)n >= sizeof(p.name)) {
		p.name[0] = '\0';
		r = error_set(err, EINVAL, "not a name for a VM's cgroup");
	} else {
		r = start(j, limits, &p, err);
	}
	if (r == -EBUSY) {
		log_warn("uid_in_use", "uid=%u error=\"%s\"", p.uid, err->msg);
		p.uid = 0; /* nobody else gets it either */
	}
	if (r < 0) {
		give_back(j, &p);
		return error_wrap(err, "starting a VM process");
	}
	*ret = p;
	return 0;
}

int jail_spawn(struct jail *j, const char *name, uint64_t mem_bytes,
	unsigned n_threads, struct jail_process *ret, struct error *err)
{
	struct cgroup_limits limits = {.memory_bytes = memory_limit(mem_bytes),
		.tasks = n_threads + KERNEL_TASKS};
	int r = -EBUSY;

	/* Those of a daemon whose state directory was lost run on. */
	for (unsigned i = 0; r == -EBUSY && i < BUSY_TRIES; i++)
		r = spawn_once(j, name, &limits, ret, err);
	return r;
}

bool jail_oom_killed(const struct jail *j, const struct jail_process *p)
{
	return p->name[0] && cgroup_oom_kills(&j->cgroups, p->name) > 0;
}

int jail_limit(struct jail *j, const struct jail_process *p, uint64_t mem_bytes,
	struct error *err)
{
	return cgroup_limit_memory(
		&j->cgroups, p->name, memory_limit(mem_bytes), err);
}

/* "NAME-UID", as jail_spawn() makes it. */
static bool is_cgroup_name(const char *name, uid_t uid)
{
	const char *dash = strrchr(name, '-');
	char suffix[16];

	snprintf(suffix, sizeof(suffix), "-%u", uid);
	return dash && dash > name && name[0] != '.' && !strchr(name, '/') &&
	       strcmp(dash, suffix) == 0;
}

/* Nothing is done for one that has ended, reaped or not: what it had may be
 * another's. */
static int hold(struct jail_process *p)
{
	p->pidfd = pidfd_open(p->pid, 0);
	if (p->pidfd < 0)
		return -errno;
	return fd_is_readable(p->pidfd) ? -ESRCH : 0;
}

int jail_adopt(struct jail *j, struct jail_process *p, struct error *err)
{
	int r;

	p->adopted = true;
	p->pidfd = -1;
	r = p->pid ? hold(p) : 0;
	if (r < 0) {
		close_fd(&p->pidfd);
		p->uid = 0;
		p->name[0] = '\0';
		return error_errno(err, -r, "pidfd_open");
	}
	if (!is_cgroup_name(p->name, p->uid)) {
		log_warn("cgroup_not_ours", "pid=%d uid=%u", p->pid, p->uid);
		p->name[0] = '\0'; /* nor to remove */
	}
	if (!ids_adopt(j->ids, p->uid)) {
		log_warn("uid_not_ours", "uid=%u", p->uid);
		/* Not ours to give back, nor to remove what bears its number.
		 */
		p->uid = 0;
		p->name[0] = '\0';
	}
	return 0;
}

/* Of a process that is not our child: its end is all there is to hear. */
static void await_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd < 0)
		return;
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

int jail_reap(struct jail *j, struct jail_process *p)
{
	int status = -1;

	if (p->adopted || !p->pid) {
		await_end(p->pidfd);
		give_back(j, p);
		return status;
	}
	kill(p->pid, SIGKILL); /* nothing to a process that is dead already */
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	give_back(j, p);
	return status;
}
