#include "api/resources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_MAX 1000u

/* What of the VMs a request wants to see, and what it has got. */
struct page {
	const char *label, *state; /* NULL: any */
	uint64_t after, limit;
	struct json_object *vms;
	uint64_t n, last; /* of them: how many, and its number */
	bool more;
};

/* Decimal digits only, of which none is lost. */
static bool read_number(const char *s, uint64_t *ret)
{
	size_t len = strspn(s, "0123456789");

	if (len == 0 || len > 19 || s[len])
		return false;
	*ret = strtoull(s, NULL, 10);
	return true;
}

static int read_state(const char *s, struct error *err)
{
	static const char *const states[] = {
		"Not started", "Running", "Paused", "Exited"};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(states[i], s) == 0)
			return 0;
	return error_field(err, EINVAL, "state",
		"must be Not started, Running, Paused or Exited");
}

/* Parameters in the order of the route's. */
static int read_page(
	const struct request *r, struct page *ret, struct error *err)
{
	*ret = (struct page){.limit = UINT64_MAX,
		.label = r->query[2],
		.state = r->query[3]};
	if (r->query[0] && (!read_number(r->query[0], &ret->limit) ||
				   ret->limit < 1 || ret->limit > LIMIT_MAX))
		return error_field(err, EINVAL, "limit",
			"must be an integer from 1 to %u", LIMIT_MAX);
	if (r->query[1] && !read_number(r->query[1], &ret->after))
		return error_field(err, EINVAL, "after",
			"must be what \"next\" was in the page before");
	if (ret->label && labels_filter_check(ret->label, err) < 0)
		return -err->code;
	return ret->state ? read_state(ret->state, err) : 0;
}

static bool add_summary(void *arg, const struct api_vm *vm)
{
	struct page *p = arg;

	if ((p->label && !labels_match(vm->config->labels, vm->config->n_labels,
				 p->label)) ||
		(p->state && strcmp(vm->state, p->state) != 0))
		return true;
	if (p->n == p->limit) {
		p->more = true;
		return false;
	}
	json_object_array_add(p->vms, vm_summary_write(vm));
	p->n++;
	p->last = vm->number;
	return true;
}

void vms_list(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct json_object *o;
	struct error err;
	struct page p;
	char next[24];

	if (read_page(r, &p, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = json_object_new_object();
	p.vms = json_add_array(o, "vms");
	b->ops->list(b->ctx, p.after, add_summary, &p);
	if (p.more) {
		snprintf(
			next, sizeof(next), "%llu", (unsigned long long)p.last);
		json_add_string(o, "next", next);
	}
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

void vms_delete(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct error err;

	request_finish(r, b->ops->remove(b->ctx, r->id, &r->op, &err), &err,
		false, request_reply_done);
}
