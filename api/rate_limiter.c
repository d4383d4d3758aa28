#include "api/rate_limiter.h"

#include <errno.h>

/* So that it can be told in ns in 64 bits. */
#define REFILL_MAX_MS ((uint64_t)INT64_MAX / 1000000u)

static int check_bucket(void *member, const char *name, struct error *err)
{
	const struct vm_bucket *b = member;

	if ((b->size == 0) != (b->refill_time_ms == 0) ||
		(b->size == 0 && b->one_time_burst))
		return error_field(err, EINVAL, name,
			"size and refill_time must be 1 or more; both 0, "
			"without a burst: no limit");
	return 0;
}

static const struct field bucket_table[] = {
	{"size", FIELD_UINT64, true, offsetof(struct vm_bucket, size), 0,
		INT64_MAX},
	{"one_time_burst", FIELD_UINT64, false,
		offsetof(struct vm_bucket, one_time_burst), 0, INT64_MAX},
	{"refill_time", FIELD_UINT64, true,
		offsetof(struct vm_bucket, refill_time_ms), 0, REFILL_MAX_MS},
	{NULL},
};

const struct field rate_limiter_table[] = {
	{"bandwidth", FIELD_OBJECT, false,
		offsetof(struct vm_rate_limiter, bandwidth), 0,
		sizeof(struct vm_bucket), .check = check_bucket,
		.sub = bucket_table},
	{"ops", FIELD_OBJECT, false, offsetof(struct vm_rate_limiter, ops), 0,
		sizeof(struct vm_bucket), .check = check_bucket,
		.sub = bucket_table},
	{NULL},
};

static bool has(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v;
}

void limiter_update_read(struct json_object *o, const char *name,
	const struct vm_rate_limiter *read, struct api_limiter_update *ret)
{
	struct json_object *limiter = NULL;

	json_object_object_get_ex(o, name, &limiter);
	ret->has_bandwidth = limiter && has(limiter, "bandwidth");
	ret->has_ops = limiter && has(limiter, "ops");
	ret->to = *read;
}
