#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static int check_absolute(void *member, const char *name, struct error *err)
{
	return (*(char **)member)[0] == '/'
		       ? 0
		       : error_field(
				 err, EINVAL, name, "must be an absolute path");
}

static int check_netns(void *member, const char *name, struct error *err)
{
	const char *s = *(char **)member;

	if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return error_field(err, EINVAL, name, "must not be . or ..");
	return 0;
}

static const struct field table[] = {
	{"path_root", FIELD_STRING, false, offsetof(struct vm_host, path_root),
		1, PATH_MAX - 1, .check = check_absolute},
	{"path_base", FIELD_STRING, false, offsetof(struct vm_host, path_base),
		1, PATH_MAX - 1, .check = check_absolute},
	{"netns", FIELD_STRING, false, offsetof(struct vm_host, netns), 1,
		NAME_MAX, NULL, is_file_char, "printable ASCII but /",
		check_netns},
	{"uid", FIELD_UINT, false, offsetof(struct vm_host, uid), 1,
		UINT32_MAX - 1},
	{"gid", FIELD_UINT, false, offsetof(struct vm_host, gid), 1,
		UINT32_MAX - 1},
	{"owner_pid", FIELD_UINT, false, offsetof(struct vm_host, owner_pid), 1,
		INT_MAX},
	{"owner_start_time", FIELD_UINT64, false,
		offsetof(struct vm_host, owner_start_time), 1, UINT64_MAX},
	{NULL},
};

int vm_host_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	vm_host_fini(&c->host);
	return fields_read(table, o, "host", false, &c->host, err);
}

struct json_object *vm_host_write(const struct vm_config *c)
{
	struct json_object *o = fields_write(table, &c->host);

	if (o && json_object_object_length(o) == 0) {
		json_object_put(o);
		o = NULL;
	}
	return o;
}
