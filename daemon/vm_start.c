#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/admission.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

/* Beside the vCPUs: the control thread and two I/O workers. */
#define OTHER_THREADS 3

/* In the order of msg_start_fds(). */
static int send_start(struct vm *vm, const union msg *m, int shared_fd,
	int wake_fd, struct error *err)
{
	_cleanup_close_ int mmds_fd = -1;
	struct msg_start_fds at;
	int fds[MSG_MAX_FDS], r;

	msg_start_fds(&m->start, &at);
	memset(fds, -1, sizeof(fds));
	fds[MSG_START_FD_KVM] = vm->env->kvm_fd;
	fds[MSG_START_FD_SHARED] = shared_fd;
	fds[MSG_START_FD_SECCOMP] = jail_seccomp_fd(vm->env->jail);
	fds[MSG_START_FD_WAKE] = wake_fd;
	vm_place_image_fds(vm, &m->start, fds);
	if (at.vsock >= 0)
		fds[at.vsock] = vm->uds.listen_fd;
	if (at.mmds >= 0) {
		mmds_fd = vm_mmds_memfd(&vm->mmds, err);
		if (mmds_fd < 0)
			return -err->code;
		fds[at.mmds] = mmds_fd;
	}
	taps_place_fds(&vm->taps, &m->start, fds);
	r = msg_send(vm->process.sock, MSG_DAEMON, m, fds, at.n);
	return r < 0 ? error_errno(err, -r, "starting the VM") : 0;
}

/*
 * Of the guest, for the limits of its jail. A pmem file counts as the memory it
 * is to the guest: its page cache is charged to who touches it first, does not
 * give way at all where it lies on a tmpfs, and is slow where it has to.
 */
static uint64_t memory_bytes(const struct msg_start *m)
{
	uint64_t n = m->mem_bytes;

	if (m->has_vsock)
		n += VSOCK_MEMORY_BYTES;
	if (m->has_memory_hotplug)
		n += m->memory_hotplug.region_bytes;
	for (unsigned i = 0; i < m->n_pmem; i++)
		n += m->pmem[i].size_bytes;
	return n;
}

static void on_start_timeout(struct loop_timer *t)
{
	struct vm *vm =
		(struct vm *)((char *)t - offsetof(struct vm, start_timer));

	error_set(&vm->start_err, EIO,
		"the VM did not start within %llu s and was killed",
		(unsigned long long)(vm->env->start_timeout_ns / 1000000000u));
	vm_kill(vm, VM_EXIT_KILLED, NULL);
}

static int watch(struct vm *vm, struct error *err)
{
	int r = loop_add(vm->env->loop, &vm->pidfd, vm->process.pidfd, EPOLLIN);

	if (r == 0)
		r = loop_add(
			vm->env->loop, &vm->sock, vm->process.sock, EPOLLIN);
	vm->start_timer.fire = on_start_timeout;
	if (r == 0)
		r = loop_set_timer(vm->env->loop, &vm->start_timer,
			clock_ns() + vm->env->start_timeout_ns);
	return r < 0 ? error_errno(err, -r, "watching the VM") : 0;
}

/* The process and the page; on failure what was made is still there. */
static int launch(struct vm *vm, union msg *m, struct error *err)
{
	const struct vm_machine_config *mc = &vm->config.machine_config;
	_cleanup_close_ int shared_fd = -1;
	int wake_fd;

	if (output_open(vm->output, &shared_fd, &wake_fd, err) < 0 ||
		jail_spawn(vm->env->jail, vm->id, memory_bytes(&m->start),
			mc->vcpu_count + OTHER_THREADS, &vm->process,
			err) < 0 ||
		send_start(vm, m, shared_fd, wake_fd, err) < 0 ||
		watch(vm, err) < 0) {
		return admission_failed(err);
	}
	return 0;
}

static void undo_launch(struct vm *vm)
{
	loop_clear_timer(vm->env->loop, &vm->start_timer);
	loop_remove(vm->env->loop, &vm->sock);
	loop_remove(vm->env->loop, &vm->pidfd);
	if (vm->process.pid)
		jail_reap(vm->env->jail, &vm->process);
	vm->process = (struct jail_process){.pid = 0};
	output_reset(vm->output);
}

int vm_start(struct vm *vm, uint64_t received_ns, bool remove_if_fails,
	struct api_op *op, struct error *err)
{
	enum vm_state after = vm->state;
	union msg m;

	if (vm_state_after(&after, VM_EV_START, err) < 0)
		return -err->code;
	if (vm->images.kernel_fd < 0)
		return error_field(err, EINVAL, "boot-source",
			"is missing: a VM needs a kernel to start");
	if (vm->env->kvm_fd < 0)
		return error_set(err, EIO,
			"this host has no usable KVM: see GET /v1/host");
	if (vm_fill_start(vm, &m.start, err) < 0 ||
		taps_fill(&vm->taps, &m.start, err) < 0)
		return -err->code;
	if (launch(vm, &m, err) < 0) {
		undo_launch(vm);
		return -err->code;
	}
	vm->state = after;
	vm->received_ns = received_ns;
	vm->remove_if_start_fails = remove_if_fails;
	vm->start_op = op;
	vm->start_err.code = 0;
	vm->ready_told = false;
	return API_PENDING;
}

void vm_started(struct vm *vm)
{
	uint64_t ns = clock_ns() - vm->received_ns;
	struct api_op *op;
	struct error err;

	if (vm_state_after(&vm->state, VM_EV_STARTED, &err) < 0) {
		vm_kill(vm, VM_EXIT_CRASHED, "the VMM said twice it started");
		return;
	}
	loop_clear_timer(vm->env->loop, &vm->start_timer);
	/* The VM has them now. */
	vm_images_close(&vm->images);
	close_fd(&vm->uds.listen_fd);
	taps_handed_over(&vm->taps);
	log_info("vm_started", "vm=%s pid=%d us=%llu", vm->id, vm->process.pid,
		(unsigned long long)ns / 1000);
	histogram_add(&vm->env->start_times, ns);
	vm_publish(vm, API_EVENT_STARTED);
	vm->remove_if_start_fails = false;
	op = take_ptr(&vm->start_op);
	op->done(op, NULL);
}
