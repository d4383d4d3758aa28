#include "api/firecracker.h"
#include "api/resources.h"

#include <errno.h>

/* What a VM's own socket has beside the VM's resources. */

void instance_get(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct json_object *o;
	struct api_vm vm;
	struct error err;

	if (b->ops->get(b->ctx, r->id, &vm, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = json_object_new_object();
	json_add_string(o, "app_name", "Firecracker");
	json_add_string(o, "id", vm.id);
	json_add_string(o, "state", vm.state);
	json_add_string(o, "vmm_version", FIRECRACKER_VERSION);
	request_reply_json(r, 200, o);
}

void firecracker_version_get(struct request *r)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "firecracker_version", FIRECRACKER_VERSION);
	request_reply_json(r, 200, o);
}

/* Said in words, where "no such resource" would be true as well. */
void snapshot_put(struct request *r)
{
	struct error err;

	error_field(&err, ENOTSUP, "snapshot", "is not supported yet");
	request_reply_error(r, &err);
}
