#pragma once

/* Which handler a method and path belong to. */

#include "api/request.h"
#include "base/histogram.h"

#define API_BODY_MAX 51200 /* bytes, as Firecracker */

enum route_body { BODY_NONE, BODY_JSON, BODY_MAYBE_JSON, BODY_RAW };

/* Where a route is found: at the daemon's socket, at that and, without its
 * "/v1/vms/{id}", at a VM's own, or there alone. */
enum route_where { AT_SOCKET, AT_BOTH, AT_PORT };

struct route {
	const char *method;
	const char *pattern; /* "/v1/vms/{id}/drives/{drive_id}" */
	void (*handler)(struct request *r);
	enum route_body body;
	unsigned body_max;                    /* bytes */
	const char *query[REQUEST_QUERY_MAX]; /* known parameters */
	enum route_where where;
};

/*
 * Finds the route and fills r->id (unless r->at_port) and r->sub_id. Fails with
 * 404, 405 or 400 in *ret_status and words in err; allow: the methods there
 * are, for 405.
 */
int route_find(struct request *r, const char *method, const char *path,
	unsigned *ret_status, char *allow, size_t allow_size,
	struct error *err);

/* Its pattern as its clients write it. */
const char *route_path(const struct route *route, bool at_port);

/* How long requests took, by route and first digit of the answer's status. */
struct route_time {
	const char *method, *pattern; /* "" and "": no route of ours */
	unsigned status_class;
	const struct histogram *histogram;
};

/* False: there are not n of them. */
bool route_time_at(unsigned n, struct route_time *ret);
/* route NULL: the request had none. */
void route_took(const struct route *route, unsigned status, uint64_t ns);
