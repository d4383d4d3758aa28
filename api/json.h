#pragma once

/* Strict JSON in (json_check.h, and no key twice), plain JSON out. */

#include "base/cleanup.h"
#include "base/error.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void cleanup_json(struct json_object **o)
{
	json_object_put(*o);
}

#define _cleanup_json_ _cleanup_(cleanup_json)

/* NULL, with EINVAL in err, unless text is one whole JSON object. */
struct json_object *json_parse(const char *text, size_t len, struct error *err);
/* The same, of other depth. */
struct json_object *json_parse_deep(
	const char *text, size_t len, unsigned max_depth, struct error *err);

/* Adds members; a failed allocation shows in the missing member only. */
void json_add_string(struct json_object *o, const char *key, const char *s);
void json_add_uint(struct json_object *o, const char *key, uint64_t v);
void json_add_int(struct json_object *o, const char *key, int64_t v);
void json_add_bool(struct json_object *o, const char *key, bool v);
/* Adds an empty object or array and returns it (owned by o). */
struct json_object *json_add_object(struct json_object *o, const char *key);
struct json_object *json_add_array(struct json_object *o, const char *key);
