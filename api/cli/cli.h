#pragma once

/*
 * The mayfly command: what its parts share. Each command is one function in one
 * of the files here, and one row of the table in main.c.
 *
 * Exit statuses: 0 done; 1 it failed, and a sentence says why; 2 used wrongly.
 */

#include "api/cli/client.h"

#include <getopt.h>
#include <stdbool.h>

struct cli {
	struct client *client;
	bool json; /* machines read what is printed */
};

struct command {
	const char *name;
	const char *args;    /* as the usage line shows them */
	const char *summary; /* a line of the list of commands */
	const char *help;    /* what --help adds; NULL: nothing */
	/* argv[0] is the command's name. */
	int (*run)(struct cli *cli, int argc, char **argv);
	bool describes_vm; /* and takes vm_options */
};

#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* Says what went wrong; returns EXIT_FAILED. */
int cli_fail(const struct error *err);
/* The arguments after a command's options must be min to max: EXIT_USAGE after
 * having said so, or 0. */
int cli_count(int argc, char **argv, int min, int max);
/* An option that is none, or has no argument; says so; returns EXIT_USAGE. */
int cli_bad_option(char **argv);

/* create.c */
int cmd_create(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
extern const char create_help[], run_help[];

/* lifecycle.c */
int cmd_start(struct cli *cli, int argc, char **argv);
int cmd_stop(struct cli *cli, int argc, char **argv);
int cmd_pause(struct cli *cli, int argc, char **argv);
int cmd_resume(struct cli *cli, int argc, char **argv);
int cmd_rm(struct cli *cli, int argc, char **argv);
int cmd_wait(struct cli *cli, int argc, char **argv);
/* Prints why a VM ended, on standard error; the status of a command that lived
 * as long as it: 0 when its guest went by itself. */
int cli_exit_status(const char *id, struct json_object *exit_object);

/* console.c */
int cmd_console(struct cli *cli, int argc, char **argv);
int cmd_logs(struct cli *cli, int argc, char **argv);
/* Joins the terminal and the console: 0 the VM ended, 1 the person left. */
int console_attach(struct cli *cli, const char *id, struct error *err);

/* events.c */
int cmd_events(struct cli *cli, int argc, char **argv);

/* show.c */
int cmd_ps(struct cli *cli, int argc, char **argv);
int cmd_inspect(struct cli *cli, int argc, char **argv);
int cmd_stats(struct cli *cli, int argc, char **argv);
int cmd_host(struct cli *cli, int argc, char **argv);

/* top.c */
int cmd_top(struct cli *cli, int argc, char **argv);

/* vm_options.c: the options that describe a VM, of create and run. */
extern const struct option vm_options[];
extern const char vm_options_help[];
/* Takes one of them into doc: 0 or an error. */
int vm_option_read(
	int opt, const char *arg, struct json_object **doc, struct error *err);
