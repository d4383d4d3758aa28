#pragma once

#include <string.h>

/*
 * How much of a kernel's command line the kernel itself reads, in bytes: what
 * follows a word "--", and that word, are init's.
 */
static inline size_t kernel_args_len(const char *cmdline)
{
	const char *p = cmdline;

	while ((p = strstr(p, "--")) != NULL) {
		if ((p == cmdline || p[-1] == ' ') &&
			(p[2] == ' ' || p[2] == '\0'))
			return (size_t)(p - cmdline);
		p += 2;
	}
	return strlen(cmdline);
}
