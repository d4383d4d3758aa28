#include "api/fc_metrics.h"

#include "api/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Which request counts where; a GET cannot fail in Firecracker's books. */
static const struct counted {
	const char *method, *path, *name;
} counted[] = {
	{"GET", "/", "instance_info"},
	{"GET", "/machine-config", "machine_cfg"},
	{"GET", "/mmds", "mmds"},
	{"GET", "/version", "vmm_version"},
	{"GET", "/hotplug/memory", "hotplug_memory"},
	{"PUT", "/actions", "actions"},
	{"PUT", "/boot-source", "boot_source"},
	{"PUT", "/drives/{drive_id}", "drive"},
	{"PUT", "/logger", "logger"},
	{"PUT", "/machine-config", "machine_cfg"},
	{"PUT", "/cpu-config", "cpu_cfg"},
	{"PUT", "/metrics", "metrics"},
	{"PUT", "/network-interfaces/{iface_id}", "network"},
	{"PUT", "/mmds", "mmds"},
	{"PUT", "/vsock", "vsock"},
	{"PUT", "/pmem/{pmem_id}", "pmem"},
	{"PUT", "/serial", "serial"},
	{"PUT", "/hotplug/memory", "hotplug_memory"},
	{"PATCH", "/drives/{drive_id}", "drive"},
	{"PATCH", "/network-interfaces/{iface_id}", "network"},
	{"PATCH", "/machine-config", "machine_cfg"},
	{"PATCH", "/mmds", "mmds"},
	{"PATCH", "/hotplug/memory", "hotplug_memory"},
};

#define N_COUNTED (sizeof(counted) / sizeof(counted[0]))

struct fc_metrics {
	uint64_t requests[N_COUNTED], fails[N_COUNTED];
	struct json_object *last; /* totals of the last line; NULL: none yet */
};

struct fc_metrics *fc_metrics_create(void)
{
	return calloc(1, sizeof(struct fc_metrics));
}

void fc_metrics_destroy(struct fc_metrics *m)
{
	if (!m)
		return;
	json_object_put(m->last);
	free(m);
}

void fc_metrics_served(struct fc_metrics *m, const struct api_served *s)
{
	for (size_t i = 0; i < N_COUNTED; i++)
		if (strcmp(counted[i].method, s->method) == 0 &&
			strcmp(counted[i].path, s->path) == 0) {
			m->requests[i]++;
			m->fails[i] += s->fault[0] != '\0';
		}
}

/* ---- totals ---- */

/* A group's numbers: names and values in turn. */
struct number {
	const char *name;
	uint64_t value;
};

#define GROUP(o, name, ...)                                                    \
	do {                                                                   \
		const struct number numbers_[] = {__VA_ARGS__};                \
                                                                               \
		add_group(o, name, numbers_,                                   \
			sizeof(numbers_) / sizeof(numbers_[0]));               \
	} while (0)

static void add_group(struct json_object *o, const char *name,
	const struct number *numbers, size_t n)
{
	struct json_object *group = json_add_object(o, name);

	for (size_t i = 0; i < n; i++)
		json_add_uint(group, numbers[i].name, numbers[i].value);
}

static void add_requests(struct json_object *o, const struct fc_metrics *m,
	const char *method, const char *name)
{
	struct json_object *group = json_add_object(o, name);
	char key[40];

	for (size_t i = 0; i < N_COUNTED; i++) {
		if (strcmp(counted[i].method, method) != 0)
			continue;
		snprintf(key, sizeof(key), "%s_count", counted[i].name);
		json_add_uint(group, key, m->requests[i]);
		if (strcmp(method, "GET") == 0)
			continue;
		snprintf(key, sizeof(key), "%s_fails", counted[i].name);
		json_add_uint(group, key, m->fails[i]);
	}
}

static void add_block(struct json_object *o, const char *name,
	const struct api_drive_stats *d)
{
	GROUP(o, name, {"read_count", d->reads}, {"write_count", d->writes},
		{"flush_count", d->flushes}, {"read_bytes", d->read_bytes},
		{"write_bytes", d->write_bytes}, {"execute_fails", d->errors},
		{"invalid_reqs_count", d->malformed},
		{"rate_limiter_throttled_events", d->throttled});
}

static void add_blocks(struct json_object *o, const struct api_counters *c)
{
	struct api_drive_stats all = {NULL};
	char name[VM_ID_MAX + 16];

	for (unsigned i = 0; i < c->n_drives; i++) {
		const struct api_drive_stats *d = &c->drives[i];

		snprintf(name, sizeof(name), "block_%s", d->drive_id);
		add_block(o, name, d);
		all.reads += d->reads;
		all.writes += d->writes;
		all.flushes += d->flushes;
		all.read_bytes += d->read_bytes;
		all.write_bytes += d->write_bytes;
		all.errors += d->errors;
		all.malformed += d->malformed;
		all.throttled += d->throttled;
	}
	add_block(o, "block", &all);
}

static void add_net(
	struct json_object *o, const char *name, const struct api_net_stats *n)
{
	GROUP(o, name, {"rx_packets_count", n->rx_packets},
		{"rx_bytes_count", n->rx_bytes}, {"rx_fails", n->rx_dropped},
		{"rx_rate_limiter_throttled", n->rx_throttled},
		{"tx_packets_count", n->tx_packets},
		{"tx_bytes_count", n->tx_bytes}, {"tx_fails", n->tx_dropped},
		{"tx_rate_limiter_throttled", n->tx_throttled},
		{"tx_malformed_frames", n->malformed});
}

static void add_nets(struct json_object *o, const struct api_counters *c)
{
	struct api_net_stats all = {NULL};
	char name[VM_ID_MAX + 16];

	for (unsigned i = 0; i < c->n_nets; i++) {
		const struct api_net_stats *n = &c->nets[i];

		snprintf(name, sizeof(name), "net_%s", n->iface_id);
		add_net(o, name, n);
		all.rx_packets += n->rx_packets;
		all.rx_bytes += n->rx_bytes;
		all.rx_dropped += n->rx_dropped;
		all.rx_throttled += n->rx_throttled;
		all.tx_packets += n->tx_packets;
		all.tx_bytes += n->tx_bytes;
		all.tx_dropped += n->tx_dropped;
		all.tx_throttled += n->tx_throttled;
		all.malformed += n->malformed;
	}
	add_net(o, "net", &all);
}

static void add_small(struct json_object *o, const struct api_counters *c)
{
	GROUP(o, "vsock", {"conns_added", c->vsock.opened},
		{"conns_killed", c->vsock.resets},
		{"rx_packets_count", c->vsock.rx_packets},
		{"rx_bytes_count", c->vsock.rx_bytes},
		{"tx_packets_count", c->vsock.tx_packets},
		{"tx_bytes_count", c->vsock.tx_bytes});
	GROUP(o, "entropy", {"entropy_event_count", c->entropy.requests},
		{"entropy_event_fails", c->entropy.errors},
		{"entropy_bytes", c->entropy.bytes},
		{"entropy_rate_limiter_throttled", c->entropy.throttled});
	GROUP(o, "balloon", {"event_fails", c->balloon.errors},
		{"inflated_pages", c->balloon.inflated_pages},
		{"deflated_pages", c->balloon.deflated_pages});
	GROUP(o, "mmds", {"rx_count", c->mmds.requests},
		{"rx_invalid_token", c->mmds.denied},
		{"connections_created", c->mmds.connections});
	GROUP(o, "vcpu", {"exit_io", c->exits_pio},
		{"exit_mmio", c->exits_mmio});
}

static struct json_object *totals(const struct fc_metrics *m,
	const struct api_counters *c, const struct fc_missed *missed)
{
	static const struct api_counters none;
	struct json_object *o = json_object_new_object();

	add_requests(o, m, "GET", "get_api_requests");
	add_requests(o, m, "PUT", "put_api_requests");
	add_requests(o, m, "PATCH", "patch_api_requests");
	GROUP(o, "logger", {"missed_log_count", missed->log},
		{"missed_metrics_count", missed->metrics});
	add_blocks(o, c ? c : &none);
	add_nets(o, c ? c : &none);
	add_small(o, c ? c : &none);
	return o;
}

/* ---- lines ---- */

/* What `now` has more than `before` (NULL: nothing), which is of its form. */
static struct json_object *difference(
	struct json_object *now, struct json_object *before)
{
	struct json_object *o = json_object_new_object();

	json_object_object_foreach(now, key, value)
	{
		struct json_object *old = NULL;
		uint64_t n, base;

		json_object_object_get_ex(before, key, &old);
		if (json_object_is_type(value, json_type_object)) {
			json_object_object_add(o, key, difference(value, old));
			continue;
		}
		n = json_object_get_uint64(value);
		base = json_object_get_uint64(old);
		/* A VMM may count backwards. */
		json_add_uint(o, key, n > base ? n - base : 0);
	}
	return o;
}

static uint64_t utc_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

char *fc_metrics_line(struct fc_metrics *m, const struct api_counters *c,
	const struct fc_missed *missed)
{
	_cleanup_json_ struct json_object *now = totals(m, c, missed);
	_cleanup_json_ struct json_object *o = difference(now, m->last);
	const char *text;
	char *line = NULL;

	json_add_uint(o, "utc_timestamp_ms", utc_ms());
	text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return NULL;
	json_object_put(m->last);
	m->last = take_ptr(&now);
	return line;
}

void fc_metrics_skip(struct fc_metrics *m, const struct api_counters *c)
{
	static const struct fc_missed none;

	json_object_put(m->last);
	m->last = totals(m, c, &none);
}
