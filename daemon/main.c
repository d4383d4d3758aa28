#include "base/log.h"
#include "daemon/daemon.h"
#include "jailer/cgroup.h"

#include <stdio.h>
#include <sys/stat.h>

/* mayflyd --probe: 0, 3 or 4. */
static int probe(void)
{
	static const int statuses[] = {
		[KVM_VERDICT_CAN] = 0,
		[KVM_VERDICT_SOFTWARE] = 3,
		[KVM_VERDICT_UNUSABLE] = 4,
	};
	struct cgroup_tree cgroups;
	struct error why;
	struct host h;

	cgroup_tree_open(
		&cgroups, "/proc/self/mountinfo", "mayfly-probe", &why);
	host_probe(&h);
	api_print_host(stdout, host_show(&h, cgroups.version));
	cgroup_tree_close(&cgroups);
	fprintf(stderr, "mayflyd: %s\n", h.probe.reason);
	host_close(&h);
	return statuses[h.probe.verdict];
}

static int serve(const struct options *o)
{
	struct daemon d;
	struct error err;
	int r = daemon_open(&d, o, &err);

	if (r == 0) {
		log_info("listening", "socket=%s version=%s", d.listener.path,
			MAYFLY_VERSION);
		daemon_run(&d);
		log_info("stopped", "socket=%s", d.listener.path);
	} else {
		fprintf(stderr, "mayflyd: %s\n", err.msg);
	}
	daemon_close(&d);
	return r == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct options o;
	struct error err;

	if (options_read(&o, argc, argv, &err) < 0) {
		fprintf(stderr, "mayflyd: %s\n", err.msg);
		return 2;
	}
	umask(077);
	log_init(o.log_format, o.log_level, 2);
	switch (o.task) {
	case TASK_SERVE:
		return serve(&o);
	case TASK_PROBE:
		return probe();
	case TASK_LIST_ROUTES:
		api_print_routes(stdout);
		return 0;
	case TASK_DONE:
		break;
	}
	return 0;
}
