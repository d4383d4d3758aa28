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
	_cleanup_free_ char *text = NULL;
	char quoted[ERROR_MSG_MAX];
	size_t len;
	int r = state_read_vm(env->procs.state, id, "config.json", &text, &len);

	*ret = (struct record){.start = false};
	vm_config_init(&ret->config);
	err->code = 0;
	if (r == -ENOENT)
		return false;
	if (r < 0)
		error_errno(err, -r, "config.json");
	else
		(void)record_read(text, len, ret, err);
	if (err->code)
		log_error("vm_unreadable", "vm=%s error=%s", id,
			log_quote(quoted, sizeof(quoted), err->msg));
	return true;
}

static void read_mmds(struct vm *vm)
{
	_cleanup_free_ char *text = NULL;
	struct error err;
	size_t len;
	int r = state_read_vm(
		vm->env->procs.state, vm->id, "mmds.json", &text, &len);

	if (r == 0)
		r = record_read_mmds(text, len, &vm->mmds, &err);
	if (r < 0 && r != -ENOENT)
		log_error("vm_mmds_lost", "vm=%s error=%d", vm->id, -r);
}

/* Nobody has been told of it, or it was on its way out. */
static void forget_half_made(
	struct vm_env *env, const char *id, struct record *rec)
{
	log_warn("vm_half_made", "vm=%s", id);
	vsock_uds_remove_dead(&rec->config.host, rec->config.vsock.uds_path);
	vm_config_fini(&rec->config);
	state_remove_vm(env->procs.state, id);
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

/* Whether its process is there still, and listens. */
static bool find_process(struct vm *vm, struct state_proc *proc)
{
	int r = process_find(&vm->process, &vm->env->procs, proc);

	if (r < 0 || !proc->protocol)
		log_error("vm_process_unreadable", "vm=%s", vm->id);
	return r == 0 && vm->process.jail.pid && vm->process.jail.sock >= 0;
}

/* For another start: the daemon that had them has not come to this one's end.
 */
void vm_open_again(struct vm *vm)
{
	char quoted[ERROR_MSG_MAX];
	struct error err;

	vsock_uds_close(&vm->uds);
	if (images_open_all(vm->id, &vm->config, &vm->images, &err) < 0 ||
		vm_open_vsock(vm, &vm->config, &err) < 0)
		log_error("vm_files_lost", "vm=%s error=%s", vm->id,
			log_quote(quoted, sizeof(quoted), err.msg));
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
	if (!vm->process.shared)
		log_error("vm_memory_unreadable", "vm=%s", vm->id);
	if (proc->protocol != MSG_PROTOCOL || !vm->process.shared) {
		vm->foreign = proc->protocol && proc->protocol != MSG_PROTOCOL
				      ? proc->protocol
				      : VM_DAMAGED;
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

static bool has_run(const struct vm_shared *s)
{
	return __atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE) !=
	       VM_RUN_STATE_NONE;
}

/* known: how it ended, because a daemon has seen it. */
static void find_end(struct vm *vm, bool known)
{
	jail_reap(vm->env->procs.jail, &vm->process.jail);
	output_attach(vm->output, &vm->process);
	output_end(vm->output);
	if (output_shared(vm->output))
		show_start(vm);
	else
		log_error("vm_memory_unreadable", "vm=%s", vm->id);
	read_mmds(vm);
	vm->state = VM_EXITED;
	vsock_uds_remove_dead(&vm->config.host, vm->config.vsock.uds_path);
	if (known)
		return;
	vm_record_unseen_exit(vm);
	vm_save_exit(vm);
	vm_publish(vm, API_EVENT_EXITED);
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

/* It runs. */
static void go_on(struct vm *vm, struct state_proc *proc, bool unreadable,
	struct error *err)
{
	if (unreadable && proc->protocol == MSG_PROTOCOL)
		proc->protocol = VM_DAMAGED;
	read_mmds(vm);
	if (take_over(vm, proc, err) < 0)
		vm_kill(vm, VM_EXIT_CRASHED, err->msg);
	vm_publish(vm, API_EVENT_ADOPTED);
	if (vm->ready_told)
		vm_publish(vm, API_EVENT_GUEST_READY);
}

/* One whose start had begun. linked: as state_linked() says. */
static int find_started(struct vm **ret, struct vm *vm, int linked,
	const struct record *rec, bool unreadable, struct error *err)
{
	struct state_proc proc;
	bool known;

	if (linked < 0)
		log_error("vm_process_unreadable", "vm=%s", vm->id);
	vm->remove_if_start_fails = rec->start;
	*ret = vm;
	if (linked > 0) {
		if (find_process(vm, &proc)) {
			go_on(vm, &proc, unreadable, err);
			return 0;
		}
		vm->process.shared =
			process_map(vm->env->procs.state, vm->process.key);
	}
	known = vm_read_exit(vm);
	if (!known && vm->process.shared && !has_run(vm->process.shared))
		return undo_start(ret, vm, rec->start);
	find_end(vm, known);
	return 0;
}

int vm_adopt(
	struct vm **ret, struct vm_env *env, const char *id, struct error *err)
{
	char key[STATE_KEY_BYTES] = "";
	struct record rec;
	bool unreadable;
	struct vm *vm;
	int linked;

	*ret = NULL;
	if (!read_record(env, id, &rec, err)) {
		forget_half_made(env, id, &rec);
		return 0;
	}
	unreadable = err->code != 0;
	linked = state_linked(env->procs.state, id, key);
	if (linked == 0 && rec.start) {
		forget_half_made(env, id, &rec);
		return 0;
	}
	if (linked == 0)
		return unreadable ? -err->code
				  : create_again(ret, env, id, &rec);
	vm = vm_new(env, id, &rec.config);
	if (!vm)
		return error_set(err, ENOMEM, "out of memory");
	vm->number = rec.number;
	memcpy(vm->process.key, key, sizeof(key));
	return find_started(ret, vm, linked, &rec, unreadable, err);
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
