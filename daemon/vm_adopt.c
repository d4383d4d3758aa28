#include "daemon/vm.h"

#include "api/record.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>

/* ---- what was written down ---- */

/* False: it is half made, or half removed. err->code: 0, or it is there and
 * cannot be understood. */
static bool read_record(struct vm_env *env, const char *id, struct record *ret,
	struct error *err)
{
	size_t len;
	_cleanup_free_ char *text =
		state_read_vm(env->procs.state, id, "config.json", &len);

	err->code = 0;
	if (text)
		(void)record_read(text, len, ret, err);
	return text;
}

static void read_mmds(struct vm *vm)
{
	size_t len;
	_cleanup_free_ char *text =
		state_read_vm(vm->env->procs.state, vm->id, "mmds.json", &len);
	struct error err;

	if (text && record_read_mmds(text, len, &vm->mmds, &err) < 0)
		log_error("vm_mmds_lost", "vm=%s error=%d", vm->id, err.code);
}

/* ---- one that was not started ---- */

/* Opens its files again. One whose files are not there is lost. */
static int create_again(
	struct vm **ret, struct vm_env *env, const char *id, struct record *rec)
{
	char quoted[ERROR_MSG_MAX];
	struct error err;

	vsock_uds_remove_dead(&rec->config.host, rec->config.vsock.uds_path);
	if (vm_create(ret, env, id, &rec->config, &err) < 0) {
		log_error("vm_lost", "vm=%s error=%s", id,
			log_quote(quoted, sizeof(quoted), err.msg));
		state_remove_vm(env->procs.state, id);
		*ret = NULL;
		return 0;
	}
	(*ret)->number = rec->number;
	read_mmds(*ret);
	return 0;
}

/* ---- one that was ---- */

/* Whether the process is still the one that was written down, and listens: then
 * it has a connection. */
static bool find_process(struct vm *vm, struct state_proc *proc)
{
	const struct vm_env *env = vm->env;
	struct jail_process *p = &vm->process.jail;
	bool there, listens;
	struct error err;

	if (state_read_proc(env->procs.state, vm->process.key, proc) < 0)
		return false;
	there = process_start_time(proc->pid) == proc->start;
	p->sock = state_connect(env->procs.state, vm->process.key);
	listens = p->sock >= 0;
	if (!listens)
		p->sock = -1;
	p->uid = proc->uid;
	p->pid = there ? proc->pid : 0;
	memcpy(p->name, proc->cgroup, sizeof(p->name));
	if (jail_adopt(env->procs.jail, p, &err) < 0 ||
		(there && process_start_time(proc->pid) != proc->start)) {
		/* It went just now. */
		close_fd(&p->pidfd);
		p->pid = 0;
	}
	return p->pid && listens;
}

/* What a VMM of this protocol tells of itself. */
static enum vm_state state_of(const struct vm_shared *s)
{
	switch (__atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE)) {
	case VM_RUN_STATE_NONE:
		return VM_STARTING;
	case VM_RUN_STATE_PAUSED:
		return VM_PAUSED;
	default:
		return VM_RUNNING;
	}
}

static void show_start(struct vm *vm)
{
	const struct vm_shared *s = output_shared(vm->output);
	uint64_t at = __atomic_load_n(&s->received_ns, __ATOMIC_RELAXED);

	vm->received_ns = at <= clock_ns() ? at : 0;
	vm->ready_told = __atomic_load_n(&s->moments[VM_MOMENT_GUEST_READY],
				 __ATOMIC_RELAXED) != 0;
}

/* Its answer completes a start that was under way. */
static int send_adopt(struct vm *vm, int wake_fd, struct error *err)
{
	union msg m = {.plain = {.hdr = {.type = MSG_ADOPT}}};
	struct vm_then then = {
		vm->state == VM_STARTING ? VM_EV_STARTED : VM_EVENTS, NULL};
	int r = vm_request(vm, &m, &wake_fd, 1, then, NULL, err);

	return r < 0 ? r : 0;
}

static int take_over(
	struct vm *vm, const struct state_proc *proc, struct error *err)
{
	int r;

	vm->process.shared = process_map(vm->env->procs.state, vm->process.key);
	if (proc->protocol != MSG_PROTOCOL || !vm->process.shared) {
		vm->foreign = proc->protocol;
		process_unmap(take_ptr(&vm->process.shared));
		vm->state = VM_RUNNING;
	} else {
		vm->process.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		vm->state = state_of(vm->process.shared);
	}
	if (vm->state == VM_STARTING)
		vm->env->n_starting++;
	output_attach(vm->output, &vm->process);
	r = vm_watch(vm);
	if (r == 0 && vm->state == VM_STARTING)
		r = vm_start_clock(vm);
	if (r < 0)
		return error_errno(err, -r, "watching the VM");
	if (vm->foreign)
		return 0;
	show_start(vm);
	vsock_uds_found(&vm->uds, &vm->config.host, vm->config.vsock.uds_path);
	taps_found(&vm->env->taps, vm->id, &vm->config, &vm->taps);
	vm_port_reopen(vm);
	return send_adopt(vm, output_wake_fd(vm->output), err);
}

/* It ended while no daemon was there, or was not begun. */
static bool has_run(const struct vm_shared *s)
{
	return s && __atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE) !=
			    VM_RUN_STATE_NONE;
}

static void find_end(struct vm *vm)
{
	bool known = vm_read_exit(vm);

	jail_reap(vm->env->procs.jail, &vm->process.jail);
	output_attach(vm->output, &vm->process);
	output_end(vm->output);
	show_start(vm);
	vm->state = VM_EXITED;
	vsock_uds_remove_dead(&vm->config.host, vm->config.vsock.uds_path);
	if (known)
		return;
	vm_record_unseen_exit(vm);
	vm_save_exit(vm);
	vm_publish(vm, API_EVENT_EXITED);
}

static void forget_half_made(
	struct vm_env *env, const char *id, struct record *rec)
{
	vsock_uds_remove_dead(&rec->config.host, rec->config.vsock.uds_path);
	vm_config_fini(&rec->config);
	state_remove_vm(env->procs.state, id);
}

/* A start that came to nothing, and that nobody has been told of. */
static int undo_start(struct vm **ret, struct vm *vm, bool created_with_start)
{
	struct vm_env *env = vm->env;
	struct record rec = {.config = vm->config, .number = vm->number};
	char id[VM_ID_MAX + 1];

	memcpy(id, vm->id, sizeof(id));
	vm_config_init(&vm->config);
	process_destroy(&vm->process, &env->procs);
	vm_destroy(vm);
	*ret = NULL;
	if (!created_with_start) {
		(void)state_link_vm(env->procs.state, id, "");
		return create_again(ret, env, id, &rec);
	}
	forget_half_made(env, id, &rec);
	return 0;
}

int vm_adopt(
	struct vm **ret, struct vm_env *env, const char *id, struct error *err)
{
	struct state_proc proc = {.pid = 0};
	char key[STATE_KEY_BYTES];
	struct record rec;
	bool unreadable, linked;
	struct vm *vm;

	*ret = NULL;
	if (!read_record(env, id, &rec, err)) {
		state_remove_vm(env->procs.state, id);
		return 0;
	}
	unreadable = err->code != 0;
	linked = state_linked(env->procs.state, id, key);
	if (!linked && rec.start) {
		/* Its start had not begun, and nobody has been told of it. */
		forget_half_made(env, id, &rec);
		return 0;
	}
	if (!linked)
		return unreadable ? -err->code
				  : create_again(ret, env, id, &rec);
	vm = vm_new(env, id, &rec.config);
	if (!vm)
		return error_set(err, ENOMEM, "out of memory");
	vm->number = rec.number;
	memcpy(vm->process.key, key, sizeof(key));
	if (find_process(vm, &proc)) {
		if (unreadable)
			proc.protocol = proc.protocol == MSG_PROTOCOL
						? UINT32_MAX
						: proc.protocol;
		read_mmds(vm);
		vm->remove_if_start_fails = rec.start;
		if (take_over(vm, &proc, err) < 0)
			vm_kill(vm, VM_EXIT_CRASHED, err->msg);
		err->code = 0;
		vm_publish(vm, API_EVENT_ADOPTED);
		if (vm->ready_told)
			vm_publish(vm, API_EVENT_GUEST_READY);
		*ret = vm;
		return 0;
	}
	vm->process.shared = process_map(env->procs.state, key);
	if (!has_run(vm->process.shared))
		return undo_start(ret, vm, rec.start);
	find_end(vm);
	*ret = vm;
	return 0;
}

/* ---- the other way round ---- */

void vm_leave(struct vm *vm)
{
	struct loop *l = vm->env->loop;
	struct error err;

	error_set(&err, ESHUTDOWN, "mayflyd is stopping; the VM is not");
	loop_remove(l, &vm->sock);
	loop_remove(l, &vm->pidfd);
	loop_clear_timer(l, &vm->start_timer);
	loop_clear_timer(l, &vm->linger);
	loop_clear_timer(l, &vm->taps_timer);
	vm_forget_vsock_asks(vm);
	vm_answer_all(&vm->requests, &err);
	vm_answer_all(&vm->waiters, &err);
	vm_answer_all(&vm->deleters, &err);
	if (vm->process.jail.pid)
		vm->uds.path[0] = '\0'; /* it goes on listening there */
	close_fd(&vm->process.jail.sock);
	close_fd(&vm->process.jail.pidfd);
	vm_destroy(vm);
}
