#include "api/resources.h"

#include <errno.h>

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
	return b->ops->configure(
		b->ctx, r->id, &copy, section, r->drive_id, err);
}

void section_change(struct request *r, enum api_section section,
	int (*read)(struct request *r, struct vm_config *c, struct error *err))
{
	struct error err;

	if (change(r, section, read, &err) < 0)
		request_reply_error(r, &err);
	else
		request_reply_empty(r);
}
