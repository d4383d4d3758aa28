#include "jailer/empty_ns.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the maker says once it is done: which call failed, or "". */
struct report {
	int error;
	char step[60];
};

static void failed(struct report *r, const char *step)
{
	r->error = errno;
	snprintf(r->step, sizeof(r->step), "%s", step);
}

/* A detached mount of an empty file system; the root directory is its only
 * inode and cannot be written, not by root either. */
static int mount_nothing(struct report *r)
{
	_cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int m;

	if (fs < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "source", "mayfly", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
		failed(r, "making an empty tmpfs");
		return -1;
	}
	m = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			MOUNT_ATTR_NOEXEC);
	if (m < 0)
		failed(r, "mounting an empty tmpfs");
	return m;
}

static void make_namespaces(struct report *r)
{
	_cleanup_close_ int m = -1;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0) {
		failed(r, "making namespaces");
		return;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		failed(r, "making the mounts private");
		return;
	}
	m = mount_nothing(r);
	if (m < 0)
		return;
	/* Onto "/", then pivoted into: the old root ends on top of the new
	 * one, and is taken off. */
	if (move_mount(m, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
		fchdir(m) < 0) {
		failed(r, "attaching the empty root");
		return;
	}
	if (syscall(SYS_pivot_root, ".", ".") < 0) {
		failed(r, "pivoting into the empty root");
		return;
	}
	if (umount2(".", MNT_DETACH) < 0)
		failed(r, "detaching the host's mounts");
}

/* In the maker process: reports, then stays until its maker has opened the
 * namespaces and closes the socket (or dies). */
__attribute__((noreturn)) static void maker(int sock)
{
	struct report r = {0};
	unsigned n_fds;

	make_namespaces(&r);
	fd_send(sock, &r, sizeof(r), NULL, 0);
	fd_recv(sock, &r, sizeof(r), NULL, 0, &n_fds);
	_exit(EXIT_SUCCESS);
}

static int open_ns(pid_t pid, const char *which, struct error *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, which);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "opening %s", path);
	return fd;
}

static int collect(pid_t pid, int sock, struct empty_ns *ret, struct error *err)
{
	_cleanup_close_ int mnt = -1, net = -1;
	struct report r;
	unsigned n_fds;
	ssize_t n = fd_recv(sock, &r, sizeof(r), NULL, 0, &n_fds);

	if (n != (ssize_t)sizeof(r))
		return error_set(
			err, EIO, "the process that makes the empty root died");
	if (r.error)
		return error_errno(err, r.error, "%s", r.step);
	mnt = open_ns(pid, "mnt", err);
	if (mnt < 0)
		return mnt;
	net = open_ns(pid, "net", err);
	if (net < 0)
		return net;
	ret->mnt_fd = take_fd(&mnt);
	ret->net_fd = take_fd(&net);
	return 0;
}

int empty_ns_make(struct empty_ns *ret, struct error *err)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "making a socket pair");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "forking");
	if (pid == 0) {
		close_fd(&ours);
		maker(theirs);
	}
	close_fd(&theirs);
	r = collect(pid, ours, ret, err);
	close_fd(&ours);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}
