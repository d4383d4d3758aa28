#include "vmm/kvm.h"
#include "vmm/vm_parts.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/*
 * The file, and behind its end, up to the region's, memory of nobody: what the
 * guest writes there is lost. Only KVM looks at it: if somebody cuts the file
 * short a touch of ours would be a signal, while the guest's makes KVM_RUN
 * fail.
 */
static int map_file(void **ret, int fd, const struct msg_pmem *p)
{
	int prot = p->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	void *at;
	int r;

	r = gmem_map(&at, p->size_bytes, MAP_NORESERVE);
	if (r < 0)
		return r;
	if (mmap(at, p->file_bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0) ==
		MAP_FAILED) {
		r = -errno;
		munmap(at, p->size_bytes);
		return r;
	}
	madvise(at, p->size_bytes, MADV_DONTDUMP);
	*ret = at;
	return 0;
}

static int create_pmem(struct vm *vm, unsigned index, const struct msg_pmem *p,
	int fd, struct error *err)
{
	struct vm_pmem_map *map = &vm->pmem_maps[index];
	struct pmem_config config = {
		.gpa = vm->plan.pmem_gpa[index],
		.size_bytes = p->size_bytes,
		.file_bytes = p->file_bytes,
		.fd = fd,
		.read_only = p->read_only,
		.limiter = p->limiter,
		.stats = &vm->shared->pmem[index],
	};
	struct worker *worker = NULL;
	struct vm_slot *slot = NULL;
	int r;

	r = map_file(&map->hva, fd, p);
	if (r < 0)
		return error_field(err, -r, "pmem.path_on_host",
			"cannot be mapped: %s", strerror(-r));
	map->gpa = config.gpa;
	map->len = p->size_bytes;
	map->read_only = p->read_only;
	r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r == 0)
		r = pmem_create(&vm->pmem[index], worker, &config, err);
	return r < 0 ? r : vm_slot_plug(slot, vm->pmem[index], err);
}

int vm_create_pmem(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	struct msg_start_fds at;

	msg_start_fds(start, &at);
	for (unsigned i = 0; i < start->n_pmem; i++)
		if (create_pmem(vm, i, &start->pmem[i], fds[at.pmem + i], err) <
			0)
			return error_wrap(err, "pmem %u", i);
	return 0;
}

int vm_map_pmem(struct vm *vm, struct error *err)
{
	for (unsigned i = 0; i < VM_MAX_PMEM; i++) {
		const struct vm_pmem_map *map = &vm->pmem_maps[i];
		int r;

		if (map->len == 0)
			continue;
		/* A write to what is read-only comes out as an MMIO exit, to
		 * which nothing answers. */
		r = kvm_set_memory(vm->vm_fd, VM_KVM_SLOT_PMEM + i, map->gpa,
			map->hva, map->len,
			map->read_only ? KVM_MEM_READONLY : 0);
		if (r < 0)
			return error_errno(err, -r,
				"KVM_SET_USER_MEMORY_REGION for pmem %u", i);
	}
	return 0;
}

int vm_limit_pmem(
	struct vm *vm, unsigned index, const struct rate_limiter_update *u)
{
	if (index >= VM_MAX_PMEM || !vm->pmem[index])
		return -EINVAL;
	return pmem_limit(vm->pmem[index], u);
}
