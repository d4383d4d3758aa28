/*
 * firecracker: takes Firecracker's command line, and is a VM of mayflyd to
 * whoever started it.
 */

#include "api/firecracker.h"
#include "api/firecracker/run.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	struct fc_options o;
	struct error err;

	if (fc_options_read(&o, argc, argv, &err) < 0) {
		fprintf(stderr, "firecracker: %s\n", err.msg);
		return FC_EXIT_BAD_ARGUMENTS;
	}
	switch (o.task) {
	case FC_VERSION:
		puts("Firecracker v" FIRECRACKER_VERSION "\n\n"
		     "Its API, by Mayfly " MAYFLY_VERSION ".");
		return 0;
	case FC_HELP:
		fputs(fc_help, stdout);
		return 0;
	case FC_RUN:
		break;
	}
	return fc_run(&o);
}
