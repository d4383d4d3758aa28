#include "api/fields.h"
#include "api/resources.h"

/* What fits in a socket's address, with the "_<port>" that is appended for a
 * connection to the host: 107 bytes, 11 of them that. */
#define UDS_PATH_MAX (107 - 11)

static const struct field table[] = {
	{"vsock_id", FIELD_STRING, false, offsetof(struct vm_vsock, vsock_id),
		1, VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	/* 0, 1 and 2 are the hypervisor, the local one and the host; the last
	 * is anybody. */
	{"guest_cid", FIELD_UINT, true, offsetof(struct vm_vsock, guest_cid), 3,
		UINT32_MAX - 1},
	{"uds_path", FIELD_STRING, true, offsetof(struct vm_vsock, uds_path), 1,
		UDS_PATH_MAX},
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
