/*
 * jailer: takes the command line of Firecracker's jailer. The jail itself is
 * mayflyd's, and around every VM; what is made here is what those who use
 * jailer look for: a directory its paths are in, with its API's socket.
 */

#include "api/firecracker.h"
#include "api/firecracker/jailer_options.h"
#include "api/firecracker/run.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static int make_dirs(char *path, struct error *err)
{
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c != '/' && c)
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return error_errno(err, errno, "making %s", path);
		*p = c;
		if (!c)
			return 0;
	}
}

/* Of whom the VM is for, who may have been there before: by descriptor. */
static int own_dir(int at, const char *name, const struct jailer_options *o,
	int *ret_fd, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "making %s", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, o->uid, o->gid) < 0)
		return error_errno(err, errno, "%s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Leaves the root's path in buf[PATH_MAX], and it open. */
static int make_root(const struct jailer_options *o, char *buf, int *ret_fd,
	struct error *err)
{
	_cleanup_close_ int run = -1, above = -1;
	int n = snprintf(buf, PATH_MAX - sizeof("/root"), "%s/%s/%s", o->base,
		o->exec_name, o->id);

	if ((size_t)n >= PATH_MAX - sizeof("/root"))
		return error_set(err, EINVAL, "--chroot-base-dir: is too long");
	if (make_dirs(buf, err) < 0)
		return -err->code;
	above = open(buf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (above < 0)
		return error_errno(err, errno, "%s", buf);
	memcpy(buf + n, "/root", sizeof("/root"));
	if (own_dir(above, "root", o, ret_fd, err) < 0)
		return -err->code;
	return own_dir(*ret_fd, "run", o, &run, err);
}

static int write_pid(
	int root, const struct jailer_options *o, pid_t pid, struct error *err)
{
	_cleanup_close_ int fd = -1;
	char name[NAME_MAX + 8];

	snprintf(name, sizeof(name), "%s.pid", o->exec_name);
	unlinkat(root, name, 0);
	fd = openat(root, name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || dprintf(fd, "%d", (int)pid) < 0)
		return error_errno(err, errno, "%s", name);
	return 0;
}

static int leave_terminal(struct error *err)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		dup2(null, 2) < 0)
		return error_errno(err, errno, "/dev/null");
	return 0;
}

/*
 * Whether this process goes on; the other one is done. A leader of its group
 * has to leave it for a session of its own.
 */
static int go_on(
	int root, const struct jailer_options *o, bool *ret, struct error *err)
{
	bool leader = o->daemonize && getpgrp() == getpid();
	pid_t child = o->new_pid_ns || leader ? fork() : 0;

	*ret = child == 0;
	if (child < 0)
		return error_errno(err, errno, "fork");
	if (child > 0)
		return write_pid(root, o, child, err);
	if (o->daemonize) {
		setsid();
		if (!o->new_pid_ns && !leader &&
			write_pid(root, o, getpid(), err) < 0)
			return -err->code;
		return leave_terminal(err);
	}
	return 0;
}

static int run(struct jailer_options *o)
{
	struct fc_options *fc = &o->firecracker;
	_cleanup_close_ int root = -1;
	char path[PATH_MAX];
	struct error err;
	bool ours = false;

	if (make_root(o, path, &root, &err) < 0 ||
		go_on(root, o, &ours, &err) < 0) {
		fprintf(stderr, "jailer: %s\n", err.msg);
		return FC_EXIT_FAILED;
	}
	if (!ours)
		return FC_EXIT_OK;
	prctl(PR_SET_NAME, o->exec_name);
	fc->id = o->id;
	fc->path_root = path;
	fc->netns = o->netns;
	fc->uid = o->uid;
	fc->gid = o->gid;
	fc->started = fc_limits_apply;
	fc->ended = fc_limits_remove;
	fc->arg = &o->limits;
	return fc_run(fc);
}

int main(int argc, char **argv)
{
	struct jailer_options o;
	struct error err;

	if (jailer_options_read(&o, argc, argv, &err) < 0) {
		fprintf(stderr, "jailer: %s\n", err.msg);
		return FC_EXIT_FAILED;
	}
	switch (o.task == FC_RUN ? o.firecracker.task : o.task) {
	case FC_VERSION:
		puts("Jailer v" FIRECRACKER_VERSION "\n\n"
		     "By Mayfly " MAYFLY_VERSION ".");
		return 0;
	case FC_HELP:
		fputs(jailer_help, stdout);
		return 0;
	case FC_RUN:
		break;
	}
	return run(&o);
}
