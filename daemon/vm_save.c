#include "daemon/vm.h"

#include "api/record.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/admission.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int vm_save(const struct vm *vm, struct error *err)
{
	_cleanup_free_ char *text = record_write(
		&vm->config, vm->remove_if_start_fails, vm->number);
	int r;

	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	r = state_write_vm(vm->env->procs.state, vm->id, "config.json", text,
		strlen(text));
	if (r == 0)
		return 0;
	error_errno(err, -r, "the state directory");
	return admission_failed(err);
}

void vm_save_changed(const struct vm *vm)
{
	struct error err;
	char quoted[ERROR_MSG_MAX];

	if (vm->state != VM_DELETING && vm_save(vm, &err) < 0)
		log_error("vm_not_saved", "vm=%s error=%s", vm->id,
			log_quote(quoted, sizeof(quoted), err.msg));
}

int vm_save_mmds(
	const struct vm *vm, const struct api_mmds_data *d, struct error *err)
{
	const char *json = d->json ? d->json : "{}";
	int r = state_write_vm(
		vm->env->procs.state, vm->id, "mmds.json", json, strlen(json));

	if (r == 0)
		return 0;
	error_errno(err, -r, "the state directory");
	return admission_failed(err);
}

void vm_save_started(const struct vm *vm)
{
	int r = state_note_started(vm->env->procs.state, vm->id);

	if (r < 0)
		log_error("vm_start_not_saved", "vm=%s error=%d", vm->id, -r);
}

/* "REASON STATUS SIGNAL DETAIL". */
void vm_save_exit(const struct vm *vm)
{
	const struct vm_exit *e = &vm->exit;
	char text[sizeof(e->detail) + 64];
	int n, r;

	if (vm->state == VM_DELETING)
		return;
	n = snprintf(text, sizeof(text), "%d %d %d %s\n", (int)e->reason,
		e->status, e->signal, e->detail);
	r = state_write_vm(
		vm->env->procs.state, vm->id, "exit", text, (size_t)n);
	if (r < 0)
		log_error("vm_exit_not_saved", "vm=%s error=%d", vm->id, -r);
}

int vm_read_exit(struct vm *vm)
{
	struct vm_exit e = {.reason = VM_EXIT_NONE};
	_cleanup_free_ char *text = NULL;
	int reason, at = 0, r;
	size_t len;

	r = state_read_vm(vm->env->procs.state, vm->id, "exit", &text, &len);
	if (r == -ENOENT)
		return 0;
	if (admission_is_shortage_of(r))
		return r;
	if (r < 0 ||
		/* NOLINTNEXTLINE(cert-err34-c): shown, and no more */
		sscanf(text, "%d %d %d %n", &reason, &e.status, &e.signal,
			&at) < 3 ||
		reason <= VM_EXIT_NONE || reason >= VM_EXIT_REASONS ||
		text[len - 1] != '\n') {
		log_error("vm_exit_unreadable", "vm=%s", vm->id);
		return 0;
	}
	e.reason = (enum vm_exit_reason)reason;
	text[len - 1] = '\0';
	if (at > 0 && (size_t)at < len)
		text_printable(e.detail, sizeof(e.detail), text + at);
	vm->exit = e;
	return 1;
}

void vm_forget(struct vm *vm)
{
	state_remove_vm(vm->env->procs.state, vm->id);
	state_remove_proc(vm->env->procs.state, vm->process.key);
	vm->process.key[0] = '\0';
}
