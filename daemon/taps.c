#include "daemon/taps.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char field[] = "network-interfaces.host_dev_name";

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* ---- one ---- */

static void free_tap(struct vm_tap *t)
{
	if (!t)
		return;
	if (t->link.le_prev)
		LIST_REMOVE(t, link);
	tap_close(&t->tap);
	free(t->name);
	free(t->netns);
	free(t);
}

static int check_unused(
	const struct tap_list *all, const struct vm_net *n, struct error *err)
{
	const struct vm_tap *t;

	LIST_FOREACH(t, all, link)
	{
		if (same(t->name, n->host_dev_name) && same(t->netns, n->netns))
			return error_field(err, EBUSY, field,
				"\"%s\" is in use by the VM \"%s\"", t->name,
				t->vm);
	}
	return 0;
}

/* A device with several queues lets itself be opened by another of its names,
 * or of its namespace's. */
static int check_alone(
	const struct tap_list *all, const struct vm_tap *tap, struct error *err)
{
	const struct vm_tap *t;

	LIST_FOREACH(t, all, link)
	{
		if (tap_same(&t->tap, &tap->tap))
			return error_field(err, EBUSY, field,
				"\"%s\" is in use by the VM \"%s\", as \"%s\"",
				tap->name, t->vm, t->name);
	}
	return 0;
}

static struct tap_config config_of(const struct vm_net *n)
{
	return (struct tap_config){
		.name = n->host_dev_name,
		.netns = n->netns,
		.bridge = n->bridge,
		.create = n->create,
		.n_queues = n->queue_pairs,
		.mtu = n->mtu,
	};
}

/* NULL: out of memory. */
static struct vm_tap *new_tap(const char *vm, const struct vm_net *n)
{
	struct vm_tap *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->tap.sock = -1;
	for (unsigned i = 0; i < TAP_MAX_QUEUES; i++)
		t->tap.fds[i] = -1;
	memcpy(t->vm, vm, strnlen(vm, VM_ID_MAX));
	t->name = strdup(n->host_dev_name);
	t->netns = n->netns ? strdup(n->netns) : NULL;
	t->made = n->create;
	if (t->name && (t->netns || !n->netns))
		return t;
	free_tap(t);
	return NULL;
}

static int open_tap(struct tap_list *all, const char *vm,
	const struct vm_net *n, struct vm_tap **ret, struct error *err)
{
	const struct tap_config config = config_of(n);
	struct vm_tap *t;
	int r = check_unused(all, n, err);

	if (r < 0)
		return r;
	t = new_tap(vm, n);
	if (!t)
		return error_set(err, ENOMEM, "out of memory");
	r = tap_open(&t->tap, &config, err);
	if (r == 0)
		r = check_alone(all, t, err);
	if (r < 0) {
		free_tap(t);
		return r;
	}
	LIST_INSERT_HEAD(all, t, link);
	*ret = t;
	return 0;
}

/* ---- a VM's ---- */

int taps_open_all(struct tap_list *all, const char *vm,
	const struct vm_config *c, struct vm_taps *ret, struct error *err)
{
	for (; ret->n < c->n_nets; ret->n++) {
		int r = open_tap(
			all, vm, &c->nets[ret->n], &ret->taps[ret->n], err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether the open one will do. */
static bool unchanged(const struct vm_net *a, const struct vm_net *b)
{
	return same(a->host_dev_name, b->host_dev_name) &&
	       same(a->netns, b->netns) && same(a->bridge, b->bridge) &&
	       a->create == b->create && a->queue_pairs == b->queue_pairs &&
	       (a->mtu == b->mtu || !a->create);
}

/* The same device in another way: nobody can have it twice, so the old one is
 * closed first, and opened again should the new one fail. */
static int reopen(struct tap_list *all, const char *vm,
	const struct vm_net *from, const struct vm_net *to, struct vm_tap **tap,
	struct error *err)
{
	struct error again;
	int r;

	free_tap(*tap);
	*tap = NULL;
	r = open_tap(all, vm, to, tap, err);
	if (r < 0 && open_tap(all, vm, from, tap, &again) < 0)
		log_error("tap_lost", "vm=%s iface=%s error=%d", vm,
			from->iface_id, again.code);
	return r;
}

int taps_change(struct tap_list *all, const char *vm,
	const struct vm_config *from, const struct vm_config *to,
	const char *iface_id, struct vm_taps *t, struct error *err)
{
	const struct vm_net *n = &to->nets[vm_config_find_net(to, iface_id)];
	int old = vm_config_find_net(from, iface_id);
	struct vm_taps moved = {.n = to->n_nets};
	struct vm_tap *opened = NULL;
	int r = 0;

	if (old >= 0 && t->taps[old] && unchanged(&from->nets[old], n))
		return 0;
	if (old >= 0 && same(from->nets[old].host_dev_name, n->host_dev_name) &&
		same(from->nets[old].netns, n->netns))
		return reopen(all, vm, &from->nets[old], n, &t->taps[old], err);
	r = open_tap(all, vm, n, &opened, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < to->n_nets; i++) {
		int at = vm_config_find_net(from, to->nets[i].iface_id);

		moved.taps[i] = at >= 0 ? t->taps[at] : NULL;
		if (&to->nets[i] != n)
			continue;
		free_tap(moved.taps[i]);
		moved.taps[i] = opened;
	}
	*t = moved;
	return 0;
}

int taps_fill(const struct vm_taps *t, struct msg_start *m, struct error *err)
{
	for (unsigned i = 0; i < t->n; i++) {
		if (!t->taps[i])
			return error_field(err, EINVAL, field,
				"of network interface %u was lost: configure "
				"it again",
				i);
		m->nets[i].tap_features = t->taps[i]->tap.features;
	}
	return 0;
}

void taps_place_fds(
	const struct vm_taps *t, const struct msg_start *m, int *fds)
{
	struct msg_start_fds at;

	msg_start_fds(m, &at);
	for (unsigned i = 0; i < t->n; i++)
		for (unsigned q = 0; q < m->nets[i].n_pairs; q++)
			fds[at.nets[i] + q] = t->taps[i]->tap.fds[q];
}

void taps_found(struct tap_list *all, const char *vm, const struct vm_config *c,
	struct vm_taps *ret)
{
	struct error err;

	for (ret->n = 0; ret->n < c->n_nets; ret->n++) {
		const struct tap_config config = config_of(&c->nets[ret->n]);
		struct vm_tap *t = new_tap(vm, &c->nets[ret->n]);

		ret->taps[ret->n] = t;
		if (!t)
			continue;
		if (tap_find(&t->tap, &config, &err) < 0)
			log_warn("tap_not_found", "vm=%s tap=%s", vm, t->name);
		LIST_INSERT_HEAD(all, t, link);
	}
}

void taps_handed_over(struct vm_taps *t)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->taps[i])
			tap_close_queues(&t->taps[i]->tap);
}

void taps_reopen(struct tap_list *all, const char *vm,
	const struct vm_config *c, struct vm_taps *t)
{
	struct error err;

	taps_close(t);
	t->n = c->n_nets;
	for (unsigned i = 0; i < t->n; i++)
		if (open_tap(all, vm, &c->nets[i], &t->taps[i], &err) < 0)
			log_error("tap_lost", "vm=%s iface=%s error=%d", vm,
				c->nets[i].iface_id, err.code);
}

bool taps_in_use(const struct vm_taps *t, bool made_only)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->taps[i] && (t->taps[i]->made || !made_only) &&
			tap_in_use(&t->taps[i]->tap))
			return true;
	return false;
}

void taps_close(struct vm_taps *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free_tap(t->taps[i]);
	*t = (struct vm_taps){.n = 0};
}
