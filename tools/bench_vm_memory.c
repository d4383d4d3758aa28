#include "bench_vm_memory.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct vm_memory *m, const char *line, uint64_t bytes)
{
	if (strncmp(line, "Pss:", 4) == 0)
		m->pss += bytes;
	else if (strncmp(line, "Anonymous:", 10) == 0)
		m->anonymous += bytes;
	else if (strncmp(line, "Private_Clean:", 14) == 0 ||
		 strncmp(line, "Private_Dirty:", 14) == 0)
		m->private_bytes += bytes;
}

void vm_memory_measure(pid_t pid, uint64_t guest_bytes, struct vm_memory *ret)
{
	char path[64], line[512], *value;
	uint64_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	*ret = (struct vm_memory){0};
	while (fgets(line, sizeof(line), f)) {
		uint64_t bytes;

		value = strchr(line, ':');
		if (!value)
			continue;
		bytes = strtoull(value + 1, NULL, 10) * 1024;
		if (strncmp(line, "Size:", 5) == 0)
			size = bytes;
		else if (size < guest_bytes)
			add(ret, line, bytes);
	}
	fclose(f);
}
