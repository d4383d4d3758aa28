#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* "PATH", or an object with more to say. */

#define DEFAULT_MODE 0600

struct plain {
	char *path, *mode;
	uint32_t uid, gid;
};

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

static const struct field table[] = {
	{"path", FIELD_STRING, true, offsetof(struct plain, path), 1,
		PATH_MAX - 1},
	{"mode", FIELD_STRING, false, offsetof(struct plain, mode), 3, 4, NULL,
		is_octal, "0-7"},
	/* The last one means "leave it" to the kernel. */
	{"uid", FIELD_UINT, false, offsetof(struct plain, uid), 0,
		UINT32_MAX - 1},
	{"gid", FIELD_UINT, false, offsetof(struct plain, gid), 0,
		UINT32_MAX - 1},
	{NULL},
};

static int read_mode(const char *s, uint32_t *ret, struct error *err)
{
	uint32_t mode = 0;

	for (; *s; s++)
		mode = mode * 8 + (uint32_t)(*s - '0');
	if (mode > 0777)
		return error_field(err, EINVAL, "api_socket.mode",
			"must be permissions in octal, at most \"0777\"");
	*ret = mode;
	return 0;
}

/* "PATH" stands for {"path": "PATH"}. */
static int read_plain(struct json_object *v, struct plain *p, struct error *err)
{
	_cleanup_json_ struct json_object *o = NULL;

	if (json_object_is_type(v, json_type_string)) {
		o = json_object_new_object();
		json_object_object_add(o, "path", json_object_get(v));
		v = o;
	}
	return fields_read(table, v, "api_socket", false, p, err);
}

int api_socket_read(
	struct json_object *v, struct vm_config *c, struct error *err)
{
	struct vm_api_socket *a = &c->api_socket;
	struct plain p = {.uid = c->host.uid, .gid = c->host.gid};
	int r;

	vm_api_socket_fini(a);
	r = read_plain(v, &p, err);
	*a = (struct vm_api_socket){p.path, DEFAULT_MODE, p.uid, p.gid};
	if (r == 0 && p.mode)
		r = read_mode(p.mode, &a->mode, err);
	free(p.mode);
	return r;
}

struct json_object *api_socket_write(const struct vm_config *c)
{
	const struct vm_api_socket *a = &c->api_socket;
	char mode[8];
	struct plain p = {a->path, mode, a->uid, a->gid};

	snprintf(mode, sizeof(mode), "%04o", a->mode);
	return a->path ? fields_write(table, &p) : NULL;
}
