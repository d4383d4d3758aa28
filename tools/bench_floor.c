#include "bench_floor.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "virtio/gmem.h"
#include "vmm/boot.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/msg.h"
#include "vmm/regs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define MAX_PAGES                                                              \
	64 /* a tiny guest, its page tables and its boot parameters            \
	    */
#define LOW_MEMORY (2ull << 20) /* where all of those lie */

struct page {
	uint64_t gpa;
	uint8_t data[PAGE];
};

struct floor {
	int kvm;
	int run_bytes;
	uint64_t mem_bytes;
	struct boot_entry entry;
	struct kvm_cpuid2 *cpuid;
	struct page pages[MAX_PAGES];
	unsigned n_pages;
};

/* One VM; what is there of it. */
struct floor_machine {
	int vm, vcpu;
	void *mem;
	struct kvm_run *run;
};

static int keep_pages(struct floor *f, const struct gmem *mem)
{
	static const uint8_t zero[PAGE];

	for (uint64_t gpa = 0; gpa < LOW_MEMORY; gpa += PAGE) {
		const void *p = gmem_range(mem, gpa, PAGE);

		if (memcmp(p, zero, PAGE) == 0)
			continue;
		if (f->n_pages == MAX_PAGES)
			return -E2BIG;
		f->pages[f->n_pages].gpa = gpa;
		memcpy(f->pages[f->n_pages++].data, p, PAGE);
	}
	return 0;
}

static int load(struct floor *f, const char *kernel_path, struct error *err)
{
	_cleanup_close_ int kernel = open(kernel_path, O_RDONLY | O_CLOEXEC);
	const struct boot_images images = {
		.kernel_fd = kernel, .initrd_fd = -1, .cmdline = ""};
	struct gmem mem;
	int r;

	if (kernel < 0)
		return error_errno(err, errno, "%s", kernel_path);
	r = gmem_create(
		&mem, f->mem_bytes, LAYOUT_HOLE, LAYOUT_HOLE_END, false, err);
	if (r < 0)
		return r;
	r = boot_load(&mem, &images, &f->entry, err);
	if (r == 0 && keep_pages(f, &mem) < 0)
		r = error_set(err, E2BIG, "%s is no tiny guest", kernel_path);
	gmem_destroy(&mem);
	return r;
}

int floor_create(struct floor **ret, const char *kernel_path,
	uint64_t mem_bytes, struct error *err)
{
	struct floor *f = calloc(1, sizeof(*f));
	size_t n = MSG_CPUID_MAX * sizeof(f->cpuid->entries[0]);
	int r;

	if (!f)
		return error_errno(err, ENOMEM, "the floor");
	f->mem_bytes = mem_bytes;
	f->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	f->cpuid = calloc(1, sizeof(*f->cpuid) + n);
	if (f->kvm < 0 || !f->cpuid) {
		r = error_errno(err, errno, "/dev/kvm");
	} else {
		f->cpuid->nent = MSG_CPUID_MAX;
		r = kvm_get_supported_cpuid(f->kvm, f->cpuid);
		f->run_bytes = kvm_vcpu_mmap_bytes(f->kvm);
		if (r < 0 || f->run_bytes < 0)
			r = error_errno(err, EIO, "asking KVM");
		else
			r = load(f, kernel_path, err);
	}
	if (r < 0)
		floor_destroy(f);
	else
		*ret = f;
	return r;
}

void floor_destroy(struct floor *f)
{
	if (!f)
		return;
	close_fd(&f->kvm);
	free(f->cpuid);
	free(f);
}

static int make_memory(struct floor *f, struct floor_machine *m)
{
	m->mem = mmap(NULL, f->mem_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->mem == MAP_FAILED) {
		m->mem = NULL;
		return -errno;
	}
	for (unsigned i = 0; i < f->n_pages; i++)
		memcpy((uint8_t *)m->mem + f->pages[i].gpa, f->pages[i].data,
			PAGE);
	return kvm_set_memory(m->vm, 0, 0, m->mem, f->mem_bytes, 0);
}

/* Memory before the irqchip; no interval timer. */
static int make_machine(struct floor *f, struct floor_machine *m)
{
	int r;

	m->vm = kvm_create_vm(f->kvm);
	if (m->vm < 0)
		return m->vm;
	r = make_memory(f, m);
	if (r == 0)
		r = kvm_create_irqchip(m->vm);
	if (r < 0)
		return r;
	m->vcpu = kvm_create_vcpu(m->vm, 0);
	if (m->vcpu < 0)
		return m->vcpu;
	r = kvm_map_run(m->vcpu, (size_t)f->run_bytes, &m->run);
	if (r == 0)
		r = kvm_set_cpuid(m->vcpu, f->cpuid);
	if (r == 0)
		r = regs_set_boot(m->vcpu, &f->entry);
	return r;
}

/* 0 once the guest has written to the ready port. */
static int run_until_ready(struct floor_machine *m)
{
	for (;;) {
		int r = kvm_run(m->vcpu);

		if (r == -EAGAIN || r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (m->run->exit_reason != KVM_EXIT_IO ||
			m->run->io.port != LAYOUT_PORT_READY)
			return -EIO;
		return 0;
	}
}

static void unmake(struct floor *f, struct floor_machine *m)
{
	if (m->run)
		kvm_unmap_run(m->run, (size_t)f->run_bytes);
	close_fd(&m->vcpu);
	close_fd(&m->vm);
	if (m->mem)
		munmap(m->mem, f->mem_bytes);
}

int floor_start(struct floor *f, struct floor_machine **ret, struct error *err)
{
	static const struct floor_machine none = {.vm = -1, .vcpu = -1};
	struct floor_machine *m = malloc(sizeof(*m));
	int r;

	if (!m)
		return error_errno(err, ENOMEM, "the floor");
	*m = none;
	r = make_machine(f, m);
	if (r == 0)
		r = run_until_ready(m);
	*ret = m;
	return r < 0 ? error_errno(err, -r, "raw KVM") : 0;
}

int floor_round(struct floor *f, uint64_t *ret_start_ns, uint64_t *ret_end_ns,
	struct error *err)
{
	struct floor_machine m = {.vm = -1, .vcpu = -1};
	uint64_t begin = clock_ns(), ready;
	int r = make_machine(f, &m);

	if (r == 0)
		r = run_until_ready(&m);
	ready = clock_ns();
	unmake(f, &m);
	*ret_start_ns = ready - begin;
	*ret_end_ns = clock_ns() - ready;
	return r < 0 ? error_errno(err, -r, "raw KVM") : 0;
}
