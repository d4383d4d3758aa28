#include "base/cleanup.h"
#include "vmm/i8042.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define DATA 0
#define COMMAND 4
#define STATUS 4

#define OBF 0x01
#define KBD_INT 0x01
#define KBD_DISABLE 0x10
#define TRANSLATE 0x40

static struct i8042 kbd;
static int irq_fd;
static unsigned resets;

static void on_reset(void *arg)
{
	ck_assert_ptr_eq(arg, &kbd);
	/* Called without the lock: a callback may look at us. */
	ck_assert_int_eq(pthread_mutex_trylock(&kbd.lock), 0);
	pthread_mutex_unlock(&kbd.lock);
	resets++;
}

static void setup(void)
{
	resets = 0;
	irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	i8042_init(&kbd, irq_fd, on_reset, &kbd);
}

static void teardown(void)
{
	i8042_fini(&kbd);
	close_fd(&irq_fd);
}

static uint8_t in(unsigned reg)
{
	uint8_t v = 0;

	i8042_read(&kbd, reg, &v, 1);
	return v;
}

static void out(unsigned reg, uint8_t v)
{
	i8042_write(&kbd, reg, &v, 1);
}

static bool obf(void)
{
	return in(STATUS)&OBF;
}

static uint64_t edges(void)
{
	uint64_t v = 0;

	return read(irq_fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

/* A controller command which answers one byte. */
static uint8_t ask(uint8_t command)
{
	out(COMMAND, command);
	ck_assert(obf());
	return in(DATA);
}

static void set_ctr(uint8_t v)
{
	out(COMMAND, 0x60);
	out(DATA, v);
}

/* Expects exactly these bytes from the keyboard. */
static void expect(const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ck_assert(obf());
		ck_assert_uint_eq(in(DATA), (uint8_t)bytes[i]);
	}
	ck_assert(!obf());
}

/* ---- controller ---- */

START_TEST(the_controller_passes_its_tests)
{
	ck_assert_uint_eq(in(STATUS), 0x14); /* tested, not locked, empty */
	ck_assert_uint_eq(ask(0xaa), 0x55);
	ck_assert_uint_eq(ask(0xab), 0x00);
	ck_assert_uint_eq(edges(), 0);
	ck_assert(!obf());
}
END_TEST

START_TEST(the_command_byte_is_kept)
{
	/* As firmware leaves it: keyboard on, translated, mouse off. */
	ck_assert_uint_eq(ask(0x20), 0x65);
	set_ctr(0x74);
	ck_assert_uint_eq(ask(0x20), 0x74);
	out(COMMAND, 0xae);
	ck_assert_uint_eq(ask(0x20), 0x64);
	out(COMMAND, 0xad);
	ck_assert_uint_eq(ask(0x20), 0x74);
	out(COMMAND, 0xa8);
	ck_assert_uint_eq(ask(0x20), 0x54);
	out(COMMAND, 0xa7);
	ck_assert_uint_eq(ask(0x20), 0x74);
}
END_TEST

START_TEST(status_tells_commands_from_data)
{
	out(COMMAND, 0xae);
	ck_assert_uint_eq(in(STATUS)&0x08, 0x08);
	out(DATA, 0xf4);
	ck_assert_uint_eq(in(STATUS)&0x08, 0);
}
END_TEST

/* What a driver asks to find a mouse port: answered at once, and with no. */
START_TEST(there_is_no_mouse_port)
{
	out(COMMAND, 0xd3);
	out(DATA, 0x5a);
	ck_assert_uint_eq(in(STATUS) & (OBF | 0x20), OBF);
	in(DATA);
	ck_assert_uint_eq(ask(0xa9), 0x01);
	out(COMMAND, 0xd4); /* to the mouse: swallowed, not a key command */
	out(DATA, 0xff);
	ck_assert(!obf());
}
END_TEST

START_TEST(ram_and_ports_are_there_to_be_asked)
{
	ck_assert_uint_eq(ask(0x21), 0);
	ck_assert_uint_eq(ask(0x3f), 0);
	out(COMMAND,
		0x7f); /* takes a byte, which must not reach the keyboard */
	out(DATA, 0xee);
	ck_assert(!obf());
	ck_assert_uint_eq(ask(0xd0), 0x03);
	out(COMMAND, 0xd2);
	out(DATA, 0x42);
	ck_assert_uint_eq(edges(), 1);
	expect("\x42", 1);
}
END_TEST

START_TEST(a_command_cancels_one_that_waits_for_its_byte)
{
	out(COMMAND, 0x60);
	out(COMMAND, 0xae);
	out(DATA, 0xee); /* echo, not a command byte */
	expect("\xee", 1);
	ck_assert_uint_eq(ask(0x20), 0x65);
}
END_TEST

/* ---- reset ---- */

START_TEST(pulsing_bit_zero_resets)
{
	for (unsigned c = 0; c < 256; c++) {
		resets = 0;
		out(COMMAND, (uint8_t)c);
		ck_assert_uint_eq(resets, c >= 0xf0 && !(c & 1));
	}
}
END_TEST

START_TEST(the_output_port_resets_when_bit_zero_is_cleared)
{
	out(COMMAND, 0xd1);
	out(DATA, 0x03);
	ck_assert_uint_eq(resets, 0);
	out(COMMAND, 0xd1);
	out(DATA, 0x02);
	ck_assert_uint_eq(resets, 1);
	out(DATA, 0xfe); /* the command is over: this is for the keyboard */
	ck_assert_uint_eq(resets, 1);
}
END_TEST

/* ---- keyboard ---- */

static const struct {
	const char *send, *answer;
	size_t n_send, n_answer;
} talks[] = {
	{"\xff", "\xfa\xaa", 1, 2},
	{"\xf2", "\xfa\xab\x41", 1, 3},
	{"\xee", "\xee", 1, 1},
	{"\xf4", "\xfa", 1, 1},
	{"\xf5", "\xfa", 1, 1},
	{"\xf6", "\xfa", 1, 1},
	{"\xed\x07", "\xfa\xfa", 2, 2},
	{"\xf3\x20", "\xfa\xfa", 2, 2},
	{"\xf0\x02", "\xfa\xfa", 2, 2},
	{"\xf0\x00", "\xfa\xfa\x02", 2, 3},
	{"\xed\xee", "\xfa\xee", 2, 2}, /* a command in a parameter's place */
	{"\x00", "\xfe", 1, 1},
	{"\xec", "\xfe", 1, 1},
};

START_TEST(the_keyboard_answers)
{
	for (size_t i = 0; i < talks[_i].n_send; i++)
		out(DATA, (uint8_t)talks[_i].send[i]);
	expect(talks[_i].answer, talks[_i].n_answer);
	/* One edge for each byte. */
	ck_assert_uint_eq(edges(), talks[_i].n_answer);
}
END_TEST

START_TEST(without_translation_the_id_is_the_raw_one)
{
	set_ctr(KBD_INT);
	out(DATA, 0xf2);
	expect("\xfa\xab\x83", 3);
}
END_TEST

START_TEST(resend_repeats_the_last_byte)
{
	out(DATA, 0xf2);
	expect("\xfa\xab\x41", 3);
	out(DATA, 0xfe);
	expect("\x41", 1);
}
END_TEST

START_TEST(a_parameter_does_not_become_a_command)
{
	out(DATA, 0xed);
	out(DATA, 0x00);
	expect("\xfa\xfa", 2);
	out(DATA, 0x00); /* now it is none */
	expect("\xfe", 1);
}
END_TEST

START_TEST(sending_to_the_keyboard_switches_it_on)
{
	out(COMMAND, 0xad);
	out(DATA, 0xee);
	expect("\xee", 1);
	ck_assert_uint_eq(ask(0x20) & KBD_DISABLE, 0);
}
END_TEST

START_TEST(no_interrupt_unless_the_command_byte_allows)
{
	set_ctr(TRANSLATE);
	out(DATA, 0xee);
	ck_assert_uint_eq(edges(), 0);
	ck_assert(obf());
	set_ctr(TRANSLATE | KBD_INT);
	ck_assert_uint_eq(edges(), 1);
	expect("\xee", 1);
}
END_TEST

START_TEST(a_disabled_keyboard_keeps_its_keys_until_enabled)
{
	out(COMMAND, 0xad);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
	ck_assert(!obf());
	ck_assert_uint_eq(edges(), 0);
	out(COMMAND, 0xae);
	ck_assert_uint_eq(edges(), 1);
	expect("\x1d\x38\xe0\x53\xe0\xd3\xb8\x9d", 8);
}
END_TEST

/* A driver that asks the controller while keys wait reads its answer first. */
START_TEST(the_controllers_answer_goes_before_keys)
{
	i8042_ctrl_alt_del(&kbd);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(ask(0xaa), 0x55);
	ck_assert_uint_eq(edges(), 1); /* a key shows again */
	expect("\x1d\x38\xe0\x53\xe0\xd3\xb8\x9d", 8);
}
END_TEST

START_TEST(a_key_behind_the_controllers_answer_interrupts_after_it)
{
	out(COMMAND, 0xaa);
	i8042_ctrl_alt_del(&kbd);
	ck_assert_uint_eq(edges(), 0);
	ck_assert_uint_eq(in(DATA), 0x55);
	ck_assert_uint_eq(edges(), 1);
}
END_TEST

START_TEST(a_guest_that_never_reads_harms_nobody)
{
	for (unsigned i = 0; i < 1000; i++) {
		out(DATA, 0xf2);
		out(COMMAND, 0xd2);
		out(DATA, (uint8_t)i);
	}
	for (unsigned i = 0; i < I8042_QUEUE; i++) {
		ck_assert(obf());
		in(DATA);
	}
	ck_assert(!obf());
}
END_TEST

/* ---- Ctrl-Alt-Del ---- */

START_TEST(the_three_keys_come_in_the_set_which_the_driver_expects)
{
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
	expect("\x1d\x38\xe0\x53\xe0\xd3\xb8\x9d", 8);
	ck_assert_uint_eq(edges(), 8);
	set_ctr(KBD_INT);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
	expect("\x14\x11\xe0\x71\xe0\xf0\x71\xf0\x11\xf0\x14", 11);
	ck_assert_uint_eq(edges(), 11);
}
END_TEST

START_TEST(all_keys_are_queued_or_none)
{
	for (unsigned i = 0; i < I8042_QUEUE / 8; i++)
		ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), -ENOBUFS);
	in(DATA);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), -ENOBUFS);
	for (unsigned i = 1; i < 8; i++)
		in(DATA);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
}
END_TEST

START_TEST(a_keyboard_told_to_be_quiet_presses_nothing)
{
	out(DATA, 0xf5);
	expect("\xfa", 1);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), -EAGAIN);
	ck_assert(!obf());
	out(DATA, 0xf4);
	expect("\xfa", 1);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
	ck_assert(obf());
	/* So does a reset, which empties the queue. */
	out(DATA, 0xf5);
	out(DATA, 0xff);
	expect("\xfa\xaa", 2);
	ck_assert_int_eq(i8042_ctrl_alt_del(&kbd), 0);
}
END_TEST

START_TEST(wide_and_stray_accesses_are_harmless)
{
	uint8_t v[8];

	i8042_read(&kbd, 0, v, 8);
	ck_assert_uint_eq(v[1], 0xff);
	ck_assert_uint_eq(v[4], 0x14);
	ck_assert_uint_eq(v[5], 0xff);
	i8042_write(&kbd, 1, "\xfe\xfe\xfe", 3);
	i8042_write(&kbd, UINT64_MAX, "\xfe", 1);
	i8042_write(&kbd, 1ull << 32, "\xfe\xfe\xfe\xfe\xfe", 4);
	i8042_read(&kbd, UINT64_MAX, v, 1);
	ck_assert_uint_eq(v[0], 0xff);
	ck_assert_uint_eq(resets, 0);
	ck_assert(!obf());
	i8042_write(&kbd, 3, "\x00\xfe", 2);
	ck_assert_uint_eq(resets, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("i8042");
	TCase *c = tcase_create("controller"), *x = tcase_create("reset");
	TCase *k = tcase_create("keyboard"), *d = tcase_create("ctrl-alt-del");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, the_controller_passes_its_tests);
	tcase_add_test(c, the_command_byte_is_kept);
	tcase_add_test(c, status_tells_commands_from_data);
	tcase_add_test(c, there_is_no_mouse_port);
	tcase_add_test(c, ram_and_ports_are_there_to_be_asked);
	tcase_add_test(c, a_command_cancels_one_that_waits_for_its_byte);
	tcase_add_test(c, wide_and_stray_accesses_are_harmless);
	tcase_add_checked_fixture(x, setup, teardown);
	tcase_add_test(x, pulsing_bit_zero_resets);
	tcase_add_test(x, the_output_port_resets_when_bit_zero_is_cleared);
	tcase_add_checked_fixture(k, setup, teardown);
	tcase_add_loop_test(
		k, the_keyboard_answers, 0, sizeof(talks) / sizeof(talks[0]));
	tcase_add_test(k, without_translation_the_id_is_the_raw_one);
	tcase_add_test(k, resend_repeats_the_last_byte);
	tcase_add_test(k, a_parameter_does_not_become_a_command);
	tcase_add_test(k, sending_to_the_keyboard_switches_it_on);
	tcase_add_test(k, no_interrupt_unless_the_command_byte_allows);
	tcase_add_test(k, a_disabled_keyboard_keeps_its_keys_until_enabled);
	tcase_add_test(k, the_controllers_answer_goes_before_keys);
	tcase_add_test(
		k, a_key_behind_the_controllers_answer_interrupts_after_it);
	tcase_add_test(k, a_guest_that_never_reads_harms_nobody);
	tcase_add_checked_fixture(d, setup, teardown);
	tcase_add_test(
		d, the_three_keys_come_in_the_set_which_the_driver_expects);
	tcase_add_test(d, all_keys_are_queued_or_none);
	tcase_add_test(d, a_keyboard_told_to_be_quiet_presses_nothing);
	suite_add_tcase(s, c);
	suite_add_tcase(s, x);
	suite_add_tcase(s, k);
	suite_add_tcase(s, d);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
