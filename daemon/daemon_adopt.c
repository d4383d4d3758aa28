#include "daemon/daemon.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static const struct vm *whose(const struct daemon *d, const char *key)
{
	const struct vm *vm;

	TAILQ_FOREACH(vm, &d->vms.list, link)
	if (strcmp(vm->process.key, key) == 0)
		return vm;
	return NULL;
}

static void adopt_one(void *arg, const char *id)
{
	struct daemon *d = arg;
	char quoted[ERROR_MSG_MAX], key[STATE_KEY_BYTES];
	struct vm *vm = NULL;
	struct error err;

	if (state_linked(&d->state, id, key) > 0 && whose(d, key))
		error_set(&err, EEXIST, "its process is that of the VM \"%s\"",
			whose(d, key)->id);
	else if (vm_adopt(&vm, &d->env, id, &err) == 0)
		err.code = 0;
	if (err.code)
		log_error("vm_not_adopted", "vm=%s error=%s", id,
			log_quote(quoted, sizeof(quoted), err.msg));
	if (!vm)
		return;
	registry_add(&d->vms, vm);
	log_info("vm_adopted", "vm=%s state=%s pid=%d", vm->id,
		log_quote(quoted, sizeof(quoted), vm_state_name(vm->state)),
		vm->process.jail.pid);
}

/* A process of no VM: it waited in the pool, or its VM was being deleted. */
static void end_orphan(void *arg, const char *key)
{
	struct daemon *d = arg;
	struct state_proc ignored;
	struct process p;

	if (whose(d, key))
		return;
	process_init(&p);
	snprintf(p.key, sizeof(p.key), "%s", key);
	(void)process_find(&p, &d->env.procs, &ignored);
	process_destroy(&p, &d->env.procs);
}

void daemon_adopt_all(struct daemon *d)
{
	state_each_vm(&d->state, adopt_one, d);
	state_each_proc(&d->state, end_orphan, d);
	if (d->vms.n)
		log_info("adopted", "vms=%zu", d->vms.n);
}
