#include "bench_daemon.h"

#include "bench_client.h"

#include <err.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGS 24

/* On a tmpfs, as /run is. */
static char dir[] = "/dev/shm/mayfly-bench-XXXXXX";
static char socket_path[64], state[64];
static pid_t daemon_pid;

static int remove_one(
	const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

/* At any exit: the daemon ends its VMs. */
static void stop(void)
{
	int status;

	if (daemon_pid <= 0)
		return;
	kill(daemon_pid, SIGINT);
	while (waitpid(daemon_pid, &status, 0) < 0 && errno == EINTR)
		;
	daemon_pid = 0;
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void bench_daemon_start(const char *mayflyd, const char *const *options)
{
	const char *argv[MAX_ARGS] = {mayflyd, "--socket", socket_path,
		"--state-dir", state, "--log-level", "warn"};
	unsigned n = 7;

	while (options && *options && n < MAX_ARGS - 1)
		argv[n++] = *options++;
	if (!mkdtemp(dir))
		err(1, "%s", dir);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
	snprintf(state, sizeof(state), "%s/state", dir);
	daemon_pid = fork();
	if (daemon_pid < 0)
		err(1, "fork");
	if (daemon_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGINT, 0, 0, 0);
		execv(mayflyd, (char *const *)argv);
		_exit(127);
	}
	atexit(stop);
}

pid_t bench_daemon_pid(void)
{
	return daemon_pid;
}

void bench_daemon_wait(void)
{
	client_close(client_connect(socket_path));
}

const char *bench_daemon_socket(void)
{
	return socket_path;
}
