#include "virtio/vsock_queue.h"

#include "virtio/vsock_pkt.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* As many as can be out, and one to take the next into and find it is one too
 * many. */
#define MAX_CHAINS (VIRTQ_MAX + 1)

int vsock_queue_init(struct vsock_queue *q, struct virtq *vq, struct error *err)
{
	*q = (struct vsock_queue){.vq = vq};
	q->all = calloc(MAX_CHAINS, sizeof(*q->all));
	return q->all ? 0 : error_errno(err, ENOMEM, "vsock's queues");
}

void vsock_queue_fini(struct vsock_queue *q)
{
	free(q->all);
}

void vsock_queue_reset(struct vsock_queue *q)
{
	assert(q->n_taken == 0);
	q->free = NULL;
	q->spare = NULL;
	q->n_used = 0;
}

int vsock_queue_take(struct vsock_queue *q, struct vsock_chain **ret)
{
	struct vsock_chain *c = q->spare;
	int r;

	if (c) {
		q->spare = c->next;
	} else {
		c = q->free;
		if (c)
			q->free = c->next;
		else
			c = &q->all[q->n_used++];
		r = virtq_pop(q->vq, &c->chain);
		if (r != 1) {
			c->next = q->free;
			q->free = c;
			return r;
		}
	}
	c->next = NULL;
	q->n_taken++;
	*ret = c;
	return 1;
}

void vsock_queue_push(
	struct vsock_queue *q, struct vsock_chain *c, uint32_t written_bytes)
{
	virtq_push(q->vq, c->chain.head, written_bytes);
	q->n_taken--;
	c->next = q->free;
	q->free = c;
}

void vsock_queue_keep(struct vsock_queue *q, struct vsock_chain *c)
{
	q->n_taken--;
	c->next = q->spare;
	q->spare = c;
}

void vsock_chain_payload(
	struct vsock_chain *c, const struct iovs *side, uint32_t len)
{
	int n = iovs_slice(side, VSOCK_HDR_BYTES, len, c->data, VIRTQ_MAX);

	assert(n >= 0);
	c->n_data = (unsigned)n;
	c->len = len;
	c->done = 0;
}

struct iovs vsock_chain_view(const struct vsock_chain *c)
{
	return (struct iovs){c->data, c->n_data, c->len};
}
