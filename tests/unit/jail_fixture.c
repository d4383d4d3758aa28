#include "jail_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <check.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

char cgroup_name[32];
struct jail *jail;
struct jail_process a, b;
struct error err;

struct jail_config config(const char *exe)
{
	return (struct jail_config){.exe_path = exe ? exe : JAIL_PROBE,
		.uid_first = UID_FIRST,
		.uid_count = UID_COUNT,
		.cgroup_name = cgroup_name};
}

void make_jail(void)
{
	struct jail_config c = config(NULL);

	snprintf(cgroup_name, sizeof(cgroup_name), "mayfly-test-%d",
		(int)getpid());
	ck_assert_msg(jail_create(&jail, &c, &err) == 0, "%s", err.msg);
}

void destroy_jail(void)
{
	jail_destroy(jail);
}

void spawn(struct jail_process *p, const char *name)
{
	ck_assert_msg(jail_spawn(jail, name, MEM, THREADS, p, &err) == 0, "%s",
		err.msg);
}

void make_one(void)
{
	make_jail();
	spawn(&a, "a");
}

void destroy_one(void)
{
	jail_reap(jail, &a);
	destroy_jail();
}

void make_two(void)
{
	make_one();
	spawn(&b, "b");
}

void destroy_two(void)
{
	jail_reap(jail, &b);
	destroy_one();
}

/* ---- looking ---- */

void wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	ck_assert_int_eq(poll(&p, 1, 10000), 1);
}

/* Returns what the answer's length was; 0 when the process is gone. */
ssize_t ask(
	const struct jail_process *p, char what, int fd, void *ret, size_t size)
{
	unsigned n;

	ck_assert_int_eq(fd_send(p->sock, &what, 1, &fd, fd >= 0), 0);
	if (what == PROBE_FILTER)
		return 0;
	wait_readable(p->sock);
	return fd_recv(p->sock, ret, size, NULL, 0, &n);
}

struct probe_report look(const struct jail_process *p)
{
	struct probe_report r;

	ck_assert_int_eq(ask(p, PROBE_LOOK, -1, &r, sizeof(r)), sizeof(r));
	return r;
}

void read_proc(pid_t pid, const char *file, char *buf, size_t size)
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
const char *status_line(pid_t pid, const char *key)
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
void wait_for_main(const struct jail_process *p)
{
	look(p);
}

TCase *jail_tcase(Suite *s, const char *name, SFun setup, SFun teardown)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return t;
}

/* CapInh, which an exec alone would not clear. */
static void make_inheritable(void)
{
	struct __user_cap_header_struct hdr = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &hdr, caps) < 0)
		abort();
	caps[0].inheritable = 1u << CAP_KILL;
	if (syscall(SYS_capset, &hdr, caps) < 0)
		abort();
}

int jail_run_suite(Suite *s)
{
	static const gid_t group = 4242;
	SRunner *r = srunner_create(s);
	sigset_t term;
	int failed;

	if (geteuid() != 0) {
		srunner_free(r);
		return 77; /* jails are made by root */
	}
	signal(SIGPIPE, SIG_IGN);
	personality(ADDR_NO_RANDOMIZE);
	setgroups(1, &group);
	make_inheritable();
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
