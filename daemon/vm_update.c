#include "daemon/vm.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Changes of a guest that runs. Each is one message or several; the next is
 * sent when the one before is done, and the configuration follows each, so that
 * it tells at any time what is so. What can fail comes first: a file.
 */

enum step {
	STEP_FILE = 1,
	STEP_LIMIT_0 = 2,
	STEP_LIMIT_1 = 4,
	STEP_VALUE = 8, /* all others: one message each */
};

struct vm_change {
	struct api_update u;
	unsigned index; /* of the drive, interface or pmem device */
	unsigned left;  /* steps, lowest first */
	struct drive_image file;
};

void vm_change_free(struct vm_change *c)
{
	if (!c)
		return;
	close_fd(&c->file.fd);
	free(c->u.path_on_host);
	free(c);
}

static unsigned current_step(const struct vm_change *c)
{
	return c->left & -c->left;
}

/* ---- whether it can be, and which steps it takes ---- */

static int take_index(
	struct vm_change *c, int found, const char *kind, struct error *err)
{
	if (found < 0)
		return error_set(err, ENOENT, "the VM has no %s \"%s\"", kind,
			c->u.sub_id);
	c->index = (unsigned)found;
	return 0;
}

static bool limits(const struct api_limiter_update *l)
{
	return l->has_bandwidth || l->has_ops;
}

static unsigned limit_steps(const struct vm_change *c)
{
	return (limits(&c->u.limiter[0]) ? STEP_LIMIT_0 : 0) |
	       (limits(&c->u.limiter[1]) ? STEP_LIMIT_1 : 0);
}

static int need_limit(
	struct vm_change *c, const char *section, struct error *err)
{
	c->left = limit_steps(c);
	return c->left ? 0
		       : error_field(err, EINVAL, section,
				 "nothing to change: give at least one bucket");
}

/* Without a path or a limiter it is the same file, which may have grown. */
static int plan_drive(struct vm *vm, struct vm_change *c, struct error *err)
{
	struct vm_drive d;

	if (take_index(c, vm_config_find_drive(&vm->config, c->u.sub_id),
		    "drive", err) < 0)
		return -err->code;
	c->left = limit_steps(c);
	if (c->left && !c->u.path_on_host)
		return 0;
	c->left |= STEP_FILE;
	d = vm->config.drives[c->index];
	if (c->u.path_on_host)
		d.path_on_host = c->u.path_on_host;
	return images_open_drive(vm->id, &vm->config.host, &d, &c->file, err);
}

/* A number of the configuration: as if it were so already. */
static int plan_value(const struct vm *vm, struct vm_change *c, bool there,
	const char *what, struct error *err)
{
	struct vm_config as_if = vm->config; /* borrows all strings */

	if (!there)
		return error_set(err, ENOENT, "the VM has no %s", what);
	if (c->u.kind == API_UPDATE_BALLOON)
		as_if.balloon.amount_mib = c->u.amount_mib;
	if (c->u.kind == API_UPDATE_MEMORY)
		as_if.memory_hotplug.requested_size_mib = c->u.amount_mib;
	c->left = STEP_VALUE;
	return vm_config_check(&as_if, 0, err);
}

static int plan_balloon_stats(
	const struct vm *vm, struct vm_change *c, struct error *err)
{
	const struct vm_balloon *b = &vm->config.balloon;

	if (plan_value(vm, c, b->there, "balloon", err) < 0)
		return -err->code;
	if (b->stats_polling_interval_s == 0 || c->u.interval_s == 0)
		return error_field(err, EINVAL,
			"balloon.stats_polling_interval_s",
			"must stay 0 if it was at the start, and from 1 to "
			"65535 if it was not");
	return 0;
}

static int plan_hinting(
	const struct vm *vm, struct vm_change *c, struct error *err)
{
	const struct vm_balloon *b = &vm->config.balloon;

	if (plan_value(vm, c, b->there, "balloon", err) < 0)
		return -err->code;
	if (!b->free_page_hinting)
		return error_field(err, EINVAL, "balloon.free_page_hinting",
			"is false: this balloon takes no hints");
	return 0;
}

static int plan(struct vm *vm, struct vm_change *c, struct error *err)
{
	const struct vm_config *config = &vm->config;
	const char *id = c->u.sub_id;

	switch (c->u.kind) {
	case API_UPDATE_DRIVE:
		return plan_drive(vm, c, err);
	case API_UPDATE_NET:
		if (take_index(c, vm_config_find_net(config, id),
			    "network interface", err) < 0)
			return -err->code;
		return need_limit(c, "network-interfaces", err);
	case API_UPDATE_PMEM:
		if (take_index(c, vm_config_find_pmem(config, id),
			    "pmem device", err) < 0)
			return -err->code;
		return need_limit(c, "pmem", err);
	case API_UPDATE_SERIAL:
		return need_limit(c, "serial", err);
	case API_UPDATE_BALLOON:
		return plan_value(vm, c, config->balloon.there, "balloon", err);
	case API_UPDATE_BALLOON_STATS:
		return plan_balloon_stats(vm, c, err);
	case API_UPDATE_HINTING_START:
	case API_UPDATE_HINTING_STOP:
		return plan_hinting(vm, c, err);
	case API_UPDATE_MEMORY:
		return plan_value(vm, c, config->memory_hotplug.there,
			"memory to hotplug", err);
	case API_UPDATE_CONSOLE_SIZE:
		c->left = STEP_VALUE;
		if (config->machine_config.console == VM_CONSOLE_VIRTIO)
			return 0;
		return error_field(err, EINVAL, "machine-config.console",
			"is serial: only a virtio console has a size");
	}
	return error_set(err, EINVAL, "not a change");
}

/* ---- its messages ---- */

static void fill_file(const struct vm_change *c, union msg *m)
{
	m->hdr.type = MSG_DRIVE;
	m->drive.index = c->index;
	m->drive.size_bytes = c->file.size_bytes;
	m->drive.direct_align = c->file.direct_align;
}

static void fill_limit(const struct vm_change *c, unsigned which, union msg *m)
{
	const struct api_limiter_update *l = &c->u.limiter[which];

	m->hdr.type = MSG_LIMIT;
	m->limit.index = c->index;
	if (c->u.kind == API_UPDATE_NET)
		m->limit.kind = which ? MSG_LIMIT_NET_TX : MSG_LIMIT_NET_RX;
	else if (c->u.kind == API_UPDATE_PMEM)
		m->limit.kind = MSG_LIMIT_PMEM;
	else if (c->u.kind == API_UPDATE_SERIAL)
		m->limit.kind = MSG_LIMIT_SERIAL;
	else
		m->limit.kind = MSG_LIMIT_DRIVE;
	m->limit.has_bytes = l->has_bandwidth;
	m->limit.has_ops = l->has_ops;
	vm_fill_limiter(&m->limit.config, &l->to);
}

static void fill_value(const struct vm_change *c, union msg *m)
{
	const struct api_update *u = &c->u;

	m->hdr.type = MSG_BALLOON;
	if (u->kind == API_UPDATE_BALLOON) {
		m->balloon.what = MSG_BALLOON_TARGET;
		m->balloon.value = vm_balloon_pages(u->amount_mib);
	} else if (u->kind == API_UPDATE_BALLOON_STATS) {
		m->balloon.what = MSG_BALLOON_STATS_INTERVAL;
		m->balloon.value = u->interval_s;
	} else if (u->kind == API_UPDATE_HINTING_START) {
		m->balloon.what = MSG_BALLOON_HINTING_START;
		m->balloon.value = u->acknowledge_on_stop;
	} else if (u->kind == API_UPDATE_HINTING_STOP) {
		m->balloon.what = MSG_BALLOON_HINTING_STOP;
	} else if (u->kind == API_UPDATE_MEMORY) {
		m->hdr.type = MSG_MEMORY;
		m->memory.requested_bytes = (uint64_t)u->amount_mib << 20;
	} else {
		m->hdr.type = MSG_CONSOLE_SIZE;
		m->size.columns = u->columns;
		m->size.rows = u->rows;
	}
}

/* Takes c over. */
static int send_step(struct vm *vm, struct vm_change *c, struct api_op *op,
	struct error *err)
{
	unsigned step = current_step(c), n_fds = 0;
	union msg m;

	/* A MSG_START is large, none of these is. */
	memset(&m.input, 0, sizeof(m.input));
	if (step == STEP_FILE) {
		fill_file(c, &m);
		n_fds = 1;
	} else if (step == STEP_VALUE) {
		fill_value(c, &m);
	} else {
		fill_limit(c, step == STEP_LIMIT_1, &m);
	}
	return vm_request(vm, &m, &c->file.fd, n_fds,
		(struct vm_then){VM_EVENTS, c}, op, err);
}

/* ---- and what becomes of it ---- */

static void apply_limit(
	struct vm_rate_limiter *to, const struct api_limiter_update *l)
{
	if (l->has_bandwidth)
		to->bandwidth = l->to.bandwidth;
	if (l->has_ops)
		to->ops = l->to.ops;
}

static struct vm_rate_limiter *limiter_of(
	struct vm_config *config, const struct vm_change *c, unsigned which)
{
	if (c->u.kind == API_UPDATE_NET) {
		struct vm_net *n = &config->nets[c->index];

		return which ? &n->tx_rate_limiter : &n->rx_rate_limiter;
	}
	if (c->u.kind == API_UPDATE_PMEM)
		return &config->pmem[c->index].rate_limiter;
	if (c->u.kind == API_UPDATE_SERIAL)
		return &config->serial.rate_limiter;
	return &config->drives[c->index].rate_limiter;
}

static void apply(struct vm_config *config, struct vm_change *c)
{
	struct api_update *u = &c->u;
	unsigned step = current_step(c);

	if (step == STEP_FILE) {
		struct vm_drive *d = &config->drives[c->index];

		if (u->path_on_host) {
			free(d->path_on_host);
			d->path_on_host = take_ptr(&u->path_on_host);
		}
	} else if (step != STEP_VALUE) {
		unsigned which = step == STEP_LIMIT_1;

		apply_limit(limiter_of(config, c, which), &u->limiter[which]);
	} else if (u->kind == API_UPDATE_BALLOON) {
		config->balloon.amount_mib = u->amount_mib;
	} else if (u->kind == API_UPDATE_BALLOON_STATS) {
		config->balloon.stats_polling_interval_s = u->interval_s;
	} else if (u->kind == API_UPDATE_MEMORY) {
		config->memory_hotplug.requested_size_mib = u->amount_mib;
	}
	c->left &= ~step;
}

int vm_change_done(struct vm *vm, struct vm_change *c, struct api_op *op,
	struct error *err)
{
	apply(&vm->config, c);
	if (c->left)
		return send_step(vm, c, op, err);
	vm_save_changed(vm);
	vm_change_free(c);
	return 0;
}

void vm_change_failed(int code, struct error *err)
{
	if (code == ENOTSUP || code == EAGAIN || code == EBUSY)
		error_set(err, EBUSY,
			"the guest's driver is not there or not ready for it");
	else
		error_errno(err, EIO, "the VM failed (%d)", code);
}

int vm_update(struct vm *vm, struct api_update *u, struct api_op *op,
	struct error *err)
{
	struct vm_change *c = calloc(1, sizeof(*c));
	enum vm_state after = vm->state;

	if (!c) {
		free(u->path_on_host);
		return error_set(err, ENOMEM, "out of memory");
	}
	c->u = *u;
	c->file.fd = -1;
	if (vm_state_after(&after, VM_EV_UPDATE, err) < 0 ||
		plan(vm, c, err) < 0) {
		vm_change_free(c);
		return -err->code;
	}
	return send_step(vm, c, op, err);
}
