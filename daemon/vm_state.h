#pragma once

/* The life of a VM: one table says what may happen when, and what comes then.
 */

#include "base/error.h"

enum vm_state {
	VM_NOT_STARTED,
	VM_STARTING, /* from the spawn to the VMM's answer */
	VM_RUNNING,
	VM_PAUSED,
	VM_EXITED,
	VM_DELETING, /* its process has been killed and is being reaped */
	VM_STATES
};

enum vm_event {
	/* asked for */
	VM_EV_CONFIGURE,
	VM_EV_START,
	VM_EV_PAUSE,
	VM_EV_RESUME,
	VM_EV_CTRL_ALT_DEL,
	VM_EV_CONSOLE_INPUT,
	VM_EV_UPDATE, /* of a device, and what it is at */
	VM_EV_DELETE,
	/* happened */
	VM_EV_STARTED,
	VM_EV_START_FAILED,
	VM_EV_PAUSED,
	VM_EV_RESUMED,
	VM_EV_DIED,
	VM_EVENTS
};

/*
 * The only place where a state is decided: stores the state after the event, or
 * fails with EBUSY when it may not happen in this one. A request (PAUSE, ...)
 * keeps the state; the event that completes it changes it.
 */
int vm_state_after(enum vm_state *state, enum vm_event e, struct error *err);

/* As the API calls it. */
const char *vm_state_name(enum vm_state s);
