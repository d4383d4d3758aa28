#include "base/cleanup.h"
#include "tests/unit/boot_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static struct elf_image elf;

static void setup(void)
{
	make_memory();
	elf_build_pvh(&elf);
}

static int load_with(int initrd_fd)
{
	return load_image(elf.bytes, elf.size, initrd_fd);
}

static int load(void)
{
	return load_with(-1);
}

/* A field of the boot information, at its offset in the ABI. */
static uint32_t u32(uint64_t gpa)
{
	uint32_t v;

	memcpy(&v, gmem_range(&mem, gpa, sizeof(v)), sizeof(v));
	return v;
}

static uint64_t u64(uint64_t gpa)
{
	uint64_t v;

	memcpy(&v, gmem_range(&mem, gpa, sizeof(v)), sizeof(v));
	return v;
}

/* Notes anew: only those which the test adds. */
static void clear_notes(void)
{
	elf_build(&elf);
}

START_TEST(the_entry_of_the_note_is_taken)
{
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_PVH);
	ck_assert_uint_eq(entry.entry_gpa, ELF_PVH_ENTRY);
	ck_assert_uint_eq(entry.info_gpa, LAYOUT_PVH_INFO);
}
END_TEST

START_TEST(the_start_info_is_laid_out_as_the_abi_says)
{
	uint64_t map;

	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO), 0x336ec578);
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO + 4), 1);  /* version */
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO + 8), 0);  /* flags */
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO + 12), 0); /* modules */
	ck_assert_uint_eq(u64(LAYOUT_PVH_INFO + 16), 0);
	ck_assert_uint_eq(u64(LAYOUT_PVH_INFO + 24), LAYOUT_CMDLINE);
	ck_assert_uint_eq(u64(LAYOUT_PVH_INFO + 32), LAYOUT_ACPI);
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO + 48), 5); /* map entries */
	map = u64(LAYOUT_PVH_INFO + 40);
	ck_assert_uint_eq(u64(map), 0);
	ck_assert_uint_eq(u64(map + 8), LAYOUT_EBDA);
	ck_assert_uint_eq(u32(map + 16), 1);
	ck_assert_uint_eq(u64(map + 96), MIB);
	ck_assert_uint_eq(u64(map + 96 + 8), MEM - MIB);
	ck_assert_uint_eq(u32(map + 96 + 16), 1);
	ck_assert_str_eq(gmem_range(&mem, LAYOUT_CMDLINE, 6), "quiet");
}
END_TEST

START_TEST(the_initrd_is_the_one_module)
{
	_cleanup_close_ int fd = image_fd("0123456789", 10);
	uint64_t module;

	ck_assert_msg(load_with(fd) == 0, "%s", err.msg);
	ck_assert_uint_eq(u32(LAYOUT_PVH_INFO + 12), 1);
	module = u64(LAYOUT_PVH_INFO + 16);
	ck_assert_uint_eq(u64(module), MEM - 4096);
	ck_assert_uint_eq(u64(module + 8), 10);
	ck_assert_uint_eq(u64(module + 16), 0);
	ck_assert_mem_eq(gmem_range(&mem, MEM - 4096, 10), "0123456789", 10);
}
END_TEST

/* Protected mode without paging reaches all of low memory. */
START_TEST(a_kernel_beyond_the_first_gigabyte_is_loaded)
{
	gmem_destroy(&mem);
	ck_assert_int_eq(gmem_create(&mem, 4096 * MIB, LAYOUT_HOLE,
				 LAYOUT_HOLE_END, false, &err),
		0);
	elf_phdr(&elf, 0)->p_paddr = 1024 * MIB;
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 0)->p_paddr = LAYOUT_HOLE - ELF_SEG0_LEN;
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 0)->p_paddr++;
	ck_assert_int_eq(load(), -EINVAL);
}
END_TEST

START_TEST(an_entry_of_four_bytes_is_taken)
{
	uint32_t pvh = ELF_PVH_ENTRY;

	clear_notes();
	elf_add_note(&elf, "Xen", 18, &pvh, 4, 4);
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(entry.protocol, BOOT_PVH);
	ck_assert_uint_eq(entry.entry_gpa, ELF_PVH_ENTRY);
}
END_TEST

START_TEST(notes_aligned_to_eight_bytes_are_read)
{
	uint64_t pvh = ELF_PVH_ENTRY;

	clear_notes();
	elf_add_note(&elf, "GNU", 5, "1", 2, 8);
	elf_add_note(&elf, "Xen", 18, &pvh, 8, 8);
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(entry.protocol, BOOT_PVH);
}
END_TEST

static const struct {
	const char *name;
	uint32_t type, desc_len;
} others[] = {
	{"Xen", 17, 8},
	{"Xen", 18, 2},
	{"Xen", 18, 16},
	{"XEN", 18, 8},
	{"Xe", 18, 8},
	{"Xenn", 18, 8},
	{"", 18, 8},
};

START_TEST(a_note_that_is_not_the_one_leaves_the_64_bit_entry)
{
	uint64_t pvh[2] = {ELF_PVH_ENTRY, 0};

	clear_notes();
	elf_add_note(&elf, others[_i].name, others[_i].type, pvh,
		others[_i].desc_len, 4);
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(entry.entry_gpa, ELF_ENTRY);
}
END_TEST

/* The one note's sizes and its segment's, each too large or cut. */
static const struct {
	uint32_t name_len, desc_len;
	uint64_t segment_len;
} broken[] = {
	{UINT32_MAX, 8, 24},
	{4, UINT32_MAX, 24},
	{UINT32_MAX, UINT32_MAX, 24},
	/* 12 + name wraps in 32 bits */
	{UINT32_MAX - 11, 8, 24},
	/* the last byte of the entry is missing */
	{4, 8, 23},
	{4, 8, 12},
	/* not even a header */
	{4, 8, 11},
	{4, 8, 0},
	/* the name runs over the end */
	{24, 8, 24},
	/* a longer name that begins alike */
	{8, 4, 24},
};

START_TEST(a_broken_note_is_no_entry)
{
	Elf64_Nhdr *nh = (void *)(elf.bytes + ELF_NOTES_AT);
	uint64_t pvh = ELF_PVH_ENTRY;

	clear_notes();
	elf_add_note(&elf, "Xen", 18, &pvh, 8, 4);
	nh->n_namesz = broken[_i].name_len;
	nh->n_descsz = broken[_i].desc_len;
	/* The decoy's rest stays in the file, behind the segment. */
	elf_phdr(&elf, 2)->p_filesz = broken[_i].segment_len;
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
}
END_TEST

/* The most that is read, with a rest too short for another header. */
START_TEST(notes_may_take_16_kib_and_end_in_padding)
{
	static uint8_t file[ELF_NOTES_AT + 16384];
	_cleanup_close_ int fd = -1;
	struct boot_images images = {.initrd_fd = -1, .cmdline = ""};
	Elf64_Nhdr nh = {4, 16384 - 4 - 16, 1};

	clear_notes();
	elf_phdr(&elf, 2)->p_filesz = 16384;
	memcpy(file, elf.bytes, ELF_NOTES_AT);
	memcpy(file + ELF_NOTES_AT, &nh, sizeof(nh));
	fd = image_fd(file, sizeof(file));
	images.kernel_fd = fd;
	ck_assert_msg(
		boot_load(&mem, &images, &entry, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
}
END_TEST

static const uint64_t bad_entries[] = {0, 0x7000, ELF_SEG0 - 1,
	ELF_SEG1 + ELF_SEG1_LEN, 1ull << 32 | ELF_PVH_ENTRY, UINT64_MAX};

START_TEST(an_entry_outside_of_the_kernel_is_refused)
{
	clear_notes();
	elf_add_note(&elf, "Xen", 18, &bad_entries[_i], 8, 4);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	ck_assert_ptr_nonnull(strstr(err.msg, "entry point"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pvh");
	TCase *t = tcase_create("start"), *n = tcase_create("notes");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_entry_of_the_note_is_taken);
	tcase_add_test(t, the_start_info_is_laid_out_as_the_abi_says);
	tcase_add_test(t, the_initrd_is_the_one_module);
	tcase_add_test(t, a_kernel_beyond_the_first_gigabyte_is_loaded);
	tcase_add_checked_fixture(n, setup, teardown);
	tcase_add_test(n, an_entry_of_four_bytes_is_taken);
	tcase_add_test(n, notes_aligned_to_eight_bytes_are_read);
	tcase_add_loop_test(n,
		a_note_that_is_not_the_one_leaves_the_64_bit_entry, 0,
		sizeof(others) / sizeof(others[0]));
	tcase_add_loop_test(n, a_broken_note_is_no_entry, 0,
		sizeof(broken) / sizeof(broken[0]));
	tcase_add_test(n, notes_may_take_16_kib_and_end_in_padding);
	tcase_add_loop_test(n, an_entry_outside_of_the_kernel_is_refused, 0,
		sizeof(bad_entries) / sizeof(bad_entries[0]));
	suite_add_tcase(s, t);
	suite_add_tcase(s, n);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
