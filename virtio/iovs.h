#pragma once

/*
 * Views of scattered memory, and the only CPU access to a request's payload.
 * What a view covers may be guest memory, which changes under our hands: it is
 * copied out once and judged by the copy.
 */

#include <stddef.h>
#include <sys/uio.h>

/* n pieces, len bytes in all; the pieces belong to whoever made the view. */
struct iovs {
	const struct iovec *v;
	unsigned n;
	size_t len;
};

/* Copies n bytes at off out of or into a view: 0, or -EFAULT when it is
 * shorter (nothing is copied then). */
int iovs_read(const struct iovs *s, size_t off, void *dst, size_t n);
int iovs_write(const struct iovs *s, size_t off, const void *src, size_t n);

/*
 * The pieces of [off, off + len) in ret: their number, or -EFAULT (shorter),
 * -E2BIG (more than cap). ret may be the view's own array.
 */
int iovs_slice(const struct iovs *s, size_t off, size_t len, struct iovec *ret,
	unsigned cap);
