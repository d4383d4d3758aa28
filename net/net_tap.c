#include "base/clock.h"
#include "base/counter.h"
#include "net/net_dev.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>

/*
 * What the tap is at: which offloads it does for us, whether it is up, whether
 * it is there at all.
 */

#define BIT(n) (1ull << (n))

/* TUNSETOFFLOAD takes the kernel's one lock for all network devices: a guest
 * gets it a few times a second, not as often as it can reset itself. */
#define OFFLOADS_INTERVAL_NS 20000000u

static unsigned tun_flags(uint64_t features)
{
	unsigned flags = 0;

	/* Nothing without checksums (virtio 1.2 §5.1.3.1). */
	if (!(features & BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return 0;
	if (features & BIT(VIRTIO_NET_F_GUEST_TSO4))
		flags |= TUN_F_TSO4;
	if (features & BIT(VIRTIO_NET_F_GUEST_TSO6))
		flags |= TUN_F_TSO6;
	if (flags && (features & BIT(VIRTIO_NET_F_GUEST_ECN)))
		flags |= TUN_F_TSO_ECN;
	return flags | TUN_F_CSUM;
}

bool net_tap_settled(const struct net *n)
{
	return n->tap_offloads == n->offloads;
}

static void tell_offloads(struct net *n)
{
	uint64_t now = clock_ns();

	if (net_tap_settled(n))
		return;
	if (now < n->offloads_ns) {
		net_wait(n, &n->offloads_timer, n->offloads_ns);
		return;
	}
	n->offloads_ns = now + OFFLOADS_INTERVAL_NS;
	n->tap_offloads = n->offloads;
	/* What it cannot do never was offered. */
	if (ioctl(n->config.tap_fds[0], TUNSETOFFLOAD, tun_flags(n->offloads)) <
		0)
		net_tap_failed(n, errno);
	net_mark_all(n);
}

static void on_offloads_timer(struct worker_op *op, int32_t res)
{
	struct net *n = (struct net *)((char *)op -
				       offsetof(struct net, offloads_timer));

	(void)res;
	if (n->running)
		tell_offloads(n);
	net_end(n);
}

void net_tap_set_offloads(struct net *n, uint64_t features)
{
	n->offloads = features & NET_GUEST_OFFLOADS;
	tell_offloads(n);
}

static void set_link(struct net *n, uint16_t status)
{
	if (n->space.status == status)
		return;
	n->dev.transport->config_update(&n->dev,
		offsetof(struct virtio_net_config, status), &status,
		sizeof(status));
}

/* A tap that is up can be written to: the kernel tells when that changes. */
static void watch_link(struct net *n)
{
	if (n->link_poll.state != WORKER_OP_IDLE)
		return;
	net_begin(n);
	worker_poll(n->worker, &n->link_poll, n->tx[0].file, POLLOUT);
}

static void link_changed(struct worker_op *op, int32_t res)
{
	struct net *n =
		(struct net *)((char *)op - offsetof(struct net, link_poll));

	if (n->running && res > 0) {
		if (res & (POLLERR | POLLNVAL))
			net_tap_failed(n, EBADFD);
		else
			set_link(n, VIRTIO_NET_S_LINK_UP);
	}
	net_end(n);
}

void net_tap_failed(struct net *n, int err)
{
	uint32_t suppressed;

	/* A driver that resets us has not been failed. */
	if (err == ECANCELED)
		return;
	counter_add(&n->config.stats->tap_errors, 1);
	if (err == EBADFD && !n->gone) {
		n->gone = true;
		set_link(n, 0);
	} else if (err == EIO && !n->gone) {
		/* It is down: it may come up again. */
		set_link(n, 0);
		watch_link(n);
	}
	if (n->config.on_error &&
		log_limit_ok(&n->error_limit, clock_ns(), &suppressed))
		n->config.on_error(n->config.arg, err);
}

void net_tap_init(struct net *n)
{
	n->tap_offloads = ~0ull; /* not told anything yet */
	n->offloads_timer.done = on_offloads_timer;
	n->link_poll.done = link_changed;
}

void net_tap_start(struct net *n)
{
	net_tap_set_offloads(n, n->dev.acked);
	if (!n->space.status && !n->gone)
		watch_link(n);
}

void net_tap_stop(struct net *n)
{
	worker_cancel(n->worker, &n->offloads_timer);
	worker_cancel(n->worker, &n->link_poll);
}
