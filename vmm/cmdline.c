#include "vmm/kernel_args.h"
#include "vmm/layout.h"
#include "vmm/limits.h"
#include "vmm/platform_tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int cmdline_add_virtio(
	char *cmdline, const struct platform *p, struct error *err)
{
	size_t at = kernel_args_len(cmdline), rest = strlen(cmdline + at);
	size_t n = at;
	char line[VM_CMDLINE_MAX];

	memcpy(line, cmdline, at);
	for (unsigned i = 0; i < p->n_virtio && n < sizeof(line); i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n,
			"%svirtio_mmio.device=%lluK@0x%" PRIx64 ":%" PRIu32
			"%s",
			n > 0 && line[n - 1] != ' ' ? " " : "",
			LAYOUT_VIRTIO_STRIDE / 1024, p->virtio[i].gpa,
			p->virtio[i].irq, rest > 0 ? " " : "");
	if (n + rest >= sizeof(line))
		return error_field(err, EINVAL, "boot-source.boot_args",
			"the command line is too long: with the words for %u "
			"devices it does not fit %u bytes",
			p->n_virtio, VM_CMDLINE_MAX - 1);
	memcpy(line + n, cmdline + at, rest + 1);
	memcpy(cmdline, line, n + rest + 1);
	return 0;
}
