/*
 * A program for Linux guests: the guest's end of vsock connections.
 *
 *   vsock_peer echo PORT       listens, and sends back what each connection
 *                              brings, until its end; for ever
 *   vsock_peer send PORT       connects to the host, and sends its input;
 *                              then prints what comes back
 *   vsock_peer many PORT N     has N connections to the host at the same time;
 *                              each sends a line of its own and expects it back
 *   vsock_peer refused PORT    expects that nobody listens on the host
 *
 * Prints what is wrong and exits with 1.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 8192

static void check(int ok, const char *what)
{
	if (ok)
		return;
	printf("vsock_peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_vm address(unsigned cid, const char *port)
{
	return (struct sockaddr_vm){.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = (unsigned)strtoul(port, NULL, 0)};
}

static int try_connect(const char *port)
{
	struct sockaddr_vm a = address(VMADDR_CID_HOST, port);
	/* The machines that tests run on may be slow. */
	struct timeval patience = {.tv_sec = 30};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	check(fd >= 0, "socket");
	check(setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience,
		      sizeof(patience)) == 0,
		"setsockopt");
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connect_host(const char *port)
{
	int fd = try_connect(port);

	check(fd >= 0, "connect");
	return fd;
}

static void write_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t r = write(fd, data, n);

		check(r > 0, "write");
		data += r;
		n -= (size_t)r;
	}
}

/* ---- echo: what could not be written yet stops the reading ---- */

struct echo {
	size_t off, len;
	int eof;
	char data[4096];
};

static struct echo *echoes[MAX_FDS];

/* Whether it goes on. */
static int turn(int fd, struct echo *e)
{
	ssize_t r;

	if (e->len == 0 && !e->eof) {
		r = read(fd, e->data, sizeof(e->data));
		if (r < 0)
			return errno == EAGAIN;
		e->off = 0;
		e->len = (size_t)r;
		e->eof = r == 0;
	}
	if (e->len > 0) {
		r = write(fd, e->data + e->off, e->len);
		if (r < 0)
			return errno == EAGAIN;
		e->off += (size_t)r;
		e->len -= (size_t)r;
	}
	if (e->eof && e->len == 0) {
		shutdown(fd, SHUT_WR);
		return 0;
	}
	return 1;
}

static void serve_one(int ep, int fd)
{
	struct epoll_event ev = {.data.fd = fd};

	if (!turn(fd, echoes[fd])) {
		free(echoes[fd]);
		close(fd);
		return;
	}
	ev.events = echoes[fd]->len > 0 ? EPOLLOUT : EPOLLIN;
	check(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) == 0, "epoll_ctl");
}

static void accept_one(int ep, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0)
		return;
	check(fd < MAX_FDS, "too many");
	echoes[fd] = calloc(1, sizeof(*echoes[fd]));
	check(echoes[fd] != NULL, "memory");
	check(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void echo(const char *port)
{
	struct sockaddr_vm a = address(VMADDR_CID_ANY, port);
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};

	check(bind(listener, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
	check(listen(listener, 4096) == 0, "listen");
	check(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) == 0, "epoll_ctl");
	printf("listening\n");
	fflush(stdout);
	for (;;) {
		struct epoll_event got[64];
		int n = epoll_wait(ep, got, 64, -1);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd == listener)
				accept_one(ep, listener);
			else
				serve_one(ep, got[i].data.fd);
		}
	}
}

/* ---- to the host ---- */

static void send_input(const char *port)
{
	static char data[65536];
	int fd = connect_host(port);
	ssize_t r;

	while ((r = read(STDIN_FILENO, data, sizeof(data))) > 0)
		write_all(fd, data, (size_t)r);
	/* The host answers when it has it all. */
	check(shutdown(fd, SHUT_WR) == 0, "shutdown");
	while ((r = read(fd, data, sizeof(data))) > 0)
		write_all(STDOUT_FILENO, data, (size_t)r);
	check(r == 0, "read");
}

static void many(const char *port, unsigned n)
{
	int *fds = calloc(n, sizeof(*fds));
	char line[32], back[32];

	check(fds != NULL, "memory");
	for (unsigned i = 0; i < n; i++)
		fds[i] = connect_host(port);
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "connection %08u\n", i);
		write_all(fds[i], line, strlen(line));
	}
	for (unsigned i = 0; i < n; i++) {
		size_t got = 0, len;

		len = (size_t)snprintf(
			line, sizeof(line), "connection %08u\n", i);
		while (got < len) {
			ssize_t r = read(fds[i], back + got, len - got);

			check(r > 0, "read");
			got += (size_t)r;
		}
		errno = 0;
		check(memcmp(line, back, len) == 0, "another's bytes");
	}
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
	printf("%u connections\n", n);
}

int main(int argc, char **argv)
{
	struct rlimit l = {MAX_FDS, MAX_FDS};

	setrlimit(RLIMIT_NOFILE, &l);
	if (argc == 3 && strcmp(argv[1], "echo") == 0)
		echo(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "send") == 0)
		send_input(argv[2]);
	else if (argc == 4 && strcmp(argv[1], "many") == 0)
		many(argv[2], (unsigned)strtoul(argv[3], NULL, 0));
	else if (argc == 3 && strcmp(argv[1], "refused") == 0)
		check(try_connect(argv[2]) < 0 && errno == ECONNRESET,
			"not refused");
	else
		return 2;
	return 0;
}
