#include "api/resources.h"

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
	if (document_read(r->json, &config, &start, &err) < 0) {
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
