#pragma once

/* The model-specific registers firmware would have set, on every vCPU. 0 or a
 * negative errno. */
int msrs_set_boot(int vcpu);
