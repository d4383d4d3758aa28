#include "driver.h"
#include "virtio/virtq.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE 8u
#define DATA DRIVER_DATA_GPA
#define INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

static struct driver d;
static struct virtq q;
static struct virtq_chain chain;

static void setup_with(uint16_t size, uint64_t features)
{
	q = (struct virtq){.size_max = VIRTQ_MAX,
		.size = size,
		.ready = true,
		.desc_gpa = DRIVER_DESC_GPA,
		.avail_gpa = DRIVER_AVAIL_GPA,
		.used_gpa = DRIVER_USED_GPA};
	driver_init(&d, size);
	ck_assert_int_eq(virtq_activate(&q, &d.mem, features), 0);
}

static void setup(void)
{
	setup_with(SIZE, INDIRECT);
}

static void setup_event_idx(void)
{
	setup_with(SIZE, EVENT_IDX);
}

static void teardown(void)
{
	driver_fini(&d);
}

/* Activation */

static const struct {
	uint64_t size, desc, avail, used;
	int want;
} layouts[] = {
	{8, 0, 0, 0, 0},
	{1, 0, 0, 0, 0},
	{VIRTQ_MAX, 0, 0, 0, 0},
	{0, 0, 0, 0, -EINVAL},
	{3, 0, 0, 0, -EINVAL},
	{6, 0, 0, 0, -EINVAL},
	{VIRTQ_MAX - 1, 0, 0, 0, -EINVAL},
	{VIRTQ_MAX * 2ull, 0, 0, 0, -EINVAL},
	{0x8000, 0, 0, 0, -EINVAL},
	{8, DRIVER_DESC_GPA + 8, 0, 0, -EINVAL},
	{8, DRIVER_DESC_GPA + 1, 0, 0, -EINVAL},
	{8, 0, DRIVER_AVAIL_GPA + 1, 0, -EINVAL},
	{8, 0, DRIVER_AVAIL_GPA + 2, 0, 0},
	{8, 0, 0, DRIVER_USED_GPA + 2, -EINVAL},
	{8, 0, 0, DRIVER_USED_GPA + 1, -EINVAL},
	{8, 0, 0, DRIVER_USED_GPA + 4, 0},
	/* The end of memory, and one step beyond it, event fields included. */
	{8, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 128, 0, 0, 0},
	{8, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 112, 0, 0, -EINVAL},
	{8, 0, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 22, 0, 0},
	{8, 0, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 20, 0, -EINVAL},
	{8, 0, 0, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 72, 0},
	{8, 0, 0, DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 68, -EINVAL},
	{8, DRIVER_RAM_GPA - 16, 0, 0, -EINVAL},
	{8, UINT64_MAX - 15, 0, 0, -EINVAL},
	{8, 0, UINT64_MAX - 1, 0, -EINVAL},
	{8, 0, 0, UINT64_MAX - 3, -EINVAL},
};

START_TEST(activate_checks_size_alignment_and_memory)
{
	struct virtq v = {
		.size_max = VIRTQ_MAX, .size = (uint16_t)layouts[_i].size};

	v.desc_gpa = layouts[_i].desc ? layouts[_i].desc : DRIVER_DESC_GPA;
	v.avail_gpa = layouts[_i].avail ? layouts[_i].avail : DRIVER_AVAIL_GPA;
	v.used_gpa = layouts[_i].used ? layouts[_i].used : DRIVER_USED_GPA;
	ck_assert_int_eq(
		virtq_activate(&v, &d.mem, INDIRECT), layouts[_i].want);
}
END_TEST

START_TEST(activate_keeps_to_the_queues_own_maximum)
{
	struct virtq v = q;

	v.size_max = 4;
	v.size = 8;
	ck_assert_int_eq(virtq_activate(&v, &d.mem, 0), -EINVAL);
	v.size = 4;
	ck_assert_int_eq(virtq_activate(&v, &d.mem, 0), 0);
}
END_TEST

START_TEST(reset_forgets_all_but_the_maximum)
{
	q.avail_next = 3;
	q.broken = true;
	virtq_reset(&q);
	ck_assert_uint_eq(q.size_max, VIRTQ_MAX);
	ck_assert_uint_eq(q.size, 0);
	ck_assert(!q.ready);
	ck_assert(!q.broken);
	ck_assert_uint_eq(q.desc_gpa, 0);
	ck_assert_uint_eq(q.avail_next, 0);
}
END_TEST

/* Good chains */

START_TEST(an_empty_ring_gives_nothing)
{
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
	ck_assert_uint_eq(q.pending, 0);
}
END_TEST

START_TEST(a_chain_has_its_pieces_in_order_by_direction)
{
	driver_chain(&d, 2,
		(struct driver_piece[]){{DATA, 16, false},
			{DATA + 0x100, 5, false}, {DATA + 0x200, 512, true},
			{DATA + 0x400, 1, true}, {0}});
	driver_offer(&d, 2);
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.head, 2);
	ck_assert_uint_eq(chain.rd.n, 2);
	ck_assert_uint_eq(chain.rd.len, 21);
	ck_assert_ptr_eq(chain.rd.v[0].iov_base, driver_ptr(&d, DATA));
	ck_assert_uint_eq(chain.rd.v[0].iov_len, 16);
	ck_assert_ptr_eq(chain.rd.v[1].iov_base, driver_ptr(&d, DATA + 0x100));
	ck_assert_uint_eq(chain.rd.v[1].iov_len, 5);
	ck_assert_uint_eq(chain.wr.n, 2);
	ck_assert_uint_eq(chain.wr.len, 513);
	ck_assert_ptr_eq(chain.wr.v[0].iov_base, driver_ptr(&d, DATA + 0x200));
	ck_assert_ptr_eq(chain.wr.v[1].iov_base, driver_ptr(&d, DATA + 0x400));
	ck_assert_uint_eq(q.pending, 1);
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
}
END_TEST

/* Where the table is not even aligned: nothing says it has to be. */
START_TEST(an_indirect_table_is_followed)
{
	uint8_t *odd = driver_ptr(&d, DATA + 0x1001);

	driver_chain_indirect(&d, 7,
		(struct driver_piece[]){{DATA, 16, false},
			{DATA + 0x200, 512, true}, {DATA + 0x400, 1, true},
			{0}});
	/* The flag means nothing on the descriptor of a table (§2.7.5.3.2). */
	d.desc[7].flags |= W;
	driver_offer(&d, 7);
	memcpy(odd, d.indirect, 3 * sizeof(struct vring_desc));
	d.desc[6] = d.desc[7];
	d.desc[6].addr = DATA + 0x1001;
	driver_offer(&d, 6);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(virtq_pop(&q, &chain), 1);
		ck_assert_uint_eq(chain.head, 7 - i);
		ck_assert_uint_eq(chain.rd.n, 1);
		ck_assert_uint_eq(chain.rd.len, 16);
		ck_assert_uint_eq(chain.wr.n, 2);
		ck_assert_uint_eq(chain.wr.len, 513);
	}
}
END_TEST

START_TEST(an_indirect_table_may_end_a_chain)
{
	driver_chain_indirect(&d, 1,
		(struct driver_piece[]){
			{DATA, 3, false}, {DATA + 0x200, 4, true}, {0}});
	d.desc[0] = (struct vring_desc){DATA + 0x100, 2, N, 1};
	driver_offer(&d, 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.rd.n, 2);
	ck_assert_uint_eq(chain.rd.len, 5);
	ck_assert_uint_eq(chain.wr.len, 4);
}
END_TEST

START_TEST(the_ring_wraps_around_and_so_do_its_indexes)
{
	uint32_t id, len, wrong = 0;

	for (uint32_t i = 0; i < 70000; i++) {
		uint16_t head = (uint16_t)(i % SIZE);
		uint64_t gpa = DATA + i % 4096;

		driver_chain(
			&d, head, (struct driver_piece[]){{gpa, 1, true}, {0}});
		driver_offer(&d, head);
		wrong += virtq_pop(&q, &chain) != 1 || chain.head != head ||
			 chain.wr.v[0].iov_base != driver_ptr(&d, gpa);
		virtq_push(&q, chain.head, i);
		wrong += !driver_used(&d, &id, &len) || id != head || len != i;
		wrong += driver_used(&d, &id, &len);
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(d.used->idx, (uint16_t)70000);
	/* Nothing was written behind the ring's last entry. */
	ck_assert_uint_eq(*driver_avail_event(&d), 0);
	ck_assert_uint_eq(((uint32_t *)&d.used->ring[SIZE])[1], 0);
}
END_TEST

START_TEST(all_of_the_ring_can_be_out)
{
	uint32_t id, len;

	for (uint16_t i = 0; i < SIZE; i++) {
		driver_chain(
			&d, i, (struct driver_piece[]){{DATA, 1, true}, {0}});
		driver_offer(&d, i);
	}
	for (unsigned i = 0; i < SIZE; i++)
		ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
	/* Back in another order than they came. */
	for (uint16_t i = SIZE; i > 0; i--) {
		virtq_push(&q, i - 1, 0);
		ck_assert(driver_used(&d, &id, &len));
		ck_assert_uint_eq(id, i - 1);
	}
	ck_assert_uint_eq(q.pending, 0);
}
END_TEST

/* The longest there is, and one more, in a table which is long enough. */
static void lay_long_table(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		d.indirect[i] = (struct vring_desc){
			DATA, 1, i + 1 < n ? N : 0, (uint16_t)(i + 1)};
	/* A table may be longer than the chain in it. */
	d.desc[0] = (struct vring_desc){
		DRIVER_INDIRECT_GPA, 1000 * sizeof(struct vring_desc), I, 0};
	driver_offer(&d, 0);
}

START_TEST(the_longest_chain_is_taken)
{
	lay_long_table(VIRTQ_MAX);
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.rd.n, VIRTQ_MAX);
}
END_TEST

START_TEST(a_longer_chain_breaks_the_queue)
{
	struct {
		struct virtq_chain c;
		struct iovec after;
	} box = {.after = {.iov_len = 7}};

	lay_long_table(VIRTQ_MAX + 1);
	ck_assert_int_eq(virtq_pop(&q, &box.c), -EPROTO);
	ck_assert_uint_eq(box.after.iov_len, 7);
}
END_TEST

/*
 * Bad chains. Whatever a check is about has a decoy where the device would look
 * without it: a valid descriptor behind the ring's table or the indirect one,
 * valid memory beside the buffer. Head: descriptor 0, unless said.
 */
static const struct bad {
	const char *what;
	struct vring_desc ring[4], table[4];
	uint16_t head;
	uint64_t features;
} bad_chains[] = {
	{"head behind the table", {{0}}, {{0}}, SIZE, INDIRECT},
	{"head far behind the table", {{0}}, {{0}}, 0x1ff, INDIRECT},
	{"next behind the table", {{DATA, 1, N, SIZE}}, {{0}}, 0, INDIRECT},
	{"a loop of one", {{DATA, 1, N, 0}}, {{0}}, 0, INDIRECT},
	{"a loop", {{DATA, 1, N, 1}, {DATA, 1, N, 0}}, {{0}}, 0, INDIRECT},
	{"an empty piece", {{DATA, 0, 0, 0}}, {{0}}, 0, INDIRECT},
	{"memory before the first region", {{0x1000, 1, 0, 0}}, {{0}}, 0,
		INDIRECT},
	{"memory over the end",
		{{DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 1, 2, 0, 0}}, {{0}}, 0,
		INDIRECT},
	{"memory at the end of all", {{UINT64_MAX, 1, 0, 0}}, {{0}}, 0,
		INDIRECT},
	{"memory around the end of all", {{UINT64_MAX - 7, UINT32_MAX, 0, 0}},
		{{0}}, 0, INDIRECT},
	{"readable after writable", {{DATA, 1, N | W, 1}, {DATA, 1, 0, 0}},
		{{0}}, 0, INDIRECT},
	{"indirect, not negotiated", {{DRIVER_INDIRECT_GPA, 16, I, 0}},
		{{DATA, 1, 0, 0}}, 0, 0},
	{"indirect and next",
		{{DRIVER_INDIRECT_GPA, 16, I | N, 1}, {DATA, 1, 0, 0}},
		{{DATA, 1, 0, 0}}, 0, INDIRECT},
	{"indirect in indirect", {{DRIVER_INDIRECT_GPA, 32, I, 0}},
		{{DRIVER_INDIRECT_GPA + 16, 16, I, 0}, {DATA, 1, 0, 0}}, 0,
		INDIRECT},
	{"the ring as its own indirect table", {{DRIVER_DESC_GPA, 16, I, 0}},
		{{0}}, 0, INDIRECT},
	{"indirect table of no whole descriptors",
		{{DRIVER_INDIRECT_GPA, 17, I, 0}}, {{DATA, 1, 0, 0}}, 0,
		INDIRECT},
	{"indirect table smaller than a descriptor",
		{{DRIVER_INDIRECT_GPA, 15, I, 0}}, {{DATA, 1, 0, 0}}, 0,
		INDIRECT},
	{"empty indirect table", {{DRIVER_INDIRECT_GPA, 0, I, 0}},
		{{DATA, 1, 0, 0}}, 0, INDIRECT},
	{"indirect table nowhere", {{0x1000, 16, I, 0}}, {{0}}, 0, INDIRECT},
	{"indirect table over the end",
		{{DRIVER_RAM_GPA + DRIVER_RAM_BYTES - 16, 32, I, 0}}, {{0}}, 0,
		INDIRECT},
	{"next behind the indirect table", {{DRIVER_INDIRECT_GPA, 16, I, 0}},
		{{DATA, 1, N, 1}, {DATA, 1, 0, 0}}, 0, INDIRECT},
	{"a loop in the indirect table", {{DRIVER_INDIRECT_GPA, 32, I, 0}},
		{{DATA, 1, N, 1}, {DATA, 1, N, 0}}, 0, INDIRECT},
	{"readable after writable, in a table",
		{{DATA, 1, N | W, 1}, {DRIVER_INDIRECT_GPA, 16, I, 0}},
		{{DATA, 1, 0, 0}}, 0, INDIRECT},
};

START_TEST(a_bad_chain_breaks_the_queue_and_nothing_else)
{
	const struct bad *b = &bad_chains[_i];
	struct driver_piece ok[] = {{DATA, 1, true}, {0}};
	uint8_t before[64];

	setup_with(SIZE, b->features);
	for (unsigned i = 0; i < 4; i++) {
		d.desc[i] = b->ring[i];
		d.indirect[i] = b->table[i];
	}
	/* The decoys. */
	for (uint16_t i = SIZE; i < 0x200; i++)
		driver_chain(&d, i, ok);
	memcpy(before, d.used, sizeof(before));
	driver_offer(&d, b->head);
	ck_assert_msg(virtq_pop(&q, &chain) == -EPROTO, "%s", b->what);
	ck_assert(q.broken);
	ck_assert_uint_eq(q.pending, 0);
	/* It stays broken, whatever the driver mends. */
	driver_chain(&d, 0, ok);
	d.avail->ring[0] = 0;
	driver_offer(&d, 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
	ck_assert_mem_eq(before, d.used, sizeof(before));
	teardown();
}
END_TEST

START_TEST(too_many_offered_at_once_break_the_queue)
{
	struct driver_piece ok[] = {{DATA, 1, true}, {0}};

	for (uint16_t i = 0; i < SIZE; i++)
		driver_chain(&d, i, ok);
	d.avail->idx = (uint16_t)(SIZE + (_i ? 1 : 0));
	ck_assert_int_eq(virtq_pop(&q, &chain), _i ? -EPROTO : 1);
	ck_assert(q.broken == (_i == 1));
}
END_TEST

START_TEST(an_index_that_goes_back_breaks_the_queue)
{
	driver_chain(&d, 0, (struct driver_piece[]){{DATA, 1, true}, {0}});
	driver_offer(&d, 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	d.avail->idx = 0;
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
}
END_TEST

START_TEST(more_out_than_the_ring_holds_breaks_the_queue)
{
	driver_chain(&d, 0, (struct driver_piece[]){{DATA, 1, true}, {0}});
	for (unsigned i = 0; i < SIZE; i++) {
		driver_offer(&d, 0);
		ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	}
	driver_offer(&d, 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
	ck_assert_uint_eq(q.pending, SIZE);
}
END_TEST

/* What was taken before the queue broke can still be given back. */
START_TEST(a_broken_queue_takes_back_what_is_out)
{
	uint32_t id, len;

	driver_chain(&d, 3, (struct driver_piece[]){{DATA, 1, true}, {0}});
	driver_offer(&d, 3);
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	driver_offer(&d, SIZE);
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
	virtq_push(&q, 3, 1);
	ck_assert(driver_used(&d, &id, &len));
	ck_assert_uint_eq(id, 3);
	ck_assert(!virtq_enable_kicks(&q));
}
END_TEST

/* Giving back unused, and showing several at once */

/* Single buffers at descriptors 0 to n - 1, offered; told apart by length. */
static void offer_some(uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		struct driver_piece p[] = {{DATA, i + 1u, true}, {0}};

		driver_chain(&d, i, p);
		driver_offer(&d, i);
	}
}

static void check_pop(unsigned head)
{
	ck_assert_int_eq(virtq_pop(&q, &chain), 1);
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.wr.n, 1);
	ck_assert_uint_eq(chain.wr.len, head + 1);
}

START_TEST(what_is_given_back_is_popped_again_in_its_order)
{
	offer_some(4);
	for (unsigned i = 0; i < 3; i++)
		check_pop(i);
	virtq_unpop(&q, 2);
	virtq_unpop(&q, 1);
	ck_assert_uint_eq(q.pending, 1);
	for (unsigned i = 1; i < 4; i++)
		check_pop(i);
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
	ck_assert_uint_eq(q.pending, 4);
}
END_TEST

START_TEST(what_is_given_back_is_looked_at_anew)
{
	offer_some(1);
	check_pop(0);
	virtq_unpop(&q, 0);
	d.desc[0].addr = DRIVER_RAM_GPA + DRIVER_RAM_BYTES;
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
	ck_assert(q.broken);
}
END_TEST

START_TEST(all_of_the_ring_can_be_given_back)
{
	offer_some(SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		check_pop(i);
	for (uint16_t i = SIZE; i-- > 0;)
		virtq_unpop(&q, i);
	ck_assert_uint_eq(q.pending, 0);
	for (unsigned i = 0; i < SIZE; i++)
		check_pop(i);
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
}
END_TEST

/* An index that ran away is noticed whatever is left from before. */
START_TEST(what_is_given_back_hides_no_bad_index)
{
	offer_some(1);
	check_pop(0);
	virtq_unpop(&q, 0);
	d.avail->idx = (uint16_t)(1 + SIZE + 1);
	ck_assert_int_eq(virtq_pop(&q, &chain), -EPROTO);
}
END_TEST

START_TEST(a_chain_that_was_given_back_waits_for_no_kick)
{
	offer_some(1);
	check_pop(0);
	ck_assert(!virtq_enable_kicks(&q));
	virtq_unpop(&q, 0);
	ck_assert(virtq_enable_kicks(&q));
}
END_TEST

START_TEST(reset_and_activation_forget_what_was_given_back)
{
	offer_some(1);
	check_pop(0);
	virtq_unpop(&q, 0);
	d.avail->idx = 0;
	ck_assert_int_eq(virtq_activate(&q, &d.mem, 0), 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), 0);
}
END_TEST

START_TEST(what_is_filled_in_is_seen_once_published)
{
	uint32_t id, len;

	offer_some(3);
	for (unsigned i = 0; i < 3; i++) {
		check_pop(i);
		virtq_fill(&q, (uint16_t)i, 10 + i);
	}
	ck_assert_uint_eq(q.pending, 0);
	ck_assert(!driver_used(&d, &id, &len));
	virtq_publish(&q);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert(driver_used(&d, &id, &len));
		ck_assert_uint_eq(id, i);
		ck_assert_uint_eq(len, 10 + i);
	}
	ck_assert(virtq_should_interrupt(&q));
}
END_TEST

/* The same piece of a big region, again and again: no memory is touched. */
START_TEST(the_sum_of_a_chain_fits_32_bits)
{
	uint64_t gpa = 1ull << 32, gib = 1 << 30;
	void *big = mmap(NULL, gib, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint32_t last = (uint32_t)gib - (_i ? 0 : 1);

	ck_assert_ptr_ne(big, MAP_FAILED);
	ck_assert_int_eq(gmem_add(&d.mem, gpa, big, gib), 0);
	driver_chain(&d, 0,
		(struct driver_piece[]){{gpa, 1 << 30, false},
			{gpa, 1 << 30, false}, {gpa, 1 << 30, true},
			{gpa, last, true}, {0}});
	driver_offer(&d, 0);
	ck_assert_int_eq(virtq_pop(&q, &chain), _i ? -EPROTO : 1);
	munmap(big, gib);
}
END_TEST

/* Interrupts and kicks */

static void push_some(unsigned n)
{
	bool ok = true;

	driver_chain(&d, 0, (struct driver_piece[]){{DATA, 1, true}, {0}});
	while (n-- > 0) {
		driver_offer(&d, 0);
		ok = ok && virtq_pop(&q, &chain) == 1;
		virtq_push(&q, 0, 0);
	}
	if (!ok)
		ck_abort_msg("nothing to pop");
}

START_TEST(without_event_idx_the_flag_decides)
{
	/* The decoy: as an event index this would say the contrary. */
	*driver_used_event(&d) = 1;
	ck_assert(!virtq_should_interrupt(&q));
	push_some(1);
	ck_assert(virtq_should_interrupt(&q));
	ck_assert(!virtq_should_interrupt(&q));
	*driver_used_event(&d) = 1;
	d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_some(1);
	ck_assert(!virtq_should_interrupt(&q));
	d.avail->flags = 0;
	ck_assert(!virtq_should_interrupt(&q));
	push_some(3);
	ck_assert(virtq_should_interrupt(&q));
}
END_TEST

START_TEST(with_event_idx_the_index_decides)
{
	d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing then */
	*driver_used_event(&d) = 2;
	push_some(1);
	ck_assert(!virtq_should_interrupt(&q)); /* entry 0 */
	push_some(1);
	ck_assert(!virtq_should_interrupt(&q)); /* entry 1 */
	push_some(1);
	ck_assert(virtq_should_interrupt(&q)); /* entry 2 */
	ck_assert(!virtq_should_interrupt(&q));
	push_some(1);
	ck_assert(!virtq_should_interrupt(&q)); /* entry 3: 2 was told */
	*driver_used_event(&d) = 6;
	push_some(8); /* 4 .. 11 */
	ck_assert(virtq_should_interrupt(&q));
	*driver_used_event(&d) = 12;
	push_some(1);
	ck_assert(virtq_should_interrupt(&q));
	*driver_used_event(&d) = 12;
	push_some(1);
	ck_assert(!virtq_should_interrupt(&q));
}
END_TEST

/* A driver that polls for ever and then wants to sleep is not forgotten, also
 * where the indexes wrap. */
START_TEST(with_event_idx_no_interrupt_is_lost_at_the_wrap)
{
	unsigned wrong = 0;

	*driver_used_event(&d) = 65534;
	for (unsigned i = 0; i < 65536; i++) {
		push_some(1);
		wrong += virtq_should_interrupt(&q) != (i == 65534);
	}
	*driver_used_event(&d) = 0;
	push_some(1);
	ck_assert(virtq_should_interrupt(&q));
	for (unsigned i = 0; i < 9000; i++) {
		*driver_used_event(&d) = q.used_next;
		push_some(1 + i % 5);
		wrong += !virtq_should_interrupt(&q);
	}
	ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(kicks_are_suppressed_by_the_flag)
{
	virtq_disable_kicks(&q);
	ck_assert_uint_eq(d.used->flags, VRING_USED_F_NO_NOTIFY);
	ck_assert(!virtq_enable_kicks(&q));
	ck_assert_uint_eq(d.used->flags, 0);
	driver_chain(&d, 0, (struct driver_piece[]){{DATA, 1, true}, {0}});
	driver_offer(&d, 0);
	ck_assert(virtq_enable_kicks(&q));
	ck_assert_uint_eq(*driver_avail_event(&d), 0);
}
END_TEST

START_TEST(kicks_are_asked_for_by_the_index)
{
	virtq_disable_kicks(&q);
	ck_assert_uint_eq(d.used->flags, 0);
	push_some(3);
	ck_assert_uint_eq(*driver_avail_event(&d), 0);
	ck_assert(!virtq_enable_kicks(&q));
	ck_assert_uint_eq(*driver_avail_event(&d), 3);
	ck_assert_uint_eq(d.used->flags, 0);
	driver_offer(&d, 0);
	ck_assert(virtq_enable_kicks(&q));
}
END_TEST

/* Without the feature there are no tables; the other way round as well. */
START_TEST(features_are_those_that_were_acked)
{
	setup_with(SIZE, 0);
	ck_assert(!q.indirect && !q.event_idx);
	teardown();
	setup_with(SIZE, INDIRECT | (1ull << VIRTIO_F_VERSION_1));
	ck_assert(q.indirect && !q.event_idx);
	teardown();
	setup_with(SIZE, EVENT_IDX);
	ck_assert(!q.indirect && q.event_idx);
	teardown();
}
END_TEST

static TCase *return_case(void)
{
	TCase *t = tcase_create("return");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_given_back_is_popped_again_in_its_order);
	tcase_add_test(t, what_is_given_back_is_looked_at_anew);
	tcase_add_test(t, all_of_the_ring_can_be_given_back);
	tcase_add_test(t, what_is_given_back_hides_no_bad_index);
	tcase_add_test(t, a_chain_that_was_given_back_waits_for_no_kick);
	tcase_add_test(t, reset_and_activation_forget_what_was_given_back);
	tcase_add_test(t, what_is_filled_in_is_seen_once_published);
	return t;
}

static TCase *chains_case(void)
{
	TCase *t = tcase_create("chains");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_empty_ring_gives_nothing);
	tcase_add_test(t, a_chain_has_its_pieces_in_order_by_direction);
	tcase_add_test(t, an_indirect_table_is_followed);
	tcase_add_test(t, an_indirect_table_may_end_a_chain);
	tcase_add_test(t, the_ring_wraps_around_and_so_do_its_indexes);
	tcase_add_test(t, all_of_the_ring_can_be_out);
	tcase_add_test(t, the_longest_chain_is_taken);
	tcase_add_test(t, a_longer_chain_breaks_the_queue);
	tcase_add_loop_test(t, too_many_offered_at_once_break_the_queue, 0, 2);
	tcase_add_test(t, an_index_that_goes_back_breaks_the_queue);
	tcase_add_test(t, more_out_than_the_ring_holds_breaks_the_queue);
	tcase_add_test(t, a_broken_queue_takes_back_what_is_out);
	tcase_add_loop_test(t, the_sum_of_a_chain_fits_32_bits, 0, 2);
	return t;
}

int main(void)
{
	Suite *s = suite_create("virtq");
	TCase *activate = tcase_create("activate"), *bad = tcase_create("bad");
	TCase *flag = tcase_create("flag"), *idx = tcase_create("event_idx");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(activate, setup, teardown);
	tcase_add_loop_test(activate, activate_checks_size_alignment_and_memory,
		0, sizeof(layouts) / sizeof(layouts[0]));
	tcase_add_test(activate, activate_keeps_to_the_queues_own_maximum);
	tcase_add_test(activate, reset_forgets_all_but_the_maximum);
	tcase_add_loop_test(bad, a_bad_chain_breaks_the_queue_and_nothing_else,
		0, sizeof(bad_chains) / sizeof(bad_chains[0]));
	tcase_add_test(bad, features_are_those_that_were_acked);
	tcase_add_checked_fixture(flag, setup, teardown);
	tcase_add_test(flag, without_event_idx_the_flag_decides);
	tcase_add_test(flag, kicks_are_suppressed_by_the_flag);
	tcase_add_checked_fixture(idx, setup_event_idx, teardown);
	tcase_add_test(idx, with_event_idx_the_index_decides);
	tcase_add_test(idx, with_event_idx_no_interrupt_is_lost_at_the_wrap);
	tcase_add_test(idx, kicks_are_asked_for_by_the_index);
	suite_add_tcase(s, activate);
	suite_add_tcase(s, chains_case());
	suite_add_tcase(s, return_case());
	suite_add_tcase(s, bad);
	suite_add_tcase(s, flag);
	suite_add_tcase(s, idx);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
