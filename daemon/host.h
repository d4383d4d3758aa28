#pragma once

/* What this host can do: found out once, shown often. */

#include "api/backend.h"
#include "jailer/jail.h"
#include "vmm/probe.h"

#include <sys/utsname.h>

#define HOST_IO_URING_FEATURES 13

struct host {
	int kvm_fd; /* owned; -1: no usable KVM */
	struct kvm_probe probe;
	struct api_flag caps[KVM_PROBE_CAPS];
	struct api_flag uring[HOST_IO_URING_FEATURES];
	struct utsname uts;
	struct api_host shown;
};

/* Never fails: what is not there is shown as absent. Takes some 50 ms, for KVM
 * is tried out. No other thread may be running. */
void host_probe(struct host *h);
void host_close(struct host *h);

/* Up to date; borrowed. */
const struct api_host *host_show(struct host *h, enum jail_cgroup cgroup);
