/*
 * The split virtqueue against a driver that does anything. The input's first
 * two bytes choose size and features; then come commands of 4 bytes: code,
 * value, 16-bit place. Whatever is popped must lie in guest memory and within
 * its bounds, and a broken queue stays broken.
 */

#include "virtio/virtq.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define RAM_GPA 0x10000ull
#define RAM_BYTES 0x8000u
#define DESC_OFF 0x0u
#define AVAIL_OFF 0x1000u
#define USED_OFF 0x1800u
#define INDIRECT_OFF 0x2800u
#define DATA_OFF 0x4000u

enum command {
	CMD_WRITE8, /* one byte anywhere */
	CMD_DESC,   /* a good descriptor: place is its number */
	CMD_FLAGS,  /* of a descriptor, in the ring or the indirect table */
	CMD_NEXT,
	CMD_OFFER, /* place: head */
	CMD_POP,
	CMD_PUSH,
	CMD_KICKS,
	CMD_INTERRUPT,
	CMD_CODES
};

static struct {
	struct gmem mem;
	uint8_t *ram;
	struct virtq q;
	struct virtq_chain chain;
	uint16_t out[VIRTQ_MAX]; /* popped, not pushed */
	unsigned n_out;
} f;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_side(const struct iovs *s)
{
	size_t sum = 0;

	for (unsigned i = 0; i < s->n; i++) {
		uint8_t *at = s->v[i].iov_base;
		size_t len = s->v[i].iov_len;

		check(len > 0 && at >= f.ram && len <= RAM_BYTES);
		check(at + len <= f.ram + RAM_BYTES);
		sum += len;
	}
	check(sum == s->len && sum <= UINT32_MAX);
}

static void pop(void)
{
	bool was_broken = f.q.broken;
	int r = virtq_pop(&f.q, &f.chain);

	check(f.q.broken == (r == -EPROTO));
	check(!was_broken || r == -EPROTO);
	if (r != 1)
		return;
	check(f.chain.head < f.q.size && f.n_out < f.q.size);
	check(f.chain.rd.n + f.chain.wr.n > 0);
	check(f.chain.rd.n + f.chain.wr.n <= VIRTQ_MAX);
	check(f.chain.rd.v == f.chain.iov);
	check(f.chain.wr.v == f.chain.iov + f.chain.rd.n);
	check_side(&f.chain.rd);
	check_side(&f.chain.wr);
	f.out[f.n_out++] = f.chain.head;
}

static void push(uint8_t value)
{
	uint16_t before = f.q.used_next, head;

	if (f.n_out == 0)
		return;
	head = f.out[value % f.n_out];
	f.out[value % f.n_out] = f.out[f.n_out - 1];
	f.n_out--;
	virtq_push(&f.q, head, value);
	check(f.q.used_next == (uint16_t)(before + 1));
	check(f.q.pending == f.n_out);
}

static struct vring_desc *descriptor(uint16_t place)
{
	size_t off = place & 0x8000 ? INDIRECT_OFF : DESC_OFF;

	return (struct vring_desc *)(void *)(f.ram + off) + place % VIRTQ_MAX;
}

static void offer(uint16_t head)
{
	struct vring_avail *avail = (void *)(f.ram + AVAIL_OFF);

	avail->ring[avail->idx % f.q.size] = head;
	avail->idx++;
}

static void run(uint8_t code, uint8_t value, uint16_t place)
{
	switch ((enum command)(code % CMD_CODES)) {
	case CMD_WRITE8:
		f.ram[place % RAM_BYTES] = value;
		break;
	case CMD_DESC:
		*descriptor(place) = (struct vring_desc){
			.addr = RAM_GPA +
				(value & 4 ? INDIRECT_OFF : DATA_OFF + place),
			.len = 16u * (1u + value / 8),
			.flags = value & 7,
			.next = (uint16_t)(place % VIRTQ_MAX + 1)};
		break;
	case CMD_FLAGS:
		descriptor(place)->flags = value;
		break;
	case CMD_NEXT:
		descriptor(place)->next = value;
		break;
	case CMD_OFFER:
		offer(place);
		break;
	case CMD_POP:
		pop();
		break;
	case CMD_PUSH:
		push(value);
		break;
	case CMD_KICKS:
		virtq_disable_kicks(&f.q);
		if (virtq_enable_kicks(&f.q))
			pop();
		break;
	case CMD_INTERRUPT:
		virtq_should_interrupt(&f.q);
		check(!virtq_should_interrupt(&f.q));
		break;
	case CMD_CODES:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	memset(&f, 0, sizeof(f));
	/* On the heap: what is beyond it is noticed. */
	f.ram = calloc(1, RAM_BYTES);
	check(f.ram && gmem_add(&f.mem, RAM_GPA, f.ram, RAM_BYTES) == 0);
	f.q = (struct virtq){.size_max = VIRTQ_MAX,
		.size = (uint16_t)(1u << (data[0] % 9)),
		.desc_gpa = RAM_GPA + DESC_OFF,
		.avail_gpa = RAM_GPA + AVAIL_OFF,
		.used_gpa = RAM_GPA + USED_OFF};
	check(virtq_activate(&f.q, &f.mem,
		      (uint64_t)data[1] << VIRTIO_RING_F_INDIRECT_DESC) == 0);
	for (size_t i = 2; i + 4 <= size; i += 4)
		run(data[i], data[i + 1],
			(uint16_t)(data[i + 2] | data[i + 3] << 8));
	while (f.n_out > 0)
		push(0);
	free(f.ram);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	/* A chain of three, and one whose second piece is a table of two. */
	static const uint8_t program[] = {CMD_DESC, 0x9, 0, 0, CMD_DESC, 0x43,
		1, 0, CMD_DESC, 0x2, 2, 0, CMD_OFFER, 0, 0, 0, CMD_POP, 0, 0, 0,
		CMD_DESC, 0x1, 3, 0, CMD_DESC, 0xc, 4, 0, CMD_DESC, 0x9, 0,
		0x80, CMD_DESC, 0x2, 1, 0x80, CMD_OFFER, 0, 3, 0, CMD_POP, 0, 0,
		0, CMD_PUSH, 1, 0, 0, CMD_INTERRUPT, 0, 0, 0, CMD_KICKS, 0, 0,
		0, CMD_PUSH, 0, 0, 0, CMD_OFFER, 0, 0, 0, CMD_KICKS, 0, 0, 0,
		CMD_INTERRUPT, 0, 0, 0};
	static const uint8_t sizes[] = {3, 8, 0};

	if (n >= sizeof(sizes) || cap < 2 + sizeof(program))
		return 0;
	buf[0] = sizes[n];
	buf[1] = n == 1 ? 1 : 3; /* indirect, and mostly event indexes */
	memcpy(buf + 2, program, sizeof(program));
	return 2 + sizeof(program);
}
