/*
 * mayfly-vmm: one microVM, in its jail. What it may do and how it got here:
 * jailer/jail.h. It is handed descriptors and opens no path.
 */

#include "base/clock.h"
#include "vmm/control.h"

#include <string.h>
#include <unistd.h>

/* Where the jail put the control socket; jailer/jail.h says the same. */
#define CONTROL_FD 3

static struct vm vm;

/* argv[1] is room for the VM's id, for whoever lists processes. */
int main(int argc, char **argv)
{
	uint64_t ready_ns = clock_ns();

	if (vm_init(&vm, ready_ns) < 0)
		return 1;
	if (argc > 1) {
		vm.title = argv[1];
		vm.title_bytes = strlen(argv[1]);
	}
	/* No destructors, no buffers: threads may still be in the kernel. */
	_exit(control_run(&vm, CONTROL_FD));
}
