#pragma once

/* The metadata of a VM, between JSON and what its service looks up
 * (net/mmds_image.h). */

#include "api/backend.h"
#include "api/json.h"

/* As json_parse(), but as deep as metadata may be, and without numbers that
 * would not come out as they went in. */
struct json_object *mmds_parse(const char *text, size_t len, struct error *err);

/*
 * A merge patch (RFC 7396): target (NULL: nothing) as it is after it, which is
 * the caller's. target is borrowed, and changed. NULL: out of memory.
 */
struct json_object *mmds_merge(
	struct json_object *target, struct json_object *patch);

/* EMSGSIZE in err when it is more than VM_MMDS_MAX bytes. */
int mmds_compile(
	struct json_object *o, struct api_mmds_data *ret, struct error *err);
