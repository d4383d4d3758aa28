#pragma once

/*
 * The API of one VM alone, as Firecracker has it: whoever is connected here
 * gets to that VM and to nothing else. Somebody else listens, and hands over
 * connections.
 */

#include "base/error.h"

struct api_server;
struct api_port;

/* id: of the VM. NULL: out of memory. */
struct api_port *api_port_create(struct api_server *s, const char *id);

/* A connected socket: taken over, whatever happens; closed when there are too
 * many. */
void api_port_add(struct api_port *p, int fd);

/* The VM is no more: its connections get answers that are due, and end. NULL is
 * fine. */
void api_port_destroy(struct api_port *p);
