#include "api/resources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int change(struct request *r, enum api_section section,
	int (*read)(struct request *r, struct vm_config *c, struct error *err),
	struct error *err)
{
	const struct api_backend *b = r->backend;
	struct vm_config copy;
	struct api_vm vm;

	if (b->ops->get(b->ctx, r->id, &vm, err) < 0)
		return -err->code;
	if (vm_config_copy(&copy, vm.config) < 0)
		return error_set(err, ENOMEM, "out of memory");
	if (read(r, &copy, err) < 0) {
		vm_config_fini(&copy);
		return -err->code;
	}
	return b->ops->configure(b->ctx, r->id, &copy, section, r->sub_id, err);
}

void section_change(struct request *r, enum api_section section,
	int (*read)(struct request *r, struct vm_config *c, struct error *err))
{
	struct error err;
	int result = change(r, section, read, &err);

	request_reply_done(r, result < 0 ? &err : NULL);
}

void section_get(struct request *r, const char *what,
	struct json_object *(*write)(const struct vm_config *c))
{
	const struct api_backend *b = r->backend;
	struct json_object *o = NULL;
	struct api_vm vm;
	struct error err;

	if (b->ops->get(b->ctx, r->id, &vm, &err) == 0) {
		o = write(vm.config);
		error_set(&err, ENOENT, "the VM has no %s", what);
	}
	if (o)
		request_reply_json(r, 200, o);
	else
		request_reply_error(r, &err);
}

int section_read_list(struct json_object *o, const char *name,
	const char *id_field, section_read_one *one, struct vm_config *c,
	const unsigned *n, struct error *err)
{
	if (!json_object_is_type(o, json_type_array))
		return error_field(err, EINVAL, name, "must be an array");
	for (size_t i = 0; i < json_object_array_length(o); i++) {
		unsigned before = *n;
		char prefix[40];

		snprintf(prefix, sizeof(prefix), "%s[%zu]", name, i);
		if (one(json_object_array_get_idx(o, i), prefix, NULL, c, err) <
			0)
			return -err->code;
		if (*n == before)
			return error_field(err, EINVAL, id_field,
				"two of the document have the same id");
	}
	return 0;
}

int section_match_id(const char *field, const char *in_body,
	const char *in_path, struct error *err)
{
	if (in_path && strcmp(in_body, in_path) != 0)
		return error_field(err, EINVAL, field,
			"must equal the id in the path, \"%s\"", in_path);
	return 0;
}

void update_run(struct request *r,
	int (*read)(struct request *r, struct api_update *u, struct error *err))
{
	const struct api_backend *b = r->backend;
	struct api_update u = {0};
	struct error err;

	memcpy(u.sub_id, r->sub_id, sizeof(u.sub_id));
	if (read(r, &u, &err) < 0) {
		free(u.path_on_host);
		request_reply_error(r, &err);
		return;
	}
	request_finish(r, b->ops->update(b->ctx, r->id, &u, &r->op, &err), &err,
		false, request_reply_done);
}
