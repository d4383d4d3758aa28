#include "api/rate_limiter.h"
#include "api/resources.h"

#include <limits.h>

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
	RATE_LIMITER(struct vm_drive, rate_limiter),
	{"socket", FIELD_UNSUPPORTED},
	{NULL},
};

struct patch {
	char *drive_id, *path_on_host;
	struct vm_rate_limiter rate_limiter;
};

static const struct field patch_table[] = {
	{"drive_id", FIELD_STRING, true, offsetof(struct patch, drive_id), 1,
		VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	{"path_on_host", FIELD_STRING, false,
		offsetof(struct patch, path_on_host), 1, PATH_MAX - 1},
	RATE_LIMITER(struct patch, rate_limiter),
	{NULL},
};

int drive_read(struct json_object *o, const char *prefix, const char *drive_id,
	struct vm_config *c, struct error *err)
{
	struct vm_drive d = {NULL};

	if (fields_read(table, o, prefix, false, &d, err) < 0 ||
		section_match_id("drives.drive_id", d.drive_id, drive_id, err) <
			0) {
		vm_drive_fini(&d);
		return -err->code;
	}
	return vm_config_put_drive(c, &d, err);
}

int drives_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	return section_read_list(o, "drives", "drives.drive_id", drive_read, c,
		&c->n_drives, err);
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
	return drive_read(r->json, "drives", r->sub_id, c, err);
}

void drive_put(struct request *r)
{
	section_change(r, API_SECTION_DRIVE, read_body);
}

static int read_patch(
	struct request *r, struct api_update *u, struct error *err)
{
	_cleanup_free_ char *drive_id = NULL;
	struct patch p = {NULL};
	int e;

	u->kind = API_UPDATE_DRIVE;
	e = fields_read(patch_table, r->json, "drives", false, &p, err);
	drive_id = p.drive_id;
	u->path_on_host = p.path_on_host;
	if (e == 0)
		e = section_match_id(
			"drives.drive_id", drive_id, r->sub_id, err);
	limiter_update_read(
		r->json, "rate_limiter", &p.rate_limiter, &u->limiter[0]);
	return e;
}

void drive_patch(struct request *r)
{
	update_run(r, read_patch);
}
