#pragma once

/*
 * Scope-bound ownership: a local declared with one of these attributes gives
 * its resource back when it goes out of scope; take_fd() and take_ptr() hand
 * it on instead.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Returns the descriptor and leaves -1 behind: its owner is now the caller. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Returns the pointer and leaves NULL behind. */
#define take_ptr(p)                                                            \
	({                                                                     \
		__auto_type taken_ = *(p);                                     \
		*(p) = NULL;                                                   \
		taken_;                                                        \
	})

/* Closes a member descriptor, if open, and marks it closed. */
static inline void close_fd(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}
