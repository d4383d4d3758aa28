#include "tests/unit/config_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int put_drive(const char *id, bool root)
{
	struct vm_drive d = {.drive_id = copy(id),
		.path_on_host = copy("/d"),
		.is_root_device = root};

	return vm_config_put_drive(&config, &d, &err);
}

static int check(void)
{
	return vm_config_check(&config, 0, &err);
}

static void refused(const char *field)
{
	ck_assert_int_eq(check(), -EINVAL);
	ck_assert_str_eq(err.field, field);
}

/* ---- what no single field's range can tell ---- */

START_TEST(huge_pages_take_an_even_size)
{
	config.machine_config.mem_size_mib = 127;
	ck_assert_int_eq(check(), 0);
	config.machine_config.huge_pages = VM_PAGES_2M;
	refused("machine-config.mem_size_mib");
	config.machine_config.mem_size_mib = 128;
	ck_assert_int_eq(check(), 0);
}
END_TEST

START_TEST(a_balloon_takes_at_most_all_memory)
{
	config.balloon.amount_mib = 129;
	ck_assert_int_eq(check(), 0);
	config.balloon.there = true;
	refused("balloon.amount_mib");
	ck_assert_ptr_nonnull(strstr(err.msg, "between 0 and 128"));
	config.balloon.amount_mib = 128;
	ck_assert_int_eq(check(), 0);
}
END_TEST

START_TEST(two_interfaces_never_have_one_mac)
{
	put_net("a", "t0", NULL, NULL);
	put_net("b", "t1", NULL, NULL);
	ck_assert_int_eq(check(), 0);
	put_net("a", "t0", NULL, "06:00:00:00:00:01");
	ck_assert_int_eq(check(), 0);
	put_net("b", "t1", NULL, "06:00:00:00:00:02");
	ck_assert_int_eq(check(), 0);
	put_net("c", "t2", NULL, "06:00:00:00:00:01");
	refused("network-interfaces.guest_mac");
	ck_assert_ptr_nonnull(strstr(err.msg, "\"a\""));
}
END_TEST

START_TEST(two_interfaces_never_have_one_tap)
{
	put_net("a", "t0", NULL, NULL);
	put_net("b", "t0", "ns", NULL);
	ck_assert_int_eq(check(), 0);
	put_net("c", "t0", "ns2", NULL);
	put_net("e", "t1", "ns", NULL);
	put_net("f", "t1", NULL, NULL);
	ck_assert_int_eq(check(), 0);
	put_net("d", "t0", "ns", NULL);
	refused("network-interfaces.host_dev_name");
	ck_assert_ptr_nonnull(strstr(err.msg, "\"b\""));
	put_net("d", "t0", NULL, NULL);
	refused("network-interfaces.host_dev_name");
}
END_TEST

START_TEST(a_bridge_goes_with_a_tap_that_is_made)
{
	put_net("a", "t0", NULL, NULL);
	config.nets[0].create = true;
	ck_assert_int_eq(check(), 0);
	config.nets[0].bridge = copy("br0");
	ck_assert_int_eq(check(), 0);
	config.nets[0].create = false;
	refused("network-interfaces.bridge");
}
END_TEST

static const struct {
	uint32_t total, block, slot, requested;
	const char *field; /* "": it is right */
} hotplugs[] = {
	{1024, 2, 128, 0, ""},
	{1024, 2, 128, 1024, ""},
	{1024, 128, 128, 128, ""},
	{128 * 4096, 2, 128, 0, ""},
	{128 * 4097, 2, 128, 0, "slot_size_mib"},
	{1024, 256, 128, 0, "slot_size_mib"},
	{1024, 2, 129, 0, "slot_size_mib"},
	{1000, 2, 128, 0, "total_size_mib"},
	{128, 2, 256, 0, "total_size_mib"},
	{1024, 2, 128, 1, "requested_size_mib"},
	{1024, 4, 128, 1022, "requested_size_mib"},
	{1024, 2, 128, 1026, "requested_size_mib"},
};

START_TEST(hotplugged_memory_is_made_of_slots_and_blocks)
{
	char field[64];

	config.memory_hotplug =
		(struct vm_memory_hotplug){.total_size_mib = hotplugs[_i].total,
			.block_size_mib = hotplugs[_i].block,
			.slot_size_mib = hotplugs[_i].slot,
			.requested_size_mib = hotplugs[_i].requested};
	/* Only what is there counts. */
	ck_assert_int_eq(check(), 0);
	config.memory_hotplug.there = true;
	if (!hotplugs[_i].field[0]) {
		ck_assert_int_eq(check(), 0);
		return;
	}
	snprintf(field, sizeof(field), "memory-hotplug.%s", hotplugs[_i].field);
	refused(field);
}
END_TEST

START_TEST(the_metadata_service_is_on_interfaces_that_are_there)
{
	put_net("a", "t0", NULL, NULL);
	config.mmds.there = true;
	config.mmds.interfaces[0] = copy("a");
	config.mmds.n_interfaces = 1;
	ck_assert_int_eq(check(), 0);
	config.mmds.interfaces[1] = copy("b");
	config.mmds.n_interfaces = 2;
	refused("mmds-config.network_interfaces");
}
END_TEST

START_TEST(each_kind_of_device_counts_towards_nineteen)
{
	char id[4];

	for (int i = 0; i < 12; i++) {
		snprintf(id, sizeof(id), "%d", i);
		put_drive(id, false);
	}
	put_net("a", "t0", NULL, NULL);
	put_pmem("p", false);
	config.vsock.uds_path = copy("/v");
	config.entropy.there = true;
	config.balloon.there = true;
	config.memory_hotplug = (struct vm_memory_hotplug){.there = true,
		.total_size_mib = 128,
		.block_size_mib = 2,
		.slot_size_mib = 128};
	config.machine_config.console = VM_CONSOLE_VIRTIO;
	ck_assert_uint_eq(vm_config_count_devices(&config), VM_MAX_VIRTIO);
	ck_assert_int_eq(check(), 0);
	put_pmem("q", false);
	refused("devices");
	ck_assert_ptr_nonnull(strstr(err.msg, "at most 19"));
	config.machine_config.console = VM_CONSOLE_SERIAL;
	ck_assert_int_eq(check(), 0);
}
END_TEST

static const struct {
	const char *text;
	bool good;
} macs[] = {
	{"00:00:00:00:00:00", true},
	{"06:1f:AC:f0:9a:aF", true},
	{"", false},
	{"06:00:00:00:00:0", false},
	{"06:00:00:00:00:000", false},
	{"06:00:00:00:00:0g", false},
	{"0/:00:00:00:00:00", false},
	{":6:00:00:00:00:00", false},
	{"`6:00:00:00:00:00", false},
	{"06:0@:00:00:00:00", false},
	{"06:0G:00:00:00:00", false},
	{"06-00-00-00-00-00", false},
	{"06:00:00:00:00-00", false},
};

START_TEST(a_mac_address_is_six_bytes)
{
	static const uint8_t want[] = {0x06, 0x1f, 0xac, 0xf0, 0x9a, 0xaf};
	uint8_t mac[6];

	ck_assert_int_eq(vm_mac_parse(macs[_i].text, mac), macs[_i].good);
	if (_i == 1)
		ck_assert_mem_eq(mac, want, sizeof(mac));
}
END_TEST

/* ---- the command line ---- */

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
	put_drive("a", cmdlines[_i].root);
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
	put_drive("r", true);
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

START_TEST(the_root_may_be_on_pmem)
{
	char buf[VM_CMDLINE_MAX];

	config.boot_source.boot_args = copy("quiet");
	put_drive("d", false);
	put_pmem("p", false);
	vm_config_cmdline(&config, buf, &err);
	ck_assert_str_eq(buf, "quiet");
	put_pmem("q", true);
	vm_config_cmdline(&config, buf, &err);
	ck_assert_str_eq(buf, "quiet root=/dev/pmem0 rw");
	config.pmem[0].read_only = true;
	vm_config_cmdline(&config, buf, &err);
	ck_assert_str_eq(buf, "quiet root=/dev/pmem0 ro");
}
END_TEST

START_TEST(the_default_console_is_where_the_machine_has_it)
{
	char buf[VM_CMDLINE_MAX];

	vm_config_cmdline(&config, buf, &err);
	ck_assert_ptr_nonnull(strstr(buf, "console=ttyS0 "));
	config.machine_config.console = VM_CONSOLE_VIRTIO;
	vm_config_cmdline(&config, buf, &err);
	ck_assert_ptr_nonnull(strstr(buf, "console=hvc0 "));
	ck_assert_ptr_null(strstr(buf, "ttyS0"));
	/* What is given is given. */
	config.boot_source.boot_args = copy("quiet");
	vm_config_cmdline(&config, buf, &err);
	ck_assert_str_eq(buf, "quiet");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config_check");
	TCase *t = tcase_create("devices");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, huge_pages_take_an_even_size);
	tcase_add_test(t, a_balloon_takes_at_most_all_memory);
	tcase_add_test(t, two_interfaces_never_have_one_mac);
	tcase_add_test(t, two_interfaces_never_have_one_tap);
	tcase_add_test(t, a_bridge_goes_with_a_tap_that_is_made);
	tcase_add_loop_test(t, hotplugged_memory_is_made_of_slots_and_blocks, 0,
		sizeof(hotplugs) / sizeof(hotplugs[0]));
	tcase_add_loop_test(t, a_mac_address_is_six_bytes, 0,
		sizeof(macs) / sizeof(macs[0]));
	tcase_add_test(t, the_metadata_service_is_on_interfaces_that_are_there);
	tcase_add_test(t, each_kind_of_device_counts_towards_nineteen);
	tcase_add_test(t, the_root_may_be_on_pmem);
	tcase_add_test(t, the_default_console_is_where_the_machine_has_it);
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
