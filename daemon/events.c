#include "daemon/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct events {
	struct api_event ring[EVENTS_MAX]; /* number n at n % EVENTS_MAX */
	uint64_t first, next;              /* what is in it: [first, next) */
	struct api_reader *readers;
	bool ended;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

struct events *events_create(void)
{
	struct events *e = calloc(1, sizeof(*e));

	/* A daemon publishes less than one a microsecond: the next one's
	 * numbers are greater. */
	if (e)
		e->first = e->next = now_ms() * 1000u;
	return e;
}

static void forget(struct api_event *event)
{
	for (unsigned i = 0; i < event->n_labels; i++) {
		free(event->labels[i].key);
		free(event->labels[i].value);
	}
	free(event->labels);
	free((void *)(uintptr_t)event->vm);
	free((void *)(uintptr_t)event->reason);
	free((void *)(uintptr_t)event->detail);
	free((void *)(uintptr_t)event->device);
	*event = (struct api_event){0};
}

void events_destroy(struct events *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < EVENTS_MAX; i++)
		forget(&e->ring[i]);
	free(e);
}

static const char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static void copy_labels(struct api_event *to, const struct api_event *from)
{
	to->n_labels = 0;
	to->labels = NULL;
	if (from->n_labels == 0)
		return;
	to->labels = calloc(from->n_labels, sizeof(*to->labels));
	for (unsigned i = 0; to->labels && i < from->n_labels; i++) {
		to->labels[i].key = strdup(from->labels[i].key);
		to->labels[i].value = strdup(from->labels[i].value);
		to->n_labels++;
	}
}

static void wake(struct events *e)
{
	struct api_reader *next;

	for (struct api_reader *r = e->readers; r; r = next) {
		next = r->next;
		if (!r->waiting)
			continue;
		r->waiting = false;
		r->wake(r);
	}
}

void events_publish(struct events *e, const struct api_event *event)
{
	struct api_event *to;

	if (!e || e->ended)
		return;
	if (e->next - e->first == EVENTS_MAX)
		e->first++;
	to = &e->ring[e->next % EVENTS_MAX];
	forget(to);
	*to = *event;
	to->seq = e->next++;
	to->time_ms = now_ms();
	to->vm = copy(event->vm);
	to->reason = copy(event->reason);
	to->detail = copy(event->detail);
	to->device = copy(event->device);
	copy_labels(to, event);
	wake(e);
}

bool events_are_followed(const struct events *e)
{
	return e->readers;
}

void events_end(struct events *e)
{
	if (!e)
		return;
	e->ended = true;
	wake(e);
}

void events_reader_open(
	struct events *e, struct api_reader *r, const uint64_t *after)
{
	r->backend = e;
	if (!after || *after >= e->next)
		/* Ahead of us: it has seen another host's, or clock's, numbers.
		 */
		r->pos = e->next;
	else
		r->pos = *after ? *after + 1 : e->first;
	r->waiting = false;
	r->next = e->readers;
	e->readers = r;
}

int events_reader_next(struct api_reader *r, struct api_event *ret)
{
	struct events *e = r->backend;
	bool lost = r->pos < e->first;

	if (lost)
		r->pos = e->first;
	if (r->pos == e->next) {
		r->waiting = !e->ended;
		return e->ended ? -ENODATA : 0;
	}
	*ret = e->ring[r->pos++ % EVENTS_MAX];
	ret->lost = lost;
	return 1;
}

void events_reader_close(struct api_reader *r)
{
	struct events *e = r->backend;
	struct api_reader **p = &e->readers;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
}
