#include "daemon/vm_state.h"

#include <errno.h>

/* In the table: the next state + 1; 0 is a refusal. */
#define TO(s) (VM_##s + 1)

/* clang-format off */
static const unsigned char next[VM_EVENTS][VM_STATES] = {
	[VM_EV_CONFIGURE] = {
		[VM_NOT_STARTED] = TO(NOT_STARTED)},
	[VM_EV_START] = {
		[VM_NOT_STARTED] = TO(STARTING)},
	[VM_EV_PAUSE] = {
		[VM_RUNNING] = TO(RUNNING), [VM_PAUSED] = TO(PAUSED)},
	[VM_EV_RESUME] = {
		[VM_RUNNING] = TO(RUNNING), [VM_PAUSED] = TO(PAUSED)},
	[VM_EV_CTRL_ALT_DEL] = {
		[VM_RUNNING] = TO(RUNNING)},
	[VM_EV_CONSOLE_INPUT] = {
		[VM_RUNNING] = TO(RUNNING), [VM_PAUSED] = TO(PAUSED)},
	[VM_EV_UPDATE] = {
		[VM_RUNNING] = TO(RUNNING), [VM_PAUSED] = TO(PAUSED)},
	[VM_EV_DELETE] = {
		[VM_NOT_STARTED] = TO(DELETING), [VM_RUNNING] = TO(DELETING),
		[VM_PAUSED] = TO(DELETING), [VM_EXITED] = TO(DELETING),
		[VM_DELETING] = TO(DELETING)},
	[VM_EV_STARTED] = {
		[VM_STARTING] = TO(RUNNING)},
	[VM_EV_START_FAILED] = {
		[VM_STARTING] = TO(NOT_STARTED)},
	[VM_EV_PAUSED] = {
		[VM_RUNNING] = TO(PAUSED), [VM_PAUSED] = TO(PAUSED)},
	[VM_EV_RESUMED] = {
		[VM_RUNNING] = TO(RUNNING), [VM_PAUSED] = TO(RUNNING)},
	[VM_EV_DIED] = {
		[VM_RUNNING] = TO(EXITED), [VM_PAUSED] = TO(EXITED),
		[VM_DELETING] = TO(DELETING)},
};
/* clang-format on */

static const char *const words[VM_STATES] = {"has not been started",
	"is starting", "is running", "is paused", "has exited",
	"is being deleted"};

int vm_state_after(enum vm_state *state, enum vm_event e, struct error *err)
{
	unsigned char to = next[e][*state];

	if (to == 0)
		return error_set(err, EBUSY, "the VM %s", words[*state]);
	*state = (enum vm_state)(to - 1);
	return 0;
}

const char *vm_state_name(enum vm_state s)
{
	/* A VM that is starting has not started; one being deleted has lost
	 * its guest already. */
	static const char *const names[VM_STATES] = {"Not started",
		"Not started", "Running", "Paused", "Exited", "Exited"};

	return names[s];
}
