#include "tests/unit/boot_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static struct elf_image elf;

static void setup(void)
{
	make_memory();
	elf_build(&elf);
}

static int load(void)
{
	return load_image(elf.bytes, elf.size, -1);
}

START_TEST(segments_go_to_their_physical_addresses)
{
	const uint8_t *data = elf.bytes + ELF_DATA_AT;

	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(entry.entry_gpa, ELF_ENTRY);
	ck_assert_uint_eq(entry.info_gpa, LAYOUT_ZERO_PAGE);
	ck_assert_mem_eq(at(ELF_SEG0), data, ELF_SEG0_LEN);
	ck_assert_uint_eq(*at(ELF_SEG0 + ELF_SEG0_LEN), 0);
	ck_assert_mem_eq(at(ELF_SEG1), data + ELF_SEG0_LEN, ELF_SEG1_LEN);
	for (unsigned i = ELF_SEG1_LEN; i < ELF_SEG1_MEM; i++)
		ck_assert_uint_eq(*at(ELF_SEG1 + i), 0);
}
END_TEST

START_TEST(the_zero_page_says_who_loaded_it)
{
	const struct boot_params *p =
		gmem_range(&mem, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));

	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(p->hdr.boot_flag, 0xaa55);
	ck_assert_uint_eq(p->hdr.header, 0x53726448);
	ck_assert_uint_eq(p->hdr.type_of_loader, 0xff);
	ck_assert_uint_eq(p->hdr.loadflags, LOADED_HIGH);
	ck_assert_uint_eq(p->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	ck_assert_str_eq((const char *)at(LAYOUT_CMDLINE), "quiet");
}
END_TEST

START_TEST(segments_in_any_order_and_touching_are_loaded)
{
	elf_phdr(&elf, 1)->p_paddr = ELF_SEG0 - ELF_SEG1_MEM;
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 1)->p_paddr = ELF_SEG0 + ELF_SEG0_LEN;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

START_TEST(a_segment_may_end_where_memory_ends)
{
	elf_phdr(&elf, 1)->p_paddr = MEM - ELF_SEG1_MEM;
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 1)->p_paddr = LAYOUT_HIGH_RAM;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

START_TEST(empty_and_foreign_segments_are_passed_over)
{
	*elf_phdr(&elf, 2) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_paddr = 0x10, .p_offset = UINT64_MAX};
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 2)->p_type = PT_GNU_STACK;
	elf_phdr(&elf, 2)->p_filesz = UINT64_MAX;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

START_TEST(a_note_inside_of_a_segment_does_not_overlap_it)
{
	Elf64_Phdr note = *elf_phdr(&elf, 0);

	note.p_type = PT_NOTE;
	*elf_phdr(&elf, 2) = *elf_phdr(&elf, 0);
	*elf_phdr(&elf, 0) = note;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

START_TEST(a_position_independent_file_is_taken)
{
	elf_header(&elf)->e_type = ET_DYN;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

/* The 64-bit entry's page tables end at 1 GiB. */
START_TEST(a_segment_beyond_the_mapped_gigabyte_is_refused)
{
	gmem_destroy(&mem);
	ck_assert_int_eq(gmem_create(&mem, 2048 * MIB, LAYOUT_HOLE,
				 LAYOUT_HOLE_END, false, &err),
		0);
	elf_phdr(&elf, 1)->p_paddr = 1024 * MIB - ELF_SEG1_MEM;
	ck_assert_msg(load() == 0, "%s", err.msg);
	elf_phdr(&elf, 1)->p_paddr++;
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "between 1 MiB and 1024 MiB"));
}
END_TEST

/* Memory above 4 GiB is no place for a segment. */
START_TEST(a_segment_above_the_hole_is_refused)
{
	gmem_destroy(&mem);
	ck_assert_int_eq(gmem_create(&mem, 4096 * MIB, LAYOUT_HOLE,
				 LAYOUT_HOLE_END, false, &err),
		0);
	elf_phdr(&elf, 1)->p_paddr = LAYOUT_HOLE_END;
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "between 1 MiB"));
}
END_TEST

static void class_32(struct elf_image *e)
{
	elf_header(e)->e_ident[EI_CLASS] = ELFCLASS32;
}

static void class_none(struct elf_image *e)
{
	elf_header(e)->e_ident[EI_CLASS] = ELFCLASSNONE;
}

static void big_endian(struct elf_image *e)
{
	elf_header(e)->e_ident[EI_DATA] = ELFDATA2MSB;
}

static void arm(struct elf_image *e)
{
	elf_header(e)->e_machine = EM_AARCH64;
}

static void object(struct elf_image *e)
{
	elf_header(e)->e_type = ET_REL;
}

static void core(struct elf_image *e)
{
	elf_header(e)->e_type = ET_CORE;
}

static void no_phdrs(struct elf_image *e)
{
	elf_header(e)->e_phnum = 0;
}

static void too_many_phdrs(struct elf_image *e)
{
	elf_header(e)->e_phnum = 65;
}

static void small_phdrs(struct elf_image *e)
{
	elf_header(e)->e_phentsize = sizeof(Elf64_Phdr) - 1;
}

static void large_phdrs(struct elf_image *e)
{
	elf_header(e)->e_phentsize = sizeof(Elf64_Phdr) + 8;
}

static void phdrs_beyond_end(struct elf_image *e)
{
	elf_header(e)->e_phoff = e->size - ELF_PHDRS * sizeof(Elf64_Phdr) + 1;
}

static void phdrs_wrap(struct elf_image *e)
{
	elf_header(e)->e_phoff = UINT64_MAX - 8;
}

static void nothing_to_load(struct elf_image *e)
{
	elf_phdr(e, 0)->p_type = PT_NULL;
	elf_phdr(e, 1)->p_type = PT_NULL;
}

static void file_larger_than_memory(struct elf_image *e)
{
	elf_phdr(e, 0)->p_memsz = ELF_SEG0_LEN - 1;
}

static void all_file_no_memory(struct elf_image *e)
{
	elf_phdr(e, 1)->p_memsz = 0;
}

static void segment_beyond_end(struct elf_image *e)
{
	e->size--;
}

static void offset_beyond_end(struct elf_image *e)
{
	elf_phdr(e, 1)->p_offset = e->size + 1;
}

static void offset_wraps(struct elf_image *e)
{
	elf_phdr(e, 1)->p_offset = UINT64_MAX - ELF_SEG1_LEN + 1;
}

static void filesz_huge(struct elf_image *e)
{
	elf_phdr(e, 1)->p_filesz = UINT64_MAX;
	elf_phdr(e, 1)->p_memsz = UINT64_MAX;
}

static void memsz_wraps(struct elf_image *e)
{
	elf_phdr(e, 1)->p_memsz = UINT64_MAX - ELF_SEG1 + 1;
}

static void paddr_wraps(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = UINT64_MAX - ELF_SEG1_MEM + 1;
}

static void low_segment(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = LAYOUT_HIGH_RAM - 1;
}

static void over_the_page_tables(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = LAYOUT_PML4;
}

static void beyond_memory(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = MEM - ELF_SEG1_MEM + 1;
}

static void bss_beyond_memory(struct elf_image *e)
{
	elf_phdr(e, 1)->p_memsz = MEM - ELF_SEG1 + 1;
}

static void overlap_by_one_byte(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = ELF_SEG0 + ELF_SEG0_LEN - 1;
}

static void overlap_from_below(struct elf_image *e)
{
	elf_phdr(e, 1)->p_paddr = ELF_SEG0 - ELF_SEG1_MEM + 1;
}

static void overlap_with_the_last(struct elf_image *e)
{
	*elf_phdr(e, 2) = *elf_phdr(e, 0);
}

static void entry_nowhere(struct elf_image *e)
{
	elf_header(e)->e_entry = ELF_SEG0 + ELF_SEG0_LEN;
}

static void entry_below(struct elf_image *e)
{
	elf_header(e)->e_entry = ELF_SEG0 - 1;
}

static void entry_in_bss(struct elf_image *e)
{
	elf_header(e)->e_entry = ELF_SEG1 + ELF_SEG1_LEN;
}

static void entry_virtual(struct elf_image *e)
{
	elf_header(e)->e_entry = elf_phdr(e, 0)->p_vaddr + 0x100;
}

static void entry_in_a_note(struct elf_image *e)
{
	elf_phdr(e, 2)->p_paddr = 8 * MIB;
	elf_phdr(e, 2)->p_filesz = 16;
	e->size += 16;
	elf_header(e)->e_entry = 8 * MIB;
}

static void notes_beyond_end(struct elf_image *e)
{
	elf_phdr(e, 2)->p_filesz = 1;
}

static void notes_too_long(struct elf_image *e)
{
	elf_phdr(e, 2)->p_filesz = 16385;
}

static const struct {
	void (*bend)(struct elf_image *e);
	const char *says;
} bad[] = {
	{class_32, "32-bit ELF"},
	{class_none, "32-bit ELF"},
	{big_endian, "another machine"},
	{arm, "another machine (183)"},
	{object, "cannot be executed"},
	{core, "cannot be executed"},
	{no_phdrs, "has 0 program headers"},
	{too_many_phdrs, "has 65 program headers"},
	{small_phdrs, "program headers of 55 bytes"},
	{large_phdrs, "program headers of 64 bytes"},
	{phdrs_beyond_end, "program headers takes"},
	{phdrs_wrap, "program headers takes"},
	{nothing_to_load, "none of its ELF segments"},
	{file_larger_than_memory, "larger in the file"},
	{all_file_no_memory, "larger in the file"},
	{segment_beyond_end, "truncated"},
	{offset_beyond_end, "truncated"},
	{offset_wraps, "truncated"},
	{filesz_huge, "between 1 MiB"},
	{memsz_wraps, "between 1 MiB"},
	{paddr_wraps, "between 1 MiB"},
	{low_segment, "between 1 MiB"},
	{over_the_page_tables, "between 1 MiB"},
	{beyond_memory, "does not fit"},
	{bss_beyond_memory, "does not fit"},
	{overlap_by_one_byte, "segments 0 and 1 overlap"},
	{overlap_from_below, "segments 0 and 1 overlap"},
	{overlap_with_the_last, "segments 0 and 2 overlap"},
	{entry_nowhere, "none of its ELF segments"},
	{entry_below, "none of its ELF segments"},
	{entry_in_bss, "none of its ELF segments"},
	{entry_virtual, "none of its ELF segments"},
	{entry_in_a_note, "none of its ELF segments"},
	{notes_beyond_end, "ELF notes takes"},
	{notes_too_long, "ELF notes take 16385 bytes"},
};

START_TEST(a_malformed_file_is_refused_with_a_reason)
{
	bad[_i].bend(&elf);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	ck_assert_msg(strstr(err.msg, bad[_i].says) != NULL, "%s", err.msg);
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
	for (size_t n = 0; n < ELF_NOTES_AT; n += n < 300 ? 1 : 61) {
		elf.size = n;
		ck_assert_int_eq(load(), -EINVAL);
		ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("elf");
	TCase *t = tcase_create("load"), *m = tcase_create("malformed");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, segments_go_to_their_physical_addresses);
	tcase_add_test(t, the_zero_page_says_who_loaded_it);
	tcase_add_test(t, segments_in_any_order_and_touching_are_loaded);
	tcase_add_test(t, a_segment_may_end_where_memory_ends);
	tcase_add_test(t, empty_and_foreign_segments_are_passed_over);
	tcase_add_test(t, a_note_inside_of_a_segment_does_not_overlap_it);
	tcase_add_test(t, a_position_independent_file_is_taken);
	tcase_add_test(t, a_segment_beyond_the_mapped_gigabyte_is_refused);
	tcase_add_test(t, a_segment_above_the_hole_is_refused);
	tcase_add_checked_fixture(m, setup, teardown);
	tcase_add_loop_test(m, a_malformed_file_is_refused_with_a_reason, 0,
		sizeof(bad) / sizeof(bad[0]));
	tcase_add_test(m, a_file_cut_anywhere_is_refused);
	suite_add_tcase(s, t);
	suite_add_tcase(s, m);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
