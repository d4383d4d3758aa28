#include "api/cli/cli.h"
#include "api/cli/json_get.h"
#include "api/cli/table.h"
#include "base/clock.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* What is shown as so much a second. */
enum rate { EXITS, DISK_OPS, DISK_BYTES, RX_BYTES, TX_BYTES, CPU_TICKS, RATES };

struct seen {
	char id[72];
	uint64_t totals[RATES];
};

/* One look at all VMs. */
struct look {
	struct seen *vms;
	size_t n;
	uint64_t at_ns;
};

static void take_totals(struct json_object *c, uint64_t *ret)
{
	ret[EXITS] = get_uint(c, "exits_pio") + get_uint(c, "exits_mmio") +
		     get_uint(c, "exits_other");
	ret[DISK_OPS] =
		get_sum(c, "drives", "reads") + get_sum(c, "drives", "writes");
	ret[DISK_BYTES] = get_sum(c, "drives", "read_bytes") +
			  get_sum(c, "drives", "write_bytes");
	ret[RX_BYTES] = get_sum(c, "network-interfaces", "rx_bytes");
	ret[TX_BYTES] = get_sum(c, "network-interfaces", "tx_bytes");
}

/* The n-th word (from 1) of what stands behind the ")" that ends a name in
 * /proc/PID/stat, as a number. */
static uint64_t stat_word(const char *rest, unsigned n)
{
	while (n-- > 0 && rest) {
		rest = strchr(rest, ' ');
		rest += rest ? 1 : 0;
	}
	return rest ? strtoull(rest, NULL, 10) : 0;
}

/* CPU time, in ticks, and resident memory of the process: the client is on the
 * daemon's host. */
static void take_process(uint64_t pid, uint64_t *ret_ticks, uint64_t *ret_mib)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[64], line[512];
	const char *rest;
	FILE *f;

	*ret_ticks = *ret_mib = 0;
	snprintf(
		path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	f = pid ? fopen(path, "re") : NULL;
	if (!f)
		return;
	rest = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (rest) {
		*ret_ticks = stat_word(rest, 12) + stat_word(rest, 13);
		*ret_mib = stat_word(rest, 22) * page >> 20;
	}
	fclose(f);
}

static const struct seen *find(const struct look *l, const char *id)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->vms[i].id, id) == 0)
			return &l->vms[i];
	return NULL;
}

static void add_bytes(struct table *t, double n)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
	unsigned i = 0;

	while (n >= 1024 && i < 3) {
		n /= 1024;
		i++;
	}
	table_add(t, "%.*f %s", i ? 1 : 0, n, units[i]);
}

static void add_row(struct table *t, struct json_object *vm,
	const struct seen *now, const struct seen *before, double seconds,
	uint64_t rss_mib)
{
	double rates[RATES] = {0};

	for (unsigned i = 0; before && seconds > 0 && i < RATES; i++)
		if (now->totals[i] >= before->totals[i])
			rates[i] =
				(double)(now->totals[i] - before->totals[i]) /
				seconds;
	table_add(t, "%s", now->id);
	table_add(t, "%s", get_string(vm, "state"));
	table_add(t, "%.1f",
		100 * rates[CPU_TICKS] / (double)sysconf(_SC_CLK_TCK));
	table_add(t, "%llu MiB", (unsigned long long)rss_mib);
	table_add(t, "%.0f", rates[EXITS]);
	table_add(t, "%.0f", rates[DISK_OPS]);
	add_bytes(t, rates[DISK_BYTES]);
	add_bytes(t, rates[RX_BYTES]);
	add_bytes(t, rates[TX_BYTES]);
}

/* Looks at each VM of the list; those that went meanwhile are left out. */
static void look(struct cli *cli, struct json_object *vms,
	const struct look *before, struct look *ret, struct table *t)
{
	size_t n = json_object_array_length(vms);
	double seconds;

	*ret = (struct look){.vms = calloc(n ? n : 1, sizeof(*ret->vms)),
		.at_ns = clock_ns()};
	if (!ret->vms)
		return;
	seconds = before->vms ? (double)(ret->at_ns - before->at_ns) / 1e9 : 0;
	for (size_t i = 0; i < n; i++) {
		const char *id =
			get_string(json_object_array_get_idx(vms, i), "id");
		struct seen *now = &ret->vms[ret->n];
		struct reply reply = {0};
		struct error ignored;
		uint64_t rss_mib;

		if (client_vm(cli->client, "GET", id, "", NULL, &reply,
			    &ignored) < 0)
			continue;
		snprintf(now->id, sizeof(now->id), "%s", id);
		take_totals(get(reply.json, "counters"), now->totals);
		take_process(get_uint(reply.json, "pid"),
			&now->totals[CPU_TICKS], &rss_mib);
		add_row(t, reply.json, now, find(before, id), seconds, rss_mib);
		ret->n++;
		reply_fini(&reply);
	}
}

static int show_once(struct cli *cli, struct look *before, struct error *err)
{
	static const char *const titles[] = {"NAME", "STATE", "CPU %", "MEMORY",
		"EXITS/s", "DISK/s", "DISK BYTES/s", "RX/s", "TX/s", NULL};
	struct json_object *vms;
	struct look now;
	struct table t;

	if (client_list(cli->client, NULL, NULL, &vms, err) < 0)
		return -err->code;
	table_init(&t, titles);
	look(cli, vms, before, &now, &t);
	if (isatty(STDOUT_FILENO))
		printf("\033[H\033[J");
	printf("%zu VMs\n\n", now.n);
	table_print(&t);
	fflush(stdout);
	table_fini(&t);
	json_object_put(vms);
	free(before->vms);
	*before = now;
	return 0;
}

/* Until then, or until somebody presses q: whether to go on. */
static bool rest(int ms)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	uint64_t until = clock_ns() + (uint64_t)ms * 1000000u;
	char c;

	for (;;) {
		uint64_t now = clock_ns();

		if (now >= until)
			return true;
		if (poll(&in, 1, (int)((until - now) / 1000000u) + 1) <= 0)
			continue;
		if (read(STDIN_FILENO, &c, 1) != 1)
			in.fd = -1; /* nobody is there: time alone counts */
		else if (c == 'q' || c == 3)
			return false;
	}
}

static int watch(struct cli *cli, int delay_ms, int times, struct error *err)
{
	struct look before = {NULL};
	struct termios saved, raw;
	bool tty = tcgetattr(STDIN_FILENO, &saved) == 0;
	int r;

	if (tty) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	do
		r = show_once(cli, &before, err);
	while (r == 0 && (times == 0 || --times > 0) && rest(delay_ms));
	if (tty)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	free(before.vms);
	return r;
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"delay", required_argument, NULL, 'd'},
		{"number", required_argument, NULL, 'n'}, {NULL}};
	double delay = 1;
	long times = 0;
	char *end = "";
	struct error err;
	int opt;

	while ((opt = getopt_long(argc, argv, "d:n:", options, NULL)) != -1) {
		if (opt == 'd')
			delay = strtod(optarg, &end);
		else if (opt == 'n')
			times = strtol(optarg, &end, 10);
		else
			return cli_bad_option(argv);
		if (*end || !(delay >= 0.1 && delay <= 3600) || times < 0 ||
			times > 1000000) {
			fprintf(stderr,
				"mayfly: top: --delay must be 0.1 to 3600 "
				"seconds, --number 1 to 1000000\n");
			return EXIT_USAGE;
		}
	}
	if (cli_count(argc, argv, 0, 0))
		return EXIT_USAGE;
	if (watch(cli, (int)(delay * 1000), (int)times, &err) < 0)
		return cli_fail(&err);
	return EXIT_DONE;
}
