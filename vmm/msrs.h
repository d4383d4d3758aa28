#pragma once

/*
 * The model-specific registers a vCPU starts with: those firmware would have
 * set, and those of a CPU configuration.
 */

#include "base/error.h"
#include "vmm/msg.h"

/* 0 or a negative errno. */
int msrs_set_boot(int vcpu);

/* (register & keep) | set for each, after msrs_set_boot(). An error names the
 * register. */
int msrs_modify(int vcpu, const struct msg_msr_mod *mods, unsigned n,
	struct error *err);
