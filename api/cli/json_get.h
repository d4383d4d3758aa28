#pragma once

/* Members of the daemon's answers; what is not there is "", 0 or NULL. */

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

static inline struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v;
}

static inline const char *get_string(struct json_object *o, const char *key)
{
	struct json_object *v = get(o, key);

	return v ? json_object_get_string(v) : "";
}

static inline uint64_t get_uint(struct json_object *o, const char *key)
{
	return json_object_get_uint64(get(o, key));
}

/* The sum of a member over an array's elements. */
static inline uint64_t get_sum(
	struct json_object *o, const char *array, const char *key)
{
	struct json_object *a = get(o, array);
	uint64_t sum = 0;

	if (!json_object_is_type(a, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(a); i++)
		sum += get_uint(json_object_array_get_idx(a, i), key);
	return sum;
}
