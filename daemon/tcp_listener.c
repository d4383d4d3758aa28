#include "daemon/tcp_listener.h"

#include "base/cleanup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 16
/* "[ADDR%SCOPE]:PORT" */
#define ADDRESS_MAX 128

/* Cuts "ADDR:PORT" in two; the brackets of an IPv6 address are taken off. */
static int cut(char *address, char **ret_host, char **ret_port)
{
	char *colon = strrchr(address, ':');
	size_t n;

	if (!colon || colon == address || !colon[1])
		return -EINVAL;
	*colon = '\0';
	*ret_port = colon + 1;
	*ret_host = address;
	n = strlen(address);
	if (address[0] == '[' && address[n - 1] == ']') {
		address[n - 1] = '\0';
		*ret_host = address + 1;
		return strchr(*ret_host, ':') ? 0 : -EINVAL;
	}
	/* Whose last part could be a port as well. */
	return strchr(address, ':') ? -EINVAL : 0;
}

static int resolve(const char *address, struct addrinfo **ret)
{
	static const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	char copy[ADDRESS_MAX], *host, *port;

	if (strlen(address) >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, address, strlen(address) + 1);
	if (cut(copy, &host, &port) < 0 ||
		strspn(port, "0123456789") != strlen(port) ||
		strlen(port) > 5 || strtoul(port, NULL, 10) > 65535)
		return -EINVAL;
	return getaddrinfo(host, port, &hints, ret) == 0 ? 0 : -EINVAL;
}

static int listen_on(const struct addrinfo *a)
{
	_cleanup_close_ int fd = socket(
		a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	/* Not for who is connected to a daemon of before. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

static void describe(int fd, char *buf, size_t size)
{
	struct sockaddr_storage a = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(a);
	char host[64], port[8];

	snprintf(buf, size, "?");
	if (getsockname(fd, (struct sockaddr *)&a, &len) == 0 &&
		getnameinfo((struct sockaddr *)&a, len, host, sizeof(host),
			port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(buf, size,
			a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			port);
}

int tcp_listen(const char *address, char *buf, size_t size, struct error *err)
{
	struct addrinfo *found = NULL;
	int fd = resolve(address, &found);

	if (fd < 0)
		return error_set(err, -fd,
			"--metrics-listen: \"%s\" is not ADDR:PORT (an address "
			"in numbers, a port from 0 to 65535)",
			address);
	fd = listen_on(found);
	freeaddrinfo(found);
	if (fd < 0)
		return error_errno(err, -fd, "--metrics-listen %s", address);
	describe(fd, buf, size);
	return fd;
}
