#include "jail_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/seccomp_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
	read_proc(a.pid, "mountinfo", mounts, sizeof(mounts));
	ck_assert_ptr_nonnull(strstr(mounts, " - tmpfs mayfly ro,"));
}
END_TEST

START_TEST(its_securebits_are_locked)
{
	ck_assert_uint_eq(look(&a).securebits,
		SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			SECBIT_NO_SETUID_FIXUP_LOCKED |
			SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
			SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
}
END_TEST

/* Neither those from before the jail was made nor later ones, whether exec
 * would close them or not. */
START_TEST(it_has_its_control_socket_and_no_other_descriptor)
{
	_cleanup_close_ int late = -1;
	int early[8];

	for (size_t i = 0; i < N(early); i++)
		early[i] = dup(1);
	make_jail();
	late = fcntl(1, F_DUPFD, 60);
	spawn(&b, "b");
	ck_assert_uint_eq(look(&b).fds, 1u << JAIL_CONTROL_FD);
	jail_reap(jail, &b);
	destroy_jail();
	ck_assert_int_ge(fcntl(late, F_GETFD), 0);
	for (size_t i = 0; i < N(early); i++)
		ck_assert_int_eq(close(early[i]), 0);
}
END_TEST

START_TEST(our_end_of_its_socket_never_blocks)
{
	unsigned n;
	char c;

	ck_assert_int_eq(fd_recv(a.sock, &c, 1, NULL, 0, &n), -EAGAIN);
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
	ck_assert_uint_eq(r.personality, PER_LINUX);
	/* The second is blank: room for the id of its VM. */
	ck_assert_uint_eq(r.args, 2);
	ck_assert_str_eq(r.arg0, "mayfly-vmm");
	ck_assert_uint_eq(r.env, 0);
}
END_TEST

/* As /proc/PID/limits has them: soft and hard. */
static const struct {
	const char *what, *value;
} limits[] = {
	{"Max core file size ", "0"},
	{"Max open files ", "8192"},
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

static int result_of(char what)
{
	struct probe_result r = {.r = 1};

	ck_assert_int_eq(ask(&b, what, -1, &r, sizeof(r)), sizeof(r));
	return r.r;
}

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
	struct probe_result r;
	int status_word;

	spawn(&b, "b");
	ck_assert_int_ge(result_of(PROBE_OPEN), 0);
	enter_filter(SECCOMP_CONTROL);
	ck_assert_str_eq(status_line(b.pid, "Seccomp:\t"), "2");
	ck_assert_int_eq(ask(&b, PROBE_OPEN, -1, &r, sizeof(r)), 0);
	wait_readable(b.pidfd);
	status_word = jail_reap(jail, &b);
	ck_assert(WIFSIGNALED(status_word));
	ck_assert_int_eq(WTERMSIG(status_word), SIGSYS);
}
END_TEST

/* What io_uring is asked for passes by seccomp: the ring itself refuses. */
START_TEST(its_ring_reads_its_files_and_opens_nothing)
{
	spawn(&b, "b");
	ck_assert_int_eq(result_of(PROBE_RING), 0);
	ck_assert_int_eq(result_of(PROBE_RING_READ), 0);
	ck_assert_int_eq(result_of(PROBE_RING_OPEN), -EACCES);
	jail_reap(jail, &b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jail");
	TCase *one = jail_tcase(s, "one", make_one, destroy_one);
	TCase *two = jail_tcase(s, "two", make_two, destroy_two);
	TCase *prot = jail_tcase(s, "oom", make_protected, destroy_protected);
	TCase *more = jail_tcase(s, "more", make_jail, destroy_jail);
	TCase *bare = jail_tcase(s, "bare", NULL, NULL);

	tcase_add_loop_test(one,
		it_has_no_capability_no_group_and_no_signal_of_the_daemons, 0,
		N(status));
	tcase_add_test(
		one, its_root_is_an_empty_directory_that_cannot_be_written);
	tcase_add_test(one, its_securebits_are_locked);
	tcase_add_test(one, our_end_of_its_socket_never_blocks);
	tcase_add_test(one, it_sees_no_network_and_not_the_hosts_name);
	tcase_add_test(one, it_starts_with_a_name_and_nothing_else);
	tcase_add_loop_test(one, its_resources_are_limited, 0, N(limits));
	tcase_add_test(two, each_has_a_user_id_of_its_own_in_all_four_places);
	tcase_add_loop_test(two, its_namespaces_are_its_own, 0, N(namespaces));
	tcase_add_test(prot,
		it_is_no_better_protected_from_the_oom_killer_than_others);
	tcase_add_test(more, it_is_in_a_limited_cgroup_that_goes_with_it);
	tcase_add_test(
		more, it_can_open_its_root_until_its_program_kills_it_for_that);
	tcase_add_test(more, its_ring_reads_its_files_and_opens_nothing);
	tcase_add_test(bare, it_has_its_control_socket_and_no_other_descriptor);
	return jail_run_suite(s);
}
