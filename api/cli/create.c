#include "api/cli/cli.h"

#include "base/cleanup.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define SHORT_OPTIONS "k:i:a:c:m:r:d:n:l:"

const char create_help[] = "Makes a VM, which mayfly start starts.\n\n";
const char run_help[] =
	"Creates a VM, starts it, and joins its console with this terminal "
	"until it exits;\n"
	"Ctrl-] leaves it running. The status is 0 if the guest went by "
	"itself. Without a\n"
	"NAME it gets one, and is deleted in the end.\n"
	"\n"
	"      --rm              delete it in the end, named or not\n"
	"      --detach          do not join: print its name and leave\n";

enum { OPT_RM = 512, OPT_DETACH };

struct how {
	bool rm, detach;
};

/* Reads the options into *doc; 0, or an exit status. */
static int read_options(int argc, char **argv, bool run,
	struct json_object **doc, struct how *how)
{
	struct option options[32] = {{"rm", no_argument, NULL, OPT_RM},
		{"detach", no_argument, NULL, OPT_DETACH}};
	size_t n = run ? 2 : 0;
	struct error err;
	int opt;

	for (size_t i = 0;; i++) {
		options[n + i] = vm_options[i];
		if (!vm_options[i].name)
			break;
	}
	while ((opt = getopt_long(argc, argv, SHORT_OPTIONS, options, NULL)) !=
		-1) {
		if (opt == '?')
			return cli_bad_option(argv);
		if (opt == OPT_RM)
			how->rm = true;
		else if (opt == OPT_DETACH)
			how->detach = true;
		else if (vm_option_read(opt, optarg, doc, &err) < 0) {
			cli_fail(&err);
			return EXIT_USAGE;
		}
	}
	return 0;
}

int cmd_create(struct cli *cli, int argc, char **argv)
{
	struct json_object *doc = json_object_new_object();
	struct how how = {false};
	struct error err;
	int status = read_options(argc, argv, false, &doc, &how);

	if (status == 0)
		status = cli_count(argc, argv, 1, 1);
	if (status == 0 && client_vm(cli->client, "PUT", argv[optind], "", doc,
				   NULL, &err) < 0)
		status = cli_fail(&err);
	json_object_put(doc);
	return status;
}

/* The end of a VM whose console has ended: why, and then nothing of it. */
static int finish(struct cli *cli, const char *id, bool rm, struct error *err)
{
	struct json_object *exit_object = NULL;
	struct reply reply = {0};
	int status = EXIT_FAILED;

	if (client_vm(cli->client, "GET", id, "/wait?timeout_ms=60000", NULL,
		    &reply, err) < 0)
		return cli_fail(err);
	if (json_object_object_get_ex(reply.json, "exit", &exit_object))
		status = cli_exit_status(id, exit_object);
	reply_fini(&reply);
	if (rm && client_vm(cli->client, "DELETE", id, "", NULL, NULL, err) < 0)
		return cli_fail(err);
	return status;
}

static int run(struct cli *cli, const char *id, struct json_object *doc,
	const struct how *how)
{
	struct error err;
	int r;

	json_object_object_add(doc, "start", json_object_new_boolean(true));
	if (client_vm(cli->client, "PUT", id, "", doc, NULL, &err) < 0)
		return cli_fail(&err);
	if (how->detach) {
		puts(id);
		return EXIT_DONE;
	}
	r = console_attach(cli, id, &err);
	if (r < 0)
		return cli_fail(&err);
	if (r == 0)
		return finish(cli, id, how->rm, &err);
	fprintf(stderr,
		"\nmayfly: %s goes on: mayfly console %s, mayfly stop %s\n", id,
		id, id);
	return EXIT_DONE;
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
	struct json_object *doc = json_object_new_object();
	struct how how = {false};
	int status = read_options(argc, argv, true, &doc, &how);
	uint32_t number = 0;
	char name[32];

	if (status == 0)
		status = cli_count(argc, argv, 0, 1);
	if (status == 0 && optind < argc) {
		status = run(cli, argv[optind], doc, &how);
	} else if (status == 0) {
		(void)getrandom(&number, sizeof(number), 0);
		snprintf(name, sizeof(name), "run-%08x", number);
		how.rm = true;
		status = run(cli, name, doc, &how);
	}
	json_object_put(doc);
	return status;
}
