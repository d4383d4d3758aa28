#include "vmm/vm.h"

#include "base/clock.h"
#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/msrs.h"
#include "vmm/regs.h"
#include "vmm/reset_vector.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WORKER_ENTRIES 128

#define MEM_FIELD "machine-config.mem_size_mib"
#define VCPU_FIELD "machine-config.vcpu_count"

/* ---- what devices tell ---- */

static void end(struct vm *vm, enum vm_exit_reason reason)
{
	vm_events_end(&vm->events, reason, "");
	vcpus_end(&vm->vcpus);
}

static void on_power_off(void *arg)
{
	end(arg, VM_EXIT_SHUTDOWN);
}

static void on_reset(void *arg)
{
	end(arg, VM_EXIT_RESET);
}

static void on_panic(void *arg)
{
	end(arg, VM_EXIT_PANIC);
}

static void on_ready(void *arg)
{
	vm_mark(arg, VM_MOMENT_GUEST_READY);
}

static void on_vcpu_end(
	void *arg, enum vm_exit_reason reason, const char *detail)
{
	struct vm *vm = arg;

	vm_events_end(&vm->events, reason, detail);
}

static void on_driver_ok(void *arg)
{
	struct vm_slot *slot = arg;

	vm_mark(slot->vm, VM_MOMENT_KERNEL_UP);
}

static void on_needs_reset(void *arg)
{
	struct vm_slot *slot = arg;

	__atomic_fetch_add(
		&slot->vm->shared->guest_faults, 1, __ATOMIC_RELAXED);
	vm_events_needs_reset(&slot->vm->events, slot->index);
}

static void on_blk_error(void *arg, int code)
{
	struct vm_slot *slot = arg;

	vm_events_blk_error(&slot->vm->events, slot->index, code);
}

static int on_vcpu_thread(void *arg)
{
	return vm_enter_filter(arg, SECCOMP_VCPU);
}

static int on_worker_thread(void *arg)
{
	return vm_enter_filter(arg, SECCOMP_WORKER);
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

/* ---- vm_init ---- */

/*
 * The jail leaves descriptors 0, 1 and 2 closed, so these three take their
 * places: whatever would ever print to them, an assertion of the libc's say,
 * only makes the control thread look around or the guest see an interrupt.
 */
int vm_init(struct vm *vm, uint64_t ready_ns)
{
	int *fds[] = {&vm->event_fd, &vm->serial_irq_fd, &vm->keyboard_irq_fd};

	vm->ready_ns = ready_ns;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		*fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (*fds[i] < 0)
			return -errno;
	}
	vm_events_init(&vm->events, vm->event_fd);
	return vcpus_init_signal();
}

/* ---- vm_create ---- */

static int map_shared(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	struct stat st;
	void *p;

	if (start->shared_bytes < sizeof(struct vm_shared))
		return error_set(err, EPROTO, "the shared memory is too small");
	/* Sealed: it cannot shrink under the mapping later. */
	if (fstat(fds[MSG_START_FD_SHARED], &st) < 0 ||
		st.st_size < (off_t)start->shared_bytes)
		return error_set(err, EPROTO,
			"the shared memory is smaller than announced");
	p = mmap(NULL, start->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		fds[MSG_START_FD_SHARED], 0);
	if (p == MAP_FAILED)
		return error_errno(err, errno, "mapping the shared memory");
	vm->shared = p;
	if (vm->shared->version != VM_SHARED_VERSION)
		return error_set(err, EPROTO,
			"the daemon's shared memory has version %u, not %u",
			vm->shared->version, VM_SHARED_VERSION);
	vm->seccomp = seccomp_image_map(fds[MSG_START_FD_SECCOMP]);
	if (!vm->seccomp)
		return error_errno(err, errno, "mapping the seccomp programs");
	return console_init(&vm->console, vm->shared, start->shared_bytes,
		fds[MSG_START_FD_WAKE], err);
}

/* Memory before the irqchip: see kvm.h. */
static int create_machine(struct vm *vm, int kvm, struct error *err)
{
	int r;

	vm->vm_fd = kvm_create_vm(kvm);
	if (vm->vm_fd < 0)
		return error_errno(err, -vm->vm_fd, "KVM_CREATE_VM");
	for (unsigned i = 0; i < vm->mem.n; i++) {
		const struct gmem_region *g = &vm->mem.regions[i];

		r = kvm_set_memory(vm->vm_fd, i, g->gpa, g->hva, g->len);
		if (r < 0)
			return error_errno(
				err, -r, "KVM_SET_USER_MEMORY_REGION");
	}
	r = kvm_set_tss_addr(vm->vm_fd, LAYOUT_TSS);
	if (r < 0)
		return error_errno(err, -r, "KVM_SET_TSS_ADDR");
	r = kvm_set_identity_map_addr(vm->vm_fd, LAYOUT_IDENTITY_MAP);
	if (r < 0)
		return error_errno(err, -r, "KVM_SET_IDENTITY_MAP_ADDR");
	/* Performance counters are hidden from the guest; so that KVM has no
	 * code of theirs in reach of it either. Not every KVM can. */
	(void)kvm_enable_cap(
		vm->vm_fd, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
	r = kvm_create_irqchip(vm->vm_fd);
	return r < 0 ? error_errno(err, -r, "KVM_CREATE_IRQCHIP") : 0;
}

static int bind_irq(struct vm *vm, int fd, unsigned pin, struct error *err)
{
	int r = kvm_irqfd(vm->vm_fd, fd, pin);

	return r < 0 ? error_errno(err, -r, "KVM_IRQFD for pin %u", pin) : 0;
}

static int add_range(struct bus *bus, struct bus_range range, struct error *err)
{
	int r = bus_add(bus, &range);

	return r < 0 ? error_errno(err, -r, "bus range at 0x%llx",
			       (unsigned long long)range.base)
		     : 0;
}

static int create_legacy(struct vm *vm, struct error *err)
{
	const struct bus_range ranges[] = {
		{LAYOUT_PORT_SERIAL, SERIAL_PORTS, &vm->serial, serial_read,
			serial_write},
		{LAYOUT_PORT_I8042_DATA, I8042_PORTS, &vm->keyboard, i8042_read,
			i8042_write},
		{LAYOUT_PORT_SLEEP_CONTROL, 2, &vm->sleep, acpi_sleep_read,
			acpi_sleep_write},
		{LAYOUT_PORT_PVPANIC, 1, &vm->pvpanic, pvpanic_read,
			pvpanic_write},
		{LAYOUT_PORT_READY, 1, &vm->ready_port, ready_port_read,
			ready_port_write},
	};
	int r;

	serial_init(
		&vm->serial, vm->serial_irq_fd, console_write, &vm->console);
	i8042_init(&vm->keyboard, vm->keyboard_irq_fd, on_reset, vm);
	vm->sleep = (struct acpi_sleep){on_power_off, vm};
	vm->pvpanic = (struct pvpanic){on_panic, vm};
	vm->ready_port = (struct ready_port){on_ready, vm};
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		r = add_range(&vm->pio, ranges[i], err);
		if (r < 0)
			return r;
	}
	r = bind_irq(vm, vm->serial_irq_fd, LAYOUT_IRQ_SERIAL, err);
	if (r < 0)
		return r;
	return bind_irq(vm, vm->keyboard_irq_fd, LAYOUT_IRQ_KEYBOARD, err);
}

static void transport_read(void *dev, uint64_t off, void *data, unsigned len)
{
	virtio_mmio_read(dev, off, data, len);
}

static void transport_write(
	void *dev, uint64_t off, const void *data, unsigned len)
{
	virtio_mmio_write(dev, off, data, len);
}

static uint64_t slot_gpa(unsigned index)
{
	return LAYOUT_VIRTIO + index * LAYOUT_VIRTIO_STRIDE;
}

/* Gives slot->dev its transport, its interrupt, its page and its kicks. */
static int plug(struct vm_slot *slot, struct error *err)
{
	const struct virtio_mmio_events events = {
		.driver_ok = on_driver_ok,
		.needs_reset = on_needs_reset,
		.arg = slot,
	};
	struct vm *vm = slot->vm;
	uint64_t gpa = slot_gpa(slot->index);
	int r;

	slot->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (slot->irq_fd < 0)
		return error_errno(err, errno, "eventfd");
	r = virtio_mmio_create(&slot->transport, slot->dev, &vm->mem,
		slot->irq_fd, &events, err);
	if (r < 0)
		return r;
	r = bind_irq(vm, slot->irq_fd, LAYOUT_IRQ_VIRTIO + slot->index, err);
	if (r < 0)
		return r;
	for (unsigned q = 0; q < slot->dev->n_vqs; q++) {
		r = kvm_ioeventfd(vm->vm_fd,
			virtio_mmio_kick_fd(slot->transport, q),
			gpa + VIRTIO_MMIO_QUEUE_NOTIFY, q);
		if (r < 0)
			return error_errno(err, -r, "KVM_IOEVENTFD");
	}
	return add_range(&vm->mmio,
		(struct bus_range){gpa, LAYOUT_VIRTIO_STRIDE, slot->transport,
			transport_read, transport_write},
		err);
}

static int create_drive(struct vm *vm, unsigned index,
	const struct msg_drive *drive, int fd, struct error *err)
{
	struct vm_slot *slot = &vm->slots[index];
	struct blk_config config = {
		.fd = fd,
		.size_bytes = drive->size_bytes,
		.direct_align = drive->direct_align,
		.read_only = drive->read_only,
		.writeback = drive->writeback,
		.stats = &vm->shared->blk[index],
		.on_error = on_blk_error,
		.arg = slot,
	};
	int r;

	memcpy(config.serial, drive->serial, sizeof(config.serial));
	slot->vm = vm;
	slot->index = index;
	r = blk_create(&slot->dev, vm->worker, &config, err);
	if (r == 0)
		r = plug(slot, err);
	if (r == 0)
		r = blk_attach(slot->dev, err);
	if (r < 0)
		return error_wrap(err, "drive %u", index);
	vm->n_slots = index + 1;
	return 0;
}

static int create_drives(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct worker_config config = {
		.name = "io",
		.entries = WORKER_ENTRIES,
		.thread_start = on_worker_thread,
		.arg = vm,
	};
	int r;

	if (start->n_drives == 0)
		return 0;
	r = worker_create(&vm->worker, &config, err);
	for (unsigned i = 0; r == 0 && i < start->n_drives; i++)
		r = create_drive(vm, i, &start->drives[i],
			fds[MSG_START_FD_FIXED + start->has_initrd + i], err);
	return r;
}

static int set_up_cpus(
	struct vm *vm, const struct msg_start *start, struct error *err)
{
	struct cpuid_config config = {
		.n_vcpus = start->vcpu_count,
		.smt = start->smt,
		.tsc_deadline = kvm_check_extension(vm->vm_fd,
					KVM_CAP_TSC_DEADLINE_TIMER) > 0,
	};
	struct cpuid_table table = {.nent = start->n_cpuid};
	int r = kvm_get_tsc_khz(vm->vcpus.cpu[0].fd);

	config.tsc_khz = r > 0 ? (uint32_t)r : 0;
	for (uint32_t i = 0; i < start->n_cpuid; i++) {
		const struct msg_cpuid_entry *e = &start->cpuid[i];

		table.entries[i] =
			(struct kvm_cpuid_entry2){.function = e->function,
				.index = e->index,
				.flags = e->flags,
				.eax = e->eax,
				.ebx = e->ebx,
				.ecx = e->ecx,
				.edx = e->edx};
	}
	r = cpuid_filter(&table, &config);
	for (unsigned i = 0; r == 0 && i < start->vcpu_count; i++) {
		cpuid_set_vcpu(&table, i);
		r = kvm_set_cpuid(vm->vcpus.cpu[i].fd, cpuid_table_kvm(&table));
		if (r == 0)
			r = msrs_set_boot(vm->vcpus.cpu[i].fd);
	}
	return r < 0 ? error_errno(err, -r, "setting up the vCPUs") : 0;
}

static int create_vcpus(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct vcpus_config config = {
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.shared = vm->shared,
		.thread_start = on_vcpu_thread,
		.ended = on_vcpu_end,
		.arg = vm,
	};
	int r;

	r = vcpus_create(&vm->vcpus, vm->vm_fd, start->vcpu_count,
		kvm_vcpu_mmap_bytes(fds[MSG_START_FD_KVM]), &config, err);
	return r < 0 ? r : set_up_cpus(vm, start, err);
}

static int check_start(const struct msg_start *start, struct error *err)
{
	if (start->protocol != MSG_PROTOCOL)
		return error_set(err, EPROTO,
			"the daemon speaks protocol %u, not %u",
			start->protocol, MSG_PROTOCOL);
	if (start->vcpu_count < 1 || start->vcpu_count > VM_MAX_VCPUS)
		return error_field(err, EINVAL, VCPU_FIELD,
			"must be between 1 and %d", VM_MAX_VCPUS);
	if (start->mem_bytes == 0)
		return error_field(err, EINVAL, MEM_FIELD, "must not be 0");
	return 0;
}

int vm_create(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	int r;

	r = check_start(start, err);
	if (r == 0)
		r = map_shared(vm, start, fds, err);
	if (r < 0)
		return r;
	__atomic_store_n(&vm->shared->moments[VM_MOMENT_PROCESS_READY],
		vm->ready_ns, __ATOMIC_RELAXED);
	r = gmem_create(
		&vm->mem, start->mem_bytes, LAYOUT_HOLE, LAYOUT_HOLE_END, err);
	if (r == 0)
		r = create_machine(vm, fds[MSG_START_FD_KVM], err);
	if (r == 0)
		r = create_legacy(vm, err);
	if (r == 0)
		r = create_drives(vm, start, fds, err);
	if (r == 0)
		r = create_vcpus(vm, start, fds, err);
	if (r == 0 && vm->worker)
		r = worker_start(vm->worker, err);
	if (r == 0)
		r = vcpus_start(&vm->vcpus, err);
	return r;
}

/* ---- vm_load ---- */

int vm_load(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	struct platform_virtio virtio[VM_MAX_DRIVES];
	struct platform platform = {.n_vcpus = vm->vcpus.n,
		.virtio = virtio,
		.n_virtio = vm->n_slots};
	char cmdline[VM_CMDLINE_MAX];
	struct boot_images images = {
		.kernel_fd = fds[MSG_START_FD_KERNEL],
		.initrd_fd = start->has_initrd ? fds[MSG_START_FD_FIXED] : -1,
		.cmdline = cmdline,
	};
	struct boot_entry entry;
	int r;

	for (unsigned i = 0; i < vm->n_slots; i++)
		virtio[i] = (struct platform_virtio){
			.gpa = slot_gpa(i), .irq = LAYOUT_IRQ_VIRTIO + i};
	memcpy(cmdline, start->cmdline, sizeof(cmdline));
	r = cmdline_add_virtio(cmdline, &platform, err);
	if (r == 0)
		r = acpi_write(&vm->mem, &platform, &images.rsdp_gpa, err);
	if (r == 0)
		r = mptable_write(&vm->mem, &platform, err);
	if (r == 0)
		r = reset_vector_write(&vm->mem, err);
	if (r == 0)
		r = boot_load(&vm->mem, &images, &entry, err);
	if (r < 0)
		return r;
	r = regs_set_boot(vm->vcpus.cpu[0].fd, &entry);
	return r < 0 ? error_errno(
			       err, -r, "setting the first vCPU's registers")
		     : 0;
}

/* ---- life ---- */

void vm_run(struct vm *vm)
{
	vcpus_run(&vm->vcpus);
}

int vm_pause(struct vm *vm)
{
	return vcpus_pause(&vm->vcpus);
}

int vm_ctrl_alt_del(struct vm *vm)
{
	return i8042_ctrl_alt_del(&vm->keyboard);
}

int vm_console_input(struct vm *vm, const uint8_t *buf, size_t n)
{
	return serial_input(&vm->serial, buf, n);
}

void vm_stop(struct vm *vm)
{
	vcpus_stop(&vm->vcpus);
	if (vm->worker)
		worker_stop(vm->worker);
}
