/*
 * Methods and paths: the first byte says whether they come in at a VM's own
 * socket, then there is a method, a blank and a path. Whatever the path, there
 * it leads to what is marked for it and to no other VM.
 */

#include "api/router.h"
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN "own-vm"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool is_word(const char *s)
{
	return s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxy"
			   "z0123456789_")] == '\0';
}

static void check_found(const struct request *r, const char *path)
{
	const char *id = strstr(r->route->pattern, "{id}");

	check(strlen(r->id) <= VM_ID_MAX && strlen(r->sub_id) <= VM_ID_MAX);
	check(is_word(r->sub_id));
	if (!r->at_port) {
		check(r->route->where != AT_PORT);
		/* It is the path's own third part. */
		check(!id || strncmp(path + strlen("/v1/vms/"), r->id,
				     strlen(r->id)) == 0);
		return;
	}
	check(r->route->where != AT_SOCKET);
	check(strcmp(r->id, OWN) == 0);
	check(!strstr(route_path(r->route, true), "{id}"));
	/* Of the path at most the last part is anybody's choice. */
	check(strncmp(path, route_path(r->route, true),
		      strcspn(route_path(r->route, true), "{")) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request r = {.at_port = size > 0 && data[0] & 1};
	char text[512], allow[64], *path;
	struct error err;
	unsigned status = 0;

	if (size < 2 || size > sizeof(text))
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	path = strchr(text, ' ');
	if (!path)
		return 0;
	*path++ = '\0';
	if (r.at_port)
		memcpy(r.id, OWN, sizeof(OWN));
	if (route_find(&r, text, path, &status, allow, sizeof(allow), &err) ==
		0)
		check_found(&r, path);
	else
		check(status == 400 || status == 404 || status == 405);
	check(!r.at_port || strcmp(r.id, OWN) == 0);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"\1GET /",
		"\1GET /version",
		"\1PUT /drives/rootfs",
		"\1PUT /actions",
		"\1GET /v1/vms/other/machine-config",
		"\1PATCH /balloon/hinting/start",
		"\1GET /../other/vm/config",
		"\2GET /v1/vms",
		"\2PUT /v1/vms/a-b",
		"\2PUT /v1/vms/a/drives/rootfs",
		"\2GET /v1/vms/a/console",
		"\2GET /",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n]);
	check(len <= cap);
	memcpy(buf, seeds[n], len);
	return len;
}
