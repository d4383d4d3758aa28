#include "tests/unit/vm_start.h"

#include "tests/unit/kernel_images.h"

#include <check.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define SHARED_BYTES (sizeof(struct vm_shared) + 4096)
#define DRIVE_BYTES (1u << 20)

static int sized_memfd(size_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static int seccomp_fd(void)
{
	struct seccomp_image *img = calloc(1, sizeof(*img));
	int fd;

	ck_assert_ptr_nonnull(img);
	for (unsigned r = 0; r < SECCOMP_ROLES; r++) {
		img->n_insns[r] = 1;
		img->insns[r][0] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	fd = image_fd(img, sizeof(*img));
	free(img);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	return fd;
}

static void make_shared(struct vm_start *s)
{
	int fd = sized_memfd(SHARED_BYTES);

	s->shared = mmap(
		NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(s->shared, MAP_FAILED);
	s->shared->version = VM_SHARED_VERSION;
	s->shared->console_bytes = 4096;
	s->prep.prepare.shared_bytes = SHARED_BYTES;
	s->prep_fds[MSG_PREPARE_FD_SHARED] = fd;
}

void vm_start_make(struct vm_start *s, unsigned n_drives)
{
	struct elf_image elf;

	memset(s, 0, sizeof(*s));
	s->prep.prepare = (struct msg_prepare){.hdr = {MSG_PREPARE, 8},
		.protocol = MSG_PROTOCOL,
		.vcpu_count = 1,
		.mem_bytes = 16 * MIB,
		.n_cpuid = 1,
		.cpuid = {{.function = 1}}};
	s->msg.start = (struct msg_start){.hdr = {MSG_START, 9},
		.id = "a",
		.n_drives = (uint8_t)n_drives,
		.cmdline = "console=ttyS0"};
	make_shared(s);
	elf_build(&elf);
	s->prep_fds[MSG_PREPARE_FD_KVM] = eventfd(0, EFD_CLOEXEC);
	s->prep_fds[MSG_PREPARE_FD_SECCOMP] = seccomp_fd();
	s->prep_fds[MSG_PREPARE_FD_WAKE] =
		eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->fds[MSG_START_FD_KERNEL] = image_fd(elf.bytes, elf.size);
	s->n_fds = MSG_START_FD_FIXED;
	for (unsigned i = 0; i < n_drives; i++) {
		s->msg.start.drives[i].size_bytes = DRIVE_BYTES;
		s->fds[s->n_fds++] = sized_memfd(DRIVE_BYTES);
	}
}

unsigned vm_start_add_pmem(struct vm_start *s, uint64_t bytes, bool read_only)
{
	unsigned index = s->msg.start.n_pmem++;

	s->msg.start.pmem[index] = (struct msg_pmem){
		.size_bytes = (bytes + 2 * MIB - 1) / (2 * MIB) * (2 * MIB),
		.file_bytes = bytes,
		.read_only = read_only};
	s->fds[s->n_fds++] = sized_memfd(bytes);
	return index;
}

void vm_start_free(struct vm_start *s)
{
	unsigned n = MSG_PREPARE_FD_CONTROL + s->prep.prepare.has_control;

	for (unsigned i = 0; i < n; i++)
		close(s->prep_fds[i]);
	for (unsigned i = 0; i < s->n_fds; i++)
		close(s->fds[i]);
	munmap(s->shared, SHARED_BYTES);
}

int vm_start_create(struct vm *vm, struct vm_start *s, struct error *err)
{
	int r = vm_prepare(vm, &s->prep.prepare, s->prep_fds, err);

	return r < 0 ? r : vm_create(vm, &s->msg.start, s->fds, err);
}

void vm_start_destroy_vm(struct vm *vm)
{
	vcpus_destroy(&vm->vcpus);
	for (unsigned i = 0; i < VM_MAX_VIRTIO; i++) {
		struct vm_slot *slot = &vm->slots[i];

		if (slot->transport) {
			virtio_mmio_destroy(slot->transport);
			close(slot->irq_fd);
		}
	}
	for (unsigned i = 0; i < VM_WORKERS; i++)
		worker_destroy(vm->workers[i]);
	for (unsigned i = 0; i < VM_MAX_VIRTIO; i++)
		if (vm->slots[i].dev)
			vm->slots[i].dev->ops->destroy(vm->slots[i].dev);
	gmem_destroy(&vm->mem);
	for (unsigned i = 0; i < VM_MAX_PMEM; i++)
		if (vm->pmem_maps[i].len)
			munmap(vm->pmem_maps[i].hva, vm->pmem_maps[i].len);
	if (vm->shared)
		munmap(vm->shared, SHARED_BYTES);
	if (vm->seccomp)
		munmap((void *)(uintptr_t)vm->seccomp, sizeof(*vm->seccomp));
	if (vm->vm_fd > 0)
		close(vm->vm_fd);
	close(vm->event_fd);
	close(vm->serial_irq_fd);
	close(vm->keyboard_irq_fd);
	close(vm->generation_irq_fd);
	memset(vm, 0, sizeof(*vm));
}
