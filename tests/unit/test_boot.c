#include "base/cleanup.h"
#include "tests/unit/kernel_images.h"
#include "vmm/limits.h"
#include "vmm/memory_map.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define MEM (16 * MIB)
#define INITRD_LEN 5000u

static struct gmem mem;
static struct bz bz;
static struct error err;
static struct boot_entry entry;
static uint8_t initrd[INITRD_LEN];
static int kernel_fd, initrd_fd;

static void make_memory(uint64_t bytes)
{
	gmem_destroy(&mem);
	ck_assert_int_eq(gmem_create(&mem, bytes, LAYOUT_HOLE, LAYOUT_HOLE_END,
				 false, &err),
		0);
}

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	make_memory(MEM);
	bz_build(&bz);
	for (unsigned i = 0; i < INITRD_LEN; i++)
		initrd[i] = (uint8_t)(i * 3 + 5);
	kernel_fd = image_fd(bz.bytes, bz.size);
	initrd_fd = -1;
}

static void teardown(void)
{
	close_fd(&kernel_fd);
	close_fd(&initrd_fd);
	gmem_destroy(&mem);
}

static int load_with(const char *cmdline)
{
	struct boot_images images = {.kernel_fd = kernel_fd,
		.initrd_fd = initrd_fd,
		.cmdline = cmdline,
		.rsdp_gpa = LAYOUT_ACPI};

	return boot_load(&mem, &images, &entry, &err);
}

static int load(void)
{
	close_fd(&kernel_fd);
	kernel_fd = image_fd(bz.bytes, bz.size);
	return load_with("quiet");
}

static const struct boot_params *params(void)
{
	return gmem_range(&mem, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
}

static const uint8_t *at(uint64_t gpa)
{
	return gmem_range(&mem, gpa, 1);
}

/* An initrd of a given size, sparse. */
static void sparse_initrd(uint64_t size)
{
	close_fd(&initrd_fd);
	initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(initrd_fd, (off_t)size), 0);
}

/* ---- dispatch ---- */

START_TEST(what_is_no_kernel_is_refused)
{
	static uint8_t text[2048];

	memset(text, 'x', sizeof(text));
	for (size_t n = 0; n <= sizeof(text); n += n < 8 ? 1 : 510) {
		close_fd(&kernel_fd);
		kernel_fd = image_fd(text, n);
		ck_assert_int_eq(load_with(""), -EINVAL);
		ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
		ck_assert_ptr_nonnull(strstr(err.msg,
			n == 0  ? "empty"
			: n < 4 ? "truncated"
				: "neither an ELF file nor a bzImage"));
	}
}
END_TEST

START_TEST(what_cannot_be_read_is_refused_with_its_errno)
{
	close_fd(&kernel_fd);
	ck_assert_int_eq(load_with(""), -EBADF);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	kernel_fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_lt(load_with(""), 0);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	close_fd(&kernel_fd);
	kernel_fd = image_fd(bz.bytes, bz.size);
	initrd_fd = open("/tmp", O_PATH | O_CLOEXEC);
	ck_assert_int_eq(load_with(""), -EBADF);
	ck_assert_str_eq(err.field, "boot-source.initrd_path");
}
END_TEST

START_TEST(one_mib_of_memory_is_too_little)
{
	make_memory(MIB);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
}
END_TEST

START_TEST(memory_that_does_not_begin_at_zero_is_too_little)
{
	static uint8_t page[4096];

	gmem_destroy(&mem);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	ck_assert_int_eq(gmem_add(&mem, BZ_PREF, page, sizeof(page)), 0);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	mem.n = 0;
}
END_TEST

/* ---- command line ---- */

START_TEST(the_command_line_ends_in_a_nul_whatever_was_there)
{
	memset(gmem_range(&mem, LAYOUT_CMDLINE, 16), 0xff, 16);
	ck_assert_int_eq(load_with("ro"), 0);
	ck_assert_mem_eq(at(LAYOUT_CMDLINE), "ro\0\xff", 4);
}
END_TEST

START_TEST(a_command_line_as_long_as_the_kernel_takes_is_copied_whole)
{
	char cmdline[VM_CMDLINE_MAX + 8];

	memset(cmdline, 'a', sizeof(cmdline));
	cmdline[VM_CMDLINE_MAX - 1] = '\0';
	ck_assert_int_eq(load_with(cmdline), 0);
	ck_assert_str_eq((const char *)at(LAYOUT_CMDLINE), cmdline);

	cmdline[VM_CMDLINE_MAX - 1] = 'a';
	ck_assert_int_eq(load_with(cmdline), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.boot_args");
}
END_TEST

START_TEST(a_kernel_may_take_a_shorter_command_line)
{
	bz_header(&bz)->cmdline_size = 5;
	ck_assert_int_eq(load(), 0); /* "quiet" */
	bz_header(&bz)->cmdline_size = 4;
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.boot_args");
	ck_assert_ptr_nonnull(strstr(err.msg, "is 5 bytes long"));
}
END_TEST

START_TEST(a_kernel_cannot_ask_for_a_longer_one)
{
	char cmdline[VM_CMDLINE_MAX + 8];

	memset(cmdline, 'a', sizeof(cmdline));
	cmdline[VM_CMDLINE_MAX] = '\0';
	bz_header(&bz)->cmdline_size = UINT32_MAX;
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(load_with(cmdline), -EINVAL);
}
END_TEST

/* ---- initrd ---- */

START_TEST(the_initrd_lies_page_aligned_at_the_top_of_memory)
{
	uint64_t gpa = MEM - 2 * 4096ull;

	initrd_fd = image_fd(initrd, INITRD_LEN);
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, gpa);
	ck_assert_uint_eq(params()->hdr.ramdisk_size, INITRD_LEN);
	ck_assert_mem_eq(at(gpa), initrd, INITRD_LEN);
	ck_assert_uint_eq(*at(gpa - 1), 0);
	ck_assert_uint_eq(*at(gpa + INITRD_LEN), 0);
}
END_TEST

START_TEST(the_initrd_stays_below_what_the_kernel_allows)
{
	initrd_fd = image_fd(initrd, INITRD_LEN);
	bz_header(&bz)->initrd_addr_max = 8 * MIB - 1;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, 8 * MIB - 2 * 4096ull);
	bz_header(&bz)->initrd_addr_max = 8 * MIB - 2;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, 8 * MIB - 2 * 4096ull);
	sparse_initrd(4096);
	bz_header(&bz)->initrd_addr_max = 8 * MIB - 1;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, 8 * MIB - 4096);
	close_fd(&initrd_fd);
	initrd_fd = image_fd(initrd, INITRD_LEN);
	bz_header(&bz)->initrd_addr_max = UINT32_MAX;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, MEM - 2 * 4096ull);
}
END_TEST

START_TEST(the_initrd_stays_below_the_hole)
{
	initrd_fd = image_fd(initrd, INITRD_LEN);
	make_memory(5120 * MIB);
	bz_header(&bz)->initrd_addr_max = UINT32_MAX;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(
		params()->hdr.ramdisk_image, LAYOUT_HOLE - 2 * 4096ull);
}
END_TEST

START_TEST(an_initrd_that_just_fits_above_the_kernel_is_loaded)
{
	uint64_t room = MEM - BZ_PREF - BZ_INIT_SIZE;

	sparse_initrd(room);
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_uint_eq(params()->hdr.ramdisk_image, BZ_PREF + BZ_INIT_SIZE);
	sparse_initrd(room + 1);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.initrd_path");
	ck_assert_ptr_nonnull(strstr(err.msg, "13 MiB are free"));
	/* A kernel that ends inside a page keeps all of it. */
	sparse_initrd(room - 1);
	bz_header(&bz)->init_size = (uint32_t)BZ_INIT_SIZE + 1;
	ck_assert_int_eq(load(), -EINVAL);
}
END_TEST

static const uint64_t too_large[] = {
	MEM - 4096, MEM, MEM + 1, 1ull << 32, 1ull << 40, INT64_MAX - 4096};

START_TEST(an_initrd_that_does_not_fit_is_refused)
{
	sparse_initrd(too_large[_i]);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.initrd_path");
	ck_assert_ptr_nonnull(strstr(err.msg, "does not fit"));
}
END_TEST

START_TEST(a_kernel_that_allows_no_place_gets_no_initrd)
{
	initrd_fd = image_fd(initrd, INITRD_LEN);
	bz_header(&bz)->initrd_addr_max = 0;
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.initrd_path");
	bz_header(&bz)->initrd_addr_max = (uint32_t)(BZ_PREF + BZ_INIT_SIZE);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "0 MiB are free"));
}
END_TEST

START_TEST(an_empty_initrd_is_refused)
{
	initrd_fd = image_fd("", 0);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.initrd_path");
	ck_assert_ptr_nonnull(strstr(err.msg, "empty"));
}
END_TEST

/* ---- memory map ---- */

static void check_entry(unsigned i, uint64_t addr, uint64_t size, uint32_t type)
{
	ck_assert_uint_eq(params()->e820_table[i].addr, addr);
	ck_assert_uint_eq(params()->e820_table[i].size, size);
	ck_assert_uint_eq(params()->e820_table[i].type, type);
}

START_TEST(the_map_tells_low_memory_tables_and_the_rest)
{
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(params()->e820_entries, 5);
	check_entry(0, 0, LAYOUT_EBDA, 1);
	check_entry(1, LAYOUT_EBDA, LAYOUT_ACPI - LAYOUT_EBDA, 2);
	check_entry(2, LAYOUT_ACPI, LAYOUT_VMGENID - LAYOUT_ACPI, 3);
	check_entry(3, LAYOUT_VMGENID, MIB - LAYOUT_VMGENID, 2);
	check_entry(4, MIB, MEM - MIB, 1);
	ck_assert_uint_eq(params()->acpi_rsdp_addr, LAYOUT_ACPI);
}
END_TEST

START_TEST(the_map_leaves_the_hole_out)
{
	make_memory(LAYOUT_HOLE);
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(params()->e820_entries, 5);
	check_entry(4, MIB, LAYOUT_HOLE - MIB, 1);

	make_memory(LAYOUT_HOLE + 3 * MIB);
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(params()->e820_entries, 6);
	check_entry(4, MIB, LAYOUT_HOLE - MIB, 1);
	check_entry(5, LAYOUT_HOLE_END, 3 * MIB, 1);
}
END_TEST

START_TEST(the_map_of_odd_memories_has_no_empty_entry)
{
	static uint8_t page[4096];
	struct memory_map_entry map[MEMORY_MAP_MAX];

	make_memory(MIB);
	ck_assert_uint_eq(memory_map(&mem, map), 4);
	gmem_destroy(&mem);
	ck_assert_uint_eq(memory_map(&mem, map), 0);
	ck_assert_uint_eq(memory_map_low_end(&mem), 0);
	for (unsigned i = 0; i < GMEM_MAX_REGIONS; i++)
		ck_assert_int_eq(gmem_add(&mem, (i + 1) * MIB, page, 4096), 0);
	ck_assert_uint_eq(memory_map_low_end(&mem), 0);
	ck_assert_uint_eq(memory_map(&mem, map), GMEM_MAX_REGIONS);
	ck_assert_uint_eq(map[0].gpa, MIB);
	mem.n = 0;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("boot");
	TCase *d = tcase_create("dispatch"), *c = tcase_create("cmdline");
	TCase *i = tcase_create("initrd"), *m = tcase_create("map");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(d, setup, teardown);
	tcase_add_test(d, what_is_no_kernel_is_refused);
	tcase_add_test(d, what_cannot_be_read_is_refused_with_its_errno);
	tcase_add_test(d, one_mib_of_memory_is_too_little);
	tcase_add_test(d, memory_that_does_not_begin_at_zero_is_too_little);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, the_command_line_ends_in_a_nul_whatever_was_there);
	tcase_add_test(
		c, a_command_line_as_long_as_the_kernel_takes_is_copied_whole);
	tcase_add_test(c, a_kernel_may_take_a_shorter_command_line);
	tcase_add_test(c, a_kernel_cannot_ask_for_a_longer_one);
	tcase_add_checked_fixture(i, setup, teardown);
	tcase_add_test(i, the_initrd_lies_page_aligned_at_the_top_of_memory);
	tcase_add_test(i, the_initrd_stays_below_what_the_kernel_allows);
	tcase_add_test(i, the_initrd_stays_below_the_hole);
	tcase_add_test(i, an_initrd_that_just_fits_above_the_kernel_is_loaded);
	tcase_add_loop_test(i, an_initrd_that_does_not_fit_is_refused, 0,
		sizeof(too_large) / sizeof(too_large[0]));
	tcase_add_test(i, a_kernel_that_allows_no_place_gets_no_initrd);
	tcase_add_test(i, an_empty_initrd_is_refused);
	tcase_add_checked_fixture(m, setup, teardown);
	tcase_add_test(m, the_map_tells_low_memory_tables_and_the_rest);
	tcase_add_test(m, the_map_leaves_the_hole_out);
	tcase_add_test(m, the_map_of_odd_memories_has_no_empty_entry);
	suite_add_tcase(s, d);
	suite_add_tcase(s, c);
	suite_add_tcase(s, i);
	suite_add_tcase(s, m);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
