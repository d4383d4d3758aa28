#pragma once

#include "vmm/vm.h"

/*
 * The control thread: waits for MSG_PREPARE and, in its filter since then, for
 * MSG_START on sock, starts the VM, then carries out what the daemon asks until
 * the guest ends. When the daemon goes away it waits for another. Returns the
 * process's exit status: 0 after a guest that ran.
 */
int control_run(struct vm *vm, int sock);
