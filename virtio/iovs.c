#include "virtio/iovs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool covers(const struct iovs *s, size_t off, size_t len)
{
	return off <= s->len && len <= s->len - off;
}

/* One copy for both directions: `out` says which side the view is. */
static int copy(
	const struct iovs *s, size_t off, uint8_t *buf, size_t n, bool out)
{
	if (!covers(s, off, n))
		return -EFAULT;
	for (unsigned i = 0; n > 0; i++) {
		uint8_t *piece = s->v[i].iov_base;
		size_t len = s->v[i].iov_len;

		if (off >= len) {
			off -= len;
			continue;
		}
		len -= off;
		if (len > n)
			len = n;
		if (out)
			memcpy(buf, piece + off, len);
		else
			memcpy(piece + off, buf, len);
		buf += len;
		n -= len;
		off = 0;
	}
	return 0;
}

int iovs_read(const struct iovs *s, size_t off, void *dst, size_t n)
{
	return copy(s, off, dst, n, true);
}

int iovs_write(const struct iovs *s, size_t off, const void *src, size_t n)
{
	return copy(s, off, (uint8_t *)src, n, false);
}

int iovs_slice(const struct iovs *s, size_t off, size_t len, struct iovec *ret,
	unsigned cap)
{
	unsigned n = 0;

	if (!covers(s, off, len))
		return -EFAULT;
	for (unsigned i = 0; len > 0; i++) {
		/* A copy: ret[n] may be this very piece. */
		struct iovec piece = s->v[i];

		if (off >= piece.iov_len) {
			off -= piece.iov_len;
			continue;
		}
		if (n == cap)
			return -E2BIG;
		ret[n].iov_base = (uint8_t *)piece.iov_base + off;
		ret[n].iov_len = piece.iov_len - off;
		if (ret[n].iov_len > len)
			ret[n].iov_len = len;
		len -= ret[n++].iov_len;
		off = 0;
	}
	return (int)n;
}
