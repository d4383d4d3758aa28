/*
 * virtio-mem requests in any order, with the size that the host asks for
 * changed in between, on a host that refuses slots now and then. The input: 12
 * bytes an action: what (request, new size, refusals), the request's type, its
 * address (in half blocks from just below the region, or raw) and its length.
 * After each of them all accounts must agree.
 */

#include "tests/fuzz/fuzz.h"
#include "virtio/memdev_req.h"

#include <errno.h>
#include <linux/virtio_mem.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
#define GPA (4096 * MIB)
#define BLOCK (2 * MIB)
#define SLOT (32 * MIB)
#define SLOTS 5u
#define REGION (SLOTS * SLOT)
#define ACTION_BYTES ((size_t)12)

static struct gmem mem;
static bool there[SLOTS];
static uint8_t refuse; /* a bit for each slot that cannot be made */

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int set_slot(void *arg, unsigned slot, bool set)
{
	check(arg == there && slot < SLOTS && there[slot] != set);
	if (refuse >> slot & 1)
		return -ENOMEM;
	there[slot] = set;
	return 0;
}

static void check_accounts(const struct memplug *p)
{
	uint64_t plugged = 0;

	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		bool any = false;

		for (uint64_t off = 0; off < SLOT; off += BLOCK) {
			uint64_t at = slot * SLOT + off;
			bool is = gmem_blocks_are(&mem, at, BLOCK, true);

			check(is == !gmem_blocks_are(&mem, at, BLOCK, false));
			check(is ==
				(gmem_range(&mem, GPA + at, BLOCK) != NULL));
			check(!is || at < p->usable);
			any |= is;
			plugged += is ? BLOCK : 0;
		}
		/* A slot that could not be taken out may be there still. */
		check(!any || there[slot]);
	}
	check(plugged == p->plugged);
	check(p->usable <= REGION && p->usable % SLOT == 0);
	check(p->usable >= p->requested);
}

static void ask(struct memplug *p, const struct virtio_mem_req *req)
{
	uint64_t before = p->plugged, len = req->u.plug.nb_blocks * BLOCK;
	struct virtio_mem_resp resp = {.type = 0xffff};
	unsigned steps = 0;
	bool done = memplug_begin(p, req, &resp);

	while (!done) {
		done = memplug_step(p, &resp);
		check(++steps <= 2 * SLOTS + 2);
	}
	check(resp.type <= VIRTIO_MEM_RESP_ERROR);
	if (req->type == VIRTIO_MEM_REQ_PLUG)
		check(p->plugged == (resp.type ? before : before + len));
	else if (req->type == VIRTIO_MEM_REQ_UNPLUG)
		check(p->plugged == (resp.type ? before : before - len));
	else if (req->type == VIRTIO_MEM_REQ_UNPLUG_ALL)
		check(resp.type == VIRTIO_MEM_RESP_ACK && p->plugged == 0);
	else
		check(p->plugged == before);
	if (req->type == VIRTIO_MEM_REQ_PLUG && !resp.type)
		check(p->plugged <= p->requested);
}

static void act(struct memplug *p, const uint8_t *in)
{
	struct virtio_mem_req req = {0};
	uint64_t addr;

	memcpy(&addr, in + 2, sizeof(addr));
	if (in[0] & 1)
		addr = GPA - BLOCK + addr % 256 * (BLOCK / 2);
	switch (in[0] >> 1 & 7) {
	case 0:
		memplug_request(p, addr % (REGION / BLOCK + 1) * BLOCK);
		break;
	case 1:
		refuse = in[1];
		break;
	default:
		req.type = in[0] & 0x80 ? (uint16_t)(in[1] << 8) : in[1] % 5;
		req.u.plug.addr = addr;
		memcpy(&req.u.plug.nb_blocks, in + 10, 2);
		ask(p, &req);
		break;
	}
	check_accounts(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memplug p = {.mem = &mem,
		.slot_bytes = SLOT,
		.set_slot = set_slot,
		.arg = there};
	struct error err;

	if (!mem.hotplug.len)
		check(gmem_add_hotplug(&mem, GPA, REGION, BLOCK, &err) == 0);
	gmem_set_blocks(&mem, 0, REGION, false);
	memset(there, 0, sizeof(there));
	refuse = 0;
	check(memplug_init(&p, 2 * SLOT) == 0);
	for (; size >= ACTION_BYTES; size -= ACTION_BYTES, data += ACTION_BYTES)
		act(&p, data);
	memplug_fini(&p);
	return 0;
}

static void put(
	uint8_t **at, uint8_t what, uint8_t type, uint64_t where, uint16_t n)
{
	(*at)[0] = what;
	(*at)[1] = type;
	memcpy(*at + 2, &where, sizeof(where));
	memcpy(*at + 10, &n, sizeof(n));
	*at += ACTION_BYTES;
}

/* Actions 5 are requests, 1 new sizes, 3 refusals; block n is 2n + 2. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	uint8_t *at = buf;

	if (n > 3 || cap < 8 * ACTION_BYTES)
		return 0;
	put(&at, 5, VIRTIO_MEM_REQ_PLUG, 2, n == 0 ? 1 : 20);
	put(&at, 5, VIRTIO_MEM_REQ_STATE, 2, 3);
	if (n == 2)
		put(&at, 3, 0x0f, 0, 0);
	put(&at, 5, VIRTIO_MEM_REQ_PLUG, 2 + 2 * 22, 10);
	if (n == 3) {
		put(&at, 0, 0, 10, 0);
		put(&at, 5, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	}
	put(&at, 5, VIRTIO_MEM_REQ_UNPLUG, 2 + 2 * 10, 7);
	put(&at, 5, VIRTIO_MEM_REQ_PLUG, 2 + 2 * 10, 7);
	put(&at, 4, VIRTIO_MEM_REQ_PLUG, UINT64_MAX - BLOCK + 1, 2);
	return (size_t)(at - buf);
}
