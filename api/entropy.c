#include "api/rate_limiter.h"
#include "api/resources.h"

static const struct field table[] = {
	RATE_LIMITER(struct vm_entropy, rate_limiter),
	{NULL},
};

int entropy_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	c->entropy = (struct vm_entropy){.there = true};
	return fields_read(table, o, "entropy", false, &c->entropy, err);
}

struct json_object *entropy_write(const struct vm_config *c)
{
	return c->entropy.there ? fields_write(table, &c->entropy) : NULL;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return entropy_read(r->json, c, err);
}

void entropy_put(struct request *r)
{
	section_change(r, API_SECTION_ENTROPY, read_body);
}
