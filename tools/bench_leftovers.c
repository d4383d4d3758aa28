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

static unsigned count_children(pid_t pid)
{
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;
	unsigned n = 0;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
		(int)pid);
	f = fopen(path, "re");
	/* A blank behind each. */
	while (f && (c = getc(f)) != EOF)
		n += c == ' ';
	return n;
}

/*
 * The daemon has a directory of its own open in each hierarchy, its VMs' are
 * below that.
 */
static unsigned count_cgroups(pid_t pid)
{
	char path[PATH_MAX], fds[32], to[PATH_MAX];
	unsigned n = 0;
	const struct dirent *e;
	DIR *dir;

	snprintf(fds, sizeof(fds), "/proc/%d/fd", (int)pid);
	dir = opendir(fds);
	while (dir && (e = readdir(dir))) {
		ssize_t len;

		snprintf(path, sizeof(path), "%s/%s", fds, e->d_name);
		len = readlink(path, to, sizeof(to) - 1);
		if (len <= 0)
			continue;
		to[len] = '\0';
		if (strncmp(to, "/sys/fs/cgroup/", 15) == 0)
			n += count_entries(to, true);
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

void leftovers_count(const struct leftovers_daemon *d, struct leftovers *ret)
{
	ret->n[LEFT_FDS] = count_fds(d->pid);
	ret->n[LEFT_PROCESSES] = count_children(d->pid);
	ret->n[LEFT_CGROUPS] = count_cgroups(d->pid);
	ret->n[LEFT_UIDS] = count_uids(d);
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
