#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <string.h>

/* In the order of enum vm_huge_pages, enum vm_console_type and enum
 * vm_cpu_template. */
static const char *const huge_pages[] = {"None", "2M", NULL};
static const char *const consoles[] = {"serial", "virtio", NULL};
static const char *const cpu_templates[] = {"None", "x86-64-v2", "x86-64-v3",
	"x86-64-v4", "C3", "T2", "T2A", "T2CL", "T2S", NULL};

static const struct field table[] = {
	{"vcpu_count", FIELD_UINT, true,
		offsetof(struct vm_machine_config, vcpu_count), 1,
		VM_MAX_VCPUS},
	/* The upper end is what fits in 64 bits of bytes; the host's memory is
	 * the real one. */
	{"mem_size_mib", FIELD_UINT, true,
		offsetof(struct vm_machine_config, mem_size_mib), 1,
		UINT32_MAX},
	{"smt", FIELD_BOOL, false, offsetof(struct vm_machine_config, smt)},
	{"track_dirty_pages", FIELD_FALSE, false,
		offsetof(struct vm_machine_config, track_dirty_pages)},
	{"huge_pages", FIELD_CHOICE, false,
		offsetof(struct vm_machine_config, huge_pages), 0, 0,
		huge_pages},
	{"cpu_template", FIELD_CHOICE, false,
		offsetof(struct vm_machine_config, cpu_template), 0, 0,
		cpu_templates},
	{"console", FIELD_CHOICE, false,
		offsetof(struct vm_machine_config, console), 0, 0, consoles},
	{NULL},
};

/* Firecracker's template that is none of an x86 host. */
static bool is_v1n1(struct json_object *o)
{
	struct json_object *v;

	return json_object_object_get_ex(o, "cpu_template", &v) &&
	       json_object_is_type(v, json_type_string) &&
	       strcmp(json_object_get_string(v), "V1N1") == 0;
}

int machine_config_read(struct json_object *o, bool partial,
	struct vm_config *c, struct error *err)
{
	if (!partial)
		c->machine_config = (struct vm_machine_config){0};
	if (is_v1n1(o))
		return error_field(err, EINVAL, "machine-config.cpu_template",
			"V1N1 is for Arm hosts; \"x86-64-v3\" makes different "
			"x86 hosts look the same");
	if (fields_read(table, o, "machine-config", partial, &c->machine_config,
		    err) < 0)
		return -err->code;
	/* As in Firecracker, what was put last counts. */
	if (c->machine_config.cpu_template != VM_CPU_TEMPLATE_NONE)
		vm_cpu_config_fini(&c->cpu);
	return 0;
}

struct json_object *machine_config_write(const struct vm_config *c)
{
	return fields_write(table, &c->machine_config);
}

void machine_config_get(struct request *r)
{
	section_get(r, "machine", machine_config_write);
}

static int read_whole(struct request *r, struct vm_config *c, struct error *err)
{
	return machine_config_read(r->json, false, c, err);
}

static int read_part(struct request *r, struct vm_config *c, struct error *err)
{
	return machine_config_read(r->json, true, c, err);
}

void machine_config_put(struct request *r)
{
	section_change(r, API_SECTION_MACHINE_CONFIG, read_whole);
}

void machine_config_patch(struct request *r)
{
	section_change(r, API_SECTION_MACHINE_CONFIG, read_part);
}
