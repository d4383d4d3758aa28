#include "daemon/vsock.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FIELD "vsock.uds_path"
#define BACKLOG 4096

_Static_assert(VM_UDS_PATH_MAX + sizeof("_4294967295") <=
		       sizeof(((struct vsock_uds *)0)->path),
	"the longest port fits behind it");

void vsock_uds_init(struct vsock_uds *u)
{
	*u = (struct vsock_uds){.listen_fd = -1};
}

static int refuse(const char *path, int code, struct error *err)
{
	char quoted[160];

	if (code != EADDRINUSE && code != EEXIST)
		return paths_cannot_make(err, FIELD, path, code);
	log_quote(quoted, sizeof(quoted), path);
	return error_field(
		err, EADDRINUSE, FIELD, "%s is there already", quoted);
}

static int bind_and_listen(
	struct vsock_uds *u, const char *path, struct error *err)
{
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int dir = -1;
	const char *name;
	struct stat st;
	int r;

	if (fd < 0)
		return error_errno(err, errno, "a vsock's socket");
	dir = paths_open_parent(u->host, path, &name);
	if (dir < 0)
		return refuse(path, -dir, err);
	if (paths_socket_address(dir, name, a.sun_path, sizeof(a.sun_path)) < 0)
		return refuse(path, ENAMETOOLONG, err);
	/* That of a VM which died with its daemon may be there still. */
	r = paths_clear_socket(dir, name);
	if (r == 0 && bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		r = -errno;
	if (r < 0)
		return refuse(path, -r, err);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		u->dev = st.st_dev;
		u->ino = st.st_ino;
	}
	snprintf(u->path, sizeof(u->path), "%s", path);
	r = paths_give_socket(u->host, dir, name);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		vsock_uds_close(u);
		return refuse(path, -r, err);
	}
	u->listen_fd = take_fd(&fd);
	return 0;
}

int vsock_uds_open(struct vsock_uds *ret, const struct vm_host *host,
	const char *path, struct error *err)
{
	size_t len = strlen(path);

	if (len == 0 || len > VM_UDS_PATH_MAX)
		return error_field(err, EINVAL, FIELD,
			"must be a path of 1 to %d bytes", VM_UDS_PATH_MAX);
	vsock_uds_init(ret);
	ret->host = host;
	return bind_and_listen(ret, path, err);
}

int vsock_uds_found(
	struct vsock_uds *ret, const struct vm_host *host, const char *path)
{
	_cleanup_close_ int dir = -1;
	const char *name;
	struct stat st;

	vsock_uds_init(ret);
	ret->host = host;
	if (!path || strlen(path) > VM_UDS_PATH_MAX)
		return 0;
	dir = paths_open_parent(host, path, &name);
	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	snprintf(ret->path, sizeof(ret->path), "%s", path);
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	return 0;
}

void vsock_uds_remove_dead(const struct vm_host *host, const char *path)
{
	_cleanup_close_ int dir = -1;
	const char *name;

	if (path)
		dir = paths_open_parent(host, path, &name);
	if (dir >= 0)
		paths_clear_socket(dir, name);
}

void vsock_uds_close(struct vsock_uds *u)
{
	close_fd(&u->listen_fd);
	if (u->path[0])
		paths_remove_own(u->host, u->path, u->dev, u->ino);
	vsock_uds_init(u);
}

int vsock_uds_connect(const struct vsock_uds *u, uint32_t port)
{
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char path[sizeof(u->path) + sizeof("_4294967295")];
	_cleanup_close_ int target = -1;
	int r;

	if (fd < 0)
		return -errno;
	if (!u->path[0]) /* not found again */
		return -ENOENT;
	snprintf(path, sizeof(path), "%s_%u", u->path, port);
	/* What a symbolic link leads to has to be below the root as well. */
	r = paths_look(u->host, path, &target);
	if (r < 0)
		return r;
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d", target);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return take_fd(&fd);
}
