#pragma once

/*
 * A VM's own API socket, on the host. Its file appears when it already listens,
 * replaces a socket that is dead, and hides nothing else.
 */

#include "base/error.h"
#include "vmm/config.h"

#include <sys/types.h>

struct api_socket {
	int fd; /* listening; -1: none */
	dev_t dev;
	ino_t ino; /* of its file, so that only ours is removed */
};

int api_socket_open(struct api_socket *ret, const struct vm_host *host,
	const struct vm_api_socket *config, struct error *err);

/* Closes it and removes its file: host and config as it was opened with. */
void api_socket_close(struct api_socket *s, const struct vm_host *host,
	const struct vm_api_socket *config);
