#include "bench_leftovers.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define IDS_LOCK_PATH "/run/mayfly-ids.lock"

const char *leftover_name(enum leftover what)
{
	static const char *const names[LEFTOVERS] = {"descriptors", "processes",
		"cgroups", "user ids", "mounts", "network interfaces"};

	return names[what];
}

/* Entries of a directory, "." and ".." not among them; 0: it is not there. */
static unsigned count_entries(const char *path, bool directories)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	unsigned n = 0;

	while (dir && (e = readdir(dir)))
		n += e->d_name[0] != '.' &&
		     (!directories || e->d_type == DT_DIR);
	if (dir)
		closedir(dir);
	return n;
}

static unsigned count_fds(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	return count_entries(path, false);
}

static FILE *open_cmdline(const char *pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	return fopen(path, "re");
}

/* Those of the pool have a blank where the others have their VM's name. */
static bool is_waiting(const char *pid)
{
	_cleanup_fclose_ FILE *f = open_cmdline(pid);
	char words[128] = "";
	size_t n = f ? fread(words, 1, sizeof(words) - 1, f) : 0;

	return n > strlen(words) + 1 && words[strlen(words) + 1] == ' ';
}

/* Of one of its threads: a child is that of the thread that made it. */
static void count_children_of(
	pid_t pid, const char *tid, unsigned *vms, unsigned *waiting)
{
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *child = NULL;
	char path[PATH_MAX];
	size_t cap = 0;
	ssize_t len;

	snprintf(
		path, sizeof(path), "/proc/%d/task/%s/children", (int)pid, tid);
	f = fopen(path, "re");
	while (f && (len = getdelim(&child, &cap, ' ', f)) > 1) {
		child[len - 1] = '\0';
		(*(is_waiting(child) ? waiting : vms))++;
	}
}

static void count_children(pid_t pid, unsigned *ret_vms, unsigned *ret_waiting)
{
	const struct dirent *e;
	char path[64];
	DIR *dir;

	*ret_vms = *ret_waiting = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir)))
		count_children_of(pid, e->d_name, ret_vms, ret_waiting);
	if (dir)
		closedir(dir);
}

/*
 * The daemon has a directory of its own open in each hierarchy, its VMs' are
 * below that.
 */
static unsigned count_cgroups(pid_t pid, unsigned *ret_hierarchies)
{
	char path[PATH_MAX], fds[32], to[PATH_MAX];
	unsigned n = 0;
	const struct dirent *e;
	DIR *dir;

	snprintf(fds, sizeof(fds), "/proc/%d/fd", (int)pid);
	*ret_hierarchies = 0;
	dir = opendir(fds);
	while (dir && (e = readdir(dir))) {
		ssize_t len;

		snprintf(path, sizeof(path), "%s/%s", fds, e->d_name);
		len = readlink(path, to, sizeof(to) - 1);
		if (len <= 0)
			continue;
		to[len] = '\0';
		if (strncmp(to, "/sys/fs/cgroup/", 15) != 0)
			continue;
		n += count_entries(to, true);
		(*ret_hierarchies)++;
	}
	if (dir)
		closedir(dir);
	return n;
}

/* The ranges in "1: OFDLCK ADVISORY WRITE -1 00:1a:1234 1879048192 1879048192"
 * are of bytes, and a byte is an id. */
static unsigned count_uids(const struct leftovers_daemon *d)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/locks", "re");
	char line[256], inode[32], *range, *end;
	unsigned n = 0;
	struct stat st;

	if (!f || stat(IDS_LOCK_PATH, &st) < 0)
		return 0;
	snprintf(inode, sizeof(inode), ":%llu ", (unsigned long long)st.st_ino);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long first, last;

		range = strstr(line, inode);
		if (!range)
			continue;
		first = strtoull(range + strlen(inode), &end, 10);
		last = strtoull(end, NULL, 10);
		if (first >= d->uid_first &&
			last < (unsigned long long)d->uid_first + d->uid_count)
			n += (unsigned)(last - first) + 1;
	}
	return n;
}

static unsigned count_mounts(pid_t pid)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[32];
	unsigned n = 0;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	f = fopen(path, "re");
	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	return n;
}

static unsigned less(unsigned a, unsigned b)
{
	return a > b ? a - b : 0;
}

void leftovers_count(const struct leftovers_daemon *d, struct leftovers *ret)
{
	unsigned hierarchies;

	count_children(d->pid, &ret->n[LEFT_PROCESSES], &ret->waiting);
	/* Its socket, its pidfd, what it signals. */
	ret->n[LEFT_FDS] = less(count_fds(d->pid), 3 * ret->waiting);
	ret->n[LEFT_CGROUPS] = count_cgroups(d->pid, &hierarchies);
	ret->n[LEFT_CGROUPS] =
		less(ret->n[LEFT_CGROUPS], hierarchies * ret->waiting);
	ret->n[LEFT_UIDS] = less(count_uids(d), ret->waiting);
	ret->n[LEFT_MOUNTS] = count_mounts(d->pid);
	ret->n[LEFT_LINKS] = count_entries("/sys/class/net", false);
}

bool leftovers_settle(const struct leftovers_daemon *d,
	const struct leftovers *before, unsigned timeout_ms,
	struct leftovers *ret)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	uint64_t deadline = clock_ns() + timeout_ms * 1000000ull;

	for (;;) {
		bool settled = true;

		leftovers_count(d, ret);
		for (unsigned i = 0; i < LEFTOVERS; i++)
			settled &= ret->n[i] <= before->n[i];
		if (settled || clock_ns() > deadline)
			return settled;
		nanosleep(&pause, NULL);
	}
}
