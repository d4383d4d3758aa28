#include "daemon/vsock.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FIELD "vsock.uds_path"
#define BACKLOG 4096

/* So that the longest port fits behind it. */
#define PATH_BYTES_MAX                                                         \
	(sizeof(((struct vsock_uds *)0)->path) - sizeof("_4294967295"))

void vsock_uds_init(struct vsock_uds *u)
{
	*u = (struct vsock_uds){.listen_fd = -1};
}

static int refuse(const char *path, int code, struct error *err)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), path);
	switch (code) {
	case EADDRINUSE:
		return error_field(
			err, code, FIELD, "%s is there already", quoted);
	case ENOENT:
	case ENOTDIR:
		return error_field(err, code, FIELD,
			"the directory of %s is not there", quoted);
	default:
		error_errno(err, code, "%s cannot be made", quoted);
		snprintf(err->field, sizeof(err->field), "%s", FIELD);
		return -code;
	}
}

static int bind_and_listen(
	struct vsock_uds *u, const struct sockaddr_un *a, struct error *err)
{
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return error_errno(err, errno, "a vsock's socket");
	if (bind(fd, (const struct sockaddr *)a, sizeof(*a)) < 0)
		return refuse(a->sun_path, errno, err);
	if (lstat(a->sun_path, &st) == 0) {
		u->dev = st.st_dev;
		u->ino = st.st_ino;
	}
	memcpy(u->path, a->sun_path, sizeof(u->path));
	if (listen(fd, BACKLOG) < 0) {
		int code = errno;

		vsock_uds_close(u);
		return refuse(a->sun_path, code, err);
	}
	u->listen_fd = take_fd(&fd);
	return 0;
}

int vsock_uds_open(struct vsock_uds *ret, const char *path, struct error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if (len == 0 || len > PATH_BYTES_MAX)
		return error_field(err, EINVAL, FIELD,
			"must be a path of 1 to %zu bytes", PATH_BYTES_MAX);
	memcpy(a.sun_path, path, len);
	vsock_uds_init(ret);
	return bind_and_listen(ret, &a, err);
}

void vsock_uds_close(struct vsock_uds *u)
{
	struct stat st;

	close_fd(&u->listen_fd);
	if (u->path[0] && lstat(u->path, &st) == 0 && st.st_dev == u->dev &&
		st.st_ino == u->ino)
		unlink(u->path);
	vsock_uds_init(u);
}

int vsock_uds_connect(const struct vsock_uds *u, uint32_t port)
{
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "%.*s_%u", (int)PATH_BYTES_MAX,
		u->path, port);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return take_fd(&fd);
}
