#include "base/cleanup.h"
#include "base/fd.h"
#include "virtio/worker_loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>

/* Frames here are small; the largest thing is what a sanitizer adds. */
#define STACK_BYTES (256u << 10)

/* Calls from other threads; in the order they came. */
static void run_calls(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->calls) {
		struct call *c = w->calls;

		w->calls = c->next;
		pthread_mutex_unlock(&w->lock);
		c->fn(c->arg);
		pthread_mutex_lock(&w->lock);
		c->done = true;
		pthread_cond_broadcast(&w->changed);
	}
	pthread_mutex_unlock(&w->lock);
}

static void calls_came(struct worker_op *op, int32_t res)
{
	struct worker *w = (struct worker *)((char *)op -
					     offsetof(struct worker, call_op));

	(void)res;
	run_calls(w);
}

static int prepare(struct worker *w)
{
	unsigned room = 2 * w->config.entries;
	int n, r;

	worker_current = w;
	pthread_setname_np(pthread_self(), w->config.name);
	n = worker_files_complete(w);
	if (n < 0)
		return n;
	/* What is in flight and the watches find room for their completions.
	 * Polls have none set aside: when very many of them come true at once,
	 * the kernel keeps the rest (IORING_FEAT_NODROP). */
	r = uring_create(&w->ring, w->config.entries, room + w->n_watches,
		&w->start_error);
	if (r < 0)
		return r;
	w->has_ring = true;
	w->in_flight_max = w->ring.cq.ring_entries - w->n_watches;
	w->renews = w->n_spare > 0 && uring_holds_files(&w->ring);
	r = uring_enable(&w->ring, w->files, (unsigned)n);
	if (r < 0 || !w->config.thread_start)
		return r;
	return w->config.thread_start(w->config.arg);
}

static void set_state(struct worker *w, enum worker_state state, int result)
{
	pthread_mutex_lock(&w->lock);
	w->state = state;
	w->start_result = result;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Whether the last call has been run; then none is taken here any more. */
static bool close_calls(struct worker *w)
{
	bool closed;

	pthread_mutex_lock(&w->lock);
	closed = !w->calls;
	if (closed)
		w->state = WORKER_STOPPED;
	pthread_mutex_unlock(&w->lock);
	return closed;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	int r = prepare(w);

	if (r < 0) {
		set_state(w, WORKER_STOPPED, r);
		return NULL;
	}
	set_state(w, WORKER_RUNNING, 0);
	do {
		run_calls(w);
		while (!w->stopping || !worker_loop_idle(w))
			worker_loop_turn(w);
	} while (!close_calls(w));
	return NULL;
}

int worker_create(struct worker **ret, const struct worker_config *config,
	struct error *err)
{
	struct worker *w = calloc(1, sizeof(*w));
	pthread_mutexattr_t recursive;
	int r = 0;

	if (!w)
		return error_errno(err, ENOMEM, "I/O worker");
	w->config = *config;
	worker_loop_init(w);
	worker_files_init(w);
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&w->direct_lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	w->call_op.done = calls_came;
	w->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->call_fd < 0)
		r = -errno;
	if (r == 0)
		r = worker_watch_fd(w, &w->call_op, w->call_fd);
	if (r < 0) {
		worker_destroy(w);
		return error_errno(err, -r, "I/O worker");
	}
	*ret = w;
	return 0;
}

int worker_begin(struct worker *w, struct error *err)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	w->start_result = 1;
	/* Signals are for vCPU threads and the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	w->has_thread = r == 0;
	return r > 0 ? error_errno(err, r, "I/O worker's thread") : 0;
}

int worker_start(struct worker *w, struct error *err)
{
	int r = w->has_thread ? 0 : worker_begin(w, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&w->lock);
	while (w->start_result > 0)
		pthread_cond_wait(&w->changed, &w->lock);
	r = w->start_result;
	pthread_mutex_unlock(&w->lock);
	if (r == 0)
		return 0;
	pthread_join(w->thread, NULL);
	w->has_thread = false;
	if (w->start_error.code)
		*err = w->start_error;
	else
		error_errno(err, -r, "starting the I/O worker");
	return r;
}

/* Without a thread: what fn made ready is called here as well. */
static void call_directly(struct worker *w, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&w->direct_lock);
	fn(arg);
	while (w->ready.first)
		worker_loop_run_ready(w);
	pthread_mutex_unlock(&w->direct_lock);
}

void worker_call(struct worker *w, void (*fn)(void *arg), void *arg)
{
	struct call c = {.fn = fn, .arg = arg}, **at = &w->calls;

	if (worker_current == w) {
		fn(arg);
		return;
	}
	pthread_mutex_lock(&w->lock);
	if (w->state != WORKER_RUNNING) {
		pthread_mutex_unlock(&w->lock);
		call_directly(w, fn, arg);
		return;
	}
	while (*at)
		at = &(*at)->next;
	*at = &c;
	fd_notify(w->call_fd);
	while (!c.done)
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void begin_stop(void *arg)
{
	struct worker *w = arg;

	w->stopping = true;
	worker_loop_cancel_timers(w);
	if (worker_current == w)
		return;
	/* It never ran: nobody will submit what waits. */
	w->state = WORKER_STOPPED;
	worker_loop_cancel_waiting(w);
}

void worker_stop(struct worker *w)
{
	assert(worker_current != w);
	worker_call(w, begin_stop, w);
	if (w->has_thread)
		pthread_join(w->thread, NULL);
	w->has_thread = false;
}

void worker_destroy(struct worker *w)
{
	if (!w)
		return;
	worker_stop(w);
	if (w->has_ring)
		io_uring_queue_exit(&w->ring);
	close_fd(&w->call_fd);
	worker_files_fini(w);
	pthread_mutex_destroy(&w->direct_lock);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	free(w);
}

uint64_t worker_submits(const struct worker *w)
{
	return __atomic_load_n(&w->submits, __ATOMIC_RELAXED);
}
