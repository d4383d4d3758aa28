#pragma once

/*
 * The chains of one of vsock's queues which are out of their ring: each has a
 * header's room at its beginning and payload behind it.
 */

#include "virtio/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most payload that one chain brings or takes: like what Linux sends. */
#define VSOCK_CHAIN_BYTES (64u << 10)

struct vsock_chain {
	struct virtq_chain chain;
	struct vsock_chain *next; /* in whatever list it is */
	uint32_t len;             /* of the payload, or the room for it */
	uint32_t done;            /* of it: what is through already */
	unsigned n_data;
	struct iovec data[VIRTQ_MAX]; /* its pieces; others' may follow them */
};

struct vsock_queue {
	struct virtq *vq;
	struct vsock_chain *all, *free;
	unsigned n_used;  /* of all: memory nobody needed stays untouched */
	unsigned n_taken; /* out of their ring */
	/* Taken from the ring, and in the end there was nothing for them. */
	struct vsock_chain *spare;
};

int vsock_queue_init(
	struct vsock_queue *q, struct virtq *vq, struct error *err);
void vsock_queue_fini(struct vsock_queue *q);
/* Forgets all chains: the driver has reset the device. */
void vsock_queue_reset(struct vsock_queue *q);

/* The next chain, a spare one first: 1, 0 (none), -EPROTO. Its payload is not
 * known yet. */
int vsock_queue_take(struct vsock_queue *q, struct vsock_chain **ret);
void vsock_queue_push(
	struct vsock_queue *q, struct vsock_chain *c, uint32_t written_bytes);
void vsock_queue_keep(struct vsock_queue *q, struct vsock_chain *c);

/* Finds len bytes of payload behind the header in a side of the chain, which
 * has them. */
void vsock_chain_payload(
	struct vsock_chain *c, const struct iovs *side, uint32_t len);
/* Their pieces. */
struct iovs vsock_chain_view(const struct vsock_chain *c);
