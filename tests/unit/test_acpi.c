#include "vmm/acpi_sleep.h"
#include "vmm/layout.h"
#include "vmm/limits.h"
#include "vmm/platform_tables.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1u << 20)

static struct gmem mem;
static struct error err;
static uint64_t rsdp_gpa;
/* More than there are pins: tables must hold together anyway. */
#define DEVICES_MAX 200u
static struct platform_virtio devices[DEVICES_MAX];
static struct platform platform = {.virtio = devices};

/* Memory in which nothing is zero, so that every byte has to be written. */
static void setup(void)
{
	ck_assert_int_eq(gmem_create(&mem, MIB, LAYOUT_HOLE, LAYOUT_HOLE_END,
				 false, &err),
		0);
	memset(gmem_range(&mem, 0, MIB), 0xa5, MIB);
	for (unsigned i = 0; i < DEVICES_MAX; i++)
		devices[i] = (struct platform_virtio){
			LAYOUT_VIRTIO + i * LAYOUT_VIRTIO_STRIDE,
			LAYOUT_IRQ_VIRTIO + i};
}

static void teardown(void)
{
	gmem_destroy(&mem);
}

static void write_for(unsigned n_vcpus, unsigned n_virtio)
{
	platform.n_vcpus = n_vcpus;
	platform.n_virtio = n_virtio;
	ck_assert_int_eq(acpi_write(&mem, &platform, &rsdp_gpa, &err), 0);
}

static uint64_t le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n-- > 0)
		s += *p++;
	return s;
}

/* The table at gpa: signature, place and checksum are as they should be. */
static const uint8_t *table(uint64_t gpa, const char *signature)
{
	const uint8_t *t;
	uint64_t len;

	ck_assert_uint_ge(gpa, LAYOUT_ACPI);
	t = gmem_range(&mem, gpa, 36);
	ck_assert_ptr_nonnull(t);
	ck_assert_mem_eq(t, signature, 4);
	len = le(t + 4, 4);
	ck_assert_uint_ge(len, 36);
	ck_assert_uint_le(gpa + len, LAYOUT_ACPI_END);
	ck_assert_uint_eq(sum(t, len), 0);
	ck_assert_mem_eq(t + 10, "MAYFLYMAYFLYVM", 14);
	return t;
}

static const uint8_t *xsdt(void)
{
	const uint8_t *r = gmem_range(&mem, rsdp_gpa, 36);

	return table(le(r + 24, 8), "XSDT");
}

static const uint8_t *fadt(void)
{
	return table(le(xsdt() + 36, 8), "FACP");
}

static const uint8_t *madt(void)
{
	return table(le(xsdt() + 44, 8), "APIC");
}

static const uint8_t *dsdt(void)
{
	return table(le(fadt() + 140, 8), "DSDT");
}

/* How often these bytes occur in the DSDT. */
static unsigned count(const void *bytes, size_t n)
{
	const uint8_t *t = dsdt();
	size_t len = le(t + 4, 4);
	unsigned found = 0;

	for (size_t i = 36; i + n <= len; i++)
		found += memcmp(t + i, bytes, n) == 0;
	return found;
}

START_TEST(the_root_pointer_is_where_kernels_look_and_adds_up)
{
	const uint8_t *r;

	write_for(1, 1);
	ck_assert_uint_eq(rsdp_gpa, LAYOUT_ACPI);
	ck_assert_uint_eq(rsdp_gpa % 16, 0);
	r = gmem_range(&mem, rsdp_gpa, 36);
	ck_assert_mem_eq(r, "RSD PTR ", 8);
	ck_assert_mem_eq(r + 9, "MAYFLY", 6);
	ck_assert_uint_eq(r[15], 2);
	ck_assert_uint_eq(le(r + 20, 4), 36);
	ck_assert_uint_eq(sum(r, 20), 0);
	ck_assert_uint_eq(sum(r, 36), 0);
	ck_assert_uint_eq(le(xsdt() + 4, 4), 36 + 2 * 8);
}
END_TEST

/* Tables do not overlap: each begins at or after the end of another. */
START_TEST(tables_lie_apart)
{
	uint64_t at[4], len[4];

	write_for(VM_MAX_VCPUS, LAYOUT_VIRTIO_MAX);
	at[0] = le((uint8_t *)gmem_range(&mem, rsdp_gpa, 36) + 24, 8);
	at[1] = le(xsdt() + 36, 8);
	at[2] = le(xsdt() + 44, 8);
	at[3] = le(fadt() + 140, 8);
	for (unsigned i = 0; i < 4; i++) {
		len[i] = le((uint8_t *)gmem_range(&mem, at[i], 8) + 4, 4);
		ck_assert_uint_ge(at[i], rsdp_gpa + 36);
		for (unsigned k = 0; k < i; k++)
			ck_assert(at[i] >= at[k] + len[k] ||
				  at[k] >= at[i] + len[i]);
	}
}
END_TEST

START_TEST(the_machine_is_hardware_reduced_and_resets_by_its_keyboard)
{
	const uint8_t *f;

	write_for(1, 0);
	f = fadt();
	ck_assert_uint_eq(le(f + 4, 4), 276);
	ck_assert_uint_eq(f[8], 6);
	ck_assert_uint_eq(le(f + 40, 4), le(f + 140, 8)); /* DSDT, twice */
	/* Legacy devices, 8042, no VGA, no CMOS clock. */
	ck_assert_uint_eq(le(f + 109, 2), 0x27);
	/* WBINVD, no buttons, reset register, hardware-reduced. */
	ck_assert_uint_eq(
		le(f + 112, 4), 1 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
	ck_assert_mem_eq(f + 116, "\1\x08\0\1\x64\0\0\0\0\0\0\0\xfe", 13);
	/* No fixed hardware, no facs. */
	for (unsigned i = 46; i < 109; i++)
		ck_assert_uint_eq(f[i], 0);
	for (unsigned i = 148; i < 244; i++)
		ck_assert_uint_eq(f[i], 0);
	ck_assert_uint_eq(le(f + 36, 4) | le(f + 132, 8), 0);
}
END_TEST

START_TEST(sleep_is_a_port_that_takes_the_type_of_s5)
{
	const uint8_t *f, s5[] = {0x08, '_', 'S', '5', '_', 0x12, 0x89, 0x00,
				  0x00, 0x04, 0x0a, ACPI_SLEEP_TYPE_S5};

	write_for(1, 0);
	f = fadt();
	ck_assert_mem_eq(f + 244, "\1\x08\0\1\0\x06\0\0\0\0\0\0", 12);
	ck_assert_mem_eq(f + 256, "\1\x08\0\1\1\x06\0\0\0\0\0\0", 12);
	ck_assert_uint_eq(le(f + 248, 8), LAYOUT_PORT_SLEEP_CONTROL);
	ck_assert_uint_eq(le(f + 260, 8), LAYOUT_PORT_SLEEP_STATUS);
	ck_assert_uint_eq(count(s5, sizeof(s5)), 1);
}
END_TEST

static const unsigned counts[] = {1, 2, VM_MAX_VCPUS};

START_TEST(the_madt_lists_each_cpu_and_the_ioapic)
{
	const uint8_t *m, *e, *end;
	unsigned cpus = 0, ioapics = 0, nmis = 0;

	write_for(counts[_i], 1);
	m = madt();
	ck_assert_uint_eq(le(m + 36, 4), LAYOUT_LAPIC);
	ck_assert_uint_eq(le(m + 40, 4), 0); /* no 8259 */
	end = m + le(m + 4, 4);
	for (e = m + 44; e < end; e += e[1]) {
		ck_assert_uint_ge(e[1], 6);
		if (e[0] == 0) {
			ck_assert_uint_eq(e[1], 8);
			ck_assert_uint_eq(e[2], cpus);
			ck_assert_uint_eq(e[3], cpus);
			ck_assert_uint_eq(le(e + 4, 4), 1);
			cpus++;
		} else if (e[0] == 1) {
			ck_assert_uint_eq(e[1], 12);
			ck_assert_uint_eq(le(e + 4, 4), LAYOUT_IOAPIC);
			ck_assert_uint_eq(le(e + 8, 4), 0);
			ioapics++;
		} else {
			ck_assert_uint_eq(e[0], 4); /* NMI at LINT1 of all */
			ck_assert_mem_eq(e, "\4\6\xff\0\0\1", 6);
			nmis++;
		}
	}
	ck_assert_ptr_eq(e, end);
	ck_assert_uint_eq(cpus, counts[_i]);
	ck_assert_uint_eq(ioapics, 1);
	ck_assert_uint_eq(nmis, 1);
}
END_TEST

/*
 * The package length at p (ACPI 6.4 §20.2.4), and in ret_bytes how many bytes
 * it takes: the top two bits of the first say how many follow.
 */
static size_t pkg_length(const uint8_t *p, unsigned *ret_bytes)
{
	unsigned follow = p[0] >> 6;
	size_t len = follow ? p[0] & 0xf : p[0] & 0x3f;

	for (unsigned i = 0; i < follow; i++)
		len |= (size_t)p[1 + i] << (4 + 8 * i);
	*ret_bytes = 1 + follow;
	return len;
}

/* \_SB ends with the table, and devices fill it up to its end. */
static const unsigned device_counts[] = {0, 1, LAYOUT_VIRTIO_MAX, DEVICES_MAX};

START_TEST(scopes_and_devices_end_where_their_lengths_say)
{
	const uint8_t *t, *end, *p;
	unsigned n, found = 0;

	write_for(2, device_counts[_i]);
	t = dsdt();
	end = t + le(t + 4, 4);
	p = t + 36;
	ck_assert_uint_eq(p[0], 0x08); /* Name (_S5_, Package) */
	ck_assert_uint_eq(p[5], 0x12);
	p += 6 + pkg_length(p + 6, &n);
	ck_assert_uint_eq(p[0], 0x10); /* Scope (\_SB) */
	ck_assert_ptr_eq(p + 1 + pkg_length(p + 1, &n), end);
	ck_assert_mem_eq(p + 1 + n, "\\_SB_", 5);
	for (p += 1 + n + 5; p < end; found++) {
		ck_assert_mem_eq(p, "\x5b\x82", 2); /* Device */
		p += 2 + pkg_length(p + 2, &n);
	}
	ck_assert_ptr_eq(p, end);
	ck_assert_uint_eq(found, 6 + device_counts[_i]);
}
END_TEST

START_TEST(each_virtio_device_has_its_memory_and_interrupt)
{
	write_for(1, LAYOUT_VIRTIO_MAX);
	ck_assert_uint_eq(count("_HID\x0dLNRO0005", 14), LAYOUT_VIRTIO_MAX);
	for (unsigned i = 0; i < LAYOUT_VIRTIO_MAX; i++) {
		/* _CRS: Memory32Fixed, Interrupt (edge, high), end. */
		uint8_t crs[] = {0x86, 9, 0, 1, 0, (uint8_t)(i << 4),
			(uint8_t)(i >> 4), 0xd0, 0, 0x10, 0, 0, 0x89, 6, 0, 3,
			1, (uint8_t)(5 + i), 0, 0, 0, 0x79, 0};
		char name[8];

		ck_assert_uint_eq(count(crs, sizeof(crs)), 1);
		snprintf(name, sizeof(name), "V%03X", i);
		ck_assert_uint_eq(count(name, 4), 1);
	}
	write_for(1, 0);
	ck_assert_uint_eq(count("LNRO0005", 8), 0);
}
END_TEST

START_TEST(the_legacy_devices_are_announced)
{
	static const struct {
		const char *bytes;
		size_t n;
	} wanted[] = {
		{"_HID\x0c\x41\xd0\x05\x01", 9}, /* PNP0501 */
		{"_HID\x0c\x41\xd0\x03\x03", 9}, /* PNP0303 */
		{"_HID\x0dQEMU0001", 14},
		/* _CRS of COM1, keyboard, pvpanic. */
		{"\x47\1\xf8\x03\xf8\x03\1\x08\x89\6\0\3\1\4\0\0\0\x79\0", 19},
		{"\x47\1\x60\0\x60\0\1\1\x47\1\x64\0\x64\0\1\1"
		 "\x89\6\0\3\1\1\0\0\0\x79\0",
			27},
		{"\x47\1\x05\x05\x05\x05\1\1\x79\0", 10},
		{"\x5b\x80PEOR\1\x0b\x05\x05\1", 11}, /* its port as a field */
		{"PEOR\1PEPT\x08", 10},
	};

	write_for(1, 1);
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ck_assert_msg(
			count(wanted[i].bytes, wanted[i].n) == 1, "%u", i);
}
END_TEST

/* Where the pages are, and who is told of the interrupt. */
START_TEST(the_generation_has_its_devices_and_an_event_that_tells_them)
{
	static const struct {
		const char *bytes;
		size_t n;
	} wanted[] = {
		{"_HID\x0dMFLY0001\0\x08_CID\x0dVM_Gen_Counter", 33},
		{"\x08"
		 "ADDR\x12\x8a\0\0\2\x0c\0\xd0\x0f\0\0",
			15},
		{"_HID\x0d"
		 "AMZNC10C\0\x08_CID\x0dVMCLOCK",
			26},
		{"\x86\x09\0\1\0\xe0\x0f\0\0\x10\0\0\x79\0", 14},
		{"_HID\x0d"
		 "ACPI0013\0",
			14},
		{"\x89\6\0\3\1\3\0\0\0\x79\0", 11},
		/* Method (_EVT, 1) { If (Arg0 == 3) { Notify, Notify } } */
		{"\x14\x8e\1\0_EVT\1\xa0\x85\1\0\x93\x68\x0a\3"
		 "\x86VGEN\x0a\x80\x86VCLK\x0a\x80",
			31},
	};

	write_for(1, 1);
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ck_assert_msg(
			count(wanted[i].bytes, wanted[i].n) == 1, "%u", i);
}
END_TEST

START_TEST(no_room_below_1_mib_is_an_error)
{
	platform.n_vcpus = 1;
	platform.n_virtio = 1;
	mem.regions[0].len = LAYOUT_ACPI_END - 1;
	ck_assert_int_eq(acpi_write(&mem, &platform, &rsdp_gpa, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	mem.regions[0].len = MIB;
	platform.n_vcpus = 20000;
	ck_assert_int_eq(acpi_write(&mem, &platform, &rsdp_gpa, &err), -EINVAL);
}
END_TEST

/* More devices than the tables have room for: the writer stops in time. */
START_TEST(too_many_devices_are_an_error)
{
	unsigned n = 4000;
	struct platform_virtio *many = calloc(n, sizeof(*many));
	struct platform p = {.n_vcpus = 1, .virtio = many, .n_virtio = n};

	mem.regions[0].len = LAYOUT_ACPI_END;
	ck_assert_int_eq(acpi_write(&mem, &p, &rsdp_gpa, &err), -EINVAL);
	free(many);
}
END_TEST

/* ---- a second opinion, where ACPICA's compiler is installed ---- */

static bool shell(const char *cmd)
{
	/* Fixed commands in a directory of our own. */
	return system(cmd) == 0; /* NOLINT(cert-env33-c) */
}

static bool have_iasl(void)
{
	return shell("iasl -v > /dev/null 2>&1");
}

static void dump(const char *dir, const char *name, const uint8_t *t)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(t, 1, le(t + 4, 4), f), le(t + 4, 4));
	fclose(f);
}

START_TEST(acpica_reads_the_tables_and_compiles_what_it_read)
{
	static const char *const names[] = {"DSDT", "FACP", "APIC", "XSDT"};
	char dir[] = "/tmp/mayfly-acpi-XXXXXX", cmd[512];

	write_for(2, LAYOUT_VIRTIO_MAX);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dump(dir, names[0], dsdt());
	dump(dir, names[1], fadt());
	dump(dir, names[2], madt());
	dump(dir, names[3], xsdt());
	for (unsigned i = 0; i < 4; i++) {
		/* Warnings count, the disassembler's comments do not. */
		snprintf(cmd, sizeof(cmd),
			"cd %s && iasl -d %s.dat > log 2>&1 && "
			"iasl -we %s.dsl >> log 2>&1 && "
			"! grep -Eiq 'error  |warning  |invalid' %s.dsl || "
			"{ cat log; false; }",
			dir, names[i], names[i], names[i]);
		ck_assert_msg(shell(cmd), "%s", names[i]);
	}
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ck_assert(shell(cmd));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("acpi");
	TCase *t = tcase_create("tables"), *d = tcase_create("dsdt");
	TCase *e = tcase_create("errors"), *i = tcase_create("iasl");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_root_pointer_is_where_kernels_look_and_adds_up);
	tcase_add_test(t, tables_lie_apart);
	tcase_add_test(
		t, the_machine_is_hardware_reduced_and_resets_by_its_keyboard);
	tcase_add_test(t, sleep_is_a_port_that_takes_the_type_of_s5);
	tcase_add_loop_test(t, the_madt_lists_each_cpu_and_the_ioapic, 0,
		sizeof(counts) / sizeof(counts[0]));
	tcase_add_checked_fixture(d, setup, teardown);
	tcase_add_loop_test(d, scopes_and_devices_end_where_their_lengths_say,
		0, sizeof(device_counts) / sizeof(device_counts[0]));
	tcase_add_test(d, each_virtio_device_has_its_memory_and_interrupt);
	tcase_add_test(d, the_legacy_devices_are_announced);
	tcase_add_test(
		d, the_generation_has_its_devices_and_an_event_that_tells_them);
	tcase_add_checked_fixture(e, setup, teardown);
	tcase_add_test(e, no_room_below_1_mib_is_an_error);
	tcase_add_test(e, too_many_devices_are_an_error);
	tcase_add_checked_fixture(i, setup, teardown);
	if (have_iasl())
		tcase_add_test(
			i, acpica_reads_the_tables_and_compiles_what_it_read);
	suite_add_tcase(s, t);
	suite_add_tcase(s, d);
	suite_add_tcase(s, e);
	suite_add_tcase(s, i);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
