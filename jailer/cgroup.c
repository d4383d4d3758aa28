#include "jailer/cgroup.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

/* A mount of one hierarchy, as mountinfo tells it. */
struct mount_point {
	bool v2, memory, pids;
	char path[192];
};

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)) != NULL; p += n) {
		bool starts = p == list || p[-1] == ',' || p[-1] == ' ';

		if (starts && (p[n] == '\0' || strchr(", \n", p[n])))
			return true;
	}
	return false;
}

static int write_at(int dir, const char *name, const char *value)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, value, strlen(value));
	return n < 0 ? -errno : 0;
}

static int write_number_at(int dir, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return write_at(dir, name, text);
}

/*
 * "36 25 0:30 / /sys/fs/cgroup/memory rw,... shared:1 - cgroup cgroup
 * rw,memory" Optional fields end at " - "; type, source and superblock options
 * follow. A blank in a path is escaped there, so it ends at a blank.
 */
static bool parse_mount(const char *line, struct mount_point *ret)
{
	const char *tail = strstr(line, " - ");
	char type[16], controllers[256];
	char options[256];
	int dir;

	if (!tail || sscanf(line, "%*s %*s %*s %*s %191s", ret->path) != 1 ||
		sscanf(tail, " - %15s %*s %255s", type, options) != 2)
		return false;
	if (strcmp(type, "cgroup") == 0) {
		ret->v2 = false;
		ret->memory = has_word(options, "memory");
		ret->pids = has_word(options, "pids");
		return ret->memory || ret->pids;
	}
	if (strcmp(type, "cgroup2") != 0)
		return false;
	dir = open(ret->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return false;
	(void)file_read_text(
		dir, "cgroup.controllers", controllers, sizeof(controllers));
	close(dir);
	ret->v2 = true;
	ret->memory = has_word(controllers, "memory");
	ret->pids = has_word(controllers, "pids");
	return ret->memory || ret->pids;
}

static unsigned find_mounts(const char *mountinfo_path, struct mount_point *ret)
{
	_cleanup_fclose_ FILE *f = fopen(mountinfo_path, "re");
	_cleanup_free_ char *line = NULL;
	struct mount_point m;
	size_t cap = 0;
	unsigned n = 0;

	while (f && getline(&line, &cap, f) > 0) {
		bool known = false;

		if (!parse_mount(line, &m))
			continue;
		if (m.v2) {
			ret[0] = m;
			return 1;
		}
		/* The same hierarchy may be mounted twice. */
		for (unsigned i = 0; i < n; i++)
			known |= (ret[i].memory && m.memory) ||
				 (ret[i].pids && m.pids);
		if (!known && n < CGROUP_V1_MAX)
			ret[n++] = m;
	}
	return n;
}

/* v2: lets the group above the parent, then the parent, hand on what limits
 * they can. A group that itself holds processes refuses. */
static void enable_controllers(struct cgroup_tree *t)
{
	_cleanup_close_ int above = openat(
		t->parent_fd[0], "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char enabled[256];

	for (unsigned i = 0; i < 2; i++) {
		const char *change = i ? "+pids" : "+memory";

		write_at(above, "cgroup.subtree_control", change);
		write_at(t->parent_fd[0], "cgroup.subtree_control", change);
	}
	(void)file_read_text(t->parent_fd[0], "cgroup.subtree_control", enabled,
		sizeof(enabled));
	t->has_memory[0] = has_word(enabled, "memory");
	t->has_pids[0] = has_word(enabled, "pids");
}

static int open_parent(struct cgroup_tree *t, unsigned i, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(t->parent[i], 0755) < 0 && errno != EEXIST)
		return error_errno(err, errno, "making %s", t->parent[i]);
	fd = open(t->parent[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "opening %s", t->parent[i]);
	/* In place of the old one: another thread may be using its number. */
	if (t->parent_fd[i] < 0)
		t->parent_fd[i] = take_fd(&fd);
	else if (dup3(fd, t->parent_fd[i], O_CLOEXEC) < 0)
		return error_errno(err, errno, "opening %s", t->parent[i]);
	if (t->version == JAIL_CGROUP_V2)
		enable_controllers(t);
	return 0;
}

static int add_hierarchy(struct cgroup_tree *t, const struct mount_point *m,
	const char *name, struct error *err)
{
	unsigned i = t->n;
	int n = snprintf(
		t->parent[i], sizeof(t->parent[i]), "%s/%s", m->path, name);

	if (n < 0 || (size_t)n >= sizeof(t->parent[i]))
		return error_set(err, ENAMETOOLONG,
			"the path of cgroup %s is too long", name);
	t->n++;
	t->version = m->v2 ? JAIL_CGROUP_V2 : JAIL_CGROUP_V1;
	t->has_memory[i] = m->memory;
	t->has_pids[i] = m->pids;
	return open_parent(t, i, err);
}

/*
 * Before a task is moved from one group to another the kernel waits some 10 ms
 * for RCU, unless a mounted hierarchy asks for "favordynmods" (Linux 6.0). In
 * v1 a VM's process is moved into its group; on any version KVM_CREATE_VM moves
 * a kernel thread into its caller's (Linux 6.1 does). So this makes a
 * hierarchy that asks: it has no controller, is attached nowhere, and goes with
 * its descriptor. Where it cannot be had a start takes longer, that is all.
 */
static int favor_migration(void)
{
	_cleanup_close_ int fs = fsopen("cgroup", FSOPEN_CLOEXEC);
	char name[32];

	/* One that has just been closed would be EBUSY for a while. */
	snprintf(name, sizeof(name), "mayfly-%" PRIx64, clock_ns());
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_FLAG, "none", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "name", name, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "favordynmods", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

/* What an earlier daemon of this parent left when it was killed. A group with
 * processes in it refuses to go: they may be adopted. */
static void remove_empty_groups(int parent)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!dir) {
		cleanup_close(&fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			unlinkat(parent, e->d_name, AT_REMOVEDIR);
	closedir(dir);
}

void cgroup_tree_open(struct cgroup_tree *ret, const char *mountinfo_path,
	const char *name, struct error *why)
{
	struct mount_point mounts[CGROUP_V1_MAX];
	unsigned n = find_mounts(mountinfo_path, mounts);

	*ret = (struct cgroup_tree){.version = JAIL_CGROUP_NONE,
		.parent_fd = {-1, -1},
		.fast_fd = -1};
	if (n == 0)
		error_set(why, ENOENT,
			"no mounted cgroup hierarchy has the memory or the "
			"pids controller");
	for (unsigned i = 0; i < n; i++) {
		if (add_hierarchy(ret, &mounts[i], name, why) < 0) {
			cgroup_tree_close(ret);
			return;
		}
		remove_empty_groups(ret->parent_fd[i]);
		ret->memory |= ret->has_memory[i];
		ret->pids |= ret->has_pids[i];
	}
	ret->fast_fd = favor_migration();
}

void cgroup_tree_close(struct cgroup_tree *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		close_fd(&t->parent_fd[i]);
		rmdir(t->parent[i]); /* other daemons' VMs may be in it */
	}
	close_fd(&t->fast_fd);
	t->n = 0;
	t->version = JAIL_CGROUP_NONE;
}

static int make_dir_once(
	const struct cgroup_tree *t, unsigned i, const char *name)
{
	if (mkdirat(t->parent_fd[i], name, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (unlinkat(t->parent_fd[i], name, AT_REMOVEDIR) < 0 ||
		mkdirat(t->parent_fd[i], name, 0755) < 0)
		return -errno;
	return 0;
}

/* Another daemon, when it left, may have removed the parent: then it is made
 * again. */
static int make_dir(
	struct cgroup_tree *t, unsigned i, const char *name, struct error *err)
{
	int r = make_dir_once(t, i, name);

	if (r == -ENOENT || r == -ENODEV) {
		r = open_parent(t, i, err);
		if (r < 0)
			return r;
		r = make_dir_once(t, i, name);
	}
	if (r < 0)
		return error_errno(
			err, -r, "making cgroup %s/%s", t->parent[i], name);
	return 0;
}

static int open_group(const struct cgroup_tree *t, unsigned i, const char *name)
{
	int fd = openat(
		t->parent_fd[i], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int set_memory(
	const struct cgroup_tree *t, unsigned i, int dir, uint64_t bytes)
{
	return !t->has_memory[i] ? 0
				 : write_number_at(dir,
					   t->version == JAIL_CGROUP_V2
						   ? "memory.max"
						   : "memory.limit_in_bytes",
					   bytes);
}

static int set_limits(const struct cgroup_tree *t, unsigned i, int dir,
	const struct cgroup_limits *l)
{
	int r = set_memory(t, i, dir, l->memory_bytes);

	if (r == 0 && t->has_pids[i])
		r = write_number_at(dir, "pids.max", l->tasks);
	return r;
}

int cgroup_limit_memory(const struct cgroup_tree *t, const char *name,
	uint64_t memory_bytes, struct error *err)
{
	for (unsigned i = 0; i < t->n; i++) {
		_cleanup_close_ int dir = open_group(t, i, name);
		int r = dir < 0 ? dir : set_memory(t, i, dir, memory_bytes);

		if (r < 0)
			return error_errno(err, -r, "limiting cgroup %s/%s",
				t->parent[i], name);
	}
	return 0;
}

static void kill_members(
	const struct cgroup_tree *t, unsigned i, const char *name)
{
	_cleanup_close_ int dir = open_group(t, i, name);
	char members[4096];

	if (dir < 0 || write_at(dir, "cgroup.kill", "1") == 0)
		return;
	(void)file_read_text(dir, "cgroup.procs", members, sizeof(members));
	for (char *p = members, *end;; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			return;
		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
}

/* Once its only process has been reaped a group is empty, and goes at once.
 * Somebody may have moved another into it: that one is killed and given 20 ms
 * to be gone. */
static int remove_one(const struct cgroup_tree *t, unsigned i, const char *name)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	for (unsigned tries = 0; tries < 20; tries++) {
		if (unlinkat(t->parent_fd[i], name, AT_REMOVEDIR) == 0 ||
			errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return -errno;
		kill_members(t, i, name);
		nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

/* Opens what a process needs to enter the group, which is there and limited
 * after this. */
static int prepare(const struct cgroup_tree *t, unsigned i, const char *name,
	const struct cgroup_limits *limits, struct cgroup_entry *e,
	struct error *err)
{
	_cleanup_close_ int dir = open_group(t, i, name);
	int r = dir < 0 ? dir : set_limits(t, i, dir, limits);

	if (r < 0)
		return error_errno(
			err, -r, "limiting cgroup %s/%s", t->parent[i], name);
	if (t->version == JAIL_CGROUP_V2) {
		e->into_fd = take_fd(&dir);
		return 0;
	}
	r = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (r < 0)
		return error_errno(err, errno,
			"opening cgroup.procs of cgroup %s/%s", t->parent[i],
			name);
	e->procs_fd[e->n_procs++] = r;
	return 0;
}

int cgroup_make(struct cgroup_tree *t, const char *name,
	const struct cgroup_limits *limits, struct cgroup_entry *ret,
	struct error *err)
{
	struct cgroup_entry e = {.into_fd = -1};

	for (unsigned i = 0; i < t->n; i++) {
		unsigned made = i;
		int r = make_dir(t, i, name, err);

		if (r == 0) {
			made++;
			r = prepare(t, i, name, limits, &e, err);
		}
		if (r < 0) {
			cgroup_entry_close(&e);
			while (made > 0)
				remove_one(t, --made, name);
			return r;
		}
	}
	*ret = e;
	return 0;
}

void cgroup_entry_close(struct cgroup_entry *e)
{
	close_fd(&e->into_fd);
	for (unsigned i = 0; i < e->n_procs; i++)
		close_fd(&e->procs_fd[i]);
	e->n_procs = 0;
}

uint64_t cgroup_oom_kills(const struct cgroup_tree *t, const char *name)
{
	const char *file = t->version == JAIL_CGROUP_V2 ? "memory.events"
							: "memory.oom_control";
	uint64_t kills = 0;

	for (unsigned i = 0; i < t->n; i++) {
		_cleanup_close_ int dir = openat(t->parent_fd[i], name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char text[512];
		const char *at;

		if (dir < 0 || !t->has_memory[i])
			continue;
		(void)file_read_text(dir, file, text, sizeof(text));
		/* "oom_kill 1", beside "oom_kill_disable 0" or so. */
		at = strstr(text, "\noom_kill ");
		if (at)
			kills += strtoull(at + strlen("\noom_kill "), NULL, 10);
	}
	return kills;
}

int cgroup_remove(const struct cgroup_tree *t, const char *name)
{
	int result = 0;

	for (unsigned i = 0; i < t->n; i++) {
		int r = remove_one(t, i, name);

		if (r < 0)
			result = r;
	}
	return result;
}
