#include "jail_fixture.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", "..", its own descriptor in /proc/self/fd */
}

/* Empty roots in our own mount namespace. */
static unsigned count_roots(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024];
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, " - tmpfs mayfly ") != NULL;
	return n;
}

START_TEST(reap_tells_how_it_ended)
{
	int status_word;

	spawn(&b, "b");
	close_fd(&b.sock);
	wait_readable(b.pidfd);
	status_word = jail_reap(jail, &b);
	ck_assert(WIFEXITED(status_word));
	ck_assert_int_eq(WEXITSTATUS(status_word), 7);
}
END_TEST

START_TEST(reap_kills_what_still_runs)
{
	pid_t pid;
	int status_word;

	spawn(&b, "b");
	pid = b.pid;
	status_word = jail_reap(jail, &b);
	ck_assert(WIFSIGNALED(status_word));
	ck_assert_int_eq(WTERMSIG(status_word), SIGKILL);
	ck_assert_int_eq(kill(pid, 0), -1);
	ck_assert_int_eq(b.sock, -1);
	ck_assert_int_eq(b.pidfd, -1);
}
END_TEST

START_TEST(there_are_as_many_as_ids_and_no_more)
{
	struct jail_process p[UID_COUNT], more;

	for (unsigned i = 0; i < UID_COUNT; i++)
		spawn(&p[i], "same name");
	ck_assert_int_eq(jail_spawn(jail, "x", MEM, 4, &more, &err), -ENOSPC);
	jail_reap(jail, &p[1]);
	spawn(&p[1], "again");
	for (unsigned i = 0; i < UID_COUNT; i++)
		jail_reap(jail, &p[i]);
}
END_TEST

#define TEN "ten-bytes-"

static const char *const bad_names[] = {
	"", ".", "..", ".x", "a/b", "/", (TEN TEN TEN TEN TEN TEN TEN "abc")};

START_TEST(a_name_that_is_no_file_name_is_refused)
{
	struct jail_process p;

	ck_assert_int_eq(
		jail_spawn(jail, bad_names[_i], MEM, 4, &p, &err), -EINVAL);
}
END_TEST

/* %u: its user id. */
static const char *const strange_groups[] = {"", "vm", "-%u", "vm-1%u", "vm-",
	"../vm-%u", "a/vm-%u", "..", "../-%u", ".-%u", "vm-%u-", "vm-%u "};

START_TEST(a_cgroup_that_is_not_ours_is_not_adopted)
{
	struct jail_process p = {.sock = -1, .uid = UID_FIRST};

	snprintf(p.name, sizeof(p.name), strange_groups[_i], p.uid);
	ck_assert_int_eq(jail_adopt(jail, &p, &err), 0);
	ck_assert_str_eq(p.name, "");
	ck_assert_int_eq(jail_reap(jail, &p), -1);
}
END_TEST

/* Of what an earlier daemon has left of one that has ended. */
START_TEST(what_is_adopted_goes_whole)
{
	struct jail_process p, more[UID_COUNT];

	spawn(&b, "b");
	p = b;
	p.pid = 0;
	kill(b.pid, SIGKILL);
	ck_assert_int_eq(waitpid(b.pid, NULL, 0), b.pid);
	/* Of this daemon's ids it is one already, and stays that. */
	ck_assert_int_eq(jail_adopt(jail, &p, &err), 0);
	ck_assert_uint_eq(p.uid, 0);
	ck_assert_str_eq(p.name, "");
	jail_reap(jail, &b);
	for (unsigned i = 0; i < UID_COUNT; i++)
		spawn(&more[i], "more");
	for (unsigned i = 0; i < UID_COUNT; i++)
		jail_reap(jail, &more[i]);
}
END_TEST

/* Its number may be another's by now. */
START_TEST(an_adopted_one_that_has_gone_is_an_error_that_can_be_reaped)
{
	struct jail_process p = {
		.pid = 0x7ffffff0, .sock = -1, .uid = UID_FIRST};

	snprintf(p.name, sizeof(p.name), "vm-%u", p.uid);
	ck_assert_int_eq(jail_adopt(jail, &p, &err), -ESRCH);
	p.pid = 0;
	ck_assert_int_eq(jail_reap(jail, &p), -1);
	ck_assert_uint_eq(p.uid, 0);
}
END_TEST

/* What was never made: nobody is signalled, this process group least of all. */
START_TEST(reaping_nothing_is_fine)
{
	struct jail_process p = {.pidfd = -1, .sock = -1};

	ck_assert_int_eq(jail_reap(jail, &p), -1);
}
END_TEST

START_TEST(the_daemon_stays_what_it_was)
{
	struct rlimit before, after;
	sigset_t set;

	getrlimit(RLIMIT_NOFILE, &before);
	spawn(&b, "b");
	ck_assert_int_eq(prctl(PR_GET_DUMPABLE), 1);
	getrlimit(RLIMIT_NOFILE, &after);
	ck_assert_uint_eq(before.rlim_cur, after.rlim_cur);
	sigprocmask(SIG_SETMASK, NULL, &set);
	ck_assert_int_eq(sigismember(&set, SIGTERM), 1); /* as main() set it */
	ck_assert_int_eq(sigismember(&set, SIGINT), 0);
	ck_assert_uint_eq(getuid(), 0);
	ck_assert_int_eq(access("/proc/self/status", R_OK), 0);
	jail_reap(jail, &b);
}
END_TEST

/* What a life leaves behind, it leaves in one of these. */
struct world {
	unsigned fds, mounts;
	bool children;
	unsigned groups;
};

static unsigned count_groups(void)
{
	unsigned n = 0;
	char path[300];
	const char *const in[] = {"", "memory/", "pids/"};

	for (size_t i = 0; i < N(in); i++) {
		struct stat st;

		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s", in[i],
			cgroup_name);
		if (stat(path, &st) == 0)
			n += (unsigned)st.st_nlink;
	}
	return n;
}

static struct world look_around(void)
{
	return (struct world){.fds = count_entries("/proc/self/fd"),
		.mounts = count_roots(),
		.children = waitpid(-1, NULL, WNOHANG | __WALL) >= 0,
		.groups = count_groups()};
}

static void assert_same(struct world x, struct world y)
{
	ck_assert_uint_eq(x.fds, y.fds);
	ck_assert_uint_eq(x.mounts, y.mounts);
	ck_assert_uint_eq(x.groups, y.groups);
	ck_assert_int_eq(x.children, y.children);
}

START_TEST(two_hundred_lives_leave_nothing_behind)
{
	struct world before = look_around();

	for (unsigned i = 0; i < 200; i++) {
		spawn(&a, "a");
		jail_reap(jail, &a);
	}
	assert_same(before, look_around());
}
END_TEST

START_TEST(a_spawn_that_fails_says_where_and_leaves_nothing_behind)
{
	char path[] = "/tmp/mayfly-test-exe-XXXXXX";
	_cleanup_close_ int fd = mkstemp(path);
	struct jail_config c = config(path);
	struct world before;
	struct jail *j;

	ck_assert_int_eq(write(fd, "no program", 10), 10);
	fchmod(fd, 0755);
	close_fd(&fd);
	ck_assert_int_eq(jail_create(&j, &c, &err), 0);
	before = look_around();
	for (unsigned i = 0; i < 2 * UID_COUNT; i++) {
		memset(&a, 0x5a, sizeof(a));
		ck_assert_int_eq(
			jail_spawn(j, "a", MEM, 4, &a, &err), -ENOEXEC);
		ck_assert_ptr_nonnull(strstr(err.msg, "executing mayfly-vmm"));
		ck_assert_int_eq(a.pidfd, 0x5a5a5a5a);
	}
	assert_same(before, look_around());
	jail_destroy(j);
	unlink(path);
}
END_TEST

/* ---- jail_create ---- */

START_TEST(a_jail_leaves_nothing_behind_either)
{
	struct world before = look_around();

	make_jail();
	destroy_jail();
	assert_same(before, look_around());
}
END_TEST

START_TEST(an_executable_others_may_not_run_is_refused)
{
	char path[] = "/tmp/mayfly-test-exe-XXXXXX";
	_cleanup_close_ int fd = mkstemp(path);
	struct jail_config c = config(path);
	struct world before = look_around();
	struct jail *j;

	fchmod(fd, 0700);
	ck_assert_int_eq(jail_create(&j, &c, &err), -EACCES);
	c.exe_path = "/tmp";
	ck_assert_int_eq(jail_create(&j, &c, &err), -EACCES);
	c.exe_path = "/no/such/file";
	ck_assert_int_eq(jail_create(&j, &c, &err), -ENOENT);
	assert_same(before, look_around());
	unlink(path);
}
END_TEST

static const char *const bad_groups[] = {"", ".", "..", "a/b"};

START_TEST(a_cgroup_name_with_a_path_in_it_is_refused)
{
	struct jail_config c = config(NULL);
	struct jail *j;

	c.cgroup_name = bad_groups[_i];
	ck_assert_int_eq(jail_create(&j, &c, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jail_life");
	TCase *life = jail_tcase(s, "life", make_jail, destroy_jail);
	TCase *create = jail_tcase(s, "create", NULL, NULL);

	tcase_add_test(life, reap_tells_how_it_ended);
	tcase_add_test(life, reap_kills_what_still_runs);
	tcase_add_test(life, there_are_as_many_as_ids_and_no_more);
	tcase_add_loop_test(
		life, a_name_that_is_no_file_name_is_refused, 0, N(bad_names));
	tcase_add_loop_test(life, a_cgroup_that_is_not_ours_is_not_adopted, 0,
		N(strange_groups));
	tcase_add_test(life, what_is_adopted_goes_whole);
	tcase_add_test(life,
		an_adopted_one_that_has_gone_is_an_error_that_can_be_reaped);
	tcase_add_test(life, reaping_nothing_is_fine);
	tcase_add_test(life, the_daemon_stays_what_it_was);
	tcase_add_test(life, two_hundred_lives_leave_nothing_behind);
	tcase_add_test(
		life, a_spawn_that_fails_says_where_and_leaves_nothing_behind);
	tcase_add_test(create, a_jail_leaves_nothing_behind_either);
	tcase_add_test(create, an_executable_others_may_not_run_is_refused);
	tcase_add_loop_test(create, a_cgroup_name_with_a_path_in_it_is_refused,
		0, N(bad_groups));
	return jail_run_suite(s);
}
