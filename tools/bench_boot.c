/*
 * One boot of a Linux kernel, timed until its init runs:
 *
 *   bench_boot raw|mayfly|qemu KERNEL INITRD [VMM]
 *
 * raw: KVM calls and nothing else, no device, no process: what the kernel
 * itself takes. mayfly: from the request's arrival at a mayflyd started here.
 * qemu: QEMU's microvm machine, from exec.
 *
 * The initrd's init writes a byte to the ready port and then "R" to its
 * console. Prints "NAME MICROSECONDS" lines. tools/bench boot runs it in the
 * test bed, where time is virtual.
 */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench_client.h"
#include "bench_daemon.h"
#include "virtio/gmem.h"
#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/msg.h"
#include "vmm/msrs.h"
#include "vmm/platform_tables.h"
#include "vmm/regs.h"
#include "vmm/vcpu_exit.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define MEM_MIB 128
#define LIMIT_NS 120000000000ull

/* The same for all: a quiet console, and what a KVM guest need not find out. */
#define BOOT_ARGS                                                              \
	"console=ttyS0 quiet loglevel=1 reboot=k panic=-1 tsc=reliable "       \
	"no_timer_check"

static void report(const char *name, uint64_t ns)
{
	printf("%s %llu\n", name, (unsigned long long)ns / 1000);
}

/* ---- raw ---- */

static bool guest_ready;

static void ready_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	(void)dev;
	(void)off;
	(void)data;
	(void)len;
	guest_ready = true;
}

static void ready_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0xff, len);
}

static void check(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

static void set_up_vcpu(int kvm, int vm, int vcpu)
{
	struct cpuid_config config = {.n_vcpus = 1,
		.tsc_deadline = kvm_check_extension(
					vm, KVM_CAP_TSC_DEADLINE_TIMER) > 0};
	struct cpuid_table table = {.nent = CPUID_MAX};
	int khz = kvm_get_tsc_khz(vcpu);

	config.tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	check(kvm_get_supported_cpuid(kvm, (struct kvm_cpuid2 *)&table),
		"KVM_GET_SUPPORTED_CPUID");
	check(cpuid_filter(&table, &config), "CPUID");
	cpuid_set_vcpu(&table, 0);
	check(kvm_set_cpuid(vcpu, cpuid_table_kvm(&table)), "KVM_SET_CPUID2");
	check(msrs_set_boot(vcpu), "KVM_SET_MSRS");
}

static void load(const struct gmem *mem, const char *kernel, const char *initrd,
	struct boot_entry *ret)
{
	const struct platform platform = {.n_vcpus = 1};
	struct boot_images images = {
		.kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC),
		.initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC),
		.cmdline = BOOT_ARGS};
	struct error e = {0};
	int r = acpi_write(mem, &platform, &images.rsdp_gpa, &e);

	if (r == 0)
		r = mptable_write(mem, &platform, &e);
	if (r == 0)
		r = boot_load(mem, &images, ret, &e);
	if (r < 0)
		errx(1, "%s", e.msg);
	close(images.kernel_fd);
	close(images.initrd_fd);
}

static void run_until_ready(int vcpu, struct kvm_run *run)
{
	static struct vcpu_counters counters;
	static struct bus pio, mmio;
	const struct bus_range port = {
		LAYOUT_PORT_READY, 1, NULL, ready_read, ready_write};
	struct vcpu_end end = {0};

	bus_add(&pio, &port);
	while (!guest_ready) {
		int r = kvm_run(vcpu);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		check(r, "KVM_RUN");
		if (vcpu_exit_handle(run, vcpu, &pio, &mmio, &counters, &end) !=
			VM_EXIT_NONE)
			errx(1, "the guest ended early: %s", end.detail);
	}
}

static void boot_raw(const char *kernel, const char *initrd)
{
	uint64_t begin = clock_ns(), entered;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
	struct boot_entry entry;
	struct kvm_run *run;
	struct error e = {0};
	struct gmem mem;

	if (kvm < 0)
		err(1, "/dev/kvm");
	if (gmem_create(&mem, MEM_MIB << 20, LAYOUT_HOLE, LAYOUT_HOLE_END,
		    false, &e) < 0)
		errx(1, "%s", e.msg);
	vm = kvm_create_vm(kvm);
	check(vm, "KVM_CREATE_VM");
	check(kvm_set_memory(
		      vm, 0, 0, mem.regions[0].hva, mem.regions[0].len, 0),
		"KVM_SET_USER_MEMORY_REGION");
	check(kvm_create_irqchip(vm), "KVM_CREATE_IRQCHIP");
	vcpu = kvm_create_vcpu(vm, 0);
	check(vcpu, "KVM_CREATE_VCPU");
	check(kvm_map_run(vcpu, (size_t)kvm_vcpu_mmap_bytes(kvm), &run),
		"mmap of the vCPU");
	set_up_vcpu(kvm, vm, vcpu);
	load(&mem, kernel, initrd, &entry);
	check(regs_set_boot(vcpu, &entry), "KVM_SET_REGS");
	entered = clock_ns();
	run_until_ready(vcpu, run);
	report("entered", entered - begin);
	report("init", clock_ns() - begin);
}

/* ---- mayfly ---- */

static uint64_t moment(struct json_object *vm, const char *key)
{
	struct json_object *timeline, *v;

	if (!json_object_object_get_ex(vm, "timeline", &timeline) ||
		!json_object_object_get_ex(timeline, key, &v))
		return 0;
	return json_object_get_uint64(v);
}

static void boot_mayfly(const char *kernel, const char *initrd, const char *vmm)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	uint64_t deadline = clock_ns() + LIMIT_NS, ready = 0;
	struct client *c;
	char body[2048];

	snprintf(body, sizeof(body),
		"{\"boot-source\": {\"kernel_image_path\": \"%s\", "
		"\"initrd_path\": \"%s\", \"boot_args\": \"" BOOT_ARGS "\"}, "
		"\"machine-config\": {\"vcpu_count\": 1, "
		"\"mem_size_mib\": %d}, \"start\": true}",
		kernel, initrd, MEM_MIB);
	bench_daemon_start(MAYFLYD,
		vmm ? (const char *const[]){"--vmm", vmm, NULL} : NULL);
	c = client_connect(bench_daemon_socket());
	json_object_put(client_ask(c, "PUT", "/v1/vms/bench", body, 201).body);
	while (ready == 0 && clock_ns() < deadline) {
		struct json_object *vm;

		nanosleep(&pause, NULL);
		vm = client_ask(c, "GET", "/v1/vms/bench", NULL, 200).body;
		ready = moment(vm, "guest_ready");
		if (ready) {
			report("entered", moment(vm, "first_instruction"));
			report("init", ready);
		}
		json_object_put(vm);
	}
	if (ready == 0)
		errx(1, "the guest's init was not reached");
	client_ask(c, "DELETE", "/v1/vms/bench", NULL, 204);
	client_close(c);
}

/* ---- qemu ---- */

static pid_t start_qemu(const char *kernel, const char *initrd, int out)
{
	char mem[16];
	pid_t pid;

	snprintf(mem, sizeof(mem), "%d", MEM_MIB);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid > 0)
		return pid;
	dup2(out, STDOUT_FILENO);
	execlp("qemu-system-x86_64", "qemu-system-x86_64", "-M",
		"microvm,accel=kvm,acpi=off,pit=off,pic=off,rtc=off,"
		"x-option-roms=off,isa-serial=on,auto-kernel-cmdline=off",
		"-cpu", "host", "-smp", "1", "-m", mem, "-nodefaults",
		"-no-user-config", "-display", "none", "-no-reboot", "-serial",
		"stdio", "-kernel", kernel, "-initrd", initrd, "-append",
		BOOT_ARGS, NULL);
	_exit(127);
}

static void boot_qemu(const char *kernel, const char *initrd)
{
	uint64_t begin;
	int pipes[2];
	pid_t pid;
	char c = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		err(1, "pipe");
	begin = clock_ns();
	pid = start_qemu(kernel, initrd, pipes[1]);
	close(pipes[1]);
	while (c != 'R')
		if (read(pipes[0], &c, 1) != 1)
			errx(1, "QEMU ended before the guest's init ran");
	report("init", clock_ns() - begin);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "raw") == 0)
		boot_raw(argv[2], argv[3]);
	else if (argc >= 5 && strcmp(argv[1], "mayfly") == 0)
		boot_mayfly(argv[2], argv[3], argv[4]);
	else if (argc >= 4 && strcmp(argv[1], "qemu") == 0)
		boot_qemu(argv[2], argv[3]);
	else
		errx(2, "usage: bench_boot raw|mayfly|qemu KERNEL INITRD "
			"[VMM]");
	return 0;
}
