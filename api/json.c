#include "api/json.h"

#include "api/json_check.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void free_tokener(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

/* The end of the string that starts with the quote at p: behind its closing
 * quote. The text is known to be well-formed. */
static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

/* Recursion is bounded by the depth json_check() allows. */
static size_t count_members(struct json_object *o)
{
	size_t n = 0;

	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, value)
		{
			(void)key;
			n += 1 + count_members(value);
		}
	} else if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			n += count_members(json_object_array_get_idx(o, i));
	}
	return n;
}

/*
 * json-c keeps the last of several members with one key. Its tree then has
 * fewer members than the text; finding which is left for this rare case: the
 * keys of each object are tried one by one.
 */
static int find_duplicate(const char **p, struct error *err)
{
	_cleanup_json_ struct json_object *seen = json_object_new_object();
	bool object = **p == '{';

	for ((*p)++; **p != '}' && **p != ']';) {
		if (**p == '{' || **p == '[') {
			if (find_duplicate(p, err) < 0)
				return -EINVAL;
		} else if (**p == '"') {
			const char *start = *p, *after;
			_cleanup_json_ struct json_object *key = NULL;
			_cleanup_(free_tokener) struct json_tokener *t =
				json_tokener_new();
			char name[40];

			*p = skip_string(*p);
			after = *p + strspn(*p, " \t\r\n");
			if (!object || *after != ':' || !t || !seen)
				continue;
			key = json_tokener_parse_ex(
				t, start, (int)(*p - start));
			if (!key)
				continue;
			if (json_object_object_get_ex(
				    seen, json_object_get_string(key), NULL))
				return error_field(err, EINVAL,
					text_printable(name, sizeof(name),
						json_object_get_string(key)),
					"appears twice");
			json_object_object_add(
				seen, json_object_get_string(key), NULL);
		} else {
			(*p)++;
		}
	}
	(*p)++;
	return 0;
}

struct json_object *json_parse_deep(
	const char *text, size_t len, unsigned max_depth, struct error *err)
{
	_cleanup_(free_tokener) struct json_tokener *t =
		json_tokener_new_ex((int)max_depth + 1);
	_cleanup_json_ struct json_object *o = NULL;
	const char *p = text;
	size_t members;

	if (json_check(text, len, max_depth, &members, err) < 0)
		return NULL;
	while (strchr(" \t\r\n", *p))
		p++;
	if (*p != '{') {
		error_set(err, EINVAL, "the body must be a JSON object");
		return NULL;
	}
	if (t && len < INT_MAX)
		o = json_tokener_parse_ex(t, text, (int)len);
	if (!o) {
		error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	if (count_members(o) != members) {
		if (find_duplicate(&p, err) == 0)
			error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	return take_ptr(&o);
}

struct json_object *json_parse(const char *text, size_t len, struct error *err)
{
	return json_parse_deep(text, len, JSON_DEPTH_MAX, err);
}

void json_add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

void json_add_uint(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

void json_add_int(struct json_object *o, const char *key, int64_t v)
{
	json_object_object_add(o, key, json_object_new_int64(v));
}

void json_add_bool(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

struct json_object *json_add_object(struct json_object *o, const char *key)
{
	struct json_object *child = json_object_new_object();

	json_object_object_add(o, key, child);
	return child;
}

struct json_object *json_add_array(struct json_object *o, const char *key)
{
	struct json_object *child = json_object_new_array();

	json_object_object_add(o, key, child);
	return child;
}
