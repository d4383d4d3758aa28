#pragma once

/* What `jailer` is told on its command line. */

#include "api/firecracker/options.h"
#include "api/firecracker/vm_limits.h"

struct jailer_options {
	enum fc_task task;
	const char *id, *exec_file, *base, *netns;
	const char *exec_name; /* the last part of exec_file */
	uid_t uid;
	gid_t gid;
	bool has_uid, has_gid, daemonize, new_pid_ns;
	unsigned cgroup_version; /* 0: not said */
	struct fc_limits limits;
	struct fc_options firecracker; /* what is behind "--" */
};

int jailer_options_read(
	struct jailer_options *o, int argc, char **argv, struct error *err);

extern const char jailer_help[];
