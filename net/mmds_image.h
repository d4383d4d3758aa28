#pragma once

/*
 * The metadata as the daemon compiles it and the service serves it: JSON stays
 * with the daemon, the jailed process only looks paths up.
 *
 * A header, n entries, then the bytes they point into; offsets are from the
 * beginning of the image. Each entry is one node of the JSON tree, with its
 * value in both forms a guest can ask for. The root is the first; the children
 * of each follow one another, sorted by name (bytewise, unsigned), the first
 * entry's before the second's and so on, so that every other entry is
 * somebody's child exactly once. Elements of an array are named "0", "1" ...
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMDS_IMAGE_MAGIC 0x53444d4du /* "MMDS" */
#define MMDS_IMAGE_MAX (8u << 20)
#define MMDS_VALUE_MAX 51200u /* bytes, of a value in one form */
#define MMDS_MAX_DEPTH 32
#define MMDS_PATH_MAX 4096u /* bytes, of one that is looked up */

struct mmds_entry {
	uint32_t name, name_len;
	uint32_t json, json_len; /* the value as JSON */
	uint32_t text, text_len; /* IMDS: a string's bytes, or a listing */
	/* 0: this value has no IMDS form (only strings and objects have). */
	uint32_t has_text;
	uint32_t child, n_children; /* indices; child: of the first */
	uint32_t pad;
};

struct mmds_image {
	uint32_t magic;
	uint32_t n_entries;
	uint32_t size; /* of all of it, bytes */
	uint32_t pad;
	struct mmds_entry entries[];
};

/* Whether these bytes are an image that can be looked things up in. */
bool mmds_image_ok(const void *data, size_t len);

/*
 * The entry at a path, or NULL. A path is a JSON pointer (RFC 6901) whose
 * slashes may be doubled, and may end in one: "/" is the root.
 */
const struct mmds_entry *mmds_image_find(
	const struct mmds_image *img, const char *path, size_t len);
