#include "api/rate_limiter.h"
#include "api/resources.h"

static const struct field table[] = {
	/* The console's output is read over the API. */
	{"serial_out_path", FIELD_UNSUPPORTED},
	RATE_LIMITER(struct vm_serial, rate_limiter),
	{NULL},
};

int serial_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	c->serial = (struct vm_serial){0};
	return fields_read(table, o, "serial", false, &c->serial, err);
}

/* Every VM has one: only what was configured of it is shown. */
struct json_object *serial_write(const struct vm_config *c)
{
	struct json_object *o = fields_write(table, &c->serial);

	if (o && json_object_object_length(o) == 0) {
		json_object_put(o);
		o = NULL;
	}
	return o;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return serial_read(r->json, c, err);
}

void serial_put(struct request *r)
{
	section_change(r, API_SECTION_SERIAL, read_body);
}

static int read_patch(
	struct request *r, struct api_update *u, struct error *err)
{
	struct vm_serial s = {0};

	u->kind = API_UPDATE_SERIAL;
	if (fields_read(table, r->json, "serial", true, &s, err) < 0)
		return -err->code;
	limiter_update_read(
		r->json, "rate_limiter", &s.rate_limiter, &u->limiter[0]);
	return 0;
}

void serial_patch(struct request *r)
{
	update_run(r, read_patch);
}
