#pragma once

/*
 * Whether a text is JSON (RFC 8259) as Mayfly takes it: exactly the grammar,
 * valid UTF-8, no NUL in a string, no deeper than it may be. json-c alone would
 * let single quotes, NaN, leading zeros and broken UTF-8 pass.
 */

#include "base/error.h"

#include <stddef.h>

#define JSON_DEPTH_MAX 8 /* levels of objects and arrays, of a document */

/* 0 and the number of object members in the text, or -EINVAL. */
int json_check(const char *text, size_t len, unsigned max_depth,
	size_t *ret_members, struct error *err);

/* Puts '?' for each byte of s that is in no UTF-8 sequence (overlong, a
 * surrogate, beyond U+10FFFF, cut off). */
void utf8_repair(char *s);
