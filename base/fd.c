#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int fd_pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

/* Room for FD_PASS_MAX descriptors, aligned as cmsghdr wants it. */
union fd_cmsg {
	struct cmsghdr hdr;
	char buf[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
};

int fd_send(
	int sock, const void *buf, size_t len, const int *fds, unsigned n_fds)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_cmsg c;
	ssize_t n;

	if (n_fds > FD_PASS_MAX)
		return -EMSGSIZE;
	if (n_fds > 0) {
		memset(&c, 0, sizeof(c));
		c.hdr.cmsg_level = SOL_SOCKET;
		c.hdr.cmsg_type = SCM_RIGHTS;
		c.hdr.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(&c.hdr), fds, sizeof(int) * n_fds);
		m.msg_control = c.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
	}
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Moves the descriptors out of the control data; what is too many is closed. */
static int collect_fds(
	struct msghdr *m, int *ret_fds, unsigned max_fds, unsigned *ret_n_fds)
{
	unsigned kept = 0, seen = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			seen++;
			if (kept < max_fds)
				ret_fds[kept++] = fd;
			else
				close(fd);
		}
	}
	*ret_n_fds = kept;
	return seen > kept ? -EMSGSIZE : 0;
}

ssize_t fd_recv(int sock, void *buf, size_t size, int *ret_fds,
	unsigned max_fds, unsigned *ret_n_fds)
{
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	union fd_cmsg c;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;
	int r;

	*ret_n_fds = 0;
	/* Nobody's descriptors are opened only to be closed: that may take as
	 * long as their file system likes. */
	if (max_fds > 0) {
		m.msg_control = c.buf;
		m.msg_controllen = sizeof(c.buf);
	}
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r = collect_fds(&m, ret_fds, max_fds, ret_n_fds);
	if (r < 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		for (unsigned i = 0; i < *ret_n_fds; i++)
			close(ret_fds[i]);
		*ret_n_fds = 0;
		return -EMSGSIZE;
	}
	return n;
}

bool fd_is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

void fd_notify(int eventfd)
{
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(eventfd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}
