#include "bench_daemon.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/mayfly-bench-XXXXXX";
static char socket_path[64];
static pid_t daemon_pid;

static void remove_dir(void)
{
	char state[64];

	unlink(socket_path);
	snprintf(state, sizeof(state), "%s/state/lock", dir);
	unlink(state);
	snprintf(state, sizeof(state), "%s/state", dir);
	rmdir(state);
	rmdir(dir);
}

/* At any exit: the daemon ends its VMs. */
static void stop(void)
{
	int status;

	if (daemon_pid <= 0)
		return;
	kill(daemon_pid, SIGTERM);
	while (waitpid(daemon_pid, &status, 0) < 0 && errno == EINTR)
		;
	daemon_pid = 0;
	remove_dir();
}

void bench_daemon_start(const char *mayflyd, const char *vmm)
{
	char state[64];

	if (!mkdtemp(dir))
		err(1, "%s", dir);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
	snprintf(state, sizeof(state), "%s/state", dir);
	daemon_pid = fork();
	if (daemon_pid < 0)
		err(1, "fork");
	if (daemon_pid == 0) {
		execl(mayflyd, mayflyd, "--socket", socket_path, "--state-dir",
			state, "--log-level", "warn", vmm ? "--vmm" : NULL, vmm,
			NULL);
		_exit(127);
	}
	atexit(stop);
}

const char *bench_daemon_socket(void)
{
	return socket_path;
}
