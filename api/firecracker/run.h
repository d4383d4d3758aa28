#pragma once

/* The VM, from its registration with mayflyd to the end of its guest. */

#include "api/firecracker/options.h"

/* Returns Firecracker's status; what is wrong is said on standard error. */
int fc_run(const struct fc_options *o);

/* vm.c: what is asked of the daemon; as client.h says. */
struct client;
struct json_object;

/* Makes it, of that document, and gives it metadata; id: of 65 bytes, the name
 * it got; "": there is none, whatever failed. */
int fc_vm_create(struct client *c, const struct fc_options *o,
	struct json_object *doc, char *id, struct error *err);
int fc_vm_start(struct client *c, const char *id, struct error *err);

enum fc_state { FC_NOT_STARTED, FC_RUNNING, FC_EXITED, FC_GONE };

struct fc_look {
	enum fc_state state;
	pid_t pid;                  /* 0: none */
	unsigned long long dropped; /* bytes of its console no longer there */
	int status;                 /* of FC_EXITED */
	char why[200];              /* ... in words; "": by itself */
};

int fc_vm_look(struct client *c, const char *id, struct fc_look *ret,
	struct error *err);

/* The namespace this process is in, if it has a name under /run/netns; "" */
void fc_find_netns(char *buf, unsigned long size);
