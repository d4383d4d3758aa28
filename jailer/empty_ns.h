#pragma once

/*
 * The two namespaces that are the same for every VM, made once: a mount
 * namespace whose one mount is an empty, read-only file system, and a network
 * namespace whose one interface is a loopback that is down.
 *
 * A child of ours enters both and then takes a mount namespace of its own: a
 * copy of one mount, where a copy of the host's would first copy all of those
 * and then wait for RCU until they are gone.
 */

#include "base/error.h"

struct empty_ns {
	int mnt_fd, net_fd;
};

/* Sets the descriptors, which belong to the caller, or leaves ret alone. */
int empty_ns_make(struct empty_ns *ret, struct error *err);
