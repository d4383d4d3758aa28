#pragma once

/*
 * The metadata as the daemon compiles it and the service serves it: JSON stays
 * with the daemon, the jailed process only looks paths up.
 *
 * A header, n entries sorted by path (bytewise, unsigned), then the bytes they
 * point into. Each entry is one node of the JSON tree: path is "/" for the root
 * and "/a/b" below, with the names as they are in JSON; text in both forms a
 * guest can ask for. Offsets are from the beginning of the image.
 */

#include <stdint.h>

#define MMDS_IMAGE_MAGIC 0x53444d4du /* "MMDS" */
#define MMDS_IMAGE_MAX (8u << 20)
#define MMDS_MAX_DEPTH 32

struct mmds_entry {
	uint32_t path, path_len;
	uint32_t json, json_len; /* the value as JSON */
	uint32_t text, text_len; /* IMDS: a string's bytes, or a listing */
	/* 0: this value has no IMDS form (only strings and objects have). */
	uint32_t has_text;
	uint32_t pad;
};

struct mmds_image {
	uint32_t magic;
	uint32_t n_entries;
	uint32_t size; /* of all of it, bytes */
	uint32_t pad;
	struct mmds_entry entries[];
};
