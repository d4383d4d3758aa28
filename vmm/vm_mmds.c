#include "vmm/vm_parts.h"

#include "base/cleanup.h"

#include <errno.h>

/* Before the network interfaces, which lead to it. */
int vm_create_mmds(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	const struct mmds_config config = {
		.version = start->mmds.version,
		.ipv4 = start->mmds.ipv4,
		.imds_compat = start->mmds.imds_compat,
		.stats = &vm->shared->mmds,
	};
	struct msg_start_fds at;
	int r;

	if (!start->has_mmds)
		return 0;
	r = mmds_create(&vm->mmds, &config, err);
	if (r < 0)
		return error_wrap(err, "metadata service");
	msg_start_fds(start, &at);
	if (at.mmds >= 0)
		r = mmds_set_data(vm->mmds, fds[at.mmds], start->mmds.data_len);
	return r < 0 ? error_errno(err, -r, "the metadata") : 0;
}

int vm_set_mmds(struct vm *vm, const struct msg_mmds *m, int taken_fd)
{
	_cleanup_close_ int fd = taken_fd;

	return vm->mmds ? mmds_set_data(vm->mmds, fd, m->len) : -EINVAL;
}
