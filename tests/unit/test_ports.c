#include "vmm/acpi_sleep.h"
#include "vmm/pvpanic.h"
#include "vmm/ready_port.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The three devices of one or two ports and a callback. */

static unsigned calls;

static void count(void *arg)
{
	ck_assert_ptr_eq(arg, &calls);
	calls++;
}

static struct pvpanic pvpanic = {count, &calls};
static struct acpi_sleep acpi_sleep = {count, &calls};
static struct ready_port ready = {count, &calls};

static void setup(void)
{
	calls = 0;
}

START_TEST(pvpanic_tells_what_it_understands)
{
	uint8_t v[8];

	pvpanic_read(&pvpanic, 0, v, 1);
	ck_assert_uint_eq(v[0], PVPANIC_PANICKED);
	pvpanic_read(&pvpanic, 7, v, 8);
	ck_assert_mem_eq(v, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
}
END_TEST

START_TEST(pvpanic_reports_bit_zero_and_nothing_else)
{
	for (unsigned v = 0; v < 256; v++) {
		uint8_t b = (uint8_t)v;

		calls = 0;
		pvpanic_write(&pvpanic, 0, &b, 1);
		ck_assert_uint_eq(calls, v & 1);
	}
	calls = 0;
	pvpanic_write(&pvpanic, 1, "\1\1\1\1", 4);
	ck_assert_uint_eq(calls, 0);
	pvpanic_write(&pvpanic, 0, "\1\0\0\0\0\0\0\0", 8);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

START_TEST(only_s5_with_the_enable_bit_powers_off)
{
	for (unsigned v = 0; v < 256; v++) {
		uint8_t b = (uint8_t)v;
		/* SLP_EN is bit 5, SLP_TYP bits 2 to 4. */
		bool off = (v & 0x20) && ((v >> 2) & 7) == ACPI_SLEEP_TYPE_S5;

		calls = 0;
		acpi_sleep_write(&acpi_sleep, 0, &b, 1);
		ck_assert_uint_eq(calls, off);
	}
}
END_TEST

START_TEST(the_status_register_does_not_power_off)
{
	uint8_t v[8];

	acpi_sleep_write(&acpi_sleep, 1, "\x34", 1);
	acpi_sleep_write(&acpi_sleep, UINT64_MAX, "\x34\x34\x34\x34", 4);
	ck_assert_uint_eq(calls, 0);
	memset(v, 0xff, sizeof(v));
	acpi_sleep_read(&acpi_sleep, 0, v, 2);
	ck_assert_mem_eq(v, "\0\0\xff", 3);
}
END_TEST

START_TEST(any_write_says_ready)
{
	uint8_t v[2] = {0, 0};

	ready_port_write(&ready, 0, "\0", 1);
	ready_port_write(&ready, 0, "\1\2\3\4", 4);
	ck_assert_uint_eq(calls, 2);
	ready_port_read(&ready, 0, v, 2);
	ck_assert_mem_eq(v, "\xff\xff", 2);
	ck_assert_uint_eq(calls, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ports");
	TCase *t = tcase_create("ports");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, pvpanic_tells_what_it_understands);
	tcase_add_test(t, pvpanic_reports_bit_zero_and_nothing_else);
	tcase_add_test(t, only_s5_with_the_enable_bit_powers_off);
	tcase_add_test(t, the_status_register_does_not_power_off);
	tcase_add_test(t, any_write_says_ready);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
