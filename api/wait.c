#include "api/resources.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT_MAX_MS 86400000ull /* a day */

/* Decimal digits only: no sign, no space, no 0x. */
static int parse_timeout(const char *s, uint64_t *ret_ns, struct error *err)
{
	uint64_t ms = 0;
	size_t len = strlen(s);

	for (const char *p = s; *p && len <= 8; p++) {
		if (*p < '0' || *p > '9')
			len = 0;
		ms = ms * 10 + (uint64_t)(*p - '0');
	}
	if (len == 0 || len > 8 || ms > TIMEOUT_MAX_MS)
		return error_field(err, EINVAL, "timeout_ms",
			"must be an integer from 0 to %llu", TIMEOUT_MAX_MS);
	*ret_ns = ms * 1000000u;
	return 0;
}

static void exited(struct request *r, const struct error *failure)
{
	const struct api_backend *b = r->backend;
	struct json_object *o;
	struct api_vm vm;
	struct error err;

	if (failure && failure->code != ETIMEDOUT) {
		request_reply_error(r, failure);
		return;
	}
	if (b->ops->get(b->ctx, r->id, &vm, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = json_object_new_object();
	json_add_string(o, "id", vm.id);
	json_add_string(o, "state", vm.state);
	json_add_bool(o, "timed_out", failure != NULL);
	if (vm.exit_reason)
		json_object_object_add(o, "exit", exit_write(&vm));
	request_reply_json(r, 200, o);
}

void wait_get(struct request *r)
{
	const struct api_backend *b = r->backend;
	uint64_t timeout_ns = UINT64_MAX;
	struct error err;

	if (r->query[0] && parse_timeout(r->query[0], &timeout_ns, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	request_finish(r, b->ops->wait(b->ctx, r->id, timeout_ns, &r->op, &err),
		&err, true, exited);
}
