#include "daemon/admission.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A host of its own: what /proc and the cgroups say there. */

#define MIB (1u << 20)

#define MS 1000000u

static uint64_t now_ns;
static char dir[64], cgroup[80];
static struct admission a;
static struct vm_config config;
static struct error err;

static uint64_t now(void)
{
	return now_ns;
}

static void put(const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *p = strchr(path + strlen(dir) + 1, '/'); p;
		p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	a.looked_ns = 0;
}

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/admission-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(cgroup, sizeof(cgroup), "%s/cgroup", dir);
	admission_init(&a, 100ull * MIB);
	a.proc = dir;
	a.cgroup = cgroup;
	a.clock = now;
	now_ns = 1000000000u;
	put("loadavg", "0.00 0.01 0.05 1/500 4711\n");
	put("sys/kernel/pid_max", "4194304\n");
	put("sys/kernel/threads-max", "100000\n");
	put("meminfo",
		"MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable: 2048000 "
		"kB\n");
	put("self/cgroup", "8:pids:/d\n0::/\n");
	put("cgroup/pids/d/pids.max", "max\n");
	put("cgroup/pids/d/pids.current", "7\n");
	vm_config_init(&config);
	config.machine_config.vcpu_count = 2;
}

static int remove_one(
	const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static void tear_down(void)
{
	vm_config_fini(&config);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Lets in until somebody is refused: how many. */
static unsigned let_in(enum admission_for what, unsigned most)
{
	unsigned n = 0;

	while (n < most && admission_take(&a, &config, what, &err) == 0)
		n++;
	return n;
}

static void assert_refused(const char *words)
{
	ck_assert_int_eq(
		admission_take(&a, &config, ADMISSION_START, &err), -EAGAIN);
	ck_assert_int_eq(err.code, EAGAIN);
	ck_assert_str_eq(err.field, "");
	if (!strstr(err.msg, words))
		ck_abort_msg("%s: not in: %s", words, err.msg);
}

START_TEST(who_has_room_lets_in)
{
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_START, &err), 0);
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_FILES, &err), 0);
}
END_TEST

START_TEST(memory_counts_beside_the_reserve)
{
	put("meminfo", "MemAvailable: 105472 kB\n"); /* 103 MiB */
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 3);
	assert_refused("beside the 100 MiB of --memory-reserve");
	/* What is only configured takes none. */
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_FILES, &err), 0);
	put("meminfo", "MemAvailable: 50000 kB\n");
	assert_refused("memory");
	a.memory_reserve_bytes = 0;
	a.looked_ns = 0;
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 10);
}
END_TEST

START_TEST(threads_count_against_both_limits_of_the_host)
{
	/* 64 in reserve; a VM of two vCPUs counts as seven. */
	put("sys/kernel/threads-max", "585\n");
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 3);
	assert_refused("0 more threads may run, and it needs 7");
	put("sys/kernel/threads-max", "100000\n");
	put("sys/kernel/pid_max", "577\n");
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 1);
	assert_refused("6 more threads");
	config.machine_config.vcpu_count = 1;
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_START, &err), 0);
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_FILES, &err), 0);
}
END_TEST

START_TEST(own_cgroup_must_take_one_more)
{
	put("cgroup/pids/d/pids.max", "8\n");
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 10);
	put("cgroup/pids/d/pids.current", "8\n");
	assert_refused("none in mayflyd's cgroup");
	ck_assert_int_eq(admission_take(&a, &config, ADMISSION_FILES, &err), 0);
	/* v2: one hierarchy, at the mount itself. */
	put("self/cgroup", "0::/e/f\n");
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 10);
	put("cgroup/e/f/pids.max", "3\n");
	put("cgroup/e/f/pids.current", "3\n");
	assert_refused("none in mayflyd's cgroup");
}
END_TEST

START_TEST(files_count_against_their_limit)
{
	struct rlimit before, low;
	unsigned n = 0;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = 1000; /* 64 in reserve */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	n = let_in(ADMISSION_START, 1000);
	setrlimit(RLIMIT_NOFILE, &before);
	/* 16 each; we have a few open ourselves. */
	ck_assert_uint_le(n, (1000 - 64) / 16);
	ck_assert_uint_ge(n, (1000 - 64) / 16 - 10);
	ck_assert_ptr_nonnull(strstr(err.msg, "more files, and it needs 16"));
	ck_assert_int_eq(err.code, EAGAIN);
}
END_TEST

START_TEST(what_cannot_be_looked_up_stops_nobody)
{
	static const char *const names[] = {"loadavg", "meminfo",
		"sys/kernel/pid_max", "sys/kernel/threads-max", "self/cgroup"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		put(names[i], "?\n");
	ck_assert_uint_eq(let_in(ADMISSION_START, 100), 100);
	a.proc = a.cgroup = "/nowhere";
	a.looked_ns = 0;
	ck_assert_uint_eq(let_in(ADMISSION_START, 100), 100);
}
END_TEST

START_TEST(what_has_become_free_is_seen_soon)
{
	put("meminfo", "MemAvailable: 103424 kB\n"); /* 101 MiB */
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 1);
	/* That one goes again: nobody is sent away on old news. */
	now_ns += 5 * MS - 1;
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 0);
	now_ns += 1;
	ck_assert_uint_eq(let_in(ADMISSION_START, 10), 1);
}
END_TEST

START_TEST(what_has_become_scarce_is_seen_soon)
{
	ck_assert_uint_eq(let_in(ADMISSION_START, 1), 1);
	put("meminfo", "MemAvailable: 1 kB\n");
	a.looked_ns = now_ns;
	now_ns += 100 * MS - 1;
	ck_assert_uint_eq(let_in(ADMISSION_START, 1), 1);
	now_ns += 1;
	ck_assert_uint_eq(let_in(ADMISSION_START, 1), 0);
}
END_TEST

START_TEST(errors_of_room_are_told_from_the_hosts_other_ones)
{
	error_errno(&err, EMFILE, "x");
	ck_assert_int_eq(admission_failed(&err), -EAGAIN);
	error_errno(&err, ENOMEM, "x");
	ck_assert_int_eq(admission_failed(&err), -EAGAIN);
	error_errno(&err, EACCES, "x");
	ck_assert_int_eq(admission_failed(&err), -EIO);
	ck_assert_int_eq(err.code, EIO);
}
END_TEST

START_TEST(who_is_prepared_needs_memory_and_files_only)
{
	put("sys/kernel/threads-max", "565\n");
	put("cgroup/pids/d/pids.max", "7\n");
	assert_refused("1 more threads");
	ck_assert_uint_eq(let_in(ADMISSION_PREPARED, 10), 10);
	put("meminfo", "MemAvailable: 105472 kB\n"); /* 103 MiB */
	ck_assert_uint_eq(let_in(ADMISSION_PREPARED, 10), 3);
}
END_TEST

START_TEST(processes_are_made_ahead_where_many_have_room)
{
	ck_assert(admission_has_spare(&a));
	put("meminfo", "MemAvailable: 110592 kB\n"); /* 108 MiB */
	ck_assert(admission_has_spare(&a));
	put("meminfo", "MemAvailable: 110591 kB\n");
	ck_assert(!admission_has_spare(&a));
	put("meminfo", "MemAvailable: 2048000 kB\n");
	put("sys/kernel/threads-max", "611\n");
	ck_assert(!admission_has_spare(&a));
	put("sys/kernel/threads-max", "612\n");
	ck_assert(admission_has_spare(&a));
}
END_TEST

/* Until somebody looks again: 20 MiB beside the reserve, 8 of them for others.
 */
START_TEST(what_is_made_ahead_takes_room)
{
	unsigned n = 0;

	put("meminfo", "MemAvailable: 122880 kB\n");
	for (; n < 20 && admission_has_spare(&a); n++)
		admission_take_spare(&a);
	ck_assert_uint_eq(n, 13);
	now_ns += 5 * MS - 1;
	ck_assert(!admission_has_spare(&a));
	now_ns += 1;
	ck_assert(admission_has_spare(&a));
}
END_TEST

START_TEST(default_reserve_is_a_share_with_a_bound)
{
	ck_assert_uint_eq(
		admission_default_reserve(1024ull * MIB), 64ull * MIB);
	ck_assert_uint_eq(
		admission_default_reserve(1024ull * 1024 * MIB), 512ull * MIB);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("admission");
	TCase *t = tcase_create("admission");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, who_has_room_lets_in);
	tcase_add_test(t, memory_counts_beside_the_reserve);
	tcase_add_test(t, threads_count_against_both_limits_of_the_host);
	tcase_add_test(t, own_cgroup_must_take_one_more);
	tcase_add_test(t, files_count_against_their_limit);
	tcase_add_test(t, what_cannot_be_looked_up_stops_nobody);
	tcase_add_test(t, what_has_become_free_is_seen_soon);
	tcase_add_test(t, what_has_become_scarce_is_seen_soon);
	tcase_add_test(t, errors_of_room_are_told_from_the_hosts_other_ones);
	tcase_add_test(t, who_is_prepared_needs_memory_and_files_only);
	tcase_add_test(t, processes_are_made_ahead_where_many_have_room);
	tcase_add_test(t, what_is_made_ahead_takes_room);
	tcase_add_test(t, default_reserve_is_a_share_with_a_bound);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
