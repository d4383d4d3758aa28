#pragma once

/* mayflyd itself: what holds the loop, the VMs and the HTTP server together. */

#include "api/backend.h"
#include "api/server.h"
#include "daemon/admission.h"
#include "daemon/host.h"
#include "daemon/listener.h"
#include "daemon/loop.h"
#include "daemon/options.h"
#include "daemon/orphans.h"
#include "daemon/registry.h"
#include "daemon/sampler.h"
#include "daemon/service.h"
#include "daemon/throttle.h"

struct daemon {
	struct loop *loop;
	struct registry vms;
	struct vm_env env;
	struct host host;
	struct listener listener;
	struct service service;
	struct api_server *server;
	struct sampler *sampler;
	struct throttle_watch throttle;
	struct loop_source http, hangups, scrapes, signals;
	struct state state;
	struct orphans orphans;
	int signal_fd;
	unsigned max_vms;
	struct admission admission;
	bool stopping, keep_vms;
	uint64_t asked_ns;           /* when a request was last heard */
	struct loop_timer last_call; /* stopping: how long answers may take */
};

/* Everything up to the open socket; host is probed. */
int daemon_open(struct daemon *d, const struct options *o, struct error *err);
/* Serves until a signal ends it, with all VMs or without. */
void daemon_run(struct daemon *d);
void daemon_close(struct daemon *d); /* tolerates a daemon half opened */

/* Of daemon_open(): what all VMs share (daemon_env.c), and those that an
 * earlier daemon left (daemon_adopt.c). */
int daemon_open_env(
	struct daemon *d, const struct options *o, struct error *err);
int daemon_adopt_all(struct daemon *d, struct error *err);

/* What the API sees of the daemon (backend.c); ctx is the struct daemon. */
extern const struct api_backend_ops daemon_backend;
