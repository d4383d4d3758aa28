#pragma once

/*
 * The first vCPU's registers at a guest's first instruction. The others start
 * as the machine does: halted until the first one sends INIT and SIPI.
 */

#include "vmm/boot.h"

/* 0 or a negative errno. */
int regs_set_boot(int vcpu, const struct boot_entry *entry);
