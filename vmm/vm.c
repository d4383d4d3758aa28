#include "vmm/vm.h"

#include "base/clock.h"
#include "vmm/boot.h"
#include "vmm/config.h"
#include "vmm/regs.h"
#include "vmm/reset_vector.h"
#include "vmm/vm_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEM_FIELD "machine-config.mem_size_mib"
#define VCPU_FIELD "machine-config.vcpu_count"

/*
 * The jail leaves descriptors 0, 1 and 2 closed, so the first three take their
 * places: whatever would ever print to them, an assertion of the libc's say,
 * only makes the control thread look around or the guest see an interrupt.
 */
int vm_init(struct vm *vm, uint64_t ready_ns)
{
	int *fds[] = {&vm->event_fd, &vm->serial_irq_fd, &vm->keyboard_irq_fd,
		&vm->generation_irq_fd};

	vm->ready_ns = ready_ns;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		*fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (*fds[i] < 0)
			return -errno;
	}
	vm_events_init(&vm->events, vm->event_fd);
	return vcpus_init_signal();
}

int vm_enter_filter(const struct vm *vm, enum seccomp_role role)
{
	return seccomp_image_install(vm->seccomp, role);
}

void vm_mark(struct vm *vm, enum vm_moment moment)
{
	uint64_t *at = &vm->shared->moments[moment], unset = 0;

	if (__atomic_load_n(at, __ATOMIC_RELAXED) == 0)
		__atomic_compare_exchange_n(at, &unset, clock_ns(), false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static int map_shared(struct vm *vm, const struct msg_prepare *m,
	const int *fds, struct error *err)
{
	struct stat st;
	void *p;

	if (m->shared_bytes < sizeof(struct vm_shared))
		return error_set(err, EPROTO, "the shared memory is too small");
	/* The daemon's alone: it does not shrink under the mapping later. */
	if (fstat(fds[MSG_PREPARE_FD_SHARED], &st) < 0 ||
		st.st_size < (off_t)m->shared_bytes)
		return error_set(err, EPROTO,
			"the shared memory is smaller than announced");
	p = mmap(NULL, m->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		fds[MSG_PREPARE_FD_SHARED], 0);
	if (p == MAP_FAILED)
		return error_errno(err, errno, "mapping the shared memory");
	vm->shared = p;
	if (vm->shared->version != VM_SHARED_VERSION)
		return error_set(err, EPROTO,
			"the daemon's shared memory has version %u, not %u",
			vm->shared->version, VM_SHARED_VERSION);
	vm->seccomp = seccomp_image_map(fds[MSG_PREPARE_FD_SECCOMP]);
	if (!vm->seccomp)
		return error_errno(err, errno, "mapping the seccomp programs");
	__atomic_store_n(&vm->shared->moments[VM_MOMENT_PROCESS_READY],
		vm->ready_ns, __ATOMIC_RELAXED);
	return console_init(&vm->console, vm->shared, m->shared_bytes,
		fds[MSG_PREPARE_FD_WAKE], err);
}

static int on_vcpu_thread(void *arg)
{
	return vm_enter_filter(arg, SECCOMP_VCPU);
}

static void on_vcpu_end(
	void *arg, enum vm_exit_reason reason, const char *detail)
{
	struct vm *vm = arg;

	vm_events_end(&vm->events, reason, detail);
}

static int begin_vcpus(struct vm *vm, unsigned n, struct error *err)
{
	const struct vcpus_config config = {
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.shared = vm->shared,
		.thread_start = on_vcpu_thread,
		.ended = on_vcpu_end,
		.arg = vm,
	};

	return vcpus_begin(&vm->vcpus, n, &config, err);
}

static int check(const struct msg_prepare *m, struct error *err)
{
	if (m->protocol != MSG_PROTOCOL)
		return error_set(err, EPROTO,
			"the daemon speaks protocol %u, not %u", m->protocol,
			MSG_PROTOCOL);
	if (m->vcpu_count < 1 || m->vcpu_count > VM_MAX_VCPUS)
		return error_field(err, EINVAL, VCPU_FIELD,
			"must be between 1 and %d", VM_MAX_VCPUS);
	if (m->mem_bytes == 0)
		return error_field(err, EINVAL, MEM_FIELD, "must not be 0");
	return 0;
}

/* Before this thread's filter, which has no getrandom. */
static int choose_guid(struct vm *vm, struct error *err)
{
	ssize_t n = getrandom(vm->first_guid, sizeof(vm->first_guid), 0);

	return n == (ssize_t)sizeof(vm->first_guid)
		       ? 0
		       : error_errno(err, EIO, "getrandom");
}

/* Threads begin as soon as they can, and get ready while KVM makes the VM. */
int vm_prepare(struct vm *vm, const struct msg_prepare *m, const int *fds,
	struct error *err)
{
	int r = check(m, err);

	if (r < 0)
		return r;
	vm->ram_bytes = m->mem_bytes;
	vm->address_bits = memory_plan_address_bits(m);
	r = map_shared(vm, m, fds, err);
	if (r == 0)
		r = choose_guid(vm, err);
	if (r == 0)
		r = begin_vcpus(vm, m->vcpu_count, err);
	if (r == 0)
		r = gmem_create(&vm->mem, m->mem_bytes, LAYOUT_HOLE,
			LAYOUT_HOLE_END, m->huge_pages == VM_PAGES_2M, err);
	if (r == 0)
		r = vm_create_machine(vm, m, fds, err);
	return r < 0 ? r : vcpus_ready(&vm->vcpus, err);
}

int vm_create(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	int r;

	r = memory_plan(&vm->plan, start, vm->ram_bytes, vm->address_bits, err);
	if (r == 0)
		r = vm_create_devices(vm, start, fds, err);
	if (r == 0)
		r = vm_bind_devices(vm, err);
	return r < 0 ? r : vm_workers_start(vm, err);
}

static int write_generation(struct vm *vm, struct error *err)
{
	int r = generation_init(&vm->generation, &vm->mem,
		vm->generation_irq_fd, vm->first_guid);

	return r < 0 ? error_field(err, -r, MEM_FIELD,
			       "there is no memory for the VM's generation")
		     : 0;
}

int vm_load(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	struct platform_virtio virtio[VM_MAX_VIRTIO];
	struct platform platform = {.n_vcpus = vm->vcpus.n,
		.virtio = virtio,
		.n_virtio = vm->n_slots};
	char cmdline[VM_CMDLINE_MAX];
	struct boot_images images = {
		.kernel_fd = fds[MSG_START_FD_KERNEL],
		.initrd_fd = -1,
		.cmdline = cmdline,
	};
	struct boot_entry entry;
	struct msg_start_fds at;
	int r;

	msg_start_fds(start, &at);
	if (at.initrd >= 0)
		images.initrd_fd = fds[at.initrd];

	for (unsigned i = 0; i < vm->n_slots; i++)
		virtio[i] = (struct platform_virtio){
			.gpa = vm_slot_gpa(i), .irq = LAYOUT_IRQ_VIRTIO + i};
	memcpy(cmdline, start->cmdline, sizeof(cmdline));
	r = cmdline_add_virtio(cmdline, &platform, err);
	if (r == 0)
		r = acpi_write(&vm->mem, &platform, &images.rsdp_gpa, err);
	if (r == 0)
		r = mptable_write(&vm->mem, &platform, err);
	if (r == 0)
		r = reset_vector_write(&vm->mem, err);
	if (r == 0)
		r = write_generation(vm, err);
	if (r == 0)
		r = boot_load(&vm->mem, &images, &entry, err);
	if (r < 0)
		return r;
	r = regs_set_boot(vm->vcpus.cpu[0].fd, &entry);
	return r < 0 ? error_errno(
			       err, -r, "setting the first vCPU's registers")
		     : 0;
}

static void set_run_state(struct vm *vm, enum vm_run_state state)
{
	__atomic_store_n(&vm->shared->run_state, state, __ATOMIC_RELEASE);
}

void vm_run(struct vm *vm)
{
	set_run_state(vm, VM_RUN_STATE_RUNNING);
	vcpus_run(&vm->vcpus);
}

int vm_pause(struct vm *vm)
{
	int r = vcpus_pause(&vm->vcpus);

	if (r == 0)
		set_run_state(vm, VM_RUN_STATE_PAUSED);
	return r;
}

/* The descriptor keeps its number: other threads write to it. */
int vm_adopt(struct vm *vm, int taken_wake_fd)
{
	int r = dup3(taken_wake_fd, vm->console.wake_fd, O_CLOEXEC);

	close(taken_wake_fd);
	return r < 0 ? -errno : 0;
}

/* A worker ends when nothing is in flight any more: what a disk was asked for
 * completes by itself, what waits for packets or peers only if it is reset. */
static void reset_waiting(struct vm *vm)
{
	const uint32_t reset = 0;

	for (unsigned i = 0; i < vm->n_slots; i++) {
		struct vm_slot *slot = &vm->slots[i];
		uint32_t id = slot->dev->ops->id;

		if (id == VIRTIO_ID_NET || id == VIRTIO_ID_VSOCK)
			virtio_mmio_write(slot->transport, VIRTIO_MMIO_STATUS,
				&reset, sizeof(reset));
	}
}

void vm_stop(struct vm *vm)
{
	struct msg_exiting m = {.reason = VM_EXIT_NONE};

	vcpus_stop(&vm->vcpus);
	reset_waiting(vm);
	for (unsigned i = 0; i < VM_WORKERS; i++)
		if (vm->workers[i])
			worker_stop(vm->workers[i]);
	/* What a daemon reads that was not there to hear of it. */
	if (vm_events_ended(&vm->events, &m)) {
		vm->shared->exit_reason = m.reason;
		memcpy(vm->shared->exit_detail, m.detail, sizeof(m.detail));
	}
	set_run_state(vm, VM_RUN_STATE_ENDED);
}
