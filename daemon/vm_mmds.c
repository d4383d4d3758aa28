#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

void vm_mmds_fini(struct api_mmds_data *d)
{
	free(d->json);
	free(d->image);
	*d = (struct api_mmds_data){NULL};
}

int vm_mmds_memfd(const struct api_mmds_data *d, struct error *err)
{
	_cleanup_close_ int fd = memfd_create("mayfly-mmds", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return error_errno(err, errno, "memfd_create");
	r = fd_pwrite_full(fd, d->image, d->image_len, 0);
	if (r < 0)
		return error_errno(err, -r, "writing the metadata");
	return take_fd(&fd);
}

/* A message that is sent will be done: the VM copies and checks what this
 * daemon has made. */
static int send_data(struct vm *vm, const struct api_mmds_data *d,
	struct api_op *op, struct error *err)
{
	union msg m = {.mmds = {.hdr = {.type = MSG_MMDS},
			       .len = (uint32_t)d->image_len}};
	_cleanup_close_ int fd = vm_mmds_memfd(d, err);

	if (fd < 0)
		return -err->code;
	return vm_request(
		vm, &m, &fd, 1, (struct vm_then){VM_EVENTS, NULL}, op, err);
}

int vm_mmds_set(struct vm *vm, struct api_mmds_data *d, struct api_op *op,
	struct error *err)
{
	enum vm_state after = vm->state;
	bool runs = vm->state != VM_NOT_STARTED;
	struct error ignored;
	int r = runs ? vm_state_after(&after, VM_EV_UPDATE, err) : 0;

	if (r == 0)
		r = vm_save_mmds(vm, d, err);
	if (r == 0 && runs && vm->config.mmds.there) {
		r = send_data(vm, d, op, err);
		if (r < 0)
			(void)vm_save_mmds(vm, &vm->mmds, &ignored);
	}
	if (r < 0) {
		vm_mmds_fini(d);
		return r;
	}
	vm_mmds_fini(&vm->mmds);
	vm->mmds = *d;
	return r;
}
