#pragma once

/* Conversations with a virtio-vsock device, on top of vsock_guest.h. */

#include "vsock_guest.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_PORT (1u << 30)
#define OP(name) VIRTIO_VSOCK_OP_##name
#define SHUT_BOTH 3u

/* One connection as both ends know it. */
struct link {
	uint32_t host_port, guest_port;
	int fd; /* the host program's end */
};

static inline void say_flags(struct vsock_guest *g, uint16_t op,
	const struct link *l, uint32_t flags)
{
	const struct virtio_vsock_hdr hdr = {.op = op,
		.src_port = l->guest_port,
		.dst_port = l->host_port,
		.flags = flags};

	vsock_guest_send(g, &hdr, NULL, 0);
}

static inline void say(struct vsock_guest *g, uint16_t op, const struct link *l)
{
	say_flags(g, op, l, 0);
}

static inline void send_bytes(
	struct vsock_guest *g, const struct link *l, const void *data, size_t n)
{
	const struct virtio_vsock_hdr hdr = {.op = OP(RW),
		.src_port = l->guest_port,
		.dst_port = l->host_port};

	vsock_guest_send(g, &hdr, data, n);
}

/* The next packet is this one, of this connection. */
#define hear(g, op_, l, ret)                                                   \
	do {                                                                   \
		vsock_guest_recv(g, ret, NULL);                                \
		ck_assert_uint_eq((ret)->op, op_);                             \
		ck_assert_uint_eq((ret)->src_port, (l)->host_port);            \
		ck_assert_uint_eq((ret)->dst_port, (l)->guest_port);           \
		ck_assert_uint_eq((ret)->src_cid, 2);                          \
		ck_assert_uint_eq((ret)->dst_cid, GUEST_CID);                  \
		ck_assert_uint_eq((ret)->type, VIRTIO_VSOCK_TYPE_STREAM);      \
	} while (0)

static inline void wait_count(const uint64_t *counter, uint64_t value)
{
	for (unsigned i = 0;
		__atomic_load_n(counter, __ATOMIC_ACQUIRE) != value; i++) {
		ck_assert_msg(i < 50000, "%llu, not %llu",
			(unsigned long long)*counter,
			(unsigned long long)value);
		usleep(100);
	}
}

/* A client that has asked for the port, and the guest has been asked. */
static inline struct link begin_client(struct vsock_guest *g, uint32_t port)
{
	struct link l = {.guest_port = port, .fd = vsock_guest_client(g)};
	struct virtio_vsock_hdr hdr;
	char line[32];
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", port);

	vsock_host_write(l.fd, line, (size_t)n);
	vsock_guest_recv(g, &hdr, NULL);
	ck_assert_uint_eq(hdr.op, OP(REQUEST));
	ck_assert_uint_eq(hdr.dst_port, port);
	ck_assert_uint_gt(hdr.buf_alloc, 0);
	l.host_port = hdr.src_port;
	return l;
}

static inline struct link open_client(struct vsock_guest *g, uint32_t port)
{
	struct link l = begin_client(g, port);
	char line[32] = {0}, want[32];

	say(g, OP(RESPONSE), &l);
	int n = snprintf(want, sizeof(want), "OK %u\n", l.host_port);
	vsock_host_read(l.fd, line, (size_t)n);
	ck_assert_str_eq(line, want);
	return l;
}

/* A guest's request, which has come to the daemon. */
static inline uint64_t begin_guest(struct vsock_guest *g, const struct link *l)
{
	uint64_t token;
	uint32_t port;

	say(g, OP(REQUEST), l);
	ck_assert(vsock_next_connect(g->dev, &token, &port));
	ck_assert_uint_eq(port, l->host_port);
	return token;
}

/* A connection of the guest's. */
static inline struct link open_guest(
	struct vsock_guest *g, uint32_t host_port, uint32_t guest_port)
{
	struct link l = {host_port, guest_port, -1};
	struct virtio_vsock_hdr hdr;
	uint64_t token = begin_guest(g, &l);
	int pair[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	l.fd = pair[0];
	vsock_connected(g->dev, token, pair[1]);
	hear(g, OP(RESPONSE), &l, &hdr);
	return l;
}
