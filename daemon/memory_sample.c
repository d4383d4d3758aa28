#include "daemon/memory_sample.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two dozen lines of 30 bytes. */
#define TEXT_BYTES 4096

/* "Name:     123 kB", at the beginning of a line; 0 where there is none: which
 * lines there are depends on the kernel. */
static bool find(const char *text, const char *name, uint64_t *ret_bytes)
{
	size_t n = strlen(name);

	*ret_bytes = 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) != 0 || line[n] != ':')
			continue;
		*ret_bytes = strtoull(line + n + 1, NULL, 10) << 10;
		return true;
	}
	return false;
}

int memory_sample_parse(const char *text, struct memory_sample *ret)
{
	uint64_t pss, anonymous, swap, ours, shared;

	if (!find(text, "Pss", &pss) || !find(text, "Anonymous", &anonymous))
		return -EPROTO;
	find(text, "Swap", &swap);
	find(text, "Private_Hugetlb", &ours);
	find(text, "Shared_Hugetlb", &shared);
	ret->pss_bytes = pss + ours + shared;
	ret->anonymous_bytes = anonymous + swap + ours + shared;
	return 0;
}

int memory_sample_read(int fd, struct memory_sample *ret)
{
	char text[TEXT_BYTES];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return memory_sample_parse(text, ret);
}
