#include "api/cli/cli.h"
#include "api/cli/json_get.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MAX_S 86400 /* the API's */

static const struct option no_options[] = {{NULL}};

/* The same request for each VM named; those that fail do not stop it. */
static int for_each(struct cli *cli, int argc, char **argv,
	int (*one)(struct cli *cli, const char *id, struct error *err))
{
	int status = EXIT_DONE;
	struct error err;

	if (getopt_long(argc, argv, "", no_options, NULL) != -1)
		return cli_bad_option(argv);
	if (cli_count(argc, argv, 1, INT_MAX))
		return EXIT_USAGE;
	for (int i = optind; i < argc; i++) {
		if (one(cli, argv[i], &err) < 0) {
			error_wrap(&err, "%s", argv[i]);
			status = cli_fail(&err);
		}
	}
	return status;
}

/* {key: value} to a resource of a VM. */
static int send_word(struct cli *cli, const char *method, const char *id,
	const char *rest, const char *key, const char *value, struct error *err)
{
	struct json_object *o = json_object_new_object();
	int r;

	json_object_object_add(o, key, json_object_new_string(value));
	r = client_vm(cli->client, method, id, rest, o, NULL, err);
	json_object_put(o);
	return r;
}

static int start(struct cli *cli, const char *id, struct error *err)
{
	return send_word(cli, "PUT", id, "/actions", "action_type",
		"InstanceStart", err);
}

static int pause_one(struct cli *cli, const char *id, struct error *err)
{
	return send_word(cli, "PATCH", id, "/vm", "state", "Paused", err);
}

static int resume(struct cli *cli, const char *id, struct error *err)
{
	return send_word(cli, "PATCH", id, "/vm", "state", "Resumed", err);
}

int cmd_start(struct cli *cli, int argc, char **argv)
{
	return for_each(cli, argc, argv, start);
}

int cmd_pause(struct cli *cli, int argc, char **argv)
{
	return for_each(cli, argc, argv, pause_one);
}

int cmd_resume(struct cli *cli, int argc, char **argv)
{
	return for_each(cli, argc, argv, resume);
}

/* Whole seconds; -1 after having said what is wrong. */
static int read_seconds(char **argv, const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (s[0] >= '0' && s[0] <= '9' && !*end && n <= WAIT_MAX_S)
		return (int)n;
	fprintf(stderr,
		"mayfly: %s: --timeout must be from 0 to %d seconds, not "
		"\"%s\"\n",
		argv[0], WAIT_MAX_S, s);
	return -1;
}

/* Waits so long: 1 it has exited, with its exit object in *ret (owned); 0 not
 * yet. */
static int wait_for(struct cli *cli, const char *id, int seconds,
	struct json_object **ret, struct error *err)
{
	struct json_object *timed_out, *exit_object;
	struct reply reply = {0};
	char rest[64];
	int r;

	snprintf(rest, sizeof(rest), "/wait?timeout_ms=%d", seconds * 1000);
	r = client_vm(cli->client, "GET", id, rest, NULL, &reply, err);
	if (r < 0)
		return r;
	if (!json_object_object_get_ex(reply.json, "timed_out", &timed_out))
		r = error_set(err, EPROTO, "mayflyd's answer is no answer");
	else if (!json_object_get_boolean(timed_out))
		r = 1;
	if (r == 1 &&
		json_object_object_get_ex(reply.json, "exit", &exit_object))
		*ret = json_object_get(exit_object);
	reply_fini(&reply);
	return r;
}

int cli_exit_status(const char *id, struct json_object *exit_object)
{
	const char *reason = get_string(exit_object, "reason");
	const char *detail = get_string(exit_object, "detail");

	if (strcmp(reason, "shutdown") == 0 || strcmp(reason, "reset") == 0)
		return EXIT_DONE;
	fprintf(stderr, "mayfly: %s exited: %s%s%s\n", id, reason,
		detail[0] ? ": " : "", detail);
	return EXIT_FAILED;
}

int cmd_wait(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"timeout", required_argument, NULL, 't'}, {NULL}};
	struct json_object *exit_object = NULL;
	int seconds = -1, opt, r, status;
	struct error err;

	while ((opt = getopt_long(argc, argv, "t:", options, NULL)) != -1) {
		if (opt != 't')
			return cli_bad_option(argv);
		seconds = read_seconds(argv, optarg);
		if (seconds < 0)
			return EXIT_USAGE;
	}
	if (cli_count(argc, argv, 1, 1))
		return EXIT_USAGE;
	do
		r = wait_for(cli, argv[optind],
			seconds < 0 ? WAIT_MAX_S : seconds, &exit_object, &err);
	while (r == 0 && seconds < 0);
	if (r == 0)
		r = error_set(&err, ETIMEDOUT, "%s has not exited in %d s",
			argv[optind], seconds);
	if (r < 0)
		return cli_fail(&err);
	if (cli->json)
		puts(json_object_to_json_string_ext(
			exit_object, JSON_C_TO_STRING_PLAIN));
	status = cli_exit_status(argv[optind], exit_object);
	json_object_put(exit_object);
	return status;
}

static bool has_state(struct cli *cli, const char *id, const char *state)
{
	struct reply reply = {0};
	struct error ignored;
	bool is;

	if (client_vm(cli->client, "GET", id, "", NULL, &reply, &ignored) < 0)
		return false;
	is = strcmp(get_string(reply.json, "state"), state) == 0;
	reply_fini(&reply);
	return is;
}

static int stop_one(struct cli *cli, const char *id, int seconds, bool force,
	struct error *err)
{
	struct json_object *exit_object = NULL;
	int r;

	if (has_state(cli, id, "Exited"))
		return 0;
	r = send_word(cli, "PUT", id, "/actions", "action_type",
		"SendCtrlAltDel", err);
	if (r == 0)
		r = wait_for(cli, id, seconds, &exit_object, err);
	json_object_put(exit_object);
	if (r > 0)
		return 0;
	if (force && !has_state(cli, id, "Not started"))
		return client_vm(
			cli->client, "DELETE", id, "", NULL, NULL, err);
	return r < 0 ? r
		     : error_set(err, ETIMEDOUT,
			       "has not stopped in %d s (--force deletes it)",
			       seconds);
}

int cmd_stop(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"timeout", required_argument, NULL, 't'},
		{"force", no_argument, NULL, 'f'}, {NULL}};
	int seconds = 30, status = EXIT_DONE, opt;
	bool force = false;
	struct error err;

	while ((opt = getopt_long(argc, argv, "t:f", options, NULL)) != -1) {
		if (opt == 'f')
			force = true;
		else if (opt != 't')
			return cli_bad_option(argv);
		else
			seconds = read_seconds(argv, optarg);
		if (seconds < 0)
			return EXIT_USAGE;
	}
	if (cli_count(argc, argv, 1, INT_MAX))
		return EXIT_USAGE;
	for (int i = optind; i < argc; i++)
		if (stop_one(cli, argv[i], seconds, force, &err) < 0) {
			error_wrap(&err, "%s", argv[i]);
			status = cli_fail(&err);
		}
	return status;
}

int cmd_rm(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'f'}, {NULL}};
	int status = EXIT_DONE, opt, r;
	bool force = false;
	struct error err;

	while ((opt = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_bad_option(argv);
		force = true;
	}
	if (cli_count(argc, argv, 1, INT_MAX))
		return EXIT_USAGE;
	for (int i = optind; i < argc; i++) {
		r = 0;
		if (!force && (has_state(cli, argv[i], "Running") ||
				      has_state(cli, argv[i], "Paused")))
			r = error_set(&err, EBUSY,
				"has not exited: stop it, or use --force");
		if (r == 0)
			r = client_vm(cli->client, "DELETE", argv[i], "", NULL,
				NULL, &err);
		if (r < 0) {
			error_wrap(&err, "%s", argv[i]);
			status = cli_fail(&err);
		}
	}
	return status;
}
