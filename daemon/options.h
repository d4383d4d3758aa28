#pragma once

/* The command line of mayflyd. */

#include "base/error.h"
#include "base/log.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum options_task { TASK_SERVE, TASK_PROBE, TASK_LIST_ROUTES, TASK_DONE };

#define OPTIONS_DEFAULT_RESERVE UINT_MAX

struct options {
	enum options_task task; /* TASK_DONE: --help or --version, printed */
	const char *socket_path;
	gid_t socket_group;         /* (gid_t)-1: root's */
	const char *metrics_listen; /* ADDR:PORT; NULL: nowhere */
	const char *state_dir;
	char vmm_path[PATH_MAX];
	enum log_format log_format;
	enum log_level log_level;
	uid_t uid_base;
	unsigned uid_count;
	unsigned max_vms;            /* at most uid_count */
	unsigned memory_reserve_mib; /* OPTIONS_DEFAULT_RESERVE: by the host */
	unsigned pool;               /* VMMs made ahead, or POOL_ADAPTIVE */
	unsigned start_timeout_s, request_timeout_s, idle_timeout_s;
};

int options_read(struct options *o, int argc, char **argv, struct error *err);
