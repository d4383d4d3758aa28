#include "api/fields.h"
#include "api/mmds_data.h"
#include "api/resources.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define SECTION "mmds-config"
#define DEFAULT_IPV4 0xa9fea9feu /* 169.254.169.254 */

/* ---- the service ---- */

/* In the order of enum mmds_version. */
static const char *const versions[] = {"V1", "V2", NULL};

/* The section, but for its interfaces. */
struct plain {
	uint32_t version;
	char *ipv4_address;
	bool imds_compat;
};

/* RFC 3927, 2.1: of the link-local addresses the first and the last 256 are
 * reserved. */
static bool is_link_local(const char *s, uint32_t *ret)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1)
		return false;
	*ret = ntohl(a.s_addr);
	return *ret >= 0xa9fe0100u && *ret <= 0xa9fefeffu;
}

static int check_ipv4(void *member, const char *name, struct error *err)
{
	uint32_t ipv4;

	if (is_link_local(*(char **)member, &ipv4))
		return 0;
	return error_field(err, EINVAL, name,
		"must be a link-local address: 169.254.1.0 to "
		"169.254.254.255");
}

static const struct field table[] = {
	{"version", FIELD_CHOICE, false, offsetof(struct plain, version), 0, 0,
		versions},
	{"ipv4_address", FIELD_STRING, false,
		offsetof(struct plain, ipv4_address), 7, 15,
		.check = check_ipv4},
	{"network_interfaces", FIELD_ELSEWHERE, true},
	{"imds_compat", FIELD_BOOL, false, offsetof(struct plain, imds_compat)},
	{NULL},
};

static int add_interface(
	struct vm_mmds_config *m, struct json_object *id, struct error *err)
{
	const char *s = json_object_get_string(id);

	if (!json_object_is_type(id, json_type_string))
		return error_field(err, EINVAL, SECTION ".network_interfaces",
			"must be an array of strings: ids of network "
			"interfaces");
	for (unsigned i = 0; i < m->n_interfaces; i++)
		if (strcmp(m->interfaces[i], s) == 0)
			return error_field(err, EINVAL,
				SECTION ".network_interfaces",
				"names an interface twice");
	m->interfaces[m->n_interfaces] = strdup(s);
	if (!m->interfaces[m->n_interfaces])
		return error_set(err, ENOMEM, "out of memory");
	m->n_interfaces++;
	return 0;
}

/* That each is there is for vm_config_check() to see. */
static int read_interfaces(
	struct json_object *a, struct vm_mmds_config *m, struct error *err)
{
	size_t n = json_object_is_type(a, json_type_array)
			   ? json_object_array_length(a)
			   : 0;

	if (n < 1 || n > VM_MAX_NETS)
		return error_field(err, EINVAL, SECTION ".network_interfaces",
			"must be an array of 1 to %d ids of network "
			"interfaces",
			VM_MAX_NETS);
	for (size_t i = 0; i < n; i++)
		if (add_interface(m, json_object_array_get_idx(a, i), err) < 0)
			return -err->code;
	return 0;
}

int mmds_config_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	_cleanup_free_ char *ipv4_address = NULL;
	struct plain p = {0};
	int r;

	vm_mmds_config_fini(&c->mmds);
	r = fields_read(table, o, SECTION, false, &p, err);
	ipv4_address = p.ipv4_address;
	if (r < 0)
		return r;
	c->mmds.there = true;
	c->mmds.version = p.version;
	c->mmds.imds_compat = p.imds_compat;
	c->mmds.ipv4 = DEFAULT_IPV4;
	if (ipv4_address)
		is_link_local(ipv4_address, &c->mmds.ipv4);
	return read_interfaces(
		json_object_object_get(o, "network_interfaces"), &c->mmds, err);
}

struct json_object *mmds_config_write(const struct vm_config *c)
{
	const struct vm_mmds_config *m = &c->mmds;
	struct in_addr a = {htonl(m->ipv4)};
	char text[INET_ADDRSTRLEN];
	struct plain p = {m->version, text, m->imds_compat};
	struct json_object *o, *list;

	if (!m->there)
		return NULL;
	inet_ntop(AF_INET, &a, text, sizeof(text));
	o = fields_write(table, &p);
	list = json_add_array(o, "network_interfaces");
	for (unsigned i = 0; i < m->n_interfaces; i++)
		json_object_array_add(
			list, json_object_new_string(m->interfaces[i]));
	return o;
}

static int read_config(
	struct request *r, struct vm_config *c, struct error *err)
{
	return mmds_config_read(r->json, c, err);
}

void mmds_config_put(struct request *r)
{
	section_change(r, API_SECTION_MMDS, read_config);
}

/* ---- the data ---- */

/* {} when there is none yet. */
void mmds_get(struct request *r)
{
	const struct api_backend *b = r->backend;
	struct json_object *o = NULL;
	const char *json;
	struct error err;

	if (b->ops->mmds_get(b->ctx, r->id, &json, &err) == 0)
		o = json ? mmds_parse(json, strlen(json), &err)
			 : json_object_new_object();
	if (o)
		request_reply_json(r, 200, o);
	else
		request_reply_error(r, &err);
}

/* 0, API_PENDING or a negative errno. */
static int set(struct request *r, struct json_object *o, struct error *err)
{
	const struct api_backend *b = r->backend;
	struct api_mmds_data data;

	if (mmds_compile(o, &data, err) < 0)
		return -err->code;
	return b->ops->mmds_set(b->ctx, r->id, &data, &r->op, err);
}

void mmds_put(struct request *r)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct error err;
	int result = -EINVAL;

	o = mmds_parse(r->body, r->body_len, &err);
	if (o)
		result = set(r, o, &err);
	request_finish(r, result, &err, false, request_reply_done);
}

static int patch(
	struct request *r, struct json_object *change, struct error *err)
{
	const struct api_backend *b = r->backend;
	_cleanup_json_ struct json_object *old = NULL, *o = NULL;
	const char *json;

	if (b->ops->mmds_get(b->ctx, r->id, &json, err) < 0)
		return -err->code;
	if (!json)
		return error_set(err, EINVAL,
			"there is no metadata to change: PUT it first");
	old = mmds_parse(json, strlen(json), err);
	if (!old)
		return -err->code;
	o = mmds_merge(old, change);
	if (!o)
		return error_set(err, ENOMEM, "out of memory");
	return set(r, o, err);
}

void mmds_patch(struct request *r)
{
	_cleanup_json_ struct json_object *change = NULL;
	struct error err;
	int result = -EINVAL;

	change = mmds_parse(r->body, r->body_len, &err);
	if (change)
		result = patch(r, change, &err);
	request_finish(r, result, &err, false, request_reply_done);
}
