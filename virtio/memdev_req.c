#include "virtio/memdev_req.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BITS 64u

/* What one step works on: to give so much back takes the host milliseconds. */
#define STEP_BYTES (128ull << 20)

static const struct gmem_hotplug *region(const struct memplug *p)
{
	return &p->mem->hotplug;
}

/* The slots that so much memory needs, in bytes. */
static uint64_t whole_slots(const struct memplug *p, uint64_t bytes)
{
	return (bytes + p->slot_bytes - 1) / p->slot_bytes * p->slot_bytes;
}

int memplug_init(struct memplug *p, uint64_t requested)
{
	uint64_t n = region(p)->len / p->slot_bytes;

	p->requested = requested;
	p->usable = whole_slots(p, requested);
	p->plugged = 0;
	p->slots = calloc((n + BITS - 1) / BITS, sizeof(p->slots[0]));
	return p->slots ? 0 : -ENOMEM;
}

void memplug_fini(struct memplug *p)
{
	free(p->slots);
}

/*
 * The usable region is no larger than the request needs, so that a guest cannot
 * spread a few blocks over many slots and reach all that lies between. It grows
 * here and shrinks with UNPLUG_ALL alone (virtio 1.2 §5.15.6).
 */
void memplug_request(struct memplug *p, uint64_t bytes)
{
	uint64_t usable = whole_slots(p, bytes);

	p->requested = bytes;
	if (usable > p->usable)
		p->usable = usable;
}

/* ---- what is asked ---- */

static bool answer(struct virtio_mem_resp *ret, uint16_t type)
{
	*ret = (struct virtio_mem_resp){.type = type};
	return true;
}

/* A range of blocks in the usable region, which all requests but one name in
 * the same way. */
static bool find(const struct memplug *p, const struct virtio_mem_req *req,
	uint64_t *ret_off, uint64_t *ret_len)
{
	const struct gmem_hotplug *h = region(p);
	/* Below the region it wraps around to more than its length. */
	uint64_t off = req->u.plug.addr - h->gpa;
	uint64_t n = req->u.plug.nb_blocks;

	if (n == 0 || off % h->block_bytes || off >= p->usable ||
		n > (p->usable - off) / h->block_bytes)
		return false;
	*ret_off = off;
	*ret_len = n * h->block_bytes;
	return true;
}

static bool begin(struct memplug *p, bool plug, uint64_t off, uint64_t len)
{
	p->plug = plug;
	p->all = false;
	p->begin = p->at = off;
	p->end = off + len;
	p->answer = VIRTIO_MEM_RESP_ACK;
	return false;
}

static bool tell_state(const struct memplug *p, uint64_t off, uint64_t len,
	struct virtio_mem_resp *ret)
{
	answer(ret, VIRTIO_MEM_RESP_ACK);
	if (gmem_blocks_are(p->mem, off, len, true))
		ret->u.state.state = VIRTIO_MEM_STATE_PLUGGED;
	else if (gmem_blocks_are(p->mem, off, len, false))
		ret->u.state.state = VIRTIO_MEM_STATE_UNPLUGGED;
	else
		ret->u.state.state = VIRTIO_MEM_STATE_MIXED;
	return true;
}

bool memplug_begin(struct memplug *p, const struct virtio_mem_req *req,
	struct virtio_mem_resp *ret)
{
	uint64_t off, len;

	if (req->type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
		begin(p, false, 0, p->usable);
		p->all = true;
		return false;
	}
	if (req->type > VIRTIO_MEM_REQ_STATE || !find(p, req, &off, &len))
		return answer(ret, VIRTIO_MEM_RESP_ERROR);
	switch (req->type) {
	case VIRTIO_MEM_REQ_PLUG:
		if (!gmem_blocks_are(p->mem, off, len, false))
			return answer(ret, VIRTIO_MEM_RESP_ERROR);
		if (p->plugged > p->requested ||
			len > p->requested - p->plugged)
			return answer(ret, VIRTIO_MEM_RESP_NACK);
		return begin(p, true, off, len);
	case VIRTIO_MEM_REQ_UNPLUG:
		if (!gmem_blocks_are(p->mem, off, len, true))
			return answer(ret, VIRTIO_MEM_RESP_ERROR);
		return begin(p, false, off, len);
	default:
		return tell_state(p, off, len, ret);
	}
}

/* ---- doing it ---- */

static bool slot_there(const struct memplug *p, uint64_t slot)
{
	return p->slots[slot / BITS] >> slot % BITS & 1;
}

static int set_slot(struct memplug *p, uint64_t slot, bool there)
{
	int r;

	if (slot_there(p, slot) == there)
		return 0;
	r = p->set_slot(p->arg, (unsigned)slot, there);
	if (r == 0)
		p->slots[slot / BITS] ^= 1ull << slot % BITS;
	return r;
}

static int plug(struct memplug *p, uint64_t off, uint64_t len)
{
	int r = set_slot(p, off / p->slot_bytes, true);

	if (r < 0)
		return r;
	gmem_set_blocks(p->mem, off, len, true);
	p->plugged += len;
	return 0;
}

/* A block that is there; its neighbours in the slot may stay. Devices lose it
 * first, then the guest, then the host gets it back. A slot that cannot be
 * taken out stays until its memory is unplugged the next time. */
static void unplug(struct memplug *p, uint64_t off, uint64_t len)
{
	uint64_t slot = off / p->slot_bytes;

	gmem_set_blocks(p->mem, off, len, false);
	p->plugged -= len;
	if (gmem_blocks_are(p->mem, slot * p->slot_bytes, p->slot_bytes, false))
		(void)set_slot(p, slot, false);
	if (!p->mem->huge)
		madvise(region(p)->hva + off, len, MADV_DONTNEED);
}

/* What of [off, off + len) is there, in pieces as large as they come. */
static void unplug_pieces(struct memplug *p, uint64_t off, uint64_t len)
{
	uint64_t block = region(p)->block_bytes, end = off + len, n;

	for (; off < end; off += n) {
		n = block;
		if (!gmem_blocks_are(p->mem, off, n, true))
			continue;
		while (off + n < end &&
			gmem_blocks_are(p->mem, off + n, block, true))
			n += block;
		unplug(p, off, n);
	}
}

static uint64_t left_of_slot(const struct memplug *p)
{
	return p->slot_bytes - p->at % p->slot_bytes;
}

/* On to a slot with something in it, for UNPLUG_ALL. */
static void skip_empty(struct memplug *p)
{
	while (p->at < p->end &&
		gmem_blocks_are(p->mem, p->at, left_of_slot(p), false))
		p->at += left_of_slot(p);
}

/* The next part: blocks of one slot. */
static uint64_t next_part(const struct memplug *p)
{
	uint64_t most = region(p)->block_bytes, n = left_of_slot(p);

	if (most < STEP_BYTES)
		most = STEP_BYTES;
	if (n > most)
		n = most;
	return n < p->end - p->at ? n : p->end - p->at;
}

/* The host has no memory for it: what was plugged of the request goes again,
 * and the driver may try later (virtio 1.2 §5.15.6.1). */
static void give_up(struct memplug *p)
{
	p->plug = false;
	p->end = p->at;
	p->at = p->begin;
	p->answer = VIRTIO_MEM_RESP_BUSY;
}

bool memplug_step(struct memplug *p, struct virtio_mem_resp *ret)
{
	uint64_t n = next_part(p);

	if (p->plug && plug(p, p->at, n) < 0) {
		give_up(p);
	} else {
		if (!p->plug)
			unplug_pieces(p, p->at, n);
		p->at += n;
	}
	if (p->all)
		skip_empty(p);
	if (p->at < p->end)
		return false;
	if (p->all)
		p->usable = whole_slots(p, p->requested);
	return answer(ret, p->answer);
}
