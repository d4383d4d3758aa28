#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

/* More than a socket's buffer holds. */
#define LAST_MESSAGES_MAX 4096

/* How often to look whether taps are free, and how many times. Those that were
 * there may be somebody else's as well. */
#define TAPS_INTERVAL_NS 5000000u
#define TAPS_TRIES 100u
#define MADE_TAPS_TRIES 2000u

const char *vm_exit_reason_name(enum vm_exit_reason r)
{
	static const char *const names[VM_EXIT_REASONS] = {
		[VM_EXIT_NONE] = "none",
		[VM_EXIT_SHUTDOWN] = "shutdown",
		[VM_EXIT_RESET] = "reset",
		[VM_EXIT_TRIPLE_FAULT] = "triple_fault",
		[VM_EXIT_PANIC] = "panic",
		[VM_EXIT_INTERNAL_ERROR] = "internal_error",
		[VM_EXIT_KILLED] = "killed",
		[VM_EXIT_VIOLATION] = "violation",
		[VM_EXIT_CRASHED] = "crashed",
	};

	return names[r];
}

void vm_kill(struct vm *vm, enum vm_exit_reason reason, const char *why)
{
	if (!vm->exit.reason) {
		vm->exit.reason = reason;
		snprintf(vm->exit.detail, sizeof(vm->exit.detail), "%s",
			why ? why : "");
		/* What the wait status will say; shown until it is known. */
		vm->exit.status = -1;
		vm->exit.signal = SIGKILL;
	}
	if (vm->process.jail.pid)
		pidfd_send_signal(vm->process.jail.pidfd, SIGKILL, NULL, 0);
}

void vm_on_linger(struct loop_timer *t)
{
	struct vm *vm = (struct vm *)((char *)t - offsetof(struct vm, linger));

	vm_kill(vm, VM_EXIT_CRASHED,
		"the VMM closed its socket and did not exit");
}

/* What it left in the shared memory: of one that ended while no daemon
 * listened. */
static bool read_last_words(struct vm *vm)
{
	const struct vm_shared *s = output_shared(vm->output);
	char detail[sizeof(s->exit_detail)];
	uint32_t reason;

	if (!s || __atomic_load_n(&s->run_state, __ATOMIC_ACQUIRE) !=
			  VM_RUN_STATE_ENDED)
		return false;
	reason = __atomic_load_n(&s->exit_reason, __ATOMIC_RELAXED);
	if (reason < VM_EXIT_SHUTDOWN || reason > VM_EXIT_INTERNAL_ERROR)
		return false;
	memcpy(detail, s->exit_detail, sizeof(detail));
	detail[sizeof(detail) - 1] = '\0';
	vm->exit.reason = (enum vm_exit_reason)reason;
	text_printable(vm->exit.detail, sizeof(vm->exit.detail), detail);
	return true;
}

/* Another daemon's child: nobody tells us its wait status. */
void vm_record_unseen_exit(struct vm *vm)
{
	struct vm_exit *e = &vm->exit;

	/* We killed it, or it was the kernel: a signal, as it says already; or
	 * it said goodbye. */
	if (e->reason)
		return;
	e->signal = 0;
	e->status = 0;
	if (read_last_words(vm))
		return;
	e->reason = VM_EXIT_CRASHED;
	e->status = -1;
	snprintf(e->detail, sizeof(e->detail),
		"it ended without a reason; how is not known, since an "
		"earlier daemon had started it");
}

/* Fills exit from how the process ended, as far as it is not known better. */
static void record_exit(struct vm *vm, int wait_status)
{
	struct vm_exit *e = &vm->exit;

	if (wait_status == -1) {
		vm_record_unseen_exit(vm);
		return;
	}
	e->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
	e->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
	/* It was dying of this when we lost patience with it. */
	if (e->reason == VM_EXIT_CRASHED && e->signal && e->signal != SIGKILL) {
		e->reason = VM_EXIT_NONE;
		e->detail[0] = '\0';
	}
	if (e->reason)
		return;
	switch (e->signal) {
	case 0:
		e->reason = VM_EXIT_CRASHED;
		snprintf(e->detail, sizeof(e->detail),
			"the VMM exited without giving a reason");
		break;
	case SIGSYS:
		e->reason = VM_EXIT_VIOLATION;
		snprintf(e->detail, sizeof(e->detail),
			"a system call outside the VMM's filter");
		break;
	case SIGKILL:
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
	case SIGQUIT:
		e->reason = VM_EXIT_KILLED;
		break;
	default:
		e->reason = VM_EXIT_CRASHED;
		snprintf(e->detail, sizeof(e->detail), "SIG%s",
			sigabbrev_np(e->signal) ? sigabbrev_np(e->signal)
						: "?");
	}
}

static void log_exit(const struct vm *vm)
{
	const struct vm_exit *e = &vm->exit;
	char quoted[300];

	log_info("vm_exited", "vm=%s reason=%s status=%d signal=%d detail=%s",
		vm->id, vm_exit_reason_name(e->reason), e->status, e->signal,
		log_quote(quoted, sizeof(quoted), e->detail));
}

/* The VM goes: everybody gets an answer, then env->gone() frees it. */
static void finish_delete(struct vm *vm)
{
	struct error err;

	error_set(&err, ENOENT, "the VM was deleted before it was started");
	vm_answer_all(&vm->waiters, vm->exit.reason ? NULL : &err);
	vm_answer_all(&vm->deleters, NULL);
	vm->env->gone(vm->env->arg, vm);
}

void vm_start_failed(struct vm *vm)
{
	struct api_op *op = take_ptr(&vm->start_op);
	struct error err = vm->start_err, ignored;
	bool adopted = vm->process.jail.adopted;
	char quoted[300];

	if (err.code == 0)
		error_set(&err, EIO,
			"the VM died while starting: %s, %s %d%s%s",
			vm_exit_reason_name(vm->exit.reason),
			vm->exit.signal ? "signal" : "status",
			vm->exit.signal ? vm->exit.signal : vm->exit.status,
			vm->exit.detail[0] ? ", " : "", vm->exit.detail);
	log_warn("vm_start_failed", "vm=%s error=%s", vm->id,
		log_quote(quoted, sizeof(quoted), err.msg));
	vm->env->n_starting--;
	pool_cancel(&vm->wait);
	loop_clear_timer(vm->env->loop, &vm->start_timer);
	vm_undo_launch(vm);
	vm_answer_all(&vm->requests, &err);
	vm->n_requests = 0;
	vm->exit = (struct vm_exit){VM_EXIT_NONE};
	(void)vm_state_after(&vm->state, VM_EV_START_FAILED, &ignored);
	if (!vm->remove_if_start_fails && adopted)
		vm_open_again(vm);
	if (!vm->remove_if_start_fails)
		taps_reopen(&vm->env->taps, vm->id, &vm->config, &vm->taps);
	if (op)
		op->done(op, &err);
	if (vm->remove_if_start_fails)
		(void)vm_delete(vm, NULL, &ignored);
}

static void exited(struct vm *vm)
{
	struct error err;

	log_exit(vm);
	vm_save_exit(vm);
	/* Before anybody hears of it: its taps and its sockets are free. */
	taps_close(&vm->taps);
	vsock_uds_close(&vm->uds);
	vm_port_close(vm);
	vm_publish(vm, API_EVENT_EXITED);
	(void)vm_state_after(&vm->state, VM_EV_DIED, &err);
	output_end(vm->output);
	error_set(&err, EBUSY, "the VM has exited");
	vm_answer_all(&vm->requests, &err);
	vm->n_requests = 0;
	if (vm->state == VM_DELETING)
		finish_delete(vm);
	else
		vm_answer_all(&vm->waiters, NULL);
}

/* While its cgroup is there, which counts them. */
static void note_oom(struct vm *vm)
{
	if (vm->exit.reason ||
		!jail_oom_killed(vm->env->procs.jail, &vm->process.jail))
		return;
	vm->exit.reason = VM_EXIT_KILLED;
	vm->exit.status = -1;
	vm->exit.signal = SIGKILL;
	snprintf(vm->exit.detail, sizeof(vm->exit.detail),
		"the host's kernel killed it: out of memory");
	vm_publish(vm, API_EVENT_OOM);
}

static bool waits_for_taps(struct vm *vm)
{
	unsigned tries = vm->taps_tries++;

	if (!taps_in_use(&vm->taps, tries >= TAPS_TRIES))
		return false;
	if (tries < MADE_TAPS_TRIES &&
		loop_set_timer(vm->env->loop, &vm->taps_timer,
			clock_ns() + TAPS_INTERVAL_NS) == 0)
		return true;
	log_warn("taps_still_in_use", "vm=%s", vm->id);
	return false;
}

/*
 * The process is dead. The kernel lets go of its taps some 30 ms later, where
 * it has a lot to do some seconds; until then it counts as dying, and is not
 * reaped: who hears that the VM has ended, or did not start, may use them
 * again.
 */
static void end_when_free(struct vm *vm)
{
	int status;

	if (waits_for_taps(vm))
		return;
	note_oom(vm);
	status = jail_reap(vm->env->procs.jail, &vm->process.jail);
	record_exit(vm, status);
	if (vm->state == VM_STARTING)
		vm_start_failed(vm);
	else
		exited(vm);
}

void vm_on_taps_timer(struct loop_timer *t)
{
	end_when_free(
		(struct vm *)((char *)t - offsetof(struct vm, taps_timer)));
}

void vm_on_pidfd(struct loop_source *s, uint32_t events)
{
	struct vm *vm = (struct vm *)((char *)s - offsetof(struct vm, pidfd));

	(void)events;
	/* Its last words first: they are in the socket still. */
	vm_take_messages(vm, LAST_MESSAGES_MAX);
	loop_remove(vm->env->loop, &vm->sock);
	loop_remove(vm->env->loop, &vm->pidfd);
	loop_clear_timer(vm->env->loop, &vm->start_timer);
	loop_clear_timer(vm->env->loop, &vm->linger);
	vm_forget_vsock_asks(vm);
	/* Ours would hide whether the process's are closed. */
	taps_handed_over(&vm->taps);
	vm->taps_tries = 0;
	end_when_free(vm);
}

static void on_wait_timeout(struct loop_timer *t)
{
	struct vm_pending *p =
		(struct vm_pending *)((char *)t -
				      offsetof(struct vm_pending, timer));
	struct api_op *op = p->op;
	struct error err;

	vm_pending_free(p);
	error_set(&err, ETIMEDOUT, "the VM has not exited yet");
	op->done(op, &err);
}

int vm_wait(struct vm *vm, uint64_t timeout_ns, struct api_op *op,
	struct error *err)
{
	if (vm->state == VM_EXITED)
		return 0;
	if (timeout_ns == 0)
		return error_set(err, ETIMEDOUT, "the VM has not exited yet");
	if (!vm_pend(vm, &vm->waiters, op, on_wait_timeout, timeout_ns))
		return error_set(err, ENOMEM, "out of memory");
	return API_PENDING;
}

void vm_cancel(struct api_op *op)
{
	vm_pending_free(op->backend);
}

int vm_delete(struct vm *vm, struct api_op *op, struct error *err)
{
	enum vm_state after = vm->state;

	if (vm_state_after(&after, VM_EV_DELETE, err) < 0)
		return -err->code;
	if (vm->process.jail.pid && op &&
		!vm_pend(vm, &vm->deleters, op, NULL, UINT64_MAX))
		return error_set(err, ENOMEM, "out of memory");
	vm->state = after;
	/* While another daemon would know of them. */
	vsock_uds_close(&vm->uds);
	vm_port_close(vm);
	/* Should we die before it does, what is left of it is nobody's. */
	state_remove_vm(vm->env->procs.state, vm->id);
	if (!vm->process.jail.pid) {
		finish_delete(vm);
		return 0;
	}
	vm_kill(vm, VM_EXIT_KILLED, "deleted");
	return API_PENDING;
}

void vm_shut_down(struct vm *vm)
{
	struct error ignored;

	if (vm->state != VM_STARTING) {
		(void)vm_delete(vm, NULL, &ignored);
		return;
	}
	error_set(&vm->start_err, ESHUTDOWN, "mayflyd is stopping");
	vm->remove_if_start_fails = true;
	if (vm->wait.kind)
		vm_start_failed(vm);
	else
		vm_kill(vm, VM_EXIT_KILLED, NULL);
}
