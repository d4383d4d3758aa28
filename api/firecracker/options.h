#pragma once

/* What `firecracker` is told on its command line, and what `jailer` adds. */

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct json_object;

#define FC_DEFAULT_ID "anonymous-instance"

/* Firecracker's statuses. */
#define FC_EXIT_OK 0
#define FC_EXIT_FAILED 1
#define FC_EXIT_BAD_SYSCALL 148
#define FC_EXIT_BAD_CONFIG 152
#define FC_EXIT_BAD_ARGUMENTS 153
#define FC_EXIT_SIGHUP 156

enum fc_task { FC_RUN, FC_VERSION, FC_HELP };

/* Strings are borrowed from the command line. */
struct fc_options {
	enum fc_task task;
	const char *id; /* NULL: the default */
	const char *api_sock;
	const char *config_file, *metadata; /* NULL: none */
	const char *log_path, *level, *module, *metrics_path;
	bool no_api, show_level, show_log_origin;

	/* From jailer. */
	const char *path_root; /* NULL: not jailed */
	const char *netns;     /* NULL: this process's */
	uid_t uid;
	gid_t gid;
	/* After each start of the VM, with its process; NULL: nothing to do. */
	int (*started)(void *arg, const char *id, pid_t pid, struct error *err);
	void (*ended)(
		void *arg); /* it has no process any more; NULL: as above */
	void *arg;
};

/* Says on standard error what it takes but cannot do. */
int fc_options_read(
	struct fc_options *o, int argc, char **argv, struct error *err);

extern const char fc_help[];

/* config.c: the VM's document, as these options and the files they name make
 * it. */
int fc_document(const struct fc_options *o, struct json_object **ret,
	struct error *err);
/* The whole of a file, as the VM would find it; NULL: err. */
char *fc_read_file(
	const struct fc_options *o, const char *path, struct error *err);
