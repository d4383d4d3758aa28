#include "vmm/vm_parts.h"

#include <errno.h>

int vm_create_balloon(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	const struct balloon_config config = {
		.target_pages = start->balloon.target_pages,
		.deflate_on_oom = start->balloon.deflate_on_oom,
		.hinting = start->balloon.hinting,
		.reporting = start->balloon.reporting,
		.stats_interval_s = start->balloon.stats_interval_s,
		.mem = &vm->mem,
		.state = &vm->shared->balloon,
	};
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	(void)fds;
	if (!start->has_balloon)
		return 0;
	r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r == 0)
		r = balloon_create(&vm->balloon, worker, &config, err);
	if (r == 0)
		r = vm_slot_plug(slot, vm->balloon, err);
	return r;
}

int vm_obey_balloon(struct vm *vm, const struct msg_balloon *m)
{
	if (!vm->balloon)
		return -ENOTSUP;
	switch (m->what) {
	case MSG_BALLOON_TARGET:
		return balloon_set_target(vm->balloon, m->value);
	case MSG_BALLOON_STATS_INTERVAL:
		return balloon_set_stats_interval(vm->balloon, m->value);
	case MSG_BALLOON_HINTING_START:
		return balloon_hinting_start(vm->balloon, m->value);
	case MSG_BALLOON_HINTING_STOP:
		return balloon_hinting_stop(vm->balloon);
	default:
		return -EINVAL;
	}
}
