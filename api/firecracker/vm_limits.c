#include "api/firecracker/vm_limits.h"

#include "api/firecracker/args.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

/* ---- what is asked for ---- */

/* A file in a group's directory, and nowhere else. */
static bool is_group_file(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') ||
			    (s[i] >= 'A' && s[i] <= 'Z') ||
			    (s[i] >= '0' && s[i] <= '9') || s[i] == '_' ||
			    (s[i] == '.' && i > 0)))
			return false;
	return len > 0 && memchr(s, '.', len) &&
	       len < sizeof(((struct fc_cgroup *)0)->file);
}

static int add(struct fc_limits *l, const char *file, size_t len,
	const char *value, struct error *err)
{
	struct fc_cgroup *c = &l->cgroups[l->n_cgroups];

	if (l->n_cgroups == FC_CGROUPS_MAX)
		return error_set(err, EINVAL, "--cgroup: at most %d of them",
			FC_CGROUPS_MAX);
	snprintf(c->file, sizeof(c->file), "%.*s", (int)len, file);
	c->value = value;
	l->n_cgroups++;
	return 0;
}

int fc_limits_add_cgroup(
	struct fc_limits *l, const char *text, struct error *err)
{
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : 0;

	if (!is_group_file(text, len) || !equals[1])
		return error_set(err, EINVAL,
			"--cgroup: \"%.64s\" is not FILE=VALUE", text);
	return add(l, text, len, equals + 1, err);
}

int fc_limits_add_resource(
	struct fc_limits *l, const char *text, struct error *err)
{
	static const struct {
		const char *name;
		int resource;
	} names[] = {{"fsize=", RLIMIT_FSIZE}, {"no-file=", RLIMIT_NOFILE},
		{"memlock=", RLIMIT_MEMLOCK}};
	unsigned long long n;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i].name);

		if (strncmp(text, names[i].name, len) != 0)
			continue;
		if (args_number(
			    "--resource-limit", text + len, ~0ull, &n, err) < 0)
			return -err->code;
		l->rlimits[i].there = true;
		l->rlimits[i].resource = names[i].resource;
		l->rlimits[i].limit = (rlim_t)n;
		return 0;
	}
	return error_set(err, EINVAL,
		"--resource-limit: \"%.64s\" is not fsize=, no-file= or "
		"memlock=NUMBER",
		text);
}

int fc_limits_add_node(struct fc_limits *l, const char *node, struct error *err)
{
	static char cpus[256];
	char path[80];
	unsigned long long n;

	if (args_number("--node", node, 1023, &n, err) < 0)
		return -err->code;
	snprintf(path, sizeof(path),
		"/sys/devices/system/node/node%llu/cpulist", n);
	if (file_read_text(AT_FDCWD, path, cpus, sizeof(cpus)) < 0 || !cpus[0])
		return error_set(
			err, EINVAL, "--node: there is no node %llu", n);
	cpus[strcspn(cpus, "\n")] = '\0';
	if (add(l, "cpuset.mems", strlen("cpuset.mems"), node, err) < 0)
		return -err->code;
	return add(l, "cpuset.cpus", strlen("cpuset.cpus"), cpus, err);
}

/* ---- groups ---- */

bool fc_limits_v2(void)
{
	return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

static int write_file(const char *group, const char *file, const char *value,
	struct error *err)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return error_errno(
			err, errno, "%s of the VM's control group", file);
	return 0;
}

/* Whether the comma-separated list has the name. */
static bool lists(const char *list, const char *name, size_t len)
{
	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strcspn(list, ",") == len && memcmp(list, name, len) == 0)
			return true;
	return false;
}

/* Where the process is in the hierarchy of a controller (""; version 2), from
 * the hierarchy's root. */
static int find_group(
	pid_t pid, const char *controller, size_t len, char *buf, size_t size)
{
	char path[40], line[PATH_MAX];
	_cleanup_fclose_ FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *list = strchr(line, ':');
		char *group = list ? strchr(list + 1, ':') : NULL;

		if (!group)
			continue;
		*list++ = *group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (len ? !lists(list, controller, len) : list[0] != '\0')
			continue;
		snprintf(buf, size, "%s", group);
		return 0;
	}
	return -ENOENT;
}

/* Where a hierarchy is mounted. */
static int find_mount(
	const char *controller, size_t len, char *buf, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/mounts", "re");
	char line[PATH_MAX], at[256], type[32], options[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %255s %31s %511s", at, type, options) !=
			3)
			continue;
		if (len ? strcmp(type, "cgroup") != 0 ||
					!lists(options, controller, len)
			: strcmp(type, "cgroup2") != 0)
			continue;
		snprintf(buf, size, "%s", at);
		return 0;
	}
	return -ENOENT;
}

/* Version 2: lets every group on the way down have the controller. */
static void enable(const char *mount, const char *group, const char *controller,
	size_t len)
{
	char path[PATH_MAX], word[80];
	struct error ignored;
	size_t n = (size_t)snprintf(path, sizeof(path), "%s%s", mount, group);

	snprintf(word, sizeof(word), "+%.*s", (int)len, controller);
	for (size_t i = strlen(mount); i < n && i < sizeof(path); i++)
		if (path[i] == '/') {
			path[i] = '\0';
			(void)write_file(
				path, "cgroup.subtree_control", word, &ignored);
			path[i] = '/';
		}
}

/* Version 1: a new cpuset has nothing, until it is told. */
static void inherit(const char *from, const char *to, const char *file)
{
	char path[PATH_MAX], value[256];
	struct error ignored;

	snprintf(path, sizeof(path), "%s/%s", from, file);
	(void)file_read_text(AT_FDCWD, path, value, sizeof(value));
	if (value[0])
		(void)write_file(to, file, value, &ignored);
}

static int make_group(const char *parent, const char *name, char *ret,
	size_t size, struct error *err)
{
	snprintf(ret, size, "%s/%s", parent, name);
	if (mkdir(ret, 0755) < 0 && errno != EEXIST)
		return error_errno(err, errno, "making %s", ret);
	inherit(parent, ret, "cpuset.cpus");
	inherit(parent, ret, "cpuset.mems");
	return 0;
}

/* Version 1, a controller that Mayfly leaves alone: a group of the VM's own, as
 * jailer would make it. */
static int join_group(struct fc_limits *l, const char *mount, const char *id,
	pid_t pid, char *ret, size_t size, struct error *err)
{
	char parent[256], number[16];

	if (make_group(mount, l->parent ? l->parent : "firecracker", parent,
		    sizeof(parent), err) < 0 ||
		make_group(parent, id, ret, size, err) < 0)
		return -err->code;
	for (unsigned i = 0; i < l->n_made; i++)
		if (strcmp(l->made[i], ret) == 0)
			return 0;
	l->made[l->n_made] = strdup(ret);
	if (!l->made[l->n_made])
		return error_set(err, ENOMEM, "out of memory");
	l->n_made++;
	snprintf(number, sizeof(number), "%d", (int)pid);
	return write_file(ret, "cgroup.procs", number, err);
}

/* In whose hierarchies mayflyd has made a group for the VM's process. */
static bool is_mayflys(const char *controller, size_t len)
{
	return lists("memory,pids", controller, len);
}

static int set_group(struct fc_limits *l, const struct fc_cgroup *c,
	const char *id, pid_t pid, struct error *err)
{
	char mount[256], group[PATH_MAX - 512], dir[PATH_MAX];
	bool v2 = fc_limits_v2();
	size_t len = strcspn(c->file, "."), key = v2 ? 0 : len;

	if (find_mount(c->file, key, mount, sizeof(mount)) < 0 ||
		find_group(pid, c->file, key, group, sizeof(group)) < 0)
		return error_set(err, ENOTSUP,
			"--cgroup: this host has no controller for %s",
			c->file);
	snprintf(dir, sizeof(dir), "%s%s", mount, group);
	if (v2)
		enable(mount, group, c->file, len);
	else if (!is_mayflys(c->file, len) &&
		 join_group(l, mount, id, pid, dir, sizeof(dir), err) < 0)
		return -err->code;
	return write_file(dir, c->file, c->value, err);
}

static int apply(
	struct fc_limits *l, const char *id, pid_t pid, struct error *err)
{
	for (unsigned i = 0; i < l->n_cgroups; i++)
		if (set_group(l, &l->cgroups[i], id, pid, err) < 0)
			return -err->code;
	for (unsigned i = 0; i < 3; i++) {
		const struct rlimit r = {
			l->rlimits[i].limit, l->rlimits[i].limit};

		if (l->rlimits[i].there &&
			prlimit(pid,
				(enum __rlimit_resource)l->rlimits[i].resource,
				&r, NULL) < 0)
			return error_errno(err, errno, "--resource-limit");
	}
	return 0;
}

static bool has_ended(pid_t pid)
{
	_cleanup_close_ int fd = pidfd_open(pid, 0);

	return fd < 0 ? errno == ESRCH : fd_is_readable(fd);
}

/* A guest may have ended by now, its process and its group with it. */
int fc_limits_apply(void *arg, const char *id, pid_t pid, struct error *err)
{
	return apply(arg, id, pid, err) < 0 && !has_ended(pid) ? -err->code : 0;
}

void fc_limits_remove(void *arg)
{
	struct fc_limits *l = arg;

	for (unsigned i = 0; i < l->n_made; i++) {
		rmdir(l->made[i]);
		free(l->made[i]);
	}
}
