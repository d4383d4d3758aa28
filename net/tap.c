#include "net/tap.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FIELD "network-interfaces."
#define NAME_FIELD FIELD "host_dev_name"

#define NETNS_DIR "/run/netns/"

/* What TUNSETOFFLOAD can do for received packets, if the tap takes it; what is
 * sent to it may always be any of this. */
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define BIT(n) (1ull << (n))
#define SENT                                                                   \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |                \
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))
#define RECEIVED                                                               \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |         \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))

/* One opening, on whatever thread is in the right namespace. */
struct opening {
	const struct tap_config *config;
	bool find; /* no queues: somebody has them */
	struct tap tap;
	struct error *err;
	int netns_fd;
	int sock;         /* for the ioctls that take any */
	struct ifreq ifr; /* ifr_name is set */
	int result;
};

static int refuse(struct opening *o, int code, const char *why)
{
	return error_field(
		o->err, code, NAME_FIELD, "\"%s\" %s", o->config->name, why);
}

static int check_name(const char *field, const char *name, struct error *err)
{
	size_t len = strlen(name);
	char quoted[160];

	/* The kernel takes "%d" for a pattern to make up a name by. */
	if (len > 0 && len < IFNAMSIZ && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0 &&
		strcspn(name, "/:% \t\n\v\f\r") == len)
		return 0;
	return error_field(err, EINVAL, field,
		"%s is no name of a network device: 1 to %d bytes without "
		"'/', ':', '%%' and spaces",
		log_quote(quoted, sizeof(quoted), name), IFNAMSIZ - 1);
}

/* ---- the device ---- */

/* One queue: of the device that is there, or of one that comes to be. */
static int open_queue(const struct opening *o, short flags)
{
	_cleanup_close_ int fd =
		open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct ifreq ifr = o->ifr;

	if (fd < 0)
		return -errno;
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	return take_fd(&fd);
}

/* 0 when there is none. */
static int index_of(const struct opening *o)
{
	struct ifreq ifr = o->ifr;

	return ioctl(o->tap.sock, SIOCGIFINDEX, &ifr) < 0 ? 0 : ifr.ifr_ifindex;
}

static int open_failed(struct opening *o, int code)
{
	switch (code) {
	case EBUSY:
		return refuse(o, code, "is in use");
	case EINVAL:
		return refuse(o, code,
			o->config->n_queues > 1 ? "is no tap with multi_queue"
						: "is not a tap");
	case EPERM:
		return refuse(o, code, "may not be opened");
	default:
		error_errno(o->err, code, "opening the tap \"%s\"",
			o->config->name);
		snprintf(o->err->field, sizeof(o->err->field), NAME_FIELD);
		return -code;
	}
}

static int create_first(struct opening *o, short flags)
{
	int fd = open_queue(o, (short)(flags | (short)IFF_TUN_EXCL));

	if (fd == -EBUSY || (fd < 0 && index_of(o)))
		return refuse(o, EEXIST, "exists already");
	return fd < 0 ? open_failed(o, -fd) : fd;
}

static int open_first(struct opening *o, short *flags)
{
	_cleanup_close_ int fd = -1;
	int index = index_of(o);

	if (!index)
		return refuse(
			o, ENOENT, "is not there (\"create\": true makes one)");
	fd = open_queue(o, *flags);
	if (fd == -EINVAL && !*flags) {
		/* One with several queues lets us have one of them. */
		*flags = IFF_MULTI_QUEUE;
		fd = open_queue(o, *flags);
	}
	if (fd < 0)
		return open_failed(o, -fd);
	/* It went just now, and so we made another: which goes with fd. */
	if (index_of(o) != index)
		return refuse(o, ENOENT, "is not there any more");
	return take_fd(&fd);
}

static int open_queues(struct opening *o)
{
	const struct tap_config *c = o->config;
	short flags = c->n_queues > 1 ? IFF_MULTI_QUEUE : 0;
	int fd = c->create ? create_first(o, flags) : open_first(o, &flags);

	if (fd < 0)
		return fd;
	o->tap.fds[0] = fd;
	for (unsigned i = 1; i < c->n_queues; i++) {
		fd = open_queue(o, flags);
		if (fd < 0)
			return open_failed(o, -fd);
		o->tap.fds[i] = fd;
	}
	return 0;
}

static int set_up_queues(struct opening *o)
{
	int size = sizeof(struct virtio_net_hdr_v1), little_endian = 1;

	for (unsigned i = 0; i < o->config->n_queues; i++)
		if (ioctl(o->tap.fds[i], TUNSETVNETHDRSZ, &size) < 0 ||
			ioctl(o->tap.fds[i], TUNSETVNETLE, &little_endian) < 0)
			return error_errno(o->err, errno, "setting up the tap");
	o->tap.features = SENT;
	if (ioctl(o->tap.fds[0], TUNSETOFFLOAD, OFFLOADS) == 0)
		o->tap.features |= RECEIVED;
	/* Until a driver asks for them. */
	if (ioctl(o->tap.fds[0], TUNSETOFFLOAD, 0) < 0)
		return error_errno(o->err, errno, "setting up the tap");
	return 0;
}

/* ---- what a new one needs ---- */

static int set_mtu(struct opening *o)
{
	struct ifreq ifr = o->ifr;

	if (!o->config->mtu)
		return 0;
	ifr.ifr_mtu = (int)o->config->mtu;
	if (ioctl(o->tap.sock, SIOCSIFMTU, &ifr) == 0)
		return 0;
	return error_field(o->err, errno, FIELD "mtu",
		"%u cannot be the MTU of \"%s\"", o->config->mtu,
		o->config->name);
}

static int join_bridge(struct opening *o)
{
	const char *bridge = o->config->bridge;
	struct ifreq ifr = {.ifr_ifindex = 0};

	if (!bridge)
		return 0;
	if (check_name(FIELD "bridge", bridge, o->err) < 0)
		return -o->err->code;
	memcpy(ifr.ifr_name, bridge, strlen(bridge));
	ifr.ifr_ifindex = index_of(o);
	if (ioctl(o->tap.sock, SIOCBRADDIF, &ifr) == 0)
		return 0;
	switch (errno) {
	case ENODEV:
		return error_field(o->err, ENOENT, FIELD "bridge",
			"\"%s\" is not there", bridge);
	case EOPNOTSUPP:
	case EINVAL:
		return error_field(o->err, EINVAL, FIELD "bridge",
			"\"%s\" is not a bridge", bridge);
	default:
		return error_field(o->err, errno, FIELD "bridge",
			"\"%s\" does not take \"%s\" as a port", bridge,
			o->config->name);
	}
}

static int bring_up(struct opening *o)
{
	struct ifreq ifr = o->ifr;

	if (ioctl(o->tap.sock, SIOCGIFFLAGS, &ifr) < 0)
		return open_failed(o, errno);
	ifr.ifr_flags |= IFF_UP;
	return ioctl(o->tap.sock, SIOCSIFFLAGS, &ifr) < 0
		       ? open_failed(o, errno)
		       : 0;
}

/* ---- all of it, in its namespace ---- */

static void note_netns(struct tap *t)
{
	_cleanup_close_ int fd = ioctl(t->sock, SIOCGSKNS);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	t->netns_dev = st.st_dev;
	t->netns_ino = st.st_ino;
}

static int open_all(struct opening *o)
{
	int r = open_queues(o);

	if (r == 0)
		r = set_up_queues(o);
	if (r < 0 || !o->config->create)
		return r;
	r = set_mtu(o);
	if (r == 0)
		r = join_bridge(o);
	return r < 0 ? r : bring_up(o);
}

static int open_here(struct opening *o)
{
	int r = 0;

	o->tap.sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (o->tap.sock < 0)
		return error_errno(o->err, errno, "socket");
	if (!o->find)
		r = open_all(o);
	o->tap.ifindex = index_of(o);
	if (o->find && !o->tap.ifindex)
		return refuse(o, ENOENT, "is not there any more");
	note_netns(&o->tap);
	return r;
}

static void *open_there(void *arg)
{
	struct opening *o = arg;

	/* This thread's alone, and it ends here. */
	if (setns(o->netns_fd, CLONE_NEWNET) < 0)
		o->result = error_field(o->err, errno, FIELD "netns",
			"\"%s\" is not a network namespace", o->config->netns);
	else
		o->result = open_here(o);
	return NULL;
}

static int open_netns(const char *name, struct error *err)
{
	static const char field[] = FIELD "netns";
	char path[sizeof(NETNS_DIR) + NAME_MAX], quoted[160];
	int fd;

	log_quote(quoted, sizeof(quoted), name);
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0 || strlen(name) > NAME_MAX)
		return error_field(err, EINVAL, field,
			"%s is no name of a namespace under " NETNS_DIR,
			quoted);
	snprintf(path, sizeof(path), NETNS_DIR "%s", name);
	/* O_NONBLOCK: should it be a FIFO. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return error_field(err, ENOENT, field,
			"%s is not there: see ip-netns(8)", quoted);
	return error_field(err, errno, field, "%s cannot be opened", quoted);
}

static int open_in(struct opening *o, const char *netns)
{
	_cleanup_close_ int fd = open_netns(netns, o->err);
	pthread_t thread;
	int r;

	if (fd < 0)
		return fd;
	o->netns_fd = fd;
	r = pthread_create(&thread, NULL, open_there, o);
	if (r > 0)
		return error_errno(o->err, r, "a thread for the namespace");
	pthread_join(thread, NULL);
	return o->result;
}

static int open_or_find(struct tap *ret, const struct tap_config *config,
	bool find, struct error *err)
{
	struct opening o = {
		.config = config, .find = find, .err = err, .tap.sock = -1};
	int r;

	for (unsigned i = 0; i < TAP_MAX_QUEUES; i++)
		o.tap.fds[i] = -1;
	if (config->n_queues < 1 || config->n_queues > TAP_MAX_QUEUES)
		return error_field(err, EINVAL, FIELD "queue_pairs",
			"must be between 1 and %d", TAP_MAX_QUEUES);
	if (check_name(NAME_FIELD, config->name, err) < 0)
		return -err->code;
	memcpy(o.ifr.ifr_name, config->name, strlen(config->name));
	r = config->netns ? open_in(&o, config->netns) : open_here(&o);
	if (r < 0) {
		tap_close(&o.tap);
		return r;
	}
	*ret = o.tap;
	return 0;
}

int tap_open(
	struct tap *ret, const struct tap_config *config, struct error *err)
{
	return open_or_find(ret, config, false, err);
}

int tap_find(
	struct tap *ret, const struct tap_config *config, struct error *err)
{
	return open_or_find(ret, config, true, err);
}

void tap_close_queues(struct tap *t)
{
	for (unsigned i = 0; i < TAP_MAX_QUEUES; i++)
		close_fd(&t->fds[i]);
}

void tap_close(struct tap *t)
{
	tap_close_queues(t);
	close_fd(&t->sock);
}

bool tap_in_use(const struct tap *t)
{
	struct ethtool_value link = {.cmd = ETHTOOL_GLINK};
	struct ifreq ifr = {.ifr_ifindex = t->ifindex};

	/* By its index, since a name may be another's by now. */
	if (t->sock < 0 || ioctl(t->sock, SIOCGIFNAME, &ifr) < 0)
		return false;
	/* The carrier of a tap is there while a queue is open. */
	ifr.ifr_data = (void *)&link;
	return ioctl(t->sock, SIOCETHTOOL, &ifr) == 0 && link.data;
}

bool tap_same(const struct tap *a, const struct tap *b)
{
	return a->netns_ino && a->netns_ino == b->netns_ino &&
	       a->netns_dev == b->netns_dev && a->ifindex == b->ifindex;
}
