#include "jail_probe.h"

#include "base/fd.h"
#include "base/seccomp_image.h"
#include "jailer/jail.h"
#include "virtio/uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static int root_entries(void)
{
	DIR *d = opendir("/");
	int n = 0;

	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += strcmp(e->d_name, ".") != 0 &&
		     strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

static void look_at_network(struct probe_report *r)
{
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = {.ifr_ifindex = 1}, other = {.ifr_name = ""};

	r->lo_flags = r->second_interface = -1;
	if (ioctl(s, SIOCGIFNAME, &lo) == 0 && strcmp(lo.ifr_name, "lo") == 0 &&
		ioctl(s, SIOCGIFFLAGS, &lo) == 0)
		r->lo_flags = lo.ifr_flags;
	for (int i = 2; i < 256; i++) {
		other.ifr_ifindex = i;
		if (ioctl(s, SIOCGIFNAME, &other) == 0)
			r->second_interface = i;
	}
	close(s);
}

static void look(struct probe_report *r, int argc, char **argv, char **envp)
{
	struct utsname u;

	r->fds = 0;
	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			r->fds |= 1ull << fd;
	r->pid = getpid();
	r->sid = getsid(0);
	r->umask = umask(0);
	umask(r->umask);
	r->personality = (uint32_t)personality(0xffffffff);
	r->securebits = (uint32_t)prctl(PR_GET_SECUREBITS);
	r->root_entries = root_entries();
	r->mkdir_error = mkdir("/d", 0755) < 0 ? errno : 0;
	r->create_error = open("/f", O_CREAT | O_RDWR, 0644) < 0 ? errno : 0;
	r->mount_error = mount("t", "/", "tmpfs", 0, NULL) < 0 ? errno : 0;
	look_at_network(r);
	r->args = (uint32_t)argc;
	snprintf(r->arg0, sizeof(r->arg0), "%s", argv[0]);
	for (r->env = 0; envp[r->env]; r->env++)
		;
	uname(&u);
	snprintf(r->host, sizeof(r->host), "%s", u.nodename);
}

/* The program takes effect for the answer already. */
static int enter_filter(int fd)
{
	const struct seccomp_image *img = seccomp_image_map(fd);
	unsigned char role;

	if (!img || read(JAIL_CONTROL_FD, &role, 1) != 1)
		return -EPROTO;
	return seccomp_image_install(img, role);
}

static struct io_uring ring;

static int make_ring(void)
{
	int file = memfd_create("disk", MFD_CLOEXEC);
	struct error err;
	int r = uring_create(&ring, 4, 8, &err);

	return r < 0 ? r : uring_enable(&ring, &file, 1);
}

/* What became of one request. */
static int request(char what)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	char data[8];
	struct iovec iov = {data, sizeof(data)};
	struct io_uring_cqe *cqe;
	int r;

	if (what == PROBE_RING_READ)
		io_uring_prep_readv(sqe, 0, &iov, 1, 0);
	else
		io_uring_prep_openat(sqe, 0, "/", O_RDONLY, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	r = io_uring_submit_and_wait(&ring, 1);
	if (r < 0 || io_uring_peek_cqe(&ring, &cqe) < 0)
		return r < 0 ? r : -EPROTO;
	r = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return r;
}

static int act(char what, int fd)
{
	switch (what) {
	case PROBE_FILTER:
		return enter_filter(fd);
	case PROBE_OPEN:
		return open("/", O_RDONLY);
	case PROBE_RING:
		return make_ring();
	default:
		return request(what);
	}
}

int main(int argc, char **argv, char **envp)
{
	struct probe_report report;
	struct probe_result result;
	unsigned n_fds;
	char what;
	int fd;

	while (fd_recv(JAIL_CONTROL_FD, &what, 1, &fd, 1, &n_fds) == 1) {
		if (what == PROBE_LOOK) {
			look(&report, argc, argv, envp);
			fd_send(JAIL_CONTROL_FD, &report, sizeof(report), NULL,
				0);
			continue;
		}
		result.r = act(what, fd);
		fd_send(JAIL_CONTROL_FD, &result, sizeof(result), NULL, 0);
	}
	_exit(7);
}
