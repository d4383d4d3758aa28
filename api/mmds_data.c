#include "api/mmds_data.h"

#include "net/mmds_image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(VM_MMDS_MAX <= MMDS_VALUE_MAX, "all of it may be one value");

/* ---- in ---- */

/* Behind the string at p. The text is known to be JSON. */
static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

/* json-c keeps a fraction's text, but makes the nearest 64 bits of an integer.
 * What follows the last number is the object's end. */
static int check_integer(const char *number, size_t len)
{
	errno = 0;
	if (memchr(number, '.', len) || memchr(number, 'e', len) ||
		memchr(number, 'E', len))
		return 0;
	if (*number == '-')
		(void)strtoll(number, NULL, 10);
	else
		(void)strtoull(number, NULL, 10);
	return -errno;
}

static int check_numbers(const char *text, size_t len, struct error *err)
{
	const char *p = text, *end = text + len;

	while (p < end) {
		size_t n = 0;

		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		if (*p == '-' || (*p >= '0' && *p <= '9'))
			n = strspn(p, "-+.0123456789eE");
		if (n && check_integer(p, n) < 0)
			return error_set(err, EINVAL,
				"the integer at byte %zu does not fit in 64 "
				"bits",
				(size_t)(p - text));
		p += n ? n : 1;
	}
	return 0;
}

struct json_object *mmds_parse(const char *text, size_t len, struct error *err)
{
	struct json_object *o = json_parse_deep(text, len, MMDS_MAX_DEPTH, err);

	if (o && check_numbers(text, len, err) < 0) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

/* Recursion is bounded by the depth of a text. */
struct json_object *mmds_merge(
	struct json_object *target, struct json_object *patch)
{
	struct json_object *o;

	if (!json_object_is_type(patch, json_type_object))
		return json_object_get(patch);
	o = json_object_is_type(target, json_type_object)
		    ? json_object_get(target)
		    : json_object_new_object();
	if (!o)
		return NULL;
	json_object_object_foreach(patch, key, value)
	{
		struct json_object *old = NULL;

		if (!value) {
			json_object_object_del(o, key);
			continue;
		}
		json_object_object_get_ex(o, key, &old);
		json_object_object_add(o, key, mmds_merge(old, value));
	}
	return o;
}

/* ---- out ---- */

/* One value of the tree, and where it is in the image. */
struct node {
	struct json_object *o;
	const char *name; /* NULL: an element of an array */
	uint32_t pos;     /* which member or element of its parent it is */
	char index[12];   /* the name of an element */
	struct mmds_entry e;
};

/* The nodes in the order of their entries; at[child + pos] is the node at a
 * position of the parent whose first child that is. */
struct tree {
	struct node *nodes;
	uint32_t *at;
	uint32_t n;
	/* What will be the image, behind the entries. */
	char *bytes;
	size_t len, size;
	bool failed; /* out of memory */
};

static void put(struct tree *t, const void *data, size_t len)
{
	if (t->size - t->len < len) {
		size_t size = 2 * (t->len + len) + 4096;
		char *more = t->failed ? NULL : realloc(t->bytes, size);

		if (!more) {
			t->failed = true;
			return;
		}
		t->bytes = more;
		t->size = size;
	}
	if (len)
		memcpy(t->bytes + t->len, data, len);
	t->len += len;
}

static void put_text(struct tree *t, const char *s)
{
	put(t, s, strlen(s));
}

static const char *name_of(const struct node *n)
{
	return n->name ? n->name : n->index;
}

/* Bytewise, as strcmp() is. */
static int by_name(const void *a, const void *b)
{
	return strcmp(name_of(a), name_of(b));
}

static uint32_t count(struct json_object *o)
{
	uint32_t n = 1;

	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, value)
		{
			(void)key;
			n += count(value);
		}
	} else if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			n += count(json_object_array_get_idx(o, i));
	}
	return n;
}

static void add_child(
	struct tree *t, struct node *parent, struct json_object *o)
{
	struct node *n = &t->nodes[t->n++];

	n->o = o;
	n->pos = parent->e.n_children++;
	snprintf(n->index, sizeof(n->index), "%u", n->pos);
}

static void add_children(struct tree *t, struct node *parent)
{
	uint32_t first = t->n;

	if (json_object_is_type(parent->o, json_type_object)) {
		json_object_object_foreach(parent->o, key, value)
		{
			t->nodes[t->n].name = key;
			add_child(t, parent, value);
		}
	} else if (json_object_is_type(parent->o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(parent->o); i++)
			add_child(t, parent,
				json_object_array_get_idx(parent->o, i));
	}
	if (t->n == first)
		return;
	parent->e.child = first;
	qsort(&t->nodes[first], t->n - first, sizeof(t->nodes[0]), by_name);
	for (uint32_t i = first; i < t->n; i++)
		t->at[first + t->nodes[i].pos] = i;
}

static void put_scalar(struct tree *t, struct json_object *o)
{
	const char *s = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (s)
		put_text(t, s);
	else
		t->failed = true;
}

static void put_key(struct tree *t, const char *key)
{
	_cleanup_json_ struct json_object *o = json_object_new_string(key);

	if (!o)
		t->failed = true;
	else
		put_scalar(t, o);
	put_text(t, ":");
}

/* The JSON of a value is that of its parent, from here to there: it is written
 * once. */
static void put_json(struct tree *t, struct node *n)
{
	bool object = json_object_is_type(n->o, json_type_object);

	n->e.json = (uint32_t)t->len;
	if (!object && !json_object_is_type(n->o, json_type_array)) {
		put_scalar(t, n->o);
	} else {
		put_text(t, object ? "{" : "[");
		for (uint32_t i = 0; i < n->e.n_children; i++) {
			struct node *c = &t->nodes[t->at[n->e.child + i]];

			if (i > 0)
				put_text(t, ",");
			if (object)
				put_key(t, c->name);
			put_json(t, c);
		}
		put_text(t, object ? "}" : "]");
	}
	n->e.json_len = (uint32_t)t->len - n->e.json;
}

/* A string's bytes, or an object's names, those of objects with a slash. */
static void put_imds(struct tree *t, struct node *n)
{
	n->e.text = (uint32_t)t->len;
	if (json_object_is_type(n->o, json_type_string)) {
		n->e.has_text = 1;
		put_text(t, json_object_get_string(n->o));
	} else if (json_object_is_type(n->o, json_type_object)) {
		n->e.has_text = 1;
		for (uint32_t i = 0; i < n->e.n_children; i++) {
			struct node *c = &t->nodes[n->e.child + i];

			if (i > 0)
				put_text(t, "\n");
			put_text(t, c->name);
			if (json_object_is_type(c->o, json_type_object))
				put_text(t, "/");
		}
	}
	n->e.text_len = (uint32_t)t->len - n->e.text;
}

static void build(struct tree *t, struct json_object *root)
{
	t->nodes[0].o = root;
	t->nodes[0].name = "";
	t->n = 1;
	for (uint32_t i = 0; i < t->n; i++)
		add_children(t, &t->nodes[i]);
	put_json(t, &t->nodes[0]);
	for (uint32_t i = 0; i < t->n; i++) {
		struct node *n = &t->nodes[i];

		put_imds(t, n);
		n->e.name = (uint32_t)t->len;
		n->e.name_len = (uint32_t)strlen(name_of(n));
		put_text(t, name_of(n));
	}
}

/* *ret_len: its length. NULL: out of memory. */
static void *make_image(const struct tree *t, size_t *ret_len)
{
	size_t head =
		sizeof(struct mmds_image) + t->n * sizeof(struct mmds_entry);
	struct mmds_image *img = malloc(head + t->len);

	if (!img)
		return NULL;
	*ret_len = head + t->len;
	*img = (struct mmds_image){.magic = MMDS_IMAGE_MAGIC,
		.n_entries = t->n,
		.size = (uint32_t)*ret_len};
	for (uint32_t i = 0; i < t->n; i++) {
		struct mmds_entry e = t->nodes[i].e;

		e.name += (uint32_t)head;
		e.json += (uint32_t)head;
		e.text += (uint32_t)head;
		img->entries[i] = e;
	}
	memcpy((char *)img + head, t->bytes, t->len);
	return img;
}

static int compile(struct tree *t, struct json_object *o,
	struct api_mmds_data *ret, struct error *err)
{
	uint32_t json_len;

	if (!t->nodes || !t->at)
		return error_set(err, ENOMEM, "out of memory");
	build(t, o);
	if (t->failed || !t->bytes)
		return error_set(err, ENOMEM, "out of memory");
	json_len = t->nodes[0].e.json_len;
	if (json_len > VM_MMDS_MAX)
		return error_set(err, EMSGSIZE,
			"the metadata would be %u bytes of JSON, %d are the "
			"most",
			json_len, VM_MMDS_MAX);
	ret->json = strndup(t->bytes, json_len);
	ret->image = make_image(t, &ret->image_len);
	if (ret->json && ret->image)
		return 0;
	free(ret->json);
	free(ret->image);
	*ret = (struct api_mmds_data){NULL};
	return error_set(err, ENOMEM, "out of memory");
}

int mmds_compile(
	struct json_object *o, struct api_mmds_data *ret, struct error *err)
{
	uint32_t max = count(o);
	struct tree t = {
		.nodes = calloc(max, sizeof(*t.nodes)),
		.at = calloc(max, sizeof(*t.at)),
	};
	int r;

	*ret = (struct api_mmds_data){NULL};
	r = compile(&t, o, ret, err);
	free(t.nodes);
	free(t.at);
	free(t.bytes);
	return r;
}
