#include "daemon/paths.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* What is relative begins at the base, if there is one. */
static int with_base(const struct vm_host *host, const char *path, char *buf)
{
	bool based = path[0] != '/' && host && host->path_base;
	int n = snprintf(buf, PATH_MAX, "%s%s%s", based ? host->path_base : "",
		based ? "/" : "", path);

	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int paths_open(
	const struct vm_host *host, const char *path, int flags, mode_t mode)
{
	char whole[PATH_MAX];
	int fd;

	if (!path[0])
		return -ENOENT;
	if (with_base(host, path, whole) < 0)
		return -ENAMETOOLONG;
	flags |= O_CLOEXEC;
	if (host && host->path_root)
		return file_open_below(host->path_root, whole, flags, mode);
	fd = open(whole, flags, mode);
	return fd < 0 ? -errno : fd;
}

int paths_look(const struct vm_host *host, const char *path, int *ret_fd)
{
	int fd = paths_open(host, path, O_PATH, 0);

	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int paths_open_parent(
	const struct vm_host *host, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[PATH_MAX];

	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EISDIR;
	if ((size_t)(name - path) >= sizeof(dir))
		return -ENAMETOOLONG;
	/* With its slash: "/" stays what it is. */
	snprintf(dir, sizeof(dir), "%.*s", (int)(name - path), path);
	*ret_name = name;
	return paths_open(host, dir[0] ? dir : ".", O_PATH | O_DIRECTORY, 0);
}

int paths_socket_address(int dir_fd, const char *name, char *buf, size_t size)
{
	int n = snprintf(buf, size, "/proc/self/fd/%d/%s", dir_fd, name);

	return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int paths_look_at_bound(int dir_fd, const char *name, struct stat *ret_st)
{
	_cleanup_close_ int fd =
		openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, ret_st) < 0)
		return -errno;
	if (!S_ISSOCK(ret_st->st_mode) || ret_st->st_uid != geteuid())
		return -EEXIST;
	return take_fd(&fd);
}

int paths_give_socket(const struct vm_host *host, int dir_fd, const char *name)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (!host || !(host->uid || host->gid))
		return 0;
	fd = paths_look_at_bound(dir_fd, name, &st);
	if (fd < 0)
		return fd;
	return fchownat(fd, "", host->uid, host->gid, AT_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

int paths_clear_socket(int dir_fd, const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int probe = -1;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return -errno;
	if (paths_socket_address(dir_fd, name, a.sun_path, sizeof(a.sun_path)) <
		0)
		return -ENAMETOOLONG;
	if (connect(probe, (const struct sockaddr *)&a, sizeof(a)) == 0 ||
		errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

void paths_remove_own(
	const struct vm_host *host, const char *path, dev_t dev, ino_t ino)
{
	_cleanup_close_ int dir = -1;
	const char *name;
	struct stat st;

	dir = paths_open_parent(host, path, &name);
	if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_dev == dev && st.st_ino == ino)
		unlinkat(dir, name, 0);
}

int paths_cannot_make(
	struct error *err, const char *field, const char *path, int code)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), path);
	if (code == ENOENT || code == ENOTDIR)
		return error_field(err, code, field,
			"the directory of %s is not there", quoted);
	error_errno(err, code, "%s cannot be made", quoted);
	snprintf(err->field, sizeof(err->field), "%s", field);
	return -code;
}

int paths_reopen(int path_fd, int flags)
{
	char self[40];
	int fd;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", path_fd);
	fd = open(self, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
