#pragma once

/*
 * Files by their paths, for those who may open any: the daemon, the jail's
 * maker, and the commands that their user runs. mayfly-vmm is given
 * descriptors.
 */

#include <stddef.h>
#include <sys/types.h>

/*
 * The beginning of a small file, such as the kernel shows of itself, as text: a
 * relative path begins at dir_fd (or AT_FDCWD). 0 or a negative errno; buf
 * holds a terminated string whatever happens, "" after an error.
 */
int file_read_text(int dir_fd, const char *path, char *buf, size_t size);

/*
 * Opens a path as if root were "/", symbolic links included: an owned
 * descriptor or a negative errno. mode counts with O_CREAT alone.
 */
int file_open_below(const char *root, const char *path, int flags, mode_t mode);
