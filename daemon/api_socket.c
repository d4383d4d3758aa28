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
	case ENAMETOOLONG:
		return error_field(err, EINVAL, FIELD,
			"the last name of %s is too long for a socket", quoted);
	default:
		return paths_cannot_make(err, FIELD, path, code);
	}
}

static int set_owner(struct api_socket *s, int dir, const char *name,
	const struct vm_api_socket *config)
{
	_cleanup_close_ int file = -1;
	char self[40];
	struct stat st;

	file = paths_look_at_bound(dir, name, &st);
	if (file < 0)
		return file;
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
	r = paths_clear_socket(dir, temporary);
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
	r = dir < 0 ? dir : paths_clear_socket(dir, name);
	if (r == 0) {
		s.fd = socket(
			AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = s.fd < 0 ? -errno : 0;
	}
	if (r == 0)
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
	if (s->fd < 0)
		return;
	close_fd(&s->fd);
	paths_remove_own(host, config->path, s->dev, s->ino);
}
