#include "api/firecracker/run.h"

#include "api/cli/client.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/signalfd.h>
#include <termios.h>

/* What the API takes of a console's input at a time. */
#define PIECE 4096
/* A daemon that is not there is looked for so often. */
#define AWAY_MS 100

struct fc {
	const struct fc_options *o;
	struct client *client;
	char id[65];
	int signal_fd, signal;    /* which one came; 0: none */
	bool raw, no_input, deaf; /* deaf: nobody reads our output */
	bool looked;              /* while waiting for the start */
	bool told;                /* o->started() has been called */
	struct termios before;
	unsigned long long printed; /* bytes of the console, in all */
	unsigned long long skip;    /* ... that come again */
};

/* ---- the console ---- */

static enum client_step on_signal(void *arg)
{
	struct fc *fc = arg;
	struct signalfd_siginfo info;

	if (read(fc->signal_fd, &info, sizeof(info)) == sizeof(info))
		fc->signal = (int)info.ssi_signo;
	return fc->signal ? CLIENT_LEAVE : CLIENT_GO_ON;
}

static enum client_step on_output(void *arg, const void *data, size_t len)
{
	struct fc *fc = arg;
	const char *p = data;

	if (fc->skip > 0) {
		size_t n = len < fc->skip ? len : (size_t)fc->skip;

		fc->skip -= n;
		p += n;
		len -= n;
	}
	fc->printed += len;
	while (len > 0 && !fc->deaf) {
		ssize_t n = write(STDOUT_FILENO, p, len);

		if (n < 0 && errno != EINTR)
			fc->deaf = true;
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return CLIENT_GO_ON;
}

static enum client_step on_input(void *arg)
{
	struct fc *fc = arg;
	char buf[PIECE];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n <= 0 && !(n < 0 && errno == EINTR)) {
		fc->no_input = true;
		return CLIENT_NO_INPUT;
	}
	if (n > 0)
		client_type(fc->client, fc->id, buf, (size_t)n);
	return CLIENT_GO_ON;
}

static void go_raw(struct fc *fc)
{
	struct termios raw;

	if (fc->raw || tcgetattr(STDIN_FILENO, &fc->before) < 0)
		return;
	raw = fc->before;
	cfmakeraw(&raw);
	fc->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void go_back(struct fc *fc)
{
	if (fc->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &fc->before);
	fc->raw = false;
}

/* To its end. Of a VM that has exited: what has not been printed yet. */
static int follow_console(
	struct fc *fc, const struct fc_look *look, struct error *err)
{
	bool input = !fc->no_input && look->state == FC_RUNNING;
	const struct client_stream s = {
		.output = on_output,
		.input_fd = input ? STDIN_FILENO : -1,
		.input = on_input,
		.control = on_signal,
		.control_fd = fc->signal_fd,
		.arg = fc,
	};

	if (input)
		go_raw(fc);
	/* The stream begins with the oldest byte there is. */
	if (fc->printed < look->dropped)
		fc->printed = look->dropped;
	fc->skip = fc->printed - look->dropped;
	return client_follow(
		fc->client, fc->id, "/console?follow=true", &s, err);
}

/* ---- its life ---- */

static enum client_step on_event(void *arg, const void *data, size_t len)
{
	(void)arg;
	return memmem(data, len, "event: started", 14) ||
			       memmem(data, len, "event: deleted", 14) ||
			       memmem(data, len, "event: exited", 13)
		       ? CLIENT_LEAVE
		       : CLIENT_GO_ON;
}

/* It may have been started before we listened: looks once, while we do. */
static enum client_step on_idle(void *arg)
{
	struct fc *fc = arg;
	struct fc_look look;
	struct error err;

	if (fc->looked)
		return CLIENT_GO_ON;
	fc->looked = true;
	return fc_vm_look(fc->client, fc->id, &look, &err) == 0 &&
			       look.state == FC_NOT_STARTED
		       ? CLIENT_GO_ON
		       : CLIENT_LEAVE;
}

static int await_start(struct fc *fc, struct error *err)
{
	const struct client_stream s = {
		.output = on_event,
		.input_fd = -1,
		.control = on_signal,
		.control_fd = fc->signal_fd,
		.idle = on_idle,
		.arg = fc,
	};

	fc->looked = false;
	return client_follow_events(fc->client, fc->id, NULL, false, &s, err);
}

static bool is_away(const struct error *err)
{
	return err->code == ECONNREFUSED || err->code == EIO;
}

static void pause_a_little(struct fc *fc)
{
	struct pollfd p = {fc->signal_fd, POLLIN, 0};

	if (poll(&p, 1, AWAY_MS) > 0)
		on_signal(fc);
}

/* What is to be done to a VM that runs, once. */
static int tell_started(
	struct fc *fc, const struct fc_look *look, struct error *err)
{
	if (fc->told || !fc->o->started || !look->pid)
		return 0;
	fc->told = true;
	return fc->o->started(fc->o->arg, fc->id, look->pid, err);
}

/* One look, and what it asks for: 0, or why it cannot go on. */
static int step(struct fc *fc, struct fc_look *look, struct error *err)
{
	int r = fc_vm_look(fc->client, fc->id, look, err);

	if (r == 0 && look->state == FC_NOT_STARTED)
		r = await_start(fc, err);
	else if (r == 0 && look->state != FC_GONE) {
		if (tell_started(fc, look, err) < 0)
			return -err->code;
		r = follow_console(fc, look, err);
	}
	if (r < 0 && !is_away(err) && err->code != ENOENT)
		return r;
	/* The daemon is being started anew, say: the VM goes on. */
	if (r < 0)
		pause_a_little(fc);
	return 0;
}

static int follow_life(struct fc *fc)
{
	struct fc_look look = {.state = FC_NOT_STARTED};
	struct error err;

	while (!fc->signal && look.state < FC_EXITED)
		if (step(fc, &look, &err) < 0) {
			go_back(fc);
			fprintf(stderr, "firecracker: %s\n", err.msg);
			return FC_EXIT_FAILED;
		}
	go_back(fc);
	if (fc->signal)
		return fc->signal == SIGHUP ? FC_EXIT_SIGHUP : FC_EXIT_FAILED;
	if (look.state == FC_GONE)
		fputs("firecracker: somebody else has deleted the VM\n",
			stderr);
	else if (look.why[0])
		fprintf(stderr, "firecracker: the VM has ended: %s\n",
			look.why);
	return look.status;
}

/* As a process that does not catch it. */
static void die_of(int signal_number)
{
	sigset_t set;

	if (signal_number != SIGTERM && signal_number != SIGINT)
		return;
	signal(signal_number, SIG_DFL);
	raise(signal_number);
	sigemptyset(&set);
	sigaddset(&set, signal_number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* What is closed of our input and outputs must not become something else's. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	close_fd(&fd);
}

static int open_signals(struct fc *fc, struct error *err)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fc->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fc->signal_fd < 0 ? error_errno(err, errno, "signalfd") : 0;
}

/* Firecracker counts a level that is none as a bad configuration. */
static int check_level(const char *level, struct error *err)
{
	static const char *const levels[] = {
		"Off", "Error", "Warning", "Info", "Debug", "Trace"};

	for (size_t i = 0; level && i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcasecmp(level, levels[i]) == 0)
			return 0;
	return level ? error_set(err, EINVAL,
			       "--level: there is no level \"%.32s\"", level)
		     : 0;
}

/* With the VM made, and started if there is a configuration: 0 or a status. */
static int begin(struct fc *fc, struct error *err)
{
	const char *path = getenv("MAYFLY_SOCKET");
	struct json_object *doc = NULL;
	int r;

	if (check_level(fc->o->level, err) < 0)
		return FC_EXIT_BAD_CONFIG;
	if (client_create(&fc->client,
		    path && path[0] ? path : CLIENT_DEFAULT_SOCKET, err) < 0 ||
		open_signals(fc, err) < 0)
		return FC_EXIT_FAILED;
	r = fc_document(fc->o, &doc, err);
	if (r == 0)
		r = fc_vm_create(fc->client, fc->o, doc, fc->id, err);
	json_object_put(doc);
	if (r == 0 && fc->o->config_file)
		r = fc_vm_start(fc->client, fc->id, err);
	if (r == 0)
		return 0;
	return fc->o->config_file && !is_away(err) ? FC_EXIT_BAD_CONFIG
						   : FC_EXIT_FAILED;
}

int fc_run(const struct fc_options *o)
{
	struct fc fc = {.o = o, .signal_fd = -1};
	struct fc_options named = *o;
	char netns[NAME_MAX + 1];
	struct error err;
	int status;

	fill_standard_fds();
	if (!o->netns) {
		fc_find_netns(netns, sizeof(netns));
		named.netns = netns[0] ? netns : NULL;
		fc.o = &named;
	}
	status = begin(&fc, &err);
	if (status == 0)
		status = follow_life(&fc);
	else
		fprintf(stderr, "firecracker: %s\n", err.msg);
	/* Whatever it was: without us there is no VM. */
	if (fc.id[0])
		(void)client_vm(
			fc.client, "DELETE", fc.id, "", NULL, NULL, &err);
	if (o->ended)
		o->ended(o->arg);
	client_destroy(fc.client);
	close_fd(&fc.signal_fd);
	die_of(fc.signal);
	return status;
}
