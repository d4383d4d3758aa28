#pragma once

/*
 * The daemon's Unix socket. Its file appears when it already listens, replaces
 * what a dead daemon left behind, and goes when the daemon ends; the file of a
 * socket that was handed over stays.
 */

#include "base/error.h"

#include <sys/stat.h>

struct listener {
	int fd;     /* listening; taken by whoever serves it */
	int dir_fd; /* where its file is; -1: the file is not ours */
	char path[108], name[108];
	ino_t ino; /* of its file, so that only ours is removed */
};

/* The file is for root and for the group ((gid_t)-1: root's). Fails with
 * EADDRINUSE when a daemon answers there already. */
int listener_open(
	struct listener *l, const char *path, gid_t group, struct error *err);

/* In place of listener_open(): fd, which listens already, is taken over. */
void listener_take(struct listener *l, int fd);

/* Removes the file. The descriptor is closed too if it is still here. */
void listener_close(struct listener *l);
