#pragma once

/*
 * What jailer is to set of a process: control groups and resource limits. It is
 * done to the VM's process once that runs.
 */

#include "base/error.h"

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#define FC_CGROUPS_MAX 32

struct fc_limits {
	struct fc_cgroup {
		char file[64]; /* "cpuset.cpus" */
		const char *value;
	} cgroups[FC_CGROUPS_MAX];
	unsigned n_cgroups;
	const char *parent; /* of groups that are made; NULL: "firecracker" */
	char *made[FC_CGROUPS_MAX]; /* groups, to be removed */
	unsigned n_made;

	struct {
		bool there;
		int resource;
		rlim_t limit;
	} rlimits[3]; /* fsize, no-file, memlock */
};

/* "FILE=VALUE", "RESOURCE=VALUE", the number of a NUMA node. */
int fc_limits_add_cgroup(
	struct fc_limits *l, const char *text, struct error *err);
int fc_limits_add_resource(
	struct fc_limits *l, const char *text, struct error *err);
int fc_limits_add_node(
	struct fc_limits *l, const char *node, struct error *err);

/* Whether this host's control groups are of version 2. */
bool fc_limits_v2(void);

/* For struct fc_options: arg is a struct fc_limits. */
int fc_limits_apply(void *arg, const char *id, pid_t pid, struct error *err);
void fc_limits_remove(void *arg);
