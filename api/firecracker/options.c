#include "api/firecracker/options.h"

#include "api/firecracker/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* What the daemon takes of a body, and of metadata. */
#define BODY_MAX 51200

/* One line here is one line there. */
/* clang-format off */
const char fc_help[] =
	"Usage: firecracker [OPTION]...\n"
	"Run a microVM of mayflyd as if it were Firecracker's: until its guest ends.\n"
	"\n"
	"  --api-sock PATH      where its API is (default /run/firecracker.socket)\n"
	"  --id ID              its name (default anonymous-instance, and more if that\n"
	"                       is taken)\n"
	"  --config-file FILE   configure it so, and start it\n"
	"  --no-api             without an API; with --config-file\n"
	"  --metadata FILE      JSON for its metadata service\n"
	"  --log-path PATH      a file or FIFO for its log; with --level LEVEL,\n"
	"                       --show-level, --show-log-origin and --module NAME\n"
	"  --metrics-path PATH  a file or FIFO for its metrics\n"
	"  --version            print the version of Firecracker's API that this speaks\n"
	"  --help               print this\n"
	"\n"
	"Accepted, and nothing comes of them: --start-time-us, --start-time-cpu-us,\n"
	"--parent-cpu-time-us; with a warning: --boot-timer, --no-seccomp. Refused:\n"
	"--seccomp-filter, --enable-pci, --snapshot-version, --describe-snapshot, and\n"
	"--http-api-max-payload-size and --mmds-size-limit beyond 51200.\n"
	"\n"
	"MAYFLY_SOCKET names mayflyd's socket (default /run/mayfly/mayfly.sock). SIGTERM,\n"
	"SIGINT and SIGHUP end the VM, as does the end of this program in any way.\n";
/* clang-format on */

enum {
	OPT_API_SOCK,
	OPT_ID,
	OPT_CONFIG_FILE,
	OPT_NO_API,
	OPT_METADATA,
	OPT_LOG_PATH,
	OPT_LEVEL,
	OPT_MODULE,
	OPT_SHOW_LEVEL,
	OPT_SHOW_LOG_ORIGIN,
	OPT_METRICS_PATH,
	OPT_BOOT_TIMER,
	OPT_NO_SECCOMP,
	OPT_SECCOMP_FILTER,
	OPT_TIME,
	OPT_MAX_PAYLOAD,
	OPT_MMDS_LIMIT,
	OPT_ENABLE_PCI,
	OPT_SNAPSHOT_VERSION,
	OPT_DESCRIBE_SNAPSHOT,
	OPT_VERSION,
	OPT_HELP,
};

static const struct arg table[] = {
	{"api-sock", OPT_API_SOCK, true},
	{"id", OPT_ID, true},
	{"config-file", OPT_CONFIG_FILE, true},
	{"no-api", OPT_NO_API},
	{"metadata", OPT_METADATA, true},
	{"log-path", OPT_LOG_PATH, true},
	{"level", OPT_LEVEL, true},
	{"module", OPT_MODULE, true},
	{"show-level", OPT_SHOW_LEVEL},
	{"show-log-origin", OPT_SHOW_LOG_ORIGIN},
	{"metrics-path", OPT_METRICS_PATH, true},
	{"boot-timer", OPT_BOOT_TIMER},
	{"no-seccomp", OPT_NO_SECCOMP},
	{"seccomp-filter", OPT_SECCOMP_FILTER, true},
	{"start-time-us", OPT_TIME, true},
	{"start-time-cpu-us", OPT_TIME, true},
	{"parent-cpu-time-us", OPT_TIME, true},
	{"http-api-max-payload-size", OPT_MAX_PAYLOAD, true},
	{"mmds-size-limit", OPT_MMDS_LIMIT, true},
	{"enable-pci", OPT_ENABLE_PCI},
	{"snapshot-version", OPT_SNAPSHOT_VERSION},
	{"describe-snapshot", OPT_DESCRIBE_SNAPSHOT, true},
	{"version", OPT_VERSION},
	{"help", OPT_HELP},
	{NULL},
};

static int take_limit(const char *name, const char *value, struct error *err)
{
	unsigned long long n;

	return args_number(name, value, BODY_MAX, &n, err);
}

static int refuse(struct error *err, const char *option, const char *why)
{
	return error_set(err, EINVAL, "--%s: %s", option, why);
}

/* What Firecracker has and this has not, or has otherwise. */
static int take_other(
	struct fc_options *o, int key, const char *value, struct error *err)
{
	unsigned long long n;

	switch (key) {
	case OPT_BOOT_TIMER:
		fputs("firecracker: --boot-timer: a guest tells that it is "
		      "ready by a write to port 0x6d66, not by this device\n",
			stderr);
		return 0;
	case OPT_NO_SECCOMP:
		fputs("firecracker: --no-seccomp: its process is jailed and "
		      "filtered in any case\n",
			stderr);
		return 0;
	case OPT_SECCOMP_FILTER:
		return refuse(err, "seccomp-filter",
			"there are no filters but Mayfly's own");
	case OPT_TIME:
		return args_number("a time", value, ~0ull, &n, err);
	case OPT_MAX_PAYLOAD:
		return take_limit("--http-api-max-payload-size", value, err);
	case OPT_MMDS_LIMIT:
		return take_limit("--mmds-size-limit", value, err);
	case OPT_ENABLE_PCI:
		return refuse(err, "enable-pci",
			"devices are virtio-mmio: there is no PCI");
	case OPT_SNAPSHOT_VERSION:
		return refuse(
			err, "snapshot-version", "there are no snapshots");
	case OPT_DESCRIBE_SNAPSHOT:
		return refuse(
			err, "describe-snapshot", "there are no snapshots");
	case OPT_VERSION:
		o->task = FC_VERSION;
		return 0;
	default:
		o->task = FC_HELP;
		return 0;
	}
}

static int take(void *to, int key, const char *value, struct error *err)
{
	struct fc_options *o = to;
	const char **const strings[] = {
		[OPT_API_SOCK] = &o->api_sock,
		[OPT_ID] = &o->id,
		[OPT_CONFIG_FILE] = &o->config_file,
		[OPT_METADATA] = &o->metadata,
		[OPT_LOG_PATH] = &o->log_path,
		[OPT_LEVEL] = &o->level,
		[OPT_MODULE] = &o->module,
		[OPT_METRICS_PATH] = &o->metrics_path,
	};

	switch (key) {
	case OPT_NO_API:
		o->no_api = true;
		return 0;
	case OPT_SHOW_LEVEL:
		o->show_level = true;
		return 0;
	case OPT_SHOW_LOG_ORIGIN:
		o->show_log_origin = true;
		return 0;
	default:
		break;
	}
	if (key > OPT_METRICS_PATH)
		return take_other(o, key, value, err);
	*strings[key] = value;
	return 0;
}

int fc_options_read(
	struct fc_options *o, int argc, char **argv, struct error *err)
{
	int rest;

	*o = (struct fc_options){
		.api_sock = "/run/firecracker.socket",
		.uid = geteuid(),
		.gid = getegid(),
	};
	if (args_read(table, argc, argv, take, o, &rest, err) < 0)
		return -err->code;
	if (rest < argc)
		return error_set(
			err, EINVAL, "\"%.64s\" is not an option", argv[rest]);
	if (o->no_api && !o->config_file)
		return error_set(err, EINVAL, "--no-api needs --config-file");
	return 0;
}
