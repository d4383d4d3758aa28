#include "base/clock.h"
#include "base/counter.h"
#include "net/net_dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * The metadata service on this interface: the frames a guest sends to it do not
 * get to the tap, and its own come in like any other packet. Neither counts for
 * the rate limiters.
 */

/* When the guest has no buffer for a frame: how often to look again, and for
 * how long. What is lost then, the service sends again. */
#define RETRY_NS 10000000u
#define RETRIES 100u

#define FRAME_BYTES (NET_HDR_BYTES + MMDS_FRAME_MAX)

/* Where the destination's address is in an IPv4 header without options, as in
 * one with. */
#define IPV4_DESTINATION (NET_HDR_BYTES + ETH_HLEN + 16)

/* What is worth showing the service: ARP, and packets to a link-local address
 * (169.254.0.0/16, where it has to be). */
static bool concerns(const struct iovs *packet)
{
	uint16_t type;
	uint8_t net[2];

	if (iovs_read(packet, NET_HDR_BYTES + offsetof(struct ethhdr, h_proto),
		    &type, sizeof(type)) < 0)
		return false;
	if (type == htons(ETH_P_ARP))
		return true;
	return type == htons(ETH_P_IP) &&
	       iovs_read(packet, IPV4_DESTINATION, net, sizeof(net)) == 0 &&
	       net[0] == 169 && net[1] == 254;
}

bool net_mmds_input(struct net *n, const struct iovs *packet)
{
	uint8_t flags;

	if (!n->port || !concerns(packet))
		return false;
	if (iovs_read(packet, offsetof(struct virtio_net_hdr_v1, flags), &flags,
		    sizeof(flags)) < 0 ||
		!mmds_port_input(n->port, packet, NET_HDR_BYTES,
			packet->len - NET_HDR_BYTES,
			flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return false;
	counter_add(&n->config.stats->mmds_tx_packets, 1);
	n->port_marked = true;
	n->port_tries = 0;
	net_settle_later(n);
	return true;
}

/* One frame of the service to the guest: 1, 0 when there is none, -ENOBUFS. */
static int output(struct net *n)
{
	uint8_t frame[FRAME_BYTES] = {0};
	struct net_rx_read *r = n->local;
	struct iovs packet;
	size_t len;

	if (!net_rx_take_buffers(&n->rx[0], r, FRAME_BYTES, VIRTQ_MAX) ||
		r->room < FRAME_BYTES) {
		net_rx_untake(r);
		return -ENOBUFS;
	}
	len = mmds_port_output(n->port, frame + NET_HDR_BYTES);
	if (len == 0) {
		net_rx_untake(r);
		return 0;
	}
	packet = (struct iovs){r->iov, r->n_iov, r->room};
	iovs_write(&packet, 0, frame, NET_HDR_BYTES + len);
	net_rx_hand_over(n, r, NET_HDR_BYTES + len);
	counter_add(&n->config.stats->mmds_rx_packets, 1);
	return 1;
}

static void on_timer(struct worker_op *op, int32_t res)
{
	struct net *n =
		(struct net *)((char *)op - offsetof(struct net, port_timer));

	(void)res;
	n->port_marked = true;
	net_settle_later(n);
	net_end(n);
}

void net_mmds_serve(struct net *n)
{
	unsigned budget = n->vqs[0].size;
	uint64_t deadline;
	int r = 1;

	if (!n->port || !n->port_marked)
		return;
	n->port_marked = false;
	worker_cancel(n->worker, &n->port_timer);
	while (r > 0 && budget--)
		r = output(n);
	if (r > 0) {
		n->port_marked = true;
		net_settle_later(n);
	} else if (r == -ENOBUFS && n->port_tries++ < RETRIES) {
		net_wait(n, &n->port_timer, clock_ns() + RETRY_NS);
	} else if (r == 0) {
		deadline = mmds_port_deadline(n->port);
		n->port_tries = 0;
		if (deadline != UINT64_MAX)
			net_wait(n, &n->port_timer, deadline);
	}
}

int net_mmds_init(struct net *n, struct error *err)
{
	if (!n->config.mmds)
		return 0;
	n->port_timer.done = on_timer;
	n->local = calloc(1, sizeof(*n->local));
	if (!n->local)
		return error_errno(err, ENOMEM, "virtio-net");
	return mmds_port_create(&n->port, n->config.mmds, err);
}

void net_mmds_fini(struct net *n)
{
	if (n->port)
		mmds_port_destroy(n->port);
	free(n->local);
}

void net_mmds_start(struct net *n)
{
	n->port_marked = false;
	n->port_tries = 0;
	if (n->port)
		mmds_port_reset(n->port);
}

void net_mmds_stop(struct net *n)
{
	worker_cancel(n->worker, &n->port_timer);
}
