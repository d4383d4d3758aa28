#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(
	(int)API_MOMENTS == (int)VM_MOMENTS, "the API shows each moment");

int vm_create(struct vm **ret, struct vm_env *env, const char *id,
	struct vm_config *config, struct error *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		vm_config_fini(config);
		return error_set(err, ENOMEM, "out of memory");
	}
	vm->env = env;
	snprintf(vm->id, sizeof(vm->id), "%s", id);
	vm->config = *config;
	vm_config_init(config);
	vm_images_init(&vm->images);
	vm->sock = (struct loop_source){-1, vm_on_sock};
	vm->pidfd = (struct loop_source){-1, vm_on_pidfd};
	vm->linger.fire = vm_on_linger;
	vm->events_limit = (struct log_limit)LOG_LIMIT(10, 10);
	vm->unasked_limit = (struct log_limit)LOG_LIMIT(1000, 1);
	vm->output = output_create(env->loop);
	if (!vm->output)
		error_set(err, ENOMEM, "out of memory");
	else if (vm_config_check(&vm->config, env->host_mem_mib, err) == 0 &&
		 images_open_all(id, &vm->config, &vm->images, err) == 0) {
		*ret = vm;
		return 0;
	}
	vm_destroy(vm);
	return -err->code;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	output_end_and_put(vm->output);
	vm_images_close(&vm->images);
	vm_config_fini(&vm->config);
	free(vm);
}

/* Drives move when the root drive changes: each keeps its open file by id. */
static void move_drives(struct vm *vm, struct vm_config *config, int changed,
	struct drive_image *opened)
{
	struct drive_image moved[VM_MAX_DRIVES] = {0};

	for (unsigned i = 0; i < config->n_drives; i++) {
		int old = vm_config_find_drive(
			&vm->config, config->drives[i].drive_id);

		if (old >= 0)
			moved[i] = vm->images.drives[old];
		if ((int)i != changed)
			continue;
		if (old >= 0)
			close(moved[i].fd);
		moved[i] = *opened;
	}
	memcpy(vm->images.drives, moved, config->n_drives * sizeof(moved[0]));
	vm->images.n_drives = config->n_drives;
}

static int open_section(struct vm *vm, struct vm_config *config,
	enum api_section section, const char *drive_id, struct error *err)
{
	int kernel = -1, initrd = -1, at;
	struct drive_image image;

	switch (section) {
	case API_SECTION_BOOT_SOURCE:
		if (images_open_boot_source(
			    &config->boot_source, &kernel, &initrd, err) < 0)
			return -err->code;
		close_fd(&vm->images.kernel_fd);
		close_fd(&vm->images.initrd_fd);
		vm->images.kernel_fd = kernel;
		vm->images.initrd_fd = initrd;
		break;
	case API_SECTION_MACHINE_CONFIG:
	case API_SECTION_NET:
	case API_SECTION_VSOCK:
	case API_SECTION_ENTROPY:
	case API_SECTION_BALLOON:
	case API_SECTION_MEMORY_HOTPLUG:
	case API_SECTION_PMEM:
	case API_SECTION_SERIAL:
	case API_SECTION_MMDS:
	case API_SECTION_CPU:
		break;
	case API_SECTION_DRIVE:
		at = vm_config_find_drive(config, drive_id);
		if (images_open_drive(
			    vm->id, &config->drives[at], &image, err) < 0)
			return -err->code;
		move_drives(vm, config, at, &image);
		break;
	}
	return 0;
}

int vm_configure(struct vm *vm, struct vm_config *config,
	enum api_section section, const char *drive_id, struct error *err)
{
	if (vm_state_after(&vm->state, VM_EV_CONFIGURE, err) < 0 ||
		vm_config_check(config, vm->env->host_mem_mib, err) < 0 ||
		open_section(vm, config, section, drive_id, err) < 0) {
		vm_config_fini(config);
		return -err->code;
	}
	vm_config_fini(&vm->config);
	vm->config = *config;
	return 0;
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* Only what can be true: after the request, and not in the future. */
static void show_moments(
	const struct vm *vm, const struct vm_shared *s, struct api_vm *ret)
{
	uint64_t now = clock_ns();

	ret->received_ns = vm->received_ns;
	for (unsigned i = 0; i < VM_MOMENTS; i++) {
		uint64_t at = load(&s->moments[i]);

		if (at > vm->received_ns && at <= now)
			ret->moments[i] = at - vm->received_ns;
	}
}

void vm_show(const struct vm *vm, struct api_vm *ret)
{
	const struct vm_shared *s = output_shared(vm->output);

	*ret = (struct api_vm){
		.id = vm->id,
		.state = vm_state_name(vm->state),
		.config = &vm->config,
		.pid = vm->process.pid,
		.exit_detail = "",
		.started = s && vm->state != VM_STARTING,
	};
	if (vm->state == VM_EXITED ||
		(vm->state == VM_DELETING && vm->exit.reason)) {
		ret->exit_reason = vm_exit_reason_name(vm->exit.reason);
		ret->exit_detail = vm->exit.detail;
		ret->exit_status = vm->exit.status;
		ret->exit_signal = vm->exit.signal;
	}
	if (!s)
		return;
	ret->console_bytes = ring_head(output_ring(vm->output));
	ret->console_dropped =
		ring_oldest(output_ring(vm->output), ret->console_bytes);
	if (ret->started)
		show_moments(vm, s, ret);
}

int vm_counters(const struct vm *vm, struct api_counters *ret)
{
	const struct vm_shared *s = output_shared(vm->output);

	if (!s || vm->state == VM_STARTING)
		return -ENODATA;
	*ret = (struct api_counters){.n_drives = vm->config.n_drives};
	ret->guest_faults = load(&s->guest_faults);
	for (unsigned i = 0; i < vm->config.machine_config.vcpu_count; i++) {
		const struct vcpu_counters *c = &s->vcpu[i];

		ret->exits_pio += load(&c->exits_pio);
		ret->exits_mmio += load(&c->exits_mmio);
		ret->exits_other += load(&c->exits_other);
		ret->exits_interrupted += load(&c->exits_interrupted);
	}
	for (unsigned i = 0; i < vm->config.n_drives; i++) {
		const struct blk_stats *b = &s->blk[i];

		ret->drives[i] = (struct api_drive_stats){
			.drive_id = vm->config.drives[i].drive_id,
			.reads = load(&b->reads),
			.writes = load(&b->writes),
			.flushes = load(&b->flushes),
			.others = load(&b->others),
			.read_bytes = load(&b->read_bytes),
			.write_bytes = load(&b->write_bytes),
			.errors = load(&b->errors),
			.malformed = load(&b->malformed),
			.discards = load(&b->discards),
			.write_zeroes = load(&b->write_zeroes),
			.throttled = load(&b->throttled),
		};
	}
	return 0;
}
