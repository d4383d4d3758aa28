#include "jailer/cgroup.h"

#include "base/cleanup.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A host made of plain files: directories where hierarchies would be mounted,
 * and a mountinfo that says so. In it groups are directories without control
 * files. What takes real ones is done on the host's own, where it has them.
 */
static char host[] = "/tmp/mayfly-test-cgroup-XXXXXX";
static char mountinfo[64];
static struct cgroup_tree tree;
static struct error err;

static void make_file(const char *path, const char *text)
{
	_cleanup_fclose_ FILE *f = NULL;
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", host, path);
	f = fopen(full, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
}

static void make_dir(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", host, path);
	ck_assert_int_eq(mkdir(full, 0755), 0);
}

/* type and super options as in mountinfo; path below the host. */
static void add_mount(const char *path, const char *type, const char *options)
{
	FILE *f = fopen(mountinfo, "ae");

	ck_assert_ptr_nonnull(f);
	fprintf(f,
		"31 24 0:27 / %s/%s rw,nosuid,noexec,relatime shared:9 "
		"master:2 - %s none %s\n",
		host, path, type, options);
	fclose(f);
}

static bool exists(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", host, path);
	return access(full, F_OK) == 0;
}

static void make_host(void)
{
	snprintf(host, sizeof(host), "/tmp/mayfly-test-cgroup-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(host));
	snprintf(mountinfo, sizeof(mountinfo), "%s/mountinfo", host);
	make_file("mountinfo", "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
			       "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
			       "not a line of mountinfo\n");
}

static int remove_entry(
	const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void remove_host(void)
{
	cgroup_tree_close(&tree);
	nftw(host, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_tree(void)
{
	cgroup_tree_open(&tree, mountinfo, "mayfly", &err);
}

/* ---- which hierarchy ---- */

START_TEST(a_host_without_controllers_has_none_and_says_so)
{
	make_dir("unified");
	make_file("unified/cgroup.controllers", "");
	add_mount("unified", "cgroup2", "rw");
	add_mount("systemd", "cgroup", "rw,name=systemd");
	add_mount("cpu", "cgroup", "rw,cpu,cpuacct");
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_NONE);
	ck_assert_uint_eq(tree.n, 0);
	ck_assert_int_eq(err.code, ENOENT);
	ck_assert_ptr_nonnull(strstr(err.msg, "controller"));
}
END_TEST

/* In any order, and mounted any number of times. */
static const char *const orders[][4] = {
	{"memory", "memory-again", "pids", "pids-again"},
	{"pids", "pids-again", "memory", "memory-again"},
};

START_TEST(v1_is_used_where_the_controllers_are_in_it)
{
	make_dir("unified");
	make_file("unified/cgroup.controllers", "cpu io\n");
	add_mount("unified", "cgroup2", "rw,nsdelegate");
	for (size_t i = 0; i < 4; i++) {
		const char *path = orders[_i][i];

		make_dir(path);
		add_mount(path, "cgroup",
			path[0] == 'm' ? "rw,memory" : "rw,pids");
	}
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_V1);
	ck_assert_uint_eq(tree.n, 2);
	ck_assert(tree.memory && tree.pids);
	ck_assert(tree.has_memory[_i] && !tree.has_pids[_i]);
	ck_assert(!tree.has_memory[1 - _i] && tree.has_pids[1 - _i]);
	ck_assert(exists("memory/mayfly") && exists("pids/mayfly"));
	cgroup_tree_close(&tree);
	ck_assert(!exists("memory/mayfly") && !exists("pids/mayfly"));
}
END_TEST

START_TEST(both_controllers_may_share_one_v1_hierarchy)
{
	make_dir("both");
	add_mount("both", "cgroup", "rw,pids,memory");
	open_tree();
	ck_assert_uint_eq(tree.n, 1);
	ck_assert(tree.has_memory[0] && tree.has_pids[0]);
}
END_TEST

START_TEST(a_controller_alone_is_used_alone)
{
	make_dir("pids");
	add_mount("pids", "cgroup", "rw,pids");
	add_mount("memory", "cgroup", "rw,memory_recursiveprot");
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_V1);
	ck_assert_uint_eq(tree.n, 1);
	ck_assert(!tree.memory && tree.pids);
}
END_TEST

START_TEST(v2_is_preferred_and_asked_for_its_controllers)
{
	char asked[64] = "";
	char path[128];

	make_dir("memory");
	add_mount("memory", "cgroup", "rw,memory");
	make_dir("unified");
	make_file("unified/cgroup.controllers", "cpuset memory pids\n");
	make_file("unified/cgroup.subtree_control", "");
	make_dir("unified/mayfly"); /* as if it had been left there */
	make_file("unified/mayfly/cgroup.subtree_control", "");
	add_mount("unified", "cgroup2", "rw,nsdelegate,memory_recursiveprot");
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_V2);
	ck_assert_uint_eq(tree.n, 1);
	ck_assert(!exists("memory/mayfly"));
	/* A plain file keeps what was written last, from its start. */
	snprintf(path, sizeof(path), "%s/unified/cgroup.subtree_control", host);
	{
		_cleanup_fclose_ FILE *f = fopen(path, "re");

		ck_assert_ptr_nonnull(fgets(asked, sizeof(asked), f));
	}
	ck_assert_str_eq(asked, "+pidsry");
}
END_TEST

START_TEST(v2_limits_what_is_enabled_in_the_end)
{
	make_dir("unified");
	make_file("unified/cgroup.controllers", "memory pids");
	make_dir("unified/mayfly");
	/* The requests overwrite its first bytes. */
	make_file("unified/mayfly/cgroup.subtree_control", "xxxxxxxx pids\n");
	add_mount("unified", "cgroup2", "rw");
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_V2);
	ck_assert(!tree.memory && tree.pids);
}
END_TEST

START_TEST(a_read_only_hierarchy_means_none)
{
	add_mount("../../proc", "cgroup", "rw,memory");
	open_tree();
	ck_assert_int_eq(tree.version, JAIL_CGROUP_NONE);
	ck_assert_uint_eq(tree.n, 0);
	ck_assert_int_ne(err.code, 0);
}
END_TEST

/* ---- one VM's group ---- */

static const struct cgroup_limits limits = {1 << 20, 9};

START_TEST(a_group_that_cannot_be_limited_is_not_left_behind)
{
	struct cgroup_entry e = {.into_fd = -2};

	make_dir("memory");
	make_dir("pids");
	add_mount("memory", "cgroup", "rw,memory");
	add_mount("pids", "cgroup", "rw,pids");
	open_tree();
	/* There are no control files in this host's directories. */
	ck_assert_int_eq(cgroup_make(&tree, "vm", &limits, &e, &err), -ENOENT);
	ck_assert_int_eq(e.into_fd, -2);
	ck_assert(!exists("memory/mayfly/vm") && !exists("pids/mayfly/vm"));
}
END_TEST

START_TEST(a_group_that_is_in_use_is_refused_and_left_alone)
{
	struct cgroup_entry e;

	make_dir("memory");
	add_mount("memory", "cgroup", "rw,memory");
	open_tree();
	make_dir("memory/mayfly/vm");
	make_dir("memory/mayfly/vm/in-use");
	ck_assert_int_eq(
		cgroup_make(&tree, "vm", &limits, &e, &err), -ENOTEMPTY);
	ck_assert(exists("memory/mayfly/vm"));
}
END_TEST

START_TEST(removing_what_is_gone_is_no_error)
{
	make_dir("memory");
	add_mount("memory", "cgroup", "rw,memory");
	open_tree();
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
}
END_TEST

/* ---- on the host's own hierarchies ---- */

static char name[32];

static void open_real(void)
{
	snprintf(name, sizeof(name), "mayfly-test-%d", (int)getpid());
	cgroup_tree_open(&tree, "/proc/self/mountinfo", name, &err);
}

static void close_real(void)
{
	cgroup_tree_close(&tree);
}

static bool in_group(unsigned i, const char *group)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", tree.parent[i], group);
	return access(path, F_OK) == 0;
}

START_TEST(an_empty_group_of_that_name_is_taken_away_first)
{
	struct cgroup_entry e;

	for (unsigned round = 0; round < 2; round++) {
		ck_assert_int_eq(
			cgroup_make(&tree, "vm", &limits, &e, &err), 0);
		cgroup_entry_close(&e);
	}
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
	for (unsigned i = 0; i < tree.n; i++)
		ck_assert(!in_group(i, "vm"));
}
END_TEST

START_TEST(a_parent_that_another_daemon_removed_is_made_again)
{
	struct cgroup_entry e;

	for (unsigned i = 0; i < tree.n; i++)
		ck_assert_int_eq(rmdir(tree.parent[i]), 0);
	ck_assert_int_eq(cgroup_make(&tree, "vm", &limits, &e, &err), 0);
	for (unsigned i = 0; i < tree.n; i++)
		ck_assert(in_group(i, "vm"));
	cgroup_entry_close(&e);
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
}
END_TEST

/* A process that somebody moved into the group. */
static pid_t put_process_in_group(void)
{
	struct cgroup_entry e;
	pid_t pid;

	ck_assert_int_eq(cgroup_make(&tree, "vm", &limits, &e, &err), 0);
	cgroup_entry_close(&e);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	for (unsigned i = 0; i < tree.n; i++) {
		_cleanup_fclose_ FILE *f = NULL;
		char path[600];

		snprintf(path, sizeof(path), "%s/vm/cgroup.procs",
			tree.parent[i]);
		f = fopen(path, "we");
		ck_assert_ptr_nonnull(f);
		fprintf(f, "%d\n", (int)pid);
	}
	return pid;
}

START_TEST(removing_a_group_kills_what_is_in_it)
{
	int status;
	pid_t pid;

	if (tree.version == JAIL_CGROUP_NONE)
		return;
	pid = put_process_in_group();
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(a_group_somebody_lives_in_is_refused_and_left_alone)
{
	struct cgroup_entry e;
	pid_t pid;

	if (tree.version == JAIL_CGROUP_NONE)
		return;
	pid = put_process_in_group();
	ck_assert_int_eq(cgroup_make(&tree, "vm", &limits, &e, &err), -EBUSY);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

START_TEST(what_an_earlier_daemon_left_empty_is_removed)
{
	struct cgroup_entry e;
	pid_t pid;

	if (tree.version == JAIL_CGROUP_NONE)
		return;
	pid = put_process_in_group();
	ck_assert_int_eq(cgroup_make(&tree, "empty", &limits, &e, &err), 0);
	cgroup_entry_close(&e);
	cgroup_tree_close(&tree);
	open_real();
	for (unsigned i = 0; i < tree.n; i++) {
		ck_assert(!in_group(i, "empty"));
		ck_assert(in_group(i, "vm"));
	}
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(cgroup_remove(&tree, "vm"), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

/* What the kernel writes there, and what it says. */
static const struct {
	bool v2;
	const char *text;
	uint64_t kills;
} accounts[] = {
	{true, "low 0\nhigh 3\nmax 5\noom 4\noom_kill 2\noom_group_kill 1\n",
		2},
	{true, "low 0\nhigh 0\nmax 9\noom 9\noom_kill 0\noom_group_kill 7\n",
		0},
	{true, "low 0\nhigh 0\nmax 0\noom 1\n", 0},
	{false, "oom_kill_disable 1\nunder_oom 1\noom_kill 1\n", 1},
	{false, "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", 0},
	{false, "oom_kill_disable 1\nunder_oom 1\n", 0},
	{false, "", 0},
};

START_TEST(the_kernels_kills_are_counted)
{
	if (accounts[_i].v2) {
		make_dir("unified");
		make_file("unified/cgroup.controllers", "memory pids");
		make_dir("unified/mayfly");
		make_file("unified/mayfly/cgroup.subtree_control",
			"xxxxxxxx memory pids\n");
		add_mount("unified", "cgroup2", "rw");
	} else {
		make_dir("memory");
		make_dir("pids");
		add_mount("pids", "cgroup", "rw,pids");
		add_mount("memory", "cgroup", "rw,memory");
	}
	open_tree();
	ck_assert(tree.memory);
	ck_assert_uint_eq(cgroup_oom_kills(&tree, "vm"), 0);
	make_dir(accounts[_i].v2 ? "unified/mayfly/vm" : "memory/mayfly/vm");
	make_file(accounts[_i].v2 ? "unified/mayfly/vm/memory.events"
				  : "memory/mayfly/vm/memory.oom_control",
		accounts[_i].text);
	ck_assert_uint_eq(cgroup_oom_kills(&tree, "vm"), accounts[_i].kills);
	ck_assert_uint_eq(cgroup_oom_kills(&tree, "other"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cgroup");
	TCase *f = tcase_create("find"), *g = tcase_create("group");
	TCase *real = tcase_create("real");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(f, make_host, remove_host);
	tcase_add_test(f, a_host_without_controllers_has_none_and_says_so);
	tcase_add_loop_test(
		f, v1_is_used_where_the_controllers_are_in_it, 0, 2);
	tcase_add_test(f, both_controllers_may_share_one_v1_hierarchy);
	tcase_add_test(f, a_controller_alone_is_used_alone);
	tcase_add_test(f, v2_is_preferred_and_asked_for_its_controllers);
	tcase_add_test(f, v2_limits_what_is_enabled_in_the_end);
	tcase_add_test(f, a_read_only_hierarchy_means_none);
	tcase_add_checked_fixture(g, make_host, remove_host);
	tcase_add_test(g, a_group_that_cannot_be_limited_is_not_left_behind);
	tcase_add_test(g, a_group_that_is_in_use_is_refused_and_left_alone);
	tcase_add_test(g, removing_what_is_gone_is_no_error);
	tcase_add_loop_test(g, the_kernels_kills_are_counted, 0,
		sizeof(accounts) / sizeof(accounts[0]));
	tcase_add_checked_fixture(real, open_real, close_real);
	if (geteuid() == 0) {
		tcase_add_test(
			real, an_empty_group_of_that_name_is_taken_away_first);
		tcase_add_test(real,
			a_parent_that_another_daemon_removed_is_made_again);
		tcase_add_test(real, removing_a_group_kills_what_is_in_it);
		tcase_add_test(real,
			a_group_somebody_lives_in_is_refused_and_left_alone);
		tcase_add_test(
			real, what_an_earlier_daemon_left_empty_is_removed);
	}
	suite_add_tcase(s, f);
	suite_add_tcase(s, g);
	suite_add_tcase(s, real);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
