#include "daemon/admission.h"

#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define LOOK_NS 100000000u
/* ... or sooner, before somebody is sent away. */
#define LOOK_AGAIN_NS 5000000u

/* Descriptors of a VM and its start, but for its devices' files. */
#define FDS_START 16u
#define FDS_FILES 4u
/* For connections, and for what is asked of the VMs there are. */
#define FDS_RESERVE 64u
/* Beside the vCPUs: the control thread, two workers, KVM's and io_uring's. */
#define TASKS_OTHER 5u
#define TASKS_RESERVE 64u
/* A VM's process, page tables and KVM's records of a guest that has touched
 * little; measured at a third of that. */
#define MEMORY_START (1u << 20)
/* So many starts must have room beside what is made ahead. */
#define SPARE 8ull

void admission_init(struct admission *a, uint64_t memory_reserve_bytes)
{
	*a = (struct admission){.proc = "/proc",
		.cgroup = "/sys/fs/cgroup",
		.clock = clock_ns,
		.memory_reserve_bytes = memory_reserve_bytes,
		.limit = LOG_LIMIT(1, 1)};
}

uint64_t admission_default_reserve(uint64_t mem_total_bytes)
{
	uint64_t share = mem_total_bytes / 16;

	return share < 512u << 20 ? share : 512u << 20;
}

/* ---- looking ---- */

/* "": cannot be read. */
static void read_file(const char *dir, const char *rest, char *buf, size_t size)
{
	char path[2 * PATH_MAX]; /* too long to be opened: cannot be read */

	snprintf(path, sizeof(path), "%s/%s", dir, rest);
	(void)file_read_text(AT_FDCWD, path, buf, size);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* A number behind a word; UINT64_MAX where there is none. */
static uint64_t number_after(const char *text, const char *word)
{
	const char *p = strstr(text, word);
	char *end;
	uint64_t n;

	if (!p)
		return UINT64_MAX;
	p += strlen(word);
	n = strtoull(p, &end, 10);
	return end == p ? UINT64_MAX : n;
}

/* Linux 6.2 and later tell it as the directory's size. */
static uint64_t count_fds(void)
{
	static const char path[] = "/proc/self/fd";
	const struct dirent *e;
	struct stat st;
	uint64_t n = 0;
	DIR *dir;

	if (stat(path, &st) == 0 && st.st_size > 0)
		return (uint64_t)st.st_size;
	dir = opendir(path);
	while (dir && (e = readdir(dir)))
		n += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

static uint64_t fds_left(void)
{
	uint64_t reserve = FDS_RESERVE;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	if (reserve > l.rlim_cur / 4)
		reserve = l.rlim_cur / 4;
	return less(l.rlim_cur, count_fds() + reserve);
}

/* The fourth word of loadavg is "running/all" of the host's threads. */
static uint64_t tasks_left(const struct admission *a)
{
	uint64_t limit, n;
	char text[128];

	read_file(a->proc, "loadavg", text, sizeof(text));
	n = number_after(text, "/");
	if (n == UINT64_MAX)
		return UINT64_MAX;
	read_file(a->proc, "sys/kernel/pid_max", text, sizeof(text));
	limit = number_after(text, "");
	read_file(a->proc, "sys/kernel/threads-max", text, sizeof(text));
	if (number_after(text, "") < limit)
		limit = number_after(text, "");
	return limit == UINT64_MAX ? limit : less(limit, n + TASKS_RESERVE);
}

static uint64_t memory_left(const struct admission *a)
{
	char text[1024];
	uint64_t kib;

	read_file(a->proc, "meminfo", text, sizeof(text));
	kib = number_after(text, "MemAvailable:");
	return kib == UINT64_MAX ? kib
				 : less(kib << 10, a->memory_reserve_bytes);
}

/*
 * A VM's process is forked in our own group, and belongs to another one then
 * or soon after: it is enough if this one can take one more.
 */
static bool own_cgroup_is_full(const struct admission *a)
{
	char text[4096], dir[PATH_MAX], *path, *end;
	uint64_t max;

	read_file(a->proc, "self/cgroup", text, sizeof(text));
	path = strstr(text, ":pids:");
	if (path)
		path += strlen(":pids:");
	else if ((path = strstr(text, "0::")))
		path += strlen("0::");
	else
		return false;
	end = strchr(path, '\n');
	if (end)
		*end = '\0';
	snprintf(dir, sizeof(dir), "%s%s%.3000s", a->cgroup,
		path[-1] == ':' && path[-2] == ':' ? "" : "/pids", path);
	read_file(dir, "pids.max", text, sizeof(text));
	max = number_after(text, "");
	read_file(dir, "pids.current", text, sizeof(text));
	return max != UINT64_MAX && number_after(text, "") != UINT64_MAX &&
	       number_after(text, "") >= max;
}

static void look(struct admission *a, uint64_t now)
{
	a->left[ROOM_FDS] = fds_left();
	a->left[ROOM_TASKS] = tasks_left(a);
	a->left[ROOM_MEMORY] = memory_left(a);
	a->own_cgroup_full = own_cgroup_is_full(a);
	a->looked_ns = now;
}

/* ---- taking ---- */

static void need_of(
	const struct vm_config *c, enum admission_for what, uint64_t *ret)
{
	ret[ROOM_FDS] = (what == ADMISSION_START ? FDS_START : FDS_FILES) +
			c->n_drives + c->n_pmem;
	for (unsigned i = 0; i < c->n_nets; i++)
		ret[ROOM_FDS] += c->nets[i].queue_pairs;
	ret[ROOM_TASKS] = what == ADMISSION_START
				  ? c->machine_config.vcpu_count + TASKS_OTHER
				  : 0;
	ret[ROOM_MEMORY] = what == ADMISSION_FILES ? 0 : MEMORY_START;
}

/* What is missing, or ROOMS. */
static enum room missing(const struct admission *a, const uint64_t *need)
{
	for (unsigned i = 0; i < ROOMS; i++)
		if (need[i] > a->left[i])
			return i;
	return need[ROOM_TASKS] && a->own_cgroup_full ? ROOM_TASKS : ROOMS;
}

/* ... by what is known, or else by another look. */
static enum room look_for(struct admission *a, const uint64_t *need)
{
	uint64_t now = a->clock();
	enum room what;

	if (!a->looked_ns || now - a->looked_ns >= LOOK_NS)
		look(a, now);
	what = missing(a, need);
	if (what == ROOMS || now - a->looked_ns < LOOK_AGAIN_NS)
		return what;
	look(a, now);
	return missing(a, need);
}

static void take(struct admission *a, const uint64_t *need)
{
	for (unsigned i = 0; i < ROOMS; i++)
		if (a->left[i] != UINT64_MAX)
			a->left[i] = less(a->left[i], need[i]);
}

static int refuse(const struct admission *a, enum room what,
	const uint64_t *need, struct error *err)
{
	switch (what) {
	case ROOM_FDS:
		return error_set(err, EAGAIN,
			"the host has no room for this VM now: mayflyd may "
			"open "
			"%llu more files, and it needs %llu",
			(unsigned long long)a->left[what],
			(unsigned long long)need[what]);
	case ROOM_TASKS:
		return error_set(err, EAGAIN,
			"the host has no room for this VM now: %llu more "
			"threads "
			"may run%s, and it needs %llu",
			(unsigned long long)a->left[what],
			a->own_cgroup_full ? ", but none in mayflyd's cgroup"
					   : "",
			(unsigned long long)need[what]);
	case ROOM_MEMORY:
	case ROOMS:
		break;
	}
	return error_set(err, EAGAIN,
		"the host has no room for this VM now: less than %llu MiB of "
		"memory are available beside the %llu MiB of --memory-reserve",
		(unsigned long long)(need[ROOM_MEMORY] >> 20),
		(unsigned long long)(a->memory_reserve_bytes >> 20));
}

int admission_take(struct admission *a, const struct vm_config *c,
	enum admission_for what_for, struct error *err)
{
	uint64_t need[ROOMS];
	enum room what;
	uint32_t held_back;

	need_of(c, what_for, need);
	what = look_for(a, need);
	if (what != ROOMS) {
		refuse(a, what, need, err);
		if (log_limit_ok(&a->limit, a->clock(), &held_back))
			log_warn("no_room", "missing=%s held_back=%u",
				(const char *const[]){
					"files", "threads", "memory"}[what],
				held_back);
		return -err->code;
	}
	take(a, need);
	return 0;
}

/* What a process that is made ahead takes, at most; its VM has one vCPU. */
static const uint64_t ahead[ROOMS] = {
	[ROOM_FDS] = FDS_START,
	[ROOM_TASKS] = 1 + TASKS_OTHER,
	[ROOM_MEMORY] = MEMORY_START,
};

bool admission_has_spare(struct admission *a)
{
	uint64_t plenty[ROOMS];

	for (unsigned i = 0; i < ROOMS; i++)
		plenty[i] = SPARE * ahead[i];
	return look_for(a, plenty) == ROOMS;
}

void admission_take_spare(struct admission *a)
{
	take(a, ahead);
}

bool admission_is_room(int code)
{
	static const int codes[] = {EMFILE, ENFILE, ENOMEM, EAGAIN, ENOSPC,
		EDQUOT, EUSERS, ENOBUFS, ETOOMANYREFS};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i] == code)
			return true;
	return false;
}

bool admission_is_shortage(const struct error *err)
{
	/* With a field, memory is what a VM was to have. */
	return err->code == EMFILE || err->code == ENFILE ||
	       err->code == ENOBUFS || (err->code == ENOMEM && !err->field[0]);
}

bool admission_is_shortage_of(int r)
{
	const struct error e = {.code = -r};

	return admission_is_shortage(&e);
}

int admission_failed(struct error *err)
{
	err->code = admission_is_room(err->code) ? EAGAIN : EIO;
	return -err->code;
}
