#include "daemon/daemon.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

/* Once something cannot be told nothing more is touched. */
struct adoption {
	struct daemon *d;
	struct error *err; /* code 0: so far all is well */
};

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
	struct adoption *a = arg;
	struct daemon *d = a->d;
	char quoted[ERROR_MSG_MAX], key[STATE_KEY_BYTES];
	struct vm *vm = NULL;
	struct error err;

	if (a->err->code)
		return;
	if (state_linked(&d->state, id, key) > 0 && whose(d, key)) {
		log_error("vm_not_adopted",
			"vm=%s error=\"its process is that of the VM %s\"", id,
			whose(d, key)->id);
		return;
	}
	if (vm_adopt(&vm, &d->env, id, &err) < 0) {
		*a->err = err;
		error_wrap(a->err, "the VM \"%s\" cannot be adopted", id);
		return;
	}
	if (!vm)
		return;
	registry_add(&d->vms, vm);
	log_info("vm_adopted", "vm=%s state=%s pid=%d", vm->id,
		log_quote(quoted, sizeof(quoted), vm_state_name(vm->state)),
		vm->process.jail.pid);
}

/* It waited in the pool, or its VM was being deleted. */
static void end_orphan(void *arg, const char *key)
{
	struct adoption *a = arg;
	int r = a->err->code || whose(a->d, key)
			? 0
			: orphans_end(&a->d->orphans, key);

	if (r < 0)
		error_errno(a->err, -r, "the process of no VM %s", key);
}

static int adopt_all(struct daemon *d, struct error *err)
{
	struct adoption a = {d, err};
	int r;

	err->code = 0;
	r = state_each_vm(&d->state, adopt_one, &a);
	/* Only who knows all VMs can tell what is none's. */
	if (r == 0 && !err->code)
		r = state_each_proc(&d->state, end_orphan, &a);
	if (r < 0 && !err->code)
		error_errno(err, -r, "reading the state directory");
	return -err->code;
}

int daemon_adopt_all(struct daemon *d, struct error *err)
{
	struct vm *vm;

	if (adopt_all(d, err) < 0) {
		while ((vm = TAILQ_FIRST(&d->vms.list))) {
			registry_remove(&d->vms, vm);
			vm_leave(vm);
		}
		return error_wrap(err, "all VMs are left as they are");
	}
	if (d->vms.n)
		log_info("adopted", "vms=%zu", d->vms.n);
	return 0;
}
