#include "api/rate_limiter.h"
#include "api/resources.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define SECTION "network-interfaces"

/* Of a link's name: not what the kernel refuses, nor % which it would fill in.
 */
static bool is_link_char(char c)
{
	return is_file_char(c) && c != ' ' && c != ':' && c != '%';
}

#define LINK_WORDS "printable ASCII but / : % and blanks"

static int check_name(void *member, const char *name, struct error *err)
{
	const char *s = *(char **)member;

	if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return error_field(err, EINVAL, name, "must not be . or ..");
	return 0;
}

/* In lower case, as two addresses are compared. Not a group's, which no
 * interface can have. */
static int check_mac(void *member, const char *name, struct error *err)
{
	char *s = *(char **)member;
	uint8_t b[6];

	if (!vm_mac_parse(s, b))
		return error_field(err, EINVAL, name,
			"must be six bytes in hexadecimal, as in "
			"06:00:ac:10:00:02");
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
	if (b[0] & 1 || !(b[0] | b[1] | b[2] | b[3] | b[4] | b[5]))
		return error_field(err, EINVAL, name,
			"must be a unicast address: its first byte even, and "
			"not all of them 0");
	return 0;
}

static const struct field table[] = {
	{"iface_id", FIELD_STRING, true, offsetof(struct vm_net, iface_id), 1,
		VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	{"host_dev_name", FIELD_STRING, true,
		offsetof(struct vm_net, host_dev_name), 1, IFNAMSIZ - 1, NULL,
		is_link_char, LINK_WORDS, check_name},
	{"create", FIELD_BOOL, false, offsetof(struct vm_net, create)},
	{"bridge", FIELD_STRING, false, offsetof(struct vm_net, bridge), 1,
		IFNAMSIZ - 1, NULL, is_link_char, LINK_WORDS, check_name},
	{"netns", FIELD_STRING, false, offsetof(struct vm_net, netns), 1,
		NAME_MAX, NULL, is_file_char, "printable ASCII but /",
		check_name},
	{"guest_mac", FIELD_STRING, false, offsetof(struct vm_net, guest_mac),
		17, 17, .check = check_mac},
	{"mtu", FIELD_UINT, false, offsetof(struct vm_net, mtu), 68, 65535},
	{"queue_pairs", FIELD_UINT, false, offsetof(struct vm_net, queue_pairs),
		1, VM_MAX_QUEUE_PAIRS},
	RATE_LIMITER(struct vm_net, rx_rate_limiter),
	RATE_LIMITER(struct vm_net, tx_rate_limiter),
	{NULL},
};

struct patch {
	char *iface_id;
	struct vm_rate_limiter rx_rate_limiter, tx_rate_limiter;
};

static const struct field patch_table[] = {
	{"iface_id", FIELD_STRING, true, offsetof(struct patch, iface_id), 1,
		VM_ID_MAX, NULL, is_word_char, "A-Z a-z 0-9 _"},
	RATE_LIMITER(struct patch, rx_rate_limiter),
	RATE_LIMITER(struct patch, tx_rate_limiter),
	{NULL},
};

/* A VM's namespace is that of its interfaces, unless they say another. */
static int default_netns(
	struct vm_net *n, const struct vm_host *host, struct error *err)
{
	if (n->netns || !host->netns)
		return 0;
	n->netns = strdup(host->netns);
	return n->netns ? 0 : error_set(err, ENOMEM, "out of memory");
}

int network_interface_read(struct json_object *o, const char *prefix,
	const char *iface_id, struct vm_config *c, struct error *err)
{
	struct vm_net n = {.queue_pairs = 1};

	if (fields_read(table, o, prefix, false, &n, err) < 0 ||
		section_match_id(
			SECTION ".iface_id", n.iface_id, iface_id, err) < 0 ||
		default_netns(&n, &c->host, err) < 0) {
		vm_net_fini(&n);
		return -err->code;
	}
	return vm_config_put_net(c, &n, err);
}

int network_interfaces_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return section_read_list(o, SECTION, SECTION ".iface_id",
		network_interface_read, c, &c->n_nets, err);
}

struct json_object *network_interfaces_write(const struct vm_config *c)
{
	struct json_object *a = json_object_new_array();

	for (unsigned i = 0; a && i < c->n_nets; i++)
		json_object_array_add(a, fields_write(table, &c->nets[i]));
	return a;
}

/* Who has no more than a VM's own socket makes no links and chooses no
 * namespace. */
static int check_ours(struct request *r, struct error *err)
{
	static const char *const ours[] = {"create", "bridge", "netns"};

	for (unsigned i = 0; r->at_port && i < 3; i++)
		if (json_object_object_get_ex(r->json, ours[i], NULL)) {
			char name[40];

			snprintf(name, sizeof(name), SECTION ".%s", ours[i]);
			return error_field(
				err, EINVAL, name, "is not a known field here");
		}
	return 0;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	if (check_ours(r, err) < 0)
		return -err->code;
	return network_interface_read(r->json, SECTION, r->sub_id, c, err);
}

void network_interface_put(struct request *r)
{
	section_change(r, API_SECTION_NET, read_body);
}

static int read_patch(
	struct request *r, struct api_update *u, struct error *err)
{
	_cleanup_free_ char *iface_id = NULL;
	struct patch p = {NULL};
	int e;

	u->kind = API_UPDATE_NET;
	e = fields_read(patch_table, r->json, SECTION, false, &p, err);
	iface_id = p.iface_id;
	if (e == 0)
		e = section_match_id(
			SECTION ".iface_id", iface_id, r->sub_id, err);
	limiter_update_read(
		r->json, "rx_rate_limiter", &p.rx_rate_limiter, &u->limiter[0]);
	limiter_update_read(
		r->json, "tx_rate_limiter", &p.tx_rate_limiter, &u->limiter[1]);
	return e;
}

void network_interface_patch(struct request *r)
{
	update_run(r, read_patch);
}
