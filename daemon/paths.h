#pragma once

/*
 * Paths out of a VM's configuration, as struct vm_host says: as a process of
 * that root and working directory would find them. No ".." and no symbolic link
 * leads out of a root, whoever may write below it.
 *
 * host: NULL or all zero: as the daemon itself finds them.
 */

#include "vmm/config.h"

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

/* Gives a socket that was just bound to whom the VM's files belong: 0 or a
 * negative errno. */
int paths_give_socket(const struct vm_host *host, int dir_fd, const char *name);

/* Opens anew what an O_PATH descriptor stands for. */
int paths_reopen(int path_fd, int flags);
