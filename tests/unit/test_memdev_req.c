#include "virtio/memdev_req.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB (1ull << 20)
#define GPA (4096 * MIB)
#define BLOCK (2 * MIB)
#define SLOT (128 * MIB)
#define SLOTS 4
#define REGION (SLOTS * SLOT)
#define IN_SLOT (SLOT / BLOCK)

static struct gmem mem;
static struct memplug p;
static bool there[SLOTS];
static unsigned changes, max_changes;
static int fail_slot; /* which cannot be made; -1: all can */
static bool fail_removal;
static unsigned steps;

static int set_slot(void *arg, unsigned slot, bool set)
{
	ck_assert_ptr_eq(arg, &mem);
	ck_assert_uint_lt(slot, SLOTS);
	ck_assert(there[slot] != set);
	if (set ? (int)slot == fail_slot : fail_removal)
		return -ENOMEM;
	changes++;
	there[slot] = set;
	return 0;
}

static void setup(void)
{
	struct error err;

	memset(there, 0, sizeof(there));
	changes = max_changes = 0;
	fail_slot = -1;
	fail_removal = false;
	mem = (struct gmem){0};
	ck_assert_int_eq(gmem_add_hotplug(&mem, GPA, REGION, BLOCK, &err), 0);
	p = (struct memplug){.mem = &mem,
		.slot_bytes = SLOT,
		.set_slot = set_slot,
		.arg = &mem};
	ck_assert_int_eq(memplug_init(&p, REGION), 0);
}

static void teardown(void)
{
	memplug_fini(&p);
	gmem_destroy(&mem);
}

/* The answer to a request, all of its steps done. */
static struct virtio_mem_resp ask(uint16_t type, uint64_t addr, uint16_t n)
{
	struct virtio_mem_req req = {.type = type};
	struct virtio_mem_resp resp;
	bool done;

	memset(&resp, 0xff, sizeof(resp));
	req.u.plug.addr = addr;
	req.u.plug.nb_blocks = n;
	steps = 0;
	done = memplug_begin(&p, &req, &resp);
	while (!done) {
		unsigned before = changes;

		done = memplug_step(&p, &resp);
		steps++;
		if (changes - before > max_changes)
			max_changes = changes - before;
	}
	return resp;
}

static uint16_t plug(uint64_t block, uint16_t n)
{
	return ask(VIRTIO_MEM_REQ_PLUG, GPA + block * BLOCK, n).type;
}

static uint16_t unplug(uint64_t block, uint16_t n)
{
	return ask(VIRTIO_MEM_REQ_UNPLUG, GPA + block * BLOCK, n).type;
}

static uint16_t unplug_all(void)
{
	return ask(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0).type;
}

static bool is_there(uint64_t block, uint64_t n)
{
	return gmem_range(&mem, GPA + block * BLOCK, n * BLOCK) != NULL;
}

START_TEST(plugged_blocks_are_there_until_they_are_unplugged)
{
	ck_assert(!is_there(3, 1));
	ck_assert_uint_eq(plug(3, 2), VIRTIO_MEM_RESP_ACK);
	ck_assert(is_there(3, 2));
	ck_assert(!is_there(2, 1));
	ck_assert(!is_there(5, 1));
	ck_assert_uint_eq(p.plugged, 2 * BLOCK);
	ck_assert_uint_eq(unplug(3, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert(!is_there(3, 1));
	ck_assert(is_there(4, 1));
	ck_assert_uint_eq(p.plugged, BLOCK);
}
END_TEST

START_TEST(a_slot_is_there_from_its_first_block_to_its_last)
{
	plug(IN_SLOT + 1, 1);
	ck_assert(!there[0] && there[1] && !there[2]);
	plug(IN_SLOT + 7, 1);
	unplug(IN_SLOT + 1, 1);
	ck_assert(there[1]);
	unplug(IN_SLOT + 7, 1);
	ck_assert(!there[1]);
	ck_assert_uint_eq(changes, 2);
}
END_TEST

START_TEST(a_request_over_many_slots_goes_step_by_step)
{
	ck_assert_uint_eq(
		plug(IN_SLOT - 1, 2 * IN_SLOT + 2), VIRTIO_MEM_RESP_ACK);
	ck_assert(there[0] && there[1] && there[2] && there[3]);
	ck_assert_uint_eq(steps, 4);
	ck_assert_uint_eq(max_changes, 1);
	ck_assert(is_there(IN_SLOT - 1, 2 * IN_SLOT + 2));
	ck_assert_uint_eq(p.plugged, (2 * IN_SLOT + 2) * BLOCK);
	ck_assert_uint_eq(
		unplug(IN_SLOT - 1, 2 * IN_SLOT + 2), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(steps, 4);
	ck_assert_uint_eq(max_changes, 1);
	ck_assert(!there[0] && !there[1] && !there[2] && !there[3]);
	ck_assert_uint_eq(p.plugged, 0);
}
END_TEST

START_TEST(large_slots_take_steps_of_their_own)
{
	memplug_fini(&p);
	p.slot_bytes = REGION;
	ck_assert_int_eq(memplug_init(&p, REGION), 0);
	ck_assert_uint_eq(plug(0, REGION / BLOCK), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(steps, 4);
	ck_assert_uint_eq(changes, 1);
	ck_assert_uint_eq(unplug_all(), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(steps, 4);
	ck_assert_uint_eq(changes, 2);
	ck_assert(!there[0]);
}
END_TEST

START_TEST(unplugged_memory_returns_to_the_host_and_comes_back_empty)
{
	unsigned char in_core;
	uint8_t *at;

	plug(1, 2);
	at = gmem_range(&mem, GPA + BLOCK, 2 * BLOCK);
	memset(at, 0x5a, 2 * BLOCK);
	unplug(1, 1);
	ck_assert_int_eq(mincore(at, 4096, &in_core), 0);
	ck_assert_uint_eq(in_core & 1, 0);
	/* Its neighbour stays as it is, and who has a pointer still may. */
	ck_assert_uint_eq(at[BLOCK], 0x5a);
	ck_assert_uint_eq(at[0], 0);
	plug(1, 1);
	ck_assert_uint_eq(*at, 0);
}
END_TEST

START_TEST(huge_pages_stay)
{
	uint8_t *at;

	mem.huge = true; /* as far as it knows */
	plug(0, 1);
	at = gmem_range(&mem, GPA, BLOCK);
	*at = 0x5a;
	unplug(0, 1);
	ck_assert_uint_eq(*at, 0x5a);
	ck_assert(!is_there(0, 1));
}
END_TEST

static const struct {
	uint64_t addr;
	uint16_t n;
} nowhere[] = {
	{GPA, 0},
	{GPA + 1, 1},
	{GPA + BLOCK / 2, 1},
	{GPA - BLOCK, 1},
	{GPA - BLOCK, 2},
	{0, 1},
	{GPA + REGION, 1},
	{GPA + REGION - BLOCK, 2},
	{GPA + BLOCK, IN_SLOT *SLOTS},
	{GPA, UINT16_MAX},
	{UINT64_MAX & ~(BLOCK - 1), 1},
	{UINT64_MAX & ~(BLOCK - 1), 2},
	{UINT64_MAX, UINT16_MAX},
	{GPA + (1ull << 63), 1},
};

START_TEST(a_range_that_is_not_blocks_of_the_region_is_an_error)
{
	static const uint16_t types[] = {VIRTIO_MEM_REQ_PLUG,
		VIRTIO_MEM_REQ_UNPLUG, VIRTIO_MEM_REQ_STATE};

	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(
			ask(types[i], nowhere[_i].addr, nowhere[_i].n).type,
			VIRTIO_MEM_RESP_ERROR);
	plug(0, IN_SLOT * SLOTS);
	ck_assert_uint_eq(
		ask(VIRTIO_MEM_REQ_UNPLUG, nowhere[_i].addr, nowhere[_i].n)
			.type,
		VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(p.plugged, REGION);
}
END_TEST

/* 4097 blocks of 2^52 bytes are one block, if nobody looks. */
START_TEST(sizes_do_not_wrap_around)
{
	mem.hotplug.block_bytes = 1ull << 52;
	mem.hotplug.gpa = 0;
	mem.hotplug.len = p.usable = p.requested = p.slot_bytes = 1ull << 52;
	ck_assert_uint_eq(
		ask(VIRTIO_MEM_REQ_STATE, 0, 4097).type, VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(
		ask(VIRTIO_MEM_REQ_STATE, 0, 1).type, VIRTIO_MEM_RESP_ACK);
	mem.hotplug.len = REGION;
}
END_TEST

START_TEST(what_is_plugged_is_not_plugged_twice)
{
	plug(4, 2);
	ck_assert_uint_eq(plug(4, 2), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(plug(3, 2), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(plug(5, 2), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(p.plugged, 2 * BLOCK);
	ck_assert(!is_there(3, 1) && !is_there(6, 1));
}
END_TEST

START_TEST(what_is_not_plugged_is_not_unplugged)
{
	plug(4, 2);
	ck_assert_uint_eq(unplug(3, 2), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(unplug(5, 2), VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(unplug(9, 1), VIRTIO_MEM_RESP_ERROR);
	ck_assert(is_there(4, 2));
	ck_assert_uint_eq(p.plugged, 2 * BLOCK);
}
END_TEST

START_TEST(no_more_is_plugged_than_was_requested)
{
	memplug_request(&p, 4 * BLOCK);
	ck_assert_uint_eq(plug(0, 5), VIRTIO_MEM_RESP_NACK);
	ck_assert_uint_eq(plug(0, 3), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(plug(3, 2), VIRTIO_MEM_RESP_NACK);
	ck_assert_uint_eq(plug(3, 1), VIRTIO_MEM_RESP_ACK);
	/* Nor when more is there than is wanted any longer. */
	memplug_request(&p, BLOCK);
	ck_assert_uint_eq(plug(7, 1), VIRTIO_MEM_RESP_NACK);
	ck_assert_uint_eq(p.plugged, 4 * BLOCK);
}
END_TEST

START_TEST(the_usable_region_is_the_slots_that_were_requested)
{
	memplug_fini(&p);
	ck_assert_int_eq(memplug_init(&p, BLOCK), 0);
	ck_assert_uint_eq(p.usable, SLOT);
	ck_assert_uint_eq(plug(IN_SLOT, 1), VIRTIO_MEM_RESP_ERROR);
	memplug_request(&p, SLOT + BLOCK);
	ck_assert_uint_eq(p.usable, 2 * SLOT);
	ck_assert_uint_eq(plug(2 * IN_SLOT - 1, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(plug(2 * IN_SLOT, 1), VIRTIO_MEM_RESP_ERROR);
	/* It does not shrink under what is plugged, but with UNPLUG_ALL. */
	memplug_request(&p, 0);
	ck_assert_uint_eq(p.usable, 2 * SLOT);
	ck_assert_uint_eq(unplug(2 * IN_SLOT - 1, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(p.usable, 2 * SLOT);
	ck_assert_uint_eq(unplug_all(), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(p.usable, 0);
	/* When there is none left as well. */
	ck_assert_uint_eq(unplug_all(), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(plug(0, 1), VIRTIO_MEM_RESP_ERROR);
}
END_TEST

START_TEST(unplug_all_takes_what_is_there_and_skips_the_rest)
{
	plug(1, 1);
	plug(3, 5);
	plug(3 * IN_SLOT + 1, IN_SLOT - 1);
	ck_assert_uint_eq(unplug_all(), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(p.plugged, 0);
	ck_assert_uint_eq(steps, 2);
	ck_assert(!there[0] && !there[3]);
	ck_assert(gmem_blocks_are(&mem, 0, REGION, false));
	ck_assert_uint_eq(plug(1, 1), VIRTIO_MEM_RESP_ACK);
}
END_TEST

START_TEST(state_tells_plugged_unplugged_and_mixed)
{
	static const struct {
		uint64_t block;
		uint16_t n, state;
	} cases[] = {
		{0, 1, VIRTIO_MEM_STATE_UNPLUGGED},
		{62, 2, VIRTIO_MEM_STATE_UNPLUGGED},
		{64, 1, VIRTIO_MEM_STATE_PLUGGED},
		{64, 66, VIRTIO_MEM_STATE_PLUGGED},
		{63, 2, VIRTIO_MEM_STATE_MIXED},
		{129, 2, VIRTIO_MEM_STATE_MIXED},
		{0, 256, VIRTIO_MEM_STATE_MIXED},
		{130, 126, VIRTIO_MEM_STATE_UNPLUGGED},
	};

	plug(64, 66);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct virtio_mem_resp resp = ask(VIRTIO_MEM_REQ_STATE,
			GPA + cases[i].block * BLOCK, cases[i].n);

		ck_assert_uint_eq(resp.type, VIRTIO_MEM_RESP_ACK);
		ck_assert_uint_eq(resp.u.state.state, cases[i].state);
		ck_assert_uint_eq(steps, 0);
	}
}
END_TEST

START_TEST(an_unknown_request_is_an_error)
{
	ck_assert_uint_eq(ask(4, GPA, 1).type, VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(ask(UINT16_MAX, GPA, 1).type, VIRTIO_MEM_RESP_ERROR);
	ck_assert_uint_eq(p.plugged, 0);
}
END_TEST

START_TEST(a_plug_that_fails_half_way_leaves_nothing_plugged)
{
	plug(0, 1);
	fail_slot = 2;
	ck_assert_uint_eq(plug(1, 3 * IN_SLOT), VIRTIO_MEM_RESP_BUSY);
	ck_assert_uint_eq(p.plugged, BLOCK);
	ck_assert(there[0] && !there[1] && !there[2] && !there[3]);
	ck_assert(gmem_blocks_are(&mem, BLOCK, REGION - BLOCK, false));
	ck_assert(is_there(0, 1));
	fail_slot = -1;
	ck_assert_uint_eq(plug(1, 3 * IN_SLOT), VIRTIO_MEM_RESP_ACK);
}
END_TEST

START_TEST(a_plug_that_fails_at_once_changes_nothing)
{
	fail_slot = 0;
	ck_assert_uint_eq(plug(0, 1), VIRTIO_MEM_RESP_BUSY);
	ck_assert_uint_eq(p.plugged, 0);
	ck_assert(!is_there(0, 1));
}
END_TEST

START_TEST(a_slot_that_will_not_go_is_tried_again_the_next_time)
{
	plug(0, 1);
	fail_removal = true;
	ck_assert_uint_eq(unplug(0, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert(there[0]);
	ck_assert(!is_there(0, 1));
	ck_assert_uint_eq(p.plugged, 0);
	/* It is there already, which set_slot() must not be asked for. */
	fail_removal = false;
	ck_assert_uint_eq(plug(0, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(unplug(0, 1), VIRTIO_MEM_RESP_ACK);
	ck_assert(!there[0]);
}
END_TEST

#define N(a) (int)(sizeof(a) / sizeof((a)[0]))

int main(void)
{
	Suite *s = suite_create("memdev_req");
	TCase *t = tcase_create("requests");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, plugged_blocks_are_there_until_they_are_unplugged);
	tcase_add_test(t, a_slot_is_there_from_its_first_block_to_its_last);
	tcase_add_test(t, a_request_over_many_slots_goes_step_by_step);
	tcase_add_test(t, large_slots_take_steps_of_their_own);
	tcase_add_test(
		t, unplugged_memory_returns_to_the_host_and_comes_back_empty);
	tcase_add_test(t, huge_pages_stay);
	tcase_add_loop_test(t,
		a_range_that_is_not_blocks_of_the_region_is_an_error, 0,
		N(nowhere));
	tcase_add_test(t, sizes_do_not_wrap_around);
	tcase_add_test(t, what_is_plugged_is_not_plugged_twice);
	tcase_add_test(t, what_is_not_plugged_is_not_unplugged);
	tcase_add_test(t, no_more_is_plugged_than_was_requested);
	tcase_add_test(t, the_usable_region_is_the_slots_that_were_requested);
	tcase_add_test(t, unplug_all_takes_what_is_there_and_skips_the_rest);
	tcase_add_test(t, state_tells_plugged_unplugged_and_mixed);
	tcase_add_test(t, an_unknown_request_is_an_error);
	tcase_add_test(t, a_plug_that_fails_half_way_leaves_nothing_plugged);
	tcase_add_test(t, a_plug_that_fails_at_once_changes_nothing);
	tcase_add_test(t, a_slot_that_will_not_go_is_tried_again_the_next_time);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
