#pragma once

/* A VM's configuration as text, for the daemon that comes after this one: the
 * document of PUT /v1/vms/{id}. */

#include "api/backend.h"

struct record {
	struct vm_config config;
	bool start;      /* it was created with its start */
	uint64_t number; /* of its creation */
};

/* malloc()ed; NULL: out of memory. */
char *record_write(const struct vm_config *c, bool start, uint64_t number);

/* On failure there is nothing in *ret. */
int record_read(
	const char *text, size_t len, struct record *ret, struct error *err);

/* The metadata from its JSON. */
int record_read_mmds(const char *text, size_t len, struct api_mmds_data *ret,
	struct error *err);
