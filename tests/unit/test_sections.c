#include "api/resources.h"

#include <check.h>
#include <errno.h>
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

static struct json_object *parse(const char *text)
{
	struct json_object *o = json_parse(text, strlen(text), &err);

	ck_assert_msg(o != NULL, "%s: %s", text, err.msg);
	return o;
}

START_TEST(a_machine_config_that_is_replaced_gets_defaults)
{
	struct json_object *o = parse("{\"vcpu_count\":2,\"mem_size_mib\":64}");

	config.machine_config.smt = true;
	ck_assert_int_eq(machine_config_read(o, true, &config, &err), 0);
	ck_assert(config.machine_config.smt);
	ck_assert_int_eq(machine_config_read(o, false, &config, &err), 0);
	ck_assert(!config.machine_config.smt);
	ck_assert_uint_eq(config.machine_config.vcpu_count, 2);
	json_object_put(o);
}
END_TEST

/* A section put twice: nothing of the first is left. */
static const struct {
	int (*read)(
		struct json_object *o, struct vm_config *c, struct error *err);
	struct json_object *(*write)(const struct vm_config *c);
	const char *first, *second;
} sections[] = {
	{vsock_read, vsock_write,
		"{\"vsock_id\":\"v\",\"guest_cid\":7,\"uds_path\":\"/v\"}",
		"{\"guest_cid\":3,\"uds_path\":\"/w\"}"},
	{entropy_read, entropy_write,
		"{\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":1}}}",
		"{}"},
	{balloon_read, balloon_write,
		"{\"amount_mib\":7,\"deflate_on_oom\":true,"
		"\"stats_polling_interval_s\":1,\"free_page_hinting\":true,"
		"\"free_page_reporting\":true}",
		"{\"amount_mib\":0,\"deflate_on_oom\":false}"},
	{memory_hotplug_read, memory_hotplug_write,
		"{\"total_size_mib\":1024,\"block_size_mib\":8,"
		"\"slot_size_mib\":256,\"requested_size_mib\":64}",
		"{\"total_size_mib\":512}"},
	{vm_host_read, vm_host_write,
		"{\"path_root\":\"/r\",\"path_base\":\"/b\",\"netns\":\"n\","
		"\"uid\":5,\"gid\":6,"
		"\"owner_pid\":1,\"owner_start_time\":2}",
		"{\"path_root\":\"/s\"}"},
	{api_socket_read, api_socket_write,
		"{\"path\":\"/s\",\"mode\":\"0777\",\"uid\":1,\"gid\":2}",
		"{\"path\":\"/t\"}"},
	{serial_read, serial_write,
		"{\"rate_limiter\":{\"bandwidth\":{\"size\":1,"
		"\"refill_time\":1}}}",
		"{}"},
};

START_TEST(a_section_that_is_replaced_keeps_nothing)
{
	struct json_object *first = parse(sections[_i].first);
	struct json_object *second = parse(sections[_i].second);
	struct json_object *alone, *after;

	ck_assert_ptr_null(sections[_i].write(&config));
	ck_assert_int_eq(sections[_i].read(second, &config, &err), 0);
	alone = sections[_i].write(&config);
	ck_assert_int_eq(sections[_i].read(first, &config, &err), 0);
	ck_assert_int_eq(sections[_i].read(second, &config, &err), 0);
	after = sections[_i].write(&config);
	ck_assert(json_object_equal(alone, after));
	json_object_put(alone);
	json_object_put(after);
	json_object_put(first);
	json_object_put(second);
}
END_TEST

START_TEST(an_interface_is_compared_in_lower_case)
{
	struct json_object *o =
		parse("{\"iface_id\":\"e\",\"host_dev_name\":\"t\","
		      "\"guest_mac\":\"06:AB:Cd:eF:00:09\"}");

	ck_assert_int_eq(network_interface_read(o, "n", "e", &config, &err), 0);
	ck_assert_str_eq(config.nets[0].guest_mac, "06:ab:cd:ef:00:09");
	ck_assert_uint_eq(config.nets[0].queue_pairs, 1);
	ck_assert_int_eq(
		network_interface_read(o, "n", "f", &config, &err), -EINVAL);
	ck_assert_uint_eq(config.n_nets, 1);
	json_object_put(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sections");
	TCase *t = tcase_create("sections");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_machine_config_that_is_replaced_gets_defaults);
	tcase_add_loop_test(t, a_section_that_is_replaced_keeps_nothing, 0,
		sizeof(sections) / sizeof(sections[0]));
	tcase_add_test(t, an_interface_is_compared_in_lower_case);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
