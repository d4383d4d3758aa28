#include "api/fields.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '_';
}

bool is_id_char(char c)
{
	return is_word_char(c) || c == '-';
}

bool is_cmdline_char(char c)
{
	return c >= 0x20 && c < 0x7f;
}

bool is_file_char(char c)
{
	return is_cmdline_char(c) && c != '/';
}

static const struct field *find_field(
	const struct field *table, const char *name)
{
	for (; table->name; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

static const char *full_name(
	char *buf, size_t size, const char *prefix, const char *name)
{
	char printable[40];

	text_printable(printable, sizeof(printable), name);
	snprintf(buf, size, "%s%s%s", prefix, prefix[0] ? "." : "", printable);
	return buf;
}

static int read_string(const struct field *f, struct json_object *v,
	const char *name, char **ret, struct error *err)
{
	const char *s = json_object_get_string(v);
	size_t len = (size_t)json_object_get_string_len(v);
	char *copy;

	if (!json_object_is_type(v, json_type_string))
		return error_field(err, EINVAL, name, "must be a string");
	if (len < f->min || len > f->max)
		return error_field(err, EINVAL, name,
			"must be %llu to %llu bytes long",
			(unsigned long long)f->min, (unsigned long long)f->max);
	for (size_t i = 0; f->allowed && i < len; i++)
		if (!f->allowed(s[i]))
			return error_field(err, EINVAL, name,
				"may only hold %s", f->allowed_words);
	copy = strdup(s);
	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	free(*ret);
	*ret = copy;
	return 0;
}

static int read_uint(const struct field *f, struct json_object *v,
	const char *name, void *member, struct error *err)
{
	/* Beyond what 64 bits hold, json-c gives their least or largest value:
	 * out of any field's range as well. A negative number is 0 as an
	 * unsigned one. */
	uint64_t n = json_object_get_uint64(v);

	if (!json_object_is_type(v, json_type_int))
		return error_field(err, EINVAL, name,
			"must be an integer from %llu to %llu",
			(unsigned long long)f->min, (unsigned long long)f->max);
	if (json_object_get_int64(v) < 0 || n < f->min || n > f->max)
		return error_field(err, EINVAL, name,
			"must be between %llu and %llu",
			(unsigned long long)f->min, (unsigned long long)f->max);
	if (f->kind == FIELD_UINT64)
		*(uint64_t *)member = n;
	else
		*(uint32_t *)member = (uint32_t)n;
	return 0;
}

static int read_bool(const struct field *f, struct json_object *v,
	const char *name, bool *ret, struct error *err)
{
	if (!json_object_is_type(v, json_type_boolean))
		return error_field(err, EINVAL, name, "must be true or false");
	if (f->kind == FIELD_FALSE && json_object_get_boolean(v))
		return error_field(err, EINVAL, name, "is not supported yet");
	*ret = json_object_get_boolean(v);
	return 0;
}

static bool same_choice(const struct field *f, const char *a, const char *b)
{
	return f->kind == FIELD_CHOICE ? strcmp(a, b) == 0
				       : strcasecmp(a, b) == 0;
}

static int read_choice(const struct field *f, struct json_object *v,
	const char *name, uint32_t *ret, struct error *err)
{
	const char *s = json_object_get_string(v);
	char list[128] = "";

	for (uint32_t i = 0; f->choices[i]; i++) {
		size_t n = strlen(list);

		if (json_object_is_type(v, json_type_string) &&
			same_choice(f, f->choices[i], s)) {
			*ret = i;
			return 0;
		}
		snprintf(list + n, sizeof(list) - n, "%s\"%s\"",
			i ? " or " : "", f->choices[i]);
	}
	return error_field(err, EINVAL, name, "must be %s", list);
}

static bool is_empty(struct json_object *v)
{
	return (json_object_is_type(v, json_type_array) &&
		       json_object_array_length(v) == 0) ||
	       (json_object_is_type(v, json_type_object) &&
		       json_object_object_length(v) == 0);
}

static int read_object(const struct field *f, struct json_object *v,
	const char *name, void *member, struct error *err)
{
	memset(member, 0, f->max);
	return fields_read(f->sub, v, name, false, member, err);
}

static int read_member(const struct field *f, struct json_object *v,
	const char *name, void *member, struct error *err)
{
	switch (f->kind) {
	case FIELD_STRING:
		return read_string(f, v, name, member, err);
	case FIELD_UINT:
	case FIELD_UINT64:
		return read_uint(f, v, name, member, err);
	case FIELD_OBJECT:
		return read_object(f, v, name, member, err);
	case FIELD_BOOL:
	case FIELD_FALSE:
		return read_bool(f, v, name, member, err);
	case FIELD_CHOICE:
	case FIELD_CHOICE_ANY_CASE:
		return read_choice(f, v, name, member, err);
	case FIELD_UNSUPPORTED:
		if (is_empty(v))
			return 0;
		return error_field(err, EINVAL, name, "is not supported yet");
	case FIELD_ELSEWHERE:
		break;
	}
	return 0;
}

static int read_field(const struct field *f, struct json_object *v,
	const char *name, void *base, struct error *err)
{
	void *member = (char *)base + f->offset;
	int r = read_member(f, v, name, member, err);

	return r == 0 && f->check ? f->check(member, name, err) : r;
}

int fields_read(const struct field *table, struct json_object *obj,
	const char *prefix, bool partial, void *base, struct error *err)
{
	char name[ERROR_FIELD_MAX];
	unsigned given = 0;

	if (!json_object_is_type(obj, json_type_object))
		return error_field(err, EINVAL, prefix, "must be an object");
	json_object_object_foreach(obj, key, value)
	{
		const struct field *f = find_field(table, key);

		full_name(name, sizeof(name), prefix, key);
		if (!f)
			return error_field(
				err, EINVAL, name, "is not a known field");
		if (!value)
			continue;
		given++;
		if (read_field(f, value, name, base, err) < 0)
			return -err->code;
	}
	if (partial && given == 0)
		return error_field(err, EINVAL, prefix,
			"nothing to change: give at least one field");
	for (const struct field *f = table; f->name && !partial; f++) {
		struct json_object *v = NULL;

		json_object_object_get_ex(obj, f->name, &v);
		if (f->required && !v)
			return error_field(err, EINVAL,
				full_name(name, sizeof(name), prefix, f->name),
				"is missing");
	}
	return 0;
}

static bool all_zero(const void *p, size_t n)
{
	const unsigned char *bytes = p;

	while (n > 0 && bytes[n - 1] == 0)
		n--;
	return n == 0;
}

static void write_uint(struct json_object *o, const struct field *f, uint64_t n)
{
	if (n > 0 || f->min == 0)
		json_add_uint(o, f->name, n);
}

static void write_field(
	struct json_object *o, const struct field *f, const void *member)
{
	switch (f->kind) {
	case FIELD_STRING:
		if (*(char *const *)member)
			json_add_string(o, f->name, *(char *const *)member);
		break;
	case FIELD_UINT:
		write_uint(o, f, *(const uint32_t *)member);
		break;
	case FIELD_UINT64:
		write_uint(o, f, *(const uint64_t *)member);
		break;
	case FIELD_BOOL:
	case FIELD_FALSE:
		json_add_bool(o, f->name, *(const bool *)member);
		break;
	case FIELD_CHOICE:
	case FIELD_CHOICE_ANY_CASE:
		json_add_string(
			o, f->name, f->choices[*(const uint32_t *)member]);
		break;
	case FIELD_OBJECT:
		if (!all_zero(member, f->max))
			json_object_object_add(
				o, f->name, fields_write(f->sub, member));
		break;
	case FIELD_UNSUPPORTED:
	case FIELD_ELSEWHERE:
		break;
	}
}

struct json_object *fields_write(const struct field *table, const void *base)
{
	struct json_object *o = json_object_new_object();

	for (; o && table->name; table++)
		write_field(o, table, (const char *)base + table->offset);
	return o;
}
