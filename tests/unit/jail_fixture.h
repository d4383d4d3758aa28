#pragma once

/* What the tests of the jail share: one jail, and up to two probes in it. */

#include "jail_probe.h"

#include "base/error.h"
#include "jailer/jail.h"

#include <check.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

/* Of this process alone: several tests may run at once. */
#define UID_COUNT 3u
#define UID_FIRST (910000u + UID_COUNT * (uid_t)getpid())
#define MEM (64ull << 20)
#define THREADS 4

#define N(a) (sizeof(a) / sizeof((a)[0]))

extern struct jail *jail;
extern struct jail_process a, b;
extern struct error err;
extern char cgroup_name[32];

struct jail_config config(const char *exe); /* NULL: the probe */

/* Fixtures: the jail; with a in it; with a and b in it. */
void make_jail(void);
void destroy_jail(void);
void make_one(void);
void destroy_one(void);
void make_two(void);
void destroy_two(void);

void spawn(struct jail_process *p, const char *name);
void wait_readable(int fd); /* fails after 10 s */

/* Asks a probe (jail_probe.h), sending fd along if it is not -1. Returns the
 * answer's length, 0 when the probe is gone. PROBE_FILTER is only sent. */
ssize_t ask(const struct jail_process *p, char what, int fd, void *ret,
	size_t size);
struct probe_report look(const struct jail_process *p);
void wait_for_main(const struct jail_process *p);

void read_proc(pid_t pid, const char *file, char *buf, size_t size);
/* The line of /proc/PID/status that begins with key, without it. */
const char *status_line(pid_t pid, const char *key);

TCase *jail_tcase(Suite *s, const char *name, SFun setup, SFun teardown);

/* Runs it in a process that ignores and blocks signals, has a group, an
 * inheritable capability and a personality: a jail must have none of that.
 * Returns main()'s status; 77 without root. */
int jail_run_suite(Suite *s);
