#include "api/fc_metrics.h"

#include "api/json.h"

#include <check.h>
#include <string.h>

static struct fc_metrics *metrics;
static struct api_counters counters;
static const struct fc_missed none;

static void set_up(void)
{
	metrics = fc_metrics_create();
	counters = (struct api_counters){.n_drives = 2, .n_nets = 1};
	counters.drives[0].drive_id = "root";
	counters.drives[1].drive_id = "data";
	counters.nets[0].iface_id = "eth0";
}

static void tear_down(void)
{
	fc_metrics_destroy(metrics);
}

/* A number of the next line. */
static uint64_t next(const char *group, const char *name)
{
	char *line = fc_metrics_line(metrics, &counters, &none);
	struct json_object *o = json_tokener_parse(line), *g = NULL, *v = NULL;
	uint64_t n;

	ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
	ck_assert(json_object_object_get_ex(o, group, &g));
	ck_assert(json_object_object_get_ex(g, name, &v));
	n = json_object_get_uint64(v);
	json_object_put(o);
	free(line);
	return n;
}

START_TEST(each_line_counts_from_the_one_before)
{
	counters.drives[0].reads = 5;
	ck_assert_uint_eq(next("block_root", "read_count"), 5);
	ck_assert_uint_eq(next("block_root", "read_count"), 0);
	counters.drives[0].reads = 12;
	ck_assert_uint_eq(next("block_root", "read_count"), 7);
}
END_TEST

START_TEST(a_group_sums_up_its_devices)
{
	counters.drives[0].write_bytes = 512;
	counters.drives[1].write_bytes = 1024;
	ck_assert_uint_eq(next("block", "write_bytes"), 1536);
	counters.nets[0].tx_packets = 3;
	ck_assert_uint_eq(next("net", "tx_packets_count"), 3);
}
END_TEST

START_TEST(what_counts_backwards_is_nothing)
{
	counters.exits_mmio = UINT64_MAX;
	ck_assert_uint_eq(next("vcpu", "exit_mmio"), UINT64_MAX);
	counters.exits_mmio = 1;
	ck_assert_uint_eq(next("vcpu", "exit_mmio"), 0);
	counters.exits_mmio = 3;
	ck_assert_uint_eq(next("vcpu", "exit_mmio"), 2);
}
END_TEST

START_TEST(requests_are_counted_where_firecracker_does)
{
	struct api_served s = {
		.method = "PUT", .path = "/drives/{drive_id}", .fault = ""};

	fc_metrics_served(metrics, &s);
	s.fault = "wrong";
	fc_metrics_served(metrics, &s);
	s.method = "PATCH";
	fc_metrics_served(metrics, &s);
	s.method = s.path = "";
	fc_metrics_served(metrics, &s);
	ck_assert_uint_eq(next("put_api_requests", "drive_count"), 2);
	fc_metrics_skip(metrics, &counters);
	s.method = "PUT";
	s.path = "/drives/{drive_id}";
	fc_metrics_served(metrics, &s);
	ck_assert_uint_eq(next("put_api_requests", "drive_fails"), 1);
}
END_TEST

START_TEST(a_guest_that_was_not_started_has_counted_nothing)
{
	char *line = fc_metrics_line(metrics, NULL, &none);

	ck_assert_ptr_nonnull(strstr(line, "\"read_count\":0"));
	ck_assert_ptr_null(strstr(line, "block_"));
	free(line);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fc_metrics");
	TCase *tc = tcase_create("lines");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, each_line_counts_from_the_one_before);
	tcase_add_test(tc, a_group_sums_up_its_devices);
	tcase_add_test(tc, what_counts_backwards_is_nothing);
	tcase_add_test(tc, requests_are_counted_where_firecracker_does);
	tcase_add_test(tc, a_guest_that_was_not_started_has_counted_nothing);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
