#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vm_config config;
static struct error err;

static void set_up(void)
{
	vm_config_init(&config);
	memset(&err, 0, sizeof(err));
}

static void tear_down(void)
{
	vm_config_fini(&config);
}

static int put(const char *id, bool root)
{
	struct vm_drive d = {.drive_id = strdup(id),
		.path_on_host = strdup("/disk"),
		.is_root_device = root};
	int r = vm_config_put_drive(&config, &d, &err);

	ck_assert_ptr_null(d.drive_id);
	return r;
}

/* The drives' ids, in order, without spaces. */
static const char *order(void)
{
	static char text[VM_MAX_DRIVES * 4];
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < config.n_drives; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s",
			config.drives[i].drive_id);
	return text;
}

START_TEST(defaults_are_one_vcpu_and_128_mib)
{
	ck_assert_uint_eq(config.machine_config.vcpu_count, 1);
	ck_assert_uint_eq(config.machine_config.mem_size_mib, 128);
	ck_assert_uint_eq(config.n_drives, 0);
}
END_TEST

START_TEST(the_root_drive_is_first_whenever_it_comes)
{
	ck_assert_int_eq(put("a", false), 0);
	ck_assert_int_eq(put("b", false), 0);
	ck_assert_int_eq(put("r", true), 0);
	ck_assert_str_eq(order(), "rab");
}
END_TEST

START_TEST(a_drive_of_the_same_id_is_replaced_in_place)
{
	put("r", true);
	put("a", false);
	put("b", false);
	ck_assert_int_eq(put("a", false), 0);
	ck_assert_str_eq(order(), "rab");
	ck_assert_int_eq(put("r", true), 0);
	ck_assert_str_eq(order(), "rab");
}
END_TEST

START_TEST(a_second_root_device_is_refused_and_changes_nothing)
{
	put("r", true);
	put("a", false);
	ck_assert_int_eq(put("b", true), -EINVAL);
	ck_assert_str_eq(err.field, "drives.is_root_device");
	ck_assert_int_eq(put("a", true), -EINVAL);
	ck_assert_str_eq(order(), "ra");
	ck_assert(!config.drives[1].is_root_device);
}
END_TEST

START_TEST(a_drive_may_become_or_stop_being_the_root_device)
{
	put("r", true);
	put("a", false);
	put("b", false);
	ck_assert_int_eq(put("r", false), 0);
	ck_assert_int_eq(put("b", true), 0);
	ck_assert_str_eq(order(), "bra");
}
END_TEST

START_TEST(there_are_at_most_sixteen_drives)
{
	char id[4];

	for (int i = 0; i < VM_MAX_DRIVES; i++) {
		snprintf(id, sizeof(id), "%d", i);
		ck_assert_int_eq(put(id, false), 0);
	}
	ck_assert_int_eq(put("x", false), -EINVAL);
	ck_assert_str_eq(err.field, "drives");
	/* Replacing adds none. */
	ck_assert_int_eq(put("15", true), 0);
	ck_assert_str_eq(config.drives[0].drive_id, "15");
}
END_TEST

START_TEST(a_copy_shares_nothing)
{
	struct vm_config copy;

	config.boot_source.kernel_image_path = strdup("/k");
	config.boot_source.boot_args = strdup("quiet");
	put("r", true);
	config.drives[0].partuuid = strdup("12");
	ck_assert_int_eq(
		vm_config_add_label(&config, strdup("k"), strdup("v")), 0);
	ck_assert_int_eq(vm_config_copy(&copy, &config), 0);
	ck_assert_str_eq(copy.boot_source.boot_args, "quiet");
	ck_assert_ptr_null(copy.boot_source.initrd_path);
	ck_assert_str_eq(copy.drives[0].partuuid, "12");
	ck_assert_str_eq(copy.labels[0].value, "v");
	ck_assert_ptr_ne(copy.drives[0].drive_id, config.drives[0].drive_id);
	/* AddressSanitizer sees what is freed twice. */
	vm_config_fini(&copy);
}
END_TEST

static const struct {
	const char *args, *partuuid;
	bool root, read_only;
	const char *want;
} cmdlines[] = {
	{"quiet", NULL, false, false, "quiet"},
	{"quiet", NULL, true, false, "quiet root=/dev/vda rw"},
	{"quiet", NULL, true, true, "quiet root=/dev/vda ro"},
	{"quiet", "ab-1", true, true, "quiet root=PARTUUID=ab-1 ro"},
	{"", NULL, true, false, "root=/dev/vda rw"},
	{"", NULL, false, false, ""},
	{"a -- b c", NULL, true, false, "a root=/dev/vda rw -- b c"},
	{"a --", NULL, true, false, "a root=/dev/vda rw --"},
	{"-- b", NULL, true, false, "root=/dev/vda rw -- b"},
	{"a--b", NULL, true, false, "a--b root=/dev/vda rw"},
	{NULL, NULL, false, false, VM_DEFAULT_BOOT_ARGS},
	{NULL, NULL, true, true, VM_DEFAULT_BOOT_ARGS " root=/dev/vda ro"},
};

START_TEST(the_command_line_ends_with_the_root_drive)
{
	char buf[VM_CMDLINE_MAX];

	if (cmdlines[_i].args)
		config.boot_source.boot_args = strdup(cmdlines[_i].args);
	put("a", cmdlines[_i].root);
	config.drives[0].is_read_only = cmdlines[_i].read_only;
	if (cmdlines[_i].partuuid)
		config.drives[0].partuuid = strdup(cmdlines[_i].partuuid);
	ck_assert_int_eq(vm_config_cmdline(&config, buf, &err), 0);
	ck_assert_str_eq(buf, cmdlines[_i].want);
}
END_TEST

START_TEST(a_command_line_fits_to_the_byte_or_is_refused)
{
	static const char tail[] = " root=/dev/vda rw";
	char buf[VM_CMDLINE_MAX];
	size_t fits = VM_CMDLINE_MAX - sizeof(tail);

	config.boot_source.boot_args = calloc(1, VM_CMDLINE_MAX);
	memset(config.boot_source.boot_args, 'x', fits);
	put("r", true);
	ck_assert_int_eq(vm_config_cmdline(&config, buf, &err), 0);
	ck_assert_uint_eq(strlen(buf), VM_CMDLINE_MAX - 1);
	config.boot_source.boot_args[fits] = 'x';
	ck_assert_int_eq(vm_config_cmdline(&config, buf, &err), -EINVAL);
	ck_assert_str_eq(err.field, "boot-source.boot_args");
}
END_TEST

START_TEST(memory_beyond_the_hosts_and_odd_smt_are_refused)
{
	config.machine_config.mem_size_mib = 1000;
	ck_assert_int_eq(vm_config_check(&config, 1000, &err), 0);
	ck_assert_int_eq(vm_config_check(&config, 0, &err), 0);
	ck_assert_int_eq(vm_config_check(&config, 999, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.mem_size_mib");
	ck_assert_ptr_nonnull(strstr(err.msg, "999"));
	config.machine_config.smt = true;
	ck_assert_int_eq(vm_config_check(&config, 0, &err), 0);
	config.machine_config.vcpu_count = 4;
	ck_assert_int_eq(vm_config_check(&config, 0, &err), 0);
	config.machine_config.vcpu_count = 3;
	ck_assert_int_eq(vm_config_check(&config, 0, &err), -EINVAL);
	ck_assert_str_eq(err.field, "machine-config.vcpu_count");
	config.machine_config.smt = false;
	ck_assert_int_eq(vm_config_check(&config, 0, &err), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("config");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, defaults_are_one_vcpu_and_128_mib);
	tcase_add_test(t, the_root_drive_is_first_whenever_it_comes);
	tcase_add_test(t, a_drive_of_the_same_id_is_replaced_in_place);
	tcase_add_test(t, a_second_root_device_is_refused_and_changes_nothing);
	tcase_add_test(t, a_drive_may_become_or_stop_being_the_root_device);
	tcase_add_test(t, there_are_at_most_sixteen_drives);
	tcase_add_test(t, a_copy_shares_nothing);
	tcase_add_loop_test(t, the_command_line_ends_with_the_root_drive, 0,
		sizeof(cmdlines) / sizeof(cmdlines[0]));
	tcase_add_test(t, a_command_line_fits_to_the_byte_or_is_refused);
	tcase_add_test(t, memory_beyond_the_hosts_and_odd_smt_are_refused);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
