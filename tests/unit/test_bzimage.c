#include "base/cleanup.h"
#include "tests/unit/boot_fixture.h"
#include "vmm/limits.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static struct bz bz;

static void setup(void)
{
	make_memory();
	bz_build(&bz);
}

static int load(void)
{
	return load_image(bz.bytes, bz.size, -1);
}

static const struct boot_params *params(void)
{
	return gmem_range(&mem, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
}

START_TEST(the_code_goes_to_the_preferred_address_and_no_further)
{
	ck_assert_msg(load() == 0, "%s", err.msg);
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(entry.entry_gpa, BZ_PREF + 0x200);
	ck_assert_uint_eq(entry.info_gpa, LAYOUT_ZERO_PAGE);
	ck_assert_mem_eq(at(BZ_PREF), bz.bytes + BZ_SETUP, BZ_CODE);
	ck_assert_uint_eq(*at(BZ_PREF - 1), 0);
	ck_assert_uint_eq(*at(BZ_PREF + BZ_CODE), 0);
}
END_TEST

START_TEST(setup_sects_zero_means_four)
{
	static uint8_t big[5 * 512 + BZ_CODE];
	_cleanup_close_ int fd = -1;
	struct boot_images images = {.initrd_fd = -1, .cmdline = ""};

	bz_header(&bz)->setup_sects = 0;
	memcpy(big, bz.bytes, BZ_SETUP);
	memcpy(big + sizeof(big) - BZ_CODE, bz.bytes + BZ_SETUP, BZ_CODE);
	fd = image_fd(big, sizeof(big));
	images.kernel_fd = fd;
	ck_assert_int_eq(boot_load(&mem, &images, &entry, &err), 0);
	ck_assert_mem_eq(at(BZ_PREF), bz.bytes + BZ_SETUP, BZ_CODE);
}
END_TEST

/* What a signed image has after its code is not the kernel's. */
START_TEST(bytes_after_the_code_are_left_alone)
{
	bz_header(&bz)->syssize = BZ_CODE / 16 - 1;
	ck_assert_int_eq(load(), 0);
	ck_assert_mem_eq(at(BZ_PREF), bz.bytes + BZ_SETUP, BZ_CODE - 16);
	ck_assert_uint_eq(*at(BZ_PREF + BZ_CODE - 16), 0);
}
END_TEST

START_TEST(the_zero_page_holds_the_header_and_what_a_loader_decides)
{
	const struct boot_params *p = params();
	struct setup_header *h = bz_header(&bz);

	/* Ours to say, whatever the file says. */
	h->type_of_loader = 0x11;
	h->loadflags |= QUIET_FLAG | 0x80;
	h->setup_data = 0xdeadbeef;
	h->ramdisk_image = 0x1000;
	h->ramdisk_size = 0x1000;
	h->cmd_line_ptr = 0x1000;
	h->hardware_subarch = 2;
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(p->hdr.header, 0x53726448);
	ck_assert_uint_eq(p->hdr.version, 0x020f);
	ck_assert_uint_eq(p->hdr.init_size, BZ_INIT_SIZE);
	ck_assert_uint_eq(p->hdr.type_of_loader, 0xff);
	ck_assert_uint_eq(p->hdr.loadflags, LOADED_HIGH);
	ck_assert_uint_eq(p->hdr.code32_start, BZ_PREF);
	ck_assert_uint_eq(p->hdr.setup_data, 0);
	ck_assert_uint_eq(p->hdr.hardware_subarch, 0);
	ck_assert_uint_eq(p->hdr.ramdisk_image, 0);
	ck_assert_uint_eq(p->hdr.ramdisk_size, 0);
	ck_assert_uint_eq(p->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	ck_assert_str_eq((const char *)at(LAYOUT_CMDLINE), "quiet");
	/* Nothing of the boot sector around the header. */
	ck_assert_uint_eq(p->sentinel, 0);
	ck_assert_uint_eq(p->_pad7[0], 0);
	ck_assert_uint_eq(p->edd_mbr_sig_buffer[0], 0);
}
END_TEST

/* An older kernel's header ends earlier; its code follows at once. */
START_TEST(a_short_header_is_not_read_beyond_its_end)
{
	bz_header(&bz)->jump = 0x62eb;
	bz_header(&bz)->handover_offset = 0x11223344;
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(params()->hdr.init_size, BZ_INIT_SIZE);
	ck_assert_uint_eq(params()->hdr.handover_offset, 0);
}
END_TEST

START_TEST(a_long_header_does_not_spill_into_the_zero_page)
{
	bz_header(&bz)->jump = 0xffeb;
	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(params()->_pad7[0], 0);
	ck_assert_uint_eq(params()->edd_mbr_sig_buffer[0], 0);
}
END_TEST

START_TEST(the_first_gigabyte_is_mapped_where_it_is)
{
	const uint64_t *pml4 = (const void *)at(LAYOUT_PML4);
	const uint64_t *pdpt = pml4 + 512, *pd = pml4 + 1024;
	const uint64_t *gdt = (const void *)at(LAYOUT_GDT);

	ck_assert_int_eq(load(), 0);
	ck_assert_uint_eq(pml4[0], (LAYOUT_PML4 + 0x1000) | 3);
	ck_assert_uint_eq(pml4[1], 0);
	ck_assert_uint_eq(pdpt[0], (LAYOUT_PML4 + 0x2000) | 3);
	ck_assert_uint_eq(pdpt[1], 0);
	for (unsigned i = 0; i < 512; i++)
		ck_assert_uint_eq(pd[i], 2 * MIB * i | 0x83);
	/* Long-mode code and data, present, ring 0, flat. */
	ck_assert_uint_eq(gdt[0], 0);
	ck_assert_uint_eq(gdt[BOOT_GDT_CS / 8], 0x00af9b000000ffffull);
	ck_assert_uint_eq(gdt[BOOT_GDT_DS / 8], 0x00cf93000000ffffull);
}
END_TEST

START_TEST(a_kernel_that_just_fits_is_loaded)
{
	bz_header(&bz)->init_size = (uint32_t)(MEM - BZ_PREF);
	ck_assert_msg(load() == 0, "%s", err.msg);
	bz_header(&bz)->init_size = 0; /* less than the code itself */
	bz_header(&bz)->pref_address = MEM - BZ_CODE;
	ck_assert_msg(load() == 0, "%s", err.msg);
	bz_header(&bz)->pref_address = LAYOUT_HIGH_RAM;
	ck_assert_msg(load() == 0, "%s", err.msg);
}
END_TEST

/* The page tables cover no more, even where there is memory. */
START_TEST(a_kernel_beyond_the_mapped_gigabyte_is_refused)
{
	gmem_destroy(&mem);
	ck_assert_int_eq(gmem_create(&mem, 2048 * MIB, LAYOUT_HOLE,
				 LAYOUT_HOLE_END, false, &err),
		0);
	bz_header(&bz)->pref_address = 1024 * MIB - BZ_INIT_SIZE;
	ck_assert_msg(load() == 0, "%s", err.msg);
	bz_header(&bz)->pref_address += 16;
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "between 1 MiB and 1024 MiB"));
}
END_TEST

static void no_boot_flag(struct bz *b)
{
	bz_header(b)->boot_flag = 0;
}

static void old_protocol(struct bz *b)
{
	bz_header(b)->version = 0x020b;
}

static void header_ends_before_init_size(struct bz *b)
{
	bz_header(b)->jump = 0x61eb;
}

static void zimage(struct bz *b)
{
	bz_header(b)->loadflags = 0;
}

static void only_32_bit(struct bz *b)
{
	bz_header(b)->xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
}

static void no_code(struct bz *b)
{
	bz_header(b)->syssize = 0;
}

static void code_ends_at_entry(struct bz *b)
{
	bz_header(b)->syssize = 0x200 / 16;
}

static void one_byte_short(struct bz *b)
{
	b->size--;
}

static void ends_in_setup(struct bz *b)
{
	b->size = BZ_SETUP - 1;
}

static void ends_in_header(struct bz *b)
{
	b->size = 0x206;
}

static void setup_longer_than_file(struct bz *b)
{
	bz_header(b)->setup_sects = 255;
}

static void code_of_64_gib(struct bz *b)
{
	bz_header(b)->syssize = UINT32_MAX;
}

static void below_one_mib(struct bz *b)
{
	bz_header(b)->pref_address = LAYOUT_HIGH_RAM - 16;
}

static void at_zero(struct bz *b)
{
	bz_header(b)->pref_address = 0;
}

static void at_the_zero_page(struct bz *b)
{
	bz_header(b)->pref_address = LAYOUT_ZERO_PAGE;
	bz_header(b)->init_size = 0;
}

static void in_the_hole(struct bz *b)
{
	bz_header(b)->pref_address = LAYOUT_HOLE;
}

static void wraps_around(struct bz *b)
{
	bz_header(b)->pref_address = UINT64_MAX - BZ_CODE + 1;
}

static void wraps_around_with_init_size(struct bz *b)
{
	bz_header(b)->pref_address = UINT64_MAX - 0x10000;
	bz_header(b)->init_size = UINT32_MAX;
}

static void init_size_beyond_memory(struct bz *b)
{
	bz_header(b)->init_size = (uint32_t)(MEM - BZ_PREF) + 1;
}

static void code_beyond_memory(struct bz *b)
{
	bz_header(b)->init_size = 0;
	bz_header(b)->pref_address = MEM - BZ_CODE + 16;
}

static void init_size_of_4_gib(struct bz *b)
{
	bz_header(b)->init_size = UINT32_MAX;
}

static const struct {
	void (*bend)(struct bz *b);
	const char *says;
} bad[] = {
	{no_boot_flag, "no valid signature"},
	{old_protocol, "boot protocol 2.11"},
	{header_ends_before_init_size, "setup header is too short"},
	{zimage, "zImage"},
	{only_32_bit, "no 64-bit entry"},
	{no_code, "no code"},
	{code_ends_at_entry, "no code"},
	{one_byte_short, "truncated"},
	{ends_in_setup, "truncated"},
	{ends_in_header, "truncated"},
	{setup_longer_than_file, "truncated"},
	{code_of_64_gib, "between 1 MiB"},
	{below_one_mib, "between 1 MiB"},
	{at_zero, "between 1 MiB"},
	{at_the_zero_page, "between 1 MiB"},
	{in_the_hole, "between 1 MiB"},
	{wraps_around, "between 1 MiB"},
	{wraps_around_with_init_size, "between 1 MiB"},
	{init_size_beyond_memory, "does not fit"},
	{code_beyond_memory, "does not fit"},
	{init_size_of_4_gib, "between 1 MiB"},
};

START_TEST(a_malformed_image_is_refused_with_a_reason)
{
	bad[_i].bend(&bz);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_int_eq(err.code, EINVAL);
	ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	ck_assert_msg(strstr(err.msg, bad[_i].says) != NULL, "%s", err.msg);
}
END_TEST

/* Every prefix of an image: none is taken, none is read beyond its end. */
START_TEST(an_image_cut_anywhere_is_refused)
{
	for (size_t n = 0; n < sizeof(bz.bytes); n += n < 1100 ? 1 : 97) {
		bz.size = n;
		ck_assert_int_eq(load(), -EINVAL);
		ck_assert_str_eq(err.field, "boot-source.kernel_image_path");
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bzimage");
	TCase *t = tcase_create("load"), *m = tcase_create("malformed");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(
		t, the_code_goes_to_the_preferred_address_and_no_further);
	tcase_add_test(t, setup_sects_zero_means_four);
	tcase_add_test(t, bytes_after_the_code_are_left_alone);
	tcase_add_test(
		t, the_zero_page_holds_the_header_and_what_a_loader_decides);
	tcase_add_test(t, a_short_header_is_not_read_beyond_its_end);
	tcase_add_test(t, a_long_header_does_not_spill_into_the_zero_page);
	tcase_add_test(t, the_first_gigabyte_is_mapped_where_it_is);
	tcase_add_test(t, a_kernel_that_just_fits_is_loaded);
	tcase_add_test(t, a_kernel_beyond_the_mapped_gigabyte_is_refused);
	tcase_add_checked_fixture(m, setup, teardown);
	tcase_add_loop_test(m, a_malformed_image_is_refused_with_a_reason, 0,
		sizeof(bad) / sizeof(bad[0]));
	tcase_add_test(m, an_image_cut_anywhere_is_refused);
	suite_add_tcase(s, t);
	suite_add_tcase(s, m);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
