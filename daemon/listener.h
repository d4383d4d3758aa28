#pragma once

/*
 * The daemon's Unix socket. Its file appears when it already listens, replaces
 * what a dead daemon left behind, and goes when the daemon ends.
 */

#include "base/error.h"

#include <sys/stat.h>

struct listener {
	int fd;     /* listening; taken by whoever serves it */
	int dir_fd; /* where its file is */
	char name[108];
	ino_t ino; /* of its file, so that only ours is removed */
};

/* Fails with EADDRINUSE when a daemon answers there already. */
int listener_open(struct listener *l, const char *path, struct error *err);

/* Removes the file. The descriptor is closed too if it is still here. */
void listener_close(struct listener *l);
