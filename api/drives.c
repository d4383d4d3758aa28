#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static bool is_uuid_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	       (c >= 'A' && c <= 'F') || c == '-';
}

/* In the order of enum vm_cache_type and enum vm_io_engine. */
static const char *const cache_types[] = {"Unsafe", "Writeback", NULL};
static const char *const io_engines[] = {"Sync", "Async", NULL};

static const struct field table[] = {
	{"drive_id", FIELD_STRING, true, offsetof(struct vm_drive, drive_id), 1,
		VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	{"path_on_host", FIELD_STRING, true,
		offsetof(struct vm_drive, path_on_host), 1, PATH_MAX - 1},
	{"is_root_device", FIELD_BOOL, true,
		offsetof(struct vm_drive, is_root_device)},
	{"is_read_only", FIELD_BOOL, false,
		offsetof(struct vm_drive, is_read_only)},
	{"partuuid", FIELD_STRING, false, offsetof(struct vm_drive, partuuid),
		1, 64, NULL, is_uuid_char, "0-9 a-f A-F -"},
	{"cache_type", FIELD_CHOICE, false,
		offsetof(struct vm_drive, cache_type), 0, 0, cache_types},
	{"io_engine", FIELD_CHOICE, false, offsetof(struct vm_drive, io_engine),
		0, 0, io_engines},
	{"rate_limiter", FIELD_UNSUPPORTED},
	{"socket", FIELD_UNSUPPORTED},
	{NULL},
};

/* prefix: "drives" or, within a document, "drives[3]". */
static int read_one(struct json_object *o, const char *prefix,
	const char *drive_id, struct vm_config *c, struct error *err)
{
	struct vm_drive d = {NULL};

	if (fields_read(table, o, prefix, false, &d, err) < 0) {
		vm_drive_fini(&d);
		return -err->code;
	}
	if (drive_id && strcmp(drive_id, d.drive_id) != 0) {
		vm_drive_fini(&d);
		return error_field(err, EINVAL, "drives.drive_id",
			"must equal the drive's id in the path, \"%s\"",
			drive_id);
	}
	return vm_config_put_drive(c, &d, err);
}

int drive_read(struct json_object *o, const char *drive_id, struct vm_config *c,
	struct error *err)
{
	return read_one(o, "drives", drive_id, c, err);
}

int drives_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	if (!json_object_is_type(o, json_type_array))
		return error_field(err, EINVAL, "drives", "must be an array");
	for (size_t i = 0; i < json_object_array_length(o); i++) {
		unsigned before = c->n_drives;
		char prefix[32];

		snprintf(prefix, sizeof(prefix), "drives[%zu]", i);
		if (read_one(json_object_array_get_idx(o, i), prefix, NULL, c,
			    err) < 0)
			return -err->code;
		if (c->n_drives == before)
			return error_field(err, EINVAL, "drives.drive_id",
				"two drives of the document have the same id");
	}
	return 0;
}

struct json_object *drives_write(const struct vm_config *c)
{
	struct json_object *a = json_object_new_array();

	for (unsigned i = 0; a && i < c->n_drives; i++)
		json_object_array_add(a, fields_write(table, &c->drives[i]));
	return a;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return drive_read(r->json, r->drive_id, c, err);
}

void drive_put(struct request *r)
{
	section_change(r, API_SECTION_DRIVE, read_body);
}
