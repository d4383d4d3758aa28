#include "api/fields.h"
#include "api/resources.h"

/* A configuration as one document: Firecracker's configuration file, and our
 * members (vms.c has "labels" to show among what sums a VM up). */

struct document {
	bool start;
};

static const struct field table[] = {
	{"boot-source", FIELD_ELSEWHERE},
	{"machine-config", FIELD_ELSEWHERE},
	{"cpu-config", FIELD_ELSEWHERE},
	{"drives", FIELD_ELSEWHERE},
	{"network-interfaces", FIELD_ELSEWHERE},
	{"vsock", FIELD_ELSEWHERE},
	{"entropy", FIELD_ELSEWHERE},
	{"balloon", FIELD_ELSEWHERE},
	{"memory-hotplug", FIELD_ELSEWHERE},
	{"pmem", FIELD_ELSEWHERE},
	{"serial", FIELD_ELSEWHERE},
	{"mmds-config", FIELD_ELSEWHERE},
	{"logger", FIELD_ELSEWHERE},
	{"metrics", FIELD_ELSEWHERE},
	{"host", FIELD_ELSEWHERE},
	{"api_socket", FIELD_ELSEWHERE},
	{"labels", FIELD_ELSEWHERE},
	{"start", FIELD_BOOL, false, offsetof(struct document, start)},
	{NULL},
};

static int read_machine_config(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return machine_config_read(o, false, c, err);
}

/* write() returns NULL for what is not configured. In the order in which they
 * are read: interfaces want to know their host. */
static const struct {
	const char *name;
	int (*read)(
		struct json_object *o, struct vm_config *c, struct error *err);
	struct json_object *(*write)(const struct vm_config *c);
	bool ours; /* Firecracker does not have it */
} sections[] = {
	{"host", vm_host_read, vm_host_write, true},
	{"api_socket", api_socket_read, api_socket_write, true},
	{"boot-source", boot_source_read, boot_source_write},
	{"machine-config", read_machine_config, machine_config_write},
	{"cpu-config", cpu_config_read, cpu_config_write},
	{"drives", drives_read, drives_write},
	{"network-interfaces", network_interfaces_read,
		network_interfaces_write},
	{"vsock", vsock_read, vsock_write},
	{"entropy", entropy_read, entropy_write},
	{"balloon", balloon_read, balloon_write},
	{"memory-hotplug", memory_hotplug_read, memory_hotplug_write},
	{"pmem", pmems_read, pmems_write},
	{"serial", serial_read, serial_write},
	{"mmds-config", mmds_config_read, mmds_config_write},
	{"logger", logger_read, logger_write},
	{"metrics", vm_metrics_read, vm_metrics_write},
};

#define N_SECTIONS (sizeof(sections) / sizeof(sections[0]))

int document_read(struct json_object *o, struct vm_config *c, bool *ret_start,
	struct error *err)
{
	struct document doc = {false};
	struct json_object *v;

	if (fields_read(table, o, "", false, &doc, err) < 0)
		return -err->code;
	for (size_t i = 0; i < N_SECTIONS; i++)
		if (json_object_object_get_ex(o, sections[i].name, &v) && v &&
			sections[i].read(v, c, err) < 0)
			return -err->code;
	if (json_object_object_get_ex(o, "labels", &v) && v &&
		labels_read(v, c, err) < 0)
		return -err->code;
	*ret_start = doc.start;
	return 0;
}

static void write_sections(
	struct json_object *o, const struct vm_config *c, bool ours_too)
{
	for (size_t i = 0; i < N_SECTIONS; i++) {
		struct json_object *v = NULL;

		if (ours_too || !sections[i].ours)
			v = sections[i].write(c);

		if (v)
			json_object_object_add(o, sections[i].name, v);
	}
}

void document_write(struct json_object *o, const struct vm_config *c)
{
	write_sections(o, c, true);
}

static struct json_object *write_plain(const struct vm_config *c)
{
	struct json_object *o = json_object_new_object();

	write_sections(o, c, false);
	return o;
}

void vm_config_get(struct request *r)
{
	section_get(r, "configuration", write_plain);
}
