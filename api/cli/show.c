#include "api/cli/cli.h"
#include "api/cli/json_get.h"
#include "api/cli/table.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define PRETTY                                                                 \
	(JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |                   \
		JSON_C_TO_STRING_NOSLASHESCAPE)
#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

static const struct option no_options[] = {{NULL}};

/* "a=1,b=2" */
static void add_labels(struct table *t, struct json_object *labels)
{
	char text[200] = "";
	size_t n = 0;

	json_object_object_foreach(labels, key, value)
	{
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s=%s",
			n ? "," : "", key, json_object_get_string(value));
		if (n >= sizeof(text))
			break;
	}
	table_add(t, "%s", text);
}

static void print_vms(struct json_object *vms)
{
	static const char *const titles[] = {
		"NAME", "STATE", "EXIT", "PID", "LABELS", NULL};
	struct table t;

	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);
		struct json_object *labels = get(vm, "labels");

		table_add(&t, "%s", get_string(vm, "id"));
		table_add(&t, "%s", get_string(vm, "state"));
		table_add(&t, "%s", get_string(get(vm, "exit"), "reason"));
		table_add(&t, "%s", get_string(vm, "pid"));
		if (labels)
			add_labels(&t, labels);
		else
			table_add(&t, "%s", "");
	}
	table_print(&t);
	table_fini(&t);
}

int cmd_ps(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"quiet", no_argument, NULL, 'q'},
		{"label", required_argument, NULL, 'l'},
		{"state", required_argument, NULL, 's'}, {NULL}};
	const char *label = NULL, *state = NULL;
	struct json_object *vms;
	bool quiet = false;
	struct error err;
	int opt;

	while ((opt = getopt_long(argc, argv, "ql:s:", options, NULL)) != -1) {
		if (opt == 'q')
			quiet = true;
		else if (opt == 'l')
			label = optarg;
		else if (opt == 's')
			state = optarg;
		else
			return cli_bad_option(argv);
	}
	if (cli_count(argc, argv, 0, 0))
		return EXIT_USAGE;
	if (client_list(cli->client, label, state, &vms, &err) < 0)
		return cli_fail(&err);
	if (quiet)
		for (size_t i = 0; i < json_object_array_length(vms); i++)
			puts(get_string(
				json_object_array_get_idx(vms, i), "id"));
	else if (cli->json)
		puts(json_object_to_json_string_ext(vms, PLAIN));
	else
		print_vms(vms);
	json_object_put(vms);
	return EXIT_DONE;
}

/* show() for each VM named. */
static int each_vm(struct cli *cli, int argc, char **argv,
	void (*show)(struct cli *cli, struct json_object *vm))
{
	int status = EXIT_DONE;
	struct error err;

	if (getopt_long(argc, argv, "", no_options, NULL) != -1)
		return cli_bad_option(argv);
	if (cli_count(argc, argv, 1, INT_MAX))
		return EXIT_USAGE;
	for (int i = optind; i < argc; i++) {
		struct reply reply = {0};

		if (client_vm(cli->client, "GET", argv[i], "", NULL, &reply,
			    &err) < 0) {
			error_wrap(&err, "%s", argv[i]);
			status = cli_fail(&err);
			continue;
		}
		show(cli, reply.json);
		reply_fini(&reply);
	}
	return status;
}

static void print_json(struct cli *cli, struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, cli->json ? PLAIN : PRETTY));
}

int cmd_inspect(struct cli *cli, int argc, char **argv)
{
	return each_vm(cli, argc, argv, print_json);
}

/* One device's counters that are not 0, on a line. */
static void print_counters(
	const char *device, const char *id, struct json_object *counters)
{
	printf("  %-8s %-16s", device, id);
	json_object_object_foreach(counters, key, value)
	{
		uint64_t n = json_object_is_type(value, json_type_int)
				     ? json_object_get_uint64(value)
				     : 0;

		if (n)
			printf(" %s=%llu", key, (unsigned long long)n);
	}
	puts("");
}

static void print_stats(struct cli *cli, struct json_object *vm)
{
	static const struct {
		const char *key, *shown, *id;
	} kinds[] = {
		{"drives", "disk", "drive_id"},
		{"network-interfaces", "net", "iface_id"},
		{"pmem", "pmem", "id"},
		{"vsock", "vsock", NULL},
		{"entropy", "entropy", NULL},
		{"balloon", "balloon", NULL},
		{"memory-hotplug", "memory", NULL},
		{"mmds", "mmds", NULL},
	};
	struct json_object *counters = get(vm, "counters"), *o;

	if (cli->json) {
		puts(counters ? json_object_to_json_string_ext(counters, PLAIN)
			      : "{}");
		return;
	}
	printf("%s: %s\n", get_string(vm, "id"), get_string(vm, "state"));
	if (!counters)
		return;
	print_counters("vm", "", counters);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		o = get(counters, kinds[i].key);
		if (!kinds[i].id && o)
			print_counters(kinds[i].shown, "", o);
		for (size_t n = 0;
			kinds[i].id && o && n < json_object_array_length(o);
			n++) {
			struct json_object *one =
				json_object_array_get_idx(o, n);

			print_counters(kinds[i].shown,
				get_string(one, kinds[i].id), one);
		}
	}
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
	return each_vm(cli, argc, argv, print_stats);
}

static void print_host(struct json_object *host)
{
	struct json_object *probe = get(host, "probe");
	struct json_object *memory = get(host, "memory");

	printf("KVM        %s\n", get_string(probe, "reason"));
	printf("kernel     %s, %llu CPUs\n", get_string(host, "kernel"),
		(unsigned long long)get_uint(host, "cpus"));
	printf("memory     %llu MiB, %llu MiB available\n",
		(unsigned long long)get_uint(memory, "total_bytes") >> 20,
		(unsigned long long)get_uint(memory, "available_bytes") >> 20);
	printf("cgroups    version %llu\n",
		(unsigned long long)get_uint(host, "cgroup_version"));
	printf("io_uring   %s\n",
		json_object_get_boolean(get(get(host, "io_uring"), "usable"))
			? "usable"
			: "not usable: VMs with devices will not start");
}

int cmd_host(struct cli *cli, int argc, char **argv)
{
	struct reply reply = {0};
	struct error err;

	if (getopt_long(argc, argv, "", no_options, NULL) != -1)
		return cli_bad_option(argv);
	if (cli_count(argc, argv, 0, 0))
		return EXIT_USAGE;
	if (client_request(cli->client, "GET", "/v1/host", NULL, NULL, 0,
		    &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		puts(json_object_to_json_string_ext(reply.json, PLAIN));
	else
		print_host(reply.json);
	reply_fini(&reply);
	return EXIT_DONE;
}
