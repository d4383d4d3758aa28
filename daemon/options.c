#include "daemon/options.h"

#include "daemon/pool.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One line here is one line there. */
/* clang-format off */
static const char help[] =
	"Usage: mayflyd [OPTION]...\n"
	"Run microVMs, driven by HTTP on a Unix socket.\n"
	"\n"
	"  --socket PATH        where to listen (default /run/mayfly/mayfly.sock);\n"
	"                       who may write to this file rules all VMs and,\n"
	"                       through them, the host's files. A socket that\n"
	"                       systemd hands over is taken in its place\n"
	"  --socket-group NAME  the group that may write to it (default: root's)\n"
	"  --metrics-listen ADDR:PORT\n"
	"                       a TCP port with GET /metrics and nothing else, for\n"
	"                       Prometheus (default: none); who may connect to it\n"
	"                       reads the VMs' ids and numbers\n"
	"  --state-dir DIR      the daemon's own files (default /run/mayfly), from which\n"
	"                       the next daemon knows of the VMs; one daemon at a time;\n"
	"                       best on a tmpfs\n"
	"  --vmm PATH           the mayfly-vmm to run (default: the one that came\n"
	"                       with this mayflyd)\n"
	"  --log-format FORMAT  text or json (default text), on standard error\n"
	"  --log-level LEVEL    error, warn, info or debug (default info)\n"
	"  --uid-base N         first of the user ids VMs run under (default\n"
	"                       1879048192); nobody else may use them\n"
	"  --uid-count N        how many (default 65536)\n"
	"  --max-vms N          the most VMs there may be (default: one a user id)\n"
	"  --memory-reserve MIB memory that stays available to others: with less, no\n"
	"                       VM is started (default: a sixteenth of the host's, at\n"
	"                       most 512)\n"
	"  --pool N             how many VMMs wait, jailed and with a machine, for the\n"
	"                       next start; 0: none (default: as many as were started\n"
	"                       in one second of the last ten, from 1 to 256)\n"
	"  --start-timeout S    seconds a VM has until its guest runs; then it is\n"
	"                       killed (default 20)\n"
	"  --request-timeout S  seconds a VM has to answer a request (default 5)\n"
	"  --idle-timeout S     seconds a connection may stand still while nothing is\n"
	"                       done for it; then it is closed (default 30)\n"
	"  --probe              print what this host can do, as GET /v1/host would,\n"
	"                       and end with status 0 if KVM can run Linux here, 3\n"
	"                       if only tiny guests, 4 if there is no usable KVM\n"
	"  --version            print the version\n"
	"  --help               print this\n"
	"\n"
	"SIGTERM ends the daemon, and leaves its VMs running for the next one with\n"
	"the same --state-dir; SIGINT and SIGHUP end it and all its VMs.\n";
/* clang-format on */

enum {
	OPT_SOCKET = 1000,
	OPT_SOCKET_GROUP,
	OPT_METRICS_LISTEN,
	OPT_STATE_DIR,
	OPT_VMM,
	OPT_LOG_FORMAT,
	OPT_LOG_LEVEL,
	OPT_UID_BASE,
	OPT_UID_COUNT,
	OPT_MAX_VMS,
	OPT_MEMORY_RESERVE,
	OPT_POOL,
	OPT_START_TIMEOUT,
	OPT_REQUEST_TIMEOUT,
	OPT_IDLE_TIMEOUT,
	OPT_PROBE,
	OPT_LIST_ROUTES,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"socket-group", required_argument, NULL, OPT_SOCKET_GROUP},
	{"metrics-listen", required_argument, NULL, OPT_METRICS_LISTEN},
	{"state-dir", required_argument, NULL, OPT_STATE_DIR},
	{"vmm", required_argument, NULL, OPT_VMM},
	{"log-format", required_argument, NULL, OPT_LOG_FORMAT},
	{"log-level", required_argument, NULL, OPT_LOG_LEVEL},
	{"uid-base", required_argument, NULL, OPT_UID_BASE},
	{"uid-count", required_argument, NULL, OPT_UID_COUNT},
	{"max-vms", required_argument, NULL, OPT_MAX_VMS},
	{"memory-reserve", required_argument, NULL, OPT_MEMORY_RESERVE},
	{"pool", required_argument, NULL, OPT_POOL},
	{"start-timeout", required_argument, NULL, OPT_START_TIMEOUT},
	{"request-timeout", required_argument, NULL, OPT_REQUEST_TIMEOUT},
	{"idle-timeout", required_argument, NULL, OPT_IDLE_TIMEOUT},
	{"probe", no_argument, NULL, OPT_PROBE},
	/* For the test that compares them with openapi/. */
	{"list-routes", no_argument, NULL, OPT_LIST_ROUTES},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL},
};

/* Those that are numbers: what their ranges are, and where they go. */
struct number {
	int opt;
	const char *name;
	unsigned min, max;
	size_t offset;
};

#define NUMBER(opt, name, min, max, member)                                    \
	{                                                                      \
		opt, name, min, max, offsetof(struct options, member)          \
	}

static const struct number numbers[] = {
	/* Ids of the system and of people are below. */
	NUMBER(OPT_UID_BASE, "--uid-base", 1000, INT_MAX, uid_base),
	NUMBER(OPT_UID_COUNT, "--uid-count", 1, 1u << 20, uid_count),
	NUMBER(OPT_MAX_VMS, "--max-vms", 1, 1u << 20, max_vms),
	NUMBER(OPT_MEMORY_RESERVE, "--memory-reserve", 0, 1u << 24,
		memory_reserve_mib),
	NUMBER(OPT_POOL, "--pool", 0, POOL_MAX, pool),
	NUMBER(OPT_START_TIMEOUT, "--start-timeout", 1, 3600, start_timeout_s),
	NUMBER(OPT_REQUEST_TIMEOUT, "--request-timeout", 1, 3600,
		request_timeout_s),
	NUMBER(OPT_IDLE_TIMEOUT, "--idle-timeout", 1, 3600, idle_timeout_s),
};

_Static_assert(sizeof(uid_t) == sizeof(unsigned), "an id is such a number");

static const struct number *find_number(int opt)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i].opt == opt)
			return &numbers[i];
	return NULL;
}

static int read_number(const struct number *of, const char *s,
	struct options *o, struct error *err)
{
	unsigned long long n;
	unsigned value;
	char *end;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (s[0] < '0' || s[0] > '9' || *end || errno || n < of->min ||
		n > of->max)
		return error_set(err, EINVAL,
			"%s must be a number from %u to %u, not \"%s\"",
			of->name, of->min, of->max, s);
	value = (unsigned)n;
	memcpy((char *)o + of->offset, &value, sizeof(value));
	return 0;
}

/* The index of s in names, which end with NULL. */
static int read_name(const char *option, const char *s,
	const char *const *names, unsigned *ret, struct error *err)
{
	for (unsigned i = 0; names[i]; i++)
		if (strcmp(names[i], s) == 0) {
			*ret = i;
			return 0;
		}
	return error_set(err, EINVAL, "%s knows no \"%s\"", option, s);
}

static int read_group(
	const char *option, const char *s, gid_t *ret, struct error *err)
{
	const struct group *g;

	errno = 0;
	g = getgrnam(s);
	if (!g && errno && errno != ENOENT)
		return error_errno(err, errno, "%s \"%s\"", option, s);
	if (!g)
		return error_set(err, EINVAL,
			"%s must be a group of this host, and \"%s\" is none",
			option, s);
	*ret = g->gr_gid;
	return 0;
}

static int read_option(
	struct options *o, int opt, const char *arg, struct error *err)
{
	static const char *const formats[] = {"text", "json", NULL};
	static const char *const levels[] = {
		"error", "warn", "info", "debug", NULL};
	const struct number *number = find_number(opt);
	unsigned n = 0;
	int r = 0;

	if (number)
		return read_number(number, arg, o, err);
	switch (opt) {
	case OPT_SOCKET:
		o->socket_path = arg;
		break;
	case OPT_SOCKET_GROUP:
		r = read_group("--socket-group", arg, &o->socket_group, err);
		break;
	case OPT_METRICS_LISTEN:
		o->metrics_listen = arg;
		break;
	case OPT_STATE_DIR:
		o->state_dir = arg;
		break;
	case OPT_VMM:
		snprintf(o->vmm_path, sizeof(o->vmm_path), "%s", arg);
		break;
	case OPT_LOG_FORMAT:
		r = read_name("--log-format", arg, formats, &n, err);
		o->log_format = (enum log_format)n;
		break;
	case OPT_LOG_LEVEL:
		r = read_name("--log-level", arg, levels, &n, err);
		o->log_level = (enum log_level)n;
		break;
	case OPT_PROBE:
		o->task = TASK_PROBE;
		break;
	case OPT_LIST_ROUTES:
		o->task = TASK_LIST_ROUTES;
		break;
	case OPT_VERSION:
		puts("mayflyd " MAYFLY_VERSION);
		o->task = TASK_DONE;
		break;
	case OPT_HELP:
		fputs(help, stdout);
		o->task = TASK_DONE;
		break;
	default:
		return error_set(err, EINVAL, "try --help");
	}
	return r;
}

/* Beside this executable, where they are installed together, or in the tree
 * they were built in. */
static void find_vmm(struct options *o)
{
	static const char *const places[] = {"mayfly-vmm",
		"../libexec/mayfly/mayfly-vmm", "../vmm/mayfly-vmm"};
	char dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	dir[n > 0 ? n : 0] = '\0';
	if (strrchr(dir, '/'))
		*strrchr(dir, '/') = '\0';
	for (unsigned i = 0; i < 3; i++) {
		n = snprintf(o->vmm_path, sizeof(o->vmm_path), "%s/%s", dir,
			places[i]);
		if ((size_t)n < sizeof(o->vmm_path) &&
			access(o->vmm_path, X_OK) == 0)
			return;
	}
}

int options_read(struct options *o, int argc, char **argv, struct error *err)
{
	int opt;

	*o = (struct options){
		.socket_path = "/run/mayfly/mayfly.sock",
		.socket_group = (gid_t)-1,
		.state_dir = "/run/mayfly",
		.log_level = LOG_INFO,
		.uid_base = 1879048192, /* 0x70000000 */
		.uid_count = 65536,
		.memory_reserve_mib = OPTIONS_DEFAULT_RESERVE,
		.pool = POOL_ADAPTIVE,
		.start_timeout_s = 20,
		.request_timeout_s = 5,
		.idle_timeout_s = 30,
	};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int r = read_option(o, opt, optarg, err);

		if (r < 0 || o->task == TASK_DONE)
			return r;
	}
	if (optind < argc)
		return error_set(err, EINVAL,
			"\"%s\" is not an option; try --help", argv[optind]);
	if (!o->vmm_path[0])
		find_vmm(o);
	if (o->max_vms == 0 || o->max_vms > o->uid_count)
		o->max_vms = o->uid_count;
	return 0;
}
