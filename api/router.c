#include "api/router.h"

#include "api/fields.h"
#include "api/resources.h"
#include "api/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VM "/v1/vms/{id}"
/* Of a VM, as Firecracker has it, without a body and with one. */
#define FC_GET(rest, handler)                                                  \
	{                                                                      \
		"GET", VM rest, handler, .where = AT_BOTH                      \
	}
#define FC(method, rest, handler, body)                                        \
	{                                                                      \
		method, VM rest, handler, body, API_BODY_MAX, .where = AT_BOTH \
	}

static const struct route routes[] = {
	{"GET", "/v1/version", version_get},
	{"GET", "/v1/host", host_get},
	{"GET", "/metrics", metrics_get},
	{"GET", "/v1/events", events_get, .query = {"vm", "label", "after"}},
	{"GET", "/v1/vms", vms_list,
		.query = {"limit", "after", "label", "state"}},
	{"GET", VM, vms_get},
	{"PUT", VM, vms_put, BODY_JSON, API_BODY_MAX},
	{"DELETE", VM, vms_delete},
	FC_GET("/vm/config", vm_config_get),
	FC("PUT", "/boot-source", boot_source_put, BODY_JSON),
	FC_GET("/machine-config", machine_config_get),
	FC("PUT", "/machine-config", machine_config_put, BODY_JSON),
	FC("PATCH", "/machine-config", machine_config_patch, BODY_JSON),
	FC("PUT", "/cpu-config", cpu_config_put, BODY_JSON),
	FC("PUT", "/drives/{drive_id}", drive_put, BODY_JSON),
	FC("PATCH", "/drives/{drive_id}", drive_patch, BODY_JSON),
	FC("PUT", "/network-interfaces/{iface_id}", network_interface_put,
		BODY_JSON),
	FC("PATCH", "/network-interfaces/{iface_id}", network_interface_patch,
		BODY_JSON),
	FC("PUT", "/pmem/{pmem_id}", pmem_put, BODY_JSON),
	FC("PATCH", "/pmem/{pmem_id}", pmem_patch, BODY_JSON),
	FC("PUT", "/vsock", vsock_put, BODY_JSON),
	FC("PUT", "/entropy", entropy_put, BODY_JSON),
	FC("PUT", "/serial", serial_put, BODY_JSON),
	FC("PATCH", "/serial", serial_patch, BODY_JSON),
	FC_GET("/balloon", balloon_get),
	FC("PUT", "/balloon", balloon_put, BODY_JSON),
	FC("PATCH", "/balloon", balloon_patch, BODY_JSON),
	FC_GET("/balloon/statistics", balloon_stats_get),
	FC("PATCH", "/balloon/statistics", balloon_stats_patch, BODY_JSON),
	FC("PATCH", "/balloon/hinting/start", balloon_hinting_start,
		BODY_MAYBE_JSON),
	FC_GET("/balloon/hinting/status", balloon_hinting_get),
	FC("PATCH", "/balloon/hinting/stop", balloon_hinting_stop,
		BODY_MAYBE_JSON),
	FC_GET("/hotplug/memory", memory_hotplug_get),
	FC("PUT", "/hotplug/memory", memory_hotplug_put, BODY_JSON),
	FC("PATCH", "/hotplug/memory", memory_hotplug_patch, BODY_JSON),
	FC_GET("/mmds", mmds_get),
	FC("PUT", "/mmds", mmds_put, BODY_RAW),
	FC("PATCH", "/mmds", mmds_patch, BODY_RAW),
	FC("PUT", "/mmds/config", mmds_config_put, BODY_JSON),
	FC("PUT", "/logger", logger_put, BODY_JSON),
	FC("PUT", "/metrics", vm_metrics_put, BODY_JSON),
	FC("PUT", "/actions", actions_put, BODY_JSON),
	FC("PATCH", "/vm", vm_state_patch, BODY_JSON),
	{"GET", VM "/console", console_get, .query = {"follow"}},
	{"PUT", VM "/console", console_put, BODY_RAW, VM_CONSOLE_INPUT_MAX},
	{"PATCH", VM "/console", console_patch, BODY_JSON, API_BODY_MAX},
	{"GET", VM "/wait", wait_get, .query = {"timeout_ms"}},
	{"GET", "/", instance_get, .where = AT_PORT},
	{"GET", "/version", firecracker_version_get, .where = AT_PORT},
	{"PUT", "/snapshot/create", snapshot_put, BODY_JSON, API_BODY_MAX,
		.where = AT_PORT},
	{"PUT", "/snapshot/load", snapshot_put, BODY_JSON, API_BODY_MAX,
		.where = AT_PORT},
};

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))

/* Answers are 2xx, 4xx and 5xx. */
static const unsigned classes[] = {2, 4, 5};

#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

/* The process has one API, on one thread. The last: no route. */
static struct histogram times[N_ROUTES + 1][N_CLASSES];

bool route_time_at(unsigned n, struct route_time *ret)
{
	unsigned route = n / N_CLASSES, class = n % N_CLASSES;

	if (route > N_ROUTES)
		return false;
	*ret = (struct route_time){
		.method = route < N_ROUTES ? routes[route].method : "",
		.pattern = route < N_ROUTES ? routes[route].pattern : "",
		.status_class = classes[class],
		.histogram = &times[route][class],
	};
	return true;
}

void route_took(const struct route *route, unsigned status, uint64_t ns)
{
	size_t at = route ? (size_t)(route - routes) : N_ROUTES;

	for (unsigned i = 0; i < N_CLASSES; i++)
		if (status / 100 == classes[i])
			histogram_add(&times[at][i], ns);
}

/* One segment of a path: up to the next slash or the end. */
struct segment {
	const char *s;
	size_t len;
};

static struct segment next_segment(const char **p)
{
	struct segment seg = {*p, strcspn(*p, "/")};

	*p += seg.len;
	if (**p == '/')
		(*p)++;
	return seg;
}

static bool is_parameter(struct segment seg)
{
	return seg.len > 0 && seg.s[0] == '{';
}

static bool segments_equal(struct segment a, struct segment b)
{
	return a.len == b.len && memcmp(a.s, b.s, a.len) == 0;
}

/* Whether the path has the pattern's shape; fills values with its parameters
 * in order. */
static bool match(const char *pattern, const char *path, struct segment *values)
{
	size_t len = strlen(path);

	if (len == 0 || path[0] != '/' || (len > 1 && path[len - 1] == '/'))
		return false;
	pattern++;
	path++;
	while (*pattern && *path) {
		struct segment want = next_segment(&pattern);
		struct segment have = next_segment(&path);

		if (is_parameter(want))
			*values++ = have;
		else if (!segments_equal(want, have))
			return false;
	}
	return !*pattern && !*path;
}

static int take_id(struct segment seg, bool (*allowed)(char c),
	const char *field, const char *words, char *ret, struct error *err)
{
	bool ok = seg.len >= 1 && seg.len <= VM_ID_MAX;

	for (size_t i = 0; ok && i < seg.len; i++)
		ok = allowed(seg.s[i]);
	if (!ok)
		return error_field(err, EINVAL, field,
			"must be 1 to %d characters of %s", VM_ID_MAX, words);
	memcpy(ret, seg.s, seg.len);
	ret[seg.len] = '\0';
	return 0;
}

/* The name of the pattern's parameter behind {id}: of so many bytes at the
 * pointer returned, or NULL. */
static const char *second_parameter(const char *pattern, size_t *ret_len)
{
	const char *p = strstr(pattern, "{id}");

	p = p ? strchr(p + 1, '{') : NULL;
	if (!p)
		return NULL;
	*ret_len = strcspn(p + 1, "}");
	return p + 1;
}

static int take_ids(
	struct request *r, const struct segment *values, struct error *err)
{
	const char *pattern = r->route->pattern, *second;
	char name[32];
	size_t len;

	if (!r->at_port && strstr(pattern, "{id}") &&
		take_id(*values++, is_id_char, "id", "A-Z a-z 0-9 _ -", r->id,
			err) < 0)
		return -err->code;
	second = second_parameter(pattern, &len);
	if (!second)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)len, second);
	return take_id(
		*values, is_word_char, name, "A-Z a-z 0-9 _", r->sub_id, err);
}

const char *route_path(const struct route *route, bool at_port)
{
	bool shorter = at_port && route->where == AT_BOTH;

	return route->pattern + (shorter ? strlen(VM) : 0);
}

/* A VM's own socket leads to what is marked so, and to no other VM: its paths
 * have no place for a name of one. */
static bool is_here(const struct route *route, bool at_port)
{
	return route->where == AT_BOTH || (route->where == AT_PORT) == at_port;
}

int route_find(struct request *r, const char *method, const char *path,
	unsigned *ret_status, char *allow, size_t allow_size, struct error *err)
{
	struct segment values[2] = {{"", 0}, {"", 0}};
	const struct route *found = NULL;
	size_t n = 0;

	allow[0] = '\0';
	for (size_t i = 0; i < N_ROUTES; i++) {
		if (!is_here(&routes[i], r->at_port) ||
			!match(route_path(&routes[i], r->at_port), path,
				values))
			continue;
		if (strcmp(routes[i].method, method) == 0)
			found = &routes[i];
		n += (size_t)snprintf(allow + n, allow_size - n, "%s%s",
			n ? ", " : "", routes[i].method);
	}
	if (n == 0) {
		*ret_status = 404;
		return error_set(err, ENOENT, "no such resource");
	}
	if (!found) {
		*ret_status = 405;
		return error_set(err, EINVAL,
			"this resource does not take this method, but %s",
			allow);
	}
	*ret_status = 400;
	r->route = found;
	return take_ids(r, values, err);
}

void api_print_routes(FILE *out)
{
	for (size_t i = 0; i < N_ROUTES; i++)
		if (is_here(&routes[i], false))
			fprintf(out, "%s %s\n", routes[i].method,
				routes[i].pattern);
}
