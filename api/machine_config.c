#include "api/fields.h"
#include "api/resources.h"

static const char *const only_none[] = {"None", NULL};

/* In the order of enum vm_huge_pages and enum vm_console_type. */
static const char *const huge_pages[] = {"None", "2M", NULL};
static const char *const consoles[] = {"serial", "virtio", NULL};

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
		only_none},
	{"console", FIELD_CHOICE, false,
		offsetof(struct vm_machine_config, console), 0, 0, consoles},
	{NULL},
};

int machine_config_read(struct json_object *o, bool partial,
	struct vm_config *c, struct error *err)
{
	if (!partial)
		c->machine_config = (struct vm_machine_config){0};
	return fields_read(
		table, o, "machine-config", partial, &c->machine_config, err);
}

struct json_object *machine_config_write(const struct vm_config *c)
{
	return fields_write(table, &c->machine_config);
}

void machine_config_get(struct request *r)
{
	section_get(r, machine_config_write);
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
