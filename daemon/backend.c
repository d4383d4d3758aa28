#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>

/* The VM, or NULL with ENOENT in err. */
static struct vm *find(struct daemon *d, const char *id, struct error *err)
{
	struct vm *vm = registry_find(&d->vms, id);

	if (!vm)
		error_set(err, ENOENT, "there is no VM \"%s\"", id);
	return vm;
}

static const struct api_host *backend_host(void *ctx)
{
	struct daemon *d = ctx;

	return host_show(&d->host, jail_cgroup_version(d->env.procs.jail));
}

static void backend_list(void *ctx, uint64_t after,
	bool (*each)(void *arg, const struct api_vm *vm), void *arg)
{
	struct daemon *d = ctx;
	struct api_vm shown;
	struct vm *vm;

	for (vm = registry_after(&d->vms, after); vm;
		vm = TAILQ_NEXT(vm, link)) {
		vm_show(vm, &shown);
		if (!each(arg, &shown))
			break;
	}
}

static int backend_get(
	void *ctx, const char *id, struct api_vm *ret, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (!vm)
		return -err->code;
	vm_show(vm, ret);
	return 0;
}

static const struct histogram *backend_start_times(void *ctx)
{
	const struct daemon *d = ctx;

	return &d->env.start_times;
}

static const struct api_pool *backend_pool(void *ctx)
{
	struct daemon *d = ctx;

	return pool_show(d->env.pool);
}

static void backend_scraped(void *ctx)
{
	struct daemon *d = ctx;

	if (!d->stopping)
		sampler_want(d->sampler);
}

static int backend_counters(void *ctx, const char *id, struct api_counters *ret)
{
	struct error err;
	struct vm *vm = find(ctx, id, &err);

	return vm ? vm_counters(vm, ret) : -ENOENT;
}

static enum admission_for start_needs(struct daemon *d)
{
	return pool_show(d->env.pool)->ready > 0 ? ADMISSION_PREPARED
						 : ADMISSION_START;
}

/* Whether a VM of this id may be created now, and started if it is to be. */
static int may_create(struct daemon *d, const char *id,
	const struct vm_config *config, bool start, struct error *err)
{
	if (d->stopping)
		return error_set(err, ESHUTDOWN, "mayflyd is stopping");
	if (registry_find(&d->vms, id))
		return error_set(
			err, EEXIST, "there is a VM \"%s\" already", id);
	if (d->vms.n >= d->max_vms)
		return error_set(err, ENOBUFS,
			"there are %u VMs, the most this daemon runs",
			d->max_vms);
	return admission_take(&d->admission, config,
		start ? start_needs(d) : ADMISSION_FILES, err);
}

static int backend_create(void *ctx, const char *id, struct vm_config *config,
	bool start, uint64_t received_ns, struct api_op *op, struct error *err)
{
	struct daemon *d = ctx;
	struct vm *vm;
	int r;

	if (may_create(d, id, config, start, err) < 0) {
		vm_config_fini(config);
		return -err->code;
	}
	r = vm_create(&vm, &d->env, id, config, err);
	if (r < 0)
		return r;
	vm->number = registry_next_number(&d->vms);
	vm->remove_if_start_fails = start;
	r = vm_save(vm, err);
	if (r == 0 && start)
		r = vm_start(vm, received_ns, true, op, err);
	if (r < 0) {
		vm_forget(vm);
		vm_destroy(vm);
		return r;
	}
	registry_add(&d->vms, vm);
	log_info("vm_created", "vm=%s", id);
	vm_publish(vm, API_EVENT_CREATED);
	return r;
}

static int backend_remove(
	void *ctx, const char *id, struct api_op *op, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	return vm ? vm_delete(vm, op, err) : -err->code;
}

static int backend_configure(void *ctx, const char *id,
	struct vm_config *config, enum api_section section, const char *sub_id,
	struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (!vm) {
		vm_config_fini(config);
		return -err->code;
	}
	return vm_configure(vm, config, section, sub_id, err);
}

static int backend_update(void *ctx, const char *id, struct api_update *u,
	struct api_op *op, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (!vm) {
		free(u->path_on_host);
		return -err->code;
	}
	return vm_update(vm, u, op, err);
}

static int backend_device_state(void *ctx, const char *id,
	struct api_device_state *ret, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	return vm ? vm_device_state(vm, ret, err) : -err->code;
}

static int backend_act(void *ctx, const char *id, enum api_action action,
	uint64_t received_ns, struct api_op *op, struct error *err)
{
	struct daemon *d = ctx;
	struct vm *vm = find(d, id, err);

	if (!vm)
		return -err->code;
	if (action == API_ACTION_FLUSH_METRICS)
		return vm->process.jail.pid
			       ? vm_flush_metrics(vm, err)
			       : error_set(err, EBUSY, "the VM does not run");
	if (action != API_ACTION_START)
		return vm_act(vm, action, op, err);
	if (d->stopping)
		return error_set(err, ESHUTDOWN, "mayflyd is stopping");
	if (vm->state == VM_NOT_STARTED &&
		admission_take(
			&d->admission, &vm->config, start_needs(d), err) < 0)
		return -err->code;
	return vm_start(vm, received_ns, false, op, err);
}

static int backend_console_input(void *ctx, const char *id, const void *data,
	size_t len, struct api_op *op, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	return vm ? vm_console_input(vm, data, len, op, err) : -err->code;
}

static int backend_console(void *ctx, const char *id, char **ret,
	size_t *ret_len, uint64_t *ret_dropped, struct error *err)
{
	struct vm *vm = find(ctx, id, err);
	struct ring *ring;
	uint64_t head, pos;
	size_t size;

	if (!vm)
		return -err->code;
	ring = output_ring(vm->output);
	head = ring_head(ring);
	pos = ring_oldest(ring, head);
	/* At most the ring's capacity: head may be any number. */
	size = (size_t)(head - pos);
	*ret = malloc(size + 1);
	if (!*ret)
		return error_set(err, ENOMEM, "out of memory");
	*ret_len = ring_read(ring, &pos, *ret, size);
	*ret_dropped = pos - *ret_len;
	return 0;
}

static int backend_reader_open(
	void *ctx, const char *id, struct api_reader *r, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (!vm)
		return -err->code;
	output_reader_open(vm->output, r);
	return 0;
}

static void backend_events_open(
	void *ctx, struct api_reader *r, const uint64_t *after)
{
	struct daemon *d = ctx;

	events_reader_open(d->env.events, r, after);
	throttle_watch_start(&d->throttle);
}

static int backend_wait(void *ctx, const char *id, uint64_t timeout_ns,
	struct api_op *op, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	return vm ? vm_wait(vm, timeout_ns, op, err) : -err->code;
}

static void backend_cancel(void *ctx, struct api_op *op)
{
	(void)ctx;
	vm_cancel(op);
}

static void backend_served(void *ctx, const struct api_served *s)
{
	struct error ignored;
	struct vm *vm = find(ctx, s->id, &ignored);

	if (vm)
		vm_log_served(vm, s);
}

static int backend_mmds_get(
	void *ctx, const char *id, const char **ret, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (!vm)
		return -err->code;
	*ret = vm->mmds.json;
	return 0;
}

static int backend_mmds_set(void *ctx, const char *id,
	struct api_mmds_data *data, struct api_op *op, struct error *err)
{
	struct vm *vm = find(ctx, id, err);

	if (vm)
		return vm_mmds_set(vm, data, op, err);
	vm_mmds_fini(data);
	return -err->code;
}

const struct api_backend_ops daemon_backend = {
	.host = backend_host,
	.list = backend_list,
	.get = backend_get,
	.start_times = backend_start_times,
	.pool = backend_pool,
	.scraped = backend_scraped,
	.counters = backend_counters,
	.create = backend_create,
	.remove = backend_remove,
	.configure = backend_configure,
	.update = backend_update,
	.device_state = backend_device_state,
	.mmds_get = backend_mmds_get,
	.mmds_set = backend_mmds_set,
	.act = backend_act,
	.console_input = backend_console_input,
	.console = backend_console,
	.reader_open = backend_reader_open,
	.reader_read = output_reader_read,
	.reader_close = output_reader_close,
	.events_open = backend_events_open,
	.events_next = events_reader_next,
	.events_close = events_reader_close,
	.wait = backend_wait,
	.served = backend_served,
	.cancel = backend_cancel,
};
