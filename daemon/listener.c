#include "daemon/listener.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 4096
#define SOCKET_MODE 0660

/* Of the name the socket is bound under: ".PID", up to 2^22. */
#define SUFFIX_BYTES 8

#define PATH_BYTES_MAX                                                         \
	(sizeof(((struct sockaddr_un *)0)->sun_path) - SUFFIX_BYTES - 1)

/* path is short enough: open_directory() has looked. */
static struct sockaddr_un address(const char *path, const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%.*s%s",
		(int)(sizeof(a.sun_path) - SUFFIX_BYTES - 1), path, suffix);
	return a;
}

static int open_directory(
	struct listener *l, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[PATH_MAX] = ".";

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path) ||
		!name[0])
		return error_set(err, EINVAL,
			"--socket: \"%s\" is not a path of 1 to %zu bytes",
			path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	if (slash == path)
		memcpy(dir, "/", 2);
	else if (slash)
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	snprintf(l->name, sizeof(l->name), "%s", name);
	snprintf(l->path, sizeof(l->path), "%s", path);
	l->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0)
		return error_errno(err, errno, "--socket: %s", dir);
	return 0;
}

/* What is at the name: nothing or a dead socket (0), or something that must
 * stay. */
static int check_existing(
	const struct listener *l, const char *path, struct error *err)
{
	_cleanup_close_ int probe = -1;
	struct sockaddr_un a;
	struct stat st;

	if (fstatat(l->dir_fd, l->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0
				       : error_errno(err, errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, EEXIST,
			"--socket: %s is there and not a socket", path);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return error_errno(err, errno, "socket");
	a = address(path, "");
	if (connect(probe, (struct sockaddr *)&a, sizeof(a)) < 0 &&
		errno == ECONNREFUSED)
		return 0;
	return error_set(
		err, EADDRINUSE, "another daemon serves %s already", path);
}

/* Bound under another name, and renamed when it listens. */
static int bind_and_rename(
	struct listener *l, const char *path, gid_t group, struct error *err)
{
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char suffix[SUFFIX_BYTES + 1], name[sizeof(l->name) + SUFFIX_BYTES];
	struct sockaddr_un a;
	struct stat st;

	if (fd < 0)
		return error_errno(err, errno, "socket");
	snprintf(suffix, sizeof(suffix), ".%u", (unsigned)getpid() % 10000000u);
	snprintf(name, sizeof(name), "%s%s", l->name, suffix);
	a = address(path, suffix);
	unlinkat(l->dir_fd, name, 0);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(err, errno, "--socket: %s", path);
	/* The owner first: nobody else may connect for a moment. */
	if (fchownat(l->dir_fd, name, (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) <
			0 ||
		fchmodat(l->dir_fd, name, SOCKET_MODE, 0) < 0 ||
		listen(fd, BACKLOG) < 0 ||
		fstatat(l->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		renameat(l->dir_fd, name, l->dir_fd, l->name) < 0) {
		error_errno(err, errno, "--socket: %s", path);
		unlinkat(l->dir_fd, name, 0);
		return -err->code;
	}
	l->ino = st.st_ino;
	l->fd = take_fd(&fd);
	return 0;
}

int listener_open(
	struct listener *l, const char *path, gid_t group, struct error *err)
{
	int r;

	*l = (struct listener){.fd = -1, .dir_fd = -1};
	r = open_directory(l, path, err);
	if (r < 0)
		return r;
	/* Two daemons that start at once look and bind one after the other. */
	flock(l->dir_fd, LOCK_EX);
	r = check_existing(l, path, err);
	if (r == 0)
		r = bind_and_rename(l, path, group, err);
	flock(l->dir_fd, LOCK_UN);
	if (r < 0)
		close_fd(&l->dir_fd);
	return r;
}

void listener_take(struct listener *l, int fd)
{
	struct sockaddr_un a = {.sun_path = ""};
	socklen_t len = sizeof(a);

	*l = (struct listener){.fd = fd, .dir_fd = -1};
	if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		snprintf(l->path, sizeof(l->path), "%.*s",
			(int)sizeof(a.sun_path), a.sun_path);
}

void listener_close(struct listener *l)
{
	struct stat st;

	if (l->dir_fd >= 0 &&
		fstatat(l->dir_fd, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_ino == l->ino && S_ISSOCK(st.st_mode))
		unlinkat(l->dir_fd, l->name, 0);
	close_fd(&l->dir_fd);
	close_fd(&l->fd);
}
