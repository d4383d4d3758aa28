#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/admission.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

/* In the order of msg_start_fds(). */
static int send_start(struct vm *vm, const union msg *m, struct error *err)
{
	_cleanup_close_ int mmds_fd = -1;
	struct msg_start_fds at;
	int fds[MSG_MAX_FDS], r;

	msg_start_fds(&m->start, &at);
	memset(fds, -1, sizeof(fds));
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
	r = msg_send(vm->process.jail.sock, MSG_DAEMON, m, fds, at.n);
	/* It has ended: its pidfd will tell, and why is in the socket. */
	if (r == -EPIPE || r == -ECONNRESET)
		return 0;
	return r < 0 ? error_errno(err, -r, "starting the VM") : 0;
}

/*
 * What a guest has beside its RAM, for the limits of its jail. A pmem file
 * counts as the memory it is to the guest: its page cache is charged to who
 * touches it first, does not give way at all where it lies on a tmpfs, and is
 * slow where it has to.
 */
static uint64_t more_memory_bytes(const struct msg_start *m)
{
	uint64_t n = 0;

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
	if (vm->wait.kind)
		vm_start_failed(vm);
	else
		vm_kill(vm, VM_EXIT_KILLED, NULL);
}

int vm_start_clock(struct vm *vm)
{
	vm->start_timer.fire = on_start_timeout;
	return loop_set_timer(vm->env->loop, &vm->start_timer,
		clock_ns() + vm->env->start_timeout_ns);
}

int vm_watch(struct vm *vm)
{
	struct loop *l = vm->env->loop;
	int r = loop_add(l, &vm->pidfd, vm->process.jail.pidfd, EPOLLIN);

	if (r == 0 && !vm->foreign && vm->process.jail.sock >= 0)
		r = loop_add(l, &vm->sock, vm->process.jail.sock, EPOLLIN);
	return r;
}

/* What the pool gave becomes this VM. On failure what was made is still there.
 */
static int launch(struct vm *vm, const union msg *m, struct error *err)
{
	uint64_t ram = (uint64_t)vm->config.machine_config.mem_size_mib << 20;
	uint64_t more = more_memory_bytes(&m->start);
	int r;

	vm->process.shared->received_ns = vm->received_ns;
	output_attach(vm->output, &vm->process);
	if (more && jail_limit(vm->env->procs.jail, &vm->process.jail,
			    ram + more, err) < 0)
		return admission_failed(err);
	/* Before it has anything of this VM's: were we to die now, another
	 * daemon would know whose it is. */
	r = state_link_vm(vm->env->procs.state, vm->id, vm->process.key);
	if (r == 0 && send_start(vm, m, err) < 0)
		return admission_failed(err);
	if (r == 0)
		r = vm_watch(vm);
	if (r == 0)
		return 0;
	error_errno(err, -r, "starting the VM");
	return admission_failed(err);
}

void vm_undo_launch(struct vm *vm)
{
	loop_remove(vm->env->loop, &vm->sock);
	loop_remove(vm->env->loop, &vm->pidfd);
	(void)state_link_vm(vm->env->procs.state, vm->id, "");
	process_destroy(&vm->process, &vm->env->procs);
	output_reset(vm->output);
}

static int fill(struct vm *vm, union msg *m, struct error *err)
{
	if (vm_fill_start(vm, &m->start, err) < 0)
		return -err->code;
	return taps_fill(&vm->taps, &m->start, err);
}

/* It waited for its process. */
static void on_process(
	struct pool_wait *w, const struct process *p, const struct error *err)
{
	struct vm *vm = (struct vm *)((char *)w - offsetof(struct vm, wait));
	union msg m;

	if (!p) {
		vm->start_err = *err;
		(void)admission_failed(&vm->start_err);
		vm_start_failed(vm);
		return;
	}
	vm->process = *p;
	/* Once more: files may have changed their size meanwhile. */
	if (fill(vm, &m, &vm->start_err) == 0 &&
		launch(vm, &m, &vm->start_err) == 0)
		return;
	vm_start_failed(vm);
}

static int find_process(struct vm *vm, const struct msg_prepare *p,
	const union msg *m, struct error *err)
{
	int r;

	vm->wait.got = on_process;
	r = pool_take(vm->env->pool, p, &vm->wait, &vm->process);
	if (r < 0)
		return error_errno(err, EAGAIN, "a process for the VM");
	if (r == 0 || launch(vm, m, err) == 0)
		return 0;
	vm_undo_launch(vm);
	return -err->code;
}

int vm_start(struct vm *vm, uint64_t received_ns, bool remove_if_fails,
	struct api_op *op, struct error *err)
{
	enum vm_state after = vm->state;
	struct msg_prepare p;
	union msg m;

	if (vm_state_after(&after, VM_EV_START, err) < 0)
		return -err->code;
	if (vm->images.kernel_fd < 0)
		return error_field(err, EINVAL, "boot-source",
			"is missing: a VM needs a kernel to start");
	if (vm->env->procs.kvm_fd < 0)
		return error_set(err, EIO,
			"this host has no usable KVM: see GET /v1/host");
	vm->received_ns = received_ns;
	vm->start_err.code = 0;
	if (vm_fill_prepare(vm->env, &vm->config, &p, err) < 0 ||
		fill(vm, &m, err) < 0)
		return -err->code;
	if (vm_start_clock(vm) < 0)
		return error_set(err, EAGAIN, "out of memory");
	if (find_process(vm, &p, &m, err) < 0) {
		loop_clear_timer(vm->env->loop, &vm->start_timer);
		return -err->code;
	}
	vm->state = after;
	vm->env->n_starting++;
	vm->remove_if_start_fails = remove_if_fails;
	vm->start_op = op;
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
	vm->env->n_starting--;
	loop_clear_timer(vm->env->loop, &vm->start_timer);
	/* The VM has them now. */
	vm_images_close(&vm->images);
	close_fd(&vm->uds.listen_fd);
	taps_handed_over(&vm->taps);
	vm_save_started(vm);
	log_info("vm_started", "vm=%s pid=%d us=%llu", vm->id,
		vm->process.jail.pid, (unsigned long long)ns / 1000);
	histogram_add(&vm->env->start_times, ns);
	vm_publish(vm, API_EVENT_STARTED);
	vm->remove_if_start_fails = false;
	op = take_ptr(&vm->start_op);
	if (op) /* else another daemon was asked */
		op->done(op, NULL);
}
