#include "base/clock.h"
#include "virtio/worker_loop.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/*
 * Before 6.13 the kernel lets go of removed files in the order in which they
 * were removed, and of each only when every request that was submitted before
 * its removal is done: a poll of a quiet queue, say, kept all connections from
 * being closed for the life of the VM. There, a while after a removal, all that
 * may wait for long is cancelled and submitted again.
 */
#define RENEWAL_NS 100000000u

static void renew(struct worker_op *op, int32_t res)
{
	struct worker *w = (struct worker *)((char *)op -
					     offsetof(struct worker, renewal));

	if (res == -ETIME)
		worker_loop_renew(w);
}

void worker_files_init(struct worker *w)
{
	w->n_spare = w->config.n_spare_files;
	w->renewal.done = renew;
}

void worker_files_fini(struct worker *w)
{
	free(w->files);
	free(w->watches);
}

/* Room for one more than n: sizes are powers of two, from 8 on. */
static bool grow(void **array, unsigned n, size_t item_bytes)
{
	void *p = *array;

	if (n != 0 && (n < 8 || (n & (n - 1))))
		return true;
	p = reallocarray(p, n ? 2 * (size_t)n : 8, item_bytes);
	if (!p)
		return false;
	*array = p;
	return true;
}

int worker_add_file(struct worker *w, int fd, unsigned *ret_index)
{
	void *files = w->files;

	if (w->n_fixed == WORKER_MAX_FILES)
		return -ENOSPC;
	if (!grow(&files, w->n_fixed, sizeof(*w->files)))
		return -ENOMEM;
	w->files = files;
	w->files[w->n_fixed] = fd;
	*ret_index = w->n_fixed++;
	return 0;
}

void worker_reserve_files(struct worker *w, unsigned n)
{
	w->n_spare += n;
}

int worker_watch(struct worker *w, struct worker_op *op, unsigned file)
{
	void *watches = w->watches;

	assert(file < w->n_fixed);
	if (w->n_watches == WORKER_MAX_FILES)
		return -ENOSPC;
	if (!grow(&watches, w->n_watches, sizeof(*w->watches)))
		return -ENOMEM;
	w->watches = watches;
	w->watches[w->n_watches++] = (struct watch){.op = op, .file = file};
	return 0;
}

int worker_files_complete(struct worker *w)
{
	unsigned n = w->n_fixed + w->n_spare;
	int *files = reallocarray(w->files, n, sizeof(*files));

	if (!files)
		return -ENOMEM;
	w->files = files;
	for (unsigned i = w->n_fixed; i < n; i++)
		files[i] = -1;
	w->spare_hint = w->n_fixed;
	return (int)n;
}

/* No spare one below the hint is free. */
int worker_install_file(struct worker *w, int fd, unsigned *ret_index)
{
	unsigned i = w->spare_hint, n = w->n_fixed + w->n_spare;
	int r;

	if (worker_current != w)
		return -ECANCELED;
	while (i < n && w->files[i] >= 0)
		i++;
	w->spare_hint = i;
	if (i == n)
		return -ENOSPC;
	r = uring_set_file(&w->ring, i, fd);
	if (r < 0)
		return r;
	w->files[i] = fd;
	*ret_index = i;
	return 0;
}

void worker_remove_file(struct worker *w, unsigned index)
{
	assert(index < w->n_fixed + w->n_spare && w->files[index] >= 0);
	w->files[index] = -1;
	if (index < w->spare_hint)
		w->spare_hint = index;
	/* Stopped: the ring goes soon, and its files with it. */
	if (worker_current != w)
		return;
	uring_set_file(&w->ring, index, -1);
	if (w->renews && w->renewal.state == WORKER_OP_IDLE)
		worker_timer(w, &w->renewal, clock_ns() + RENEWAL_NS);
}
