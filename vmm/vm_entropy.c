#include "vmm/vm_parts.h"

int vm_create_entropy(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct rng_config config = {
		.limiter = start->entropy_limiter,
		.stats = &vm->shared->rng,
	};
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	(void)fds;
	if (!start->has_entropy)
		return 0;
	r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r == 0)
		r = rng_create(&vm->rng, worker, &config, err);
	if (r == 0)
		r = vm_slot_plug(slot, vm->rng, err);
	return r;
}
