#include "daemon/vm.h"

#include "api/record.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/admission.h"

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

static int read_mmds(struct vm *vm, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	char quoted[ERROR_MSG_MAX];
	size_t len;
	int r = state_read_vm(
		vm->env->procs.state, vm->id, "mmds.json", &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		error_errno(err, -r, "mmds.json");
	else if (record_read_mmds(text, len, &vm->mmds, err) == 0)
		return 0;
	if (admission_is_shortage(err))
		return -err->code;
	log_error("vm_mmds_lost", "vm=%s error=%s", vm->id,
		log_quote(quoted, sizeof(quoted), err->msg));
	return 0;
}

/* Nobody has been told of it, or it was on its way out. */
static void forget_half_made(
	struct vm_env *env, const char *id, struct record *rec)
{
	log_warn("vm_half_made", "vm=%s", id);
	vsock_uds_remove_dead(&rec->config.host, rec->config.vsock.uds_path);
	state_remove_vm(env->procs.state, id);
}

/* ---- one that was not started ---- */

/* Opens its files again. One whose files are not there is lost. */
static int create_again(struct vm **ret, struct vm_env *env, const char *id,
	struct record *rec, struct error *err)
{
	char quoted[ERROR_MSG_MAX];

	*ret = NULL;
	if (vm_create(ret, env, id, &rec->config, err) == 0) {
		(*ret)->number = rec->number;
		return read_mmds(*ret, err);
	}
	*ret = NULL;
	if (admission_is_shortage(err))
		return -err->code;
	log_quote(quoted, sizeof(quoted), err->msg);
	if (err->code != ENOENT && err->code != ENOTDIR &&
		err->code != EINVAL) {
		/* Another daemon may have more luck. */
		log_error("vm_not_adopted", "vm=%s error=%s", id, quoted);
		return 0;
	}
	log_error("vm_lost", "vm=%s error=%s", id, quoted);
	state_remove_vm(env->procs.state, id);
	return 0;
}

/* ---- one that was ---- */

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

/* What a VMM of this protocol tells of itself: of what a daemon has told
 * somebody it can take nothing back. */
static bool has_run(const struct vm_shared *s)
{
	return __atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE) !=
	       VM_RUN_STATE_NONE;
}

static enum vm_state state_of(const struct vm_shared *s, bool started)
{
	if (!started && !has_run(s))
		return VM_STARTING;
	return __atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE) ==
			       VM_RUN_STATE_PAUSED
		       ? VM_PAUSED
		       : VM_RUNNING;
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

/* Another daemon's VM, of which this one hears from now on, and what it has. */
static int attach(struct vm *vm, struct error *err)
{
	int r;

	if (vm->state == VM_STARTING)
		vm->env->n_starting++;
	else
		vm_save_started(vm);
	/* Nobody would read what it says. */
	if (vm->foreign)
		close_fd(&vm->process.jail.sock);
	output_attach(vm->output, &vm->process);
	if (output_shared(vm->output))
		show_start(vm);
	r = vm_watch(vm);
	if (r == 0 && vm->state == VM_STARTING)
		r = vm_start_clock(vm);
	if (r < 0)
		return error_errno(err, -r, "watching the VM");
	r = vsock_uds_found(
		&vm->uds, &vm->config.host, vm->config.vsock.uds_path);
	if (r < 0)
		error_errno(err, -r, "its vsock's socket");
	if (r < 0 && admission_is_shortage(err))
		return r;
	taps_found(&vm->env->taps, vm->id, &vm->config, &vm->taps);
	return vm->foreign && !vm->process.deaf ? 0 : vm_port_reopen(vm, err);
}

static int take_over(struct vm *vm, struct error *err)
{
	int r;

	vm->process.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->process.wake_fd < 0)
		return error_errno(err, errno, "eventfd");
	if (attach(vm, err) < 0)
		return -err->code;
	r = send_adopt(vm, output_wake_fd(vm->output), err);
	return r == -EBUSY ? 0 : r; /* it is exiting: its pidfd will tell */
}

/* It runs. mapped: 0, or why its memory is not. */
static int go_on(struct vm *vm, const struct state_proc *proc, bool started,
	bool unreadable, int mapped, struct error *err)
{
	int r = read_mmds(vm, err);

	if (r < 0)
		return r;
	if (mapped < 0)
		log_error("vm_memory_unreadable", "vm=%s", vm->id);
	if (proc->protocol && proc->protocol != MSG_PROTOCOL)
		vm->foreign = proc->protocol;
	else if (!proc->protocol || unreadable || mapped < 0)
		vm->foreign = VM_DAMAGED;
	vm->state = vm->foreign ? VM_RUNNING
				: state_of(vm->process.shared, started);
	if (vm->foreign)
		process_unmap(take_ptr(&vm->process.shared));
	/* Nobody can talk to it now; in one of its next lives, perhaps. */
	if (!vm->foreign && vm->process.deaf && vm->state != VM_STARTING)
		vm->foreign = VM_DAMAGED;
	if (vm->foreign || vm->process.deaf)
		r = attach(vm, err);
	else
		r = take_over(vm, err);
	if (r < 0)
		return r;
	vm_publish(vm, API_EVENT_ADOPTED);
	if (vm->ready_told)
		vm_publish(vm, API_EVENT_GUEST_READY);
	return 0;
}

/* It does not listen, so that nobody will ever talk to it: its end is not
 * waited for here, since it may take its time. */
static int put_down(struct vm *vm, bool started, struct error *err)
{
	vm->state = !vm->process.shared ? VM_RUNNING
					: state_of(vm->process.shared, started);
	if (vm->state != VM_STARTING)
		vm->foreign = VM_DAMAGED;
	if (read_mmds(vm, err) < 0 || attach(vm, err) < 0)
		return -err->code;
	vm_kill(vm, VM_EXIT_CRASHED, "no daemon could connect to its VMM");
	return 0;
}

/* known: how it ended, because a daemon has seen it. */
static int find_end(struct vm *vm, bool known, struct error *err)
{
	output_attach(vm->output, &vm->process);
	output_end(vm->output);
	if (output_shared(vm->output))
		show_start(vm);
	else
		log_error("vm_memory_unreadable", "vm=%s", vm->id);
	vm->state = VM_EXITED;
	if (read_mmds(vm, err) < 0)
		return -err->code;
	jail_reap(vm->env->procs.jail, &vm->process.jail);
	vsock_uds_remove_dead(&vm->config.host, vm->config.vsock.uds_path);
	if (known)
		return 0;
	vm_record_unseen_exit(vm);
	vm_save_exit(vm);
	vm_publish(vm, API_EVENT_EXITED);
	return 0;
}

/* A start that came to nothing, and that nobody has been told of. */
static int undo_start(
	struct vm **ret, bool created_with_start, struct error *err)
{
	struct vm *vm = *ret;
	struct vm_env *env = vm->env;
	struct record rec = {.config = vm->config, .number = vm->number};
	char id[VM_ID_MAX + 1];

	memcpy(id, vm->id, sizeof(id));
	vm_config_init(&vm->config);
	*ret = NULL;
	/* Before what it leads to: it would be one whose process is lost. */
	if (created_with_start)
		forget_half_made(env, id, &rec);
	else
		(void)state_link_vm(env->procs.state, id, "");
	process_destroy(&vm->process, &env->procs);
	vm_destroy(vm);
	if (!created_with_start)
		return create_again(ret, env, id, &rec, err);
	vm_config_fini(&rec.config);
	return 0;
}

/* One with a process, or that had one. */
static int find_linked(
	struct vm **ret, bool started, bool unreadable, struct error *err)
{
	struct vm *vm = *ret;
	struct state_proc proc = {.protocol = 0};
	int known, mapped,
		r = process_find(&vm->process, &vm->env->procs, &proc);

	if (r < 0)
		return error_errno(err, -r, "its process");
	/* Somebody is there: who, nobody can tell. */
	if (r == 0 && (vm->process.deaf || vm->process.jail.sock >= 0)) {
		log_error("vm_not_adopted", "vm=%s", vm->id);
		vm_leave(take_ptr(ret));
		return 0;
	}
	if (r == 0 || !proc.protocol)
		log_error("vm_process_unreadable", "vm=%s", vm->id);
	mapped = process_map(
		vm->env->procs.state, vm->process.key, &vm->process.shared);
	if (mapped < 0)
		error_errno(err, -mapped, "its memory");
	if (mapped < 0 && admission_is_shortage(err))
		return mapped;
	if (vm->process.jail.pid &&
		(vm->process.jail.sock >= 0 || vm->process.deaf))
		return go_on(vm, &proc, started, unreadable, mapped, err);
	if (vm->process.jail.pid)
		return put_down(vm, started, err);
	known = vm_read_exit(vm);
	if (known < 0)
		return error_errno(err, -known, "its end");
	if (!known && !started && vm->process.shared &&
		!has_run(vm->process.shared))
		return undo_start(ret, vm->remove_if_start_fails, err);
	return find_end(vm, known, err);
}

/* One whose start had begun. linked: as state_linked() says. */
static int find_started(
	struct vm **ret, int linked, bool unreadable, struct error *err)
{
	struct vm *vm = *ret;
	int started = state_is_started(vm->env->procs.state, vm->id), known;

	if (started < 0)
		return error_errno(err, -started, "its start");
	if (linked > 0)
		return find_linked(ret, started, unreadable, err);
	log_error("vm_process_unreadable", "vm=%s", vm->id);
	known = vm_read_exit(vm);
	if (known < 0)
		return error_errno(err, -known, "its end");
	return find_end(vm, known, err);
}

static int adopt(struct vm **ret, struct vm_env *env, const char *id,
	struct record *rec, struct error *err)
{
	bool unreadable = err->code != 0;
	char key[STATE_KEY_BYTES] = "";
	int linked = state_linked(env->procs.state, id, key);

	if (linked < 0 && linked != -EINVAL)
		return error_errno(err, -linked, "its process");
	if (linked == 0 && state_is_started(env->procs.state, id) != 0)
		linked = -EINVAL; /* it has lost its link */
	if (linked == 0 && rec->start) {
		forget_half_made(env, id, rec);
		return 0;
	}
	if (linked == 0 && unreadable) {
		log_error("vm_not_adopted", "vm=%s", id);
		return 0;
	}
	if (linked == 0)
		return create_again(ret, env, id, rec, err);
	*ret = vm_new(env, id, &rec->config);
	if (!*ret)
		return error_set(err, ENOMEM, "out of memory");
	(*ret)->number = rec->number;
	(*ret)->remove_if_start_fails = rec->start;
	memcpy((*ret)->process.key, key, sizeof(key));
	return find_started(ret, linked, unreadable, err);
}

int vm_adopt(
	struct vm **ret, struct vm_env *env, const char *id, struct error *err)
{
	struct record rec;
	int r;

	*ret = NULL;
	if (!read_record(env, id, &rec, err)) {
		forget_half_made(env, id, &rec);
		return 0;
	}
	if (err->code && admission_is_shortage(err))
		r = -err->code;
	else
		r = adopt(ret, env, id, &rec, err);
	vm_config_fini(&rec.config);
	if (r < 0 && *ret)
		vm_leave(take_ptr(ret));
	return r;
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
