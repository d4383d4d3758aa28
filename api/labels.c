#include "api/fields.h"
#include "api/resources.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LABEL_KEY_MAX 63 /* bytes */
#define LABEL_VALUE_MAX 255

static bool is_key(const char *s)
{
	size_t len = strlen(s);

	for (const char *p = s; *p; p++)
		if (!is_id_char(*p) && *p != '.' && *p != '/')
			return false;
	return len >= 1 && len <= LABEL_KEY_MAX;
}

int labels_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	if (!json_object_is_type(o, json_type_object))
		return error_field(err, EINVAL, "labels", "must be an object");
	json_object_object_foreach(o, key, value)
	{
		char name[ERROR_FIELD_MAX], printable[40];

		text_printable(printable, sizeof(printable), key);
		snprintf(name, sizeof(name), "labels.%s", printable);
		if (!is_key(key))
			return error_field(err, EINVAL, name,
				"a label's key must be 1 to %d characters of "
				"A-Z a-z 0-9 _ - . /",
				LABEL_KEY_MAX);
		if (!json_object_is_type(value, json_type_string) ||
			json_object_get_string_len(value) > LABEL_VALUE_MAX)
			return error_field(err, EINVAL, name,
				"must be a string of at most %d bytes",
				LABEL_VALUE_MAX);
		if (c->n_labels == VM_MAX_LABELS)
			return error_field(err, EINVAL, "labels",
				"a VM has at most %d labels", VM_MAX_LABELS);
		if (vm_config_add_label(c, strdup(key),
			    strdup(json_object_get_string(value))) < 0)
			return error_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

int labels_filter_check(const char *filter, struct error *err)
{
	if (!filter[0] || filter[0] == '=')
		return error_field(
			err, EINVAL, "label", "must be KEY or KEY=VALUE");
	return 0;
}

bool labels_match(
	const struct vm_label *labels, unsigned n_labels, const char *filter)
{
	size_t n = strcspn(filter, "=");

	for (unsigned i = 0; i < n_labels; i++) {
		const struct vm_label *l = &labels[i];

		if (strlen(l->key) == n && memcmp(l->key, filter, n) == 0 &&
			(!filter[n] || strcmp(l->value, filter + n + 1) == 0))
			return true;
	}
	return false;
}

struct json_object *labels_write(const struct vm_config *c)
{
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; o && i < c->n_labels; i++)
		json_add_string(o, c->labels[i].key, c->labels[i].value);
	return o;
}
