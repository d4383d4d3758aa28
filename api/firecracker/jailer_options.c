#include "api/firecracker/jailer_options.h"

#include "api/firecracker/args.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One line here is one line there. */
/* clang-format off */
const char jailer_help[] =
	"Usage: jailer --id ID --exec-file FILE --uid UID --gid GID [OPTION]...\n"
	"              [-- FIRECRACKER-OPTION...]\n"
	"Run a microVM of mayflyd as Firecracker's jailer would run Firecracker.\n"
	"\n"
	"  --id ID                  its name\n"
	"  --exec-file FILE         its name is part of the jail's path; it is not run\n"
	"  --uid UID, --gid GID     who its API socket and the jail's directory belong\n"
	"                           to; its process has an id of its own\n"
	"  --chroot-base-dir DIR    paths are those below DIR/NAME-OF-FILE/ID/root\n"
	"                           (default /srv/jailer)\n"
	"  --netns PATH             where its taps are: one under /run/netns\n"
	"  --cgroup FILE=VALUE      set in the control group of its process, once it runs\n"
	"  --cgroup-version N       1 or 2: an error on a host that has the other\n"
	"  --parent-cgroup NAME     of groups in version 1; an error in version 2\n"
	"  --resource-limit R=N     fsize, no-file or memlock, of its process\n"
	"  --node N                 cpuset.cpus and cpuset.mems of this NUMA node\n"
	"  --daemonize              in a session of its own, without output\n"
	"  --new-pid-ns             go on in a new process (the VM's has a namespace of\n"
	"                           its own in any case)\n"
	"  --version                print the version of Firecracker that this speaks for\n"
	"  --help                   print this\n";
/* clang-format on */

enum {
	OPT_ID,
	OPT_EXEC_FILE,
	OPT_UID,
	OPT_GID,
	OPT_BASE,
	OPT_NETNS,
	OPT_CGROUP,
	OPT_CGROUP_VERSION,
	OPT_PARENT_CGROUP,
	OPT_RESOURCE_LIMIT,
	OPT_NODE,
	OPT_DAEMONIZE,
	OPT_NEW_PID_NS,
	OPT_VERSION,
	OPT_HELP,
};

static const struct arg table[] = {
	{"id", OPT_ID, true},
	{"exec-file", OPT_EXEC_FILE, true},
	{"uid", OPT_UID, true},
	{"gid", OPT_GID, true},
	{"chroot-base-dir", OPT_BASE, true},
	{"netns", OPT_NETNS, true},
	{"cgroup", OPT_CGROUP, true, true},
	{"cgroup-version", OPT_CGROUP_VERSION, true},
	{"parent-cgroup", OPT_PARENT_CGROUP, true},
	{"resource-limit", OPT_RESOURCE_LIMIT, true, true},
	{"node", OPT_NODE, true},
	{"daemonize", OPT_DAEMONIZE},
	{"new-pid-ns", OPT_NEW_PID_NS},
	{"version", OPT_VERSION},
	{"help", OPT_HELP},
	{NULL},
};

static int take_id(const char *name, const char *value, uid_t *ret, bool *has,
	struct error *err)
{
	unsigned long long n;

	if (args_number(name, value, UINT_MAX - 1u, &n, err) < 0)
		return -err->code;
	*ret = (uid_t)n;
	*has = true;
	return 0;
}

/* As the API names it. */
static int take_netns(
	struct jailer_options *o, const char *path, struct error *err)
{
	static const char *const dirs[] = {"/var/run/netns/", "/run/netns/"};

	for (unsigned i = 0; i < 2; i++) {
		size_t len = strlen(dirs[i]);

		if (strncmp(path, dirs[i], len) != 0 || !path[len] ||
			strchr(path + len, '/'))
			continue;
		o->netns = path + len;
		return 0;
	}
	return error_set(err, EINVAL,
		"--netns: only namespaces that have a name under /run/netns "
		"(see ip-netns(8)) can be had");
}

static int take_parent(
	struct jailer_options *o, const char *path, struct error *err)
{
	if (path[0] == '/' || strstr(path, "..") || strchr(path, '/'))
		return error_set(err, EINVAL,
			"--parent-cgroup: must be one name, without a slash");
	if (fc_limits_v2())
		return error_set(err, EINVAL,
			"--parent-cgroup: in version 2 a VM stays in the "
			"control group that mayflyd made for it");
	o->limits.parent = path;
	return 0;
}

static int take_version(
	struct jailer_options *o, const char *value, struct error *err)
{
	if (strcmp(value, "1") != 0 && strcmp(value, "2") != 0)
		return error_set(
			err, EINVAL, "--cgroup-version: must be 1 or 2");
	o->cgroup_version = (unsigned)(value[0] - '0');
	return 0;
}

static int take(void *to, int key, const char *value, struct error *err)
{
	struct jailer_options *o = to;

	switch (key) {
	case OPT_ID:
		o->id = value;
		return 0;
	case OPT_EXEC_FILE:
		o->exec_file = value;
		return 0;
	case OPT_UID:
		return take_id("--uid", value, &o->uid, &o->has_uid, err);
	case OPT_GID:
		return take_id("--gid", value, &o->gid, &o->has_gid, err);
	case OPT_BASE:
		o->base = value;
		return 0;
	case OPT_NETNS:
		return take_netns(o, value, err);
	case OPT_CGROUP:
		return fc_limits_add_cgroup(&o->limits, value, err);
	case OPT_CGROUP_VERSION:
		return take_version(o, value, err);
	case OPT_PARENT_CGROUP:
		return take_parent(o, value, err);
	case OPT_RESOURCE_LIMIT:
		return fc_limits_add_resource(&o->limits, value, err);
	case OPT_NODE:
		return fc_limits_add_node(&o->limits, value, err);
	case OPT_DAEMONIZE:
		o->daemonize = true;
		return 0;
	case OPT_NEW_PID_NS:
		o->new_pid_ns = true;
		return 0;
	default:
		o->task = key == OPT_VERSION ? FC_VERSION : FC_HELP;
		return 0;
	}
}

static int check_id(const char *id, struct error *err)
{
	size_t len = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"abcdefghijklmnopqrstuvwxyz0123456789-");

	if (len == 0 || id[len] || len > 64)
		return error_set(err, EINVAL,
			"--id: must be 1 to 64 characters of A-Z a-z 0-9 -");
	return 0;
}

static int check_exec_file(struct jailer_options *o, struct error *err)
{
	const char *slash = strrchr(o->exec_file, '/');
	struct stat st;

	o->exec_name = slash ? slash + 1 : o->exec_file;
	if (stat(o->exec_file, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(err, EINVAL,
			"--exec-file: \"%.128s\" is not a file", o->exec_file);
	if (!strstr(o->exec_name, "firecracker"))
		return error_set(err, EINVAL,
			"--exec-file: its name has to hold \"firecracker\"");
	return 0;
}

static int check(struct jailer_options *o, struct error *err)
{
	unsigned has = fc_limits_v2() ? 2 : 1;

	if (!o->id || !o->exec_file || !o->has_uid || !o->has_gid)
		return error_set(err, EINVAL,
			"--id, --exec-file, --uid and --gid are needed");
	if (check_id(o->id, err) < 0 || check_exec_file(o, err) < 0)
		return -err->code;
	if (o->cgroup_version && o->cgroup_version != has)
		return error_set(err, EINVAL,
			"--cgroup-version: this host's control groups are of "
			"version %u",
			has);
	if (o->base[0] != '/')
		return error_set(err, EINVAL,
			"--chroot-base-dir: must be an absolute path");
	return 0;
}

int jailer_options_read(
	struct jailer_options *o, int argc, char **argv, struct error *err)
{
	int rest;

	*o = (struct jailer_options){.base = "/srv/jailer"};
	if (args_read(table, argc, argv, take, o, &rest, err) < 0)
		return -err->code;
	if (o->task != FC_RUN)
		return 0;
	if (check(o, err) < 0)
		return -err->code;
	/* The word before them stands for the program's name. */
	if (fc_options_read(
		    &o->firecracker, argc - rest + 1, argv + rest - 1, err) < 0)
		return -err->code;
	if (o->firecracker.id)
		return error_set(
			err, EINVAL, "--id belongs before \"--\", and once");
	return 0;
}
