#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>

struct document {
	bool start;
};

/* Firecracker's configuration file, and our two members. */
static const struct field table[] = {
	{"boot-source", FIELD_ELSEWHERE},
	{"machine-config", FIELD_ELSEWHERE},
	{"drives", FIELD_ELSEWHERE},
	{"labels", FIELD_ELSEWHERE},
	{"start", FIELD_BOOL, false, offsetof(struct document, start)},
	{"balloon", FIELD_UNSUPPORTED},
	{"cpu-config", FIELD_UNSUPPORTED},
	{"entropy", FIELD_UNSUPPORTED},
	{"logger", FIELD_UNSUPPORTED},
	{"memory-hotplug", FIELD_UNSUPPORTED},
	{"metrics", FIELD_UNSUPPORTED},
	{"mmds-config", FIELD_UNSUPPORTED},
	{"network-interfaces", FIELD_UNSUPPORTED},
	{"pmem", FIELD_UNSUPPORTED},
	{"serial", FIELD_UNSUPPORTED},
	{"vsock", FIELD_UNSUPPORTED},
	{NULL},
};

int vm_document_read(struct json_object *o, struct vm_config *c,
	bool *ret_start, struct error *err)
{
	struct document doc = {false};
	struct json_object *v;

	if (fields_read(table, o, "", false, &doc, err) < 0)
		return -err->code;
	if (json_object_object_get_ex(o, "boot-source", &v) && v &&
		boot_source_read(v, c, err) < 0)
		return -err->code;
	if (json_object_object_get_ex(o, "machine-config", &v) && v &&
		machine_config_read(v, false, c, err) < 0)
		return -err->code;
	if (json_object_object_get_ex(o, "drives", &v) && v &&
		drives_read(v, c, err) < 0)
		return -err->code;
	if (json_object_object_get_ex(o, "labels", &v) && v &&
		labels_read(v, c, err) < 0)
		return -err->code;
	*ret_start = doc.start;
	return 0;
}

static void add_summary(void *arg, const struct api_vm *vm)
{
	json_object_array_add(arg, vm_summary_write(vm));
}

void vms_list(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct json_object *o = json_object_new_object();

	b->ops->list(b->ctx, add_summary, json_add_array(o, "vms"));
	request_reply_json(r, 200, o);
}

static void reply_vm(struct request *r, unsigned status)
{
	const struct api_backend *b = r->backend;
	struct api_counters counters;
	struct api_vm vm;
	struct error err;
	int has;

	if (b->ops->get(b->ctx, r->id, &vm, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	has = b->ops->counters(b->ctx, r->id, &counters);
	request_reply_json(
		r, status, vm_write(&vm, has == 0 ? &counters : NULL));
}

void vms_get(struct request *r)
{
	reply_vm(r, 200);
}

static void created(struct request *r, const struct error *err)
{
	if (err)
		request_reply_error(r, err);
	else
		reply_vm(r, 201);
}

void vms_put(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct vm_config config;
	struct error err;
	bool start = false;

	vm_config_init(&config);
	if (vm_document_read(r->json, &config, &start, &err) < 0) {
		vm_config_fini(&config);
		request_reply_error(r, &err);
		return;
	}
	request_finish(r,
		b->ops->create(b->ctx, r->id, &config, start, r->received_ns,
			&r->op, &err),
		&err, false, created);
}

static void removed(struct request *r, const struct error *err)
{
	if (err)
		request_reply_error(r, err);
	else
		request_reply_empty(r);
}

void vms_delete(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct error err;

	request_finish(r, b->ops->remove(b->ctx, r->id, &r->op, &err), &err,
		false, removed);
}
