#include "api/record.h"

#include "api/mmds_data.h"
#include "api/resources.h"

#include <errno.h>
#include <string.h>

#define NUMBER "created"

char *record_write(const struct vm_config *c, bool start, uint64_t number)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	const char *text;

	if (!o)
		return NULL;
	json_add_uint(o, NUMBER, number);
	json_object_object_add(o, "labels", labels_write(c));
	document_write(o, c);
	if (start)
		json_add_bool(o, "start", true);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	return text ? strdup(text) : NULL;
}

/* 0, and a new one, for what no daemon has written: there are more to come
 * after the highest. */
static uint64_t read_number(struct json_object *o)
{
	int64_t n = json_object_is_type(o, json_type_int)
			    ? json_object_get_int64(o)
			    : 0;

	return n > 0 && n < INT64_MAX ? (uint64_t)n : 0;
}

int record_read(
	const char *text, size_t len, struct record *ret, struct error *err)
{
	_cleanup_json_ struct json_object *o = json_parse(text, len, err);
	struct json_object *number;
	int r;

	*ret = (struct record){.start = false};
	vm_config_init(&ret->config);
	if (!o)
		return -err->code;
	/* All but this is the API's. */
	if (json_object_object_get_ex(o, NUMBER, &number))
		ret->number = read_number(number);
	json_object_object_del(o, NUMBER);
	r = document_read(o, &ret->config, &ret->start, err);
	if (r < 0) {
		vm_config_fini(&ret->config);
		vm_config_init(&ret->config);
	}
	return r;
}

int record_read_mmds(const char *text, size_t len, struct api_mmds_data *ret,
	struct error *err)
{
	_cleanup_json_ struct json_object *o = mmds_parse(text, len, err);

	return o ? mmds_compile(o, ret, err) : -err->code;
}
