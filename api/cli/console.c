#include "api/cli/cli.h"

#include "base/cleanup.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define LEAVE 0x1d /* Ctrl-] */
#define PIECE 4096 /* what the API takes at a time */

struct attached {
	struct cli *cli;
	const char *id;
	bool tty;
	struct termios before;
};

static bool write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return false;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static enum client_step to_terminal(void *arg, const void *data, size_t len)
{
	(void)arg;
	return write_all(STDOUT_FILENO, data, len) ? CLIENT_GO_ON
						   : CLIENT_LEAVE;
}

/* Only a person leaves: when a script's input ends, its output goes on. */
static enum client_step from_terminal(void *arg)
{
	struct attached *a = arg;
	char buf[PIECE], *end;
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n <= 0)
		return n < 0 && errno == EINTR ? CLIENT_GO_ON : CLIENT_NO_INPUT;
	end = a->tty ? memchr(buf, LEAVE, (size_t)n) : NULL;
	if (end)
		n = end - buf;
	if (n > 0)
		client_type(a->cli->client, a->id, buf, (size_t)n);
	return end ? CLIENT_LEAVE : CLIENT_GO_ON;
}

static void go_raw(struct attached *a)
{
	struct termios raw;

	a->tty = tcgetattr(STDIN_FILENO, &a->before) == 0;
	if (!a->tty)
		return;
	raw = a->before;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

int console_attach(struct cli *cli, const char *id, struct error *err)
{
	struct attached a = {.cli = cli, .id = id};
	const struct client_stream s = {
		.output = to_terminal,
		.input_fd = STDIN_FILENO,
		.input = from_terminal,
		.arg = &a,
	};
	int r;

	fflush(stdout);
	go_raw(&a);
	r = client_follow(cli->client, id, "/console?follow=true", &s, err);
	if (a.tty)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &a.before);
	return r;
}

int cmd_console(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{NULL}};
	struct error err;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return cli_bad_option(argv);
	if (cli_count(argc, argv, 1, 1))
		return EXIT_USAGE;
	if (console_attach(cli, argv[optind], &err) < 0)
		return cli_fail(&err);
	return EXIT_DONE;
}

static int print_log(struct cli *cli, const char *id, struct error *err)
{
	struct reply reply = {0};
	int r = client_vm(
		cli->client, "GET", id, "/console", NULL, &reply, err);

	if (r == 0 && reply.len > 0 &&
		fwrite(reply.body, 1, reply.len, stdout) != reply.len)
		r = error_errno(err, errno, "writing");
	reply_fini(&reply);
	return r;
}

int cmd_logs(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"follow", no_argument, NULL, 'f'}, {NULL}};
	const struct client_stream s = {.output = to_terminal, .input_fd = -1};
	bool follow = false;
	struct error err;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_bad_option(argv);
		follow = true;
	}
	if (cli_count(argc, argv, 1, 1))
		return EXIT_USAGE;
	if (follow)
		r = client_follow(cli->client, argv[optind],
			"/console?follow=true", &s, &err);
	else
		r = print_log(cli, argv[optind], &err);
	return r < 0 ? cli_fail(&err) : EXIT_DONE;
}
