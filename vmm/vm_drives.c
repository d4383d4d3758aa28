#include "vmm/vm_parts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void on_blk_error(void *arg, int code)
{
	struct vm_slot *slot = arg;

	/* Drives have the first slots. */
	vm_events_blk_error(&slot->vm->events, slot->index, code);
}

static int create_drive(struct vm *vm, unsigned index,
	const struct msg_start *start, int fd, struct error *err)
{
	const struct msg_drive *drive = &start->drives[index];
	struct blk_config config = {
		.fd = fd,
		.size_bytes = drive->size_bytes,
		.direct_align = drive->direct_align,
		.block_bytes = drive->block_bytes,
		.read_only = drive->read_only,
		.writeback = drive->writeback,
		.n_queues = vm->vcpus.n,
		.limiter = drive->limiter,
		.stats = &vm->shared->blk[index],
		.on_error = on_blk_error,
	};
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	memcpy(config.serial, drive->serial, sizeof(config.serial));
	r = vm_worker(vm, VM_WORKER_IO, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r < 0)
		return r;
	config.arg = slot;
	r = blk_create(&vm->drives[index], worker, &config, err);
	return r < 0 ? r : vm_slot_plug(slot, vm->drives[index], err);
}

int vm_create_drives(struct vm *vm, const struct msg_start *start,
	const int *fds, struct error *err)
{
	struct msg_start_fds at;

	msg_start_fds(start, &at);
	for (unsigned i = 0; i < start->n_drives; i++)
		if (create_drive(vm, i, start, fds[at.drives + i], err) < 0)
			return error_wrap(err, "drive %u", i);
	return 0;
}

static struct virtio_dev *find(const struct vm *vm, unsigned index)
{
	return index < VM_MAX_DRIVES ? vm->drives[index] : NULL;
}

int vm_set_drive(struct vm *vm, const struct msg_drive_update *m, int taken_fd)
{
	struct virtio_dev *d = find(vm, m->index);

	if (!d) {
		close(taken_fd);
		return -EINVAL;
	}
	return blk_set_file(d, taken_fd, m->size_bytes, m->direct_align);
}

int vm_limit_drive(
	struct vm *vm, unsigned index, const struct rate_limiter_update *u)
{
	struct virtio_dev *d = find(vm, index);

	return d ? blk_limit(d, u) : -EINVAL;
}
