#include "bench_proc.h"

#include <err.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t proc_cpu_ns(pid_t pid)
{
	struct timespec ts = {0};
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) == 0)
		clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What stands behind a word in a file's line, or in its first line behind so
 * many blanks; 0: it is not there. */
static uint64_t number_in(const char *path, const char *word, unsigned blanks)
{
	FILE *f = fopen(path, "re");
	const char *at = NULL;
	char line[1024];

	while (f && !at && fgets(line, sizeof(line), f)) {
		at = strstr(line, word);
		at = at ? at + strlen(word) : NULL;
	}
	while (at && blanks-- > 0) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (f)
		fclose(f);
	return at ? strtoull(at, NULL, 10) : 0;
}

/* cutime and cstime. */
uint64_t proc_children_cpu_ns(pid_t pid)
{
	uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	return (number_in(path, ")", 14) + number_in(path, ")", 15)) * tick_ns;
}

uint64_t proc_available_bytes(void)
{
	return number_in("/proc/meminfo", "MemAvailable:", 0) * 1024;
}

void proc_go_first(void)
{
	const struct sched_param p = {.sched_priority = 10};

	if (sched_setscheduler(0, SCHED_FIFO, &p) < 0)
		err(1, "sched_setscheduler");
}
