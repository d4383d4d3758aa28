#include "virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

/* Rings are little-endian (virtio 1.2 §2.7), and so are we. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte order");

/*
 * Reads of one ring field each; what was read is in host hands from then on.
 * Alignment was checked by virtq_activate().
 */
static uint16_t load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/* Pairs with the driver's barrier between filling the available ring (and
 * descriptors) and publishing its index (§2.7.13). */
static uint16_t avail_idx(const struct virtq *q)
{
	const struct vring_avail *avail = q->avail;

	return __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
}

/* Driver's hint, behind the available ring (§2.7.7). */
static uint16_t used_event(const struct virtq *q)
{
	const struct vring_avail *avail = q->avail;

	return load(&avail->ring[q->size]);
}

/* Ours, behind the used ring (§2.7.10). */
static uint16_t *avail_event(struct virtq *q)
{
	struct vring_used *used = q->used;

	return (uint16_t *)&used->ring[q->size];
}

static int protocol_error(struct virtq *q)
{
	q->broken = true;
	return -EPROTO;
}

int virtq_activate(struct virtq *q, const struct gmem *mem, uint64_t features)
{
	uint64_t n = q->size;

	/* 0 is refused as well: there is no memory for no descriptors. */
	if ((n & (n - 1)) || n > q->size_max)
		return -EINVAL;
	if (q->desc_gpa % VRING_DESC_ALIGN_SIZE ||
		q->avail_gpa % VRING_AVAIL_ALIGN_SIZE ||
		q->used_gpa % VRING_USED_ALIGN_SIZE)
		return -EINVAL;
	/* Both event fields belong to the areas, negotiated or not (§2.7). */
	q->desc = gmem_range(mem, q->desc_gpa, n * sizeof(struct vring_desc));
	q->avail = gmem_range(mem, q->avail_gpa,
		sizeof(struct vring_avail) + (n + 1) * sizeof(uint16_t));
	q->used = gmem_range(mem, q->used_gpa,
		sizeof(struct vring_used) + n * sizeof(struct vring_used_elem) +
			sizeof(uint16_t));
	if (!q->desc || !q->avail || !q->used)
		return -EINVAL;
	q->mem = mem;
	q->event_idx = features & (1ull << VIRTIO_RING_F_EVENT_IDX);
	q->indirect = features & (1ull << VIRTIO_RING_F_INDIRECT_DESC);
	q->n_returned = 0;
	q->avail_next = 0;
	q->used_next = 0;
	q->signalled = 0;
	q->pending = 0;
	q->broken = false;
	return 0;
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){.size_max = q->size_max};
}

/*
 * One descriptor, in two loads. Volatile and not atomic because nothing says
 * that an indirect table is aligned; once is what counts.
 */
static struct vring_desc load_desc(const void *table, uint32_t i)
{
	typedef uint64_t word __attribute__((aligned(1)));
	const volatile word *p = (const volatile word *)table + 2 * (size_t)i;
	uint64_t w[2] = {p[0], p[1]};
	struct vring_desc d;

	memcpy(&d, w, sizeof(d));
	return d;
}

static int add_piece(const struct virtq *q, struct virtq_chain *c,
	const struct vring_desc *d)
{
	struct iovs *side = &c->rd;
	unsigned n = c->rd.n + c->wr.n;
	void *hva;

	/* A chain that loops ends here, too. */
	if (n == VIRTQ_MAX)
		return -EPROTO;
	hva = gmem_range(q->mem, d->addr, d->len);
	if (!hva)
		return -EPROTO;
	/* The used ring tells of 32 bits' worth (§2.7.8). */
	if (c->rd.len + c->wr.len + d->len > UINT32_MAX)
		return -EPROTO;
	if (d->flags & VRING_DESC_F_WRITE)
		side = &c->wr;
	else if (c->wr.n > 0)
		return -EPROTO;
	c->iov[n] = (struct iovec){hva, d->len};
	side->n++;
	side->len += d->len;
	return 0;
}

/* Follows the chain which begins at entry i of the ring's table, and may end in
 * an indirect one (virtio 1.2 §2.7.5.3). */
static int walk(const struct virtq *q, uint32_t i, struct virtq_chain *c)
{
	const void *table = q->desc;
	uint32_t n_entries = q->size;
	bool nested = false;
	struct vring_desc d;
	int r;

	for (;;) {
		if (i >= n_entries)
			return -EPROTO;
		d = load_desc(table, i);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!q->indirect || nested)
				return -EPROTO;
			if (d.flags & VRING_DESC_F_NEXT)
				return -EPROTO;
			if (d.len % sizeof(d))
				return -EPROTO;
			table = gmem_range(q->mem, d.addr, d.len);
			if (!table)
				return -EPROTO;
			n_entries = d.len / sizeof(d);
			nested = true;
			i = 0;
			continue;
		}
		r = add_piece(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/* The next head that is there: 1, 0, -EPROTO. */
static int next_head(struct virtq *q, uint16_t *ret)
{
	const struct vring_avail *avail = q->avail;
	uint16_t n = avail_idx(q) - q->avail_next;

	/* More than the ring holds: the index went backwards, or ran away. */
	if (n > q->size)
		return -EPROTO;
	if (q->n_returned > 0) {
		*ret = q->returned[q->n_returned - 1];
		return 1;
	}
	if (n == 0)
		return 0;
	/* As many as there are descriptors are out: some is offered twice. */
	if (q->pending == q->size)
		return -EPROTO;
	*ret = load(&avail->ring[q->avail_next & (q->size - 1)]);
	return 1;
}

int virtq_pop(struct virtq *q, struct virtq_chain *ret)
{
	int r;

	if (q->broken)
		return -EPROTO;
	r = next_head(q, &ret->head);
	if (r == 0)
		return 0;
	ret->rd = (struct iovs){0};
	ret->wr = (struct iovs){0};
	if (r != 1 || walk(q, ret->head, ret) < 0)
		return protocol_error(q);
	ret->rd.v = ret->iov;
	ret->wr.v = ret->iov + ret->rd.n;
	if (q->n_returned > 0)
		q->n_returned--;
	else
		q->avail_next++;
	q->pending++;
	return 1;
}

void virtq_unpop(struct virtq *q, uint16_t head)
{
	assert(q->pending > 0);
	q->pending--;
	q->returned[q->n_returned++] = head;
}

void virtq_fill(struct virtq *q, uint16_t head, uint32_t written_bytes)
{
	struct vring_used *used = q->used;
	struct vring_used_elem *e = &used->ring[q->used_next & (q->size - 1)];

	assert(q->pending > 0);
	q->pending--;
	__atomic_store_n(&e->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&e->len, written_bytes, __ATOMIC_RELAXED);
	q->used_next++;
}

void virtq_publish(struct virtq *q)
{
	struct vring_used *used = q->used;

	/* Pairs with the driver's barrier between its reads of the used index
	 * and of the entry, and of the data behind it. */
	__atomic_store_n(&used->idx, q->used_next, __ATOMIC_RELEASE);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written_bytes)
{
	virtq_fill(q, head, written_bytes);
	virtq_publish(q);
}

bool virtq_should_interrupt(struct virtq *q)
{
	const struct vring_avail *avail = q->avail;
	uint16_t pushed = q->used_next - q->signalled;

	if (pushed == 0)
		return false;
	q->signalled = q->used_next;
	/* The used index before the driver's hint: the driver writes its hint
	 * and then looks at the index, so one of us sees the other. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(load(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	/* Whether entry number used_event is among those pushed (§2.7.7.2). */
	return (uint16_t)(q->used_next - used_event(q) - 1) < pushed;
}

void virtq_disable_kicks(struct virtq *q)
{
	struct vring_used *used = q->used;

	/* With EVENT_IDX an event index left behind is as good. */
	if (!q->event_idx)
		store(&used->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtq_enable_kicks(struct virtq *q)
{
	struct vring_used *used = q->used;

	if (q->event_idx)
		store(avail_event(q), q->avail_next);
	else
		store(&used->flags, 0);
	/* Our hint before the driver's index: see virtq_should_interrupt(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->broken)
		return false;
	return q->n_returned > 0 || avail_idx(q) != q->avail_next;
}
