#include "api/fields.h"
#include "api/resources.h"

static const struct field table[] = {
	{"vsock_id", FIELD_STRING, false, offsetof(struct vm_vsock, vsock_id),
		1, VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	/* 0, 1 and 2 are the hypervisor, the local one and the host; the last
	 * is anybody. */
	{"guest_cid", FIELD_UINT, true, offsetof(struct vm_vsock, guest_cid), 3,
		UINT32_MAX - 1},
	{"uds_path", FIELD_STRING, true, offsetof(struct vm_vsock, uds_path), 1,
		VM_UDS_PATH_MAX},
	{NULL},
};

int vsock_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	vm_vsock_fini(&c->vsock);
	return fields_read(table, o, "vsock", false, &c->vsock, err);
}

struct json_object *vsock_write(const struct vm_config *c)
{
	return c->vsock.uds_path ? fields_write(table, &c->vsock) : NULL;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return vsock_read(r->json, c, err);
}

void vsock_put(struct request *r)
{
	section_change(r, API_SECTION_VSOCK, read_body);
}
