#include "daemon/output.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

/* A guest that prints byte by byte wakes its readers no more often. */
#define WAKE_INTERVAL_NS 5000000u

struct output {
	struct loop *loop;
	unsigned refs;
	bool ended;
	struct ring ring;
	int wake_fd;
	struct loop_source wake; /* watched while there are readers */
	struct loop_timer pause; /* until the next wake is asked for */
	struct api_reader *readers;
};

static void put(struct output *o)
{
	if (--o->refs > 0)
		return;
	output_reset(o);
	free(o);
}

static void wake_readers(struct output *o)
{
	for (struct api_reader *r = o->readers; r; r = r->next) {
		if (!r->waiting)
			continue;
		r->waiting = false;
		r->wake(r);
	}
}

static bool any_waiting(const struct output *o)
{
	for (const struct api_reader *r = o->readers; r; r = r->next)
		if (r->waiting)
			return true;
	return false;
}

/*
 * Asks the VM for a signal at its next byte, then looks whether one came just
 * before: the VM stores its head and then exchanges wake, we store wake and
 * then load the head, so one of us sees the other.
 */
static bool ask_for_wake(struct output *o)
{
	uint64_t head = ring_head(&o->ring);

	if (!o->ring.shared)
		return false;
	__atomic_store_n(&o->ring.shared->wake, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (const struct api_reader *r = o->readers; r; r = r->next)
		if (r->waiting && ring_head(&o->ring) > r->pos)
			return true;
	return ring_head(&o->ring) > head;
}

static void start_pause(struct output *o)
{
	loop_set_timer(o->loop, &o->pause, clock_ns() + WAKE_INTERVAL_NS);
}

static int watch(struct output *o)
{
	return o->wake.fd >= 0
		       ? 0
		       : loop_add(o->loop, &o->wake, o->wake_fd, EPOLLIN);
}

static void on_wake(struct loop_source *s, uint32_t events)
{
	struct output *o =
		(struct output *)((char *)s - offsetof(struct output, wake));
	uint64_t n;

	(void)events;
	if (read(o->wake_fd, &n, sizeof(n)) < 0)
		return;
	wake_readers(o);
	/* Not looked at until the pause is over, however often it comes. */
	loop_remove(o->loop, &o->wake);
	start_pause(o);
}

static void on_pause_over(struct loop_timer *t)
{
	struct output *o =
		(struct output *)((char *)t - offsetof(struct output, pause));

	if (o->readers && watch(o) < 0) {
		start_pause(o);
		return;
	}
	if (!any_waiting(o) || !ask_for_wake(o))
		return;
	wake_readers(o);
	start_pause(o);
}

struct output *output_create(struct loop *loop)
{
	struct output *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->loop = loop;
	o->refs = 1;
	o->wake_fd = -1;
	o->wake = (struct loop_source){-1, on_wake};
	o->pause.fire = on_pause_over;
	o->ring.capacity = VM_CONSOLE_BYTES;
	return o;
}

void output_end_and_put(struct output *o)
{
	if (!o)
		return;
	output_end(o);
	put(o);
}

void output_end(struct output *o)
{
	o->ended = true;
	loop_remove(o->loop, &o->wake);
	loop_clear_timer(o->loop, &o->pause);
	close_fd(&o->wake_fd);
	wake_readers(o);
}

void output_reset(struct output *o)
{
	loop_remove(o->loop, &o->wake);
	loop_clear_timer(o->loop, &o->pause);
	close_fd(&o->wake_fd);
	process_unmap(o->ring.shared);
	o->ring.shared = NULL;
	memset(o->ring.backed, 0, sizeof(o->ring.backed));
	for (struct api_reader *r = o->readers; r; r = r->next)
		r->pos = 0;
}

void output_attach(struct output *o, struct process *p)
{
	o->ring.shared = take_ptr(&p->shared);
	o->wake_fd = take_fd(&p->wake_fd);
	/* Who followed before the start. */
	if (o->readers && watch(o) == 0)
		start_pause(o);
}

int output_wake_fd(const struct output *o)
{
	return o->wake_fd;
}

struct ring *output_ring(struct output *o)
{
	return &o->ring;
}

const struct vm_shared *output_shared(const struct output *o)
{
	return o->ring.shared;
}

void output_reader_open(struct output *o, struct api_reader *r)
{
	r->backend = o;
	r->pos = 0;
	r->waiting = false;
	r->next = o->readers;
	o->readers = r;
	o->refs++;
	if (o->wake_fd >= 0 && !o->pause.at)
		watch(o);
}

ssize_t output_reader_read(struct api_reader *r, void *buf, size_t size)
{
	struct output *o = r->backend;
	size_t n = ring_read(&o->ring, &r->pos, buf, size);

	if (n > 0)
		return (ssize_t)n;
	if (o->ended)
		return -ENODATA;
	r->waiting = true;
	/* What the VM prints from here on is noticed: by the timer if it runs,
	 * else by the wake asked for now. */
	if (!o->pause.at && ask_for_wake(o))
		start_pause(o);
	return 0;
}

void output_reader_close(struct api_reader *r)
{
	struct output *o = r->backend;
	struct api_reader **p = &o->readers;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	if (!o->readers) {
		loop_remove(o->loop, &o->wake);
		loop_clear_timer(o->loop, &o->pause);
	}
	put(o);
}
