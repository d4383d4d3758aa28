#pragma once

/*
 * The state directory: what a daemon must know of the VMs of the one before it.
 *
 *   lock            held by the daemon, however it dies
 *   vms/ID/         one VM:
 *     config.json     its configuration, as in PUT /v1/vms/ID
 *     mmds.json       its metadata, if any
 *     proc            a link to its process, once there is or was one
 *     started         empty: somebody was told that its guest runs
 *     exit            how that ended, once this daemon has seen it
 *   procs/KEY/      one mayfly-vmm, of a VM or waiting in the pool:
 *     process         who it is (struct state_proc)
 *     shared          the memory of vmm/shared.h
 *     control         the socket where it listens for another daemon
 *
 * Files that can change are written beside their place and renamed. What has
 * no config.json, or no process file, was made or removed halfway: a daemon
 * that starts removes it. What is there and cannot be read is damaged: that is
 * never a reason to forget a VM or to end its process. Nothing is synced to a
 * disk: a VM does not outlive its host; the directory is best on a tmpfs, as
 * /run is.
 */

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define STATE_KEY_BYTES 24

struct state {
	int lock_fd, vms_fd, procs_fd;
};

struct state_proc {
	pid_t pid;
	uint64_t start; /* of the process: field 22 of /proc/PID/stat */
	uid_t uid;
	char cgroup[80];
	uint32_t protocol; /* MSG_PROTOCOL */
};

/* Makes what is not there. Fails with EADDRINUSE when another daemon has it. */
int state_open(struct state *ret, const char *path, struct error *err);
void state_close(struct state *s); /* tolerates one that was not opened */

/* ---- processes ---- */

/*
 * A directory with its shared memory of so many bytes, of which the first
 * `backed` are allocated, and its listening socket: both descriptors are the
 * caller's.
 */
int state_make_proc(struct state *s, size_t shared_bytes, size_t backed,
	char key[STATE_KEY_BYTES], int *ret_shared, int *ret_listen,
	struct error *err);
int state_write_proc(
	struct state *s, const char *key, const struct state_proc *p);
/* 0 or a negative errno; -ENODATA: it is not whole. */
int state_read_proc(
	const struct state *s, const char *key, struct state_proc *ret);
int state_open_shared(const struct state *s, const char *key);
/* -ECONNREFUSED: nobody listens there any more. *ret: who called listen() last,
 * which is the first thing a VMM does. */
int state_connect(const struct state *s, const char *key, struct ucred *ret);
void state_remove_proc(struct state *s, const char *key); /* "": nothing */

/* ---- VMs ---- */

/* 0 or a negative errno. name: one of those above. */
int state_write_vm(struct state *s, const char *id, const char *name,
	const char *text, size_t len);
/* 0 or a negative errno; -ENOENT: there is none. *ret: malloc()ed, and
 * NUL-terminated. */
int state_read_vm(const struct state *s, const char *id, const char *name,
	char **ret, size_t *ret_len);
/* The process of a start that begins; key "": none. */
int state_link_vm(struct state *s, const char *id, const char *key);
/* 1; 0: it never had one; -EINVAL: it leads nowhere; or another negative errno:
 * it cannot be told. */
int state_linked(
	const struct state *s, const char *id, char key[STATE_KEY_BYTES]);
/* That start was successful, and somebody may hear of it. 0 or a negative
 * errno. */
int state_note_started(struct state *s, const char *id);
/* 1, 0 or a negative errno. */
int state_is_started(const struct state *s, const char *id);
/* From here on no daemon will know of it. */
void state_remove_vm(struct state *s, const char *id);

/* Calls each() with the name of everything that can be one; it may remove it.
 * 0, or a negative errno: those were perhaps not all. */
int state_each_vm(const struct state *s,
	void (*each)(void *arg, const char *id), void *arg);
int state_each_proc(const struct state *s,
	void (*each)(void *arg, const char *key), void *arg);
