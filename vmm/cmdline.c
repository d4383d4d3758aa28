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
	size_t before = strnlen(cmdline, VM_CMDLINE_MAX), len = before;

	for (unsigned i = 0; i < p->n_virtio && len < VM_CMDLINE_MAX; i++) {
		int n = snprintf(cmdline + len, VM_CMDLINE_MAX - len,
			"%svirtio_mmio.device=%lluK@0x%" PRIx64 ":%" PRIu32,
			len > 0 ? " " : "", LAYOUT_VIRTIO_STRIDE / 1024,
			p->virtio[i].gpa, p->virtio[i].irq);

		len += (size_t)n;
	}
	if (len < VM_CMDLINE_MAX)
		return 0;
	if (before < VM_CMDLINE_MAX)
		cmdline[before] = '\0';
	return error_field(err, EINVAL, "boot-source.boot_args",
		"the command line is too long: with the words for %u devices "
		"it does not fit %u bytes",
		p->n_virtio, VM_CMDLINE_MAX - 1);
}
