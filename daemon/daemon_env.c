#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/kvm.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_STATE_DIR "/run/mayfly"
#define NS_PER_S 1000000000ull

/* The parent cgroup: always the same for one state directory, and another for
 * each. */
static void name_cgroup(char *buf, size_t size, const char *state_dir)
{
	char real[PATH_MAX];
	uint32_t h = 0x811c9dc5;

	if (!realpath(state_dir, real) ||
		strcmp(real, DEFAULT_STATE_DIR) == 0) {
		snprintf(buf, size, "mayfly");
		return;
	}
	for (const char *p = real; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x01000193u;
	snprintf(buf, size, "mayfly-%08x", h);
}

static int make_jail(
	struct daemon *d, const struct options *o, struct error *err)
{
	char cgroup[32];
	struct jail_config config = {
		.exe_path = o->vmm_path,
		.uid_first = o->uid_base,
		.uid_count = o->uid_count,
		.cgroup_name = cgroup,
	};

	name_cgroup(cgroup, sizeof(cgroup), o->state_dir);
	return jail_create(&d->env.procs.jail, &config, err);
}

/* The same for every VM, and slow to ask. */
static int ask_cpuid(struct daemon *d, struct error *err)
{
	_Static_assert(sizeof(struct msg_cpuid_entry) <=
			       sizeof(struct kvm_cpuid_entry2),
		"KVM's entry has padding");
	_cleanup_free_ struct kvm_cpuid2 *ids = calloc(
		1, sizeof(*ids) + MSG_CPUID_MAX * sizeof(ids->entries[0]));
	int r;

	if (!ids)
		return error_set(err, ENOMEM, "out of memory");
	ids->nent = MSG_CPUID_MAX;
	r = kvm_get_supported_cpuid(d->env.procs.kvm_fd, ids);
	if (r < 0)
		return error_errno(err, -r, "KVM_GET_SUPPORTED_CPUID");
	d->env.n_cpuid = ids->nent;
	for (uint32_t i = 0; i < ids->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &ids->entries[i];

		d->env.cpuid[i] = (struct msg_cpuid_entry){e->function,
			e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx};
	}
	return 0;
}

static void vm_gone(void *arg, struct vm *vm)
{
	struct daemon *d = arg;

	log_info("vm_removed", "vm=%s", vm->id);
	vm_publish(vm, API_EVENT_DELETED);
	vm_forget(vm);
	registry_remove(&d->vms, vm);
	vm_destroy(vm);
}

int daemon_open_env(
	struct daemon *d, const struct options *o, struct error *err)
{
	const struct api_host *h;

	host_probe(&d->host);
	d->env.loop = d->loop;
	d->env.procs.kvm_fd = d->host.kvm_fd;
	d->env.start_timeout_ns = o->start_timeout_s * NS_PER_S;
	d->env.request_timeout_ns = o->request_timeout_s * NS_PER_S;
	d->env.events = events_create();
	if (!d->env.events)
		return error_set(err, ENOMEM, "out of memory");
	throttle_watch_init(&d->throttle, d->loop, &d->vms, d->env.events);
	d->env.gone = vm_gone;
	d->env.arg = d;
	d->env.procs.state = &d->state;
	d->orphans = (struct orphans){.loop = d->loop, .env = &d->env.procs};
	if (d->env.procs.kvm_fd >= 0 && ask_cpuid(d, err) < 0)
		return -err->code;
	if (make_jail(d, o, err) < 0)
		return -err->code;
	h = host_show(&d->host, jail_cgroup_version(d->env.procs.jail));
	d->env.host_mem_mib = h->mem_total_bytes >> 20;
	admission_init(&d->admission,
		o->memory_reserve_mib == OPTIONS_DEFAULT_RESERVE
			? admission_default_reserve(h->mem_total_bytes)
			: (uint64_t)o->memory_reserve_mib << 20);
	log_info("host", "kvm=%s kernel=%s cgroup_version=%u", h->verdict,
		h->kernel_release, h->cgroup_version);
	return 0;
}
