#include "daemon/process.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "daemon/admission.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Beside the vCPUs: the control thread, the starter, two I/O workers. */
#define OTHER_THREADS 4
#define CGROUP_NAME "vm"

void process_init(struct process *p)
{
	*p = (struct process){.jail = {.pidfd = -1, .sock = -1}, .wake_fd = -1};
}

static struct vm_shared *map(int fd)
{
	void *p = mmap(NULL, PROCESS_SHARED_BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int process_map(const struct state *s, const char *key, struct vm_shared **ret)
{
	_cleanup_close_ int fd = state_open_shared(s, key);
	struct vm_shared *shared;
	struct stat st;

	*ret = NULL;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)PROCESS_SHARED_BYTES)
		return -EINVAL;
	/* Where nothing is behind it, a touch would be a signal. */
	if (fallocate(fd, 0, 0, offsetof(struct vm_shared, console)) < 0)
		return -errno;
	shared = map(fd);
	if (!shared)
		return -errno;
	if (shared->version != VM_SHARED_VERSION) {
		process_unmap(shared);
		return -EINVAL;
	}
	*ret = shared;
	return 0;
}

uint64_t process_start_time(pid_t pid)
{
	char path[40], text[1024];
	const char *p;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = file_read_text(AT_FDCWD, path, text, sizeof(text));
	if (r < 0) {
		errno = -r;
		return 0;
	}
	errno = ENOENT;
	/* The name, field 2, may have anything in it but this. */
	p = strrchr(text, ')');
	for (unsigned field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

/* What errno says of a look into /proc: 0, there is nobody, or negative. */
static int nobody(int code)
{
	return code == ENOENT || code == ESRCH ? 0 : -code;
}

/* Whoever has the number now: whether it runs under this id. 1, 0 or a negative
 * errno. */
static int runs_as(pid_t pid, uid_t uid)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[40], line[128];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return nobody(errno);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "Uid:", 4) == 0) /* the real one is first */
			return strtoul(line + 4, NULL, 10) == uid;
	return ferror(f) ? nobody(errno) : 0;
}

/* 1, 0 or a negative errno. */
static int is_there(const struct state_proc *p)
{
	uint64_t start = process_start_time(p->pid);

	if (!start)
		return nobody(errno);
	return start == p->start ? runs_as(p->pid, p->uid) : 0;
}

static bool same(const struct state_proc *a, const struct state_proc *b)
{
	return a->pid == b->pid && a->start == b->start && a->uid == b->uid &&
	       strcmp(a->cgroup, b->cgroup) == 0;
}

/* The kernel knows who listens, whatever has become of the file: that is
 * right, or damaged. 1, 0 or a negative errno. */
static int identify(const struct state *s, const char *key,
	const struct ucred *who, struct state_proc *ret)
{
	struct state_proc is = {.pid = who->pid, .uid = who->uid};
	int r = state_read_proc(s, key, ret), there = 0;

	if (admission_is_shortage_of(r))
		return r;
	/* An earlier VMM left listen() to its daemon, which is root. */
	if (who->uid) {
		is.start = process_start_time(who->pid);
		there = is.start ? is_there(&is) : nobody(errno);
	}
	if (there <= 0)
		return there < 0 ? there : r == 0;
	snprintf(is.cgroup, sizeof(is.cgroup), "%s-%u", CGROUP_NAME, is.uid);
	if (r < 0 || !same(&is, ret))
		*ret = is;
	return 1;
}

/* Once we have its pidfd the number is nobody else's. 1, 0: it has ended; or a
 * negative errno. */
static int hold(
	struct jail_process *j, struct jail *jail, const struct state_proc *p)
{
	struct error err;
	int r;

	j->pid = p->pid;
	j->uid = p->uid;
	memcpy(j->name, p->cgroup, sizeof(j->name));
	r = jail_adopt(jail, j, &err);
	r = r < 0 ? nobody(-r) : is_there(p);
	if (r <= 0) {
		close_fd(&j->pidfd);
		j->pid = 0;
		j->name[0] = '\0'; /* whoever has the number has that, too */
	}
	return r;
}

int process_find(struct process *p, const struct process_env *env,
	struct state_proc *ret)
{
	struct jail_process *j = &p->jail;
	struct ucred who = {.pid = 0};
	int r = state_connect(env->state, p->key, &who);

	j->adopted = true;
	j->sock = r < 0 ? -1 : r;
	p->deaf = r == -EAGAIN;
	if (admission_is_shortage_of(r))
		return r;
	r = identify(env->state, p->key, &who, ret);
	if (r <= 0)
		return r;
	r = is_there(ret);
	if (r > 0)
		r = hold(j, env->jail, ret);
	return r < 0 ? r : 1;
}

static int note(struct process *p, const struct process_env *env)
{
	struct state_proc s = {.pid = p->jail.pid,
		.uid = p->jail.uid,
		.protocol = MSG_PROTOCOL};

	s.start = process_start_time(p->jail.pid);
	if (!s.start)
		return -errno;
	memcpy(s.cgroup, p->jail.name, sizeof(s.cgroup));
	return state_write_proc(env->state, p->key, &s);
}

static int prepare(struct process *p, const struct process_env *env,
	const struct msg_prepare *m, int shared_fd, int listen_fd)
{
	const int fds[MSG_PREPARE_FDS] = {
		[MSG_PREPARE_FD_KVM] = env->kvm_fd,
		[MSG_PREPARE_FD_SHARED] = shared_fd,
		[MSG_PREPARE_FD_SECCOMP] = jail_seccomp_fd(env->jail),
		[MSG_PREPARE_FD_WAKE] = p->wake_fd,
		[MSG_PREPARE_FD_CONTROL] = listen_fd,
	};
	union msg out;

	memcpy(&out.prepare, m, sizeof(*m));
	out.hdr = (struct msg_hdr){MSG_PREPARE, 0};
	out.prepare.protocol = MSG_PROTOCOL;
	out.prepare.shared_bytes = PROCESS_SHARED_BYTES;
	out.prepare.has_control = 1;
	return msg_send(p->jail.sock, MSG_DAEMON, &out, fds, MSG_PREPARE_FDS);
}

static int make(struct process *p, const struct process_env *env,
	const struct msg_prepare *m, struct error *err)
{
	_cleanup_close_ int shared_fd = -1, listen_fd = -1;
	int r;

	if (state_make_proc(env->state, PROCESS_SHARED_BYTES,
		    offsetof(struct vm_shared, console), p->key, &shared_fd,
		    &listen_fd, err) < 0)
		return -err->code;
	p->shared = map(shared_fd);
	if (!p->shared)
		return error_errno(
			err, errno, "mapping the memory shared with the VM");
	p->shared->version = VM_SHARED_VERSION;
	p->shared->console_bytes = VM_CONSOLE_BYTES;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return error_errno(err, errno, "eventfd");
	if (jail_spawn(env->jail, CGROUP_NAME, m->mem_bytes,
		    m->vcpu_count + OTHER_THREADS, &p->jail, err) < 0)
		return -err->code;
	r = note(p, env);
	if (r == 0)
		r = prepare(p, env, m, shared_fd, listen_fd);
	return r < 0 ? error_errno(err, -r, "preparing a VM") : 0;
}

int process_make(struct process *ret, const struct process_env *env,
	const struct msg_prepare *m, struct error *err)
{
	struct process p;

	process_init(&p);
	if (make(&p, env, m, err) < 0) {
		process_destroy(&p, env);
		return -err->code;
	}
	*ret = p;
	return 0;
}

int process_destroy(struct process *p, const struct process_env *env)
{
	int status = jail_reap(env->jail, &p->jail);

	process_unmap(p->shared);
	close_fd(&p->wake_fd);
	state_remove_proc(env->state, p->key);
	process_init(p);
	return status;
}
