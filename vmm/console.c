#include "vmm/console.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/mman.h> /* MADV_POPULATE_WRITE */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u

int console_init(struct console *c, struct vm_shared *shared,
	size_t shared_bytes, int wake_fd, struct error *err)
{
	uint32_t size = shared_bytes < sizeof(*shared)
				? 0
				: __atomic_load_n(&shared->console_bytes,
					  __ATOMIC_RELAXED);

	if (size == 0 || (size & (size - 1)) ||
		size > shared_bytes - sizeof(*shared))
		return error_set(err, EPROTO,
			"the console ring of %u bytes is not a power of two or "
			"does not fit the %zu bytes shared with the daemon",
			size, shared_bytes);
	*c = (struct console){
		.shared = shared,
		.wake_fd = wake_fd,
		.mask = size - 1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	return 0;
}

/* Where the ring is written for the first time: whether there is room for it.
 * A touch would tell by a signal. */
static bool back_next_page(struct console *c)
{
	uint64_t at = c->head & c->mask;

	if (at < c->backed)
		return true;
	if (madvise(c->shared->console + at, PAGE_BYTES, MADV_POPULATE_WRITE) <
		0)
		return false;
	c->backed = at + PAGE_BYTES;
	return true;
}

void console_write(void *arg, const uint8_t *buf, size_t n)
{
	struct console *c = arg;
	struct vm_shared *s = c->shared;

	if (n == 0)
		return;
	pthread_mutex_lock(&c->lock);
	/* Each byte is published by itself: a reader's window then never
	 * covers a byte which we are about to overwrite, but for the one at
	 * its very end. */
	for (size_t i = 0; i < n && back_next_page(c); i++) {
		__atomic_store_n(&s->console[c->head & c->mask], buf[i],
			__ATOMIC_RELAXED);
		__atomic_store_n(&s->console_head, ++c->head, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&c->lock);
	/* Sequentially consistent: the daemon stores wake and then looks at
	 * console_head, we the other way around, and one of us must see the
	 * other's store. */
	if (__atomic_exchange_n(&s->wake, 0, __ATOMIC_SEQ_CST))
		fd_notify(c->wake_fd);
}
