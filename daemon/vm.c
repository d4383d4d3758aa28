#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct vm *vm_new(struct vm_env *env, const char *id, struct vm_config *config)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		vm_config_fini(config);
		return NULL;
	}
	vm->env = env;
	snprintf(vm->id, sizeof(vm->id), "%s", id);
	vm->config = *config;
	vm_config_init(config);
	vm_images_init(&vm->images);
	vm_vsock_init(vm);
	vm_port_init(vm);
	vm_log_init(vm);
	process_init(&vm->process);
	vm->sock = (struct loop_source){-1, vm_on_sock};
	vm->pidfd = (struct loop_source){-1, vm_on_pidfd};
	vm->linger.fire = vm_on_linger;
	vm->taps_timer.fire = vm_on_taps_timer;
	vm->events_limit = (struct log_limit)LOG_LIMIT(10, 10);
	vm->unasked_limit = (struct log_limit)LOG_LIMIT(1000, 1);
	vm->output = output_create(env->loop);
	if (vm->output)
		return vm;
	vm_destroy(vm);
	return NULL;
}

int vm_create(struct vm **ret, struct vm_env *env, const char *id,
	struct vm_config *config, struct error *err)
{
	struct vm *vm = vm_new(env, id, config);

	if (!vm)
		error_set(err, ENOMEM, "out of memory");
	else if (vm_config_check(&vm->config, env->host_mem_mib, err) == 0 &&
		 vm_cpu_check(env, &vm->config, err) == 0 &&
		 images_open_all(id, &vm->config, &vm->images, err) == 0 &&
		 taps_open_all(&env->taps, id, &vm->config, &vm->taps, err) ==
			 0 &&
		 vm_open_vsock(vm, &vm->config, err) == 0 &&
		 vm_open_logger(vm, &vm->config, err) == 0 &&
		 vm_open_metrics(vm, &vm->config, err) == 0 &&
		 vm_port_open(vm, err) == 0) {
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
	vm_port_fini(vm);
	vm_log_fini(vm);
	vm_images_close(&vm->images);
	vsock_uds_close(&vm->uds);
	taps_close(&vm->taps);
	vm_config_fini(&vm->config);
	vm_mmds_fini(&vm->mmds);
	free(vm->throttle_seen);
	free(vm);
}

/* Drives and pmem devices move when the root drive changes: each keeps its open
 * file by id. */
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

static void move_pmem(struct vm *vm, struct vm_config *config, int changed,
	struct pmem_image *opened)
{
	struct pmem_image moved[VM_MAX_PMEM] = {0};

	for (unsigned i = 0; i < config->n_pmem; i++) {
		int old = vm_config_find_pmem(&vm->config, config->pmem[i].id);

		if (old >= 0)
			moved[i] = vm->images.pmem[old];
		if ((int)i != changed)
			continue;
		if (old >= 0)
			close(moved[i].fd);
		moved[i] = *opened;
	}
	memcpy(vm->images.pmem, moved, config->n_pmem * sizeof(moved[0]));
	vm->images.n_pmem = config->n_pmem;
}

static int open_boot_source(
	struct vm *vm, const struct vm_boot_source *b, struct error *err)
{
	int kernel = -1, initrd = -1;

	if (images_open_boot_source(
		    &vm->config.host, b, &kernel, &initrd, err) < 0)
		return -err->code;
	close_fd(&vm->images.kernel_fd);
	close_fd(&vm->images.initrd_fd);
	vm->images.kernel_fd = kernel;
	vm->images.initrd_fd = initrd;
	return 0;
}

static int open_drive(struct vm *vm, struct vm_config *config,
	const char *drive_id, struct error *err)
{
	int at = vm_config_find_drive(config, drive_id);
	struct drive_image image;

	if (images_open_drive(vm->id, &config->host, &config->drives[at],
		    &image, err) < 0)
		return -err->code;
	move_drives(vm, config, at, &image);
	return 0;
}

static int open_pmem(struct vm *vm, struct vm_config *config, const char *id,
	struct error *err)
{
	int at = vm_config_find_pmem(config, id);
	struct pmem_image image;

	if (images_open_pmem(&config->host, &config->pmem[at], &image, err) < 0)
		return -err->code;
	move_pmem(vm, config, at, &image);
	return 0;
}

/* What a section's paths and names lead to is opened now, and kept: nothing of
 * the VM changes if that fails. */
static int open_section(struct vm *vm, struct vm_config *config,
	enum api_section section, const char *sub_id, struct error *err)
{
	switch (section) {
	case API_SECTION_BOOT_SOURCE:
		return open_boot_source(vm, &config->boot_source, err);
	case API_SECTION_DRIVE:
		return open_drive(vm, config, sub_id, err);
	case API_SECTION_PMEM:
		return open_pmem(vm, config, sub_id, err);
	case API_SECTION_NET:
		return taps_change(&vm->env->taps, vm->id, &vm->config, config,
			sub_id, &vm->taps, err);
	case API_SECTION_VSOCK:
		return vm_open_vsock(vm, config, err);
	case API_SECTION_LOGGER:
		return vm_open_logger(vm, config, err);
	case API_SECTION_METRICS:
		return vm_open_metrics(vm, config, err);
	case API_SECTION_MACHINE_CONFIG:
	case API_SECTION_ENTROPY:
	case API_SECTION_BALLOON:
	case API_SECTION_MEMORY_HOTPLUG:
	case API_SECTION_SERIAL:
	case API_SECTION_MMDS:
	case API_SECTION_CPU:
		break;
	}
	return 0;
}

int vm_configure(struct vm *vm, struct vm_config *config,
	enum api_section section, const char *sub_id, struct error *err)
{
	if (vm_state_after(&vm->state, VM_EV_CONFIGURE, err) < 0 ||
		vm_config_check(config, vm->env->host_mem_mib, err) < 0 ||
		vm_cpu_check(vm->env, config, err) < 0 ||
		open_section(vm, config, section, sub_id, err) < 0) {
		vm_config_fini(config);
		return -err->code;
	}
	vm_config_fini(&vm->config);
	vm->config = *config;
	vm_save_changed(vm);
	return 0;
}
