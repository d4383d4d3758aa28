#pragma once

/*
 * Paths out of a VM's configuration, as struct vm_host says: as a process of
 * that root and working directory would find them. No ".." and no symbolic link
 * leads out of a root, whoever may write below it.
 *
 * host: NULL or all zero: as the daemon itself finds them.
 */

#include "base/error.h"
#include "vmm/config.h"

#include <sys/stat.h>
#include <sys/types.h>

/* As open(), with O_CLOEXEC: a descriptor or a negative errno. */
int paths_open(
	const struct vm_host *host, const char *path, int flags, mode_t mode);

/* The directory the path's last name is in (O_PATH), or a negative errno.
 * *ret_name: that name, within path. */
int paths_open_parent(
	const struct vm_host *host, const char *path, const char **ret_name);

/* What a path is, without opening it: 0 or a negative errno. *ret_fd: O_PATH.
 */
int paths_look(const struct vm_host *host, const char *path, int *ret_fd);

/*
 * For bind() and connect(): "name" within the directory, however long the path
 * to it is. buf: of the address; -ENAMETOOLONG if name alone is too long.
 */
int paths_socket_address(int dir_fd, const char *name, char *buf, size_t size);

/* What a socket that was just bound is (*ret_st), and its O_PATH descriptor:
 * its name may be somebody else's to change by now, and -EEXIST says it was. */
int paths_look_at_bound(int dir_fd, const char *name, struct stat *ret_st);

/* Gives a socket that was just bound to whom the VM's files belong: 0 or a
 * negative errno. */
int paths_give_socket(const struct vm_host *host, int dir_fd, const char *name);

/* Removes a socket that nobody listens on: one of a daemon or a VM that is
 * gone. 0: nothing is at the name now; -EADDRINUSE: somebody listens; -EEXIST:
 * it is no socket. */
int paths_clear_socket(int dir_fd, const char *name);

/* Removes a socket's file, if it is still the one that was made. */
void paths_remove_own(
	const struct vm_host *host, const char *path, dev_t dev, ino_t ino);

/* Says that the file of a field cannot be made, errno value "code": negative.
 */
int paths_cannot_make(
	struct error *err, const char *field, const char *path, int code);

/* Opens anew what an O_PATH descriptor stands for. */
int paths_reopen(int path_fd, int flags);
