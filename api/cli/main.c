/*
 * mayfly: microVMs from the command line, over mayflyd's API.
 */

#include "api/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char stop_help[] =
	"Presses Ctrl-Alt-Del in the guests, which asks a Linux to power off, "
	"and waits.\n"
	"\n"
	"  -t, --timeout S  for so long, each (default 30)\n"
	"  -f, --force      then delete what has not stopped\n";
static const char rm_help[] =
	"Deletes VMs, with everything that was made for them.\n"
	"\n"
	"  -f, --force  also those that run\n";
static const char wait_help[] =
	"Waits until the VM has exited; the status is 0 if its guest went by "
	"itself.\n"
	"\n"
	"  -t, --timeout S  for so long (default: for ever); then the status "
	"is 1\n";
static const char logs_help[] =
	"Prints what the guest has written to its console, as far back as it "
	"is kept.\n"
	"\n"
	"  -f, --follow  and goes on until the VM exits\n";
static const char console_help[] =
	"Joins this terminal and the guest's console. Ctrl-] leaves.\n";
static const char events_help[] =
	"Prints what happens to VMs, until interrupted.\n"
	"\n"
	"  -a, --all              begin with what is still known of the past\n"
	"  -v, --vm NAME          of this VM alone\n"
	"  -l, --label KEY[=VALUE] of VMs with this label alone\n";
static const char ps_help[] =
	"  -q, --quiet             names alone\n"
	"  -l, --label KEY[=VALUE] VMs with this label alone\n"
	"  -s, --state STATE       VMs in this state alone: \"Not started\",\n"
	"                          Running, Paused or Exited\n";
static const char top_help[] =
	"Shows all VMs as they go. q leaves.\n"
	"\n"
	"  -d, --delay S   between two looks (default 1)\n"
	"  -n, --number N  leaves after so many\n";

static const struct command commands[] = {
	{"run", "[OPTION...] [NAME]",
		"create and start a VM with its console here", run_help,
		cmd_run, true},
	{"create", "[OPTION...] NAME", "make a VM", create_help, cmd_create,
		true},
	{"start", "NAME...", "start VMs", NULL, cmd_start},
	{"stop", "[OPTION...] NAME...", "ask guests to power off", stop_help,
		cmd_stop},
	{"pause", "NAME...", "stop the guests' time", NULL, cmd_pause},
	{"resume", "NAME...", "let it go on", NULL, cmd_resume},
	{"rm", "[OPTION...] NAME...", "delete VMs", rm_help, cmd_rm},
	{"ps", "[OPTION...]", "list the VMs", ps_help, cmd_ps},
	{"inspect", "NAME...", "all there is to know of VMs (JSON)", NULL,
		cmd_inspect},
	{"logs", "[OPTION...] NAME", "print a guest's console", logs_help,
		cmd_logs},
	{"console", "NAME", "use a guest's console", console_help, cmd_console},
	{"wait", "[OPTION...] NAME", "wait for a VM's end", wait_help,
		cmd_wait},
	{"events", "[OPTION...]", "watch what happens to VMs", events_help,
		cmd_events},
	{"top", "[OPTION...]", "watch the VMs", top_help, cmd_top},
	{"stats", "NAME...", "what VMs' devices have done", NULL, cmd_stats},
	{"host", "", "what this host can do", NULL, cmd_host},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *out)
{
	fputs("Usage: mayfly [--socket PATH] [--json] COMMAND [ARGUMENT...]\n"
	      "Run microVMs, by way of mayflyd.\n"
	      "\n",
		out);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-9s %s\n", commands[i].name,
			commands[i].summary);
	fputs("\n"
	      "  --socket PATH  mayflyd's socket (default: $MAYFLY_SOCKET, or\n"
	      "                 " CLIENT_DEFAULT_SOCKET ")\n"
	      "  --json         print JSON, as when the output is no terminal\n"
	      "  --version      print the version\n"
	      "  --help         print this; after a command, what that takes\n",
		out);
}

static void print_help(const struct command *c)
{
	printf("Usage: mayfly %s%s%s\n", c->name, c->args[0] ? " " : "",
		c->args);
	if (c->help)
		printf("%s", c->help);
	if (c->describes_vm)
		printf("%s", vm_options_help);
}

int cli_fail(const struct error *err)
{
	fprintf(stderr, "mayfly: %s%s%s\n", err->field,
		err->field[0] ? ": " : "", err->msg);
	return EXIT_FAILED;
}

int cli_bad_option(char **argv)
{
	/* getopt has said what is wrong. */
	fprintf(stderr, "mayfly: see mayfly %s --help\n", argv[0]);
	return EXIT_USAGE;
}

int cli_count(int argc, char **argv, int min, int max)
{
	int n = argc - optind;

	if (n >= min && n <= max)
		return 0;
	fprintf(stderr, "mayfly: %s: %s; see mayfly %s --help\n", argv[0],
		n < min ? "whose name is missing?" : "too many arguments",
		argv[0]);
	return EXIT_USAGE;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* Wherever it stands before a "--". */
static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static int run_command(struct cli *cli, const char *socket_path,
	const struct command *c, int argc, char **argv)
{
	struct error err;
	int r;

	if (wants_help(argc, argv)) {
		print_help(c);
		return EXIT_DONE;
	}
	if (client_create(&cli->client, socket_path, &err) < 0)
		return cli_fail(&err);
	optind = 0; /* begin again, with the command's own */
	r = c->run(cli, argc, argv);
	client_destroy(cli->client);
	if (fflush(stdout) != 0 && r == EXIT_DONE) {
		error_errno(&err, errno, "writing");
		return cli_fail(&err);
	}
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL},
	};
	const char *socket_path = getenv("MAYFLY_SOCKET");
	struct cli cli = {.json = !isatty(STDOUT_FILENO)};
	const struct command *c;
	int opt;

	if (!socket_path || !socket_path[0])
		socket_path = CLIENT_DEFAULT_SOCKET;
	while ((opt = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			socket_path = optarg;
			break;
		case 'j':
			cli.json = true;
			break;
		case 'v':
			puts("mayfly " MAYFLY_VERSION);
			return EXIT_DONE;
		case 'h':
			print_usage(stdout);
			return EXIT_DONE;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	c = find(argv[optind]);
	if (!c) {
		fprintf(stderr,
			"mayfly: there is no command \"%s\"; see mayfly "
			"--help\n",
			argv[optind]);
		return EXIT_USAGE;
	}
	return run_command(&cli, socket_path, c, argc - optind, argv + optind);
}
