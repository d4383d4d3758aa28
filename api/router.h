#pragma once

/* Which handler a method and path belong to. */

#include "api/request.h"
#include "base/histogram.h"

#define API_BODY_MAX 51200 /* bytes, as Firecracker */

enum route_body { BODY_NONE, BODY_JSON, BODY_MAYBE_JSON, BODY_RAW };

struct route {
	const char *method;
	const char *pattern; /* "/v1/vms/{id}/drives/{drive_id}" */
	void (*handler)(struct request *r);
	enum route_body body;
	size_t body_max;                      /* bytes */
	const char *query[REQUEST_QUERY_MAX]; /* known parameters */
};

/*
 * Finds the route and fills r->id and r->sub_id. Fails with 404, 405 or 400
 * in *ret_status and words in err; allow: the methods there are, for 405.
 */
int route_find(struct request *r, const char *method, const char *path,
	unsigned *ret_status, char *allow, size_t allow_size,
	struct error *err);

/* The n-th route; NULL: there are not so many. */
const struct route *route_at(unsigned n);
/* How long requests took by its index, and that one did. */
const struct histogram *route_histogram(unsigned n);
void route_took(const struct route *route, uint64_t ns);
