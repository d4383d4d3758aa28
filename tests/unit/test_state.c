#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/state.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], key[STATE_KEY_BYTES];
static struct state s;
static struct error err;
static int shared_fd, listen_fd;

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/state-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(state_open(&s, dir, &err), 0);
	ck_assert_int_eq(state_make_proc(&s, 16384, 4096, key, &shared_fd,
				 &listen_fd, &err),
		0);
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
	close_fd(&shared_fd);
	close_fd(&listen_fd);
	state_close(&s);
	ck_assert_int_eq(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static bool there(const char *path)
{
	char whole[256];
	struct stat st;

	snprintf(whole, sizeof(whole), "%s/%s", dir, path);
	return lstat(whole, &st) == 0;
}

/* A path below the state directory. */
static const char *at(const char *name)
{
	static char path[4][384];
	static unsigned i;
	char *to = path[i++ % 4];

	snprintf(to, sizeof(path[0]), "%s/%s", dir, name);
	return to;
}

static void write_at(const char *name, const char *text, size_t size)
{
	FILE *f = fopen(at(name), "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	if (size)
		ck_assert_int_eq(ftruncate(fileno(f), (off_t)size), 0);
	fclose(f);
}

static unsigned n_names;
static char names[8][80];

static void note_name(void *arg, const char *name)
{
	ck_assert_ptr_eq(arg, names);
	snprintf(names[n_names++], sizeof(names[0]), "%s", name);
}

START_TEST(a_second_daemon_is_refused)
{
	struct state other;

	ck_assert_int_eq(state_open(&other, dir, &err), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err.msg, dir));
	state_close(&other);
	state_close(&s);
	ck_assert_int_eq(state_open(&s, dir, &err), 0);
}
END_TEST

START_TEST(a_process_has_memory_and_a_socket)
{
	struct ucred who;
	struct stat st;
	int fd, peer;

	ck_assert_int_eq(fstat(shared_fd, &st), 0);
	ck_assert_int_eq(st.st_size, 16384);
	/* Only so much is taken until it is touched. */
	ck_assert_int_ge(st.st_blocks, 4096 / 512);
	ck_assert_int_lt(st.st_blocks, 16384 / 512);
	ck_assert_int_eq(listen(listen_fd, 1), 0);
	fd = state_connect(&s, key, &who);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(who.pid, getpid());
	ck_assert_uint_eq(who.uid, getuid());
	peer = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(peer, 0);
	ck_assert_int_eq(write(fd, "hello", 5), 5);
	ck_assert_int_eq(read(peer, names[0], 64), 5);
	close(fd);
	close(peer);
	fd = state_open_shared(&s, key);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	close(fd);
	ck_assert_int_eq(read(shared_fd, names[0], 1), 1);
	/* Its process is gone. */
	close_fd(&listen_fd);
	ck_assert_int_eq(state_connect(&s, key, &who), -ECONNREFUSED);
	state_remove_proc(&s, key);
	ck_assert_int_eq(state_connect(&s, key, &who), -ENOENT);
	ck_assert_int_eq(state_open_shared(&s, key), -ENOENT);
}
END_TEST

START_TEST(no_room_is_an_error_and_leaves_nothing)
{
	char other[STATE_KEY_BYTES] = "x";
	int a = -1, b = -1;

	/* Larger than any file system has room for. */
	ck_assert_int_lt(state_make_proc(&s, 1ull << 62, 1ull << 61, other, &a,
				 &b, &err),
		0);
	ck_assert_str_eq(other, "");
	ck_assert_int_eq(a, -1);
	n_names = 0;
	state_each_proc(&s, note_name, names);
	ck_assert_uint_eq(n_names, 1);
	ck_assert_str_eq(names[0], key);
}
END_TEST

static const struct state_proc someone = {.pid = 1234,
	.start = 0x123456789abcull,
	.uid = 4000000000,
	.cgroup = "vm-4000000000",
	.protocol = 3};

START_TEST(who_a_process_is_comes_back)
{
	struct state_proc p = {.pid = 7};

	ck_assert_int_eq(state_read_proc(&s, key, &p), -ENOENT);
	ck_assert_int_eq(state_write_proc(&s, key, &someone), 0);
	ck_assert_int_eq(state_read_proc(&s, key, &p), 0);
	ck_assert_int_eq(p.pid, someone.pid);
	ck_assert_uint_eq(p.start, someone.start);
	ck_assert_uint_eq(p.uid, someone.uid);
	ck_assert_uint_eq(p.protocol, someone.protocol);
	ck_assert_str_eq(p.cgroup, someone.cgroup);
}
END_TEST

/* Written as far as _i bytes when its daemon died. */
START_TEST(a_process_file_without_its_end_is_none)
{
	char path[128], text[256];
	struct state_proc p;
	FILE *f;
	size_t n;

	ck_assert_int_eq(state_write_proc(&s, key, &someone), 0);
	snprintf(path, sizeof(path), "%s/procs/%s/process", dir, key);
	f = fopen(path, "re");
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	for (size_t len = 0; len + 1 < n; len++) {
		ck_assert_int_eq(truncate(path, (off_t)len), 0);
		ck_assert_int_eq(state_read_proc(&s, key, &p), -ENODATA);
		f = fopen(path, "we");
		ck_assert_uint_eq(fwrite(text, 1, n, f), n);
		fclose(f);
	}
	ck_assert_int_eq(state_read_proc(&s, key, &p), 0);
}
END_TEST

START_TEST(what_is_written_of_a_vm_is_read)
{
	size_t len = 0;
	char *text;

	ck_assert_int_eq(
		state_read_vm(&s, "a", "config.json", &text, &len), -ENOENT);
	ck_assert_int_eq(state_write_vm(&s, "a", "config.json", "{}", 2), 0);
	ck_assert_int_eq(
		state_write_vm(&s, "a", "config.json", "{\"b\":1}", 7), 0);
	ck_assert_int_eq(state_read_vm(&s, "a", "config.json", &text, &len), 0);
	ck_assert_str_eq(text, "{\"b\":1}");
	ck_assert_uint_eq(len, 7);
	free(text);
	ck_assert(!there("vms/a/config.json.new"));
	n_names = 0;
	state_each_vm(&s, note_name, names);
	ck_assert_uint_eq(n_names, 1);
	ck_assert_str_eq(names[0], "a");
}
END_TEST

START_TEST(a_vm_is_linked_with_one_process_at_a_time)
{
	char found[STATE_KEY_BYTES] = "";

	ck_assert_int_eq(state_link_vm(&s, "a", key), -ENOENT);
	ck_assert_int_eq(state_write_vm(&s, "a", "config.json", "{}", 2), 0);
	ck_assert_int_eq(state_linked(&s, "a", found), 0);
	ck_assert_int_eq(state_link_vm(&s, "a", "0123"), 0);
	ck_assert_int_eq(state_write_vm(&s, "a", "exit", "1 0 0 \n", 7), 0);
	ck_assert_int_eq(state_link_vm(&s, "a", key), 0);
	ck_assert_int_eq(state_linked(&s, "a", found), 1);
	ck_assert_str_eq(found, key);
	/* How the one before ended says nothing of this one. */
	ck_assert(!there("vms/a/exit"));
	/* The link leads there, for people. */
	ck_assert(there("vms/a/proc/shared"));
	ck_assert_int_eq(state_link_vm(&s, "a", ""), 0);
	ck_assert_int_eq(state_linked(&s, "a", found), 0);
}
END_TEST

START_TEST(a_start_is_noted_until_the_next)
{
	ck_assert_int_eq(state_note_started(&s, "a"), -ENOENT);
	ck_assert_int_eq(state_is_started(&s, "a"), 0);
	ck_assert_int_eq(state_write_vm(&s, "a", "config.json", "x", 1), 0);
	ck_assert_int_eq(state_is_started(&s, "a"), 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(state_note_started(&s, "a"), 0);
	ck_assert_int_eq(state_is_started(&s, "a"), 1);
	ck_assert_int_eq(state_link_vm(&s, "a", "0123"), 0);
	ck_assert_int_eq(state_is_started(&s, "a"), 0);
	ck_assert_int_eq(state_note_started(&s, "a"), 0);
	state_remove_vm(&s, "a");
	ck_assert_int_eq(state_is_started(&s, "a"), 0);
}
END_TEST

START_TEST(a_link_to_elsewhere_is_none)
{
	static const char *const targets[] = {"/etc", "../../procs/",
		"../../procs/a/b", "../../procs/../vms", "x", "../../procs/..",
		"../../procs/0123", "../../procs/abc"};
	char path[128], found[STATE_KEY_BYTES];

	ck_assert_int_eq(state_write_vm(&s, "a", "config.json", "{}", 2), 0);
	snprintf(path, sizeof(path), "%s/vms/a/proc", dir);
	write_at("procs/abc", "", 0);
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		ck_assert_int_eq(symlink(targets[i], path), 0);
		ck_assert_int_eq(state_linked(&s, "a", found), -EINVAL);
		ck_assert_int_eq(unlink(path), 0);
	}
	ck_assert_int_eq(remove(at("procs/abc")), 0);
	/* As long, and not the same. */
	snprintf(names[0], sizeof(names[0]), "../../props/%s", key);
	ck_assert_int_eq(symlink(names[0], path), 0);
	ck_assert_int_eq(state_linked(&s, "a", found), -EINVAL);
}
END_TEST

START_TEST(a_removed_vm_leaves_nothing)
{
	static const char *const files[] = {"config.json", "mmds.json", "exit"};

	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(state_write_vm(&s, "a", files[i], "x", 1), 0);
	ck_assert_int_eq(state_link_vm(&s, "a", key), 0);
	state_remove_vm(&s, "a");
	ck_assert(!there("vms/a"));
	ck_assert(there("vms"));
	state_remove_vm(&s, "a");
}
END_TEST

/* ---- what is not as we left it ---- */

/* Another state directory, in this one. */
static void remove_own(void)
{
	static const char *const parts[] = {
		"own/lock", "own/vms", "own/procs", "own"};

	for (size_t i = 0; i < 4; i++)
		(void)remove(at(parts[i]));
	ck_assert(!there("own"));
}

START_TEST(a_directory_of_its_own_may_be_searched_by_others)
{
	struct state other;
	struct stat st;

	ck_assert_int_eq(state_open(&other, at("own"), &err), 0);
	state_close(&other);
	ck_assert_int_eq(stat(at("own"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0711);
	/* Somebody's, which is there, stays as it is. */
	ck_assert_int_eq(chmod(at("own"), 0750), 0);
	ck_assert_int_eq(state_open(&other, at("own"), &err), 0);
	state_close(&other);
	ck_assert_int_eq(stat(at("own"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0750);
	remove_own();
}
END_TEST

START_TEST(a_directory_that_cannot_be_used_is_an_error)
{
	static const struct {
		const char *place;
		bool is_dir;
		int code;
	} cases[] = {{"own", false, ENOTDIR}, {"own/lock", true, EISDIR},
		{"own/vms", false, ENOTDIR}, {"own/procs", false, ENOTDIR}};
	struct state other;

	ck_assert_int_eq(state_open(&other, at("no/own"), &err), -ENOENT);
	for (size_t i = 0; i < 4; i++) {
		if (i > 0)
			ck_assert_int_eq(mkdir(at("own"), 0700), 0);
		if (cases[i].is_dir)
			ck_assert_int_eq(mkdir(at(cases[i].place), 0700), 0);
		else
			write_at(cases[i].place, "", 0);
		ck_assert_int_eq(
			state_open(&other, at("own"), &err), -cases[i].code);
		ck_assert_ptr_nonnull(strstr(err.msg, at("own")));
		state_close(&other);
		remove_own();
	}
}
END_TEST

START_TEST(what_is_not_a_file_of_ours_is_not_read)
{
	char *text = NULL;
	size_t len;

	ck_assert_int_eq(state_write_vm(&s, "a", "exit", "x", 1), 0);
	write_at("vms/a/config.json", "", 1u << 20);
	ck_assert_int_eq(state_read_vm(&s, "a", "config.json", &text, &len), 0);
	ck_assert_uint_eq(len, 1u << 20);
	free(text);
	write_at("vms/a/config.json", "", (1u << 20) + 1);
	ck_assert_int_eq(
		state_read_vm(&s, "a", "config.json", &text, &len), -EFBIG);
	ck_assert_int_eq(remove(at("vms/a/config.json")), 0);
	/* Nobody has it open for writing: it would be waited for. */
	ck_assert_int_eq(mkfifo(at("vms/a/config.json"), 0600), 0);
	ck_assert_int_eq(
		state_read_vm(&s, "a", "config.json", &text, &len), -EINVAL);
	ck_assert_int_eq(remove(at("vms/a/config.json")), 0);
	ck_assert_int_eq(symlink("exit", at("vms/a/config.json")), 0);
	ck_assert_int_eq(
		state_read_vm(&s, "a", "config.json", &text, &len), -ELOOP);
	ck_assert_int_eq(remove(at("vms/a/config.json")), 0);
	ck_assert_int_eq(mkdir(at("vms/a/config.json"), 0700), 0);
	ck_assert_int_eq(
		state_read_vm(&s, "a", "config.json", &text, &len), -EINVAL);
	/* It goes with its VM nevertheless. */
	state_remove_vm(&s, "a");
	ck_assert(!there("vms/a"));
}
END_TEST

START_TEST(a_file_that_cannot_be_replaced_stays)
{
	char *text;
	size_t len;

	ck_assert_int_eq(state_write_vm(&s, "a", "exit", "old", 3), 0);
	ck_assert_int_eq(mkdir(at("vms/a/exit.new"), 0700), 0);
	ck_assert_int_eq(state_write_vm(&s, "a", "exit", "new", 3), -EISDIR);
	ck_assert_int_eq(state_read_vm(&s, "a", "exit", &text, &len), 0);
	ck_assert_str_eq(text, "old");
	free(text);
	ck_assert_int_eq(mkdir(at("vms/a/mmds.json"), 0700), 0);
	ck_assert_int_eq(
		state_write_vm(&s, "a", "mmds.json", "{}", 2), -EISDIR);
	ck_assert(!there("vms/a/mmds.json.new"));
}
END_TEST

START_TEST(only_what_can_be_ours_is_gone_through)
{
	char longest[80], log[2048] = "";
	int fd = memfd_create("log", MFD_CLOEXEC);

	log_init(LOG_TEXT, LOG_INFO, fd);
	snprintf(longest, sizeof(longest), "vms/%064d", 7);
	ck_assert_int_eq(mkdir(at(longest), 0700), 0);
	snprintf(longest, sizeof(longest), "vms/%065d", 8);
	ck_assert_int_eq(mkdir(at(longest), 0700), 0);
	ck_assert_int_eq(mkdir(at("vms/a b"), 0700), 0);
	write_at("vms/file", "", 0);
	ck_assert_int_eq(symlink("../procs", at("vms/link")), 0);
	n_names = 0;
	state_each_vm(&s, note_name, names);
	log_init(LOG_TEXT, LOG_INFO, STDERR_FILENO);
	ck_assert_uint_eq(n_names, 1);
	ck_assert_uint_eq(strlen(names[0]), 64);
	ck_assert_int_gt(pread(fd, log, sizeof(log) - 1, 0), 0);
	close(fd);
	ck_assert_ptr_nonnull(strstr(log, "entry=\"a b\""));
	ck_assert_ptr_nonnull(strstr(log, "entry=\"file\""));
	ck_assert_ptr_nonnull(strstr(log, "entry=\"link\""));
	ck_assert_ptr_nonnull(strstr(log, longest + 4));
	/* Which is all: no word of "." and "..". */
	ck_assert_ptr_null(strstr(log, "entry=\".\""));
	ck_assert_ptr_null(strstr(log, "entry=\"..\""));
	/* What is not gone through is not removed either. */
	ck_assert_int_eq(remove(at(longest)), 0);
	ck_assert_int_eq(remove(at("vms/a b")), 0);
	ck_assert_int_eq(remove(at("vms/file")), 0);
	ck_assert_int_eq(remove(at("vms/link")), 0);
}
END_TEST

START_TEST(a_process_that_can_be_none_is_none)
{
	struct state_proc bad[] = {someone, someone, someone, someone}, p;

	bad[0].pid = 1;
	bad[1].start = 0;
	bad[2].uid = 0;
	bad[3].pid = 2; /* the first that can */
	for (size_t i = 0; i < 4; i++) {
		ck_assert_int_eq(state_write_proc(&s, key, &bad[i]), 0);
		ck_assert_int_eq(
			state_read_proc(&s, key, &p), i == 3 ? 0 : -ENODATA);
		snprintf(names[0], sizeof(names[0]), "procs/%s/process", key);
		ck_assert_int_eq(remove(at(names[0])), 0);
	}
	/* A cgroup of one byte too many. */
	write_at(names[0],
		"pid 2 start 3 uid 4 protocol 5 cgroup "
		"0123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789 end\n",
		0);
	ck_assert_int_eq(state_read_proc(&s, key, &p), -ENODATA);
	write_at(names[0],
		"pid 2 start 3 uid 4 protocol 5 cgroup "
		"0123456789012345678901234567890123456789"
		"012345678901234567890123456789012345678 end\n",
		0);
	ck_assert_int_eq(state_read_proc(&s, key, &p), 0);
	ck_assert_uint_eq(strlen(p.cgroup), 79);
	write_at(names[0], "pid 2 start 3 uid 4 protocol 5 end\n", 0);
	ck_assert_int_eq(state_read_proc(&s, key, &p), -ENODATA);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("state");
	TCase *t = tcase_create("state");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_second_daemon_is_refused);
	tcase_add_test(t, a_process_has_memory_and_a_socket);
	tcase_add_test(t, no_room_is_an_error_and_leaves_nothing);
	tcase_add_test(t, who_a_process_is_comes_back);
	tcase_add_test(t, a_process_file_without_its_end_is_none);
	tcase_add_test(t, what_is_written_of_a_vm_is_read);
	tcase_add_test(t, a_vm_is_linked_with_one_process_at_a_time);
	tcase_add_test(t, a_start_is_noted_until_the_next);
	tcase_add_test(t, a_link_to_elsewhere_is_none);
	tcase_add_test(t, a_removed_vm_leaves_nothing);
	tcase_add_test(t, a_directory_of_its_own_may_be_searched_by_others);
	tcase_add_test(t, a_directory_that_cannot_be_used_is_an_error);
	tcase_add_test(t, what_is_not_a_file_of_ours_is_not_read);
	tcase_add_test(t, a_file_that_cannot_be_replaced_stays);
	tcase_add_test(t, only_what_can_be_ours_is_gone_through);
	tcase_add_test(t, a_process_that_can_be_none_is_none);
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
