#pragma once

/*
 * An API object as a table: one const row per field says what it is called,
 * what may stand there, and which member of a struct holds it. Reading refuses
 * unknown keys, wrong types and values out of range by name.
 *
 * null stands for "not given", as in Firecracker's documents.
 */

#include "api/json.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_kind {
	FIELD_STRING, /* char *, owned; of min to max bytes */
	FIELD_UINT,   /* uint32_t in min to max */
	FIELD_UINT64, /* uint64_t in min to max */
	FIELD_BOOL,   /* bool */
	FIELD_CHOICE, /* uint32_t: the index in choices */
	FIELD_CHOICE_ANY_CASE,
	FIELD_OBJECT,      /* a struct of max bytes, by the table in sub */
	FIELD_FALSE,       /* bool that cannot be true yet */
	FIELD_UNSUPPORTED, /* known, and refused unless null or empty */
	FIELD_ELSEWHERE,   /* known, and read by whoever called */
};

struct field {
	const char *name;
	enum field_kind kind;
	bool required;
	size_t offset;
	uint64_t min, max;
	const char *const *choices; /* ends with NULL */
	/* Of a string: whether each of its bytes may be there, and which may,
	 * in words. NULL: any. */
	bool (*allowed)(char c);
	const char *allowed_words;
	/* Of what was read, all of it in its member: what a range cannot say.
	 * May put it into its usual form. */
	int (*check)(void *member, const char *name, struct error *err);
	/* Of an object, which is read as a whole, whatever it was before. It
	 * may be {}. */
	const struct field *sub;
};

/*
 * Reads obj into *base by the table (which ends with a row without name).
 * prefix: of the field names in errors ("" or "machine-config"). partial:
 * required fields may be missing, at least one must be there (PATCH). Members
 * of fields that are not given keep their values.
 *
 * On failure *base holds a mixture: the caller throws it away.
 */
int fields_read(const struct field *table, struct json_object *obj,
	const char *prefix, bool partial, void *base, struct error *err);

/* The object that reads back as *base; what stands for "not given" is left out:
 * NULL strings, objects of zeros, a 0 that is below its range. */
struct json_object *fields_write(const struct field *table, const void *base);

/* Character classes for allowed. */
bool is_id_char(char c);      /* A-Za-z0-9_- */
bool is_word_char(char c);    /* A-Za-z0-9_ */
bool is_cmdline_char(char c); /* printable ASCII */
bool is_file_char(char c);    /* printable ASCII but / */
