#include "jail_probe.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/seccomp_image.h"
#include "jailer/jail.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
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

#define UID_FIRST 910000
#define UID_COUNT 3
#define MEM (64ull << 20)

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char cgroup_name[32];
static struct jail *jail;
static struct jail_process a, b;
static struct error err;

static struct jail_config config(const char *exe)
{
	return (struct jail_config){.exe_path = exe,
		.uid_first = UID_FIRST,
		.uid_count = UID_COUNT,
		.cgroup_name = cgroup_name};
}

static void make_jail(void)
{
	struct jail_config c = config(JAIL_PROBE);

	snprintf(cgroup_name, sizeof(cgroup_name), "mayfly-test-%d",
		(int)getpid());
	ck_assert_msg(jail_create(&jail, &c, &err) == 0, "%s", err.msg);
}

static void destroy_jail(void)
{
	jail_destroy(jail);
}

static void spawn(struct jail_process *p, const char *name)
{
	ck_assert_msg(
		jail_spawn(jail, name, MEM, 4, p, &err) == 0, "%s", err.msg);
}

static void make_one(void)
{
	make_jail();
	spawn(&a, "a");
}

static void destroy_one(void)
{
	jail_reap(jail, &a);
	destroy_jail();
}

static void make_two(void)
{
	make_one();
	spawn(&b, "b");
}

static void destroy_two(void)
{
	jail_reap(jail, &b);
	destroy_one();
}

/* ---- looking ---- */

static void wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	ck_assert_int_eq(poll(&p, 1, 10000), 1);
}

/* Returns what the answer's length was; 0 when the process is gone. */
static ssize_t ask(
	const struct jail_process *p, char what, int fd, void *ret, size_t size)
{
	unsigned n;

	ck_assert_int_eq(fd_send(p->sock, &what, 1, &fd, fd >= 0), 0);
	if (what == PROBE_FILTER)
		return 0;
	wait_readable(p->sock);
	return fd_recv(p->sock, ret, size, NULL, 0, &n);
}

static struct probe_report look(const struct jail_process *p)
{
	struct probe_report r;

	ck_assert_int_eq(ask(p, PROBE_LOOK, -1, &r, sizeof(r)), sizeof(r));
	return r;
}

static void read_proc(pid_t pid, const char *file, char *buf, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	n = read(fd, buf, size - 1);
	ck_assert_int_ge(n, 0);
	buf[n] = '\0';
}

/* The line of /proc/PID/status that begins with key, without it. */
static const char *status_line(pid_t pid, const char *key)
{
	static char value[128];
	char buf[4096];
	char *at;

	read_proc(pid, "status", buf, sizeof(buf));
	at = strstr(buf, key);
	ck_assert_ptr_nonnull(at);
	at += strlen(key);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\n"), at);
	return value;
}

/* The probe is in main() once it answers. */
static void wait_for_main(const struct jail_process *p)
{
	look(p);
}

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

static unsigned count_lines(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	for (int c; (c = getc(f)) != EOF;)
		n += c == '\n';
	return n;
}

/* ---- what the process is ---- */

static const struct {
	const char *key, *value;
} status[] = {
	{"CapInh:\t", "0000000000000000"}, {"CapPrm:\t", "0000000000000000"},
	{"CapEff:\t", "0000000000000000"}, {"CapBnd:\t", "0000000000000000"},
	{"CapAmb:\t", "0000000000000000"}, {"NoNewPrivs:\t", "1"},
	{"SigBlk:\t", "0000000000000000"}, {"SigIgn:\t", "0000000000000000"},
	{"SigCgt:\t", "0000000000000000"}, {"Groups:\t", " "},
	{"NSpid:\t", NULL}, /* "PID\t1" */
};

START_TEST(it_has_no_capability_no_group_and_no_signal_of_the_daemons)
{
	char pids[32];

	wait_for_main(&a);
	snprintf(pids, sizeof(pids), "%d\t1", (int)a.pid);
	ck_assert_str_eq(status_line(a.pid, status[_i].key),
		status[_i].value ? status[_i].value : pids);
}
END_TEST

START_TEST(each_has_a_user_id_of_its_own_in_all_four_places)
{
	char want[64];

	ck_assert_uint_ne(a.uid, b.uid);
	ck_assert_uint_ge(a.uid, UID_FIRST);
	ck_assert_uint_lt(a.uid, UID_FIRST + UID_COUNT);
	snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", a.uid, a.uid, a.uid,
		a.uid);
	ck_assert_str_eq(status_line(a.pid, "Uid:\t"), want);
	ck_assert_str_eq(status_line(a.pid, "Gid:\t"), want);
}
END_TEST

START_TEST(its_root_is_an_empty_directory_that_cannot_be_written)
{
	struct probe_report r = look(&a);
	char mounts[4096];

	ck_assert_int_eq(r.root_entries, 0);
	ck_assert_int_eq(r.mkdir_error, EROFS);
	ck_assert_int_eq(r.create_error, EROFS);
	ck_assert_int_eq(r.mount_error, EPERM);
	read_proc(a.pid, "mounts", mounts, sizeof(mounts));
	ck_assert_str_eq(strchr(mounts, '\n'), "\n"); /* one mount */
	ck_assert_ptr_nonnull(
		strstr(mounts, " / tmpfs ro,nosuid,nodev,noexec"));
}
END_TEST

/* Those of the daemon below and above the ones a spawn makes, closed by exec
 * or not. */
START_TEST(it_has_its_control_socket_and_no_other_descriptor)
{
	_cleanup_close_ int low = open("/", O_RDONLY);
	_cleanup_close_ int high = fcntl(low, F_DUPFD, 60);
	struct probe_report r;

	spawn(&b, "b");
	r = look(&b);
	ck_assert_uint_eq(r.fds, 1u << JAIL_CONTROL_FD);
	jail_reap(jail, &b);
	ck_assert_int_ge(fcntl(high, F_GETFD), 0);
}
END_TEST

static const struct {
	const char *name;
	bool shared; /* by all jails */
} namespaces[] = {
	{"ns/pid", false},
	{"ns/ipc", false},
	{"ns/uts", false},
	{"ns/mnt", false},
	{"ns/net", true},
};

static ino_t namespace(pid_t pid, const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_ino;
}

START_TEST(its_namespaces_are_its_own)
{
	const char *name = namespaces[_i].name;
	ino_t in_a, in_b;

	wait_for_main(&a);
	wait_for_main(&b);
	in_a = namespace(a.pid, name);
	in_b = namespace(b.pid, name);
	ck_assert_uint_ne(in_a, namespace(getpid(), name));
	ck_assert_uint_ne(in_b, namespace(getpid(), name));
	ck_assert_int_eq(in_a == in_b, namespaces[_i].shared);
}
END_TEST

START_TEST(it_sees_no_network_and_not_the_hosts_name)
{
	struct probe_report r = look(&a);

	ck_assert_int_ne(r.lo_flags, -1);
	ck_assert_int_eq(r.lo_flags & IFF_UP, 0);
	ck_assert_int_eq(r.second_interface, -1);
	ck_assert_str_eq(r.host, "mayfly");
}
END_TEST

START_TEST(it_starts_with_a_name_and_nothing_else)
{
	struct probe_report r = look(&a);

	ck_assert_int_eq(r.pid, 1);
	ck_assert_int_eq(r.sid, 1);
	ck_assert_uint_eq(r.umask, 077);
	ck_assert_uint_eq(r.args, 1);
	ck_assert_str_eq(r.arg0, "mayfly-vmm");
	ck_assert_uint_eq(r.env, 0);
}
END_TEST

/* As /proc/PID/limits has them: soft and hard. */
static const struct {
	const char *what, *value;
} limits[] = {
	{"Max core file size ", "0"},
	{"Max open files ", "512"},
	{"Max processes ", "68"},
	{"Max locked memory ", "8388608"},
	{"Max stack size ", "8388608"},
	{"Max msgqueue size ", "0"},
	{"Max nice priority ", "0"},
	{"Max realtime priority ", "0"},
	{"Max file size ", "unlimited"},
	{"Max address space ", "unlimited"},
	{"Max data size ", "unlimited"},
};

START_TEST(its_resources_are_limited)
{
	char all[4096], soft[32], hard[32];
	const char *at;

	wait_for_main(&a);
	read_proc(a.pid, "limits", all, sizeof(all));
	at = strstr(all, limits[_i].what);
	ck_assert_ptr_nonnull(at);
	ck_assert_int_eq(
		sscanf(at + strlen(limits[_i].what), "%31s %31s", soft, hard),
		2);
	ck_assert_str_eq(soft, limits[_i].value);
	ck_assert_str_eq(hard, limits[_i].value);
}
END_TEST

/* ---- its cgroup ---- */

/* Where the group of p is for a controller; "" without it. */
static void cgroup_path(const char *controller, const struct jail_process *p,
	char *path, size_t size)
{
	bool v2 = jail_cgroup_version(jail) == JAIL_CGROUP_V2;
	char file[600];

	snprintf(path, size, "/sys/fs/cgroup/%s/%s/%s", v2 ? "" : controller,
		cgroup_name, p->name);
	snprintf(file, sizeof(file), "%s/%s.%s", path, controller,
		strcmp(controller, "pids") == 0 ? "max"
		: v2                            ? "max"
						: "limit_in_bytes");
	if (access(file, F_OK) != 0)
		path[0] = '\0';
}

static uint64_t read_number(const char *dir, const char *file)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[700], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
	return strtoull(text, NULL, 10);
}

START_TEST(it_is_in_a_limited_cgroup_that_goes_with_it)
{
	bool v2 = jail_cgroup_version(jail) == JAIL_CGROUP_V2;
	char memory[512], pids[512], want[128], groups[4096];

	spawn(&b, "b");
	cgroup_path("memory", &b, memory, sizeof(memory));
	cgroup_path("pids", &b, pids, sizeof(pids));
	if (memory[0]) {
		uint64_t max = read_number(
			memory, v2 ? "memory.max" : "memory.limit_in_bytes");

		ck_assert_uint_ge(max, MEM + (64u << 20));
		ck_assert_uint_le(max, 2 * MEM + (64u << 20));
		ck_assert_uint_eq(
			read_number(memory, "cgroup.procs"), (uint64_t)b.pid);
	}
	if (pids[0])
		ck_assert_uint_eq(read_number(pids, "pids.max"), 4 + 64);
	if (jail_cgroup_version(jail) != JAIL_CGROUP_NONE) {
		snprintf(want, sizeof(want), "/%s/%s\n", cgroup_name, b.name);
		read_proc(b.pid, "cgroup", groups, sizeof(groups));
		ck_assert_ptr_nonnull(strstr(groups, want));
	}
	jail_reap(jail, &b);
	ck_assert_int_ne(access(memory, F_OK), 0);
	ck_assert_int_ne(access(pids, F_OK), 0);
}
END_TEST

START_TEST(it_is_no_better_protected_from_the_oom_killer_than_others)
{
	char score[16];

	wait_for_main(&a);
	read_proc(a.pid, "oom_score_adj", score, sizeof(score));
	ck_assert_str_eq(score, "0\n");
}
END_TEST

/* Without CAP_SYS_RESOURCE our own score cannot be lowered either. */
static void set_oom_score(const char *score)
{
	_cleanup_close_ int fd =
		open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (write(fd, score, strlen(score)) < 0)
		ck_assert_int_eq(errno, EACCES);
}

static void make_protected(void)
{
	set_oom_score("-500");
	make_one();
}

static void destroy_protected(void)
{
	destroy_one();
	set_oom_score("0");
}

/* ---- seccomp ---- */

static void enter_filter(enum seccomp_role role)
{
	struct probe_result r = {.r = -1};
	unsigned char number = (unsigned char)role;
	unsigned n;

	ask(&b, PROBE_FILTER, jail_seccomp_fd(jail), NULL, 0);
	ck_assert_int_eq(fd_send(b.sock, &number, 1, NULL, 0), 0);
	wait_readable(b.sock);
	ck_assert_int_eq(
		fd_recv(b.sock, &r, sizeof(r), NULL, 0, &n), sizeof(r));
	ck_assert_int_eq(r.r, 0);
}

START_TEST(it_can_open_its_root_until_its_program_kills_it_for_that)
{
	struct probe_result r = {.r = -1};
	int status_word;

	spawn(&b, "b");
	ck_assert_int_eq(ask(&b, PROBE_OPEN, -1, &r, sizeof(r)), sizeof(r));
	ck_assert_int_ge(r.r, 0);
	enter_filter(SECCOMP_CONTROL);
	ck_assert_str_eq(status_line(b.pid, "Seccomp:\t"), "2");
	ck_assert_int_eq(ask(&b, PROBE_OPEN, -1, &r, sizeof(r)), 0);
	wait_readable(b.pidfd);
	status_word = jail_reap(jail, &b);
	ck_assert(WIFSIGNALED(status_word));
	ck_assert_int_eq(WTERMSIG(status_word), SIGSYS);
}
END_TEST

/* ---- life ---- */

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
		.mounts = count_lines("/proc/self/mountinfo"),
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
	struct jail_config c = config(JAIL_PROBE);
	struct jail *j;

	c.cgroup_name = bad_groups[_i];
	ck_assert_int_eq(jail_create(&j, &c, &err), -EINVAL);
}
END_TEST

static TCase *tcase(Suite *s, const char *name, SFun setup, SFun teardown)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return t;
}

static Suite *suite(void)
{
	Suite *s = suite_create("jail");
	TCase *one = tcase(s, "one", make_one, destroy_one);
	TCase *two = tcase(s, "two", make_two, destroy_two);
	TCase *prot = tcase(s, "oom", make_protected, destroy_protected);
	TCase *life = tcase(s, "life", make_jail, destroy_jail);
	TCase *create = tcase(s, "create", NULL, NULL);

	tcase_add_loop_test(one,
		it_has_no_capability_no_group_and_no_signal_of_the_daemons, 0,
		N(status));
	tcase_add_test(
		one, its_root_is_an_empty_directory_that_cannot_be_written);
	tcase_add_test(one, it_has_its_control_socket_and_no_other_descriptor);
	tcase_add_test(one, it_sees_no_network_and_not_the_hosts_name);
	tcase_add_test(one, it_starts_with_a_name_and_nothing_else);
	tcase_add_loop_test(one, its_resources_are_limited, 0, N(limits));
	tcase_add_test(two, each_has_a_user_id_of_its_own_in_all_four_places);
	tcase_add_loop_test(two, its_namespaces_are_its_own, 0, N(namespaces));
	tcase_add_test(prot,
		it_is_no_better_protected_from_the_oom_killer_than_others);
	tcase_add_test(life, it_is_in_a_limited_cgroup_that_goes_with_it);
	tcase_add_test(
		life, it_can_open_its_root_until_its_program_kills_it_for_that);
	tcase_add_test(life, reap_tells_how_it_ended);
	tcase_add_test(life, reap_kills_what_still_runs);
	tcase_add_test(life, there_are_as_many_as_ids_and_no_more);
	tcase_add_loop_test(
		life, a_name_that_is_no_file_name_is_refused, 0, N(bad_names));
	tcase_add_test(life, the_daemon_stays_what_it_was);
	tcase_add_test(life, two_hundred_lives_leave_nothing_behind);
	tcase_add_test(
		life, a_spawn_that_fails_says_where_and_leaves_nothing_behind);
	tcase_add_test(create, a_jail_leaves_nothing_behind_either);
	tcase_add_test(create, an_executable_others_may_not_run_is_refused);
	tcase_add_loop_test(create, a_cgroup_name_with_a_path_in_it_is_refused,
		0, N(bad_groups));
	return s;
}

int main(void)
{
	SRunner *r;
	sigset_t term;
	int failed;

	if (geteuid() != 0)
		return 77; /* jails are made by root */
	/* As a daemon would: what it ignores and blocks, a jail must not. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	r = srunner_create(suite());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
