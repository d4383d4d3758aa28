#include "api/rate_limiter.h"
#include "api/resources.h"

#include <limits.h>

static const struct field table[] = {
	{"id", FIELD_STRING, true, offsetof(struct vm_pmem, id), 1, VM_ID_MAX,
		NULL, is_word_char, "A-Z a-z 0-9 _"},
	{"path_on_host", FIELD_STRING, true,
		offsetof(struct vm_pmem, path_on_host), 1, PATH_MAX - 1},
	{"root_device", FIELD_BOOL, false,
		offsetof(struct vm_pmem, root_device)},
	{"read_only", FIELD_BOOL, false, offsetof(struct vm_pmem, read_only)},
	RATE_LIMITER(struct vm_pmem, rate_limiter),
	{NULL},
};

struct patch {
	char *id;
	struct vm_rate_limiter rate_limiter;
};

static const struct field patch_table[] = {
	{"id", FIELD_STRING, true, offsetof(struct patch, id), 1, VM_ID_MAX,
		NULL, is_word_char, "A-Z a-z 0-9 _"},
	RATE_LIMITER(struct patch, rate_limiter),
	{NULL},
};

int pmem_read(struct json_object *o, const char *prefix, const char *id,
	struct vm_config *c, struct error *err)
{
	struct vm_pmem p = {NULL};

	if (fields_read(table, o, prefix, false, &p, err) < 0 ||
		section_match_id("pmem.id", p.id, id, err) < 0) {
		vm_pmem_fini(&p);
		return -err->code;
	}
	return vm_config_put_pmem(c, &p, err);
}

int pmems_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	return section_read_list(
		o, "pmem", "pmem.id", pmem_read, c, &c->n_pmem, err);
}

struct json_object *pmems_write(const struct vm_config *c)
{
	struct json_object *a = json_object_new_array();

	for (unsigned i = 0; a && i < c->n_pmem; i++)
		json_object_array_add(a, fields_write(table, &c->pmem[i]));
	return a;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return pmem_read(r->json, "pmem", r->sub_id, c, err);
}

void pmem_put(struct request *r)
{
	section_change(r, API_SECTION_PMEM, read_body);
}

static int read_patch(
	struct request *r, struct api_update *u, struct error *err)
{
	_cleanup_free_ char *id = NULL;
	struct patch p = {NULL};
	int e;

	u->kind = API_UPDATE_PMEM;
	e = fields_read(patch_table, r->json, "pmem", false, &p, err);
	id = p.id;
	if (e == 0)
		e = section_match_id("pmem.id", id, r->sub_id, err);
	limiter_update_read(
		r->json, "rate_limiter", &p.rate_limiter, &u->limiter[0]);
	return e;
}

void pmem_patch(struct request *r)
{
	update_run(r, read_patch);
}
