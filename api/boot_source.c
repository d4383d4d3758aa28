#include "api/fields.h"
#include "api/resources.h"

#include <limits.h>

static const struct field table[] = {
	{"kernel_image_path", FIELD_STRING, true,
		offsetof(struct vm_boot_source, kernel_image_path), 1,
		PATH_MAX - 1},
	{"initrd_path", FIELD_STRING, false,
		offsetof(struct vm_boot_source, initrd_path), 1, PATH_MAX - 1},
	{"boot_args", FIELD_STRING, false,
		offsetof(struct vm_boot_source, boot_args), 0,
		VM_CMDLINE_MAX - 1, NULL, is_cmdline_char, "printable ASCII"},
	{NULL},
};

int boot_source_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	vm_boot_source_fini(&c->boot_source);
	return fields_read(
		table, o, "boot-source", false, &c->boot_source, err);
}

struct json_object *boot_source_write(const struct vm_config *c)
{
	return c->boot_source.kernel_image_path
		       ? fields_write(table, &c->boot_source)
		       : NULL;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return boot_source_read(r->json, c, err);
}

void boot_source_put(struct request *r)
{
	section_change(r, API_SECTION_BOOT_SOURCE, read_body);
}
