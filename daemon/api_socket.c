#include "daemon/api_socket.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FIELD "api_socket.path"
#define BACKLOG 64
/* Of the name it has until it listens. */
#define SUFFIX ".new"

static int refuse(const char *path, int code, struct error *err)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), path);
	switch (code) {
	case EADDRINUSE:
		return error_field(
			err, EBUSY, FIELD, "somebody listens at %s", quoted);
	case EEXIST:
		return error_field(err, EBUSY, FIELD,
			"%s is there, and not a dead socket", quoted);
	case ENOENT:
	case ENOTDIR:
		return error_field(err, code, FIELD,
			"the directory of %s is not there", quoted);
	case ENAMETOOLONG:
		return error_field(err, EINVAL, FIELD,
			"the last name of %s is too long for a socket", quoted);
	default:
		error_errno(err, code, "%s cannot be made", quoted);
		snprintf(err->field, sizeof(err->field), "%s", FIELD);
		return -code;
	}
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* What is at the name: nothing or a dead socket (then it is removed), or what
 * has to stay. */
static int clear_name(int dir, const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int probe = -1;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	probe = new_socket();
	if (probe < 0)
		return probe;
	if (paths_socket_address(dir, name, a.sun_path, sizeof(a.sun_path)) < 0)
		return -ENAMETOOLONG;
	if (connect(probe, (struct sockaddr *)&a, sizeof(a)) == 0 ||
		errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* By descriptor: the name may be somebody else's to change by now. */
static int set_owner(struct api_socket *s, int dir, const char *name,
	const struct vm_api_socket *config)
{
	_cleanup_close_ int file =
		openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char self[40];
	struct stat st;

	if (file < 0 || fstat(file, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return -EEXIST;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", file);
	if (fchownat(file, "", config->uid, config->gid, AT_EMPTY_PATH) < 0 ||
		chmod(self, config->mode) < 0)
		return -errno;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return 0;
}

static int bind_and_rename(struct api_socket *s, int dir, const char *name,
	const struct vm_api_socket *config)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char temporary[sizeof(a.sun_path)];
	int r;

	if (snprintf(temporary, sizeof(temporary), "%s" SUFFIX, name) >=
			(int)sizeof(temporary) ||
		paths_socket_address(
			dir, temporary, a.sun_path, sizeof(a.sun_path)) < 0)
		return -ENAMETOOLONG;
	r = clear_name(dir, temporary);
	if (r < 0)
		return r;
	if (bind(s->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	r = set_owner(s, dir, temporary, config);
	if (r == 0 && (listen(s->fd, BACKLOG) < 0 ||
			      renameat2(dir, temporary, dir, name,
				      RENAME_NOREPLACE) < 0))
		r = -errno;
	if (r < 0)
		unlinkat(dir, temporary, 0);
	return r;
}

int api_socket_open(struct api_socket *ret, const struct vm_host *host,
	const struct vm_api_socket *config, struct error *err)
{
	struct api_socket s = {.fd = -1};
	_cleanup_close_ int dir = -1;
	const char *name;
	int r;

	dir = paths_open_parent(host, config->path, &name);
	r = dir < 0 ? dir : clear_name(dir, name);
	if (r == 0)
		r = s.fd = new_socket();
	if (r >= 0)
		r = bind_and_rename(&s, dir, name, config);
	if (r < 0) {
		close_fd(&s.fd);
		return refuse(config->path, -r, err);
	}
	*ret = s;
	return 0;
}

void api_socket_close(struct api_socket *s, const struct vm_host *host,
	const struct vm_api_socket *config)
{
	_cleanup_close_ int dir = -1;
	const char *name;
	struct stat st;

	if (s->fd < 0)
		return;
	close_fd(&s->fd);
	dir = paths_open_parent(host, config->path, &name);
	if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_dev == s->dev && st.st_ino == s->ino)
		unlinkat(dir, name, 0);
}
