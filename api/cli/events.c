#include "api/cli/cli.h"
#include "api/cli/json_get.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What has come of a line. */
struct lines {
	struct cli *cli;
	char *text;
	size_t len, cap;
};

static void print_event(struct cli *cli, const char *data)
{
	struct json_object *o = json_tokener_parse(data);
	const char *reason = get_string(o, "reason");
	const char *detail = get_string(o, "detail");
	const char *what = reason[0] ? reason : get_string(o, "device");

	if (cli->json)
		puts(data);
	else
		printf("%s  %-11s  %s%s%s%s%s\n", get_string(o, "time"),
			get_string(o, "type"), get_string(o, "vm"),
			what[0] ? "  " : "", what,
			detail[0] ? (what[0] ? ": " : "  ") : "", detail);
	fflush(stdout);
	json_object_put(o);
}

static bool append(struct lines *l, const char *data, size_t n)
{
	char *more = l->text;

	if (l->len + n + 1 > l->cap) {
		more = realloc(l->text, 2 * (l->len + n + 1));
		if (!more)
			return false;
		l->cap = 2 * (l->len + n + 1);
	}
	l->text = more;
	memcpy(more + l->len, data, n);
	l->len += n;
	more[l->len] = '\0';
	return true;
}

/* Server-Sent Events: what counts to us are the lines "data: {...}". */
static enum client_step on_bytes(void *arg, const void *data, size_t len)
{
	struct lines *l = arg;
	char *end;

	if (!append(l, data, len))
		return CLIENT_LEAVE;
	while ((end = memchr(l->text, '\n', l->len))) {
		size_t n = (size_t)(end - l->text) + 1;

		*end = '\0';
		if (strncmp(l->text, "data: ", 6) == 0)
			print_event(l->cli, l->text + 6);
		memmove(l->text, l->text + n, l->len - n);
		l->len -= n;
	}
	return ferror(stdout) ? CLIENT_LEAVE : CLIENT_GO_ON;
}

int cmd_events(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"all", no_argument, NULL, 'a'},
		{"vm", required_argument, NULL, 'v'},
		{"label", required_argument, NULL, 'l'}, {NULL}};
	struct lines lines = {.cli = cli};
	const struct client_stream s = {
		.output = on_bytes, .input_fd = -1, .arg = &lines};
	const char *vm = NULL, *label = NULL;
	bool all = false;
	struct error err;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "av:l:", options, NULL)) != -1) {
		if (opt == 'a')
			all = true;
		else if (opt == 'v')
			vm = optarg;
		else if (opt == 'l')
			label = optarg;
		else
			return cli_bad_option(argv);
	}
	if (cli_count(argc, argv, 0, 0))
		return EXIT_USAGE;
	r = client_follow_events(cli->client, vm, label, all, &s, &err);
	free(lines.text);
	return r < 0 ? cli_fail(&err) : EXIT_DONE;
}
