#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>

#define BLOCK_MIN_MIB 2
#define SLOT_MIN_MIB 128
/* 16 TiB: what a guest's page tables reach is less than the numbers do. */
#define TOTAL_MAX_MIB (1u << 24)

static int check_power_of_two(void *member, const char *name, struct error *err)
{
	uint32_t n = *(uint32_t *)member;

	if (n & (n - 1))
		return error_field(err, EINVAL, name, "must be a power of two");
	return 0;
}

static const struct field table[] = {
	{"total_size_mib", FIELD_UINT, true,
		offsetof(struct vm_memory_hotplug, total_size_mib),
		SLOT_MIN_MIB, TOTAL_MAX_MIB},
	{"block_size_mib", FIELD_UINT, false,
		offsetof(struct vm_memory_hotplug, block_size_mib),
		BLOCK_MIN_MIB, TOTAL_MAX_MIB, .check = check_power_of_two},
	{"slot_size_mib", FIELD_UINT, false,
		offsetof(struct vm_memory_hotplug, slot_size_mib), SLOT_MIN_MIB,
		TOTAL_MAX_MIB},
	{"requested_size_mib", FIELD_UINT, false,
		offsetof(struct vm_memory_hotplug, requested_size_mib), 0,
		TOTAL_MAX_MIB},
	{NULL},
};

static const struct field patch_table[] = {
	{"requested_size_mib", FIELD_UINT, true,
		offsetof(struct api_update, amount_mib), 0, TOTAL_MAX_MIB},
	{NULL},
};

int memory_hotplug_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	c->memory_hotplug = (struct vm_memory_hotplug){.there = true,
		.block_size_mib = BLOCK_MIN_MIB,
		.slot_size_mib = SLOT_MIN_MIB};
	return fields_read(
		table, o, "memory-hotplug", false, &c->memory_hotplug, err);
}

struct json_object *memory_hotplug_write(const struct vm_config *c)
{
	return c->memory_hotplug.there ? fields_write(table, &c->memory_hotplug)
				       : NULL;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return memory_hotplug_read(r->json, c, err);
}

void memory_hotplug_put(struct request *r)
{
	section_change(r, API_SECTION_MEMORY_HOTPLUG, read_body);
}

static int read_patch(
	struct request *r, struct api_update *u, struct error *err)
{
	u->kind = API_UPDATE_MEMORY;
	return fields_read(
		patch_table, r->json, "memory-hotplug", false, u, err);
}

void memory_hotplug_patch(struct request *r)
{
	update_run(r, read_patch);
}

void memory_hotplug_get(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct api_device_state s;
	struct json_object *o;
	struct api_vm vm;
	struct error err;

	if (b->ops->device_state(b->ctx, r->id, &s, &err) < 0 ||
		b->ops->get(b->ctx, r->id, &vm, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = memory_hotplug_write(vm.config);
	if (!o) {
		error_set(&err, ENOENT, "the VM has no memory to hotplug");
		request_reply_error(r, &err);
		return;
	}
	json_add_uint(o, "plugged_size_mib", s.memory_plugged_bytes >> 20);
	request_reply_json(r, 200, o);
}
