#include "tests/unit/config_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	ck_assert_int_eq(put("0", false), 0);
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
	config.host.path_root = strdup("/root");
	config.host.owner_pid = 7;
	config.api_socket = (struct vm_api_socket){strdup("/s"), 0600, 1, 2};
	config.logger = (struct vm_logger){
		.there = true, .log_path = strdup("/l"), .level = VM_LOG_INFO};
	config.metrics.metrics_path = strdup("/m");
	ck_assert_int_eq(
		vm_config_add_label(&config, strdup("k"), strdup("v")), 0);
	ck_assert_int_eq(vm_config_copy(&copy, &config), 0);
	ck_assert_str_eq(copy.boot_source.boot_args, "quiet");
	ck_assert_ptr_null(copy.boot_source.initrd_path);
	ck_assert_str_eq(copy.drives[0].partuuid, "12");
	ck_assert_str_eq(copy.labels[0].value, "v");
	ck_assert_str_eq(copy.host.path_root, "/root");
	ck_assert_uint_eq(copy.host.owner_pid, 7);
	ck_assert_str_eq(copy.api_socket.path, "/s");
	ck_assert_uint_eq(copy.api_socket.gid, 2);
	ck_assert_str_eq(copy.logger.log_path, "/l");
	ck_assert_uint_eq(copy.logger.level, VM_LOG_INFO);
	ck_assert_str_eq(copy.metrics.metrics_path, "/m");
	ck_assert_ptr_ne(
		copy.metrics.metrics_path, config.metrics.metrics_path);
	ck_assert_ptr_ne(copy.drives[0].drive_id, config.drives[0].drive_id);
	/* AddressSanitizer sees what is freed twice. */
	vm_config_fini(&copy);
}
END_TEST

START_TEST(an_interface_of_the_same_id_is_replaced_in_place)
{
	ck_assert_int_eq(put_net("a", "t0", NULL, NULL), 0);
	ck_assert_int_eq(put_net("b", "t1", NULL, NULL), 0);
	ck_assert_int_eq(put_net("a", "t2", NULL, NULL), 0);
	ck_assert_uint_eq(config.n_nets, 2);
	ck_assert_str_eq(config.nets[0].host_dev_name, "t2");
	ck_assert_int_eq(vm_config_find_net(&config, "b"), 1);
	ck_assert_int_eq(vm_config_find_net(&config, "c"), -1);
}
END_TEST

START_TEST(there_are_at_most_eight_interfaces)
{
	char id[4];

	for (int i = 0; i < VM_MAX_NETS; i++) {
		snprintf(id, sizeof(id), "%d", i);
		ck_assert_int_eq(put_net(id, id, NULL, NULL), 0);
	}
	ck_assert_int_eq(put_net("x", "x", NULL, NULL), -EINVAL);
	ck_assert_str_eq(err.field, "network-interfaces");
	ck_assert_uint_eq(config.n_nets, VM_MAX_NETS);
	ck_assert_int_eq(put_net("0", "z", NULL, NULL), 0);
	ck_assert_int_eq(put_net("7", "y", NULL, NULL), 0);
	ck_assert_str_eq(config.nets[7].host_dev_name, "y");
}
END_TEST

START_TEST(there_are_at_most_eight_pmem_devices)
{
	char id[4];

	for (int i = 0; i < VM_MAX_PMEM; i++) {
		snprintf(id, sizeof(id), "%d", i);
		ck_assert_int_eq(put_pmem(id, false), 0);
	}
	ck_assert_int_eq(put_pmem("x", false), -EINVAL);
	ck_assert_str_eq(err.field, "pmem");
	/* Replacing adds none, and a root device comes first. */
	ck_assert_int_eq(put_pmem("0", false), 0);
	ck_assert_int_eq(put_pmem("7", true), 0);
	ck_assert_str_eq(config.pmem[0].id, "7");
	ck_assert_str_eq(config.pmem[1].id, "0");
	ck_assert_int_eq(vm_config_find_pmem(&config, "6"), 7);
	ck_assert_int_eq(vm_config_find_pmem(&config, "x"), -1);
}
END_TEST

START_TEST(there_is_one_root_device_of_both_kinds)
{
	ck_assert_int_eq(put_pmem("p", true), 0);
	ck_assert_int_eq(put_pmem("q", true), -EINVAL);
	ck_assert_str_eq(err.field, "pmem.root_device");
	ck_assert_ptr_nonnull(strstr(err.msg, "\"p\""));
	ck_assert_int_eq(put("d", true), -EINVAL);
	ck_assert_str_eq(err.field, "drives.is_root_device");
	ck_assert_uint_eq(config.n_drives, 0);
	ck_assert_uint_eq(config.n_pmem, 1);
	/* It may be put again, and stop being it. */
	ck_assert_int_eq(put_pmem("p", true), 0);
	ck_assert_int_eq(put_pmem("p", false), 0);
	ck_assert_int_eq(put("d", true), 0);
	ck_assert_int_eq(put_pmem("p", true), -EINVAL);
	ck_assert_str_eq(err.field, "pmem.root_device");
	ck_assert_ptr_nonnull(strstr(err.msg, "drive \"d\""));
}
END_TEST

START_TEST(a_copy_of_every_section_shares_nothing)
{
	struct vm_config c;

	put_net("a", "t0", "ns", "06:00:00:00:00:01");
	config.nets[0].bridge = copy("br0");
	put_pmem("p", true);
	config.vsock.uds_path = copy("/v");
	config.vsock.vsock_id = copy("v");
	config.vsock.guest_cid = 7;
	config.entropy.there = true;
	config.balloon.amount_mib = 5;
	config.memory_hotplug.total_size_mib = 128;
	config.serial.rate_limiter.ops.size = 9;
	config.mmds.there = true;
	config.mmds.interfaces[0] = copy("a");
	config.mmds.n_interfaces = 1;
	config.cpu.msrs = calloc(1, sizeof(*config.cpu.msrs));
	config.cpu.msrs[0].index = 0x10;
	config.cpu.n_msrs = 1;
	ck_assert_int_eq(vm_config_copy(&c, &config), 0);
	vm_config_fini(&config);
	ck_assert_str_eq(c.nets[0].netns, "ns");
	ck_assert_str_eq(c.nets[0].bridge, "br0");
	ck_assert_str_eq(c.nets[0].guest_mac, "06:00:00:00:00:01");
	ck_assert_str_eq(c.pmem[0].path_on_host, "/p");
	ck_assert_str_eq(c.vsock.uds_path, "/v");
	ck_assert_str_eq(c.vsock.vsock_id, "v");
	ck_assert_uint_eq(c.vsock.guest_cid, 7);
	ck_assert(c.entropy.there && c.mmds.there);
	ck_assert_uint_eq(c.balloon.amount_mib, 5);
	ck_assert_uint_eq(c.memory_hotplug.total_size_mib, 128);
	ck_assert_uint_eq(c.serial.rate_limiter.ops.size, 9);
	ck_assert_str_eq(c.mmds.interfaces[0], "a");
	ck_assert_uint_eq(c.cpu.msrs[0].index, 0x10);
	ck_assert_ptr_null(c.cpu.cpuid);
	vm_config_fini(&c);
	ck_assert_ptr_null(c.vsock.uds_path);
	ck_assert_uint_eq(c.mmds.n_interfaces, 0);
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
	tcase_add_test(t, an_interface_of_the_same_id_is_replaced_in_place);
	tcase_add_test(t, there_are_at_most_eight_interfaces);
	tcase_add_test(t, there_are_at_most_eight_pmem_devices);
	tcase_add_test(t, there_is_one_root_device_of_both_kinds);
	tcase_add_test(t, a_copy_of_every_section_shares_nothing);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
