#include "daemon/state.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/limits.h"
#include "vmm/msg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define LINK_PREFIX "../../procs/"
#define FILE_BYTES_MAX (1u << 20)

/* What names here are made of. */
#define KEY_CHARS "0123456789abcdef"
#define ID_CHARS                                                               \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

/* A daemon that was just killed may have a child on its way to exec, which has
 * the lock for a moment. */
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000

static int lock(struct state *s, int dir, const char *path, struct error *err)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};

	s->lock_fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return error_errno(err, errno, "--state-dir %s", path);
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		nanosleep(&pause, NULL);
	}
	return error_set(err, EADDRINUSE,
		"another daemon uses the state directory %s", path);
}

static int make_dir(int dir, const char *name)
{
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return -1;
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int state_open(struct state *ret, const char *path, struct error *err)
{
	_cleanup_close_ int dir = -1;
	bool made;

	*ret = (struct state){-1, -1, -1};
	/* Who may use a socket in it has to get there; what else is in it is
	 * private by its own mode. */
	made = mkdir(path, 0700) == 0;
	if ((!made && errno != EEXIST) || (made && chmod(path, 0711) < 0))
		return error_errno(err, errno, "--state-dir %s", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, errno, "--state-dir %s", path);
	if (lock(ret, dir, path, err) < 0)
		return -err->code;
	ret->vms_fd = make_dir(dir, "vms");
	ret->procs_fd = make_dir(dir, "procs");
	if (ret->vms_fd < 0 || ret->procs_fd < 0)
		return error_errno(err, errno, "--state-dir %s", path);
	return 0;
}

void state_close(struct state *s)
{
	close_fd(&s->vms_fd);
	close_fd(&s->procs_fd);
	close_fd(&s->lock_fd);
}

/* ---- files ---- */

/* "DIR/NAME"; both are bounded. */
static const char *in(char *buf, size_t size, const char *dir, const char *name)
{
	snprintf(buf, size, "%s/%s", dir, name);
	return buf;
}

#define IN(dir, name) in((char[NAME_MAX + 32]){0}, NAME_MAX + 32, dir, name)

static int write_file(
	int dir, const char *path, const char *text, size_t len, int flags)
{
	_cleanup_close_ int fd =
		openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	return fd < 0 ? -errno : fd_pwrite_full(fd, text, len, 0);
}

/* Of what stands in the place of a file nothing is waited for or followed. */
static int open_file(int dir, const char *path, int flags)
{
	_cleanup_close_ int fd = openat(dir, path,
		flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? take_fd(&fd) : -EINVAL;
}

static int read_file(int dir, const char *path, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = open_file(dir, path, O_RDONLY);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > FILE_BYTES_MAX)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = fd_pread_full(fd, text, (size_t)st.st_size, 0);
	if (r < 0)
		return r;
	text[st.st_size] = '\0';
	*ret_len = (size_t)st.st_size;
	*ret = take_ptr(&text);
	return 0;
}

static bool is_name(const char *name, const char *chars, size_t max)
{
	size_t n = strspn(name, chars);

	return n > 0 && n <= max && name[n] == '\0';
}

/* 1, 0 or a negative errno. */
static int is_dir(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISDIR(st.st_mode);
	return errno == ENOENT ? 0 : -errno;
}

static void not_ours(const char *name)
{
	char quoted[NAME_MAX + 8];

	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		log_warn("state_not_ours", "entry=%s",
			log_quote(quoted, sizeof(quoted), name));
}

/* What none of us has made is left alone. */
static int each_entry(DIR *d, const char *chars, size_t max,
	void (*each)(void *arg, const char *name), void *arg)
{
	const struct dirent *e;
	int r;

	for (;;) {
		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
		r = is_name(e->d_name, chars, max) ? is_dir(dirfd(d), e->d_name)
						   : 0;
		if (r < 0)
			return r;
		if (r > 0)
			each(arg, e->d_name);
		else
			not_ours(e->d_name);
	}
}

static int each_dir(int dir, const char *chars, size_t max,
	void (*each)(void *arg, const char *name), void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		r = -errno;
		cleanup_close(&fd);
		return r;
	}
	r = each_entry(d, chars, max, each, arg);
	closedir(d);
	return r;
}

/* ---- processes ---- */

static int make_shared(struct state *s, const char *key, size_t bytes,
	size_t backed, struct error *err)
{
	_cleanup_close_ int fd = openat(s->procs_fd, IN(key, "shared"),
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	/* What is not backed is touched only after asking for it. */
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
		fallocate(fd, 0, 0, (off_t)backed) < 0)
		return error_errno(err, errno, "memory in the state directory");
	return take_fd(&fd);
}

/* A path for bind() and connect(), however long the state directory's is. */
static struct sockaddr_un control_address(
	const struct state *s, const char *key)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path),
		"/proc/self/fd/%d/%.*s/control", s->procs_fd, STATE_KEY_BYTES,
		key);
	return a;
}

static int make_control(struct state *s, const char *key, struct error *err)
{
	struct sockaddr_un a = control_address(s, key);
	_cleanup_close_ int fd = socket(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		listen(fd, MSG_CONTROL_BACKLOG) < 0)
		return error_errno(
			err, errno, "a socket in the state directory");
	return take_fd(&fd);
}

int state_make_proc(struct state *s, size_t shared_bytes, size_t backed,
	char key[STATE_KEY_BYTES], int *ret_shared, int *ret_listen,
	struct error *err)
{
	_cleanup_close_ int shared = -1, listen_fd = -1;

	snprintf(key, STATE_KEY_BYTES, "%" PRIx64, clock_ns());
	if (mkdirat(s->procs_fd, key, 0700) < 0) {
		key[0] = '\0';
		return error_errno(err, errno, "the state directory");
	}
	shared = make_shared(s, key, shared_bytes, backed, err);
	if (shared >= 0)
		listen_fd = make_control(s, key, err);
	if (listen_fd < 0) {
		state_remove_proc(s, key);
		key[0] = '\0';
		return -err->code;
	}
	*ret_shared = take_fd(&shared);
	*ret_listen = take_fd(&listen_fd);
	return 0;
}

static void print_proc(char text[256], const struct state_proc *p)
{
	snprintf(text, 256,
		"pid %d start %" PRIu64 " uid %u protocol %u cgroup %s end\n",
		(int)p->pid, p->start, p->uid, p->protocol, p->cgroup);
}

/* One short write: it is there whole, or without its end. */
int state_write_proc(
	struct state *s, const char *key, const struct state_proc *p)
{
	char text[256];

	print_proc(text, p);
	return write_file(
		s->procs_fd, IN(key, "process"), text, strlen(text), O_EXCL);
}

int state_read_proc(
	const struct state *s, const char *key, struct state_proc *ret)
{
	_cleanup_free_ char *text = NULL;
	struct state_proc p = {.pid = 0};
	char again[256];
	size_t len;
	int pid, r;

	r = read_file(s->procs_fd, IN(key, "process"), &text, &len);
	if (r < 0)
		return r;
	if (!text ||
		/* NOLINTNEXTLINE(cert-err34-c): compared below */
		sscanf(text,
			"pid %d start %" SCNu64
			" uid %u protocol %u cgroup %79s",
			&pid, &p.start, &p.uid, &p.protocol, p.cgroup) != 5)
		return -ENODATA;
	p.pid = pid;
	/* Whole, and with no number that is none. */
	print_proc(again, &p);
	if (strcmp(text, again) != 0 || pid <= 1 || !p.start || !p.uid)
		return -ENODATA;
	*ret = p;
	return 0;
}

int state_open_shared(const struct state *s, const char *key)
{
	return open_file(s->procs_fd, IN(key, "shared"), O_RDWR);
}

int state_connect(const struct state *s, const char *key, struct ucred *ret)
{
	socklen_t size = sizeof(*ret);
	struct sockaddr_un a = control_address(s, key);
	_cleanup_close_ int fd = socket(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &size) < 0)
		return -errno;
	return take_fd(&fd);
}

/* Or an empty directory in its place. */
static void remove_file(int dir, const char *path)
{
	if (unlinkat(dir, path, 0) < 0 && errno == EISDIR)
		unlinkat(dir, path, AT_REMOVEDIR);
}

void state_remove_proc(struct state *s, const char *key)
{
	if (!key[0])
		return;
	/* Without this one it is nobody's. */
	remove_file(s->procs_fd, IN(key, "process"));
	remove_file(s->procs_fd, IN(key, "control"));
	remove_file(s->procs_fd, IN(key, "shared"));
	unlinkat(s->procs_fd, key, AT_REMOVEDIR);
}

int state_each_proc(const struct state *s,
	void (*each)(void *arg, const char *key), void *arg)
{
	return each_dir(s->procs_fd, KEY_CHARS, STATE_KEY_BYTES - 1, each, arg);
}

/* ---- VMs ---- */

int state_write_vm(struct state *s, const char *id, const char *name,
	const char *text, size_t len)
{
	char beside[NAME_MAX + 32];
	int r;

	if (mkdirat(s->vms_fd, id, 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(beside, sizeof(beside), "%s/%s.new", id, name);
	r = write_file(s->vms_fd, beside, text, len, O_TRUNC);
	if (r == 0 && renameat(s->vms_fd, beside, s->vms_fd, IN(id, name)) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(s->vms_fd, beside, 0);
	return r;
}

int state_read_vm(const struct state *s, const char *id, const char *name,
	char **ret, size_t *ret_len)
{
	return read_file(s->vms_fd, IN(id, name), ret, ret_len);
}

int state_link_vm(struct state *s, const char *id, const char *key)
{
	char target[sizeof(LINK_PREFIX) + STATE_KEY_BYTES];

	unlinkat(s->vms_fd, IN(id, "exit"), 0);
	unlinkat(s->vms_fd, IN(id, "started"), 0);
	unlinkat(s->vms_fd, IN(id, "proc"), 0);
	if (!key[0])
		return 0;
	snprintf(target, sizeof(target), LINK_PREFIX "%s", key);
	return symlinkat(target, s->vms_fd, IN(id, "proc")) < 0 ? -errno : 0;
}

int state_linked(
	const struct state *s, const char *id, char key[STATE_KEY_BYTES])
{
	static const size_t prefix = sizeof(LINK_PREFIX) - 1;
	char target[sizeof(LINK_PREFIX) + STATE_KEY_BYTES];
	ssize_t n = readlinkat(
		s->vms_fd, IN(id, "proc"), target, sizeof(target) - 1);
	int r;

	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	target[n] = '\0';
	if (strncmp(target, LINK_PREFIX, prefix) != 0 ||
		!is_name(target + prefix, KEY_CHARS, STATE_KEY_BYTES - 1))
		return -EINVAL;
	r = is_dir(s->procs_fd, target + prefix);
	if (r <= 0)
		return r < 0 ? r : -EINVAL;
	memcpy(key, target + prefix, (size_t)n + 1 - prefix);
	return 1;
}

int state_note_started(struct state *s, const char *id)
{
	return mknodat(s->vms_fd, IN(id, "started"), S_IFREG | 0600, 0) < 0 &&
			       errno != EEXIST
		       ? -errno
		       : 0;
}

int state_is_started(const struct state *s, const char *id)
{
	if (faccessat(s->vms_fd, IN(id, "started"), F_OK,
		    AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

void state_remove_vm(struct state *s, const char *id)
{
	static const char *const names[] = {"config.json", "proc", "exit",
		"started", "mmds.json", "config.json.new", "mmds.json.new",
		"exit.new"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		remove_file(s->vms_fd, IN(id, names[i]));
	unlinkat(s->vms_fd, id, AT_REMOVEDIR);
}

int state_each_vm(const struct state *s,
	void (*each)(void *arg, const char *id), void *arg)
{
	return each_dir(s->vms_fd, ID_CHARS, VM_ID_MAX, each, arg);
}
