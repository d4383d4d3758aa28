#pragma once

/*
 * What a service manager and its service say to each other (sd-daemon(3)): the
 * socket it hands over, that we are ready, how many VMs there are, that we
 * stop, and that we are alive. Without one, all of it does nothing.
 */

#include "base/error.h"
#include "daemon/loop.h"

struct service {
	struct loop *loop;
	struct loop_timer status, watchdog;
	uint64_t watchdog_ns; /* 0: nobody watches */
	size_t vms, told;
	bool ready;
};

/* The listening Unix socket that was handed over: 1 and *ret_fd, owned by the
 * caller, CLOEXEC; 0 without one. Anything else handed over is an error. Once
 * only. */
int service_socket(int *ret_fd, struct error *err);

/* loop: outlives it. */
void service_init(struct service *s, struct loop *loop);
void service_ready(struct service *s);
/* The number of VMs is n now; told soon, however often it changes. */
void service_count(struct service *s, size_t n);
void service_stopping(struct service *s);
