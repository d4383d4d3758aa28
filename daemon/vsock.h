#pragma once

/*
 * Where a VM's vsock is on the host: a listening Unix socket at uds_path, which
 * its VMM accepts clients from, and the sockets of host programs at
 * "<uds_path>_<port>", which the VMM has connected by the daemon.
 *
 * The mode of the socket is as the daemon's umask says; its owner is whom the
 * VM's files belong to.
 */

#include "base/error.h"
#include "vmm/config.h"

#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

struct vsock_uds {
	const struct vm_host *host; /* where the path is; borrowed */
	int listen_fd;              /* -1: none, or the VMM has it alone */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": none */
	dev_t dev;
	ino_t ino;
};

void vsock_uds_init(struct vsock_uds *u);

/* What is at the path already is left alone, and an error. */
int vsock_uds_open(struct vsock_uds *ret, const struct vm_host *host,
	const char *path, struct error *err);

/* It listens already: a VM has it that another daemon started. path NULL: none.
 */
int vsock_uds_found(
	struct vsock_uds *ret, const struct vm_host *host, const char *path);
/* What a daemon or a VM left there that is gone: a socket on which nobody
 * listens. path NULL is fine. */
void vsock_uds_remove_dead(const struct vm_host *host, const char *path);

/* Removes the path, if it is still ours; and init. */
void vsock_uds_close(struct vsock_uds *u);

/* A connected socket, without waiting for it, or a negative errno: nobody
 * listens there, or too many wait. */
int vsock_uds_connect(const struct vsock_uds *u, uint32_t port);
