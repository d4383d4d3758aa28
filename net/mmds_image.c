#include "net/mmds_image.h"

#include <string.h>

static const char *at(const struct mmds_image *img, uint32_t off)
{
	return (const char *)img + off;
}

/* As strings of unsigned bytes; a prefix comes first. */
static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (r != 0)
		return r;
	return a_len < b_len ? -1 : a_len > b_len;
}

static bool bytes_ok(const struct mmds_image *img, uint32_t off, uint32_t len)
{
	return len <= MMDS_VALUE_MAX && off <= img->size &&
	       len <= img->size - off;
}

static bool entry_ok(const struct mmds_image *img, const struct mmds_entry *e)
{
	return bytes_ok(img, e->name, e->name_len) &&
	       bytes_ok(img, e->json, e->json_len) &&
	       bytes_ok(img, e->text, e->text_len);
}

/* next: the first entry that is nobody's child yet. That every one is a child
 * once keeps this linear, and every path down the tree finite. */
static bool children_ok(
	const struct mmds_image *img, const struct mmds_entry *e, uint32_t next)
{
	const struct mmds_entry *c = &img->entries[next];

	if (e->n_children == 0)
		return true;
	if (e->child != next || e->n_children > img->n_entries - next)
		return false;
	for (uint32_t i = 1; i < e->n_children; i++)
		if (compare(at(img, c[i - 1].name), c[i - 1].name_len,
			    at(img, c[i].name), c[i].name_len) >= 0)
			return false;
	return true;
}

bool mmds_image_ok(const void *data, size_t len)
{
	const struct mmds_image *img = data;
	uint32_t next = 1;

	if (len < sizeof(*img) || len > MMDS_IMAGE_MAX ||
		img->magic != MMDS_IMAGE_MAGIC || img->size != len ||
		img->n_entries < 1 ||
		img->n_entries > (len - sizeof(*img)) / sizeof(img->entries[0]))
		return false;
	for (uint32_t i = 0; i < img->n_entries; i++)
		if (!entry_ok(img, &img->entries[i]))
			return false;
	for (uint32_t i = 0; i < img->n_entries; i++) {
		const struct mmds_entry *e = &img->entries[i];

		/* Behind itself: a node is not its own descendant. */
		if (i >= next || !children_ok(img, e, next))
			return false;
		next += e->n_children;
	}
	return next == img->n_entries;
}

/* One name of a path, its escapes undone (RFC 6901, 4) in buf; NULL: too long
 * for any name. */
static const char *unescape(
	const char *name, size_t len, char *buf, size_t size, size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (c == '~' && i + 1 < len &&
			(name[i + 1] == '0' || name[i + 1] == '1'))
			c = name[++i] == '0' ? '~' : '/';
		if (n == size)
			return NULL;
		buf[n++] = c;
	}
	*ret_len = n;
	return buf;
}

static const struct mmds_entry *find_child(const struct mmds_image *img,
	const struct mmds_entry *e, const char *name, size_t len)
{
	uint32_t low = e->child, high = e->child + e->n_children;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct mmds_entry *c = &img->entries[mid];
		int r = compare(name, len, at(img, c->name), c->name_len);

		if (r == 0)
			return c;
		if (r < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const struct mmds_entry *mmds_image_find(
	const struct mmds_image *img, const char *path, size_t len)
{
	const struct mmds_entry *e = &img->entries[0];
	const char *end = path + len;
	char buf[MMDS_PATH_MAX];

	if (len == 0 || *path != '/')
		return NULL;
	while (e) {
		const char *name, *next;
		size_t n;

		while (path < end && *path == '/')
			path++;
		if (path == end)
			break;
		next = memchr(path, '/', (size_t)(end - path));
		if (!next)
			next = end;
		name = unescape(
			path, (size_t)(next - path), buf, sizeof(buf), &n);
		e = name ? find_child(img, e, name, n) : NULL;
		path = next;
	}
	return e;
}
