#pragma once

/* Firecracker's rate limiter object, which many resources have. */

#include "api/backend.h"
#include "api/fields.h"

extern const struct field rate_limiter_table[];

/* A row of a resource's table: a member of this name and of type struct
 * vm_rate_limiter. */
#define RATE_LIMITER(type, member)                                             \
	{                                                                      \
#member, FIELD_OBJECT, .offset = offsetof(type, member),       \
				       .max = sizeof(struct vm_rate_limiter),  \
				       .sub = rate_limiter_table               \
	}

/* What a PATCH changes: the buckets that the object o has under this name. */
void limiter_update_read(struct json_object *o, const char *name,
	const struct vm_rate_limiter *read, struct api_limiter_update *ret);
