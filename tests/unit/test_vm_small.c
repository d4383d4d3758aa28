#include "tests/unit/fake_kvm.h"
#include "tests/unit/kernel_images.h"
#include "tests/unit/vm_start.h"
#include "virtio/vconsole.h"
#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REG_DEVICE_ID 0x08
#define REG_CONFIG 0x100

static struct vm vm;
static struct vm_start s;
static struct error err;

static void setup(void)
{
	fake_kvm_reset();
	ck_assert_int_eq(vm_init(&vm, 1234), 0);
	vm_start_make(&s, 1);
}

static void teardown(void)
{
	vm_start_destroy_vm(&vm);
	vm_start_free(&s);
}

static void create(void)
{
	ck_assert_msg(vm_start_create(&vm, &s, &err) == 0, "%s", err.msg);
}

static void create_all(void)
{
	s.msg.start.has_entropy = 1;
	s.msg.start.has_balloon = 1;
	s.msg.start.balloon.target_pages = 77;
	s.msg.start.balloon.stats_interval_s = 1;
	s.msg.start.console = VM_CONSOLE_VIRTIO;
	create();
}

static uint32_t device_reg(unsigned slot, uint64_t reg)
{
	uint32_t value = 0;

	bus_read(&vm.mmio, LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_STRIDE + reg,
		&value, 4);
	return value;
}

static int obey(const union msg *m)
{
	return vm_obey(&vm, m, NULL);
}

static int type(uint32_t len)
{
	union msg m = {.input = {.hdr = {MSG_CONSOLE_INPUT, 1}, .len = len}};

	return obey(&m);
}

static int resize(void)
{
	union msg m = {.size = {.hdr = {MSG_CONSOLE_SIZE, 1},
			       .columns = 100,
			       .rows = 50}};

	return obey(&m);
}

static int balloon(uint32_t what, uint32_t value)
{
	union msg m = {.balloon = {{MSG_BALLOON, 1}, what, value}};

	return obey(&m);
}

static void print(unsigned n)
{
	uint8_t v = '!';

	while (n--)
		bus_write(&vm.pio, LAYOUT_PORT_SERIAL, &v, 1);
}

START_TEST(the_guest_finds_them_behind_its_drives)
{
	static const uint32_t ids[] = {2, 4, 5, 3};

	create_all();
	ck_assert_uint_eq(vm.n_slots, 4);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(device_reg(i, REG_DEVICE_ID), ids[i]);
	ck_assert_ptr_eq(vm.slots[1].dev, vm.rng);
	ck_assert_ptr_eq(vm.slots[2].dev, vm.balloon);
	ck_assert_ptr_eq(vm.slots[3].dev, vm.vconsole);
}
END_TEST

START_TEST(what_is_not_configured_is_not_there)
{
	create();
	ck_assert_uint_eq(vm.n_slots, 1);
	ck_assert_int_eq(balloon(MSG_BALLOON_TARGET, 1), -ENOTSUP);
	ck_assert_int_eq(resize(), -ENOTSUP);
}
END_TEST

START_TEST(a_balloon_obeys)
{
	create_all();
	ck_assert_uint_eq(device_reg(2, REG_CONFIG), 77);
	ck_assert_int_eq(balloon(MSG_BALLOON_TARGET, 99), 0);
	ck_assert_uint_eq(device_reg(2, REG_CONFIG), 99);
	ck_assert_uint_eq(s.shared->balloon.target_pages, 99);
	ck_assert_int_eq(balloon(MSG_BALLOON_STATS_INTERVAL, 5), 0);
	ck_assert_int_eq(balloon(MSG_BALLOON_STATS_INTERVAL, 0), -EINVAL);
	/* Not configured; and if it were, no driver is there. */
	ck_assert_int_eq(balloon(MSG_BALLOON_HINTING_START, 1), -ENOTSUP);
	ck_assert_int_eq(balloon(MSG_BALLOON_HINTING_STOP, 0), -ENOTSUP);
	ck_assert_int_eq(balloon(MSG_BALLOON_WHATS, 0), -EINVAL);
}
END_TEST

START_TEST(a_hint_needs_a_driver)
{
	s.msg.start.balloon.hinting = 1;
	create_all();
	ck_assert_int_eq(balloon(MSG_BALLOON_HINTING_START, 1), -EAGAIN);
	ck_assert_int_eq(balloon(MSG_BALLOON_HINTING_STOP, 0), -EAGAIN);
}
END_TEST

START_TEST(input_goes_to_the_console_there_is)
{
	create();
	ck_assert_int_eq(type(4000), 0);
	ck_assert_uint_eq(vm.serial.input_n, 4000);
	ck_assert_int_eq(type(97), -ENOBUFS);
}
END_TEST

START_TEST(input_goes_to_hvc0_if_that_is_the_console)
{
	create_all();
	ck_assert_int_eq(type(4000), 0);
	ck_assert_uint_eq(vm.serial.input_n, 0);
	ck_assert_int_eq(type(97), -ENOBUFS);
	ck_assert_int_eq(type(96), 0);
}
END_TEST

START_TEST(a_console_has_its_size)
{
	create_all();
	ck_assert_int_eq(resize(), 0);
	ck_assert_uint_eq(device_reg(3, REG_CONFIG), 50u << 16 | 100);
}
END_TEST

static int limit(uint32_t kind, uint32_t index, uint64_t size)
{
	union msg m = {.limit = {.hdr = {MSG_LIMIT, 1},
			       .kind = kind,
			       .index = index,
			       .has_bytes = 1,
			       .config = {.bytes = {.size = size,
						  .refill_ns = UINT32_MAX *
							       1000ull}}}};

	return obey(&m);
}

START_TEST(a_serial_port_is_limited_from_the_start)
{
	s.msg.start.serial_limiter.bytes =
		(struct bucket_config){.size = 5, .refill_ns = 1ull << 50};
	if (_i)
		create_all();
	else
		create();
	print(8);
	ck_assert_uint_eq(s.shared->console_head, 5);
	ck_assert_uint_eq(s.shared->console_limited, 3);
	ck_assert_int_eq(limit(MSG_LIMIT_SERIAL, 0, 0), 0);
	print(8);
	ck_assert_uint_eq(s.shared->console_head, 13);
	ck_assert_int_eq(limit(MSG_LIMIT_SERIAL, 0, 2), 0);
	print(8);
	ck_assert_uint_eq(s.shared->console_head, 15);
	ck_assert_uint_eq(s.shared->console_limited, 9);
}
END_TEST

START_TEST(only_one_serial_port_is_there_to_be_limited)
{
	create_all();
	ck_assert_int_eq(limit(MSG_LIMIT_SERIAL, 1, 1), -EINVAL);
	ck_assert_int_eq(limit(MSG_LIMIT_KINDS, 0, 1), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm_small");
	TCase *t = tcase_create("small devices");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_guest_finds_them_behind_its_drives);
	tcase_add_test(t, what_is_not_configured_is_not_there);
	tcase_add_test(t, a_balloon_obeys);
	tcase_add_test(t, a_hint_needs_a_driver);
	tcase_add_test(t, input_goes_to_the_console_there_is);
	tcase_add_test(t, input_goes_to_hvc0_if_that_is_the_console);
	tcase_add_test(t, a_console_has_its_size);
	tcase_add_loop_test(t, a_serial_port_is_limited_from_the_start, 0, 2);
	tcase_add_test(t, only_one_serial_port_is_there_to_be_limited);
	suite_add_tcase(suite, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
